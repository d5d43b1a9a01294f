"""Ctrl-C, SIGTERM, and a terminal that is closed all end the demo in the same way."""

import os
import signal
from types import FrameType

from rich.console import Console

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminal(Console):
    """A console without whose reader the demo ends as well: `make demo | tee demo.log`."""

    def on_broken_pipe(self) -> None:
        """Raises KeyboardInterrupt, or goes on in silence where the demo is ending already."""
        self.quiet = True
        # What is still in the buffers has to go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())
        signal.raise_signal(signal.SIGTERM)


def raise_interrupts() -> None:
    """From now on the first of these signals raises KeyboardInterrupt; further ones are ignored."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)


def ignore_interrupts() -> None:
    """What is being stopped is stopped to the end, however often Ctrl-C is pressed."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    ignore_interrupts()
    raise KeyboardInterrupt
