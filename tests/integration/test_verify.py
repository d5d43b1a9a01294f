"""`pg-es verify` and the job `reconcile_all`: what they say, repair, and refuse."""

import re
from pathlib import Path

import dagster as dg
import pytest

from pg_es_pipeline.orchestration.names import index_key
from pg_es_pipeline.orchestration.resources import RESOURCES
from pg_es_pipeline.orchestration.upkeep import reconcile_job, reconcile_schedule
from tests.integration.orders import Orders
from tests.integration.project import Project


@pytest.fixture
def damaged(project: Project) -> Project:
    """A document is missing, one has lost its row, one has another content."""
    orders = project.orders
    orders.insert(range(4, 31))
    orders.sync()
    generation = f"{orders.table.index}-000001"
    orders.es.delete(index=generation, id="1")
    orders.es.index(index=generation, id="2", document={"id": 2, "note": "edited"})
    orders.pg.execute("DELETE FROM orders WHERE id = 3")
    return project


def figures(output: str) -> list[str]:
    """The figures of the first table's line: what was compared, rows, documents, and the rest."""
    return output.splitlines()[1].split()[1:]


def test_sides_that_agree_are_fine(project: Project) -> None:
    project.orders.sync()
    done = project.pg_es("verify")
    assert done.exit_code == 0
    assert figures(done.stdout)[:6] == ["keys", "3", "3", "0", "0", "0"]


def test_differences_are_told_and_left_alone(damaged: Project) -> None:
    done = damaged.pg_es("verify")
    assert done.exit_code == 1
    assert figures(done.stdout)[:6] == ["keys", "29", "29", "1", "1", "0"]
    assert re.search(r"missing: 1$", done.stdout, re.MULTILINE)
    assert re.search(r"extra: 3$", done.stdout, re.MULTILINE)
    assert damaged.pg_es("verify").stdout.splitlines()[2:] == done.stdout.splitlines()[2:]


@pytest.mark.parametrize("how", [["--full"], ["--sample", "100"]], ids=["full", "sample"])
def test_whole_documents_are_compared(damaged: Project, how: list[str]) -> None:
    done = damaged.pg_es("verify", *how)
    assert done.exit_code == 1
    assert figures(done.stdout)[0] == "full"
    assert figures(done.stdout)[3:6] == ["1", "1", "1"]
    assert re.search(r"changed: 2$", done.stdout, re.MULTILINE)


def test_what_differs_is_repaired(damaged: Project) -> None:
    done = damaged.pg_es("verify", "--full", "--repair")
    assert done.exit_code == 0
    assert figures(done.stdout)[6:8] == ["2", "1"]
    assert damaged.orders.is_in_step()
    assert damaged.pg_es("verify", "--full").exit_code == 0


def test_a_row_that_changes_between_the_two_readings_is_no_difference(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pg_es_pipeline.sync.compare import Comparison

    orders = project.orders
    orders.sync()
    rows = Comparison._rows

    def change_and_read(self, *arguments):
        orders.pg.execute("UPDATE orders SET note = 'changed', updated_at = now() WHERE id = 2")
        orders.sync()
        return rows(self, *arguments)

    orders.es.index(index=f"{orders.table.index}-000001", id="1", document={"note": "edited"})
    monkeypatch.setattr(Comparison, "_rows", change_and_read)
    done = project.pg_es("verify", "--full")
    assert figures(done.stdout)[3:6] == ["0", "0", "1"]


def test_too_many_deletes_are_refused_until_they_are_allowed(project: Project) -> None:
    orders = project.orders
    orders.insert(range(4, 101))
    orders.sync()
    orders.pg.execute("DELETE FROM orders WHERE id > 50")

    refused = project.pg_es("verify", "--repair")
    assert refused.exit_code == 2
    assert "more than 10 documents have no row" in refused.stderr
    assert "--max-deletes 100%" in refused.stderr

    assert project.pg_es("verify", "--repair", "--max-deletes", "60%").exit_code == 0
    assert orders.is_in_step()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--sample", "5", "--full"], "not both"),
        (["--max-deletes", "some"], "a share is a percentage"),
        (["nothing"], "there is no table or index 'nothing'"),
        (["--partition", "2024-01"], "has no partition '2024-01'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    project: Project, arguments: list[str], reason: str
) -> None:
    project.orders.sync()
    done = project.pg_es("verify", *arguments)
    assert done.exit_code == 2
    assert reason in " ".join(done.stderr.replace("│", " ").split())


def test_an_index_that_is_not_there_yet_cannot_be_compared(project: Project) -> None:
    done = project.pg_es("verify")
    assert done.exit_code == 2
    assert "there is no index yet. Load the table first." in done.stderr


def test_one_partition_is_compared_alone(project: Project) -> None:
    project.change(partitions={"by": "month", "column": "placed", "start": "2024-01-01"})
    orders = project.orders
    orders.insert(range(4, 61))
    for partition in orders.stale():
        orders.sync(partition)
    orders.es.delete(index=f"{orders.table.index}-000001", id="40")

    # The 40th day of the year lies in February.
    assert project.pg_es("verify", "--partition", "2024-01").exit_code == 0
    assert project.pg_es("verify", "--partition", "2024-02").exit_code == 1


def reconcile_all(orders: Orders, instance: dg.DagsterInstance, **config: object) -> bool:
    job = reconcile_job([orders.table])
    return job.execute_in_process(
        instance=instance,
        resources=RESOURCES,
        run_config={"ops": {"reconcile_all_op": {"config": config}}},
        raise_on_error=False,
    ).success


def test_the_job_repairs_and_tells_the_figures(
    damaged: Project, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    orders = damaged.orders
    for name, value in damaged.environment.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.ephemeral() as instance:
        assert reconcile_all(orders, instance, repair=False)
        assert not orders.is_in_step()
        assert reconcile_all(orders, instance)

        records = instance.fetch_observations(index_key(orders.table), limit=10).records
        told = [
            {name: value.value for name, value in record.asset_observation.metadata.items()}
            for record in records
            if record.asset_observation
        ]
    assert [one["missing"] for one in told] == [1, 1]
    assert (told[0]["written"], told[0]["deleted"]) == (1, 1)
    assert orders.es.exists(index=orders.table.index, id="1")


def test_the_job_can_be_scheduled(project: Project) -> None:
    job = reconcile_job([project.orders.table])
    schedule = reconcile_schedule(job)
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedule.job_name == "reconcile_all"
