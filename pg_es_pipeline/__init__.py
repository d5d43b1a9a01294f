"""Keeps Elasticsearch indices in step with PostgreSQL tables, orchestrated by Dagster."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pg_es_pipeline.orchestration.build import build_defs
    from pg_es_pipeline.orchestration.component import TablesComponent
    from pg_es_pipeline.orchestration.translator import TableData, Translator

__all__ = ["TableData", "TablesComponent", "Translator", "build_defs"]

# What other Dagster projects use. Nothing else here is to wait until Dagster is imported.
_PLACES = {
    "TableData": "translator",
    "TablesComponent": "component",
    "Translator": "translator",
    "build_defs": "build",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"pg_es_pipeline.orchestration.{_PLACES[name]}"), name)


def __dir__() -> list[str]:
    """Dagster looks for components among these."""
    return [*globals(), *__all__]
