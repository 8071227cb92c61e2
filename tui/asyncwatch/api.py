"""What one's own program calls instead of `asyncio.gather`: `gather`, `amap` and `open_run`.

All three run on the program's own loop, in the context of their caller. Unless they are to be watched, nothing is
printed and nothing listens.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import logging
import math
import shutil
import sys
import time
import warnings
from array import array
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import Context, ContextVar, copy_context
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    Literal,
    NamedTuple,
    TextIO,
    TypedDict,
    TypeVar,
    TypeVarTuple,
    Unpack,
    cast,
    overload,
)
from weakref import WeakValueDictionary

from asyncwatch.commands import RestartWorker, Statistics
from asyncwatch.config.engine import ASYNCIO
from asyncwatch.engine.current import current, enclosing
from asyncwatch.engine.describe import clean_text, function_of, target_name
from asyncwatch.engine.feed import Feed
from asyncwatch.engine.lifespan import LifespanFactory
from asyncwatch.engine.run import Run, running
from asyncwatch.engine.run_control import RunControl, control_of
from asyncwatch.engine.spec import Outcome, OwnSpec, ResultT_co, WorkerSpec, WorkerSpecs, outcome_of
from asyncwatch.engine.worker import Worker
from asyncwatch.events import WorkerCancelled, WorkerEnded, WorkerState, WorkerSucceeded
from asyncwatch.policies.bad_luck import BadLuck
from asyncwatch.policies.budget import RetryBudget
from asyncwatch.policies.circuit import CircuitPolicy
from asyncwatch.policies.classify import Classify, ErrorClass
from asyncwatch.policies.halt import Halt, parse_halt
from asyncwatch.policies.limits import DEFAULT_CONCURRENCY
from asyncwatch.policies.rate import RateLimit, parse_rate
from asyncwatch.policies.retry import RetryPolicy
from asyncwatch.policies.runner import LifespanPer
from asyncwatch.policies.throttle import ThrottlePolicy
from asyncwatch.text import clock, count, one_line, percent, rate, split_address
from asyncwatch.watching import is_wished, watched

if TYPE_CHECKING:
    from asyncwatch.cluster.client import Cluster
    from asyncwatch.journal.calls import CallJournal

# Failures are raised or returned. A program that configures no logging gets no lines of them on its stderr.
for _failures in ("asyncwatch.worker", "asyncwatch.supervisor"):
    logging.getLogger(_failures).addHandler(logging.NullHandler())

if TYPE_CHECKING:
    from typing_extensions import TypeVar as TypeVarWithDefault

    OpenedT = TypeVarWithDefault("OpenedT", default="NoLifespan")
else:
    OpenedT = TypeVar("OpenedT")

ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")
ResultT = TypeVar("ResultT")
T = TypeVar("T")
T1 = TypeVar("T1")
T2 = TypeVar("T2")
T3 = TypeVar("T3")
T4 = TypeVar("T4")
T5 = TypeVar("T5")
PosArgsT = TypeVarTuple("PosArgsT")

ROWS_KEPT = 100_000
"""Workers that are known after their end, the latest, if there are more."""
_READ_AHEAD = 100
"""Items that are read beyond twice the concurrency."""
_READ_AT_ONCE = 100
"""Items that join in one loop iteration, at most."""
_READ_FOR = 0.001
"""Seconds for which items are read before the first of them join."""
_NAME_LENGTH = 100
"""Characters of the name that a worker has by its item."""


class WorkerOptions(TypedDict, total=False):
    """How workers are treated. The defaults are those of `WorkerSpec`."""

    retry: RetryPolicy
    """By default up to three attempts, if the error is transient."""
    retry_by_class: Mapping[ErrorClass, RetryPolicy] | None
    """Policies by class of errors, instead of `retry`."""
    classify: Classify
    """Returns the `ErrorClass` of an error."""
    bad_luck: BadLuck
    """Faults to inject."""
    attempt_timeout: float | None
    """Seconds that one attempt may take."""
    deadline: float | None
    """Seconds from the start of the first attempt, waits included."""


class RunOptions(WorkerOptions, total=False):
    """The `WorkerOptions`, and the limits of all workers together. The defaults are those of `Run`."""

    rate: RateLimit | str | None
    """Of all attempts; a text such as `50/s` or `50/s burst 5` will do."""
    rate_per_key: RateLimit | str | None
    """Of the attempts of each key."""
    circuit: CircuitPolicy | None
    """Of a circuit breaker for each key."""
    throttle: ThrottlePolicy | None
    """How long a key is waited for that asks for fewer attempts; None for no throttling by key."""
    max_per_key: int | None
    """Most attempts of one key in flight."""
    retry_budget: RetryBudget | None
    """Pays for all retries; None for no limit."""
    halt: Halt | str | None
    """After how many failures no more workers start; a text such as `10` or `5%` will do."""
    grace: float
    """Seconds that a worker may take to end after its cancellation; then it is abandoned as unresponsive."""
    seed: int | None
    """Of every draw; a fresh one if None."""
    engine: str
    """Where the function is called: `asyncio` (here, the default), `dask` (in a process for each processor of this
    machine), or the address (`tls://host:8786`) or file of a Dask scheduler. See the page `cluster` of the guide."""


class NoResult(RuntimeError):  # noqa: N818  named for what there is not, as StopIteration is
    """A worker ended without a result or an error of its own: it was cancelled, timed out, or does not respond."""


class ItemOutcome(Outcome[ResultT_co], Generic[ItemT, ResultT_co], frozen=True, kw_only=True):
    """The outcome of the worker of an item."""

    item: ItemT
    """What the function was called with."""
    is_from_journal: bool = False
    """Whether it succeeded in an earlier call, with which this one goes on: it was not called again."""


# gather --------------------------------------------------------------------------------------------------------------


@overload
def gather(  # type: ignore[overload-overlap]  # False is a bool: as in typeshed
    a1: Awaitable[T1],
    /,
    *,
    return_exceptions: Literal[False] = False,
    limit: int | None = None,
    watch: bool | None = None,
) -> asyncio.Future[tuple[T1]]: ...
@overload
def gather(  # type: ignore[overload-overlap]  # False is a bool: as in typeshed
    a1: Awaitable[T1],
    a2: Awaitable[T2],
    /,
    *,
    return_exceptions: Literal[False] = False,
    limit: int | None = None,
    watch: bool | None = None,
) -> asyncio.Future[tuple[T1, T2]]: ...
@overload
def gather(  # type: ignore[overload-overlap]  # False is a bool: as in typeshed
    a1: Awaitable[T1],
    a2: Awaitable[T2],
    a3: Awaitable[T3],
    /,
    *,
    return_exceptions: Literal[False] = False,
    limit: int | None = None,
    watch: bool | None = None,
) -> asyncio.Future[tuple[T1, T2, T3]]: ...
@overload
def gather(  # type: ignore[overload-overlap]  # False is a bool: as in typeshed
    a1: Awaitable[T1],
    a2: Awaitable[T2],
    a3: Awaitable[T3],
    a4: Awaitable[T4],
    /,
    *,
    return_exceptions: Literal[False] = False,
    limit: int | None = None,
    watch: bool | None = None,
) -> asyncio.Future[tuple[T1, T2, T3, T4]]: ...
@overload
def gather(  # type: ignore[overload-overlap]  # False is a bool: as in typeshed
    a1: Awaitable[T1],
    a2: Awaitable[T2],
    a3: Awaitable[T3],
    a4: Awaitable[T4],
    a5: Awaitable[T5],
    /,
    *,
    return_exceptions: Literal[False] = False,
    limit: int | None = None,
    watch: bool | None = None,
) -> asyncio.Future[tuple[T1, T2, T3, T4, T5]]: ...
@overload
def gather(  # type: ignore[overload-overlap]  # False is a bool: as in typeshed
    *awaitables: Awaitable[T],
    return_exceptions: Literal[False] = False,
    limit: int | None = None,
    watch: bool | None = None,
) -> asyncio.Future[list[T]]: ...
@overload
def gather(
    a1: Awaitable[T1], /, *, return_exceptions: bool, limit: int | None = None, watch: bool | None = None
) -> asyncio.Future[tuple[T1 | BaseException]]: ...
@overload
def gather(
    a1: Awaitable[T1],
    a2: Awaitable[T2],
    /,
    *,
    return_exceptions: bool,
    limit: int | None = None,
    watch: bool | None = None,
) -> asyncio.Future[tuple[T1 | BaseException, T2 | BaseException]]: ...
@overload
def gather(
    a1: Awaitable[T1],
    a2: Awaitable[T2],
    a3: Awaitable[T3],
    /,
    *,
    return_exceptions: bool,
    limit: int | None = None,
    watch: bool | None = None,
) -> asyncio.Future[tuple[T1 | BaseException, T2 | BaseException, T3 | BaseException]]: ...
@overload
def gather(
    *awaitables: Awaitable[T], return_exceptions: bool, limit: int | None = None, watch: bool | None = None
) -> asyncio.Future[list[T | BaseException]]: ...
def gather(
    *awaitables: Any, return_exceptions: bool = False, limit: int | None = None, watch: bool | None = None
) -> Any:
    """Do what `asyncio.gather` does, to the letter: it returns a future of the list of results.

    With `limit`, at most so many of the coroutines run at a time, the others wait in order. Futures and tasks run
    already, and are not limited. A coroutine object cannot be tried again; `amap` can retry.

    With `watch`, a dashboard in the terminal shows each coroutine, and other processes find the run (see
    `asyncwatch.watch`). None leaves that to the environment variable `ASYNCWATCH`.

    Raises:
        ValueError: `limit` is below 1.

    """
    if limit is None and not is_wished(watch):
        return asyncio.gather(*awaitables, return_exceptions=return_exceptions)
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    return gather_supervised(awaitables, return_exceptions=return_exceptions, limit=limit, watch=watch)


def gather_supervised(
    awaitables: Sequence[Any], *, return_exceptions: bool, limit: int | None, watch: bool | None = None
) -> asyncio.Future[list[Any]]:
    """Gather as a run in which each coroutine is a worker, and without a limit each future too.

    `asyncio.gather` awaits a future of each coroutine, which the run's worker resolves and which is cancelled as a task
    is. So the semantics are its own. The loop is the one that it would use, which may not run yet.
    """
    first = awaitables[0] if awaitables else None
    loop = first.get_loop() if asyncio.isfuture(first) else asyncio.gather().get_loop()
    rows: dict[Any, _Row] = {}
    futures: list[Any] = []
    for awaitable in awaitables:
        is_future = asyncio.isfuture(awaitable)
        if not (is_future or inspect.isawaitable(awaitable)):
            futures.append(awaitable)  # a TypeError below; what came before it runs
            break
        if awaitable not in rows and not (is_future and limit is not None):
            rows[awaitable] = _Row(awaitable, loop)
        futures.append(awaitable if is_future else rows[awaitable])
    try:
        return asyncio.gather(*futures, return_exceptions=return_exceptions)
    finally:
        if rows:
            task = asyncio.Task(_run_rows(list(rows.values()), limit or len(rows), watch), loop=loop)
            _gathering.add(task)
            task.add_done_callback(_gathering.discard)


_gathering: set[asyncio.Task[None]] = set()
"""The loop keeps only weak references to tasks."""


class _Row(asyncio.Future[Any]):
    """A coroutine that is a worker, and the future of its result. It is cancelled as the coroutine's task would be."""

    def __init__(self, awaitable: Any, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.awaitable = awaitable
        self.control: RunControl | None = None
        self.name = ""
        self._task: asyncio.Task[Any] | None = None
        self._cancelled_by: asyncio.CancelledError | None = None

    def _make_cancelled_error(self) -> asyncio.CancelledError:
        """Return the error of the cancelled coroutine, as that of a task. `asyncio.gather` calls this."""
        return self._cancelled_by or asyncio.CancelledError()

    async def run(self) -> Any:
        """Await the coroutine, and resolve this future as its own task would be resolved."""
        if self.done():
            raise asyncio.CancelledError
        self._task = asyncio.current_task()
        try:
            result = await self.awaitable
        except asyncio.CancelledError as error:
            self._cancelled_by = error
            super().cancel()
            raise
        except BaseException as error:
            self.set_exception(error)
            if asyncio.isfuture(self.awaitable):  # the caller has the error from that
                self._log_traceback = False
            raise
        else:
            self.set_result(result)
            return result
        finally:
            self._task = None

    def cancel(self, msg: Any = None) -> bool:
        """Cancel the coroutine; this future is cancelled when that has ended."""
        if self.done():
            return False
        task = self._task
        if task is None:
            self.drop(msg)
        if self.control is None or not self.control.cancel(self.name, msg):
            return task is None or task.cancel(msg)
        return True

    def drop(self, msg: Any = None) -> None:
        """Cancel this future, whose coroutine has not begun and will not."""
        if not self.done() and self._task is None:
            if inspect.iscoroutine(self.awaitable):
                self.awaitable.close()
            self._cancelled_by = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
            super().cancel()


async def _run_rows(rows: list[_Row], concurrency: int, watch: bool | None) -> None:
    for number, row in enumerate(rows, 1):
        row.name = f"{_name_of_awaitable(row.awaitable)} {number}"
    template = WorkerSpec("gather", _Row.run, retry=RetryPolicy(max_attempts=1), shutdown=math.inf)
    run = Run(
        [WorkerSpecs(template, [row.name for row in rows], rows)],
        name="gather",
        concurrency=concurrency,
        retry_budget=None,
        throttle=None,
    )
    control = control_of(run)
    control.keep_no_values()
    control.refuse_restarts("a coroutine can run only once: give amap its function")
    async with watched(run, is_watched=watch, waits=False), running(run, "gather"):
        for row in rows:
            row.control = control
            if row.done():
                control.cancel(row.name)
        control.watch_ends(lambda worker, *_end: worker.args[0].drop())
        await control.settle()


def _name_of_awaitable(awaitable: Any) -> str:
    if isinstance(awaitable, asyncio.Task):
        return awaitable.get_name()
    return str(getattr(awaitable, "__name__", "") or type(awaitable).__name__)


# amap ----------------------------------------------------------------------------------------------------------------


@overload
def amap(
    func: Callable[[ItemT], Awaitable[ResultT]],
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    *,
    concurrency: int = ...,
    name: Callable[[ItemT], str] | None = ...,
    key: str | Callable[[ItemT], str] | None = ...,
    timeout: float | None = ...,
    on_error: Literal["raise"] = ...,
    lifespan: None = ...,
    journal: str | None = ...,
    progress: bool = ...,
    watch: bool | None = ...,
    **options: Unpack[RunOptions],
) -> AsyncMap[ResultT]: ...
@overload
def amap(
    func: Callable[[ItemT], Awaitable[ResultT]],
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    *,
    concurrency: int = ...,
    name: Callable[[ItemT], str] | None = ...,
    key: str | Callable[[ItemT], str] | None = ...,
    timeout: float | None = ...,
    on_error: Literal["return"],
    lifespan: None = ...,
    journal: str | None = ...,
    progress: bool = ...,
    watch: bool | None = ...,
    **options: Unpack[RunOptions],
) -> AsyncMap[ItemOutcome[ItemT, ResultT]]: ...
@overload
def amap(
    func: Callable[[ItemT, ValueT], Awaitable[ResultT]],
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    *,
    concurrency: int = ...,
    name: Callable[[ItemT], str] | None = ...,
    key: str | Callable[[ItemT], str] | None = ...,
    timeout: float | None = ...,
    on_error: Literal["raise"] = ...,
    lifespan: Callable[[], AbstractAsyncContextManager[ValueT]],
    lifespan_per: LifespanPer = ...,
    journal: str | None = ...,
    progress: bool = ...,
    watch: bool | None = ...,
    **options: Unpack[RunOptions],
) -> AsyncMap[ResultT]: ...
@overload
def amap(
    func: Callable[[ItemT, ValueT], Awaitable[ResultT]],
    items: Iterable[ItemT] | AsyncIterable[ItemT],
    *,
    concurrency: int = ...,
    name: Callable[[ItemT], str] | None = ...,
    key: str | Callable[[ItemT], str] | None = ...,
    timeout: float | None = ...,
    on_error: Literal["return"],
    lifespan: Callable[[], AbstractAsyncContextManager[ValueT]],
    lifespan_per: LifespanPer = ...,
    journal: str | None = ...,
    progress: bool = ...,
    watch: bool | None = ...,
    **options: Unpack[RunOptions],
) -> AsyncMap[ItemOutcome[ItemT, ResultT]]: ...
def amap(
    func: Callable[..., Awaitable[Any]],
    items: Iterable[Any] | AsyncIterable[Any],
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    name: Callable[[Any], str] | None = None,
    key: str | Callable[[Any], str] | None = None,
    timeout: float | None = None,
    on_error: Literal["raise", "return"] = "raise",
    lifespan: LifespanFactory | None = None,
    lifespan_per: LifespanPer = "run",
    journal: str | None = None,
    progress: bool = False,
    watch: bool | None = None,
    **options: Unpack[RunOptions],
) -> AsyncMap[Any]:
    """Call `func` with each item, each call a worker of one run.

    Awaited, it returns the results in the order of the items. Iterated, it yields them as they come, and keeps none;
    to leave the loop early cancels the remaining workers, at once inside `async with amap(...) as results:`.

    A collection of up to 100,000 items is known at once. Any other iterable, which may be endless, is read as workers
    end: of its items at most `2 * concurrency + 100` have not ended, or have ended and were not yielded. An error that
    it raises cancels the workers, and is raised.

    A failed worker does not end the others. With `on_error="raise"` all errors are raised at the end, in the order of
    the items, as an `ExceptionGroup` (a `BaseExceptionGroup` if one of them is no `Exception`), with `NoResult` for a
    worker that was stopped. With `on_error="return"`, outcomes take the place of results.

    Args:
        func: called with each item; once for each attempt.
        items: an iterable or async iterable.
        concurrency: most attempts in flight.
        name: returns the name of an item's worker, which is made unique. None: the item, if it is a text or a number.
        key: the key of the limits of the workers, or a function that returns it for an item.
        timeout: seconds for all; then remaining workers are timed out, and `TimeoutError` is raised.
        on_error: `raise` or `return`.
        lifespan: returns an async context manager, such as a client session, that is entered before the first attempt
            and left after the last. Its value is the second argument of each call.
        lifespan_per: `slot` for a context of its own for each attempt in flight, used again by the next one, unless
            the last one raised `Renew`.
        journal: a name under which the call is recorded, in a file of its own among those of `asyncwatch runs`. If the
            latest call of the function with this name, in the current folder, did not return (it raised, was left or
            cancelled, or its process died), this one goes on with its run: items that succeeded are not called again,
            and their results come from the journal. Otherwise it is a new run. Items are known by what `name` returns
            if it is given, else by their content. Results that JSON would change are not kept: a `RuntimeWarning` says
            so, and their items run again.
        progress: whether to show a line on stderr, if that is a terminal, or in a notebook.
        watch: whether a dashboard in the terminal shows the run (see `asyncwatch.watch`). None leaves that to the
            environment variable `ASYNCWATCH`.
        options: the fields of `RunOptions`.

    Raises:
        BusyError: when awaited: a call with this journal is going on, in the process `pid`.
        JournalError: when awaited: the journal cannot be used.
        OSError: when awaited: the journal cannot be made or opened.
        TypeError: an unknown option, or `items` cannot be iterated.
        ValueError: a value is out of its range.

    """
    if journal is not None and not journal.strip():
        raise ValueError(f"journal must be a name, not {journal!r}")
    if on_error not in {"raise", "return"}:
        raise ValueError(f"on_error must be 'raise' or 'return', not {on_error!r}")
    if not isinstance(items, AsyncIterable):
        items = items if isinstance(items, Collection) else iter(items)
    if not callable(func):
        raise TypeError(f"the function cannot be called: {func!r}")
    shown, context = _Shown(progress, watch), _Context(lifespan, lifespan_per)
    is_returning = on_error == "return"
    return AsyncMap(
        _Mapping(func, items, concurrency, name, key, timeout, is_returning, journal, shown, context, options)
    )


class _Shown(NamedTuple):
    """How a person sees a call of `amap`."""

    has_progress: bool
    watch: bool | None


class _Context(NamedTuple):
    """What is around the attempts of a run."""

    lifespan: LifespanFactory | None
    lifespan_per: LifespanPer


class AsyncMap(Coroutine[Any, Any, list[T]]):
    """A call of `amap`: await it for a list, or iterate over what ends. It runs once, when that begins."""

    def __init__(self, mapping: _Mapping) -> None:
        self.__name__ = self.__qualname__ = "amap"  # shown by the `repr` of a task
        self._mapping: _Mapping | None = mapping
        self._coroutine: Coroutine[Any, Any, list[T]] | None = None
        self._iteration: AsyncGenerator[T, None] | None = None

    def __await__(self) -> Generator[Any, Any, list[T]]:
        """Run all workers; return a list in the order of the items."""
        return self._use().collect().__await__()

    def __aiter__(self) -> AsyncIterator[T]:
        """Run all workers; yield what ends."""
        if self._iteration is None:
            self._iteration = self._use().iterate()
        return self._iteration

    async def __aenter__(self) -> AsyncIterator[T]:
        """Return the iterator, which is closed at the end of the context."""
        return aiter(self)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._iteration is not None:
            await self._iteration.aclose()

    def __del__(self) -> None:
        """Warn of a call that did nothing, as Python does for coroutines."""
        if getattr(self, "_mapping", None) is not None:
            warnings.warn(
                "a call of amap was neither awaited nor iterated over", RuntimeWarning, source=self, stacklevel=2
            )

    def send(self, value: Any, /) -> Any:
        """Run as a coroutine, for `asyncio.create_task` and `asyncio.run`."""
        return self._as_coroutine().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an error in the coroutine."""
        return self._as_coroutine().throw(*error)

    def close(self) -> None:
        """Close the coroutine."""
        if self._coroutine is not None:
            self._coroutine.close()

    def _as_coroutine(self) -> Coroutine[Any, Any, list[T]]:
        if self._coroutine is None:
            self._coroutine = self._use().collect()
        return self._coroutine

    def _use(self) -> _Mapping:
        mapping, self._mapping = self._mapping, None
        if mapping is None:
            raise RuntimeError("a call of amap runs once; this one has been awaited or iterated over")
        return mapping


class _Mapping:
    """What a call of `amap` is to do."""

    def __init__(
        self,
        func: Callable[[Any], Awaitable[Any]],
        items: Iterable[Any] | AsyncIterable[Any],
        concurrency: int,
        name: Callable[[Any], str] | None,
        key: str | Callable[[Any], str] | None,
        timeout: float | None,
        is_returning: bool,
        journal: str | None,
        shown: _Shown,
        context: _Context,
        options: RunOptions,
    ) -> None:
        treatment, limits = _split(options, "amap")
        cluster = _cluster_for(limits, [func], context)
        limits |= context._asdict()
        target = func
        if cluster is not None:
            target, limits["lifespan"] = cluster.remote(func), None
        template = WorkerSpec(_name_of_function(func), target, key=key, **treatment)
        self._reader = _Reader(template, items, name)
        self._journal_name = journal
        self._run: Run[Any] = self._make_run(concurrency, limits)
        self._control = self._reader.control = control_of(self._run)
        if cluster is not None:
            cluster.join(self._control)
        self._timeout = timeout
        self._is_returning = is_returning
        self._shown = shown
        self._errors: dict[int, BaseException] = {}
        """The error of each worker that has none to return, by the place of its item."""

    def _make_run(self, concurrency: int, limits: dict[str, Any]) -> Run[Any]:
        """Return the run that calls the function: all of its workers join from the reader."""
        name = self._journal_name or self._reader.template.name
        run: Run[Any] = Run([], name=name, concurrency=concurrency, **limits)
        control = control_of(run)
        control.keep_no_values()
        if self._reader.is_lazy:
            control.keep_latest(ROWS_KEPT)
        control.open_feed(self._reader)
        return run

    async def collect(self) -> list[Any]:
        """Run all workers; return their results or outcomes in the order of the items."""
        results: list[Any] = []
        if self._journal_name is not None:
            self._reader.places = array("q")

        def keep(place: int, value: Any) -> None:
            if place >= len(results):
                results.extend([None] * (place + 1 - len(results)))
            results[place] = value

        async with self._recorded() as journal:
            async with self._running(keep, journal):
                await self._control.settle()
            self._raise_errors()
        return results

    async def iterate(self) -> AsyncGenerator[Any, None]:
        """Run all workers; yield their results or outcomes as they come."""
        arrived: deque[Any] = deque()
        news = asyncio.Event()
        self._reader.unread = arrived

        def keep(_index: int, value: Any) -> None:
            arrived.append(value)
            news.set()

        async with self._recorded() as journal:
            async with self._running(keep, journal):
                self._control.call_when_settled(news.set)
                while True:
                    while arrived:
                        yield arrived.popleft()
                        self._reader.look_again()
                    if not self._control.is_active:
                        break
                    news.clear()
                    await news.wait()
            self._raise_errors()

    @asynccontextmanager
    async def _recorded(self) -> AsyncIterator[CallJournal | None]:
        """Record the call inside the context, if it has a journal."""
        name, template = self._journal_name, self._reader.template
        if name is None:
            yield None
            return
        from asyncwatch.control.discovery import new_id  # noqa: PLC0415  few calls have a journal
        from asyncwatch.journal.calls import call_of, open_call  # noqa: PLC0415  as above

        call = call_of(name, _full_name(template.target))
        journal = await asyncio.to_thread(open_call, call, new_id, self._run.seed)
        is_returned = False
        try:
            journal.start(self._control)
            yield journal
            is_returned = True
        finally:
            await journal.close(is_returned=is_returned)

    @asynccontextmanager
    async def _running(self, keep: Callable[[int, Any], None], journal: CallJournal | None) -> AsyncIterator[None]:
        """Run the workers inside the context, and pass each result or outcome to `keep` with the place of its item."""
        errors, is_returning, reader = self._errors, self._is_returning, self._reader
        line = _ProgressLine(self._control, reader) if self._shown.has_progress else None
        places = reader.places

        def on_done(place: int, item: object, event: WorkerSucceeded) -> None:
            if line is not None:
                line.note(event)
            outcome = _item_outcome(item, event, event.result, None, is_from_journal=True) if is_returning else None
            keep(place, outcome if is_returning else event.result)

        def on_end(worker: Worker, event: WorkerEnded, result: object, error: BaseException | None) -> None:
            if line is not None:
                line.note(event)
            if journal is not None:
                journal.note_end(worker.index, event)
            place = worker.index if places is None else places[worker.index]
            if is_returning:
                keep(place, _item_outcome(worker.args[0] if worker.args else None, event, result, error))
            elif event.state is _SUCCEEDED:
                if errors:
                    errors.pop(worker.index, None)
                keep(place, result)
            else:
                keep_error(worker, event, error)
            if reader.is_waiting:
                reader.look_again()

        def keep_error(worker: Worker, event: WorkerEnded, error: BaseException | None) -> None:
            if error is not None and event.state.is_failure:
                errors[worker.index] = error
            elif not (type(event) is WorkerCancelled and event.reason == "halt"):  # what halted it is raised
                errors[worker.index] = NoResult(f"{worker.name}: {event.state.value}")

        self._control.watch_ends(on_end)
        reader.record_in(journal, on_done)
        try:
            async with (
                watched(self._run, is_watched=self._shown.watch, journal=None if journal is None else journal.path),
                running(self._run, "amap", self._timeout) as limit,
            ):
                if line is not None:
                    line.start()
                yield
                if self._reader.error is None:
                    limit.raise_if_ended()
        finally:
            if line is not None:
                line.finish()
            await self._reader.end()
        if self._reader.error is not None:
            raise self._reader.error

    def _raise_errors(self) -> None:
        errors = self._errors
        if self._reader.is_cut_short and not errors and not self._is_returning:
            raise ExceptionGroup("the run was stopped", [NoResult("not all items were read")])
        if errors:
            text = f"{len(errors):,} of {count(self._control.workers, 'worker')} failed"
            self._errors = {}
            raise BaseExceptionGroup(text, [errors[index] for index in sorted(errors)])


_SUCCEEDED = WorkerState.SUCCEEDED


def _item_outcome(
    item: object, event: WorkerEnded, result: Any, error: BaseException | None, *, is_from_journal: bool = False
) -> ItemOutcome[Any, Any]:
    return ItemOutcome(
        name=event.worker,
        state=event.state,
        result=result,
        error=error,
        incarnation=event.incarnation,
        attempts=event.attempts,
        elapsed=event.elapsed,
        item=item,
        is_from_journal=is_from_journal,
    )


def _full_name(func: object) -> str:
    """Return the name of a function with that of its module, which is the same if the module is the main program."""
    function = function_of(func)
    module = getattr(function, "__module__", None) or type(function).__module__
    if module == "__main__" and (file := getattr(sys.modules["__main__"], "__file__", None)):
        module = Path(file).stem
    return f"{module}:{target_name(func)}"


def _name_of_function(func: object) -> str:
    """Return the name of a function, without those of the functions that it is defined in."""
    return one_line(target_name(func).rpartition("<locals>.")[2], _NAME_LENGTH) or "worker"


def _cluster_for(limits: dict[str, Any], functions: list[Callable[..., Any]], context: _Context) -> Cluster | None:
    """Take the engine out of the limits of a run. Return the cluster that it stands for; None if there is none."""
    engine = limits.pop("engine", ASYNCIO)
    if engine == ASYNCIO:
        return None
    from asyncwatch.plan.cluster import cluster_for  # noqa: PLC0415  few programs have a cluster

    return cluster_for(engine, functions, *context)


def _split(options: RunOptions | WorkerOptions, function: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what workers are treated by, and the limits of the run.

    Raises:
        TypeError: an option is unknown.
        ValueError: a rate or a halt is none.

    """
    treatment: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    for name, value in cast("dict[str, Any]", options).items():
        if name in WorkerOptions.__annotations__:
            treatment[name] = value
        elif name not in RunOptions.__annotations__:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
        elif isinstance(value, str) and name != "engine":
            limits[name] = parse_halt(value) if name == "halt" else parse_rate(value)
        else:
            limits[name] = value
    return treatment, limits


class _Reader:
    """A source of workers: the items of `amap`. Implements `engine.feed.WorkerSource`."""

    def __init__(
        self,
        template: WorkerSpec,
        items: Iterable[Any] | AsyncIterable[Any],
        name: Callable[[Any], str] | None,
    ) -> None:
        self.template = template
        self.size = len(items) if isinstance(items, Collection) else None
        """How many items there are, if that is known."""
        self.is_lazy = self.size is None or self.size > ROWS_KEPT
        """Whether items are read only as workers end."""
        self.is_waiting = False
        """Whether no item is read until `look_again` finds room."""
        self.is_cut_short = False
        """Whether the run was stopped before all items were read."""
        self.error: BaseException | None = None
        """What the iterable, or the function of names, raised."""
        self.unread: deque[Any] = deque()
        """Results that were not yielded yet."""
        self.control: RunControl | None = None
        self.places: array[int] | None = None
        """The place of each worker's item among all items, if some items have no worker and the places are needed."""
        self._items = items
        self._name = name
        self._number = 0
        self._journal: CallJournal | None = None
        self._on_done: Callable[[int, Any, WorkerSucceeded], None] = lambda _place, _item, _event: None
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def record_in(self, journal: CallJournal | None, on_done: Callable[[int, Any, WorkerSucceeded], None]) -> None:
        """Record the items, and pass those that are done to `on_done`, each with its place, instead of a worker."""
        self._journal, self._on_done = journal, on_done

    def start(self, feed: Feed) -> None:
        """Begin to read. All items of a collection that is not too large join now, unless each has to be looked up."""
        if self.is_lazy or self._journal is not None:
            self._task = asyncio.Task(self._read(feed), loop=asyncio.get_running_loop())
        else:
            self._add(feed, list(cast("Collection[Any]", self._items)))
            feed.end()

    def stop(self) -> None:
        """Read no more."""
        self.is_cut_short = True
        if self._task is not None:
            self._task.cancel()

    async def end(self) -> None:
        """Return when nothing is read any more."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def look_again(self) -> None:
        """Go on reading if there is room."""
        if self._has_room(_READ_AT_ONCE // 2):
            self._room.set()

    def _has_room(self, items: int) -> bool:
        return self._room_left() >= items

    def _room_left(self) -> int:
        assert self.control is not None  # noqa: S101  it runs
        return 2 * self.control.concurrency + _READ_AHEAD - self.control.pending - len(self.unread)

    async def _read(self, feed: Feed) -> None:
        try:
            if isinstance(self._items, AsyncIterable):
                async for item in self._items:
                    self._add(feed, [item])
                    await self._wait_for_room()
            else:
                iterator = iter(self._items)
                while chunk := self._next_items(iterator):
                    self._add(feed, chunk)
                    await asyncio.sleep(0)
                    await self._wait_for_room()
        except (Exception, asyncio.CancelledError) as error:
            if not feed.is_open:  # it was stopped
                return
            self.error = error
            assert self.control is not None  # noqa: S101  it runs
            self.control.interrupt()
        finally:
            self._items = ()  # an async generator that is held by nothing else is closed by the loop now
        feed.end()

    async def _wait_for_room(self) -> None:
        while self.is_lazy and not self._has_room(1):
            self.is_waiting = True
            self._room.clear()
            await self._room.wait()
        self.is_waiting = False

    def _next_items(self, iterator: Iterator[Any]) -> list[Any]:
        """Return the next items, fewer if they are slow to come; none at the end."""
        chunk: list[Any] = []
        until = time.monotonic() + _READ_FOR
        size = min(_READ_AT_ONCE, self._room_left()) if self.is_lazy else _READ_AT_ONCE
        for item in itertools.islice(iterator, size):
            chunk.append(item)
            if time.monotonic() > until:
                break
        return chunk

    def _add(self, feed: Feed, items: Sequence[Any]) -> None:
        first = self._number
        given = None if self._name is None else [str(self._name(item)) for item in items]
        names = list(map(self._name_of, items if given is None else given))
        if self._journal is None:
            feed.add(names, items)
        elif feed.is_open:
            left = []
            for place, event in enumerate(self._journal.admit(items, given)):
                if event is None:
                    left.append(place)
                else:
                    self._on_done(first + place, items[place], event)
            if self.places is not None:
                self.places.extend(first + place for place in left)
            feed.add([names[place] for place in left], [items[place] for place in left])

    def _name_of(self, item: Any) -> str:
        self._number += 1
        if type(item) is str:
            if 0 < len(item) <= _NAME_LENGTH and item.isprintable() and "@" not in item:  # nearly always
                return item
            text = item
        else:
            text = repr(item) if type(item) in {int, float} else ""
        return one_line(clean_text(text), _NAME_LENGTH) or f"{self.template.name} {self._number}"


# The progress line ---------------------------------------------------------------------------------------------------


class _ProgressLine:
    """One line on stderr with how far a call of `amap` is, drawn up to ten times a second.

    Shown on a terminal and in a notebook. Of several at a time, one is shown.
    """

    _shown: _ProgressLine | None = None

    def __init__(self, control: RunControl, reader: _Reader) -> None:
        self._control = control
        self._reader = reader
        self._stream: TextIO | None = sys.stderr if _shows_lines(sys.stderr) else None
        self._done = self._failed = 0
        self._began = 0.0
        self._width = 0
        self._timer: asyncio.TimerHandle | None = None

    def note(self, event: WorkerEnded) -> None:
        """Count a worker that has ended."""
        self._done += 1
        self._failed += event.state is not _SUCCEEDED

    def start(self) -> None:
        """Show the line from now on."""
        self._began = asyncio.get_running_loop().time()
        if self._stream is not None:
            self._draw_and_wait()

    def finish(self) -> None:
        """Draw the line for the last time, and leave it on the screen."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._draw()
        if _ProgressLine._shown is self:
            _ProgressLine._shown = None
            self._write("\n")

    def _draw_and_wait(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(0.1, self._draw_and_wait)
        self._draw()

    def _draw(self) -> None:
        if _ProgressLine._shown is None:
            _ProgressLine._shown = self
        if _ProgressLine._shown is self:
            line = self._text()[: shutil.get_terminal_size().columns - 1]
            self._write(f"\r{line:<{self._width}}")
            self._width = len(line)

    def _text(self) -> str:
        size, seconds = self._reader.size, asyncio.get_running_loop().time() - self._began
        parts = [self._reader.template.name, f"{self._done:,}" if size is None else f"{self._done:,} of {size:,}"]
        if size:
            parts.append(percent(min(self._done, size), size))
        if self._failed:
            parts.append(f"{self._failed:,} failed")
        return "  ".join([*parts, f"{rate(self._done / max(seconds, 0.001))}/s", clock(seconds, has_tenths=False)])

    def _write(self, text: str) -> None:
        try:
            if self._stream is not None and _shows_lines(self._stream):  # a dashboard may have the terminal
                self._stream.write(text)
                self._stream.flush()
        except (OSError, ValueError):  # the terminal has gone, or the stream was closed
            self._stream = None


def _shows_lines(stream: TextIO | None) -> bool:
    """Return whether a line on the stream can be drawn again."""
    if stream is None or type(stream).__module__.startswith("ipykernel."):
        return stream is not None
    try:
        return stream.isatty()
    except ValueError:  # it is closed
        return False


# open_run ------------------------------------------------------------------------------------------------------------


class Handle(Generic[T]):
    """A worker of an `OpenRun`. Await it for what its function returns.

    It raises the error by which the worker failed, or `NoResult`. The worker goes on if the caller is cancelled.
    """

    name: str
    """Unique in the run."""

    def __init__(self, run: OpenRun[Any], name: str) -> None:
        self.name = name
        self._run = run
        known = run._control.find(name)  # noqa: SLF001  a part of the run
        self._index = -1 if known is None else known.index
        self._outcome: Outcome[T] | None = None
        self._waiters: list[asyncio.Future[None]] = []

    def __repr__(self) -> str:
        return f"<Handle of {self.name!r}: {self.state.value}>"

    @property
    def state(self) -> WorkerState:
        """The state of the worker."""
        worker = self._worker
        if worker is not None:
            return worker.state
        assert self._outcome is not None  # noqa: S101  only workers that have ended are forgotten
        return self._outcome.state

    def cancel(self) -> bool:
        """Cancel the worker; return whether it had not ended."""
        return self._worker is not None and self._run._control.cancel(self.name)  # noqa: SLF001

    def restart(self) -> bool:
        """Give the worker a new incarnation, cancelling a running one first; return whether that is possible."""
        return self._worker is not None and self._run._restart(self)  # noqa: SLF001

    async def outcome(self) -> Outcome[T]:
        """Return how the worker ended, as soon as it has. The worker goes on if the caller is cancelled."""
        while self._outcome is None or not self.state.is_settled:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            finally:
                self._waiters.remove(waiter)
        self._run._seen(self.name)  # noqa: SLF001
        return self._outcome

    def __await__(self) -> Generator[Any, Any, T]:
        """Return the result of the worker.

        Raises:
            NoResult: it was cancelled, timed out, or does not respond.
            BaseException: the error by which it failed.

        """
        outcome = yield from self.outcome().__await__()
        if outcome.is_success:
            return cast("T", outcome.result)
        if outcome.error is not None and outcome.state.is_failure:
            raise outcome.error
        raise NoResult(f"{self.name}: {outcome.state.value}")

    @property
    def _worker(self) -> Worker | None:
        """The worker, while it is known: when it is forgotten, another one can get its name."""
        worker = self._run._control.find(self.name)  # noqa: SLF001  a part of the run
        return worker if worker is not None and worker.index == self._index else None

    def _ended(self, outcome: Outcome[T]) -> bool:
        """Note how the worker ended; return whether the caller of the run awaits it."""
        self._outcome = outcome
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        return bool(self._waiters)


class NoLifespan:
    """The type of the value of an `OpenRun` without a lifespan. There is no such value."""


class OpenRun(Generic[OpenedT]):
    """A run that takes workers until it is closed. Made by `open_run`, and generic in the value of its lifespan."""

    def __init__(self, run: Run[Any], source: _Calls, options: dict[str, Any], cluster: Cluster | None = None) -> None:
        self._control = control_of(run)
        self._cluster = cluster
        self._source = source
        self._options = options
        self._handles: WeakValueDictionary[str, Handle[Any]] = WeakValueDictionary()
        self._unseen: dict[str, BaseException] = {}
        self._readers: list[_Outcomes] = []
        self._number = 0
        self._control.watch_ends(self._worker_ended)

    @overload
    def start_soon(
        self: OpenRun[NoLifespan],
        func: Callable[[Unpack[PosArgsT]], Awaitable[T]],
        *args: *PosArgsT,
        name: str | None = ...,
        key: str | None = ...,
        **options: Unpack[WorkerOptions],
    ) -> Handle[T]: ...
    @overload
    def start_soon(
        self,
        func: Callable[[Unpack[PosArgsT], OpenedT], Awaitable[T]],
        *args: *PosArgsT,
        name: str | None = ...,
        key: str | None = ...,
        **options: Unpack[WorkerOptions],
    ) -> Handle[T]: ...
    def start_soon(  # type: ignore[misc]  # mypy does not accept any arguments for those of a `TypeVarTuple`
        self,
        func: Callable[..., Awaitable[T]],
        *args: Any,
        name: str | None = None,
        key: str | None = None,
        **options: Unpack[WorkerOptions],
    ) -> Handle[T]:
        """Let a worker call `func(*args)` as soon as there is a slot; return its handle.

        The value of the lifespan of the run, if there is one, follows the arguments.

        Args:
            func: called once for each attempt.
            args: its arguments.
            name: of the worker, made unique. None: the name of the function, and a number.
            key: the key of its limits.
            options: the fields of `WorkerOptions`, instead of those of the run.

        Raises:
            RuntimeError: the run is over, or is being stopped.
            TypeError: an unknown option.

        """
        feed = self._source.feed
        if feed is None or not feed.is_open:
            raise RuntimeError("the run takes no more workers: it is over, or is being stopped")
        treatment, limits = _split(options, "start_soon")
        if limits:
            raise TypeError(f"start_soon() got an unexpected keyword argument {next(iter(limits))!r}")
        self._number += 1
        own = one_line(clean_text(name or ""), _NAME_LENGTH) or f"{_name_of_function(func)} {self._number}"
        cluster = self._cluster
        target = _in_this_context(func, self._control.context) if cluster is None else cluster.remote(func)
        spec: WorkerSpec[T, *tuple[Any, ...]] = WorkerSpec(own, target, args, key=key, **{**self._options, **treatment})
        (unique,) = feed.add([own], [OwnSpec(spec)])
        handle = self._handles[unique] = Handle(self, unique)
        return handle

    @asynccontextmanager
    async def as_completed(self) -> AsyncIterator[AsyncIterator[Outcome[Any]]]:
        """Open an iterator over the outcomes of workers that end from now on, as they come.

        It ends when no worker is left, so a reader can start more workers as it goes. Several iterators each get all
        outcomes. A worker that failed and whose outcome was yielded counts as awaited.
        """
        outcomes = _Outcomes(self)
        self._readers.append(outcomes)
        try:
            yield outcomes
        finally:
            self._readers.remove(outcomes)

    def statistics(self) -> Statistics:
        """Return the figures of this moment."""
        return self._control.statistics()

    def _worker_ended(self, worker: Worker, event: WorkerEnded, result: object, error: BaseException | None) -> None:
        handle = self._handles.get(worker.name)
        is_failure = error is not None and event.state.is_failure
        if handle is None and not self._readers and not is_failure and not self._unseen:
            return
        outcome = outcome_of(event, result, error)
        is_awaited = handle is not None and handle._ended(outcome)  # noqa: SLF001  a part of the run
        for reader in self._readers:
            reader.add(outcome)
        self._unseen.pop(worker.name, None)
        if error is not None and is_failure and not is_awaited:
            self._unseen[worker.name] = error

    def _seen(self, name: str) -> None:
        """Note that the caller knows how a worker ended."""
        if self._unseen:
            self._unseen.pop(name, None)

    def _restart(self, handle: Handle[Any]) -> bool:
        if not self._control.carry_out(RestartWorker(handle.name, self._control.incarnation_of(handle.name))):
            return False
        self._handles[handle.name] = handle
        self._seen(handle.name)
        return True

    def _raise_unseen(self) -> None:
        errors = list(self._unseen.values())
        self._unseen.clear()
        if errors:
            raise BaseExceptionGroup(f"{count(len(errors), 'worker')} failed and nothing awaited them", errors)


class _InContext(partial[Any]):
    """Calls a function with context variables as they were when it was to be started."""

    variables: tuple[tuple[ContextVar[Any], Any], ...] = ()

    def __call__(self, *args: Any) -> Any:
        """Set the variables, in the context of the attempt, and call the function."""
        for variable, value in self.variables:
            variable.set(value)
        return super().__call__(*args)


def _in_this_context(func: Callable[[*PosArgsT], Awaitable[T]], run: Context) -> Callable[[*PosArgsT], Awaitable[T]]:
    """Return what calls `func` with the variables of this context, as far as they differ from those of the run's."""
    changed = tuple(
        (variable, value)
        for variable, value in copy_context().items()
        if run.get(variable) is not value and variable not in {current, enclosing}
    )
    if not changed:
        return func
    found = _InContext(func)
    found.variables = changed
    return cast("Callable[[*PosArgsT], Awaitable[T]]", found)


class _Outcomes(AsyncIterator[Outcome[Any]]):
    """Yields outcomes of an `OpenRun` as they come."""

    def __init__(self, run: OpenRun[Any]) -> None:
        self._run = run
        self._arrived: deque[Outcome[Any]] = deque()
        self._news = asyncio.Event()

    async def __anext__(self) -> Outcome[Any]:
        while not self._arrived:
            self._news.clear()
            if not self._run._control.pending:  # noqa: SLF001  a part of the run
                self._news.set()  # another task may read too
                raise StopAsyncIteration
            await self._news.wait()
        outcome = self._arrived.popleft()
        self._run._seen(outcome.name)  # noqa: SLF001
        return outcome

    def add(self, outcome: Outcome[Any]) -> None:
        """Yield an outcome."""
        self._arrived.append(outcome)
        self._news.set()


class _Calls:
    """A source of workers that the program starts one by one. Implements `engine.feed.WorkerSource`."""

    def __init__(self) -> None:
        self.template = WorkerSpec("start_soon", asyncio.sleep)
        self.feed: Feed | None = None

    def start(self, feed: Feed) -> None:
        """Take workers from now on."""
        self.feed = feed

    def stop(self) -> None:
        """Take no more workers: the feed is being closed."""


@overload
def open_run(
    *,
    concurrency: int = ...,
    name: str = ...,
    lifespan: None = ...,
    watch: bool | None = ...,
    metrics: str | None = ...,
    **options: Unpack[RunOptions],
) -> AbstractAsyncContextManager[OpenRun]: ...
@overload
def open_run(
    *,
    concurrency: int = ...,
    name: str = ...,
    lifespan: Callable[[], AbstractAsyncContextManager[ValueT]],
    lifespan_per: LifespanPer = ...,
    watch: bool | None = ...,
    metrics: str | None = ...,
    **options: Unpack[RunOptions],
) -> AbstractAsyncContextManager[OpenRun[ValueT]]: ...
def open_run(
    *,
    concurrency: int = DEFAULT_CONCURRENCY,
    name: str = "",
    lifespan: LifespanFactory | None = None,
    lifespan_per: LifespanPer = "run",
    watch: bool | None = None,
    metrics: str | None = None,
    **options: Unpack[RunOptions],
) -> AbstractAsyncContextManager[OpenRun[Any]]:
    """Open a run inside the context, whose workers `start_soon` starts.

    The end of the context waits for all workers. A worker that fails ends no other one. If its error reached no one,
    neither by its handle nor by `as_completed`, the context raises it at its end, in an `ExceptionGroup` of all such
    errors. An error of the body, or its cancellation, cancels the workers, waits for them and is raised as it is.

    Args:
        concurrency: most attempts in flight.
        name: what the run is called. A run with a name is found by `asyncwatch ps`, `attach` and `ctl`.
        lifespan: returns an async context manager, such as a client session, that is entered at once and left after
            the last attempt. Its value is the last argument of each call.
        lifespan_per: `slot` for a context of its own for each attempt in flight, used again by the next one, unless
            the last one raised `Renew`.
        watch: whether a dashboard in the terminal shows the run (see `asyncwatch.watch`). None leaves that to the
            environment variable `ASYNCWATCH`.
        metrics: an address, such as `127.0.0.1:9464`, at which the run is shown to Prometheus while the context is
            open; it needs the extra `metrics`.
        options: the fields of `RunOptions`.

    Raises:
        TypeError: an unknown option.
        ValueError: a value is out of its range.
        RuntimeError: when the context is entered: the metrics cannot be served at the address.

    """
    if metrics is not None:
        split_address(metrics)
    treatment, limits = _split(options, "open_run")
    cluster = _cluster_for(limits, [], _Context(lifespan, lifespan_per))
    own = None if cluster is not None else lifespan
    run: Run[Any] = Run([], name=name, concurrency=concurrency, lifespan=own, lifespan_per=lifespan_per, **limits)
    return _opened(run, treatment, watch, metrics, cluster)


@asynccontextmanager
async def _opened(
    run: Run[Any], treatment: dict[str, Any], watch: bool | None, metrics: str | None, cluster: Cluster | None
) -> AsyncIterator[OpenRun[Any]]:
    control, source = control_of(run), _Calls()
    if cluster is not None:
        cluster.join(control)
    control.keep_latest(ROWS_KEPT)
    control.open_feed(source)
    watching = watched(run, is_watched=watch, is_named=bool(run.name), metrics=metrics)
    async with watching, running(run, "open_run"):
        opened: OpenRun[Any] = OpenRun(run, source, treatment, cluster)
        yield opened
        if source.feed is not None:
            source.feed.end()
        await control.settle()
    opened._raise_unseen()  # noqa: SLF001  a part of the run
