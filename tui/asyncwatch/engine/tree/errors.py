"""What can be wrong with a spec, with a request to a supervisor, and how a target says that it ends on purpose."""

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

# Names without the ending `Error` are OTP's own words, as one finds them in its manual.


class InvalidName(SpecError):  # noqa: N818
    """A name is empty or no text; or it is a supervisor's and has a slash; or a worker's and is a path beside it."""


class DuplicateName(SpecError):  # noqa: N818
    """Two children of one supervisor have the same name."""


class InvalidChild(SpecError):  # noqa: N818
    """A child is none of WorkerSpec, SupervisorSpec and PoolSpec."""


class InvalidTemplate(SpecError):  # noqa: N818
    """A pool has exactly one template, a WorkerSpec or a SupervisorSpec."""


class InvalidArguments(SpecError):  # noqa: N818
    """`args` is a tuple."""


class InvalidStrategy(SpecError):  # noqa: N818
    """A strategy is one of one_for_one, one_for_all, rest_for_one."""


class InvalidIntensity(SpecError):  # noqa: N818
    """`max_restarts` is a whole number, 0 or more."""


class InvalidPeriod(SpecError):  # noqa: N818
    """`within` and `every` are in seconds, above 0 and finite."""


class InvalidAutoShutdown(SpecError):  # noqa: N818
    """`auto_shutdown` is one of never, any_significant, all_significant."""


class InvalidRestartType(SpecError):  # noqa: N818
    """`restart` is one of permanent, transient, temporary."""


class InvalidShutdown(SpecError):  # noqa: N818
    """`shutdown` is in seconds, 0 or more, or inf."""


class InvalidFlag(SpecError):  # noqa: N818
    """`significant`, `announces_ready` and `escalates` are True or False."""


class BadCombination(SpecError):  # noqa: N818
    """Two fields that are valid alone exclude each other."""


class TreeError(Exception):
    """Base of what a supervisor answers to a request that it cannot fulfil."""


class AlreadyStarted(TreeError):  # noqa: N818
    """There is a child of that name, and it runs."""


class AlreadyPresent(TreeError):  # noqa: N818
    """There is a child of that name; it does not run."""


class NotFound(TreeError):  # noqa: N818
    """There is no child of that name."""


class NoSuchSupervisor(NotFound):
    """There is no running supervisor of that name or path."""


class Running(TreeError):  # noqa: N818
    """The child runs; terminate it first."""


class Restarting(TreeError):  # noqa: N818
    """The child is being restarted; terminate it first."""


class SimpleOneForOne(TreeError):  # noqa: N818
    """A pool neither restarts nor deletes a child by request: it has no spec of its own."""


class StartError(TreeError):
    """A child did not start. `child` is its path, `error` (also its cause) what it raised.

    `is_called_off` says whether somebody stopped it before it was ready.
    """

    def __init__(self, child: str, error: BaseException, *, is_called_off: bool = False) -> None:
        why = str(error) if isinstance(error, StartError) else ": ".join(filter(None, describe_error(error)))
        super().__init__(f"{shown_path(child)} did not start: {why}")
        self.child = child
        self.error = error
        self.is_called_off = is_called_off
        self.__cause__ = error


class RestartLimitError(TreeError):
    """More restarts than `max_restarts` within `within` seconds: the supervisor gave up and ended all its children."""

    def __init__(self, supervisor: str, max_restarts: int, within: float, cause: BaseException | None) -> None:
        limit = f"more than {count(max_restarts, 'restart')} within {within:g} s"
        super().__init__(f"{shown_path(supervisor)} gave up: {limit}")
        self.supervisor = supervisor
        self.__cause__ = cause


class Ignore(Exception):  # noqa: N818
    """Raised by a target before it is ready: it has nothing to do here and is not to be started (OTP's `ignore`)."""


class Shutdown(Exception):  # noqa: N818
    """Raised by a target that ends on purpose: clean for a transient worker; a permanent one is restarted."""
