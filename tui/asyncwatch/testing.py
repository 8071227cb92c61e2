"""Tools for tests of supervised code, so that no test waits for real.

`JumpingLoop` is an asyncio event loop whose clock jumps: as soon as every task waits, time jumps to the next timer. A
backoff of a minute takes no time, and every run takes the same. Use it as the loop factory of `asyncio.Runner`, for
instance in a pytest fixture:

    @pytest.fixture
    def run():
        def run(main):
            with asyncio.Runner(loop_factory=JumpingLoop) as runner:
                return runner.run(main())

        return run

    def test_service_that_crashes_is_restarted(run):
        async def main():
            async with Supervisor([WorkerSpec("a", crashing, restart="permanent")]) as supervisor:
                recorder = EventRecorder(supervisor)
                await wait_until(lambda: recorder.of(WorkerRestarted))

        run(main)

Time jumps although another thread, a process or a real socket is about to answer: replace those by fakes.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from asyncwatch.events import Batch, Event
from asyncwatch.events.story import story

T = TypeVar("T")
E = TypeVar("E", bound=Event)

START = 1000.0
"""Seconds: the first reading of the jumping clock."""
LATENESS = 1e-11
"""Seconds by which a timer fires late, as on any clock: code that waits for an exact time would never see it pass."""


class _JumpingSelector(selectors.BaseSelector):
    """Advances the clock instead of waiting."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self._has_checked = False
        self.now = START
        self.waiters: list[asyncio.Future[None]] = []
        """Resolved in the next iteration of the loop."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        ready = self._real.select(0)
        if ready or timeout == 0:
            self._has_checked = False
            return ready
        if waiters and not self._has_checked:
            self._has_checked = True  # they see what has happened by now, before time jumps
            return []
        self._has_checked = False
        if timeout is not None:
            self.now += timeout + LATENESS
        elif not waiters:
            raise RuntimeError("deadlock: every task waits and no timer is set")
        return []

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()

    def close(self) -> None:
        self._real.close()


class JumpingLoop(asyncio.SelectorEventLoop):
    """asyncio's own event loop with a clock that starts at `START` and jumps to the next timer when all tasks wait.

    Raises:
        RuntimeError: from the loop, when every task waits and there is no timer: nothing would ever happen.

    """

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the seconds on the jumping clock."""
        return self._jumping.now

    def next_iteration(self) -> asyncio.Future[None]:
        """Return a future that the next iteration of the loop resolves. Time can jump while a task waits for it."""
        waiter = self.create_future()
        self._jumping.waiters.append(waiter)
        return waiter


def run_jumping(main: Callable[[], Awaitable[T]], task_factory: Any = None) -> T:
    """Run `main()` on a new `JumpingLoop` with that task factory, and return its result."""
    loop = JumpingLoop()
    loop.set_task_factory(task_factory)
    return run_on(loop, main)


def run_on(loop: asyncio.AbstractEventLoop, main: Callable[[], Awaitable[T]]) -> T:
    """Run `main()` on that loop, close the loop, and return the result.

    Tasks that are left when `main()` returns are destroyed without a warning. `asyncio.Runner` would cancel them and
    wait for them, for ever if they swallow their cancellation.
    """

    async def call() -> T:
        return await main()

    try:
        return loop.run_until_complete(asyncio.Task(call(), loop=loop))
    finally:
        loop.set_exception_handler(lambda _loop, _context: None)
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def wait_until(condition: Callable[[], object], *, steps: int = 10_000) -> None:
    """Return as soon as `condition()` is true. It is checked in each iteration of the loop, at most `steps` times.

    On a `JumpingLoop` time goes on meanwhile. On any other loop only that happens which takes no time.

    Raises:
        TimeoutError: the condition did not become true.

    """
    loop = asyncio.get_running_loop()
    for _ in range(steps):
        if condition():
            return
        if isinstance(loop, JumpingLoop):
            await loop.next_iteration()
        else:
            await asyncio.sleep(0)
    if not condition():
        raise TimeoutError(f"the condition did not become true within {steps} loop iterations: {condition!r}")


class _Source(Protocol):
    def subscribe(self) -> asyncio.Queue[Batch]: ...


class EventRecorder:
    """Records the events of a `Supervisor` from now on. Make it inside the running loop, before the run starts."""

    def __init__(self, supervisor: _Source) -> None:
        self._queue = supervisor.subscribe()
        self._events: list[Event] = []

    @property
    def events(self) -> list[Event]:
        """All events so far, in order. They arrive in batches, at most 1/20 s after they happened."""
        while not self._queue.empty():
            self._events.extend(self._queue.get_nowait())
        return self._events

    def of(self, kind: type[E], worker: str | None = None) -> list[E]:
        """Return the events of that class, and about that worker if one is named."""
        found = [event for event in self.events if isinstance(event, kind)]
        return [event for event in found if worker is None or getattr(event, "worker", None) == worker]

    def story(self, worker: str) -> list[str]:
        """Return the class names of the events about a worker, in order."""
        return story(self.events, worker)
