"""One timer of the event loop calls back for all workers that back off."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from types import SimpleNamespace
from typing import Any

import pytest

from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.timers import Timers
from asyncwatch.engine.worker import Worker
from asyncwatch.testing import JumpingLoop, run_on


def worker(name: str) -> Worker:
    """Return a worker that nothing runs."""
    return Worker(name, (), WorkerSpec(name, asyncio.sleep))


class Calls:
    """The workers that timers have called back with, in order, and when."""

    def __init__(self) -> None:
        reporter = Reporter()
        reporter.run_started("run", 0, "gather", 1, 1, None, 0.0, {})
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.made: list[tuple[str, float]] = []
        self.timers = Timers(reporter, self._note)

    def _note(self, worker: Worker) -> None:
        self.made.append((worker.name, round(self.loop.time() - self.began, 6)))


def armed(loop: asyncio.AbstractEventLoop) -> int:
    """Return how many timers the event loop has, cancelled ones apart."""
    return sum(not handle.cancelled() for handle in loop._scheduled)  # type: ignore[attr-defined]


def run_jumping(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main()` on a clock that jumps."""
    run_on(JumpingLoop(), main)


def test_timers_call_back_when_each_is_due() -> None:
    async def main() -> None:
        calls = Calls()
        for name, seconds in (("c", 3.0), ("a", 1.0), ("d", 3.0), ("b", 2.0)):
            calls.timers.call_later(seconds, worker(name))
        await asyncio.sleep(10)
        assert calls.made == [("a", 1.0), ("b", 2.0), ("c", 3.0), ("d", 3.0)]

    run_jumping(main)


def test_timers_need_one_timer_of_the_loop() -> None:
    async def main() -> None:
        calls = Calls()
        before = armed(calls.loop)
        timers = [calls.timers.call_later(1 + number, worker(str(number))) for number in range(100)]
        assert armed(calls.loop) == before + 1
        for timer in timers:
            timer.cancel()
            timer.cancel()
        assert armed(calls.loop) == before
        await asyncio.sleep(200)
        assert not calls.made

    run_jumping(main)


def test_cancelled_timer_leaves_the_others() -> None:
    async def main() -> None:
        calls = Calls()
        first, _, last = (calls.timers.call_later(seconds, worker(f"after {seconds}")) for seconds in (1, 2, 3))
        first.cancel()
        last.cancel()
        await asyncio.sleep(1.5)
        calls.timers.call_later(1, worker("late"))
        await asyncio.sleep(10)
        assert calls.made == [("after 2", 2.0), ("late", 2.5)]
        first.cancel()  # it is over
        calls.timers.call_later(1, worker("again"))
        await asyncio.sleep(10)
        assert calls.made[2:] == [("again", 12.5)]

    run_jumping(main)


def test_callback_can_set_the_next_timer_and_raise() -> None:
    async def main() -> None:
        calls = Calls()
        loop = calls.loop
        errors: list[object] = []
        loop.set_exception_handler(lambda _loop, context: errors.append(context["exception"]))
        error = ValueError()

        def call(worker: Worker) -> None:
            calls.made.append((worker.name, round(loop.time() - calls.began, 6)))
            if worker.name == "a":
                timers.call_later(0.5, b)
                raise error

        reporter = Reporter()
        reporter.run_started("run", 0, "gather", 1, 1, None, 0.0, {})
        timers, b = Timers(reporter, call), worker("b")
        timers.call_later(1, worker("a"))
        timers.call_later(1, worker("c"))
        await asyncio.sleep(10)
        assert calls.made == [("a", 1.0), ("c", 1.0), ("b", 1.5)]
        assert errors == [error]

    run_jumping(main)


class CoarseLoop:
    """A loop like uvloop's: its clock counts milliseconds, so a timer can come before the time it was set for."""

    def __init__(self) -> None:
        self.now = 1.0
        self.set: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None], *, context: Context) -> object:
        self.set.append((when, callback))
        return SimpleNamespace(cancel=lambda: None)


def test_timer_of_a_coarse_clock_that_comes_early_is_not_set_again() -> None:
    loop = CoarseLoop()
    reporter: Any = SimpleNamespace(loop=loop, context=Context())
    made: list[str] = []
    timers = Timers(reporter, lambda worker: made.append(worker.name))
    timers.call_later(0.0104, worker("a"))
    timers.call_later(0.0204, worker("b"))
    loop.now = 1.010
    loop.set[0][1]()
    assert made == ["a"]
    assert [when for when, _ in loop.set] == pytest.approx([1.0104, 1.0204])


def test_cancelled_timers_are_dropped_long_before_they_are_due() -> None:
    async def main() -> None:
        timers = Calls().timers
        timers.call_later(3600.0, worker("poller"))
        for _ in range(10_000):
            timers.call_later(3000.0, worker("restarted")).cancel()
        assert len(timers._heap) < 100

    run_jumping(main)


def test_timers_that_are_due_together_call_back_in_several_loop_iterations() -> None:
    async def main() -> None:
        calls = Calls()
        for number in range(1_000):
            calls.timers.call_later(1.0, worker(str(number)))
        await asyncio.sleep(1.0)
        made = len(calls.made)
        assert 0 < made < 1_000
        await asyncio.sleep(0.001)
        assert [name for name, _ in calls.made] == [str(number) for number in range(1_000)]

    run_jumping(main)
