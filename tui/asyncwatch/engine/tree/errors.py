"""Errors of supervision: of invalid specs, of refused requests, and the two that a target raises to end on purpose.

Names without the suffix `Error` are OTP's own words, so that its manual explains them.
"""

from __future__ import annotations

from asyncwatch.engine.describe import describe_error
from asyncwatch.events.tree import shown_path
from asyncwatch.policies.restart import InvalidBackoff, SpecError
from asyncwatch.text import count

__all__ = [
    "AlreadyPresent",
    "AlreadyStarted",
    "BadCombination",
    "DuplicateName",
    "Ignore",
    "InvalidArguments",
    "InvalidAutoShutdown",
    "InvalidBackoff",
    "InvalidChild",
    "InvalidFlag",
    "InvalidIntensity",
    "InvalidName",
    "InvalidPeriod",
    "InvalidRestartType",
    "InvalidShutdown",
    "InvalidStrategy",
    "InvalidTemplate",
    "NoSuchSupervisor",
    "NotFound",
    "RestartLimitError",
    "Restarting",
    "Running",
    "Shutdown",
    "SimpleOneForOne",
    "SpecError",
    "StartError",
    "TreeError",
]


class InvalidName(SpecError):  # noqa: N818
    """A name is empty or not a string, a supervisor's name has a slash, or a worker's name is a path beside it."""


class DuplicateName(SpecError):  # noqa: N818
    """Two children of one supervisor have the same name."""


class InvalidChild(SpecError):  # noqa: N818
    """A child is not a WorkerSpec, SupervisorSpec or PoolSpec."""


class InvalidTemplate(SpecError):  # noqa: N818
    """A pool's template is not a WorkerSpec or SupervisorSpec, or cannot take the arguments."""


class InvalidArguments(SpecError):  # noqa: N818
    """`args` is not a tuple."""


class InvalidStrategy(SpecError):  # noqa: N818
    """The strategy is not one_for_one, one_for_all or rest_for_one."""


class InvalidIntensity(SpecError):  # noqa: N818
    """`max_restarts` is not a whole number of 0 or more."""


class InvalidPeriod(SpecError):  # noqa: N818
    """`within` or `every` is not a finite number of seconds above 0."""


class InvalidAutoShutdown(SpecError):  # noqa: N818
    """`auto_shutdown` is not never, any_significant or all_significant."""


class InvalidRestartType(SpecError):  # noqa: N818
    """`restart` is not permanent, transient or temporary."""


class InvalidShutdown(SpecError):  # noqa: N818
    """`shutdown` is not a number of seconds of 0 or more, or inf."""


class InvalidFlag(SpecError):  # noqa: N818
    """`significant`, `announces_ready` or `escalates` is not True or False."""


class BadCombination(SpecError):  # noqa: N818
    """Two fields that are valid on their own exclude each other."""


class TreeError(Exception):
    """Base of the errors of requests that a supervisor refuses or cannot fulfil."""


class AlreadyStarted(TreeError):  # noqa: N818
    """A child of that name is running."""


class AlreadyPresent(TreeError):  # noqa: N818
    """There is a child of that name; it is not running."""


class NotFound(TreeError):  # noqa: N818
    """There is no child of that name."""


class NoSuchSupervisor(NotFound):
    """No running supervisor has that name or path."""


class Running(TreeError):  # noqa: N818
    """The child is running: terminate it first."""


class Restarting(TreeError):  # noqa: N818
    """The child is being restarted: terminate it first."""


class SimpleOneForOne(TreeError):  # noqa: N818
    """A pool does not restart or delete single children: they have no spec of their own."""


class StartError(TreeError):
    """A child did not start.

    Attributes:
        child: its path.
        error: what it raised; also the `__cause__`.
        is_called_off: whether a request stopped the child before it was ready.

    """

    def __init__(self, child: str, error: BaseException, *, is_called_off: bool = False) -> None:
        why = str(error) if isinstance(error, StartError) else ": ".join(filter(None, describe_error(error)))
        super().__init__(f"{shown_path(child)} did not start: {why}")
        self.child = child
        self.error = error
        self.is_called_off = is_called_off
        self.__cause__ = error


class RestartLimitError(TreeError):
    """A supervisor gave up after more than `max_restarts` restarts within `within` seconds, and ended its children."""

    def __init__(self, supervisor: str, max_restarts: int, within: float, cause: BaseException | None) -> None:
        limit = f"more than {count(max_restarts, 'restart')} within {within:g} s"
        super().__init__(f"{shown_path(supervisor)} gave up: {limit}")
        self.supervisor = supervisor
        self.__cause__ = cause


class Ignore(Exception):  # noqa: N818
    """Raised by a target before it is ready: it has nothing to do, and its start is no failure (OTP's `ignore`)."""


class Shutdown(Exception):  # noqa: N818
    """Raised by a target to end on purpose. A transient worker stays down; a permanent one is restarted."""
