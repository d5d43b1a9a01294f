"""Names in paths."""

from collections.abc import Iterable
from typing import Annotated

from fastapi import Path

IndexName = Annotated[
    str, Path(description="One of GET /indices.", max_length=255, examples=["flights"])
]


def split(given: Iterable[str]) -> list[str]:
    """The names of a parameter that is repeated, or has several with commas between."""
    return [name for one in given for name in one.split(",")]
