"""How much is sent at once, and how fast: within bounds, and all runs together within the limit."""

import threading
import time
from dataclasses import dataclass, field

import pytest
from elasticsearch import Elasticsearch

from pg_es_pipeline.settings import BatchingSettings
from pg_es_pipeline.sync import throttle
from pg_es_pipeline.sync.pressure import Signs
from pg_es_pipeline.sync.throttle import (
    FAIR_SECONDS,
    QUICK_SECONDS,
    SLOW_SECONDS,
    Flow,
    RateLimit,
)

QUICK, FAIR = QUICK_SECONDS / 2, (QUICK_SECONDS + FAIR_SECONDS) / 2
MIDDLING, SLOW = (FAIR_SECONDS + SLOW_SECONDS) / 2, SLOW_SECONDS * 2


def flow(smallest: int = 100, largest: int = 10_000, connections: int = 8) -> Flow:
    """Of nodes that have said that they have time."""
    made = Flow(smallest, largest, connections)
    made.look(Signs())
    return made


def after(one: Flow, seconds: float, retried: str | None = None, times: int = 1) -> Flow:
    """After so many requests, each begun when the one before was answered."""
    for _ in range(times):
        one.done(time.monotonic(), seconds, retried)
    return one


def test_quick_requests_send_more_up_to_the_bounds() -> None:
    one = flow()
    before = one.documents, one.connections
    assert after(one, QUICK).documents > before[0]
    after(one, QUICK, times=200)
    assert (one.documents, one.connections) == (10_000, 8)
    assert one.throttled == {}


@pytest.mark.parametrize("trouble", [(SLOW, None), (QUICK, "status 429"), (MIDDLING, "cut off")])
def test_trouble_sends_less_down_to_the_bounds(trouble: tuple[float, str | None]) -> None:
    one = flow()
    documents, connections = one.documents, one.connections
    after(one, *trouble)
    assert (one.documents, one.connections) == (documents // 2, max(1, connections // 2))
    after(one, *trouble, times=20)
    assert (one.documents, one.connections) == (100, 1)
    assert one.throttled.total() == 21


def test_one_trouble_takes_back_many_gains() -> None:
    one = flow()
    gained = after(one, QUICK).documents
    top = after(one, QUICK, times=200).documents
    assert top - after(one, SLOW).documents > gained - 2_000


def test_what_was_sent_before_less_was_is_no_second_trouble() -> None:
    one = flow()
    began = time.monotonic()
    for _ in range(5):
        one.done(began, SLOW)
    assert one.throttled.total() == 1


def test_a_slow_request_that_later_ones_have_overtaken_is_no_trouble() -> None:
    one = flow()
    before = one.documents, one.connections
    began = time.monotonic()
    one.done(began, FAIR)
    one.done(began - 1, SLOW)
    assert (one.documents, one.connections) == before
    assert after(one, SLOW).throttled.total() == 1


def test_after_trouble_quick_requests_bring_all_of_it_back() -> None:
    one = after(flow(), SLOW, times=20)
    # A small request takes a few hundredths of a second: these are well within ten seconds.
    assert after(one, QUICK, times=60).documents == 10_000
    assert one.connections == 8


def test_a_request_that_is_still_under_way_is_trouble_when_it_is_slow_already() -> None:
    one = flow()
    documents = one.documents
    one.waiting(time.monotonic() - MIDDLING)
    assert one.documents == documents
    one.waiting(time.monotonic() - SLOW)
    assert one.documents == documents // 2


def test_a_node_without_processor_time_is_given_back_what_it_began_with() -> None:
    one = flow()
    first = one.documents, one.connections
    after(one, SLOW, times=20)
    one.look(Signs(busy=True))
    after(one, QUICK, times=200)
    assert (one.documents, one.connections) == first


def test_after_trouble_fair_requests_bring_back_what_it_began_with() -> None:
    """Elasticsearch is slow for seconds when it has segments to write, and then as fast as before,
    which for large documents is not quick."""
    one = flow()
    first = one.documents, one.connections
    after(one, FAIR, times=50)
    assert (one.documents, one.connections) == first
    after(one, SLOW, times=20)
    after(one, FAIR, times=50)
    assert (one.documents, one.connections) == first


@pytest.mark.parametrize("seconds", [FAIR, QUICK])
def test_what_quick_requests_brought_goes_again_when_they_or_the_nodes_have_no_time(
    seconds: float,
) -> None:
    one = flow()
    first = one.documents, one.connections
    gained = after(one, QUICK, times=20).documents
    assert one.connections > first[1]
    one.look(Signs(busy=seconds == QUICK))
    assert after(one, seconds).documents < gained
    after(one, seconds, times=50)
    assert (one.documents, one.connections) == first


def test_until_the_nodes_have_said_that_they_have_time_they_are_not_sent_more() -> None:
    one = Flow(100, 10_000, 8)
    first = one.documents, one.connections
    after(one, QUICK, times=50)
    assert (one.documents, one.connections) == first


def test_a_middling_request_changes_nothing() -> None:
    one = flow()
    before = one.documents, one.connections
    after(one, MIDDLING)
    assert (one.documents, one.connections) == before


def test_a_node_without_processor_time_is_not_sent_more() -> None:
    one = flow()
    before = one.documents, one.connections
    one.look(Signs(busy=True))
    after(one, QUICK, times=50)
    assert (one.documents, one.connections) == before
    one.look(Signs(busy=False))
    assert after(one, QUICK).documents > before[0]


def test_a_node_in_trouble_is_sent_less_and_the_reason_is_kept() -> None:
    one = flow()
    documents = one.documents
    one.look(Signs(trouble="its heap is nearly full"))
    assert one.documents == documents // 2
    assert one.throttled == {"its heap is nearly full": 1}


@pytest.mark.parametrize(("smallest", "largest"), [(1, 1), (1, 10), (5_000, 9_000), (10, 300)])
def test_sizes_are_within_the_bounds_from_the_start(smallest: int, largest: int) -> None:
    one = flow(smallest, largest, connections=2)
    seen = [one.documents]
    for seconds in [QUICK] * 99 + [SLOW] * 15:
        seen.append(after(one, seconds).documents)
        assert 1 <= one.connections <= 2
    assert all(smallest <= documents <= largest for documents in seen)
    assert max(seen) == largest
    assert seen[-1] == smallest


@pytest.mark.parametrize(
    ("rate", "largest"),
    [(0, 10_000), (500, 500), (50_000, 10_000), (20, 100)],
)
def test_a_rate_limit_bounds_the_batch_to_a_seconds_worth(rate: int, largest: int) -> None:
    """But never to less than MIN_BATCH_SIZE."""
    one = Flow.of(BatchingSettings(rate_limit=rate, min_batch_size=100))
    one.look(Signs())
    assert after(one, QUICK, times=100).documents == largest


@dataclass
class Clock:
    """Stands still, and notes who wanted to wait."""

    now: float = 1_700_000_000.0
    waits: list[float] = field(default_factory=list)

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    stopped = Clock()
    monkeypatch.setattr(throttle, "time", stopped)
    return stopped


def test_two_runs_together_are_given_no_more_than_the_rate(
    es: Elasticsearch, prefix: str, clock: Clock
) -> None:
    first, second = (RateLimit(es, f"{prefix}rate", 100) for _ in range(2))
    turns = [limit.wait(50) for limit in (first, second, second, first)]
    assert turns == pytest.approx([0, 0.5, 1.0, 1.5])
    assert clock.waits == turns


def test_runs_that_reserve_at_the_same_moment_do_not_share_a_turn(
    es: Elasticsearch, prefix: str, clock: Clock
) -> None:
    turns: list[float] = []

    def run() -> None:
        limit = RateLimit(es, f"{prefix}rate", 10)
        turns.extend(limit.wait(10) for _ in range(5))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(turns) == pytest.approx(range(20))


def test_time_that_nobody_used_is_not_saved_up(
    es: Elasticsearch, prefix: str, clock: Clock
) -> None:
    limit = RateLimit(es, f"{prefix}rate", 100)
    limit.wait(100)
    clock.now += 60
    assert [limit.wait(100), limit.wait(100)] == pytest.approx([0, 1])


def test_a_clock_that_was_ahead_holds_nobody_up_for_more_than_ten_minutes(
    es: Elasticsearch, prefix: str, clock: Clock
) -> None:
    limit = RateLimit(es, f"{prefix}rate", 100)
    clock.now += 365 * 86_400
    limit.wait(100)
    clock.now -= 365 * 86_400
    assert limit.wait(100) == pytest.approx(600)


def test_without_a_limit_nothing_is_reserved(es: Elasticsearch, prefix: str, clock: Clock) -> None:
    assert RateLimit(es, f"{prefix}rate", 0).wait(1_000_000) == 0
    assert clock.waits == []
    assert not es.indices.exists(index=f"{prefix}rate")
