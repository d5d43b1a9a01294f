"""Chromium without a window: found, or installed where that is a matter of one command."""

import os
import shutil
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


class NoBrowser(Exception):
    """There is no Chromium; the message says how to install it."""


def chromium(environment: Mapping[str, str], *, log: Path) -> Path:
    """The browser on the PATH.

    Where there is none, this process is root and has `apt-get`, Debian's is installed; what
    `apt-get` says goes to `log`. Raises NoBrowser.
    """
    path = environment.get("PATH", os.defpath)

    def find() -> Path | None:
        found = (shutil.which(name, path=path) for name in _NAMES)
        return next((Path(program) for program in found if program), None)

    if program := find():
        return program
    reason = f"None of {', '.join(_NAMES)} is on the PATH"
    command = f"apt-get install {' '.join(_PACKAGES)}"
    apt_get = shutil.which("apt-get", path=path)
    if apt_get is None:
        raise NoBrowser(f"{reason}. Install Chromium or Chrome.")
    if os.geteuid() != 0:
        raise NoBrowser(f"{reason}. Install it with `sudo {command}`.")
    if not apt.install(apt_get, _PACKAGES, environment=environment, log=log):
        raise NoBrowser(f"{reason}, and `{command}` failed:\n{log.read_text(errors='replace')}")
    program = find()
    assert program, f"{command} brought none of {_NAMES}"
    return program


@contextmanager
def running(program: Path) -> Iterator[Browser]:
    """A browser that reaches this machine alone.

    While it runs, no other event loop runs in this thread: Playwright has one there.
    """
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=_OPTIONS)
        yield browser
        browser.close()
