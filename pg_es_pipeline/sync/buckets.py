"""Numbered buckets along an axis of whole numbers, and what is known of them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from psycopg import sql

STRETCHES_AT_ONCE = 500
"""Buckets of one request for documents: each may be a clause of its own."""

LONG = 1 << 63
"""The first number that is too large for a bigint."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of the axis, cut into buckets of the same width, which are numbered from 0."""

    start: int
    end: int
    width: int

    def number(self, axis: sql.Composable) -> sql.Composed:
        """The expression of a row's bucket."""
        # Beyond 64 bits a difference does not fit into a bigint.
        wide = self.end - self.start >= LONG
        return sql.SQL("div({}::numeric - {}, {})::int8" if wide else "(({} - {}) / {})").format(
            axis, sql.Literal(self.start), sql.Literal(self.width)
        )

    def bounds(self, number: int) -> tuple[int, int]:
        start = self.start + number * self.width
        return start, min(start + self.width, self.end)

    @property
    def range(self) -> dict[str, int]:
        return between(self.start, self.end)


def between(start: int, end: int) -> dict[str, int]:
    """The query's range from `start` to before `end`."""
    # `lt` of one beyond the highest value of the field's type is refused.
    return {"gte": start, "lte": end - 1}


class Sum(NamedTuple):
    """What is known of a bucket on one side."""

    rows: int
    total: float


NOTHING = Sum(0, 0.0)


def groups(sizes: dict[int, int], at_once: int) -> Iterator[list[int]]:
    """Buckets in order, together as many as are read at once."""
    group: list[int] = []
    count = 0
    for number, size in sizes.items():
        if group and (count + size > at_once or len(group) == STRETCHES_AT_ONCE):
            yield group
            group, count = [], 0
        group.append(number)
        count += size
    if group:
        yield group


def stretches(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """The first and the last of each run of neighbours."""
    low = previous = numbers[0]
    for number in numbers[1:]:
        if number != previous + 1:
            yield low, previous
            low = number
        previous = number
    yield low, previous
