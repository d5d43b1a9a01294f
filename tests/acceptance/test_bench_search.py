"""The benchmark of the search service as a user runs it, so short that its figures mean nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.records import read

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_one_command_measures_the_service_beside_elasticsearch(tmp_path: Path) -> None:
    file = tmp_path / "bench-search.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.service", "--rounds", "1", "--seed", "7"),
            *("--scale", "0.01", "--length", "0.001", "--output", str(file)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    results = read(file)
    assert results.seed == 7
    assert all(record.name in done.stdout for record in results.records)
    assert results.find("8 connections · service · searches").ratio
    assert results.find("overload · neither answered nor turned away").value == 0
