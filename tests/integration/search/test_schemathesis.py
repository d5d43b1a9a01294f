"""The service keeps to its OpenAPI document, whatever is asked."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from elasticsearch import Elasticsearch

from search_service.access import keys
from tests.integration.search.live import serving

CONFIGURATION = Path(__file__).with_name("schemathesis.toml")
SECONDS = int(os.environ.get("FUZZ_SECONDS", "15"))


def test_schemathesis_finds_nothing(
    es: Elasticsearch, flights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.make()
    rules = {
        "roles": {"reader": {"indices": {flights: {"hide": ["gate"]}}}},
        "keys": [{"name": "fuzzer", "id": key.id, "sha256": key.sha256, "roles": ["reader"]}],
    }
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump(rules))
    monkeypatch.chdir(tmp_path)  # no .env
    # The examples and the systematic cases alone take longer than a run of the suite may.
    phases = "examples,coverage,fuzzing,stateful" if SECONDS > 60 else "fuzzing,stateful"
    with serving(es, search_access=file) as url:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                f"--config-file={CONFIGURATION}",
                "run",
                f"{url}/openapi.json",
                "--checks=all",
                f"--phases={phases}",
                f"--max-time={SECONDS}",
                f"--seed={random.randrange(2**32)}",
                "--suppress-health-check=all",
                f"--header=Authorization: Bearer {key.text}",
            ],
            env={**os.environ, "NO_PROXY": "*", "COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=SECONDS * 3 + 120,
            check=False,
        )
    # A case may have an address of 60,000 characters.
    lines = [line[:400] for line in (done.stdout + done.stderr).splitlines()]
    assert done.returncode == 0, "\n".join(lines)
