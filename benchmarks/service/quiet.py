"""The service's own time, one request after the other; and what each feature costs."""

import http.client
import json
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from benchmarks.indices import WrongAnswer
from benchmarks.records import Record, record
from benchmarks.service.asked import INDEX, Asked, wanted
from benchmarks.service.plan import Bench

REQUESTS = 1_000
CHECKED = 50
"""So many answers are compared with Elasticsearch's, and warm both up."""

FEATURE_REQUESTS = 100
_WALKS = 10

_DIRECT, _SERVICE = "Elasticsearch", "service"
_PART = 65_536
_SHARES = {"p50": 50, "p99": 99}

REFUSALS = (429, 503)
"""HTTP statuses of who is turned away."""


class TurnedAway(WrongAnswer):
    """The service had no room for a request."""


class Connection:
    """A kept connection, over which one request is made after the other."""

    def __init__(self, address: str) -> None:
        host = urlsplit(address)
        self._connection = http.client.HTTPConnection(
            host.hostname or "", host.port or 80, timeout=60
        )
        self.milliseconds = 0.0
        """Of the last request."""

    def ask(self, asked: Asked, *, status: int = 200) -> bytes:
        """The body of the answer. Raises WrongAnswer when it has another status."""
        began = time.perf_counter()
        content = b"".join(self.parts(asked, status=status))
        self.milliseconds = (time.perf_counter() - began) * 1000
        return content

    def parts(self, asked: Asked, *, status: int = 200) -> Iterator[bytes]:
        """The same in parts as they come."""
        self._connection.request(asked.method, asked.path, asked.body or None, asked.head)
        answer = self._connection.getresponse()
        if answer.status != status:
            content = answer.read()
            kind = TurnedAway if answer.status in REFUSALS else WrongAnswer
            raise kind(f"{asked.method} {asked.path}: {answer.status} {content[:500]!r}")
        while part := answer.read(_PART):
            yield part


def measure(bench: Bench) -> list[Record]:
    """The same searches of both, alternating, over one connection each."""
    direct, service = Connection(bench.elasticsearch), Connection(bench.service.address)
    pairs = list(zip(bench.searches.of_elasticsearch, bench.searches.of_service, strict=True))
    for of_direct, of_service in pairs[:CHECKED]:
        _require_same(direct.ask(of_direct), service.ask(of_service))
    bench.plan.say(f"{CHECKED} searches have the same answers")
    requests = max(20, round(REQUESTS * min(1.0, bench.length * 10)))
    found: dict[str, list[dict[str, float]]] = {_DIRECT: [], _SERVICE: []}
    for number in range(bench.plan.rounds):
        times: dict[str, list[float]] = {_DIRECT: [], _SERVICE: []}
        for of_direct, of_service in bench.plan.rng.choices(pairs, k=requests):
            turns = [(_DIRECT, direct, of_direct), (_SERVICE, service, of_service)]
            for who, connection, asked in bench.plan.rng.sample(turns, 2):
                connection.ask(asked)
                times[who].append(connection.milliseconds)
        for who, all_of_it in times.items():
            cuts = statistics.quantiles(all_of_it, n=100, method="inclusive")
            found[who].append({name: cuts[share - 1] for name, share in _SHARES.items()})
        own = found[_SERVICE][-1]["p50"] - found[_DIRECT][-1]["p50"]
        bench.plan.say(f"round {number + 1}: the service's own time, p50: {own:.2f} ms")
    records = []
    for name in _SHARES:
        by = {who: [one[name] for one in found[who]] for who in found}
        reference = f"one at a time · {_DIRECT} · {name}"
        records += [
            record(reference, "ms", by[_DIRECT]),
            record(
                f"one at a time · {_SERVICE} · {name}", "ms", by[_SERVICE], reference, by[_DIRECT]
            ),
            record(
                f"one at a time · own time · {name}",
                "ms",
                [one - other for one, other in zip(by[_SERVICE], by[_DIRECT], strict=True)],
            ),
        ]
    return records


def _require_same(direct: bytes, service: bytes) -> None:
    hits, found = json.loads(direct)["hits"], json.loads(service)
    if found["meta"]["total_records"] != hits["total"]["value"] or found["data"] != [
        hit["_source"] for hit in hits["hits"]
    ]:
        raise WrongAnswer(f"the service answers {service[:500]!r} to what is {direct[:500]!r}")


def features(bench: Bench) -> list[Record]:
    """The time of single features, each for the same search or one as near as there is."""
    connection = Connection(bench.service.address)
    found: dict[str, list[float]] = {}
    requests = max(5, round(FEATURE_REQUESTS * min(1.0, bench.length * 10)))
    for _ in range(bench.plan.rounds):
        for name, (asked, status) in _features(bench, connection).items():
            times = []
            for one in asked[:requests]:
                connection.ask(one, status=status)
                times.append(connection.milliseconds)
            found.setdefault(name, []).append(statistics.median(times))
    bench.plan.say(f"{len(found)} features")
    reference, *others = found
    return [record(_feature(reference), "ms", found[reference])] + [
        record(_feature(name), "ms", found[name], _feature(reference), found[reference])
        for name in others
    ]


def _feature(name: str) -> str:
    return f"feature · {name} · p50"


def _features(bench: Bench, connection: Connection) -> dict[str, tuple[list[Asked], int]]:
    bodies = [wanted(bench.plan.rng) for _ in range(FEATURE_REQUESTS)]
    ask = bench.searches.ask

    def searches(change: Callable[[dict[str, Any]], dict[str, Any]]) -> list[Asked]:
        return [ask("POST", "/search", {**body, **change(body)}) for body in bodies]

    counts = [
        ask("POST", "/search/count", {key: body[key] for key in ("index", "query_fields")})
        for body in bodies
    ]
    # Half of the documents: of them there is a second page in the smallest table, too.
    walks = [{**body, "query_fields": {"paid": True}} for body in bodies[:_WALKS]]
    cursors = []
    for walk in walks:
        begun = connection.ask(ask("POST", "/search", {**walk, "pagination": "cursor"}))
        cursor = json.loads(begun)["meta"]["next_cursor"]
        cursors.append(ask("POST", "/search", {**walk, "cursor": cursor}))
    ids = [one["id"] for one in json.loads(begun)["data"]]
    simple = [
        ask("GET", f"/search/{INDEX}?filter=status:{body['query_fields']['status']}&sort=-placed")
        for body in bodies
    ]
    return {
        "the search": (searches(lambda _: {}), 200),
        "three fields": (searches(lambda _: {"fields": ["id", "status", "amount"]}), 200),
        "hundred documents": (searches(lambda _: {"page_size": 100}), 200),
        "by its address": (simple, 200),
        "facet of status": (searches(lambda _: {"facets": {"status": {"type": "terms"}}}), 200),
        "facet of 900 cities": (searches(lambda _: {"facets": {"city": {"type": "terms"}}}), 200),
        "words (q)": (searches(lambda _: {"q": "city 12"}), 200),
        "words, highlighted": (searches(lambda _: {"q": "word", "highlight": True}), 200),
        "second page by a cursor": (cursors, 200),
        "count": (counts, 200),
        "a document": ([ask("GET", f"/indices/{INDEX}/documents/{id_}") for id_ in ids], 200),
        "suggestions": (
            [ask("GET", f"/search/{INDEX}/suggest?field=city&prefix=City%20{n}") for n in range(9)],
            200,
        ),
        "a mistake": (searches(lambda _: {"fields": ["email"]}), 422),
    }
