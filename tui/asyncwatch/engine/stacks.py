"""Frames: what code a thread runs, where a suspended worker waits, and which of those lines is the user's."""

from __future__ import annotations

import asyncio
import gc
import linecache
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType, TracebackType
from typing import Any, NamedTuple, TypeVar

from asyncwatch.commands import StackFrame
from asyncwatch.engine.event_loop import pass_on_interrupt

_Function = TypeVar("_Function", bound=Callable[..., Any])

MAX_FRAMES = 40
_DEEPEST = 60
_LONGEST_CALL = 160
OUR_PACKAGE = __name__.partition(".")[0]
PACKAGES_OF_TARGETS = (f"{OUR_PACKAGE}.targets", f"{OUR_PACKAGE}.selftest")
"""Our packages whose functions are targets: their frames are shown, like any library's."""
_MACHINERY = {
    "asyncio": {"run", "run_until_complete", "run_forever", "_run_once", "_run"},
    "threading": {"_bootstrap", "_bootstrap_inner", "run"},
}
"""Functions of the standard library that begin a stack: their callers are left out."""
_boundaries: dict[int, CodeType] = {}
"""Our own such functions by their identities: a worker's stack begins below them. Not a set of code: code that was
compiled from the same text is equal, wherever its file is."""
_callbacks: list[CodeType] = []
"""Our code that Python calls in the middle of a worker's code."""
_THREADS = f"{OUR_PACKAGE}.engine.threads"
_INSTALLED = ("/site-packages/", "/dist-packages/")
_STDLIB = (str(Path(threading.__file__).parent), "<frozen ")


class ThreadFuture(asyncio.Future[None]):
    """A future for which a thread does the work: the stack of a coroutine that awaits it goes on in that thread."""

    def __init__(self, thread_id: int | None, *, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self.thread_id = thread_id


_AWAITING = (CoroutineType, GeneratorType, AsyncGeneratorType, asyncio.Task, ThreadFuture)


class Frame(NamedTuple):
    """A line of code that runs, or that has made the call above it."""

    code: CodeType
    line: int
    module: str
    """The module's name, which says whose code it is: two packages can have files of the same name."""


class Place(NamedTuple):
    """The line of a stack that matters, and the call made there."""

    file: str
    line: int
    function: str
    call: str


NOWHERE = Place("", 0, "", "")


def boundary(function: _Function) -> _Function:
    """Mark a function that runs an event loop or calls a target: stacks are shown below it."""
    _boundaries[id(function.__code__)] = function.__code__
    return function


def is_boundary(code: CodeType) -> bool:
    """Return whether code is that of a function that was marked as `boundary`."""
    return id(code) in _boundaries


def callback(function: _Function) -> _Function:
    """Mark a function that Python calls while a worker's code runs: it is left out of stacks."""
    _callbacks.append(function.__code__)
    return function


def frame_of(frame: FrameType, line: int | None) -> Frame:
    """Return a frame's line; the function's first line for instructions that Python gives none."""
    return Frame(frame.f_code, line or frame.f_code.co_firstlineno, _module_of(frame))


def _module_of(frame: FrameType) -> str:
    """Return a frame's module name, which `python -m` hides; empty if there is none."""
    name = frame.f_globals.get("__name__")
    if name == "__main__":
        name = getattr(frame.f_globals.get("__spec__"), "name", name)
    return name if isinstance(name, str) else ""


def is_in(module: str, package: str) -> bool:
    """Return whether a module is that package, or one of its modules."""
    return module == package or module.startswith(f"{package}.")


def frames_of(frame: FrameType | None) -> tuple[Frame, ...]:
    """Return a running thread's frames, outermost first, without its event loop's; none if the loop waits."""
    frames: list[Frame] = []
    while frame is not None:
        frames.append(frame_of(frame, frame.f_lineno))
        frame = frame.f_back
    frames.reverse()
    while len(frames) > 1 and any(code is frames[-1].code for code in _callbacks):
        frames.pop()
    first = next((number for number in range(len(frames), 0, -1) if _is_machinery(frames[number - 1])), 0)
    if first < len(frames) and frames[first].module == "selectors":
        return ()
    return tuple(frames[first:][-_DEEPEST:])


def _is_machinery(frame: Frame) -> bool:
    """Return whether a frame runs an event loop or calls a target."""
    names = _MACHINERY.get(frame.module.partition(".")[0], ())
    return frame.code.co_name in names or is_boundary(frame.code)


def place_of(frames: tuple[Frame, ...]) -> Place:
    """Return the innermost line of the user's own code, else the outermost one that is not asyncwatch's."""
    if not frames:
        return NOWHERE
    own = [number for number, frame in enumerate(frames) if is_own(frame)]
    foreign = [number for number, frame in enumerate(frames) if not is_of_supervisor(frame.module)]
    number = own[-1] if own else foreign[0] if foreign else len(frames) - 1
    code, line, _module = frames[number]
    inner, inner_line, _module = frames[-1]
    if number == len(frames) - 1:
        call = source_line(code.co_filename, line)
    else:
        call = f"{inner.co_qualname} in {Path(inner.co_filename).name}:{inner_line}"
    return Place(code.co_filename, line, code.co_qualname, call[:_LONGEST_CALL])


def source_line(file: str, line: int) -> str:
    """Return the text of a line, empty if it cannot be read."""
    try:
        return linecache.getline(file, line).strip()
    except Exception:
        return ""


def is_of_supervisor(module: str) -> bool:
    """Return whether a module runs workers: it is asyncwatch's, and no target's."""
    return is_in(module, OUR_PACKAGE) and not any(is_in(module, package) for package in PACKAGES_OF_TARGETS)


def is_own(frame: Frame) -> bool:
    """Return whether a frame is the user's code: not Python's, not installed, not asyncwatch's."""
    file = frame.code.co_filename
    is_library = file.startswith(_STDLIB) or any(part in file for part in _INSTALLED)
    return not (is_library or is_in(frame.module, OUR_PACKAGE))


def stack_frames(frames: tuple[Frame, ...]) -> tuple[StackFrame, ...]:
    """Return frames with the text of their lines."""
    return tuple(
        StackFrame(code.co_filename, line, code.co_qualname, source_line(code.co_filename, line)[:_LONGEST_CALL])
        for code, line, _module in frames
    )


def stack_text(frames: tuple[Frame, ...]) -> str:
    """Return frames as a traceback prints them."""
    lines = []
    for frame in stack_frames(frames):
        lines.append(f'  File "{frame.file}", line {frame.line}, in {frame.function}\n')
        if frame.text:
            lines.append(f"    {frame.text}\n")
    return "".join(lines)


def await_stack(awaitable: object) -> list[Frame]:
    """Return the frames of a suspended coroutine, outermost first.

    `Task.get_stack` shows the outermost one only; this follows what each frame awaits: coroutines, generators,
    asynchronous generators, tasks, and calls in threads. It ends at an awaitable whose attributes raise an error.
    """
    stack: list[Frame] = []
    seen: set[int] = set()  # tasks can wait for each other
    while awaitable is not None and len(stack) < MAX_FRAMES and id(awaitable) not in seen:
        seen.add(id(awaitable))
        try:
            awaitable = _step(awaitable, stack)
        except BaseException as error:  # the attributes of an object can be code that raises anything
            pass_on_interrupt(error)
            break
    return stack


def _step(awaitable: object, stack: list[Frame]) -> object:
    """Add the frame of an awaitable, if it has one, and return what it awaits."""
    if isinstance(awaitable, ThreadFuture):
        frame = sys._current_frames().get(awaitable.thread_id or 0)  # noqa: SLF001  documented, despite its name
        stack.extend(frames_of(frame))
        return None
    for prefix, following in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
        frame = getattr(awaitable, f"{prefix}_frame", None)
        if frame is not None:
            stack.append(frame_of(frame, frame.f_lineno))
            return getattr(awaitable, following)
    return _inside(awaitable)


def _inside(awaitable: object) -> object:
    """Return what an awaitable without a frame delegates to; None for a future.

    The iterator of a task or of a coroutine, and a step of an asynchronous generator, show what they hold to the
    garbage collector only.
    """
    if isinstance(awaitable, asyncio.Task):
        return awaitable.get_coro()
    return next((held for held in gc.get_referents(awaitable) if isinstance(held, _AWAITING)), None)


def stuck_at(awaitable: object) -> str:
    """Return the innermost line of a suspended coroutine as `file:line function`, or an empty text.

    Lines of asyncio itself are passed over: every suspended coroutine sleeps there. So are asyncwatch's own: a worker
    that awaits a run of its own is stuck in the line that awaits it. Of a function in a thread it is the user's line.
    """
    stack = await_stack(awaitable)
    if not stack:
        return ""
    foreign = [frame for frame in stack if not is_in(frame.module, "asyncio") and not is_of_supervisor(frame.module)]
    if any(frame.module == _THREADS for frame in stack):  # it waits in Python's or a library's code, called from there
        place = place_of(tuple(foreign))
        return f"{place.file}:{place.line} {place.function}"
    code, line, _module = (foreign or stack)[-1]
    return f"{code.co_filename}:{line} {code.co_qualname}"


def entries_of(error: BaseException) -> list[TracebackType]:
    """Return the entries of an error's traceback, outermost first, at most MAX_FRAMES."""
    entries: list[TracebackType] = []
    entry = error.__traceback__
    while entry is not None and len(entries) < MAX_FRAMES:
        entries.append(entry)
        entry = entry.tb_next
    return entries


def place_text(entries: Sequence[TracebackType]) -> str:
    """Return ` at jobs.py:3 fetch`, the line of the worker's own code that an error comes from; empty if none is."""
    frames = (frame_of(entry.tb_frame, entry.tb_lineno) for entry in entries)
    foreign = tuple(frame for frame in frames if not is_of_supervisor(frame.module))
    if not foreign:
        return ""
    place = place_of(foreign)
    return f" at {Path(place.file).name}:{place.line} {place.function}"
