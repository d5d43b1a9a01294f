"""The benchmark of the search service as a user runs it, so short that its figures mean nothing."""

from pathlib import Path

import pytest

from benchmarks.records import read
from tests.acceptance.test_benchmarks import run


@pytest.mark.slow
def test_one_command_measures_the_service_beside_elasticsearch_and_the_page_comes_from_its_file(
    tmp_path: Path,
) -> None:
    file = tmp_path / "bench-search.json"
    shown = run(
        *("benchmarks.service", "--rounds", "1", "--seed", "7"),
        *("--scale", "0.01", "--length", "0.001", "--output", str(file)),
    )
    results = read(file)
    assert results.seed == 7
    assert all(record.name in shown for record in results.records)
    for who in ("service", "bare relay"):
        assert results.find(f"8 connections · {who} · searches").ratio
    assert results.find("overload · neither answered nor turned away").value == 0
    assert results.find("overload · answers again after").value > 0
    drawn = run("benchmarks.service.page", str(file))
    assert "**A short run** (`ROUNDS=1 SCALE=0.01 LENGTH=0.001`)" in drawn
    assert "| facet of status · p50 |" in drawn
