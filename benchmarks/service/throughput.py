"""How many searches a second, with a few connections that are never idle."""

from collections.abc import Callable
from functools import partial
from operator import attrgetter

from benchmarks.child import cpu as cpu_of
from benchmarks.indices import WrongAnswer
from benchmarks.records import Record, record
from benchmarks.service import relay
from benchmarks.service.plan import CONNECTIONS, Bench
from benchmarks.service.wrk import Answers

SECONDS = 10

_DIRECT, _SERVICE, _RELAY = "Elasticsearch", "service", "bare relay"


def measure(bench: Bench) -> list[Record]:
    """The service, Elasticsearch by itself, and a relay, in turn. Raises WrongAnswer if one
    fails."""
    with relay.running(bench.servers) as address:
        return _measure(bench, address)


def _measure(bench: Bench, relay_address: str) -> list[Record]:
    seconds = max(1.0, SECONDS * min(1.0, bench.length * 10))
    ask: dict[str, Callable[[float], Answers]] = {
        _DIRECT: bench.ask_elasticsearch,
        _SERVICE: bench.ask_service,
        _RELAY: partial(bench.ask_elasticsearch, address=relay_address),
    }
    found: dict[str, list[Answers]] = {who: [] for who in ask}
    cpu: dict[str, list[float]] = {_DIRECT: [], _SERVICE: []}
    for number in range(bench.plan.rounds):
        for who in bench.plan.rng.sample(list(ask), len(ask)):
            before = _cpu(bench)
            answers = ask[who](seconds)
            if answers.refused or answers.broken:
                raise WrongAnswer(
                    f"{who}: {answers.refused} of {answers.total} searches were refused, "
                    f"{answers.broken} had no answer."
                )
            found[who].append(answers)
            after = _cpu(bench)
            for whose, seconds_before in before.items():
                if who == _SERVICE:
                    taken = after[whose] - seconds_before
                    cpu[whose].append(taken / answers.total * 1000)
            bench.plan.say(f"round {number + 1}: {who}, {answers.per_second:,.0f} searches/s")
    records = []
    figures: tuple[tuple[str, str, Callable[[Answers], float]], ...] = (
        ("searches", "requests/s", attrgetter("per_second")),
        ("p50", "ms", attrgetter("p50")),
        ("p99", "ms", attrgetter("p99")),
    )
    for figure, unit, of in figures:
        name = f"{CONNECTIONS} connections · {{}} · {figure}"
        values = {who: [of(one) for one in answers] for who, answers in found.items()}
        reference, direct = name.format(_DIRECT), values.pop(_DIRECT)
        records.append(record(reference, unit, direct))
        for who, others in values.items():
            records.append(record(name.format(who), unit, others, reference, direct))
    name = f"{CONNECTIONS} connections · CPU of {{}} for a search"
    reference = name.format(_DIRECT)
    return [
        *records,
        record(reference, "CPU ms", cpu[_DIRECT]),
        record(name.format("the service"), "CPU ms", cpu[_SERVICE], reference, cpu[_DIRECT]),
    ]


def _cpu(bench: Bench) -> dict[str, float]:
    """CPU seconds so far."""
    return {_DIRECT: cpu_of(bench.servers.elasticsearch_pid), _SERVICE: bench.service.cpu}
