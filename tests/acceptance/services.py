"""Dagster's own commands, webserver and daemon over the project's definitions."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DEADLINE = 90

Environment = dict[str, str]


def bare_environment() -> Environment:
    """This process's environment without anything that names a server or an instance."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG_", "ES_", "DAGSTER"))
    }


def dagster(environment: Environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "dagster"), *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.1)


class Services:
    """A webserver and a daemon over the project."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.log = folder / "services.log"
        self._processes = []
        with self.log.open("w") as log:
            for command in (
                ["dagster-webserver", "-h", "127.0.0.1", "-p", str(self.port)],
                ["dagster-daemon", "run"],
            ):
                self._processes.append(
                    subprocess.Popen(
                        [str(BIN / command[0]), *command[1:], "-w", str(ROOT / "workspace.yaml")],
                        cwd=ROOT,
                        env=environment,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )

    def stop(self) -> None:
        for process in self._processes:
            os.killpg(process.pid, signal.SIGTERM)
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/graphql",
            json.dumps({"query": text, "variables": variables}).encode(),
            {"content-type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30) as answer:
            data: dict[str, Any] = json.load(answer)["data"]
        return data

    def selector(self, job: str) -> dict[str, str]:
        """The job of that name, as GraphQL takes it."""
        [node] = self.query(
            "{ repositoriesOrError { ... on RepositoryConnection"
            " { nodes { name location { name } } } } }"
        )["repositoriesOrError"]["nodes"]
        location = node["location"]["name"]
        return {
            "repositoryLocationName": location,
            "repositoryName": node["name"],
            "jobName": job,
        }

    def is_up(self) -> bool:
        try:
            nodes = self.query(
                "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
            )
        except OSError:
            return False
        return bool(nodes["repositoriesOrError"]["nodes"])

    def runs(self) -> list[dict[str, Any]]:
        found = self.query(
            "{ runsOrError { ... on Runs {"
            " results { runId jobName status tags { key value } } } } }"
        )
        results: list[dict[str, Any]] = found["runsOrError"]["results"]
        return results


@contextmanager
def running(environment: Environment, folder: Path) -> Iterator[Services]:
    started = Services(environment, folder)
    try:
        wait_until(started.is_up, "Dagster to start")
        yield started
    finally:
        started.stop()
