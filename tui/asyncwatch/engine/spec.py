"""What a worker does and how it is treated, generic in the target's result and arguments.

A type checker refuses `args` that do not fit the target, and knows the type of `Outcome.result`. Generic structs cost
nothing at run time: msgspec compares no type parameters. The defaults of the type variables (PEP 696) let a bare
`WorkerSpec` stand for any; they come from `typing_extensions`, which only type checkers need.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic

import msgspec

from asyncwatch.engine.tree import rules
from asyncwatch.engine.tree.errors import BadCombination, InvalidArguments, InvalidName
from asyncwatch.events import WorkerEnded, WorkerState
from asyncwatch.policies.bad_luck import BadLuck
from asyncwatch.policies.classify import Classify, ErrorClass, classify
from asyncwatch.policies.restart import WITHIN, WORKER_RESTART, RestartBackoff, RestartType
from asyncwatch.policies.retry import RetryPolicy

if TYPE_CHECKING:
    from typing_extensions import TypeVar, TypeVarTuple, Unpack

    ResultT_co = TypeVar("ResultT_co", covariant=True, default=Any)
    ArgsT = TypeVarTuple("ArgsT", default=Unpack[tuple[Any, ...]])
else:
    from typing import TypeVar, TypeVarTuple

    ResultT_co = TypeVar("ResultT_co", covariant=True)
    ArgsT = TypeVarTuple("ArgsT")

Target = Callable[..., Awaitable[Any]]

DEFAULT_RETRY = RetryPolicy()
_AT_ONCE = RestartBackoff()


class WorkerSpec(msgspec.Struct, Generic[ResultT_co, *ArgsT], frozen=True, gc=False):
    """One worker: its name, unique in the run, and the coroutine function that it calls.

    Raises:
        SpecError: a ValueError; a subclass of its own for each invalid field that is about supervision.
        ValueError: an `attempt_timeout` or a `deadline` that is not above 0, or an unknown class of errors.
        TypeError: a target that cannot be called.

    """

    name: str
    target: Callable[[*ArgsT], Awaitable[ResultT_co]]
    args: tuple[*ArgsT] = ()  # type: ignore[assignment]  # right for a target without parameters
    retry: RetryPolicy = DEFAULT_RETRY
    """By default a service makes one attempt per incarnation: its restart is its retry. A poller makes one per poll."""
    bad_luck: BadLuck = BadLuck()
    attempt_timeout: float | None = None
    """Seconds that one attempt may take; then it is cancelled. It fails with `AttemptTimeout`, unless it returns when
    it is cancelled. None: no limit."""
    group: str = ""
    """The group that the worker is shown in. Groups can have a timeout."""
    key: str | Callable[..., str] | None = None
    """The key of its circuit and rate limit, or a function that makes the key of `args`. None: what the target's own
    `key_of(*args)` returns (the host, for `HttpTarget`), if it has one."""
    deadline: float | None = None
    """Seconds from the start of the first attempt of an incarnation (of each poll, for a poller), waits included. After
    them the worker is exhausted (a poll has failed) by `DeadlineExceeded`, whether an attempt is cut off, it backs off,
    or it is parked. A retry that could not start in time is not waited for. None: no limit."""
    classify: Classify = classify
    """Returns the `ErrorClass` of an error."""
    retry_by_class: Mapping[ErrorClass, RetryPolicy] | None = None
    """Policies by class of errors (name or member), instead of `retry`. Permanent errors are retried only by one of
    their own."""
    restart: RestartType = WORKER_RESTART
    """Whether its supervisor restarts it: always, after an abnormal end, or never."""
    shutdown: float | None = None
    """Seconds it may take to end after it was first asked to, however often it is asked; inf: no limit; 0: a few loop
    iterations. None: the run's grace. A pool's children share the time of their template when the pool stops, and none
    may take longer than the supervisors above it."""
    significant: bool = False
    """Whether its end for good can end its supervisor, by that supervisor's `auto_shutdown`."""
    announces_ready: bool = False
    """Whether it is ready only when it calls `asyncwatch.ready()`, not when it has run its first step."""
    liveness: float | None = None
    """Seconds for which a service that is ready may go without a call of `current_worker().alive()`. Then its attempt
    is cancelled and fails with `LivenessTimeout`, whatever it returns, and its supervisor restarts it as after any
    error. Time in which the event loop stands still does not count. None: no limit."""
    every: float | None = None
    """Seconds from the end of one call (a poll) to the start of the next: a poller. None: a return is its end.

    A poll that fails, after its retries if `retry` allows any, is not a crash: the poller goes on, and restart limits
    do not count it. A poller ends as any service does by `Shutdown`, by a request to exit (`SystemExit`), or when
    a poll ignores its cancellation."""
    max_restarts: int | None = None
    """Its own limit of restarts `within` seconds; they do not count for its supervisor then. None: the supervisor's."""
    within: float = WITHIN
    escalates: bool = False
    """Whether its supervisor gives up too when it has reached its own limit. Otherwise it alone stays down, and the
    siblings that were stopped to be restarted with it are started again."""
    backoff: RestartBackoff = _AT_ONCE
    """How long it waits before it is restarted."""

    def __post_init__(self) -> None:
        # By identity: 0 and 1 are no flags, though they equal False and True; and it is quick.
        if (
            self.restart is not WORKER_RESTART
            or self.shutdown is not None
            or self.significant is not False
            or self.announces_ready is not False
            or self.every is not None
            or self.liveness is not None
        ):
            _check_service(self)
        if self.max_restarts is not None or self.escalates is not False or self.within is not WITHIN:
            _check_limit(self)
        if self.backoff is not _AT_ONCE:
            rules.check_backoff(self.backoff)
        name: Any = self.name  # whatever the caller gave, like the args
        if not name or not isinstance(name, str):
            raise InvalidName(f"a worker needs a name, a text, not {name!r}")
        if not isinstance(self.args, tuple):
            raise InvalidArguments(f"the args of worker {name!r} must be a tuple, not {self.args!r}")
        if not callable(self.target):
            raise TypeError(f"the target of worker {self.name!r} cannot be called: {self.target!r}")
        if self.attempt_timeout is not None and not self.attempt_timeout > 0:
            raise ValueError(f"attempt_timeout must be above 0 seconds, not {self.attempt_timeout}")
        if self.deadline is not None and not self.deadline > 0:
            raise ValueError(f"deadline must be above 0 seconds, not {self.deadline}")
        if self.retry_by_class is not None:
            for name in self.retry_by_class:
                ErrorClass(name)

    @property
    def is_service(self) -> bool:
        """Whether it is to run for ever."""
        return self.restart != "temporary" or self.every is not None


class WorkerSpecs(msgspec.Struct, Generic[ResultT_co], frozen=True):
    """Many workers that differ only in their names and one argument, in a fraction of the memory of their specs.

    The item follows the template's `args`. Bind leading arguments with `functools.partial` instead, if a type checker
    is to check the template.

    Raises:
        ValueError: there are not as many items as names.
        SpecError: a ValueError; the template is of a service.

    """

    template: WorkerSpec[ResultT_co, *tuple[Any, ...]]
    """How they are treated; its name is not used."""
    names: Sequence[str]
    """Unique in the run."""
    items: Sequence[Any] | None = None
    """What each target gets after the template's args; None for nothing."""

    def __post_init__(self) -> None:
        if self.items is not None and len(self.items) != len(self.names):
            raise ValueError(f"there are {len(self.items)} items for {len(self.names)} names")

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[WorkerSpec[ResultT_co, *tuple[Any, ...]]]:
        """Yield the spec of each worker, in order."""
        for place, name in enumerate(self.names):
            yield msgspec.structs.replace(self.template, name=name, args=self.args(place))

    def args(self, place: int) -> tuple[Any, ...]:
        """Return the arguments for the target of the worker at that place."""
        return self.template.args if self.items is None else (*self.template.args, self.items[place])


class BadItem(msgspec.Struct, frozen=True, gc=False):
    """An item that cannot be read, in the place of the item: its worker fails."""

    problem: str


class OwnSpec(msgspec.Struct, frozen=True, gc=False):
    """In the place of an item of a feed: its worker has a spec of its own, and not the template of the feed."""

    spec: WorkerSpec


def _check_service(spec: WorkerSpec) -> None:
    rules.check_restart(spec.restart)
    if spec.shutdown is not None:
        rules.check_shutdown(spec.shutdown)
    rules.check_significant(spec.significant, spec.restart)
    rules.check_flag(spec.announces_ready, "announces_ready")
    if spec.every is not None:
        rules.check_period(spec.every, "every")
    if spec.liveness is not None:
        rules.check_period(spec.liveness, "liveness")
        if not spec.is_service:
            raise BadCombination(f"{spec.name!r} has a liveness, but is never restarted: set restart, or no liveness")


def _check_limit(spec: WorkerSpec) -> None:
    rules.check_flag(spec.escalates, "escalates")
    rules.check_period(spec.within, "within")
    if spec.max_restarts is not None:
        rules.check_intensity(spec.max_restarts, spec.within)
    elif spec.escalates:
        raise BadCombination(f"{spec.name!r} escalates, but has no limit of restarts of its own: set max_restarts")


class Outcome(msgspec.Struct, Generic[ResultT_co], frozen=True, kw_only=True):
    """How one incarnation of a worker ended."""

    name: str
    state: WorkerState
    result: ResultT_co | None = None
    """What the target returned, the very object; None if it did not."""
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
        if self.state.is_failure:
            return 0
        return self.result if type(self.result) is int else None


def outcome_of(event: WorkerEnded, result: object, error: BaseException | None) -> Outcome:
    """Return the outcome that an event reports, with the very objects."""
    return Outcome(
        name=event.worker,
        state=event.state,
        result=result,
        error=error,
        incarnation=event.incarnation,
        attempts=event.attempts,
        elapsed=event.elapsed,
    )


class WaitResult(msgspec.Struct, Generic[ResultT_co], frozen=True):
    """What `Run.wait` returns: the outcomes of the workers that had ended, and of those that had not."""

    done: tuple[Outcome[ResultT_co], ...]
    pending: tuple[Outcome[ResultT_co], ...]

    def __iter__(self) -> Iterator[tuple[Outcome[ResultT_co], ...]]:
        """Yield `done` and `pending`, so that `done, pending = await run.wait()` works as with `asyncio.wait`."""
        yield self.done
        yield self.pending
