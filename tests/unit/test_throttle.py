"""How much is sent at once, and how fast: within bounds, and all runs together within the limit."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from elasticsearch import Elasticsearch

from pg_es_pipeline.settings import BatchingSettings
from pg_es_pipeline.sync import throttle
from pg_es_pipeline.sync.throttle import QUICK_SECONDS, SLOW_SECONDS, BatchSize, RateLimit

QUICK, MIDDLING, SLOW = QUICK_SECONDS / 2, (QUICK_SECONDS + SLOW_SECONDS) / 2, SLOW_SECONDS * 2


def sizes(size: BatchSize, *requests: tuple[float, int]) -> Iterator[int]:
    for seconds, retries in requests:
        size.done(seconds, retries)
        yield size.documents


def test_quick_requests_make_batches_larger_up_to_the_bound() -> None:
    size = BatchSize(100, 10_000)
    before = size.documents
    grown = list(sizes(size, *[(QUICK, 0)] * 200))
    assert before < grown[0] < grown[1]
    assert grown[-1] == 10_000
    assert max(grown) == 10_000


@pytest.mark.parametrize("trouble", [(SLOW, 0), (QUICK, 1)])
def test_trouble_makes_batches_smaller_down_to_the_bound(trouble: tuple[float, int]) -> None:
    size = BatchSize(100, 10_000)
    before = size.documents
    shrunk = list(sizes(size, *[trouble] * 20))
    assert shrunk[0] <= before // 2
    assert shrunk[-1] == min(shrunk) == 100


def test_one_trouble_takes_back_many_gains() -> None:
    size = BatchSize(100, 10_000)
    gained = next(sizes(size, (QUICK, 0))) - size.smallest
    *_, top = sizes(size, *[(QUICK, 0)] * 200)
    lost = top - next(sizes(size, (SLOW, 0)))
    assert lost > gained


def test_a_middling_request_changes_nothing() -> None:
    size = BatchSize(100, 10_000)
    before = size.documents
    assert list(sizes(size, (MIDDLING, 0))) == [before]


@pytest.mark.parametrize(("smallest", "largest"), [(1, 1), (1, 10), (5_000, 9_000), (10, 300)])
def test_sizes_are_within_the_bounds_from_the_start(smallest: int, largest: int) -> None:
    size = BatchSize(smallest, largest)
    seen = [size.documents, *sizes(size, *[(QUICK, 0)] * 99, *[(SLOW, 0)] * 9)]
    assert all(smallest <= documents <= largest for documents in seen)
    assert max(seen) == largest
    assert seen[-1] == smallest


@pytest.mark.parametrize(
    ("rate", "largest"),
    [(0, 10_000), (500, 500), (50_000, 10_000), (20, 100)],
)
def test_a_rate_limit_bounds_the_batch_to_a_seconds_worth(rate: int, largest: int) -> None:
    """But never to less than MIN_BATCH_SIZE."""
    size = BatchSize.of(BatchingSettings(rate_limit=rate, min_batch_size=100))
    assert [*sizes(size, *[(QUICK, 0)] * 100)][-1] == largest


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
