"""Java and Maven: found, or installed where that is a matter of one command."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dev import apt
from dev.stack import processes
from dev.stack.errors import StackError

JAVA_VERSION = 17
"""The oldest Java that Elasticsearch 8.19 runs on."""

_JDK = "openjdk-17-jdk-headless"
_MAVEN = "maven"
_OTHER_SERVER = "or name a running server with ES_HOST"


@dataclass(frozen=True)
class Gap:
    """Something missing, and the Debian package that brings it."""

    reason: str
    package: str


class Toolchain:
    """The Java that runs the node, and the compiler and Maven that build it.

    JAVA_HOME is honoured; without it the PATH decides. What is missing is installed where this
    process is root and has `apt-get`; elsewhere StackError names what to install.
    """

    def __init__(self, environment: Mapping[str, str], *, log: Path, console: Console) -> None:
        self._home = environment.get("JAVA_HOME")
        self._environment = environment
        self._path = environment.get("PATH", os.defpath)
        self._log = log
        self._console = console

    def java(self) -> Path:
        """A `java` that runs Elasticsearch. Raises StackError."""
        self._require(self._java_gap)
        return self._program("java")

    def maven(self) -> tuple[Path, dict[str, str]]:
        """`mvn` and the environment to run it in, with a Java compiler. Raises StackError."""
        self._require(self._java_gap, self._compiler_gap, self._maven_gap)
        home = self._home or str(self._program("javac").resolve().parent.parent)
        return self._program("mvn"), {**self._environment, "JAVA_HOME": home}

    def _java_gap(self) -> Gap | None:
        java = self._find("java")
        if java is None:
            return Gap(f"Java is not {self._where}", _JDK)
        version = _version(java)
        if version < JAVA_VERSION:
            found = f"is version {version}" if version else "does not run"
            return Gap(
                f"{java} {found}, and Elasticsearch needs Java {JAVA_VERSION} or newer", _JDK
            )
        return None

    def _compiler_gap(self) -> Gap | None:
        if self._find("javac"):
            return None
        return Gap(f"`javac` is not {self._where} (a JDK is needed, not only a JRE)", _JDK)

    def _maven_gap(self) -> Gap | None:
        return None if self._find("mvn") else Gap("Maven (`mvn`) is not on the PATH", _MAVEN)

    def _require(self, *checks: Callable[[], Gap | None]) -> None:
        gaps = [gap for check in checks if (gap := check())]
        if not gaps:
            return
        reason = "; ".join(gap.reason for gap in gaps)
        packages = list(dict.fromkeys(gap.package for gap in gaps))
        jdk = f"a JDK of version {JAVA_VERSION} or newer"
        apt_get = shutil.which("apt-get", path=self._path)
        if self._home and _JDK in packages:
            raise _unusable(reason, f"Unset JAVA_HOME, or point it to {jdk}.")
        if apt_get is None:
            raise _unusable(reason, f"Install {jdk} and Maven, {_OTHER_SERVER}.")
        if os.geteuid() != 0:
            command = f"sudo apt-get install {' '.join(packages)}"
            raise _unusable(reason, f"Install it with `{command}`, {_OTHER_SERVER}.")
        self._install(apt_get, packages, reason)
        left = [gap.reason for check in checks if (gap := check())]
        if left:
            raise _unusable(
                f"{'; '.join(left)}, although {' '.join(packages)} was installed",
                f"Point JAVA_HOME to {jdk}, {_OTHER_SERVER}.",
            )

    def _install(self, apt_get: str, packages: list[str], reason: str) -> None:
        text = f"Java · {reason}: installing {' '.join(packages)} (takes a minute)"
        self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        if not apt.install(apt_get, packages, environment=self._environment, log=self._log):
            raise _unusable(
                f"{reason}, and `apt-get install {' '.join(packages)}` failed",
                f"Install a JDK of version {JAVA_VERSION} or newer and Maven yourself, "
                f"{_OTHER_SERVER}.\n{processes.tail(self._log)}",
            )

    @property
    def _where(self) -> str:
        return f"in JAVA_HOME={self._home}" if self._home else "on the PATH"

    def _find(self, program: str) -> str | None:
        in_home = self._home and program != "mvn"
        return shutil.which(program, path=f"{self._home}/bin" if in_home else self._path)

    def _program(self, name: str) -> Path:
        found = self._find(name)
        assert found is not None, f"{name} was required before"
        return Path(found)


def _unusable(reason: str, remedy: str) -> StackError:
    return StackError(f"Elasticsearch cannot run here: {reason}.\n{remedy}")


def _version(java: str) -> int:
    """The major version of a `java`; 0 when it does not tell."""
    try:
        shown = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=30
        ).stderr
    except (OSError, subprocess.TimeoutExpired):
        return 0
    # "17.0.15", "21-ea", and "1.8.0_402" for version 8.
    found = re.search(r'version "(?:1\.)?(\d+)', shown)
    return int(found.group(1)) if found else 0
