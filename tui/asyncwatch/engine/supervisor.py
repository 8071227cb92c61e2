"""The supervisor as one's own program uses it: workers in, outcomes and events out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import Any, Self

from asyncwatch.commands import CancelAll, CancelWorker, Command, RestartWorker, Statistics, StopRun
from asyncwatch.engine import command_queue as requests
from asyncwatch.engine import runner
from asyncwatch.engine.outbox import Listener
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.runner import Timeout, check_timeout
from asyncwatch.engine.scheduler import Machine
from asyncwatch.engine.spec import Outcome, WaitResult, WorkerSpec, WorkerSpecs
from asyncwatch.engine.tree.serving import Serving, is_batch, new_crew, one_by_one, root_spec
from asyncwatch.engine.tree.specs import ChildSpec
from asyncwatch.engine.watchdog import Block
from asyncwatch.engine.watching import Watching
from asyncwatch.events import Batch
from asyncwatch.policies.bad_luck import draw_seed
from asyncwatch.policies.budget import RetryBudget
from asyncwatch.policies.circuit import CircuitPolicy
from asyncwatch.policies.halt import Halt
from asyncwatch.policies.rate import RateLimit
from asyncwatch.policies.restart import AutoShutdown, Strategy
from asyncwatch.policies.runner import RETURN_WHEN, ReturnWhen
from asyncwatch.process import paused_gc

DEFAULT_RETRY_BUDGET = RetryBudget()


class Supervisor(Watching, Serving):
    """Runs workers, and tells listeners all that happens.

    Temporary workers alone are a batch, of which at most `concurrency` attempts run at a time: call one of `gather`,
    `as_completed`, `wait`, `task_group`. Services, supervisors and pools are a tree, of which these are the children
    of the root: call `serve`. One supervisor makes one run, by one such call. Within
    `async with Supervisor(...) as supervisor:` a tree has started when the block begins and is stopped when it ends;
    a batch stays open after its call, so that workers can be restarted. Without it the run ends with the call.
    All methods belong to the thread of the event loop it runs in.

    Args:
        children: the workers, supervisors and pools, in order.
        name: what the run is called.
        concurrency: attempts in flight at the most.
        seed: of every draw, from 0; a fresh one if None.
        grace: seconds that a worker may take to end after it was asked to; then it is left behind as unresponsive.
        group_timeouts: seconds from the start after which the pending workers of a group are timed out.
        retry_budget: what all retries of the run are paid from; None for no limit. A run that uses it up does not
            depend on its seed alone, but on the order in which attempts end.
        strategy, max_restarts, within, auto_shutdown: of the root, as in `SupervisorSpec`. Any of them makes a tree.
        circuit: the policy of a circuit breaker for each key of the workers; None for none.
        rate: the limit of all attempts of the run together; None for none.
        rate_per_key: the limit of the attempts of each key; None for none.
        halt: after how many failures the batch halts; None for never.
        batch: temporary workers that run beside a tree, once it has started, as those of a batch do: with retries, at
            most `concurrency` attempts at a time, nobody's children. The end of the tree ends them.

    Raises:
        ValueError: two workers have the same name, or a number is out of its range.
        SpecError: a ValueError; the root of the tree would be invalid.

    """

    def __init__(
        self,
        children: Iterable[ChildSpec | WorkerSpecs],
        *,
        name: str = "",
        concurrency: int = 100,
        seed: int | None = None,
        grace: float = 5.0,
        group_timeouts: Mapping[str, float] | None = None,
        retry_budget: RetryBudget | None = DEFAULT_RETRY_BUDGET,
        strategy: Strategy | None = None,
        max_restarts: int | None = None,
        within: float | None = None,
        auto_shutdown: AutoShutdown | None = None,
        circuit: CircuitPolicy | None = None,
        rate: RateLimit | None = None,
        rate_per_key: RateLimit | None = None,
        halt: Halt | None = None,
        batch: Iterable[WorkerSpec | WorkerSpecs] = (),
    ) -> None:
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, not {concurrency}")
        if not 0 <= grace < float("inf"):
            raise ValueError(f"grace must be 0 seconds or more, not {grace}")
        self.name = name
        self.grace = grace
        self.seed = draw_seed() if seed is None else seed
        self._group_timeouts = dict(group_timeouts or {})
        for limit in self._group_timeouts.values():
            check_timeout(limit)
        self._settings: dict[str, Any] = {
            "concurrency": concurrency,
            "seed": self.seed,
            "grace": grace,
            "report": Reporter(),
            "retry_budget": retry_budget,
            "circuit": circuit,
            "rate": rate,
            "rate_per_key": rate_per_key,
            "halt": halt,
        }
        self._stays_open = False
        self._is_stopping = False
        self._children = children = tuple(children)
        self._batch = tuple(batch)
        if not is_batch(self._batch):
            raise ValueError("a batch has no services: they are children of the tree")
        flags = {"strategy": strategy, "max_restarts": max_restarts, "within": within, "auto_shutdown": auto_shutdown}
        self._root_flags = {flag: value for flag, value in flags.items() if value is not None}
        if is_batch(children) and not self._root_flags and not self._batch:
            self._machine = Machine(children, **self._settings)
        else:
            self._make_tree()

    @property
    def is_started(self) -> bool:
        """Whether a runner was called."""
        return self._machine.report.is_started

    @property
    def is_finished(self) -> bool:
        """Whether the run is over: `RunFinished` was told."""
        return self._machine.is_finished

    def subscribe(self) -> asyncio.Queue[Batch]:
        """Return a queue of every batch of events emitted from now on, for the running event loop.

        Subscribe before the run starts to get them all. The loop may be another thread's.
        """
        listener = Listener()
        queue = listener.attach()
        self.add_listener(listener)
        return queue

    def add_listener(self, listener: Listener) -> None:
        """Deliver to `listener` every batch of events emitted from now on."""
        self._machine.report.outbox.add(listener)

    def statistics(self) -> Statistics:
        """Return how much there is of what, at this moment."""
        machine = self._machine
        tokens = machine.tokens
        return Statistics(
            events=machine.report.outbox.emitted,
            in_flight=machine.in_flight + machine.serving,
            queued=machine.queued,
            held=machine.admission.held,
            tasks=len(machine.tasks),
            detached=len(machine.detached),
            retry_tokens=0.0 if tokens is None else tokens.left,
            retry_capacity=0.0 if tokens is None else tokens.budget.tokens,
        )

    def keep_no_values(self) -> None:
        """Let outcomes of the batch be without results and errors from now on: events tell of them to whoever listens.

        The error of a worker holds all frames that it came through: of a million, some gigabytes.
        """
        self._machine.batch.keeps_values = False

    def outcomes(self) -> list[Outcome]:
        """Return the latest outcome of each worker that has ended, in the order of the workers."""
        with paused_gc():
            return list(self._machine.workers.outcomes())

    def cancel(self, name: str) -> bool:
        """Cancel the worker `name`; return whether there was anything to cancel.

        Raises:
            KeyError: there is no such worker.

        """
        return self.carry_out(CancelWorker(name, self._incarnation(name)))

    def restart(self, name: str) -> bool:
        """Give the worker `name` a new incarnation, cancelling a running one first; return whether that will be.

        Raises:
            KeyError: there is no such worker.

        """
        return self.carry_out(RestartWorker(name, self._incarnation(name)))

    def cancel_all(self) -> None:
        """Cancel every worker that has not ended. All of them can still be restarted while the run is open."""
        self.carry_out(CancelAll())

    async def gather(self, *, timeout: float | None = None) -> list[Outcome]:
        """Run all workers; return their outcomes in the order of the workers.

        Raises:
            TimeoutError: some had not ended after `timeout` seconds. They are timed out; see `outcomes()`.

        """
        async with self._running("gather", timeout) as limit:
            await runner.gather(self._machine, limit)
        return self.outcomes()

    async def complete_all(self, *, timeout: float | None = None) -> None:
        """Run all workers as `as_completed` does for somebody who takes every outcome, and heeds none.

        Raises:
            TimeoutError: some had not ended after `timeout` seconds. They are timed out; see `outcomes()`.

        """
        async with self._running("as_completed", timeout) as limit:
            await runner.gather(self._machine, limit)

    async def as_completed(self, *, timeout: float | None = None) -> AsyncIterator[Outcome]:
        """Run all workers; yield their outcomes as they come.

        A worker that is restarted after its outcome came yields another one, of its new incarnation. To leave the
        loop early, close the iterator (`contextlib.aclosing`): that cancels the rest and waits for them.

        Raises:
            TimeoutError: some had not ended after `timeout` seconds. They are timed out; see `outcomes()`.

        """
        async with self._running("as_completed", timeout) as limit:
            async for outcome in runner.as_completed(self._machine, limit):
                yield outcome

    async def wait(self, *, timeout: float | None = None, return_when: ReturnWhen = "ALL_COMPLETED") -> WaitResult:
        """Run workers until `timeout` seconds are over or `return_when` is fulfilled; tell done from pending.

        The pending are ended: timed out if it was the timeout, else cancelled. `FIRST_EXCEPTION` means the first
        worker that failed or was exhausted.

        Raises:
            ValueError: `return_when` is none of `ALL_COMPLETED`, `FIRST_COMPLETED`, `FIRST_EXCEPTION`.

        """
        if return_when not in RETURN_WHEN:
            raise ValueError(f"return_when must be one of {', '.join(RETURN_WHEN)}, not {return_when!r}")
        async with self._running("wait", timeout) as limit:
            return await runner.wait(self._machine, limit, return_when)

    async def task_group(self, *, timeout: float | None = None) -> list[Outcome]:
        """Run all workers; the first that fails cancels the rest. Return the outcomes in the order of the workers.

        Raises:
            ExceptionGroup: what the failed workers raised; a `BaseExceptionGroup` if one of those is no `Exception`.
            TimeoutError: some had not ended after `timeout` seconds.

        """
        async with self._running("task_group", timeout) as limit:
            await runner.task_group(self._machine, limit)
        return self.outcomes()

    def abandon(self, block: Block | None) -> None:
        """Tell the end of the run from another thread, because a worker blocks the loop. Nothing is told after it.

        `block` is what is known of that.
        """
        self._machine.abandon(block)

    async def wait_settled(self) -> None:
        """Return when no worker has anything left to do."""
        await self._machine.wait_settled()

    def carry_out(self, command: Command) -> bool:
        """Do what a person asks; return whether that was possible. If not, the event `CommandRefused` tells why."""
        machine = self._machine
        if isinstance(command, CancelAll | StopRun):
            is_final = isinstance(command, StopRun)
            if not (is_final and self._is_stopping):
                self._stop_all(is_final=is_final)
            if isinstance(command, StopRun) and command.at_once:
                self._hasten()
            return True
        if not machine.report.is_started or machine.is_finished:
            return False
        return requests.carry_out(machine, command)

    def hold_line(self, is_held: bool) -> None:
        """Let no worker take a place for now, or let them again."""
        if self.is_started and not self.is_finished:
            self._machine.hold_line(is_held)

    def record_log(self, worker: str | None, level: str, source: str, message: str) -> None:
        """Tell the listeners of a log record or a printed line that `worker` made, or nobody."""
        machine = self._machine
        if machine.report.is_started and not machine.is_finished:
            machine.report.log_recorded(worker, level, source, message)

    async def __aenter__(self) -> Self:
        self._stays_open = True
        if self._tree is not None:
            try:
                await self._started_tree()
            except BaseException:
                await self._finish()
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stays_open = False
        if self._machine.report.is_started and not self._machine.is_finished:
            await self._finish()
        self._tell_ending(error)

    @asynccontextmanager
    async def _running(self, name: str, seconds: float | None) -> AsyncIterator[Timeout]:
        """Start the run; on any way out but the straight one, cancel the workers and wait for them."""
        machine = self._machine
        check_timeout(seconds)
        if self._tree is not None:
            raise RuntimeError("a tree does not end by itself: call serve()")
        if machine.report.is_started:
            raise RuntimeError("a supervisor makes one run; this one has been used")
        timeout = Timeout(machine, seconds)
        machine.start(self.name, name, seconds, time.time())
        timeout.start()
        groups = self._time_groups()
        if self._is_stopping:
            self._stop_all(is_final=True)
        try:
            yield timeout
        except BaseException:
            await runner.end_all(machine)
            raise
        finally:
            timeout.stop()
            for timer in groups:
                timer.cancel()
            machine.on_outcome = None
            machine.accepts_restarts = not self._is_stopping
            if not self._stays_open:
                await self._finish()

    async def _finish(self) -> None:
        machine = self._machine
        if machine.is_finished or not machine.report.is_started:
            return
        machine.accepts_restarts = False
        faults: list[BaseException] = []
        try:
            with runner.EndWatch(machine):
                for step in (self._stop_tree, partial(runner.end_all, machine)):
                    try:
                        await step()
                    except (Exception, asyncio.CancelledError) as fault:  # the next step has to follow nevertheless
                        faults.append(fault)
        finally:
            machine.finish()
        if faults:
            raise next((fault for fault in faults if isinstance(fault, asyncio.CancelledError)), faults[0])

    async def _stop_tree(self) -> None:
        if self._tree is None:
            return
        try:
            self._end_batch()
        finally:
            await self._tree.stop("run")

    def _make_tree(self) -> None:
        """Make a tree of what was given, in place of a batch that has not started if there is one.

        Both report through the same reporter, which may have listeners already.
        """
        crew = new_crew(batch=self._batch, **self._settings)
        self._plant(crew, root_spec(one_by_one(self._children), self._root_flags))

    def _incarnation(self, name: str) -> int:
        worker = self._machine.workers.get(name)
        if worker is None:
            raise KeyError(name)
        return worker.incarnation

    def _time_groups(self) -> list[asyncio.TimerHandle]:
        return [self._time_group(group, limit) for group, limit in self._group_timeouts.items()]

    def _time_group(self, group: str, seconds: float) -> asyncio.TimerHandle:
        machine = self._machine

        def end() -> None:
            machine.stop_batch("timeout", group)

        return machine.report.loop.call_later(seconds, end)

    def _hasten(self) -> None:
        """Give nobody any more time to end."""
        machine = self._machine
        if machine.report.is_started and machine.active:
            machine.report.run_cancel_requested("at once")
            if self._tree is not None:
                self._tree.hasten()
            machine.hasten_batch()

    def _stop_all(self, *, is_final: bool) -> None:
        machine = self._machine
        if is_final:
            self._is_stopping = True
            machine.accepts_restarts = False
            machine.is_interrupted = machine.is_interrupted or machine.active > 0 or not machine.report.is_started
        if not machine.report.is_started:
            return
        if machine.active:
            machine.report.run_cancel_requested("person")
        if is_final and self._tree is not None:
            # Also without a worker that runs: its supervisors would go on.
            self._tree.request_stop("run")
            machine.stop_batch("run")
        elif machine.active:
            machine.stop_active("run")
