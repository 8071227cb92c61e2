"""What a worker is to do and how it is to be treated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from asyncwatch.events import WorkerState
from asyncwatch.supervise.classify import Classify, ErrorClass, classify
from asyncwatch.supervise.luck import BadLuck
from asyncwatch.supervise.retry import RetryPolicy

Target = Callable[..., Awaitable[Any]]


class WorkerSpec(msgspec.Struct, frozen=True, gc=False):
    """One worker: its name, unique in its fleet, and the coroutine function it calls.

    Raises:
        ValueError: an empty name, a time limit that is not above 0, or an unknown class of errors.
        TypeError: a target that cannot be called.

    """

    name: str
    target: Target
    args: tuple[Any, ...] = ()
    retry: RetryPolicy = RetryPolicy()
    bad_luck: BadLuck = BadLuck()
    attempt_timeout: float | None = None
    """Seconds that one attempt may take; then it fails with `TimeoutError`. None: no limit."""
    group: str = ""
    """What the worker is shown under; groups can have a timeout of their own."""
    deadline: float | None = None
    """Seconds from the start of the first attempt. A running attempt fails at it with `DeadlineExceeded`, and no retry
    starts after it. None: no limit."""
    classify: Classify = classify
    """Says of which `ErrorClass` an error is."""
    retry_by_class: Mapping[ErrorClass, RetryPolicy] | None = None
    """Policies of classes of errors (by name or member), in place of `retry`. Permanent errors are retried by one of
    their own only."""

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a worker needs a name")
        if not callable(self.target):
            raise TypeError(f"the target of worker {self.name!r} cannot be called: {self.target!r}")
        if self.attempt_timeout is not None and not self.attempt_timeout > 0:
            raise ValueError(f"attempt_timeout must be above 0 seconds, not {self.attempt_timeout}")
        if self.deadline is not None and not self.deadline > 0:
            raise ValueError(f"deadline must be above 0 seconds, not {self.deadline}")
        if self.retry_by_class is not None:
            for name in self.retry_by_class:
                ErrorClass(name)


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one incarnation of a worker ended."""

    name: str
    state: WorkerState
    result: Any = None
    """What the target returned, the very object."""
    error: BaseException | None = None
    """What the target raised in its last attempt, if that is how the worker ended."""
    incarnation: int = 1
    attempts: int = 0
    elapsed: float = 0.0
    """Seconds from the start of the first attempt to the end, backoff included."""

    @property
    def is_success(self) -> bool:
        """Whether the worker succeeded."""
        return self.state is WorkerState.SUCCEEDED

    @property
    def status(self) -> int | None:
        """The integer that the target returned (its HTTP status), 0 for failed and exhausted, else None."""
        if self.state in (WorkerState.FAILED, WorkerState.EXHAUSTED):
            return 0
        return self.result if type(self.result) is int else None


class WaitResult(msgspec.Struct, frozen=True):
    """What `Supervisor.wait` returns: the outcomes of those that had ended, and of those that had not."""

    done: tuple[Outcome, ...]
    pending: tuple[Outcome, ...]


GroupTimeouts = Mapping[str, float]
"""Seconds from the start of the run after which the pending workers of a group are timed out, by group."""
