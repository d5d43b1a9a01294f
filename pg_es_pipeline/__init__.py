"""Keeps Elasticsearch indices in step with PostgreSQL tables, orchestrated by Dagster."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pg_es_pipeline.orchestration.build import build_defs
    from pg_es_pipeline.orchestration.translator import TableData, Translator

__all__ = ["TableData", "Translator", "build_defs"]


def __getattr__(name: str) -> Any:
    """What another Dagster project uses; nothing else here is to wait for Dagster's import."""
    if name == "build_defs":
        from pg_es_pipeline.orchestration.build import build_defs

        return build_defs
    if name in ("TableData", "Translator"):
        from pg_es_pipeline.orchestration import translator

        return getattr(translator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
