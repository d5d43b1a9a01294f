"""The benchmark's figures: how they come about, how two runs are compared, what the page says."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import compare, page
from benchmarks.compare import judge
from benchmarks.generations import WRONG
from benchmarks.goals import goals
from benchmarks.loads import METHODS
from benchmarks.pressure import WAYS
from benchmarks.records import NoResults, Record, Results, read, record, write
from benchmarks.tables import SHAPES

OTHER_FIGURES = (
    *("data", "client CPU", "memory above idle", "peak memory"),
    *("start of the process", "first search"),
)


def results(*records: Record, **given: Any) -> Results:
    made = Results(
        machine={"CPU": "one", "cores": 2},
        versions={"Java": "21"},
        date="2024-01-01",
        seed=1,
        rounds=5,
        scale=1.0,
        records=list(records),
    )
    return replace(made, **given)


def speed(*values: float) -> Record:
    return record("speed", "docs/s", values)


def memory(*values: float) -> Record:
    return record("memory", "MB", values)


def beside(values: tuple[float, ...], ceiling: tuple[float, ...]) -> Record:
    return record("speed", "docs/s", values, "ceiling", ceiling)


def judgement(before: Record, after: Record, *, same_machine: bool = True) -> str:
    return judge(before, after, same_machine=same_machine).judgement


def test_a_record_is_the_median_with_the_lowest_and_the_highest() -> None:
    found = record("a", "s", [3.0, 1.0, 8.0])
    assert (found.value, found.spread, found.reference, found.ratio) == (
        3.0,
        (1.0, 8.0),
        None,
        None,
    )


def test_a_ratio_is_taken_within_each_round() -> None:
    # By the medians alone it would be 200 / 200.
    found = record("a", "s", [100.0, 200.0, 300.0], "b", [200.0, 400.0, 100.0])
    assert found.ratio == 0.5
    assert found.ratio_spread == (0.5, 3.0)


def test_rounds_that_cannot_be_paired_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        record("a", "s", [1.0, 2.0], "b", [1.0])


def test_a_reference_of_nothing_has_no_ratio() -> None:
    assert record("a", "s", [1.0], "b", [0.0]).ratio is None


def test_results_that_were_written_are_read_again(tmp_path: Path) -> None:
    file = tmp_path / "build" / "bench.json"
    written = results(speed(1, 2, 3), beside((1, 2), (3, 4)))
    write(written, file)
    assert read(file) == written


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"records": [{"nothing": 1}]}'])
def test_another_file_is_named_in_the_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(content)
    with pytest.raises(NoResults, match=re.escape(str(file))):
        read(file)


def test_less_speed_is_worse_and_more_is_better() -> None:
    assert judgement(speed(99, 100, 101), speed(79, 80, 81)) == "worse"
    assert judgement(speed(79, 80, 81), speed(99, 100, 101)) == "better"


def test_more_memory_is_worse_and_less_is_better() -> None:
    assert judgement(memory(79, 80, 81), memory(99, 100, 101)) == "worse"
    assert judgement(memory(99, 100, 101), memory(79, 80, 81)) == "better"


def test_a_difference_within_the_spread_of_either_run_is_none() -> None:
    assert judgement(speed(70, 100, 101), speed(79, 80, 81)) == "same"
    assert judgement(speed(99, 100, 101), speed(79, 80, 120)) == "same"


def test_a_small_difference_is_none_however_close_the_repetitions_are() -> None:
    assert judgement(speed(100, 100, 100), speed(96, 96, 96)) == "same"
    assert judgement(speed(100, 100, 100), speed(94, 94, 94)) == "worse"


def test_on_a_slower_machine_the_ratio_tells() -> None:
    before = beside((90, 91, 92), (100, 100, 100))
    assert judgement(before, beside((45, 46, 47), (50, 50, 50)), same_machine=False) == "same"
    assert judgement(before, beside((35, 36, 37), (50, 50, 50)), same_machine=False) == "worse"
    assert judgement(before, beside((49, 50, 51), (50, 50, 50)), same_machine=False) == "better"


def test_the_ratio_counts_on_the_same_machine_too() -> None:
    before = beside((90, 91, 92), (100, 100, 100))
    assert judgement(before, beside((45, 46, 47), (50, 50, 50))) == "same"


def test_without_a_ratio_another_machine_s_speed_says_nothing_but_its_memory_does() -> None:
    assert judgement(speed(100, 100), speed(50, 50), same_machine=False) == "not compared"
    assert judgement(memory(50, 50), memory(100, 100), same_machine=False) == "worse"


def test_figures_in_one_run_only_are_named_and_are_not_worse() -> None:
    found = compare.compare(results(speed(1, 1)), results(memory(1, 1)))
    assert [(one.name, one.by, one.judgement) for one in found] == [
        ("memory", "new", "not compared"),
        ("speed", "gone", "not compared"),
    ]


def test_runs_of_other_sizes_are_not_compared() -> None:
    with pytest.raises(NoResults, match=r"SCALE=0\.1"):
        compare.compare(results(), results(scale=0.1))


@pytest.mark.parametrize(
    ("after", "status", "says"),
    [
        (speed(99, 101), 0, "Nothing became worse"),
        (speed(50, 51), 1, "1 of 1 figures are worse"),
    ],
)
def test_the_command_ends_with_status_1_when_something_is_worse(
    after: Record,
    status: int,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = [tmp_path / "before.json", tmp_path / "after.json"]
    for file, one in zip(files, (speed(100, 102), after), strict=True):
        write(results(one), file)
    monkeypatch.setattr("sys.argv", ["compare", *map(str, files)])
    assert compare.main() == status
    assert says in capsys.readouterr().out


def whole(
    asset: float = 95.0,
    memory_with_many_rows: float = 20.0,
    wrong: Sequence[float] = (0.0, 0.0),
    back: float = 5.0,
) -> Results:
    """Results with every figure that the page speaks of, of which most are 1 or 100."""
    records = []
    for table in SHAPES:
        for method in METHODS:
            value = asset if method == "asset" else 100.0
            name = f"{table} · {method}"
            against = (f"{table} · ceiling · speed", [100.0])
            reference = () if method == "ceiling" else against
            records.append(record(f"{name} · speed", "docs/s", [value], *reference))
            records += [record(f"{name} · {figure}", "1", [1.0]) for figure in OTHER_FIGURES]
        name = f"{table} · asset"
        records += [
            record(f"{name} · speed of the whole step", "docs/s", [90.0], *against),
            record(f"{name} · beside streaming_bulk", "times", [6.0]),
        ]
    for method in ("ceiling", "engine"):
        for figure, few, many in (
            ("speed", 100.0, 99.0),
            ("memory above idle", 20.0, memory_with_many_rows),
        ):
            small = f"100,000 rows · {method} · {figure}"
            records += [
                record(small, "1", [few]),
                record(f"2,000,000 rows · {method} · {figure}", "1", [many], small, [few]),
            ]
    ceiling = "changes · ceiling, 10 documents"
    records += [
        record(ceiling, "s", [0.2]),
        record("changes · 10 of 1,000 rows", "s", [1.4], ceiling, [0.2]),
        record("idle tick over 100 tables · time", "s", [0.4]),
        record("idle tick over 100 tables · queries", "queries/table", [1.0]),
    ]
    for figure in ("time", "speed", "peak memory"):
        records.append(record(f"reconcile · 1,000 rows · content · {figure}", "1", [1.0]))
    for figure in ("p50", "p99"):
        for where in ("alone", "beside a load"):
            records.append(record(f"searches {where} · {figure}", "ms", [5.0]))
    for where in ("alone", "beside searches"):
        records.append(record(f"load of wide {where} · speed", "docs/s", [100.0]))
    records += [
        record(WRONG, "searches", wrong),
        record("reindex · searches", "searches", [100.0]),
    ]
    for way in WAYS:
        for what in ("short again", "the speed is back"):
            records.append(record(f"slow Elasticsearch, {way} · until {what}", "s", [back]))
    best = {"documents": 2_500, "connections": 3}
    return results(*records, ceiling={table: {"best": best, "tried": []} for table in SHAPES})


def missed(found: Results) -> list[str]:
    return [goal.aim for goal in goals(found) if not goal.met]


def test_goals_are_met_or_missed_by_the_figures() -> None:
    assert missed(whole()) == []
    assert missed(whole(asset=89.0)) == [
        f"{table}: first load through a Dagster asset at 0.9 of the ceiling or more"
        for table in SHAPES
    ]
    assert missed(whole(memory_with_many_rows=31.0)) == [
        "the same memory whatever the number of rows (within 10 MB)"
    ]
    assert [aim[:7] for aim in missed(whole(wrong=[0.0, 1.0, 0.0]))] == ["reindex"]
    assert [aim[:18] for aim in missed(whole(back=11.0))] == ["slow Elasticsearch"] * 2


def test_the_page_shows_the_circumstances_the_goals_and_the_figures() -> None:
    text = page.page(whole(asset=89.0))
    assert "| CPU | one |" in text
    assert "| 0.89 (the whole step: 0.90) | **missed** |" in text
    assert "requests of 2,500 documents over 3 connections" in text
    assert 'x-axis ["ceiling", "engine", "asset", "streaming_bulk", "parallel_bulk"]' in text
    assert "bar [100, 100, 89, 100, 100]" in text
    assert "| content, 1,000 rows | 1 (1 – 1) | 1 (1 – 1) | 1 (1 – 1) |" in text
    assert "short run" not in text


def test_the_page_says_that_a_short_run_says_little() -> None:
    assert "**A short run** (`ROUNDS=5 SCALE=0.1`)" in page.page(replace(whole(), scale=0.1))


def test_a_page_of_unfinished_results_names_what_is_missing() -> None:
    with pytest.raises(LookupError, match="narrow · asset · speed"):
        page.page(replace(whole(), records=[]))
