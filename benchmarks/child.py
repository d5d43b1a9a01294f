"""Pieces of work in processes of their own, and what each of them cost.

A task is a function of this package, `module:function`, called with the servers and what else it
is given. It puts its work into `with measured() as cost`, and returns what comes back to the
benchmark: a dictionary.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

from benchmarks.servers import Servers

ROOT = Path(__file__).parents[1]


@dataclass
class Cost:
    """What a piece of work took."""

    seconds: float = 0.0
    cpu: float = 0.0
    """CPU seconds of this process, of the user and of the system."""
    idle: float = 0.0
    """MB of memory right before."""
    peak: float = 0.0
    """MB of memory at most, meanwhile."""
    began: float = 0.0


@contextmanager
def measured() -> Iterator[Cost]:
    gc.collect()
    # The peak so far is forgotten; without the right to that, it is the process's.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    cost = Cost(idle=memory("VmRSS"), began=time.monotonic())
    cpu = time.process_time()
    yield cost
    cost.seconds = time.monotonic() - cost.began
    cost.cpu = time.process_time() - cpu
    cost.peak = memory("VmHWM")


def memory(field: str, pid: int | Literal["self"] = "self") -> float:
    """MB of a process, as `/proc` calls them."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(field)


def cpu(pid: int) -> float:
    """CPU seconds of a process so far, of the user and of the system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Child:
    """A process that does a task. What it waits for is the end of its input, if anything."""

    def __init__(self, task: str, servers: Servers, **given: Any) -> None:
        self._began = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child"],
            # Nothing of the surroundings is to change what is measured: no .env, no variables.
            cwd=servers.folder,
            env={
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                "PYTHONPATH": str(ROOT),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        order = {
            "task": task,
            "folder": str(servers.folder),
            "variables": dict(servers.variables),
            "given": given,
        }
        self._input.write(json.dumps(order) + "\n")
        self._input.flush()

    @property
    def _input(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    def wait_until_ready(self) -> None:
        """Until the task says so, by `ready()`."""
        assert self._process.stdout is not None
        self._process.stdout.readline()

    def result(self) -> dict[str, Any]:
        """Ends its input, and takes what the task returns. Raises RuntimeError when it failed."""
        try:
            output, errors = self._process.communicate()
        except BaseException:
            self._process.kill()
            self._process.wait()
            raise
        if self._process.returncode:
            raise RuntimeError(f"a process of the benchmark has failed:\n{errors}")
        found: dict[str, Any] = json.loads(output.splitlines()[-1])
        if "began" in found:
            found["start"] = found["began"] - self._began
        return found


def run(task: str, servers: Servers, **given: Any) -> dict[str, Any]:
    """Does a task in a process of its own, from its beginning to its end."""
    return Child(task, servers, **given).result()


def ready() -> None:
    """Tells the benchmark that the task is about to begin."""
    print(flush=True)


def _main() -> None:
    order = json.loads(sys.stdin.readline())
    module, _, name = order["task"].partition(":")
    task = getattr(importlib.import_module(f"benchmarks.{module}"), name)
    result = task(Servers(Path(order["folder"]), order["variables"]), **order["given"])
    print(json.dumps(result))


if __name__ == "__main__":
    _main()
