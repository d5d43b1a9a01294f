"""Rates: what is counted, when it is refused, and what the headers say."""

import random

import pytest

from search_service.limits import Limiter, Memory, Rate, judge, parse_rates

pytestmark = pytest.mark.anyio

TEN = (Rate(10, 1),)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("100/second", (Rate(100, 1),)),
        ("100/second;1000/minute", (Rate(100, 1), Rate(1000, 60))),
        ("1/hour; 2/day", (Rate(1, 3600), Rate(2, 86400))),
    ],
)
def test_rates_are_read(text: str, rates: tuple[Rate, ...]) -> None:
    assert parse_rates(text) == rates


@pytest.mark.parametrize("text", ["", "100", "0/second", "-1/second", "1/week", "1/second;", "a"])
def test_what_is_no_rate_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="100/second"):
        parse_rates(text)


async def taken(store: Memory, times: int, now: float) -> int:
    """How many of so many requests at one time are allowed."""
    allowed = 0
    for _ in range(times):
        allowed += judge(TEN, await store.take("a", TEN, now), now).allowed
    return allowed


async def test_a_caller_has_its_rate_and_no_more() -> None:
    store = Memory()
    assert await taken(store, 25, now=100.0) == 10
    assert await taken(store, 25, now=102.0) == 10


async def test_callers_are_counted_apart() -> None:
    store = Memory()
    await taken(store, 25, now=100.0)
    assert judge(TEN, await store.take("b", TEN, 100.0), 100.0).allowed


async def test_the_edge_of_a_window_gives_no_second_helping() -> None:
    store = Memory()
    assert await taken(store, 25, now=100.9) == 10
    assert await taken(store, 25, now=101.1) <= 2


async def test_any_second_has_hardly_more_than_the_rate() -> None:
    store = Memory()
    times = [100 + number / 97 for number in range(500)]
    allowed = [now for now in times if await taken(store, 1, now)]
    most = max(sum(start <= now < start + 1 for now in allowed) for start in allowed)
    assert 10 <= most <= 12
    assert len(allowed) >= 45


async def test_a_refused_request_is_not_counted() -> None:
    store = Memory()
    rates = (Rate(2, 1), Rate(4, 60))
    for now in (120.0, 120.1, 120.2, 120.3):
        judge(rates, await store.take("a", rates, now), now)
    # The two that the first rate has refused are not held against the second.
    assert judge(rates, await store.take("a", rates, 125.0), 125.0).remaining == 1


async def test_headers_tell_what_is_left_and_when_to_come_back() -> None:
    store = Memory()
    first = judge(TEN, await store.take("a", TEN, 100.0), 100.0)
    assert first.headers() == {
        "RateLimit-Limit": "10",
        "RateLimit-Remaining": "9",
        "RateLimit-Reset": "1",
    }
    await taken(store, 20, now=100.0)
    refused = judge(TEN, await store.take("a", TEN, 100.0), 100.0)
    assert not refused.allowed
    assert refused.headers()["Retry-After"] == "2"
    assert refused.headers()["RateLimit-Remaining"] == "0"


@pytest.mark.parametrize("rates", [TEN, (Rate(3, 1), Rate(20, 60)), (Rate(1, 60),)], ids=str)
async def test_who_comes_back_when_told_is_let_in(rates: tuple[Rate, ...]) -> None:
    for _ in range(20):
        store, now = Memory(), 1_000_000 + random.random() * 60
        for _ in range(60):
            now += random.random() * 0.2
            verdict = judge(rates, await store.take("a", rates, now), now)
            if not verdict.allowed:
                later = now + verdict.reset + 0.001
                counts = await store.take("a", rates, later)
                assert judge(rates, counts, later).allowed, (rates, now, verdict)
                now = later


async def test_memory_does_not_grow_with_the_callers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search_service.limits._MOST_CALLERS", 10)
    store = Memory()
    await taken(store, 10, now=100.0)
    for number in range(9):
        await store.take(f"other {number}", TEN, 100.0)
    assert await taken(store, 1, now=100.0) == 0  # still known
    for number in range(100):
        await store.take(f"more {number}", TEN, 100.0)
    assert len(store._counts) == 10


async def test_without_a_rate_nothing_is_counted() -> None:
    assert await Limiter((), None).judge("a", None) is None
    assert await Limiter(TEN, None).judge("a", ()) is None


async def test_a_role_s_own_rate_takes_the_place_of_the_service_s() -> None:
    verdict = await Limiter(TEN, None).judge("a", (Rate(5, 1),))
    assert verdict is not None
    assert verdict.rate == Rate(5, 1)
