"""The tasks in which targets are called: each is made for one worker, and lent to others that find it as it was.

Most of what a worker costs that returns without any wait is its task. So one that is as if nobody had run in it yet is
that of the next worker in line as well. What a worker can leave behind is in `traces`: nobody can tell whether somebody
was there before, and a worker whose attempt fails, or is stopped, is always the last.
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
from asyncwatch.supervise.capture import finish_lines
from asyncwatch.supervise.current import current
from asyncwatch.supervise.line import Line
from asyncwatch.supervise.luck import Luck
from asyncwatch.supervise.roster import Roster
from asyncwatch.supervise.spec import Outcome
from asyncwatch.supervise.traces import are_same, traces_in
from asyncwatch.supervise.worker import Worker

logger = logging.getLogger("asyncwatch.worker")

LENDINGS = 1_000
"""How often tasks are lent before the loop has its next turn."""
LENT_FOR = 0.002
"""Seconds from the first of those on, after which no task is lent before the loop has its next turn."""
# Before Python 3.12 each lookup of an enum's member costs 50 ns.
_SUCCEEDED = WorkerState.SUCCEEDED


def raised_by(attempt: asyncio.Task[Any]) -> BaseException | None:
    """Return what the target raised in an attempt whose task is done, whatever it is; None if it returned."""
    if attempt.cancelled():
        return asyncio.CancelledError("cancelled by somebody else")
    error = attempt.exception()
    if error is None and isinstance(result := attempt.result(), _Raised):
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
        self._luck = Luck(seed)
        self._lendings = LENDINGS
        self._lent_until = 0.0

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
        while True:
            current.set(worker)
            try:
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
                finish_lines(worker.name)
            if worker.task is not task or worker.stop_reason or self.is_gated or not worker.takes_place:
                return result
            current.set(caller)
            if traces_in(task) != traces or not are_same(context, copy_context()):
                return result
            following = self._lend(task, worker, result)
            if following is None:
                self._fill_places()
                return None
            worker = following

    def _fault(self, worker: Worker) -> Exception:
        draw = self._luck.draw("fault", worker.name, worker.incarnation, worker.draw_number)
        return worker.spec.bad_luck.fault(draw)

    def _lend(self, task: asyncio.Task[Any], worker: Worker, result: object) -> Worker | None:
        """Settle a worker that has succeeded, and lend its task to the next one in line, if there is one, and time."""
        now = self._succeeded(worker, result)
        is_first = self._lendings == LENDINGS
        if is_first:
            self._lent_until = now + LENT_FOR
        following = None
        if self._lendings and now < self._lent_until and self.in_flight < self._places:
            following = self._next_in_line()
        if following is None:
            del self.tasks[task]
            return None
        if is_first:
            self.report.loop.call_soon(self._turn_ended)
        self._lendings -= 1
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
            or self.on_outcome is not None
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
