"""Debian's packages, for the programs that Python's packages cannot bring."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path


def install(
    apt_get: str, packages: Sequence[str], *, environment: Mapping[str, str], log: Path
) -> bool:
    """Whether the packages could be installed; what `apt-get` says goes to `log`. Needs root."""
    update = [apt_get, "update"]
    install = [apt_get, "install", "--yes", "--no-install-recommends", *packages]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
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
