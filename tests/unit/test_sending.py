"""The order in which batches pass, with a loader whose answers come when the test says so."""

from collections.abc import Callable
from concurrent.futures import Future
from typing import cast

import pytest

from pg_es_pipeline.sync import sending
from pg_es_pipeline.sync.extract import Batch
from pg_es_pipeline.sync.indices import Generation
from pg_es_pipeline.sync.load import Loader, Outcome
from pg_es_pipeline.sync.sending import Sending
from pg_es_pipeline.sync.throttle import Flow


class Held:
    """Batches of ten bytes, named by a number; none is answered by itself."""

    def __init__(self, connections: int = 10) -> None:
        self.futures: list[Future[Outcome]] = []
        self.entered: list[str] = []
        self.passed: list[str] = []
        self.told = 0
        self.is_interrupted = False
        """While it is told of what came."""
        self.flow = Flow(1, 10, connections)
        self.flow.connections = connections
        self.sending = Sending(
            cast("Loader", self), self.flow, cast("Generation", None), self._enter, self._tell
        )

    def submit(self, generation: Generation, batch: Batch) -> "Future[Outcome]":
        self.futures.append(Future())
        self.futures[-1].set_running_or_notify_cancel()
        return self.futures[-1]

    def send(self, name: str, passed: Callable[[Batch], None] | None = None) -> Batch:
        batch = Batch(b"0123456789", 1, [name], True)
        self.sending.send(batch, passed or self.passes)
        return batch

    def answer(self, number: int) -> None:
        batch = Batch(b"", 1, [str(number)], True)
        self.futures[number].set_result(Outcome(batch))

    def answer_when_waited_for(self, number: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """The list will say how many had been sent by then."""
        sent: list[int] = []

        def waiting(began: float) -> None:
            sent.append(len(self.futures))
            self.answer(number)

        monkeypatch.setattr(sending, "SLOW_SECONDS", 0.01)
        monkeypatch.setattr(self.flow, "waiting", waiting)
        return sent

    def passes(self, batch: Batch) -> None:
        self.passed.append(batch.position[0])

    def _enter(self, outcome: Outcome) -> None:
        self.entered.append(outcome.batch.position[0])

    def _tell(self) -> None:
        self.told += 1
        if self.is_interrupted:
            raise KeyboardInterrupt


@pytest.fixture
def held() -> Held:
    return Held()


def test_batches_are_entered_as_they_come_and_pass_in_the_order_of_the_reading(held: Held) -> None:
    batches = [held.send(str(number)) for number in range(3)]
    held.answer(2)
    held.answer(1)
    held.send("3")
    assert sorted(held.entered) == ["1", "2"]
    assert held.passed == []
    assert [bool(batch.body) for batch in batches] == [True, False, False]
    held.answer(0)
    held.answer(3)
    held.sending.wait_for_all()
    assert held.passed == ["0", "1", "2", "3"]
    assert held.told == 4


def test_a_batch_waits_for_room(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(connections=2)
    sent = held.answer_when_waited_for(0, monkeypatch)
    for number in range(3):
        held.send(str(number))
    assert sent == [2]


def test_no_more_is_sent_behind_a_batch_that_takes_long_than_memory_is_for(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = held.answer_when_waited_for(0, monkeypatch)
    monkeypatch.setattr(sending, "AHEAD_BYTES", 45)
    for number in range(8):
        held.send(str(number))
        if number:
            held.answer(number)
    assert sent == [5]


def test_what_an_error_leaves_under_way_passes_up_to_the_error(held: Held) -> None:
    for number in range(4):
        held.send(str(number))
    held.futures[2].set_exception(OSError("away"))
    for number in (0, 1, 3):
        held.answer(number)
    with pytest.raises(OSError, match="away"):
        held.sending.wait_for_all()
    held.sending.keep_what_arrived()
    assert sorted(held.entered) == ["0", "1", "3"]
    assert held.passed == ["0", "1"]


def test_a_batch_that_was_interrupted_while_it_passed_passes_again(held: Held) -> None:
    """What it moves may not have been moved."""

    def interrupted(batch: Batch) -> None:
        held.passes(batch)
        if len(held.passed) == 1:
            raise KeyboardInterrupt

    held.send("0", interrupted)
    held.send("1", interrupted)
    held.answer(0)
    held.answer(1)
    with pytest.raises(KeyboardInterrupt):
        held.sending.wait_for_all()
    held.sending.keep_what_arrived()
    assert held.passed == ["0", "0", "1"]


def test_an_interrupt_comes_after_what_arrived_is_entered(held: Held) -> None:
    held.is_interrupted = True
    held.send("0")
    held.answer(0)
    with pytest.raises(KeyboardInterrupt):
        held.sending.wait_for_all()
    assert held.entered == ["0"]
    held.sending.keep_what_arrived()
    assert (held.entered, held.passed) == (["0"], ["0"])


def test_nothing_is_told_after_an_error(held: Held) -> None:
    """Who hears of it may be what was interrupted."""
    held.send("0")
    held.answer(0)
    held.sending.keep_what_arrived()
    assert (held.entered, held.passed, held.told) == (["0"], ["0"], 0)
