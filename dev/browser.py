"""Chromium without a window: found, or installed where that is a matter of one command."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from dev import apt

_NAMES = ("chromium", "chromium-browser", "google-chrome")
# A browser without a font draws no letter.
_PACKAGES = ("chromium", "fonts-dejavu-core")
_OPTIONS = (
    # A page that asks another host for anything must fail: it has to work without the internet.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
    "--no-proxy-server",
)


def chromium(environment: Mapping[str, str], *, log: Path) -> Path:
    """The browser on the PATH, or Debian's; as `dev.apt.program`."""
    return apt.program(_NAMES, _PACKAGES, environment, log=log)


@contextmanager
def running(program: Path) -> Iterator[Browser]:
    """A browser that reaches this machine alone.

    While it runs, no other event loop runs in this thread: Playwright has one there.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_OPTIONS)
        yield browser
        browser.close()
