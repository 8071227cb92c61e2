"""Sampler: what the tasks of an event loop do, seen from a timer of that loop, at a bounded share of its time.

It looks at the tasks that a program makes by itself, a few at a time: where each is suspended, and what it waits for.
It changes nothing about them except for a done callback on each task that it has seen, which reports how it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import logging
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from pathlib import Path
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, NamedTuple

from asyncwatch.engine.capture import log_safely
from asyncwatch.engine.describe import facts_of, safe_str
from asyncwatch.engine.event_loop import pass_on_interrupt
from asyncwatch.engine.stacks import Frame, await_stack, frame_of, is_own, source_line
from asyncwatch.engine.watchdog import Watchdog, WatchedRun
from asyncwatch.text import duration

logger = logging.getLogger("asyncwatch.observe")

SLICE = 0.001
"""Seconds for which the loop is held by one slice of a round."""
SHARE = 0.01
"""Part of the loop's time that looking takes at most, on average."""
FIRST_SHARE = 0.2
"""The same in the first round of a look, so that a person does not wait for a picture of ten thousand tasks."""
ROUND_EVERY = 0.1
"""Seconds between two rounds of few tasks."""
LONG_SLEEP = 10.0
"""Seconds from which on it is shown how long a task sleeps. A task that polls sleeps again and again, often a random
time, which would be an event each time and says little."""
_STEP = 16
"""Tasks between two looks at the clock."""
_DEEPEST = 40
_STACKS_KEPT = 4_096
_CALLERS = 4
"""Most lines of the user's own code above the innermost one that a stack names."""
_SHOWN_RESULT = 200
_LONGEST_CALL = 60
_SUSPENDED = (CoroutineType, GeneratorType, AsyncGeneratorType)
_PLAIN = (int, float, bool, type(None))
_LOOPS = ("asyncio.base_events", "asyncio.selector_events", "asyncio.unix_events", "asyncio.proactor_events")
_ENTERED = ("__aenter__", "__aexit__", "__anext__", "__await__")


class StackTexts(NamedTuple):
    """A stack in words."""

    place: str
    """The innermost line of the user's own code, else the outermost line: `client.py:88 fetch`."""
    called: str
    """The function of asyncio or of another library that is called there; empty if there is none."""
    source: str
    """The source text of the line, if no function is called there."""
    callers: str
    """The user's lines that led there, the last one first: `crawl.py:12 crawl < main.py:3 main`."""


class Stack:
    """Frames of a suspended task, outermost first. Equal stacks of a sampler are one object."""

    def __init__(self, frames: tuple[Frame, ...]) -> None:
        self.frames = frames
        self._texts: StackTexts | None = None

    def texts(self) -> StackTexts:
        """Return it in words. Reads source files."""
        if self._texts is None:
            self._texts = self._describe()
        return self._texts

    def _describe(self) -> StackTexts:
        frames = self.frames
        if not frames:
            return StackTexts("", "", "", "")
        own = [number for number, frame in enumerate(frames) if is_own(frame)]
        at = own[-1] if own else 0
        callers = " < ".join(_line_of(frames[number]) for number in reversed(own[:-1][-_CALLERS:]))
        below = frames[at + 1 :]
        code, line, _module = frames[at]
        source = "" if below else source_line(code.co_filename, line)[:_LONGEST_CALL]
        return StackTexts(_line_of(frames[at]), _called(below), source, callers)


def _line_of(frame: Frame) -> str:
    return f"{Path(frame.code.co_filename).name}:{frame.line} {short_name(frame.code.co_qualname)}"


def short_name(qualified: str) -> str:
    """Return the name of a function without those of the functions around it: `feed` of `main.<locals>.feed`."""
    return qualified.rpartition("<locals>.")[2] or qualified


def _called(frames: tuple[Frame, ...]) -> str:
    """Return the name of a library's function, of which these are the frames; empty without a frame."""
    if not frames:
        return ""
    package = frames[0].module.partition(".")[0]
    if package != "asyncio":
        return f"{package}: {_function(frames[0])}" if package else _function(frames[0])
    # Functions that are internal to asyncio say less than those that call them.
    public = [frame for frame in frames if not _is_private(frame)]
    return _function((public or frames)[-1])


def _is_private(frame: Frame) -> bool:
    name = frame.code.co_name
    return name.startswith("_") and name not in _ENTERED


def _function(frame: Frame) -> str:
    name = frame.code.co_qualname.partition(".<locals>")[0]
    owner, _, last = name.rpartition(".")
    if last in _ENTERED and owner:
        return owner
    return last if frame.module in _LOOPS else name


class Seen(NamedTuple):
    """A task was seen for the first time."""

    number: int
    at: float
    name: str
    function: str
    """The qualified name of its coroutine function."""


class Moved(NamedTuple):
    """A task is suspended elsewhere, or waits for something else, than when it was seen last."""

    number: int
    at: float
    stack: Stack
    detail: str
    """What is known of the awaited object beyond the stack: `3 s` of a sleep, `task fetch-2`. Often empty."""


class Ended(NamedTuple):
    """A task has ended."""

    number: int
    at: float
    result: object = None
    """A value of JSON."""
    is_cancelled: bool = False
    error: tuple[str, str, str] | None = None
    """Type, message and traceback."""


class CancelAsked(NamedTuple):
    """A task was asked to stop."""

    number: int
    at: float


class RoundEnded(NamedTuple):
    """All tasks of the loop have been looked at."""

    at: float


Observed = Seen | Moved | Ended | CancelAsked | RoundEnded


class _Watched:
    """A task that was seen, without a reference that keeps it alive."""

    __slots__ = ("detail", "number", "reference", "round", "stack", "waiter")

    def __init__(self, reference: weakref.ref[asyncio.Task[Any]], number: int) -> None:
        self.reference = reference
        self.number = number
        self.round = 0
        self.waiter: weakref.ref[Any] | None = None
        """What it waited for when its stack was taken: as long as it does, it is suspended there."""
        self.stack: Stack | None = None
        self.detail = ""


class Sampler:
    """Looks at the tasks of one event loop while it is told to.

    Args:
        loop: the event loop.
        deliver: takes what was seen, in the thread of the loop. It must not wait, not even for the interpreter.
        clock: seconds since any moment, the same for all samplers of an observation.
        number: returns the number of the next task, from any thread.
        on_other_loop: called with the event loop of a task that is not of `loop`, in the thread of `loop`.
        watched: what the watchdog of the loop reports to while tasks are looked at; None for no watchdog.

    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deliver: Callable[[Sampler, list[Observed]], None],
        clock: Callable[[], float],
        number: Callable[[], int],
        on_other_loop: Callable[[asyncio.AbstractEventLoop], object],
        watched: WatchedRun | None = None,
    ) -> None:
        self.loop = loop
        self.spent = 0.0
        """Processor time of the loop's thread that looking has taken so far, in seconds."""
        self._deliver = deliver
        self._clock = clock
        self._next_number = number
        self._on_other_loop = on_other_loop
        self._watched = watched
        self.watchdog: Watchdog | None = None
        """Of the loop, while it runs and its tasks are looked at."""
        self._context = Context()
        self._is_looking = False
        self._timer: asyncio.TimerHandle | None = None
        self._flush: asyncio.TimerHandle | None = None
        self._known: dict[weakref.ref[asyncio.Task[Any]], _Watched] = {}
        self._by_number: dict[int, _Watched] = {}
        self._stacks: dict[tuple[int, ...], Stack] = {}
        self._round = 0
        self._is_first = True
        self._left: Iterator[weakref.ref[asyncio.Task[Any]]] | None = None
        self._round_began = 0.0
        self._buffer: list[Observed] = []
        self._spent_on_ends = 0.0
        self._future_iterator: type[object] = type(asyncio.Future(loop=loop).__await__())
        """The type of the innermost awaitable of nearly every task; a generator if futures are those of Python."""

    # -- from any thread

    def look(self, is_looking: bool) -> None:
        """Look at the tasks from now on, or no longer."""
        self._call(self._look, is_looking)

    def cancel(self, number: int) -> None:
        """Cancel a task, unless it has ended."""
        self._call(self._cancel, number)

    def take_stack(self, number: int, callback: Callable[[list[Frame]], object]) -> None:
        """Call `callback`, on the loop, with the await stack of a task; it is empty if it has ended."""
        self._call(self._take_stack, number, callback)

    def number_of(self, task: asyncio.Task[Any]) -> int:
        """Return the number of a task; 0 if it has not been seen."""
        watched = self._known.get(weakref.ref(task))
        return 0 if watched is None else watched.number

    def abandon(self) -> list[Observed]:
        """Return the end of each task of a loop that was closed."""
        known, self._known = self._known, {}
        self._by_number.clear()
        at, buffer = self._clock(), self._buffer
        self._buffer = []
        why = ("LoopClosed", "its event loop was closed while it was pending", "")
        return [*buffer, *(Ended(watched.number, at, error=why) for watched in known.values())]

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(function, *args, context=self._context)

    # -- on the loop

    def stop(self) -> None:
        """Deliver what was seen so far: the loop has stopped, perhaps not for good."""
        self._end_watchdog()
        self.flush()

    def flush(self) -> None:
        """Deliver what was seen so far."""
        if self._flush is not None:
            self._flush.cancel()
            self._flush = None
        if self._buffer:
            buffer, self._buffer = self._buffer, []
            self._deliver(self, buffer)

    def _look(self, is_looking: bool) -> None:
        if is_looking == self._is_looking:
            return
        self._is_looking = is_looking
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if is_looking:
            self._is_first, self._left = True, None
            self._slice()
        else:
            self._end_watchdog()

    def _begin_watchdog(self) -> None:
        if self._watched is not None and self.watchdog is None:
            self.watchdog = Watchdog(self._watched)
            self.watchdog.__enter__()

    def _end_watchdog(self) -> None:
        if self.watchdog is not None:
            watchdog, self.watchdog = self.watchdog, None
            watchdog.__exit__(None, None, None)

    def _slice(self) -> None:
        """Look at some tasks, and plan the next slice so that the share of the loop's time is kept."""
        self._timer = None
        # The clock of the thread does not count the time for which others had the processor, or the interpreter.
        began = time.thread_time()
        share = FIRST_SHARE if self._is_first else SHARE
        is_over = True
        try:
            self._begin_watchdog()
            is_over = self._work(time.perf_counter() + SLICE)
        except Exception:  # the round starts anew
            log_safely(logger, logging.ERROR, "a look at the tasks failed", has_traceback=True)
            self._left = None
        self.flush()
        took = time.thread_time() - began
        self.spent += took
        ends, self._spent_on_ends = self._spent_on_ends, 0.0
        pause = (took + ends) / share - took
        if is_over:
            self._is_first = False
            pause = max(pause, self._round_began + ROUND_EVERY - time.perf_counter())
        self._timer = self.loop.call_later(max(0.0, pause), self._slice, context=self._context)

    def _work(self, until: float) -> bool:
        """Go on with the round up to the time `until`; return whether it is over."""
        if self._left is None:
            self._round += 1
            self._round_began = time.perf_counter()
            self._left = iter(references(self.loop))
        known, loop, number = self._known, self.loop, self._round
        for count, reference in enumerate(self._left, 1):
            task = reference()
            if task is None:
                continue
            try:
                watched = known.get(reference)
                if watched is None:
                    if task.done():
                        continue
                    if (other := task.get_loop()) is not loop:
                        self._on_other_loop(other)
                        continue
                    watched = self._meet(task)
                watched.round = number
                waiter = getattr(task, "_fut_waiter", None)
                if waiter is None or watched.waiter is None or watched.waiter() is not waiter:
                    self._examine(watched, task, waiter)
            except BaseException as error:  # attributes of tasks and coroutines can be code of the user
                pass_on_interrupt(error)
            if not count % _STEP and time.perf_counter() >= until:
                return False
        self._left = None
        self._note_destroyed()
        self._buffer.append(RoundEnded(self._clock()))
        return True

    def _meet(self, task: asyncio.Task[Any]) -> _Watched:
        name, coroutine = safe_str(task.get_name()), task.get_coro()
        function = short_name(safe_str(getattr(coroutine, "__qualname__", None) or type(coroutine).__qualname__))
        reference = weakref.ref(task)
        task.add_done_callback(self._done, context=self._context)
        watched = self._known[reference] = _Watched(reference, self._next_number())
        self._by_number[watched.number] = watched
        self._buffer.append(Seen(watched.number, self._clock(), name, function))
        return watched

    def _examine(self, watched: _Watched, task: asyncio.Task[Any], waiter: Any) -> None:
        try:
            watched.waiter = None if waiter is None else weakref.ref(waiter)
        except TypeError:
            watched.waiter = None
        stack, detail = self._stack_of(task.get_coro(), waiter)
        if stack is not watched.stack or detail != watched.detail:
            watched.stack, watched.detail = stack, detail
            self._buffer.append(Moved(watched.number, self._clock(), stack, detail))

    def _stack_of(self, awaited: Any, waiter: Any) -> tuple[Stack, str]:
        """Return the stack of a coroutine, and what is known of the future that it waits for."""
        key: list[int] = []
        frames: list[Any] = []
        future_iterator = self._future_iterator
        while awaited is not None and len(frames) < _DEEPEST:
            kind = type(awaited)
            if kind is CoroutineType:
                if (frame := awaited.cr_frame) is None:
                    break
                # Hashing code takes the longer the more there is of it. The stack keeps the code, and so its identity.
                key.append(id(frame.f_code))
                key.append(frame.f_lasti)
                frames.append(frame)
                awaited = awaited.cr_await
                continue
            if kind is future_iterator or awaited is waiter:
                break
            if kind is GeneratorType:
                frame, following = awaited.gi_frame, awaited.gi_yieldfrom
            elif kind is AsyncGeneratorType:
                frame, following = awaited.ag_frame, awaited.ag_await
            else:
                frame, following = getattr(awaited, "cr_frame", None), getattr(awaited, "cr_await", None)
                if frame is None:  # what holds a coroutine or a generator shows it to the garbage collector only
                    awaited = next((held for held in gc.get_referents(awaited) if isinstance(held, _SUSPENDED)), None)
                    continue
            if frame is None:
                break
            key += (id(frame.f_code), frame.f_lasti)
            frames.append(frame)
            awaited = following
        known = self._stacks.get(identity := tuple(key))
        if known is None:
            if len(self._stacks) >= _STACKS_KEPT:
                self._stacks.clear()
            known = self._stacks[identity] = Stack(tuple(frame_of(frame, frame.f_lineno) for frame in frames))
        return known, _detail(frames[-1] if frames else None, waiter)

    def _note_destroyed(self) -> None:
        """Report tasks that were collected while they were pending: they have no callback."""
        number, at = self._round, self._clock()
        missing = [watched for watched in self._known.values() if watched.round != number]
        for watched in missing:
            if watched.reference() is None:
                del self._known[watched.reference]
                del self._by_number[watched.number]
                why = ("TaskDestroyed", "it was garbage-collected while it was pending: keep a reference to it", "")
                self._buffer.append(Ended(watched.number, at, error=why))

    def _done(self, task: asyncio.Task[Any]) -> None:
        began = time.thread_time()
        watched = self._known.pop(weakref.ref(task), None)
        if watched is not None:
            del self._by_number[watched.number]
            if not self._buffer and self._timer is None:
                self._flush = self.loop.call_later(ROUND_EVERY, self.flush, context=self._context)
            self._buffer.append(self._end_of(task, watched.number))
        took = time.thread_time() - began
        self.spent += took
        self._spent_on_ends += took

    def _end_of(self, task: asyncio.Task[Any], number: int) -> Ended:
        at = self._clock()
        if task.cancelled():
            return Ended(number, at, is_cancelled=True)
        # `exception()` would mark the error as retrieved, and the program would not hear of it.
        error = getattr(task, "_exception", None)
        if error is None:
            return Ended(number, at, _plain(getattr(task, "_result", None)))
        facts = facts_of(error)
        return Ended(number, at, error=(facts.error_type, facts.message, facts.stack))

    def _cancel(self, number: int) -> None:
        watched = self._by_number.get(number)
        task = None if watched is None else watched.reference()
        if task is not None and task.cancel():
            self._buffer.append(CancelAsked(number, self._clock()))
            self.flush()

    def _take_stack(self, number: int, callback: Callable[[list[Frame]], object]) -> None:
        watched = self._by_number.get(number)
        task = None if watched is None else watched.reference()
        callback([] if task is None or task.done() else await_stack(task.get_coro()))


def loops_of_tasks() -> set[asyncio.AbstractEventLoop]:
    """Return the event loops that have tasks, from any thread.

    On Python 3.14 it returns none: there are no tasks of all loops at one place.
    """
    if sys.version_info >= (3, 14):
        return set()
    tasks = (reference() for reference in references(None))
    return {task.get_loop() for task in tasks if task is not None and not task.done()}


def references(loop: asyncio.AbstractEventLoop | None) -> Iterable[weakref.ref[asyncio.Task[Any]]]:
    """Return weak references to all tasks, those of other loops included: `asyncio.all_tasks` takes ten times as long.

    Python 3.14 keeps tasks in lists of C, which it reads as quickly.
    """
    if sys.version_info >= (3, 14):
        return list(map(weakref.ref, asyncio.all_tasks(loop)))
    names = ("_all_tasks",) if sys.version_info < (3, 12) else ("_scheduled_tasks", "_eager_tasks")
    found: list[Iterable[weakref.ref[asyncio.Task[Any]]]] = []
    for name in names:
        tasks = getattr(asyncio.tasks, name, None)
        data = getattr(tasks, "data", tasks)
        if not isinstance(data, set):
            return list(map(weakref.ref, asyncio.all_tasks(loop)))
        copy = data.copy()  # by one call of C, so that no other thread adds a task meanwhile
        found.append(copy if data is not tasks else map(weakref.ref, copy))
    return itertools.chain.from_iterable(found)


def _detail(innermost: Any, waiter: Any) -> str:
    """Return what is known of an awaited future beyond the stack, and takes no time to know."""
    if isinstance(waiter, asyncio.Task):
        return f"task {safe_str(waiter.get_name())}"
    children = getattr(waiter, "_children", None)  # of the future that `gather` returns
    if type(children) is list:
        return f"gather of {len(children):,}"
    if innermost is not None and innermost.f_code is asyncio.sleep.__code__:
        delay = innermost.f_locals.get("delay")
        if type(delay) in (int, float) and delay >= LONG_SLEEP:
            return duration(delay)
    return "ready to run" if waiter is None else ""


def _plain(result: object) -> object:
    """Return a result if it is a plain value, else the name of its type: its repr would be code of the user."""
    if type(result) in _PLAIN:
        return result
    if type(result) is str:
        return result[:_SHOWN_RESULT]
    return f"<{type(result).__qualname__}>"
