"""The command `pg-es-search`, as its users start it."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
from elasticsearch import Elasticsearch

COMMAND = [Path(sys.executable).parent / "pg-es-search"]
pytestmark = pytest.mark.skipif(
    not COMMAND[0].exists(), reason="the project is not installed: pip install --no-deps -e ."
)


def environment(**given: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ES_", "SEARCH_", "PG_"))}
    return {**kept, **given}


def test_serves_over_http_until_it_is_told_to_stop(
    es: Elasticsearch, flights: str, unused_port: int, tmp_path: Path
) -> None:
    node = es.transport.node_pool.get()
    # What .env says holds unless the environment says otherwise.
    (tmp_path / ".env").write_text(f"ES_HOST=nowhere.invalid\nES_PORT={node.port}\nES_USER=\n")
    settings = environment(ES_HOST=node.host, SEARCH_PORT=str(unused_port))
    process = subprocess.Popen(
        COMMAND, cwd=tmp_path, env=settings, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        assert process.stderr is not None
        started = any(b"Uvicorn running" in line for line in process.stderr)
        assert started
        with httpx.Client(base_url=f"http://127.0.0.1:{unused_port}") as client:
            query = {"index": flights, "query_fields": {"carrier": "UA"}, "fields": ["flight_id"]}
            answer = client.post("/search", json=query)
            assert answer.json()["data"] == [{"flight_id": 1}]
            assert "server" not in answer.headers
            assert client.get("/health").status_code == 200
            assert client.get("/docs").status_code == 200
            raw = client.get("/indices/%ff%00%2e%2e/fields")
            assert raw.status_code == 404
            assert client.get("/search/%5B%22a%22%5D/scroll").status_code == 404
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=10)
        assert process.returncode in {0, -signal.SIGTERM}
    finally:
        process.kill()
        process.wait()


def test_several_processes_have_one_seal_and_one_number_of_walks(
    es: Elasticsearch, flights: str, unused_port: int, tmp_path: Path
) -> None:
    node = es.transport.node_pool.get()
    settings = environment(
        ES_HOST=node.host,
        ES_PORT=str(node.port),
        SEARCH_PORT=str(unused_port),
        SEARCH_WORKERS="2",
        SEARCH_MAX_WALKS="3",
    )
    process = subprocess.Popen(
        COMMAND, cwd=tmp_path, env=settings, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    try:
        assert process.stderr is not None
        started = 0
        while started < 2:
            started += b"Application startup complete" in process.stderr.readline()

        def ask(**query: Any) -> httpx.Response:
            # A connection each, which the one process accepts or the other.
            body = {"index": flights, "page_size": 1, **query}
            return httpx.post(f"http://127.0.0.1:{unused_port}/search", json=body, timeout=60)

        begun = [ask(pagination="cursor") for _ in range(3)]
        assert [answer.status_code for answer in begun] == [200, 200, 200]
        cursor = begun[0].json()["meta"]["next_cursor"]
        pages = [ask(cursor=cursor) for _ in range(10)]
        assert {page.json()["data"][0]["flight_id"] for page in pages} == {2}
        assert {ask(pagination="cursor").status_code for _ in range(10)} == {503}
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, ["ES_HOST is not set", "ES_HOST=localhost", ".env"]),
        ({"ES_HOST": ""}, ["ES_HOST is not set"]),
        ({"ES_HOST": "http://localhost:9200"}, ["ES_HOST", "ES_PORT", "ES_USE_SSL"]),
        ({"ES_HOST": "a", "ES_PORT": "x", "SEARCH_PORT": "0"}, ["ES_PORT", "SEARCH_PORT"]),
        ({"ES_HOST": "a", "SEARCH_MAX_LAG": "nan"}, ["SEARCH_MAX_LAG"]),
        ({"ES_HOST": "a", "ES_USER": "u"}, ["ES_PASSWORD"]),
        ({"ES_HOST": "a", "SEARCH_SECRET": "long enough for it,hush"}, ["SEARCH_SECRET", "16"]),
        ({"ES_HOST": "a", "ES_PASSWORD": "hush"}, ["ES_USER"]),
        ({"ES_HOST": "a", "ES_CA_CERTS": "/nowhere.pem"}, ["ES_CA_CERTS"]),
    ],
    ids=str,
)
def test_says_what_is_wrong_with_the_settings(
    tmp_path: Path, given: dict[str, str], words: list[str]
) -> None:
    answer = subprocess.run(
        COMMAND,
        cwd=tmp_path,
        env=environment(**given),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert "Traceback" not in answer.stderr
    assert "hush" not in answer.stderr
    for word in words:
        assert word in answer.stderr


def test_help_names_every_setting(tmp_path: Path) -> None:
    answer = subprocess.run(
        [*COMMAND, "--help"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    for name in ("ES_HOST", "ES_CA_CERTS", "SEARCH_PORT", "SEARCH_MAX_LAG", "SEARCH_TIMEOUT"):
        assert name in answer.stdout
