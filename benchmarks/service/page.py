"""The page docs/search-benchmarks.md, drawn from a file of results.

python -m benchmarks.service.page build/bench-search.json > docs/search-benchmarks.md
"""

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template

from benchmarks.markdown import circumstances, draw, ratio, reached, spread, table
from benchmarks.records import Results
from benchmarks.service.goals import goals
from benchmarks.service.plan import CONNECTIONS

_TEMPLATE = Path(__file__).with_suffix(".md")

_PARTS = {
    "One search after the other": "one at a time · ",
    f"{CONNECTIONS} connections that are never idle": f"{CONNECTIONS} connections · ",
    "What a feature costs": "feature · ",
    "Ten times as much as it can": "overload · ",
    "Memory, and exports": "",
}
"""Titles, and how the names of their figures begin; the last one has the others."""


def page(results: Results) -> str:
    """The whole page. Raises LookupError where a figure is missing."""
    found = itertools.chain(
        circumstances(results, _shortened(results)), reached(goals(results)), _figures(results)
    )
    return Template(_TEMPLATE.read_text()).substitute(results="\n".join(found))


def _shortened(results: Results) -> str | None:
    length = results.machine["length"]
    if results.scale == length == 1 and results.rounds >= 3:
        return None
    return f"ROUNDS={results.rounds} SCALE={results.scale:g} LENGTH={length:g}"


def _figures(results: Results) -> Iterator[str]:
    left = list(results.records)
    for title, start in _PARTS.items():
        mine = [one for one in left if one.name.startswith(start)]
        left = [one for one in left if one not in mine]
        yield f"## {title}\n"
        yield from table(
            ("", "", "", "ratio", "to"),
            (
                [
                    one.name.removeprefix(start),
                    spread(one),
                    one.unit,
                    ratio(one),
                    (one.reference or "").removeprefix(start),
                ]
                for one in mine
            ),
        )


if __name__ == "__main__":
    sys.exit(draw(page))
