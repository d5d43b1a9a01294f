"""Debian's packages, for the programs that Python's packages cannot bring."""

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path


class NotInstalled(Exception):
    """There is no such program; the message says how to install it."""


def program(
    names: Sequence[str], packages: Sequence[str], environment: Mapping[str, str], *, log: Path
) -> Path:
    """The first program of these names that is on the PATH.

    Where there is none, this process is root and has `apt-get`, the packages are installed; what
    `apt-get` says goes to `log`. Raises NotInstalled.
    """
    path = environment.get("PATH", os.defpath)

    def find() -> Path | None:
        found = (shutil.which(name, path=path) for name in names)
        return next((Path(program) for program in found if program), None)

    if program := find():
        return program
    reason = f"{' or '.join(names)} is not on the PATH"
    command = f"apt-get install {' '.join(packages)}"
    apt_get = shutil.which("apt-get", path=path)
    if apt_get is None:
        raise NotInstalled(f"{reason}. Install it.")
    if os.geteuid() != 0:
        raise NotInstalled(f"{reason}. Install it with `sudo {command}`.")
    if not install(apt_get, packages, environment=environment, log=log):
        said = log.read_text(errors="replace")
        raise NotInstalled(f"{reason}, and `{command}` failed:\n{said}")
    program = find()
    assert program, f"{command} brought no {' or '.join(names)}"
    return program


def install(
    apt_get: str, packages: Sequence[str], *, environment: Mapping[str, str], log: Path
) -> bool:
    """Whether the packages could be installed; what `apt-get` says goes to `log`. Needs root."""
    update = [apt_get, "update"]
    install = [apt_get, "install", "--yes", "--no-install-recommends", *packages]
    log.parent.mkdir(parents=True, exist_ok=True)
    with _alone(apt_get), log.open("wb") as output:
        # A failed update is no reason to stop: the package lists of an earlier one may do.
        for command in (update, install):
            done = subprocess.run(
                command,
                env={**environment, "DEBIAN_FRONTEND": "noninteractive"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
    return done.returncode == 0


@contextmanager
def _alone(apt_get: str) -> Iterator[None]:
    """One process after the other: a second `apt-get` would fail."""
    with Path(apt_get).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
