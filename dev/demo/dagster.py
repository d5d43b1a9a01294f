"""Dagster as the demo runs it, and what its webserver tells through GraphQL."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.demo import web
from dev.demo.errors import DemoError
from dev.demo.services import HOST, Services, free_port, listens

SENSOR = "sync_changes"

_LOCATION = "pg_es_pipeline"
# The daemon and the webserver share one code server; `dagster dev` starts more, one by one.
_WORKSPACE = "docker/workspace.yaml"
_QUERIES = Path(__file__).with_name("dagster.graphql").read_text()
_CANCEL_SECONDS = 5.0


@dataclass(frozen=True)
class Run:
    """A run and how far it is."""

    id: str
    job: str
    status: str

    @property
    def is_over(self) -> bool:
        return self.status in ("SUCCESS", "FAILURE", "CANCELED")


@dataclass(frozen=True)
class Tick:
    """A look of the sensor for changes."""

    is_over: bool
    runs: frozenset[str]
    note: str
    """Why no run was asked for."""


@dataclass(frozen=True)
class Load:
    """The figures of a partition's load; `seconds` is the time of the load itself."""

    rows: int
    seconds: float
    memory: int = 0
    """Megabytes that the process of the run had at most, Dagster's part included."""


@dataclass(frozen=True)
class Event:
    """What a run has reported; of a partition where `index` is set."""

    kind: str
    message: str
    index: str
    partition: str
    load: Load | None


class Dagster:
    """A code server, a webserver and a daemon over the instance in `.dagster`."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._code_port = free_port()
        self._webserver_port = free_port(3000)
        self._began = 0.0
        self._cursors: dict[str, str] = {}
        self.url = f"http://{HOST}:{self._webserver_port}"

    def start_code_server(self) -> None:
        """The runs will be its children."""
        self._services.start(
            "dagster",
            *("api", "grpc", "--host", HOST, "--port", str(self._code_port)),
            *("--module-name", "pg_es_pipeline.definitions"),
        )

    def start(self) -> None:
        """Starts the other two. From now on the sensor ticks, and runs are started."""
        # A code server that does not listen yet would be taken for broken.
        self._services.wait("dagster", lambda: listens(self._code_port))
        port = str(self._webserver_port)
        self._start_beside("dagster-webserver", "--host", HOST, "--port", port)
        self._services.wait("dagster-webserver", lambda: listens(self._webserver_port))
        # What a killed demo has left under way: for the sensor it would go on for a day.
        self._terminate(self._under_way(), "MARK_AS_CANCELED_IMMEDIATELY")
        self._began = time.time()
        self._start_beside("dagster-daemon", "run")

    def stop(self) -> None:
        """Ends the runs, as cancelled, and the three processes."""
        self._services.stop("dagster-daemon")
        try:
            self._terminate(self._under_way(), "SAFE_TERMINATE")
            deadline = time.monotonic() + _CANCEL_SECONDS
            while (left := self._under_way()) and time.monotonic() < deadline:
                time.sleep(0.2)
            self._terminate(left, "MARK_AS_CANCELED_IMMEDIATELY")
        except DemoError:
            # The webserver has not come up, or is what has failed.
            pass
        self._services.stop("dagster-webserver", "dagster")

    def runs(self) -> list[Run]:
        """The runs in which something has happened since the daemon's start."""
        return self._runs("RunsUpdatedSince", since=self._began)

    def tick(self) -> Tick | None:
        """The sensor's last tick since the daemon's start. Raises DemoError when it failed."""
        sensor = {
            "repositoryName": "__repository__",
            "repositoryLocationName": _LOCATION,
            "sensorName": SENSOR,
        }
        [*ticks] = self._ask("LastTick", sensor=sensor)["sensorState"]["ticks"]
        if not ticks or ticks[0]["timestamp"] < self._began:
            return None
        [tick] = ticks
        if tick["status"] == "FAILURE":
            raise DemoError(f"the sensor {SENSOR} has failed: {tick['error']['message'].strip()}")
        return Tick(
            tick["status"] != "STARTED", frozenset(tick["runIds"]), tick["skipReason"] or ""
        )

    def events(self, run: Run) -> Iterator[Event]:
        """What the run has reported since the last call."""
        more = True
        while more:
            page = self._ask("Events", run=run.id, cursor=self._cursors.get(run.id))
            self._cursors[run.id] = page["cursor"]
            more = page["hasMore"]
            yield from map(_event, page["events"])

    def last_loads(self, indices: Sequence[str]) -> dict[str, list[Load | None]]:
        """The last load of each partition, by index; None where Dagster knows of none."""
        nodes = self._ask("LastLoads", indices=[{"path": [index]} for index in indices])
        return {
            node["assetKey"]["path"][-1]: [
                _load(event) for event in node["latestMaterializationByPartition"]
            ]
            for node in nodes
        }

    def _start_beside(self, program: str, *arguments: str) -> None:
        self._services.start(
            program,
            *(*arguments, "--workspace", _WORKSPACE),
            DAGSTER_GRPC_PORT=str(self._code_port),
        )

    def _under_way(self) -> list[Run]:
        return self._runs("RunsUnderWay")

    def _runs(self, operation: str, **variables: object) -> list[Run]:
        return [
            Run(run["runId"], run["jobName"], run["status"])
            for run in self._ask(operation, **variables)["results"]
        ]

    def _terminate(self, runs: Sequence[Run], policy: str) -> None:
        if runs:
            self._ask("Terminate", runs=[run.id for run in runs], policy=policy)

    def _ask(self, operation: str, **variables: object) -> Any:
        """The one field of the answer. Raises DemoError."""
        answer = web.post(
            f"{self.url}/graphql",
            {"query": _QUERIES, "operationName": operation, "variables": variables},
        )
        if errors := answer.get("errors"):
            raise DemoError(f"Dagster's webserver does not know {operation}: {errors}")
        [field] = answer["data"].values()
        if isinstance(field, dict) and "message" in field:
            raise DemoError(f"Dagster's webserver: {field['message']}")
        return field


def _event(event: dict[str, Any]) -> Event:
    path = (event.get("assetKey") or {}).get("path") or [""]
    return Event(
        event["__typename"],
        _message(event),
        index=path[-1],
        partition=event.get("partition") or "",
        load=_load(event),
    )


def _message(event: dict[str, Any]) -> str:
    """The message, of a failure the reason alone."""
    described = (event.get("failureMetadata") or {}).get("description")
    failed = (event.get("error") or {}).get("message")
    return str(described or failed or event["message"]).strip()


def _load(event: dict[str, Any] | None) -> Load | None:
    """The figures among an event's metadata."""
    figures = {
        entry["label"]: entry.get("intValue", entry.get("floatValue"))
        for entry in (event or {}).get("metadataEntries", ())
    }
    if figures.get("rows") is None:
        return None
    memory = figures.get("peak_memory_mb") or 0
    return Load(figures["rows"], figures.get("seconds") or 0.0, memory)
