"""Ends what takes too long. One timer serves all that are under way, as a timer each costs more than all else here."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class Deadlines:
    """The deadlines of all calls that may take `seconds` each, on the event loop that runs when this is made.

    They end in the order in which they began, so that only the oldest has to be waited for.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.loop = asyncio.get_running_loop()
        self.under_way: dict[Deadline, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def await_next(self) -> None:
        """See to the end of the oldest that is under way, if that is not seen to."""
        if self._timer is None and self.under_way:
            self._timer = self.loop.call_at(next(iter(self.under_way)).due, self._end_overdue)

    def close(self) -> None:
        """End nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_overdue(self) -> None:
        self._timer = None
        now = self.loop.time()
        for deadline in list(self.under_way):
            if deadline.due > now:
                break
            deadline.pass_by()
        self.await_next()


class Deadline:
    """A context that is cancelled when its time is over, and then raises `TimeoutError` instead, as `asyncio.timeout`.

    Raises:
        TimeoutError: it was not left in time. If somebody else cancelled the task too, that goes before.

    """

    __slots__ = ("_asked_before", "_deadlines", "_is_past", "_task", "due")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._is_past = False

    def __enter__(self) -> Self:
        deadlines = self._deadlines
        task = asyncio.current_task(deadlines.loop)
        assert task is not None  # noqa: S101  coroutines run in tasks
        self._task, self._asked_before = task, task.cancelling()
        self.due = deadlines.loop.time() + deadlines.seconds
        deadlines.under_way[self] = None
        deadlines.await_next()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._is_past:
            del self._deadlines.under_way[self]
        elif self._task.uncancel() <= self._asked_before and kind is asyncio.CancelledError:
            raise TimeoutError(f"no complete answer within {self._deadlines.seconds:g} s") from error

    def pass_by(self) -> None:
        """Cancel what is not over in time."""
        del self._deadlines.under_way[self]
        self._is_past = True
        self._task.cancel()
