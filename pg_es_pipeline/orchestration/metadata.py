"""What the Dagster UI shows of a load."""

import json
import resource
from typing import Any

import dagster as dg

from pg_es_pipeline.orchestration.columns import column_lineage, column_schema
from pg_es_pipeline.sync.catalog import Source
from pg_es_pipeline.sync.report import Report

Metadata = dict[str, Any]


def progress(report: Report) -> Metadata:
    """Of a load under way."""
    metadata: Metadata = {
        "rows": report.rows,
        "estimated_rows": report.estimate,
        "docs_per_second": round(report.docs_per_second),
        "batch_size": report.batch_size,
        "connections": report.connections,
        "request_seconds": round(report.latest, 3),
        "seconds": round(report.seconds, 1),
    }
    if reason := throttled(report):
        metadata["throttled"] = reason
    if report.estimate:
        metadata["percent"] = round(min(100.0, 100 * report.rows / report.estimate), 1)
    if report.eta_seconds is not None:
        metadata["eta_seconds"] = round(report.eta_seconds)
    return metadata


def progress_line(report: Report) -> str:
    """The same for the run's log."""
    eta = "" if report.eta_seconds is None else f", {report.eta_seconds:.0f} s to go"
    return (
        f"{report.index} {report.partition}: {report.rows:,} of about {report.estimate:,} rows, "
        f"{report.docs_per_second:,.0f} docs/s, batches of {report.batch_size:,} "
        f"over {report.connections} connections{eta}"
    )


def finished_line(report: Report) -> str:
    """The same of a finished load."""
    return (
        f"{report.index} {report.partition}: {report.rows:,} rows in {report.seconds:.1f} s, "
        f"{report.docs_per_second:,.0f} docs/s"
    )


def throttled(report: Report) -> str:
    """Why less was sent than could have been, and how often."""
    why = [f"{reason} ({count:,})" for reason, count in report.throttled.most_common()]
    if report.waited:
        why.append(f"RATE_LIMIT ({report.waited:,.1f} s waited)")
    return "; ".join(why)


def result(report: Report) -> Metadata:
    """Of a finished load."""
    metadata: Metadata = {
        "rows": report.rows,
        "deletes": report.deletes,
        "superseded": report.superseded,
        "dead_letters": report.dead_letters,
        "values_lost": report.lost,
        "seconds": round(report.seconds, 3),
        "docs_per_second": round(report.docs_per_second),
        "mb_per_second": round(report.megabytes_per_second, 2),
        "batch_size": report.batch_size,
        "connections": report.connections,
        "throttled_times": report.throttled.total(),
        "requests": report.batches,
        "retries": report.retries,
        "slowest_request_seconds": round(report.slowest, 3),
        "slowest_request_documents": report.slowest_rows,
        "rate_limit_wait_seconds": round(report.waited, 3),
        "full_pass": report.full,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "watermark": " / ".join(report.watermark or []),
    }
    if reason := throttled(report):
        metadata["throttled"] = reason
    if report.lag_seconds is not None:
        metadata["lag_seconds"] = round(report.lag_seconds, 3)
    return metadata


def contents(report: Report, source: Source) -> Metadata:
    """What the index has come to hold: its columns, where they come from, some documents."""
    metadata: Metadata = {
        "dagster/column_schema": column_schema(source),
        "dagster/column_lineage": column_lineage(source),
    }
    if report.sample:
        metadata["sample"] = _sample(report.sample)
    return metadata


def _sample(documents: list[dict[str, Any]]) -> dg.TableMetadataValue:
    names = list(documents[0])
    records = [
        # Dagster takes records of the same fields alone, and a document may lack what is NULL.
        dg.TableRecord({name: _cell(document.get(name)) for name in names})
        for document in documents
    ]
    columns = [dg.TableColumn(name) for name in names]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns=columns))


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value
