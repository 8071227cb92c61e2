"""The current worker, for targets, log handlers and prints anywhere below an attempt."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol


class CurrentWorker(Protocol):
    """The worker whose attempt is running, as it is at this moment."""

    @property
    def name(self) -> str:
        """Its name, unique in the fleet."""

    @property
    def incarnation(self) -> int:
        """The number of its incarnation, from 1."""

    @property
    def attempt(self) -> int:
        """The number of the attempt within the incarnation, from 1."""

    @property
    def bad_luck(self) -> float:
        """The draw of this attempt, in [0, 1)."""

    @property
    def idempotency_key(self) -> str:
        """A text of 32 hexadecimal digits that is the same for its item in every attempt, restart, resume and repeat.

        Send it along (as a header, for example), so that the other side does the work once. It is made of the root run
        and the item: its name, else its content, and its ordinal among equal ones. A worker without an item is known by
        its name.
        """

    def progress(self, done: float, total: float | None = None, unit: str = "") -> None:
        """Show in the worker's row how far the attempt is: `progress(3, 10, "page")` is `3/10 page`.

        Call it from any thread, and as often as you like: at most ten changes a second are reported, and always the
        last one. A new attempt starts without progress. Outside an attempt it does nothing.

        Raises:
            ValueError: a number that is not finite.
            TypeError: no number.

        """

    def status(self, text: str) -> None:
        """Show in the worker's row what the attempt does, as `waiting for export`; an empty text takes it back.

        It is reported as `progress` is.
        """

    def check_cancelled(self) -> None:
        """Raise `asyncio.CancelledError` if the attempt was cancelled or abandoned: for functions in threads.

        A thread cannot be interrupted. A function that calls this now and then ends soon after a cancellation.
        """

    def alive(self) -> None:
        """Say that the service works, from any thread. One that has a `liveness` is restarted without that."""


current: ContextVar[CurrentWorker | None] = ContextVar("asyncwatch_worker", default=None)
enclosing: ContextVar[CurrentWorker | None] = ContextVar("asyncwatch_enclosing_worker", default=None)
"""In a run that a worker has started: that worker, the outermost one of several. None in a run of its own."""

attempt_number: ContextVar[int] = ContextVar("asyncwatch_attempt", default=0)
"""Which attempt of its run the caller runs in, so that one that was abandoned does not speak for its successor."""


def current_worker() -> CurrentWorker | None:
    """Return the worker that the caller runs in, or None outside any.

    Tasks and threads (`asyncio.to_thread`) that a worker starts are in it too.
    """
    return current.get()


def outermost_worker() -> CurrentWorker | None:
    """Return the worker of the outermost run that the caller runs in, or None outside any.

    What is captured belongs to that run: the workers of a run inside it may have the same names.
    """
    return enclosing.get() or current.get()
