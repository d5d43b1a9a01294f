"""Dagster's pages over the project, in a real browser: what an operator sees and does."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import quote

import dagster as dg
import psycopg
import pytest
from elasticsearch import Elasticsearch
from playwright.sync_api import ConsoleMessage, Page, expect

from pg_es_pipeline.orchestration.build import build_defs
from pg_es_pipeline.orchestration.names import RANGE_END, RANGE_START
from pg_es_pipeline.orchestration.table_jobs import load_job
from pg_es_pipeline.tables import read_tables
from tests.acceptance.services import (
    DEADLINE,
    ROOT,
    Services,
    bare_environment,
    running,
)
from tests.conftest import new_database, new_prefix

PATIENCE = DEADLINE * 1000
"""Milliseconds: a run's start takes seconds, and the pages ask for news at leisure."""


MONTHS = {"by": "month", "column": "day", "start": "2024-01-01", "end": "2024-04-01"}
TABLES = """
    CREATE TABLE orders (id int PRIMARY KEY, note text, day date NOT NULL,
        updated_at timestamptz NOT NULL DEFAULT now() - interval '1 hour');
    COMMENT ON TABLE orders IS 'What was ordered.';
    CREATE TABLE returns (LIKE orders INCLUDING ALL);
    INSERT INTO orders SELECT id, 'new', '2024-01-01'::date + id % 90
        FROM generate_series(0, 899) AS id;
    INSERT INTO returns SELECT * FROM orders WHERE id < 90
"""


@dataclass(frozen=True)
class Shop:
    """Tables and their indices: the orders are loaded, January's twice, and the returns never."""

    services: Services
    es: Elasticsearch
    orders: str
    returns: str
    groups: tuple[str, str]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.services.port}{path}"

    def asset(self, index: str, view: str) -> str:
        return self.url(f"/assets/{index}?view={view}")


@pytest.fixture(scope="module")
def shop(
    stack: dict[str, str], es: Elasticsearch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with new_database(stack) as database, new_prefix(es) as prefix:
        orders, returns = f"{prefix}orders", f"{prefix}returns"
        entries = [
            {"table": f"public.{name}", "index": prefix + name, "partitions": MONTHS}
            for name in ("orders", "returns")
        ]
        tables = folder / "tables.yaml"
        tables.write_text(json.dumps({"defaults": {"bootstrap": "manual"}, "tables": entries}))
        shutil.copy(ROOT / "dagster.yaml", folder)
        environment = {
            **bare_environment(),
            **database.environment,
            "DAGSTER_HOME": str(folder),
            "PG_ES_TABLES": str(tables),
            "SYNC_INTERVAL": "3600",
        }
        with psycopg.connect(database.conninfo, autocommit=True) as pg:
            pg.execute(TABLES)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            defs = build_defs(str(tables), executor=dg.in_process_executor)
            job = load_job(read_tables(tables)[orders])
            with dg.DagsterInstance.get() as instance:
                for first, last in (("2024-01", "2024-03"), ("2024-01", "2024-01")):
                    done = defs.resolve_job_def(job.name).execute_in_process(
                        instance=instance, tags={RANGE_START: first, RANGE_END: last}
                    )
                    assert done.success
        groups = (f"{database.dbname}_tables", f"{database.dbname}_indices")
        with running(environment, folder) as services:
            yield Shop(services, es, orders, returns, groups)


@pytest.fixture(autouse=True)
def patient_and_without_errors(shop: Shop, page: Page) -> Iterator[None]:
    """Whatever a test looks at, nothing fails in the browser, which is started after the shop."""
    failed: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error":
            failed.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.set_default_timeout(PATIENCE)
    expect.set_options(timeout=PATIENCE)
    yield
    assert failed == []


def test_the_graph_shows_where_each_index_comes_from(shop: Shop, page: Page) -> None:
    expanded = quote(",".join(f"global@global:{group}" for group in shop.groups))
    page.goto(shop.url(f"/asset-groups/?expanded={expanded}"))
    for table, index in (("orders", shop.orders), ("returns", shop.returns)):
        expect(page.get_by_text(table, exact=True).first).to_be_visible()
        expect(page.get_by_text(index, exact=True).first).to_be_visible()
    page.goto(shop.asset(shop.orders, "overview"))
    expect(page.get_by_text("What was ordered.")).to_be_visible()
    upstream = page.locator('a[href*="/assets/public/orders"]')
    expect(upstream.first).to_be_visible()
    expect(page.get_by_text("date → date")).to_be_visible()


def test_a_partition_is_shown_with_its_own_figures(shop: Shop, page: Page) -> None:
    page.goto(shop.asset(shop.orders, "partitions&partition=2024-02"))
    expect(page.get_by_text("Materialized (3)")).to_be_visible()
    expect(page.get_by_text("docs_per_second")).to_be_visible()
    rows = page.get_by_role("row").filter(has=page.get_by_text("rows", exact=True))
    expect(rows.first).to_contain_text("290")


def test_the_figures_are_plotted_over_the_materializations(shop: Shop, page: Page) -> None:
    page.goto(shop.asset(shop.orders, "overview"))
    page.get_by_text("Plots", exact=True).click()
    page.get_by_text("Events", exact=True).last.click()
    expect(page.get_by_text("docs_per_second")).to_be_visible()
    expect(page.locator("canvas").first).to_be_visible()


def test_checks_are_executed_and_shown_with_what_they_found(shop: Shop, page: Page) -> None:
    page.goto(shop.asset(shop.orders, "checks"))
    page.get_by_role("button", name="Execute all").click()
    expect(page.get_by_text("Passed", exact=True)).to_be_visible()
    expect(page.get_by_text("0 missing, 0 extra, 0 changed.")).to_be_visible()
    # The list beside it asks for news later.
    page.reload()
    expect(page.get_by_text("Succeeded")).to_have_count(6)


def test_a_backfill_is_started_and_seen_to_finish(shop: Shop, page: Page) -> None:
    page.goto(shop.asset(shop.returns, "partitions"))
    expect(page.get_by_text("Missing (3)")).to_be_visible()
    page.get_by_role("button", name="Materialize…").click()
    page.get_by_role("button", name="Missing", exact=True).click()
    page.get_by_role("button", name="Launch backfill").click()
    expect(page.get_by_text("Materialized (3)")).to_be_visible()
    shop.es.indices.refresh(index=shop.returns)
    assert shop.es.count(index=shop.returns)["count"] == 90
