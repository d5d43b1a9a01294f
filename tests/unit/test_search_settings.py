"""The search service does not open itself to others by mistake, and the command makes keys."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from search_service import main
from search_service.access import keys
from search_service.access.rules import KeyRule
from search_service.settings import Settings, explain


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No variable of the service is set, and there is no .env."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def restored_collector() -> Iterator[None]:
    """Garbage is looked for again as before."""
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def refusal(**given: object) -> str:
    with pytest.raises(ValidationError) as caught:
        Settings(es_host="es", **given)  # type: ignore[arg-type]
    return explain(caught.value)


OPEN = ["0.0.0.0", "::", "192.168.1.7", "search.example.com"]  # noqa: S104


@pytest.mark.parametrize("host", OPEN)
def test_nothing_is_open_to_other_machines_unless_it_is_said(host: str) -> None:
    message = refusal(search_host=host)
    for word in (host, "SEARCH_ACCESS", "SEARCH_OPEN=true", "pg-es-search key"):
        assert word in message
    assert Settings(es_host="es", search_host=host, search_open=True).search_open
    assert Settings(es_host="es", search_host=host, search_access=Path("a.yaml")).search_access


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.8.9.1"])
def test_this_machine_alone_may_ask_without_rules(host: str) -> None:
    assert Settings(es_host="es", search_host=host).search_host == host


def test_open_and_closed_at_once_is_refused() -> None:
    assert "SEARCH_OPEN" in refusal(search_open=True, search_access="a.yaml")


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"search_rate_limit": "fast"}, "100/second"),
        ({"search_redis_url": "http://:hush@redis"}, "redis://host:6379/0"),
        ({"search_max_concurrency": 0}, "SEARCH_MAX_CONCURRENCY"),
    ],
)
def test_a_wrong_limit_is_named_without_a_secret(given: dict[str, object], word: str) -> None:
    message = refusal(**given)
    assert word in message
    assert "hush" not in message


def test_the_command_prints_a_key_and_its_entry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pg-es-search", "key", "Ann's shop", "--role", "shop"])
    main.main()
    text, entry = capsys.readouterr()
    [rule] = yaml.safe_load(entry.partition("\n")[2])["keys"]
    found = KeyRule.model_validate(rule)
    assert (found.name, found.roles) == ("Ann's shop", ["shop"])
    assert keys.id_of(text.strip()) == found.id
    assert keys.matches(text.strip(), found.sha256)
    assert text.strip() not in entry


@pytest.mark.usefixtures("restored_collector")
def test_python_does_not_look_for_garbage_in_the_whole_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ES_HOST", "127.0.0.1")
    monkeypatch.setattr(main.logs, "configure", dict)  # of all tests that follow, too
    app = main.app()
    assert gc.get_freeze_count() > 10_000
    assert not any(kept is app.routes for kept in gc.get_objects())
    assert gc.get_threshold()[0] == main._NEW_OBJECTS
