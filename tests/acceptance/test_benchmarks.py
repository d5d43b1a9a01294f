"""The benchmark as a user runs it, with tables so small that its figures mean nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.records import read

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_one_command_measures_everything_and_the_page_and_a_comparison_come_from_its_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "bench.json"
    table = run(
        *("benchmarks", "--rounds", "1", "--scale", "0.001", "--seed", "7"),
        *("--tables", "narrow", "--output", str(file)),
    )
    results = read(file)
    assert results.seed == 7
    assert results.ceiling.keys() == {"narrow"}
    # A load of so few rows is over before Elasticsearch becomes slow.
    speeds = [record for record in results.records if record.unit == "docs/s"]
    assert all(one.value > 0 for one in speeds if not one.name.startswith("slow Elasticsearch"))
    assert all(record.name in table for record in results.records)
    assert "# Benchmarks" in run("benchmarks.page", str(file))
    assert "Nothing became worse" in run("benchmarks.compare", str(file), str(file))
