"""`pg-es check`: what keeps tables and indices from being in step, and what fixes it."""

from collections import Counter

import typer
from rich.text import Text

from pg_es_pipeline.commands.project import (
    FINDINGS,
    TableNames,
    chosen_tables,
    console,
    open_engine,
    refusing_clearly,
)
from pg_es_pipeline.sync.check import check as find
from pg_es_pipeline.sync.checks.finding import Finding, Severity

_STYLES: dict[Severity, str] = {"error": "bold red", "warning": "yellow", "note": "cyan"}


def check(tables: TableNames = None) -> None:
    """Look for what keeps tables and indices from being in step, and say what fixes it.

    Exit status: 0 nothing to do, 1 errors or warnings, 2 a server or setting is missing.
    """
    with refusing_clearly():
        chosen = chosen_tables(tables)
        with open_engine() as engine:
            found = find(engine, chosen)
    out = console()
    for finding in sorted(found, key=lambda one: list(_STYLES).index(one.severity)):
        out.print(_shown(finding))
    counts = Counter(finding.severity for finding in found)
    summary = ", ".join(
        f"{counts[severity]} {severity}{'s' * (counts[severity] != 1)}" for severity in _STYLES
    )
    out.print(f"{len(chosen)} table{'s' * (len(chosen) != 1)} checked: {summary}")
    if counts["error"] or counts["warning"]:
        raise typer.Exit(FINDINGS)


def _shown(finding: Finding) -> Text:
    # Neither boxed nor wrapped: the remedy is there to be pasted.
    lines = Text()
    lines.append(finding.severity, _STYLES[finding.severity])
    lines.append(f" {finding.subject}: {finding.problem}\n")
    if finding.consequence:
        lines.append(f"  why: {finding.consequence}\n")
    if finding.remedy:
        lines.append(f"  fix: {finding.remedy}\n")
    return lines
