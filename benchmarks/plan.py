"""How much is measured, and how often."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.indices import SAMPLE
from benchmarks.tables import SHAPES

SMALLEST = 0.001
"""The scale below which tables would have too few rows."""


@dataclass
class Plan:
    """What all parts of the benchmark go by."""

    rounds: int
    scale: float
    """By which all numbers of rows are multiplied."""
    seed: int
    say: Callable[[str], None]
    """Tells how far it is."""
    tables: list[str] = field(default_factory=lambda: list(SHAPES))
    """Those that are loaded in all ways."""
    rng: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311

    def rows(self, rows: int) -> int:
        return max(500, round(rows * self.scale))

    def sample(self, rows: int) -> list[int]:
        """Some rows out of so many, by their keys."""
        return self.rng.sample(range(1, rows + 1), min(SAMPLE, rows))
