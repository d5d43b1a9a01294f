"""Searches at a steady pace beside a load, and each without the other."""

import http.client
import json
import random
import statistics
import sys
import threading
import time
from typing import Any

from benchmarks import indices
from benchmarks.child import Child, ready, run
from benchmarks.plan import Plan
from benchmarks.records import Record, record
from benchmarks.servers import Servers

CLIENTS = 4
EACH_PER_SECOND = 5.0
ALONE_SECONDS = 20

SEARCHED, LOADED = "narrow", "wide"

_ALONE, _LOAD, _BOTH = "searches alone", "load alone", "both"


def measure(servers: Servers, plan: Plan) -> list[Record]:
    """Searches of one index while another is loaded, the searches alone, the load alone."""
    indices.delete(servers, SEARCHED)
    run("engine:load", servers, table=SEARCHED)
    milliseconds: dict[str, list[list[float]]] = {_ALONE: [], _BOTH: []}
    speeds: dict[str, list[float]] = {_LOAD: [], _BOTH: []}
    _search_alone(servers, plan)  # The first searches find nothing in memory.
    for number in range(plan.rounds):
        for work in plan.rng.sample([_ALONE, _LOAD, _BOTH], 3):
            if work == _ALONE:
                milliseconds[work].append(_search_alone(servers, plan))
            else:
                child = _searching(servers, plan) if work == _BOTH else None
                indices.delete(servers, LOADED)
                found = run("engine:load", servers, table=LOADED)
                speeds[work].append(found["rows"] / found["seconds"])
                if child:
                    milliseconds[work].append(child.result()["milliseconds"])
            plan.say(f"round {number + 1}: {work}")
    for index in (SEARCHED, LOADED):
        indices.delete(servers, index)
    records = []
    for figure, share in (("p50", 50), ("p99", 99)):
        alone, beside = (
            [statistics.quantiles(one, n=100, method="inclusive")[share - 1] for one in of_work]
            for of_work in (milliseconds[_ALONE], milliseconds[_BOTH])
        )
        reference = f"searches alone · {figure}"
        records += [
            record(reference, "ms", alone),
            record(f"searches beside a load · {figure}", "ms", beside, reference, alone),
        ]
    reference = f"load of {LOADED} alone · speed"
    return [
        *records,
        record(reference, "docs/s", speeds[_LOAD]),
        record(
            f"load of {LOADED} beside searches · speed",
            "docs/s",
            speeds[_BOTH],
            reference,
            speeds[_LOAD],
        ),
    ]


def _search_alone(servers: Servers, plan: Plan) -> list[float]:
    child = _searching(servers, plan)
    time.sleep(max(1, ALONE_SECONDS * min(1, plan.scale)))
    found: list[float] = child.result()["milliseconds"]
    return found


def _searching(servers: Servers, plan: Plan) -> Child:
    """A process that searches until its result is asked for."""
    seed = plan.rng.randrange(2**32)
    child = Child("search:searches", servers, index=SEARCHED, seed=seed)
    child.wait_until_ready()
    return child


def searches(servers: Servers, index: str, seed: int) -> dict[str, Any]:
    """Filtered and sorted searches of the narrow table until the end of the input.

    A search's milliseconds are counted from the moment that it was due: one that had to wait for
    the search before it has taken so much longer.
    """
    over = threading.Event()
    clients = [
        _Client(servers, index, random.Random(seed + number), over)  # noqa: S311
        for number in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    ready()
    sys.stdin.read()
    over.set()
    for client in clients:
        client.join()
        if client.failure:
            raise client.failure
    return {"milliseconds": [one for client in clients for one in client.milliseconds]}


class _Client(threading.Thread):
    def __init__(
        self, servers: Servers, index: str, rng: random.Random, over: threading.Event
    ) -> None:
        super().__init__()
        self._address = servers.variables["ES_HOST"], int(servers.variables["ES_PORT"])
        self._path = f"/{index}/_search?filter_path=timed_out,_shards.failed,hits.hits._id"
        self._rng = rng
        self._over = over
        self.milliseconds: list[float] = []
        self.failure: Exception | None = None

    def run(self) -> None:
        try:
            self._search_until_over()
        except Exception as failure:
            self.failure = failure

    def _search_until_over(self) -> None:
        connection = http.client.HTTPConnection(*self._address, timeout=120)
        due = time.monotonic() + self._rng.uniform(0, 1 / EACH_PER_SECOND)
        while not self._over.wait(max(0.0, due - time.monotonic())):
            connection.request(
                "POST",
                self._path,
                body=json.dumps(self._query()),
                headers={"content-type": "application/json"},
            )
            answer = connection.getresponse()
            content = json.loads(answer.read())
            self.milliseconds.append((time.monotonic() - due) * 1000)
            if answer.status != 200 or content["timed_out"] or content["_shards"]["failed"]:
                raise RuntimeError(f"a search failed: {answer.status} {content}")
            due += 1 / EACH_PER_SECOND
        connection.close()

    def _query(self) -> dict[str, Any]:
        lowest = self._rng.randrange(900)
        return {
            "size": 20,
            "query": {
                "bool": {
                    "filter": [
                        {"term": {"status": self._rng.choice(["new", "paid", "sent", "done"])}},
                        {"range": {"amount": {"gte": lowest, "lt": lowest + 100}}},
                    ]
                }
            },
            "sort": [{"placed": "desc"}, "id"],
        }
