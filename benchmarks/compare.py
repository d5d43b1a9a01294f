"""Has a change made anything slower, or larger?

    python -m benchmarks.compare BEFORE.json AFTER.json

Ends with status 1 if so, and with 2 if the files cannot be compared.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from benchmarks.records import (
    LARGER_IS_BETTER,
    OF_ANY_MACHINE,
    NoResults,
    Record,
    Results,
    Spread,
    read,
)
from benchmarks.report import draw, number

TOLERANCE = 0.05
"""A smaller difference of the medians counts for nothing: a few repetitions may lie close together
by chance."""

Judgement = Literal["worse", "better", "same", "not compared"]

_COLOURS: dict[Judgement, str] = {"worse": "bold red", "better": "green", "not compared": "dim"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What has become of one figure."""

    name: str
    judgement: Judgement
    by: str = ""
    """What was compared: the ratio to the reference, or a value with its unit."""
    before: float | None = None
    after: float | None = None


def compare(before: Results, after: Results) -> list[Verdict]:
    """A verdict for each figure that is in one of the two, in the order of the later one.

    Raises NoResults when they say nothing of each other.
    """
    if before.scale != after.scale:
        raise NoResults(
            f"one was measured with SCALE={before.scale:g}, the other with SCALE={after.scale:g}: "
            "figures of different sizes say nothing of each other. Measure one of them again."
        )
    alike = all(before.machine.get(what) == after.machine.get(what) for what in ("CPU", "cores"))
    earlier = {record.name: record for record in before.records}
    verdicts = [
        (
            judge(earlier[record.name], record, same_machine=alike)
            if record.name in earlier
            else Verdict(record.name, "not compared", "new")
        )
        for record in after.records
    ]
    present = {record.name for record in after.records}
    gone = [Verdict(name, "not compared", "gone") for name in earlier if name not in present]
    return verdicts + gone


def judge(before: Record, after: Record, *, same_machine: bool) -> Verdict:
    """The ratio to the reference counts where there is one, since it depends least on the machine
    and on what else that does. A difference is one if the spreads do not meet."""
    if before.unit != after.unit or before.reference != after.reference:
        return Verdict(after.name, "not compared", "another measure")
    if (
        before.ratio is not None
        and after.ratio is not None
        and before.ratio_spread
        and after.ratio_spread
    ):
        old, new = before.ratio, after.ratio
        spreads = before.ratio_spread, after.ratio_spread
        by = f"ratio of {after.unit}"
    elif same_machine or after.unit in OF_ANY_MACHINE:
        old, new, spreads, by = before.value, after.value, (before.spread, after.spread), after.unit
    else:
        return Verdict(after.name, "not compared", "another machine")
    if _meet(*spreads) or abs(new - old) <= TOLERANCE * abs(old):
        judgement: Judgement = "same"
    else:
        judgement = "better" if (new > old) == (after.unit in LARGER_IS_BETTER) else "worse"
    return Verdict(after.name, judgement, by, old, new)


def _meet(one: Spread, other: Spread) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def show(verdicts: Sequence[Verdict], title: str) -> None:
    rows = []
    for one in verdicts:
        figures = ("" if value is None else number(value) for value in (one.before, one.after))
        cells = [one.name, *figures, one.by, one.judgement]
        rows.append((cells, _COLOURS.get(one.judgement)))
    draw(title, ("what", "before >", "after >", "compared by", "judgement"), rows)


def main() -> int:
    if len(sys.argv) != 3:
        print("Name two files: make bench-compare A=before.json B=after.json", file=sys.stderr)
        return 2
    try:
        before, after = (read(Path(name)) for name in sys.argv[1:])
        verdicts = compare(before, after)
    except NoResults as error:
        print(error, file=sys.stderr)
        return 2
    show(verdicts, f"{before.rounds} rounds of each before, {after.rounds} after")
    worse = sum(one.judgement == "worse" for one in verdicts)
    print(f"{worse} of {len(verdicts)} figures are worse." if worse else "Nothing became worse.")
    return int(worse > 0)


if __name__ == "__main__":
    sys.exit(main())
