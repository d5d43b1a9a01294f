"""Builds the Elasticsearch node into the user's cache, once for each state of its sources."""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from dev.stack import processes
from dev.stack.errors import StackError
from dev.stack.toolchain import Toolchain

SOURCES = Path(__file__).parents[1] / "elasticsearch"
"""The Maven project."""


def elasticsearch_version() -> str:
    """The version that the Maven project asks for."""
    pom = (SOURCES / "pom.xml").read_text()
    found = re.search(r"<elasticsearch.version>([^<]+)<", pom)
    assert found, "pom.xml names the version"
    return found.group(1)


def node_folder(environment: Mapping[str, str]) -> Path:
    """Where the built node is or will be: shared by all checkouts whose sources are the same."""
    home = environment.get("HOME") or os.path.expanduser("~")
    cache = Path(environment.get("XDG_CACHE_HOME") or Path(home) / ".cache") / "pg-es-pipeline"
    return cache / f"elasticsearch-{elasticsearch_version()}-{_digest()}"


def built_node(environment: Mapping[str, str], toolchain: Toolchain, console: Console) -> Path:
    """The folder of the built node, which is built first if it is missing. Raises StackError."""
    node = node_folder(environment)
    if node.exists():
        return node
    node.parent.mkdir(parents=True, exist_ok=True)
    with _locked(node.with_name(node.name + ".lock")):
        if not node.exists():
            _build(node, toolchain, console)
    return node


def _build(node: Path, toolchain: Toolchain, console: Console) -> None:
    began = time.monotonic()
    maven, environment = toolchain.maven()
    title = f"Elasticsearch {elasticsearch_version()}"
    console.print(
        f"{title} · building the node (downloads about 75 MB the first time)",
        highlight=False,
        soft_wrap=True,
    )
    log = node.with_name(node.name + ".log")
    # Beside the final place, because a rename is atomic only within one file system.
    with tempfile.TemporaryDirectory(dir=node.parent, prefix="build-") as folder:
        project = Path(folder) / "project"
        shutil.copytree(SOURCES, project, ignore=shutil.ignore_patterns("target"))
        with log.open("wb") as output:
            done = subprocess.run(
                [maven, "--batch-mode", "--no-transfer-progress", "package"],
                cwd=project,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        if done.returncode != 0:
            raise StackError(
                f"{title} could not be built: Maven failed.\n"
                "If the network is the reason, try `pg-es stack up` again, or name a running "
                f"server with ES_HOST.\n{processes.tail(log)}"
            )
        (project / "target" / "node").rename(node)
    console.print(
        f"{title} · built in {time.monotonic() - began:.0f} s", highlight=False, soft_wrap=True
    )


def _digest() -> str:
    digest = hashlib.sha256()
    for file in sorted([SOURCES / "pom.xml", *(SOURCES / "src").rglob("*")]):
        if file.is_file():
            digest.update(str(file.relative_to(SOURCES)).encode() + b"\0")
            digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()[:8]


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Holds the file's lock; the system lets go of it when this process ends, however it ends."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
