"""A record for each figure, and the file that keeps them."""

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

Spread = tuple[float, float]

LARGER_IS_BETTER = frozenset({"docs/s", "MB/s", "rows/s", "requests/s", "times"})
"""Units. Of all others, less is better."""

OF_ANY_MACHINE = frozenset({"MB", "queries/table", "times"})
"""Units whose figures hardly depend on how fast a machine is."""


class NoResults(Exception):
    """A file that is none of the benchmark's; the message names it and says why."""


@dataclass(frozen=True, slots=True)
class Record:
    """One figure over several repetitions."""

    name: str
    value: float
    """The median."""
    unit: str
    spread: Spread
    """The lowest and the highest."""
    reference: str | None = None
    """The name of the record that it is compared with."""
    ratio: float | None = None
    """The median of value by reference, both of the same round."""
    ratio_spread: Spread | None = None


@dataclass
class Results:
    """All that a run of the benchmark has found, and under which circumstances."""

    machine: dict[str, Any]
    versions: dict[str, str]
    date: str
    seed: int
    rounds: int
    scale: float
    ceiling: dict[str, Any] = field(default_factory=dict)
    """By table: the way to feed it that was the fastest, and all that were tried."""
    records: list[Record] = field(default_factory=list)

    def find(self, name: str) -> Record:
        """Raises KeyError."""
        return {record.name: record for record in self.records}[name]


def record(
    name: str,
    unit: str,
    values: Sequence[float],
    reference: str | None = None,
    against: Sequence[float] = (),
) -> Record:
    """The record of one value for each round; `against` are those of the reference."""
    if not reference:
        return Record(name, _middle(values), unit, _ends(values))
    ratios = [value / other for value, other in zip(values, against, strict=True) if other]
    return Record(
        name,
        _middle(values),
        unit,
        _ends(values),
        reference,
        _middle(ratios) if ratios else None,
        _ends(ratios) if ratios else None,
    )


def write(results: Results, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(asdict(results), indent=1, ensure_ascii=False) + "\n")


def read(file: Path) -> Results:
    """Raises NoResults."""
    try:
        found = json.loads(file.read_text())
        records = [
            Record(**{name: _tuple(value) for name, value in one.items()})
            for one in found.pop("records")
        ]
        return Results(**found, records=records)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NoResults(
            f"{file} is no file of results ({error}): `make bench` writes them."
        ) from None


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _middle(values: Sequence[float]) -> float:
    return _short(statistics.median(values))


def _ends(values: Sequence[float]) -> Spread:
    return _short(min(values)), _short(max(values))


def _short(value: float) -> float:
    """Five digits: more would only look precise."""
    return float(f"{value:.5g}")
