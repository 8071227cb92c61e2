"""Calls the target of a worker, in the task of one attempt."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

from asyncwatch.engine.capture import finish_lines, printing
from asyncwatch.engine.current import current
from asyncwatch.engine.line import Line
from asyncwatch.engine.safe_log import log_safely
from asyncwatch.engine.spec import Outcome
from asyncwatch.engine.watchdog import boundary
from asyncwatch.engine.worker import Worker
from asyncwatch.policies.bad_luck import Luck

logger = logging.getLogger("asyncwatch.worker")


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
    """Calls targets, one task per attempt. All methods belong to the thread of the loop."""

    def __init__(self, concurrency: int, *, seed: int, **limits: Any) -> None:
        super().__init__(concurrency, **limits)
        self.tasks: dict[asyncio.Task[Any], Worker] = {}
        """Every task that has not ended, and the worker whose attempt it is."""
        self.active = 0
        """How many workers have not settled."""
        self.on_outcome: Callable[[Outcome], None] | None = None
        self._luck = Luck(seed)

    @boundary
    async def _attempt(self, worker: Worker) -> Any:
        """Call the target of the worker, unless bad luck injects a fault instead."""
        current.set(worker)
        try:
            if worker.latency:
                await asyncio.sleep(worker.latency)
            if worker.is_struck:
                log_safely(logger, logging.WARNING, "Status: failed, %s, %.2f", worker.name, worker.bad_luck)
                raise self._fault(worker)
            return await worker.spec.target(*worker.args)
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
            # An error's traceback holds this frame, and the worker's task holds the error: a cycle.
            del worker

    def _fault(self, worker: Worker) -> Exception:
        draw = self._luck.draw("fault", worker.name, worker.incarnation, worker.draw_number)
        return worker.spec.bad_luck.fault(draw)
