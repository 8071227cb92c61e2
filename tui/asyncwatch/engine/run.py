"""A run of a batch, and the four ways to await it, named after asyncio's own functions and true to them."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Generic, Self

from asyncwatch.commands import CancelAll, CancelWorker, RestartWorker, Statistics
from asyncwatch.engine.lifespan import Lifespan, LifespanFactory
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.run_control import RunControl, check_timeout
from asyncwatch.engine.scheduler import Scheduler
from asyncwatch.engine.spec import Outcome, ResultT_co, WaitResult, WorkerSpec, WorkerSpecs
from asyncwatch.events import Batch, WorkerState
from asyncwatch.policies.bad_luck import draw_seed
from asyncwatch.policies.budget import DEFAULT_RETRY_BUDGET, RetryBudget
from asyncwatch.policies.circuit import CircuitPolicy
from asyncwatch.policies.halt import Halt
from asyncwatch.policies.limits import DEFAULT_CONCURRENCY, DEFAULT_GRACE, check_limits
from asyncwatch.policies.rate import RateLimit
from asyncwatch.policies.runner import RETURN_WHEN, LifespanPer, ReturnWhen
from asyncwatch.policies.throttle import DEFAULT_THROTTLE, ThrottlePolicy

_RUNS_ONCE = "a Run runs once; this one has been used"


class Run(Generic[ResultT_co]):
    """Runs a batch: workers that end, at most `concurrency` attempts at a time, and reports all that happens.

    Call one of the runners `gather`, `as_completed`, `wait`, `task_group`, once. Each ends what it started before it
    returns: by a result, an error or a cancellation, it leaves no worker behind. Inside `async with Run(...) as run:`
    the run stays open after that call, so that workers can be restarted; otherwise it ends with the call. All methods
    belong to the thread of the event loop that it runs in.

    Args:
        workers: in order; none of them a service.
        name: what the run is called.
        concurrency: most attempts in flight.
        seed: of every draw, from 0; a fresh one if None.
        grace: seconds that a worker may take to end after its cancellation; then it is abandoned as unresponsive.
        group_timeouts: seconds from the start after which the pending workers of a group are timed out.
        retry_budget: pays for all retries of the run; None for no limit. A run that uses it up depends on the order
            in which attempts end, and not on its seed alone.
        throttle: how long a key is waited for that asks for fewer attempts; None for no throttling by key.
        max_per_key: slots of one key; None for as many as stay free while other keys have work, else all. Without
            throttling by key, None is all.
        circuit: the policy of a circuit breaker for each key of the workers; None for none.
        rate: the limit of all attempts of the run together; None for none.
        rate_per_key: the limit of the attempts of each key; None for none.
        halt: after how many failures the batch halts; None for never.
        lifespan: returns an async context manager, entered once before the first attempt and left after the last. Its
            value is the last argument of each target. If its entry raises, so does the runner, and nothing is
            attempted. None: there is none.
        lifespan_per: `slot` makes one for each attempt in flight: the first before the first attempt, others when they
            are needed, and an error of their entry is one of the attempt. The next attempt uses it again, unless the
            last one raised `Renew`.

    Raises:
        ValueError: two workers have the same name, one is a service, or a number is out of its range.

    """

    def __init__(
        self,
        workers: Iterable[WorkerSpec[ResultT_co, *tuple[Any, ...]] | WorkerSpecs[ResultT_co]],
        *,
        name: str = "",
        concurrency: int = DEFAULT_CONCURRENCY,
        seed: int | None = None,
        grace: float = DEFAULT_GRACE,
        group_timeouts: Mapping[str, float] | None = None,
        retry_budget: RetryBudget | None = DEFAULT_RETRY_BUDGET,
        throttle: ThrottlePolicy | None = DEFAULT_THROTTLE,
        max_per_key: int | None = None,
        circuit: CircuitPolicy | None = None,
        rate: RateLimit | None = None,
        rate_per_key: RateLimit | None = None,
        halt: Halt | None = None,
        lifespan: LifespanFactory | None = None,
        lifespan_per: LifespanPer = "run",
    ) -> None:
        check_limits(concurrency, grace, max_per_key)
        self.name = name
        self.seed = draw_seed() if seed is None else seed
        self._scheduler = Scheduler(
            check_batch(workers),
            reporter=Reporter(),
            seed=self.seed,
            concurrency=concurrency,
            grace=grace,
            retry_budget=retry_budget,
            throttle=throttle,
            max_per_key=max_per_key,
            circuit=circuit,
            rate=rate,
            rate_per_key=rate_per_key,
            halt=halt,
        )
        self._control = RunControl(self._scheduler, group_timeouts=group_timeouts)
        self._control.use_lifespan(None if lifespan is None else Lifespan(lifespan, lifespan_per))
        self._stays_open = False

    @property
    def is_started(self) -> bool:
        """Whether a runner was called."""
        return self._scheduler.is_started

    @property
    def is_finished(self) -> bool:
        """Whether the run is over: `RunFinished` was reported."""
        return self._scheduler.is_finished

    def subscribe(self) -> asyncio.Queue[Batch]:
        """Return a queue of every batch of events emitted from now on, for the running event loop.

        Subscribe before the run starts to get all of them. The loop may be another thread's.
        """
        return self._control.subscribe()

    def statistics(self) -> Statistics:
        """Return the figures of this moment."""
        return self._control.statistics()

    def outcomes(self) -> list[Outcome[ResultT_co]]:
        """Return the latest outcome of each worker that has ended, in the order of the workers."""
        return self._control.outcomes()

    def cancel(self, name: str) -> bool:
        """Cancel the worker `name`; return whether there was anything to cancel.

        Raises:
            KeyError: there is no such worker.

        """
        return self._control.carry_out(CancelWorker(name, self._control.incarnation_of(name)))

    def restart(self, name: str) -> bool:
        """Give the worker `name` a new incarnation, cancelling a running one first; return whether that is possible.

        Raises:
            KeyError: there is no such worker.

        """
        return self._control.carry_out(RestartWorker(name, self._control.incarnation_of(name)))

    def cancel_all(self) -> None:
        """Cancel every worker that has not ended. All of them can still be restarted while the run is open."""
        self._control.carry_out(CancelAll())

    async def gather(self, *, timeout: float | None = None) -> list[Outcome[ResultT_co]]:
        """Run all workers; return their outcomes in the order of the workers.

        Raises:
            TimeoutError: some had not ended after `timeout` seconds. They are timed out; see `outcomes()`.

        """
        async with self._running("gather", timeout) as limit:
            await self._control.settle()
            limit.raise_if_ended()
        return self.outcomes()

    @asynccontextmanager
    async def as_completed(self, *, timeout: float | None = None) -> AsyncIterator[AsyncIterator[Outcome[ResultT_co]]]:
        """Run all workers inside the context, whose value yields their outcomes as they come.

            async with run.as_completed() as outcomes:
                async for outcome in outcomes:
                    ...

        A worker that is restarted after its outcome came yields another one, of its new incarnation. Several tasks can
        read: each outcome goes to one of them. Leaving the context early ends the iteration, cancels the remaining
        workers and waits for them.

        Raises:
            TimeoutError: by the iterator: some had not ended after `timeout` seconds. They are timed out; see
                `outcomes()`.

        """
        async with self._running("as_completed", timeout) as limit:
            outcomes = _Outcomes(self._scheduler, limit)
            try:
                yield outcomes
            finally:
                outcomes.close()
            if self._scheduler.active:
                await self._control.end_all()

    async def wait(
        self, *, timeout: float | None = None, return_when: ReturnWhen = "ALL_COMPLETED"
    ) -> WaitResult[ResultT_co]:
        """Run workers until `timeout` seconds are over or `return_when` is fulfilled; separate done from pending.

        Pending workers are ended: timed out if it was the timeout, else cancelled. `FIRST_EXCEPTION` means the first
        worker that failed or was exhausted.

        Raises:
            ValueError: `return_when` is none of `ALL_COMPLETED`, `FIRST_COMPLETED`, `FIRST_EXCEPTION`.

        """
        if return_when not in RETURN_WHEN:
            raise ValueError(f"return_when must be one of {', '.join(RETURN_WHEN)}, not {return_when!r}")
        async with self._running("wait", timeout) as limit:
            done = await self._wait_for_enough(limit, return_when)
            self._scheduler.watch_outcomes(None)
            self._control.end_workers("run")
            await self._control.settle()
            outcomes = list(self._scheduler.registry.outcomes())
            return WaitResult(
                done=tuple(outcome for outcome in outcomes if outcome.incarnation == done.get(outcome.name)),
                pending=tuple(outcome for outcome in outcomes if outcome.incarnation != done.get(outcome.name)),
            )

    async def task_group(self, *, timeout: float | None = None) -> list[Outcome[ResultT_co]]:
        """Run all workers; the first that fails cancels the rest. Return the outcomes in the order of the workers.

        Raises:
            ExceptionGroup: what the failed workers raised; a `BaseExceptionGroup` if one of those is no `Exception`.
            TimeoutError: some had not ended after `timeout` seconds.

        """
        errors: list[BaseException] = []

        def on_outcome(outcome: Outcome) -> None:
            is_failure = outcome.state is WorkerState.FAILED and not _is_stray(outcome)
            if outcome.error is not None and (is_failure or (errors and outcome.state is WorkerState.CANCELLED)):
                errors.append(outcome.error)
            if is_failure and len(errors) == 1:
                self._control.end_workers("run")

        async with self._running("task_group", timeout) as limit:
            self._scheduler.watch_outcomes(on_outcome)
            await self._control.settle()
            if errors:
                raise BaseExceptionGroup("workers failed", errors)
            limit.raise_if_ended()
        return self.outcomes()

    async def __aenter__(self) -> Self:
        """Keep the run open inside the context.

        Raises:
            RuntimeError: the run is over.

        """
        if self.is_finished:
            raise RuntimeError(_RUNS_ONCE)
        self._stays_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stays_open = False
        await self._control.finish()

    @asynccontextmanager
    async def _running(self, runner: str, seconds: float | None) -> AsyncIterator[_Timeout]:
        """Start the run; on any way out except the straight one, cancel the workers and wait for them."""
        scheduler, control = self._scheduler, self._control
        check_timeout(seconds)
        if scheduler.is_started:
            raise RuntimeError(_RUNS_ONCE)
        await control.open_lifespan()
        timeout = _Timeout(scheduler, control, seconds)
        try:
            scheduler.start(self.name, runner, seconds, time.time())
            scheduler.announce_batch()
            if not control.is_stopping:
                scheduler.start_batch()
            timeout.start()
            control.start_group_timers()
            if control.is_stopping:
                control.stop_all(is_final=True)
            yield timeout
        except BaseException:
            await control.end_all()
            raise
        finally:
            timeout.stop()
            control.stop_group_timers()
            scheduler.watch_outcomes(None)
            if not self._stays_open:
                await control.finish()
            elif not control.is_stopping:
                scheduler.reopen_restarts()

    async def _wait_for_enough(self, timeout: _Timeout, return_when: ReturnWhen) -> dict[str, int]:
        """Return the incarnation of each worker that had settled when enough had."""
        scheduler = self._scheduler
        done: dict[str, int] = {}
        enough = scheduler.reporter.loop.create_future()

        def on_outcome(outcome: Outcome) -> None:
            if not timeout.has_ended:
                done[outcome.name] = outcome.incarnation
            is_error = outcome.state.is_failure and not _is_stray(outcome)
            is_enough = return_when == "FIRST_COMPLETED" or (return_when == "FIRST_EXCEPTION" and is_error)
            if is_enough and not enough.done():
                enough.set_result(None)

        scheduler.watch_outcomes(on_outcome)
        if scheduler.active:
            scheduler.wake_when_settled(enough)
            await enough
            scheduler.reap_batch()
        return done


def running(run: Run[Any], runner: str, seconds: float | None = None) -> AbstractAsyncContextManager[_Timeout]:
    """Run the workers inside the context, for a function that awaits them in a way of its own.

    Wait for them by `control_of(run).settle()`. An error cancels them. `seconds` is the total timeout.

    Raises:
        RuntimeError: the run was started before.

    """
    return run._running(runner, seconds)  # noqa: SLF001  the same module


async def complete_all(run: Run, *, timeout: float | None = None) -> None:
    """Run all workers like `Run.as_completed`, for a plan, which learns outcomes from events.

    Raises:
        TimeoutError: some had not ended after `timeout` seconds. They are timed out; see `run.outcomes()`.

    """
    async with run._running("as_completed", timeout) as limit:  # noqa: SLF001  the same module
        await run._control.settle()  # noqa: SLF001
        limit.raise_if_ended()


class _Timeout:
    """The total timeout of a runner: when it ends, the pending workers are timed out."""

    def __init__(self, scheduler: Scheduler, control: RunControl, seconds: float | None) -> None:
        self._scheduler = scheduler
        self._control = control
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self.has_ended = False

    def start(self) -> None:
        """Start to count, if there is a timeout at all."""
        if self._seconds is not None:
            self._timer = self._scheduler.reporter.loop.call_later(max(0.0, self._seconds), self._end)

    def stop(self) -> None:
        """Forget the timeout."""
        if self._timer is not None:
            self._timer.cancel()

    def raise_if_ended(self) -> None:
        """Raise `TimeoutError` if the time was over before the workers were done."""
        if self.has_ended:
            raise TimeoutError(f"workers were still pending after {self._seconds:g} s")

    def _end(self) -> None:
        scheduler = self._scheduler
        scheduler.reap_batch()
        if scheduler.active and self._seconds is not None:
            self.has_ended = True
            scheduler.reporter.run_timed_out(self._seconds, scheduler.pending)
            self._control.end_workers("timeout")


class _Outcomes:
    """Yields outcomes as they come, from the moment that it is made until it is closed."""

    def __init__(self, scheduler: Scheduler, timeout: _Timeout) -> None:
        self._scheduler = scheduler
        self._timeout = timeout
        self._arrived: deque[Outcome] = deque()
        self._news = asyncio.Event()
        self._is_closed = False
        scheduler.watch_outcomes(self._add)
        # The last work of the run may be the wait for more workers, which has no outcome.
        settled: asyncio.Future[None] = scheduler.loop.create_future()
        settled.add_done_callback(lambda _settled: self._news.set())
        scheduler.wake_when_settled(settled)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome:
        while not self._arrived:
            if self._is_closed or not self._scheduler.active:
                self._timeout.raise_if_ended()
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._arrived.popleft()

    def close(self) -> None:
        """Drop unread outcomes, and end the iteration for all its readers."""
        self._is_closed = True
        self._arrived.clear()
        self._news.set()

    def _add(self, outcome: Outcome) -> None:
        if not self._timeout.has_ended and not self._is_closed:
            self._arrived.append(outcome)
        self._news.set()


def check_batch(workers: Iterable[WorkerSpec | WorkerSpecs]) -> tuple[WorkerSpec | WorkerSpecs, ...]:
    """Return the workers of a batch.

    Raises:
        ValueError: one of them is a service, or no worker at all.

    """
    batch = tuple(workers)
    for member in batch:
        spec = member.template if type(member) is WorkerSpecs else member
        if type(spec) is not WorkerSpec or spec.is_service:
            raise ValueError("a batch has no services and no supervisors: they are children of a Supervisor")
    return batch


def _is_stray(outcome: Outcome) -> bool:
    """Return whether the worker failed by a cancellation that asyncwatch did not request: no error to asyncio."""
    return isinstance(outcome.error, asyncio.CancelledError)
