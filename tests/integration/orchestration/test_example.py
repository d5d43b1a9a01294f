"""The sample project in `examples/`, as another Dagster project that has this package in it."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest
from dagster.components.core.component_tree import ComponentTreeException

ROOT = Path(__file__).parents[3] / "examples" / "searchable_shop"
KEY = dg.AssetKey(["search", "orders"])


@pytest.fixture
def shop(
    database: Any, prefix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Path]:
    """A copy of the project, in front of servers."""
    for name, value in database.environment.items():
        monkeypatch.setenv(name, value)
    for file in ROOT.rglob("*"):
        if file.suffix in (".py", ".yaml", ".toml"):
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(file.read_text().replace("shop-orders", f"{prefix}orders"))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("searchable_shop")]:
        del sys.modules[name]


def definitions(shop: Path) -> dg.Definitions:
    return dg.load_from_defs_folder(path_within_project=shop / "searchable_shop")


def test_an_index_is_loaded_between_what_makes_its_table_and_what_uses_it(shop: Path) -> None:
    defs, instance = definitions(shop), dg.DagsterInstance.ephemeral()
    spec = defs.resolve_asset_graph().get(KEY)
    assert (spec.group_name, spec.owners) == ("search", ["team:search"])
    assert spec.parent_keys == {dg.AssetKey(["marts", "orders"])}
    assert not defs.sensors
    job = defs.get_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, partition_key="all").success
    [record] = instance.fetch_materializations(KEY, limit=5).records
    assert record.asset_materialization
    lineage = record.asset_materialization.metadata["dagster/column_lineage"].value
    assert lineage.deps_by_column["customer"][0].asset_key == dg.AssetKey(["marts", "orders"])
    [report] = instance.fetch_materializations(dg.AssetKey("search_report"), limit=1).records
    assert report.asset_materialization
    counts = report.asset_materialization.metadata["orders"].value
    assert counts == {"Ada": 10, "Grace": 10, "Mary": 10}


@pytest.mark.parametrize(
    ("right", "wrong", "line"),
    [("  group:", "  groop:", 10), ("      upstream:", "      upstraem:", 3)],
)
def test_a_wrong_attribute_is_named_with_its_line(
    shop: Path, right: str, wrong: str, line: int
) -> None:
    file = shop / "searchable_shop" / "defs" / "search" / "defs.yaml"
    file.write_text(file.read_text().replace(right, wrong))
    with pytest.raises(ComponentTreeException) as raised:
        definitions(shop).resolve_asset_graph()
    told, error = "", cast("BaseException | None", raised.value)
    while error is not None:
        told, error = told + str(error), error.__cause__ or error.__context__
    assert wrong.strip(" :") in told
    assert f"defs.yaml:{line}" in told


def test_dagster_finds_the_component_by_the_packages_entry_point() -> None:
    from dagster.components.core.package_entry import discover_entry_point_package_objects

    found = discover_entry_point_package_objects()
    assert [key.name for key in found if key.namespace == "pg_es_pipeline"] == ["TablesComponent"]
