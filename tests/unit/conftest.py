"""What unit tests pretend of the machine."""

import os

import pytest


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process has root's rights, by what it can tell."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
