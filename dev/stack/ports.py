"""Which port a server asks for, and the one it had."""

from pathlib import Path
from typing import Literal

Ports = Literal["usual", "free"]
"""`usual`: the server's usual port if free, else any; `free`: any. An earlier one goes first."""


def read_port(folder: Path) -> int | None:
    """The port that the server in this folder has, or had at its last start."""
    try:
        return int((folder / "port").read_text())
    except (OSError, ValueError):
        return None


def write_port(folder: Path, port: int) -> None:
    (folder / "port").write_text(f"{port}\n")
