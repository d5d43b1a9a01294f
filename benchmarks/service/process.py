"""The service as it is run: with a key, a policy and limits in force."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.child import ROOT, cpu, memory
from benchmarks.servers import Servers
from dev.demo.services import free_port
from search_service.access import keys

CLAIMS = {"statuses": ["new", "paid", "sent"]}

RULES: dict[str, Any] = {
    "roles": {
        "sales": {
            "indices": {
                "*": {"hide": ["email", "street"], "rows": {"status": {"claim": "statuses"}}}
            },
            "rate": "100000/second;5000000/minute",
        }
    }
}
"""A role that hides fields and rows, and a rate that is counted, but not reached."""

_START = 60.0  # seconds


@dataclass(frozen=True)
class Service:
    """A running service."""

    host: str
    port: int
    key: str
    pid: int

    @property
    def address(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def memory(self) -> float:
        """MB of all its processes."""
        return sum(memory("VmRSS", pid) for pid in self.processes)

    @property
    def cpu(self) -> float:
        """CPU seconds of all its processes so far."""
        return sum(map(cpu, self.processes))

    @property
    def processes(self) -> list[int]:
        """Itself and those that it has started."""
        return list(_family(self.pid))


def _family(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            yield from _family(int(child))


@contextmanager
def running(servers: Servers, workers: int) -> Iterator[Service]:
    """The service with so many workers, until the end of the block."""
    made = keys.make()
    entry = {"name": "bench", "id": made.id, "sha256": made.sha256, "roles": ["sales"]}
    rules = servers.folder / "access.yaml"
    rules.write_text(yaml.safe_dump({**RULES, "keys": [{**entry, "claims": CLAIMS}]}))
    port = free_port()
    with (servers.folder / "logs" / "search.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "search_service"],
            cwd=servers.folder,
            env={
                **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
                "PYTHONPATH": str(ROOT),
                **servers.variables,
                "SEARCH_PORT": str(port),
                "SEARCH_WORKERS": str(workers),
                "SEARCH_ACCESS": str(rules),
            },
            stdout=log,
            stderr=log,
        )
    try:
        _await(process, port, Path(log.name))
        yield Service("127.0.0.1", port, made.text, process.pid)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    end = time.monotonic() + _START
    while process.poll() is None and time.monotonic() < end:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    raise RuntimeError(f"the search service does not start:\n{log.read_text()[-3000:]}")
