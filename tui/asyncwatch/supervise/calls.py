"""The tasks in which targets are called: each is made for one worker, and lent to others that find it as new.

Most of what a worker costs that returns without any wait is its task. So one in which nobody has left anything is that
of the next worker in line as well. What a worker can leave is in `traces`; a worker whose attempt fails, or is stopped,
is always the last. A turn of the loop becomes no longer by that than `LENT_FOR` and one more worker take.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any

from asyncwatch.events import WorkerState
from asyncwatch.supervise.budget import Tokens
from asyncwatch.supervise.capture import finish_lines, printing
from asyncwatch.supervise.current import current
from asyncwatch.supervise.halt import Halt
from asyncwatch.supervise.line import Line
from asyncwatch.supervise.luck import Luck
from asyncwatch.supervise.roster import Roster
from asyncwatch.supervise.spec import Outcome
from asyncwatch.supervise.traces import NEW_TASK, are_same, traces_in
from asyncwatch.supervise.worker import Worker

logger = logging.getLogger("asyncwatch.worker")

LENDINGS = 200
"""How many workers may follow others in their tasks within one turn of the loop."""
LENT_FOR = 0.000_5
"""Seconds after which no more do so: they wait for the next turn of the loop, in the task that they have."""
# Before Python 3.12 each lookup of an enum's member costs 50 ns.
_SUCCEEDED = WorkerState.SUCCEEDED


def raised_by(attempt: asyncio.Task[Any]) -> BaseException | None:
    """Return what the target raised in an attempt whose task is done, whatever it is; None if it returned."""
    if attempt.cancelled():
        return asyncio.CancelledError("cancelled by somebody else")
    error = attempt.exception()
    if error is None and type(result := attempt.result()) is _Raised:
        return result.error
    return error


class _Raised:
    """Carries a `SystemExit` or `KeyboardInterrupt` of a target past its task, which would let it end the loop."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Calls(Line):
    """Calls targets, each in a task that nobody else has touched. All methods belong to the thread of the loop."""

    batch: Roster
    """The workers that are work which ends, not services."""
    tokens: Tokens | None
    """What retries are paid with."""

    def __init__(self, concurrency: int, *, seed: int, **limits: Any) -> None:
        super().__init__(concurrency, **limits)
        self.tasks: dict[asyncio.Task[Any], Worker] = {}
        """Every task that has not ended, and the worker whose attempt it is."""
        self.active = 0
        """How many workers have not settled."""
        self.on_outcome: Callable[[Outcome], None] | None = None
        self._halt: Halt | None = None
        self._luck = Luck(seed)
        self._lendings = LENDINGS
        self._lent_until = 0.0
        self._new: tuple[int, ...] = NEW_TASK
        """What `traces_in` a task that nobody has touched: the least that there was in any at its first step."""

    def _ended(self, worker: Worker, result: object, error: BaseException | None) -> None:
        raise NotImplementedError

    async def _attempt(self, worker: Worker) -> Any:
        """Call the target of the worker, and then of those that its task is lent to.

        What it raises or returns is of the last of them; `tasks` tells which that is, none if all have settled.
        """
        task, caller = worker.task, current.get()
        assert task is not None  # noqa: S101  it is the running one
        current.set(caller)  # it is part of the context from now on
        context, traces = copy_context(), traces_in(task)
        if traces < self._new:  # noqa: PLR1730  min() takes longer, for every task
            self._new = traces
        is_own = True
        while True:
            current.set(worker)
            try:
                if not is_own and (not self._lendings or worker.started_at >= self._lent_until):
                    await asyncio.sleep(0)
                if worker.latency:
                    await asyncio.sleep(worker.latency)
                if worker.is_struck:
                    logger.warning("Status: failed, %s, %.2f", worker.name, worker.bad_luck)
                    raise self._fault(worker)
                result = await worker.spec.target(*worker.args)
            except SystemExit as error:
                return _Raised(error)
            except KeyboardInterrupt as error:
                # In the main thread it is a person's second Ctrl+C, which is asyncio's to handle.
                if threading.current_thread() is threading.main_thread():
                    raise
                return _Raised(error)
            finally:
                if printing:
                    finish_lines(worker.name)
            if worker.task is not task or worker.stop_reason or self.is_gated or not worker.takes_place:
                return result
            if self.on_outcome is not None or self._halt is not None:  # who may want that nobody else is called
                return result
            if traces_in(task) != self._new or task.get_name() != worker.name:
                return result
            current.set(caller)
            if not are_same(context, copy_context()):
                current.set(worker)
                return result
            following = self._lend(task, worker, result)
            if following is None:
                self._fill_places()
                return None
            worker = following
            is_own = False

    def _fault(self, worker: Worker) -> Exception:
        draw = self._luck.draw("fault", worker.name, worker.incarnation, worker.draw_number)
        return worker.spec.bad_luck.fault(draw)

    def _lend(self, task: asyncio.Task[Any], worker: Worker, result: object) -> Worker | None:
        """Settle a worker that has succeeded, and lend its task to the next one in line, if there is one."""
        now = self._succeeded(worker, result)
        following = self._next_in_line() if self.in_flight < self._places else None
        if following is None:
            del self.tasks[task]
            return None
        if self._lendings == LENDINGS:
            self._lent_until = now + LENT_FOR
            self.report.loop.call_soon(self._turn_ended)
        if self._lendings:
            self._lendings -= 1
        task.set_name(following.name)
        self._start_attempt(following, task, now)
        return following

    def _turn_ended(self) -> None:
        self._lendings = LENDINGS

    def _succeeded(self, worker: Worker, result: object) -> float:
        """Settle a worker that has succeeded; return when that was, in seconds since the run started."""
        tokens = self.tokens
        if (
            worker.attempt + worker.incarnation != 2
            or worker.timer is not None
            or self.active == 1
            or (tokens is not None and not tokens.is_full)
        ):
            self._ended(worker, result, None)
            return self.report.now()
        # Nearly all of a large batch come here: for these it is what `_ended` does, in a third of the time.
        event = self.report.succeeded(worker, result)
        worker.state = _SUCCEEDED
        worker.task = None
        self.batch.note_success(worker.index, event.elapsed, result)
        self.in_flight -= 1
        self.active -= 1
        return event.at
