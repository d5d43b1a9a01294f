"""What a table becomes in Dagster: keys, groups, owners, columns, links."""

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from pg_es_pipeline.errors import TablesError
from pg_es_pipeline.orchestration.build import build_defs
from pg_es_pipeline.orchestration.in_flight import in_flight
from pg_es_pipeline.orchestration.names import index_key
from pg_es_pipeline.orchestration.translator import TableData, Translator, translated
from pg_es_pipeline.sync.catalog import Column, Source
from pg_es_pipeline.sync.describe import Constraint, Description
from pg_es_pipeline.tables import Table, read_tables

ORDERS = Table(table="shop.orders", index="shop-orders")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("PG_HOST", "SEARCH_URL", "PG_ES_TABLES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def column(name: str, type_: str = "text", **more: Any) -> Column:
    values: dict[str, Any] = {"array": False, "declared": type_, "not_null": False, "comment": None}
    return Column(name, type_, **values | more)


def described(*constraints: Constraint) -> Description:
    key = column("id", "int8", declared="bigint", not_null=True)
    columns = (key, column("customer", comment="Who pays."), column("line", "int4"))
    source = Source(ORDERS, True, 0, "What people bought.", columns, (key,), None, None, None)
    return Description(source, list(constraints))


def specs(
    translator: Translator | None = None, table: Table = ORDERS, **data: Any
) -> tuple[dg.AssetSpec, dg.AssetSpec]:
    _, source, index = translated(translator or Translator(), TableData(table, **data))
    assert source
    return source, index


def test_groups_are_named_after_the_database() -> None:
    source, index = specs(database="web-shop")
    assert (source.group_name, index.group_name) == ("web_shop_tables", "web_shop_indices")
    source, index = specs()
    assert (source.group_name, index.group_name) == ("tables", "indices")


def test_the_tables_file_says_who_owns_what_and_what_it_is_called() -> None:
    table = ORDERS.model_copy(
        update={
            "asset_key": ("search", "orders"),
            "group": "search",
            "owners": ("team:shop",),
            "tags": {"tier": "gold"},
            "description": "All orders.",
        }
    )
    source, index = specs(table=table, database="shop")
    assert index.key == dg.AssetKey(["search", "orders"])
    assert (source.group_name, index.group_name) == ("shop_tables", "search")
    for spec in (source, index):
        assert spec.owners == ["team:shop"]
        assert spec.tags["tier"] == "gold"
        assert spec.description is not None
        assert spec.description.startswith("All orders.\n\n")


def test_comments_become_descriptions() -> None:
    for spec in specs(description=described()):
        assert spec.description is not None
        assert spec.description.startswith("What people bought.\n\n")


def test_a_tables_columns_show_their_constraints() -> None:
    source, _ = specs(
        description=described(
            Constraint("p", "PRIMARY KEY (id)", ("id",)),
            Constraint("f", "FOREIGN KEY (customer) REFERENCES shop.customers(id)", ("customer",)),
            Constraint("u", "UNIQUE (customer, line)", ("customer", "line")),
        )
    )
    schema = source.metadata["dagster/column_schema"]
    id_, customer, line = schema.columns
    assert (id_.type, id_.constraints.nullable, id_.constraints.unique) == ("bigint", False, True)
    assert id_.constraints.other == ["primary key"]
    assert customer.constraints.other == ["REFERENCES shop.customers(id)"]
    assert (customer.description, customer.constraints.nullable) == ("Who pays.", True)
    assert (line.constraints.unique, line.constraints.other) == (False, [])
    assert schema.constraints.other == ["UNIQUE (customer, line)"]


def test_fields_show_both_types_and_the_column_that_they_come_from() -> None:
    translator = Translator(key_prefix=["eu"])
    source, index = specs(translator, description=described())
    assert [one.type for one in index.metadata["dagster/column_schema"].columns][:1] == [
        "bigint → long"
    ]
    lineage = index.metadata["dagster/column_lineage"].deps_by_column
    assert lineage["customer"] == [dg.TableColumnDep(source.key, "customer")]


def test_an_index_links_to_its_page_at_the_search_service() -> None:
    _, index = specs(search_url="https://search.example.com")
    assert index.metadata["search"].url == "https://search.example.com/?index=shop-orders"
    assert "search" not in specs()[1].metadata


def test_another_asset_may_stand_for_the_table() -> None:
    table = ORDERS.model_copy(update={"upstream": ("marts", "orders")})
    named, source, index = translated(Translator(key_prefix=["eu"]), TableData(table))
    assert source is None
    assert [dep.asset_key for dep in index.deps] == [dg.AssetKey(["marts", "orders"])]
    assert index.key == index_key(named) == dg.AssetKey(["eu", "shop-orders"])


class Renaming(Translator):
    """Puts the indices elsewhere, and wants them fresh."""

    def table_spec(self, data: TableData) -> dg.AssetSpec:
        return super().table_spec(data).replace_attributes(key=["raw", data.table.name])

    def index_spec(self, data: TableData) -> dg.AssetSpec:
        return (
            super()
            .index_spec(data)
            .replace_attributes(
                key=["found", data.table.name], automation_condition=dg.AutomationCondition.eager()
            )
        )


def test_the_keys_of_a_translator_are_used_everywhere() -> None:
    defs = build_defs([ORDERS], translator=Renaming())
    graph = defs.resolve_asset_graph()
    key = dg.AssetKey(["found", "orders"])
    assert graph.get_all_asset_keys() == {key, dg.AssetKey(["raw", "orders"])}
    assert graph.get(key).parent_keys == {dg.AssetKey(["raw", "orders"])}
    assert graph.get(key).automation_condition
    job = defs.resolve_job_def("load_shop_orders")
    assert job.asset_layer.selected_asset_keys == {key}


def test_a_load_does_not_execute_the_checks_of_its_index() -> None:
    job = build_defs([ORDERS]).resolve_job_def("load_shop_orders")
    assert len(job.graph.node_defs) == 1


def test_a_run_of_an_asset_keeps_its_table_from_being_loaded_again() -> None:
    named, _, _ = translated(Renaming(), TableData(ORDERS))
    selection = frozenset([index_key(named), dg.AssetKey("other")])
    run = dg.DagsterRun("j", status=dg.DagsterRunStatus.STARTED, asset_selection=selection)
    with dg.DagsterInstance.ephemeral() as instance:
        assert in_flight([named], [run], instance) == {"shop-orders": None}


def test_parts_can_be_left_out_and_resources_replaced() -> None:
    defs = build_defs([ORDERS], without=["sensors", "schedules"], resources={"postgres": "another"})
    assert not list(defs.sensors or ())
    assert not list(defs.schedules or ())
    assert defs.resources
    assert defs.resources["postgres"] == "another"


@pytest.mark.parametrize(
    ("count", "setting", "expected"),
    [(50, None, True), (51, None, False), (51, "true", True), (2, "false", False)],
)
def test_tables_have_jobs_of_their_own_unless_they_are_many(
    monkeypatch: pytest.MonkeyPatch, count: int, setting: str | None, expected: bool
) -> None:
    if setting:
        monkeypatch.setenv("JOBS_PER_TABLE", setting)
    definitions = build_defs(Table(table=f"public.t{number}") for number in range(count))
    names = {job.name for job in definitions.jobs or ()}
    assert {"sync_all", "sync_tables", "reindex"} <= names
    for kind in ("sync", "load", "reindex"):
        assert ({f"{kind}_t{number}" for number in range(count)} <= names) == expected
        assert (f"{kind}_t0" in names) == expected


def test_an_index_may_be_called_as_a_job_is() -> None:
    definitions = build_defs([Table(table="public.all"), Table(table="public.tables")])
    jobs = [job.name for job in definitions.resolve_all_job_defs()]
    assert {"sync_all", "sync_tables", "load_all", "reindex_tables"} <= set(jobs)
    assert len(jobs) == len(set(jobs))


def test_the_package_offers_build_defs_without_loading_dagster() -> None:
    import pg_es_pipeline

    assert pg_es_pipeline.build_defs is build_defs
    with pytest.raises(AttributeError, match="nothing_else"):
        pg_es_pipeline.nothing_else  # noqa: B018


def test_two_tables_of_one_index_are_refused_in_code_as_in_a_file() -> None:
    with pytest.raises(TablesError, match="would both go to the index 'orders'"):
        build_defs([Table(table="a.orders"), Table(table="b.orders")])


def test_assets_lead_to_the_line_of_their_table(tmp_path: Path) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text("# ours\ntables:\n  - table: a\n\n  - index: c\n    table: b\n")
    graph = build_defs(file).resolve_asset_graph()
    for index, line in {"a": 3, "c": 5}.items():
        [reference] = (
            graph.get(dg.AssetKey(index)).metadata["dagster/code_references"].code_references
        )
        assert (reference.file_path, reference.line_number) == (str(file), line)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("owners: [somebody]", "an owner is an e-mail address or team:name, not 'somebody'"),
        ("group: a-b", "a group is made of letters, digits and underscores, not 'a-b'"),
        ("tags: {tier: 'very good'}", "tier: 'very good' is no tag"),
        ("asset_key: search//orders", "an asset key is names with a slash"),
    ],
)
def test_what_dagster_would_refuse_is_refused_by_name(
    tmp_path: Path, entry: str, reason: str
) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text(f"tables:\n  - table: public.orders\n    {entry}\n")
    with pytest.raises(TablesError, match=reason) as raised:
        read_tables(file)
    assert f"table public.orders: {entry.partition(':')[0]}" in str(raised.value)


@pytest.mark.parametrize("owner", ["team:data-eng", "a@example.com"])
def test_owners_that_are_accepted_are_accepted_by_dagster(owner: str) -> None:
    build_defs([ORDERS.model_copy(update={"owners": (owner,)})]).resolve_asset_graph()
