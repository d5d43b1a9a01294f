"""Asset checks: what they say of an index that is in step, and of one that is not."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationPlanned,
)
from dagster._core.events import DagsterEvent, DagsterEventType
from dagster._core.utils import make_new_run_id

from pg_es_pipeline.orchestration.build import build_defs
from pg_es_pipeline.orchestration.checks import CHECK_ALL
from pg_es_pipeline.orchestration.names import identifier, index_key
from pg_es_pipeline.orchestration.table_jobs import load_job_name
from pg_es_pipeline.sync import audit
from pg_es_pipeline.sync.audit import QUESTIONS
from pg_es_pipeline.tables import Table
from tests.integration.orders import Orders

ERROR, WARN = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN


@pytest.fixture
def loaded(orders: Orders, monkeypatch: pytest.MonkeyPatch) -> Orders:
    """Thirty rows, all of them in the index."""
    for name, value in orders.database.environment.items():
        monkeypatch.setenv(name, value)
    orders.insert(range(1, 31))
    orders.sync()
    return orders


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def change(orders: Orders, **entry: Any) -> None:
    """The table's entry in the tables file."""
    known = orders.table.model_dump(exclude_defaults=True)
    orders.table = Table.model_validate({**known, **entry})


def checked(
    orders: Orders, instance: dg.DagsterInstance, *others: Table, job: str = CHECK_ALL
) -> dict[str, dg.AssetCheckEvaluation]:
    """What a run of all checks records of the table's index, by check."""
    defs = build_defs([orders.table, *others], executor=dg.in_process_executor)
    if job != CHECK_ALL:
        asked = dg.define_asset_job(job, dg.AssetSelection.all_asset_checks())
        defs = dg.Definitions.merge(defs, dg.Definitions(jobs=[asked]))
    result = defs.resolve_job_def(job).execute_in_process(instance=instance)
    assert result.success
    return {
        one.check_name: one
        for one in result.get_asset_check_evaluations()
        if one.asset_key == index_key(orders.table)
    }


def figures(evaluation: dg.AssetCheckEvaluation) -> dict[str, Any]:
    return {name: entry.value for name, entry in evaluation.metadata.items()}


def test_an_index_in_step_passes_every_check_with_figures(
    loaded: Orders, instance: dg.DagsterInstance
) -> None:
    found = checked(loaded, instance, job="asked")
    assert set(found) == set(QUESTIONS)
    assert all(one.passed for one in found.values()), found
    assert figures(found["row_parity"])["rows"] == 30
    assert figures(found["row_parity"])["documents"] == 30
    assert figures(found["content_parity"])["compared"] == 30
    assert figures(found["freshness"])["lag_seconds"] == 0


def test_rows_that_wait_for_a_load_are_no_difference(
    loaded: Orders, instance: dg.DagsterInstance
) -> None:
    loaded.insert(range(31, 41), age="1 second")
    found = checked(loaded, instance)
    assert all(one.passed for one in found.values()), found
    assert figures(found["row_parity"])["difference"] == 10
    assert figures(found["row_parity"])["rows_waiting"] >= 10


def test_a_document_that_is_gone_and_one_that_was_changed_are_found(
    loaded: Orders, instance: dg.DagsterInstance
) -> None:
    loaded.es.delete(index=loaded.table.index, id="7", refresh=True)
    loaded.es.update(index=loaded.table.index, id="8", doc={"note": "other"}, refresh=True)
    found = checked(loaded, instance)
    for name in ("row_parity", "content_parity"):
        assert not found[name].passed
        assert found[name].severity is ERROR
        assert "public.orders" in str(found[name].description)
        assert f"pg-es verify --repair {loaded.table.index}" in str(found[name].description)
    assert figures(found["row_parity"])["difference"] == 1
    assert figures(found["content_parity"])["missing"] == 1
    assert figures(found["content_parity"])["changed"] == 1


def test_a_full_comparison_finds_what_a_sample_of_one_may_not(
    loaded: Orders, instance: dg.DagsterInstance
) -> None:
    change(loaded, checks={"full": True, "sample": 1})
    loaded.es.update(index=loaded.table.index, id="8", doc={"note": "other"}, refresh=True)
    found = checked(loaded, instance)["content_parity"]
    assert not found.passed
    assert figures(found)["compared"] == 30


def test_a_load_between_the_two_counts_is_no_difference(
    loaded: Orders, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, loads = audit.rows.bounded, iter([range(31, 41)])

    def load_meanwhile(*arguments: Any) -> Any:
        if ids := next(loads, None):
            loaded.insert(ids, age="1 second")
            loaded.sync()
        return count(*arguments)

    monkeypatch.setattr(audit.rows, "bounded", load_meanwhile)
    change(loaded, cursor={"column": "updated_at"})
    loaded.pg.execute("ALTER TABLE orders ALTER updated_at SET NOT NULL")
    assert checked(loaded, instance)["row_parity"].passed


def test_a_change_that_waits_for_too_long_is_an_error(
    loaded: Orders, instance: dg.DagsterInstance
) -> None:
    change(loaded, checks={"max_lag": "0s"})
    loaded.insert(range(31, 32), age="-2 seconds")
    found = checked(loaded, instance)["freshness"]
    assert found.passed  # By its own clock it was not made yet.
    loaded.pg.execute("UPDATE orders SET note = 'again' WHERE id = 1")
    found = checked(loaded, instance)["freshness"]
    assert not found.passed
    assert found.severity is ERROR
    assert "sync_changes" in str(found.description)
    assert figures(found)["lag_seconds"] > 0


def test_refused_rows_are_named_with_their_partition(
    loaded: Orders, instance: dg.DagsterInstance
) -> None:
    change(loaded, fields={"note": {"type": "integer"}}, index=f"{loaded.table.index}-2")
    loaded.pg.execute("UPDATE orders SET note = '5' WHERE id > 1")
    loaded.sync()
    found = checked(loaded, instance)
    assert not found["dead_letters"].passed
    assert found["dead_letters"].severity is WARN
    assert figures(found["dead_letters"])["dead_letters"] == 1
    assert "In all." in str(found["dead_letters"].description)
    assert f"pg-es retry {loaded.table.index}" in str(found["dead_letters"].description)
    assert found["row_parity"].passed


def test_rows_that_nothing_finds_and_a_cursor_without_an_index_are_told(
    loaded: Orders, instance: dg.DagsterInstance
) -> None:
    change(
        loaded,
        partitions={"by": "month", "column": "placed", "start": "2024-01-01", "end": "2024-02-01"},
    )
    loaded.pg.execute(
        "UPDATE orders SET placed = NULL WHERE id = 1; UPDATE orders SET placed = '2023-01-01' "
        "WHERE id IN (2, 3); ALTER TABLE orders DISABLE TRIGGER touch; "
        "UPDATE orders SET updated_at = NULL WHERE id = 4; "
        "ALTER TABLE orders ALTER note TYPE text USING repeat(note, 100000)"
    )
    loaded.pg.execute("DROP INDEX orders_updated_at_id_idx")
    loaded.pg.execute(
        "INSERT INTO orders SELECT id, repeat(md5(id::text), 60), '2024-01-05' "
        "FROM generate_series(1000, 9000) id"
    )
    found = checked(loaded, instance)
    assert not found["coverage"].passed
    counted = figures(found["coverage"])
    assert counted["rows_no_partition"] == 1
    assert counted["rows_outside"] == 2
    assert counted["rows_cursor"] == 1
    assert not found["cursor_index"].passed
    assert "CREATE INDEX" in str(found["cursor_index"].description)


def test_a_table_that_is_not_there_fails_alone(
    loaded: Orders, instance: dg.DagsterInstance
) -> None:
    absent = Table(table="public.absent", index=f"{loaded.table.index}-absent")
    assert all(one.passed for one in checked(loaded, instance, absent).values())
    key = dg.AssetCheckKey(index_key(absent), "row_parity")
    [record] = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).values()
    assert record.evaluation is not None
    assert not record.evaluation.passed
    assert "public.absent" in str(record.evaluation.description)


def test_an_index_that_was_never_loaded_is_a_warning(
    loaded: Orders, instance: dg.DagsterInstance
) -> None:
    change(loaded, index=f"{loaded.table.index}-new")
    found = checked(loaded, instance)
    for name in ("row_parity", "content_parity", "freshness"):
        assert not found[name].passed
        assert found[name].severity is WARN


def test_the_schedule_records_what_is_news_alone(
    loaded: Orders, instance: dg.DagsterInstance
) -> None:
    assert set(checked(loaded, instance)) == set(QUESTIONS)
    assert checked(loaded, instance) == {}
    loaded.es.delete(index=loaded.table.index, id="7", refresh=True)
    for _ in range(2):
        assert set(checked(loaded, instance)) == {"row_parity", "content_parity"}
    loaded.sync(full=True)
    assert set(checked(loaded, instance)) == {"row_parity", "content_parity"}


def test_a_check_that_is_under_way_is_not_taken_for_passed(
    loaded: Orders, instance: dg.DagsterInstance
) -> None:
    assert set(checked(loaded, instance)) == set(QUESTIONS)
    planned = DagsterEvent(
        event_type_value=DagsterEventType.ASSET_CHECK_EVALUATION_PLANNED.value,
        job_name="another",
        event_specific_data=AssetCheckEvaluationPlanned(
            asset_key=index_key(loaded.table), check_name="row_parity"
        ),
    )
    instance.report_dagster_event(planned, run_id=make_new_run_id())
    assert set(checked(loaded, instance)) == {"row_parity"}


def test_a_load_does_not_wait_for_checks(loaded: Orders) -> None:
    load = build_defs([loaded.table]).resolve_job_def(load_job_name(loaded.table))
    assert [node.name for node in load.graph.nodes] == [identifier(loaded.table)]
