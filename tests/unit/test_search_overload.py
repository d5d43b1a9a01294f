"""What is done when more is asked than the service or Elasticsearch can do."""

import asyncio

import pytest
from elastic_transport import ApiResponseMeta, ConnectionTimeout, HttpHeaders, NodeConfig
from elasticsearch import NotFoundError

from search_service import overload
from search_service.errors import ServiceError
from search_service.overload import FAILURES, NARROWEST, Breaker, Lane

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Searches:
    """Searches that last until they are let go."""

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.release = asyncio.Event()
        self.most = 0

    async def run(self) -> None:
        async with self.lane:
            self.most = max(self.most, self.lane.under_way)
            await self.release.wait()


async def started(searches: Searches, count: int) -> list["asyncio.Task[None]"]:
    tasks = [asyncio.create_task(searches.run()) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_a_quarter_as_many_wait_as_are_under_way_and_the_rest_are_shed_at_once() -> None:
    searches = Searches(Lane(8))
    tasks = await started(searches, 12)
    shed = [task for task in tasks if task.done()]
    assert len(shed) == 2
    for task in shed:
        error = task.exception()
        assert isinstance(error, ServiceError)
        assert (error.status, error.kind) == (503, "overloaded")
        assert error.headers == {"Retry-After": "1"}
    searches.release.set()
    await asyncio.gather(*(task for task in tasks if task not in shed))
    assert searches.most == 8
    assert searches.lane.under_way == 0


async def test_who_waits_too_long_is_shed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "QUEUE_SECONDS", 0.001)
    searches = Searches(Lane(1))
    first, second = await started(searches, 2)
    with pytest.raises(ServiceError, match="Try again"):
        await second
    searches.release.set()
    await first
    assert searches.lane.under_way == 0


async def test_who_leaves_while_waiting_or_working_takes_no_place() -> None:
    searches = Searches(Lane(1))
    first, second, third = await started(searches, 3)
    assert third.done()
    assert third.exception() is not None
    second.cancel()
    first.cancel()
    await asyncio.wait([first, second])
    assert searches.lane.under_way == 0
    searches.release.set()
    await searches.run()


async def test_who_leaves_as_its_turn_comes_passes_it_on() -> None:
    searches = Searches(Lane(1))
    first, second = await started(searches, 2)
    searches.release.set()
    first.add_done_callback(lambda _: second.cancel())
    await asyncio.wait([first, second])
    assert searches.lane.under_way == 0


async def test_requests_that_came_together_are_promised_no_room_twice() -> None:
    searches = Searches(Lane(8))
    assert [searches.lane.expects() for _ in range(11)] == [True] * 10 + [False]
    await started(searches, 9)
    assert [searches.lane.expects() for _ in range(2)] == [True, False]


async def test_a_lane_narrows_while_its_process_turns_requests_away_and_is_late() -> None:
    lane = Lane(4 * NARROWEST)
    lane.keep_pace(late=1.0)
    assert lane.width == 4 * NARROWEST, "nothing was turned away"
    searches = Searches(lane)
    tasks = await started(searches, 5 * NARROWEST)
    assert not lane.expects()
    lane.keep_pace(late=0.0)
    assert lane.width == 4 * NARROWEST, "it waits for Elasticsearch"
    for _ in range(20):
        assert not lane.expects()
        lane.keep_pace(late=1.0)
    assert lane.width == NARROWEST
    searches.release.set()
    await asyncio.gather(*tasks)
    for _ in range(4 * NARROWEST):
        lane.keep_pace(late=1.0)
    assert lane.width == 4 * NARROWEST


async def test_a_lane_that_widens_again_takes_all_that_it_has_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overload, "QUEUE_SECONDS", 60.0)
    lane = Lane(12)
    tasks = await started(first := Searches(lane), 12)
    waiting = await started(later := Searches(lane), 3)
    lane.width = 1
    first.release.set()
    await asyncio.gather(*tasks)
    assert lane.under_way == 1
    lane.width = 12
    later.release.set()
    await asyncio.gather(*waiting)
    assert later.most == 2  # beside the one that had left meanwhile
    assert lane.under_way == 0


def timeout() -> ConnectionTimeout:
    return ConnectionTimeout("slow")


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionTimeout), breaker.request():
            raise timeout()


def refused() -> NotFoundError:
    node = NodeConfig("http", "es", 9200)
    return NotFoundError("gone", ApiResponseMeta(404, "1.1", HttpHeaders(), 0.1, node), {})


def test_elasticsearch_that_fails_again_and_again_is_left_alone() -> None:
    breaker = Breaker()
    fail(breaker, FAILURES)
    with pytest.raises(ServiceError) as caught, breaker.request():
        pytest.fail("it was asked")
    assert (caught.value.status, caught.value.kind) == (503, "elasticsearch-away")
    assert caught.value.headers == {"Retry-After": "2"}


def test_failures_with_answers_in_between_are_borne() -> None:
    breaker = Breaker()
    for _ in range(3):
        fail(breaker, FAILURES - 1)
        with breaker.request():
            pass
    fail(breaker, FAILURES - 1)
    with pytest.raises(NotFoundError), breaker.request():
        raise refused()  # an answer, too
    fail(breaker, FAILURES - 1)
    assert not breaker.is_open


def test_after_a_while_one_request_tries_it_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overload, "PAUSE", 0.0)
    breaker = Breaker()
    fail(breaker, FAILURES)
    with breaker.request():
        assert breaker.is_open
        with pytest.raises(ServiceError), breaker.request():
            pytest.fail("a second one tried as well")
    with breaker.request(), breaker.request():
        assert not breaker.is_open


def test_a_try_that_fails_or_is_given_up_makes_way_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(overload, "PAUSE", 0.0)
    breaker = Breaker()
    fail(breaker, FAILURES + 1)
    assert breaker.is_open
    with pytest.raises(asyncio.CancelledError), breaker.request():
        raise asyncio.CancelledError
    assert breaker.is_open
    with breaker.request():
        pass
    assert not breaker.is_open
