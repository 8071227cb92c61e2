"""Why an event loop was blocked, by whom and where: judged from samples of its thread's stack and from times. Pure."""

from __future__ import annotations

import linecache
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple, TypeVar

from asyncwatch.commands import StackFrame

_Function = TypeVar("_Function", bound=Callable[..., Any])


class Frame(NamedTuple):
    """A place in code that ran: its line is that of the call it had made."""

    code: CodeType
    line: int
    module: str
    """The name of the module, which says whose code it is. Two packages can have files of the same name."""


LEAST = 0.0875
"""Seconds for which something has to keep the loop to be told by itself: 100 ms, as far as that is known."""
LONGEST_LOOK = 0.1
"""Seconds between two samples at the most, as long as the watchdog gets its turns."""
_STACKS_KEPT = 200
_DEEPEST = 60
_LONGEST_CALL = 160
OUR_PACKAGE = __name__.partition(".")[0]
PACKAGES_OF_TARGETS = (f"{OUR_PACKAGE}.targets", f"{OUR_PACKAGE}.selftest")
"""Packages of ours with functions that workers call: their frames are shown, as those of any library are."""
_MACHINERY = {
    "asyncio": {"run", "run_until_complete", "run_forever", "_run_once", "_run"},
    "threading": {"_bootstrap", "_bootstrap_inner", "run"},
}
"""Packages of Python, and the functions in them whose callers are of no interest."""
_boundaries: list[CodeType] = []
"""The code of our own such functions, in which a stack of a worker or of an event loop begins."""
_callbacks: list[CodeType] = []
"""The code of ours that Python calls in the midst of a worker's code."""
_INSTALLED = ("/site-packages/", "/dist-packages/")
_STDLIB = (str(Path(threading.__file__).parent), "<frozen ")
_HALF: Final = 0.5
"""The share of a block from which on something counts as its cause."""


class Who(NamedTuple):
    """One attempt of one worker."""

    worker: str
    incarnation: int
    attempt: int


NOBODY = Who("", 0, 0)
"""No attempt that is known."""


class Sample(NamedTuple):
    """What the thread of the loop did at one moment. The frames come outermost first."""

    who: Who
    frames: tuple[Frame, ...]


class Run:
    """Samples in a row that show the same attempt, or none. Times are those of the clock of the samples."""

    __slots__ = ("first", "last", "stacks", "who")

    def __init__(self, who: Who, now: float) -> None:
        self.who = who
        self.first = self.last = now
        self.stacks: dict[tuple[Frame, ...], float] = {}
        """The seconds that each is a sample of."""

    def add(self, frames: tuple[Frame, ...], now: float, seconds: float) -> None:
        """Note a further sample, the first in `seconds`; of different stacks only so many are held."""
        self.last = now
        if frames in self.stacks or len(self.stacks) < _STACKS_KEPT:
            self.stacks[frames] = self.stacks.get(frames, 0.0) + seconds


class Evidence(NamedTuple):
    """What is known of a block but for its samples; in seconds, what is not known is 0."""

    began: float
    ended: float
    busy: float = 0.0
    """Processor time of the loop's thread meanwhile."""
    process: float = 0.0
    """Processor time of the whole process meanwhile."""
    absent: float = 0.0
    """For how long the watchdog got no turn either."""
    delayed: float = 0.0
    """For how long the loop's thread could have run, but got no processor."""
    collecting: float = 0.0
    """For how long garbage was collected."""


class Blame(NamedTuple):
    """The cause of a block, one of `BLOCK_CAUSES`; whose attempt it was, and the stack that took most of the time."""

    cause: str
    who: Who = NOBODY
    frames: tuple[Frame, ...] = ()


class Place(NamedTuple):
    """The line that matters of a stack, and what was called there."""

    file: str
    line: int
    function: str
    call: str


NOWHERE = Place("", 0, "", "")


def boundary(function: _Function) -> _Function:
    """Mark a function that runs an event loop, or calls a target on it: stacks are shown from its callee on."""
    _boundaries.append(function.__code__)
    return function


def callback(function: _Function) -> _Function:
    """Mark a function that Python calls while a worker's code runs: it is left out at the end of a stack."""
    _callbacks.append(function.__code__)
    return function


def frame_of(frame: FrameType, line: int | None) -> Frame:
    """Return the place of a frame; Python has no line for some instructions, then it is the function's first."""
    return Frame(frame.f_code, line or frame.f_code.co_firstlineno, _module_of(frame))


def _module_of(frame: FrameType) -> str:
    """Return the name of a frame's module, also of one that is run by `python -m`; empty if it has none."""
    name = frame.f_globals.get("__name__")
    if name == "__main__":
        name = getattr(frame.f_globals.get("__spec__"), "name", name)
    return name if isinstance(name, str) else ""


def is_in(module: str, package: str) -> bool:
    """Return whether a module is that package, or one of its modules."""
    return module == package or module.startswith(f"{package}.")


def frames_of(frame: FrameType | None) -> tuple[Frame, ...]:
    """Return the frames of a running thread, outermost first, without those of its event loop; none if that waits."""
    frames: list[Frame] = []
    while frame is not None:
        frames.append(frame_of(frame, frame.f_lineno))
        frame = frame.f_back
    frames.reverse()
    while len(frames) > 1 and _is_one_of(_callbacks, frames[-1]):
        frames.pop()
    first = next((number for number in range(len(frames), 0, -1) if _is_machinery(frames[number - 1])), 0)
    if first < len(frames) and frames[first].module == "selectors":
        return ()
    return tuple(frames[first:][-_DEEPEST:])


def _is_machinery(frame: Frame) -> bool:
    """Return whether a frame runs an event loop, or calls a target on it."""
    names = _MACHINERY.get(frame.module.partition(".")[0], ())
    return frame.code.co_name in names or _is_one_of(_boundaries, frame)


def _is_one_of(codes: Sequence[CodeType], frame: Frame) -> bool:
    # Not `in`: code that was compiled from the same text is equal, wherever its file is.
    return any(code is frame.code for code in codes)


class Block(NamedTuple):
    """The loop got to nothing else from `began` to `ended`."""

    began: float
    ended: float
    blame: Blame

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.ended - self.began


def judge(evidence: Evidence, runs: Sequence[Run]) -> list[Block]:
    """Return who or what kept the loop, one after the other.

    What did not run in its thread is told before what that thread did, unless the thread worked for long enough to
    block the loop on any machine. Attempts that kept it for too short a time to be told each are told together.
    """
    whole = Block(evidence.began, evidence.ended, Blame("many", NOBODY, _usual(runs)))
    if cause := _acquittal(evidence):
        return [whole._replace(blame=Blame(cause))]
    if len(runs) <= 1:
        return [whole._replace(blame=_blame(runs[0]) if runs else Blame("unknown"))]
    # A longer gap is that of a call which let no other thread run, and was seen when it ended.
    ends = [run.last + min(following.first - run.last, LONGEST_LOOK) / 2 for run, following in pairwise(runs)]
    spans = zip(runs, [evidence.began, *ends], [*ends, evidence.ended], strict=True)
    blocks = []
    for is_long, group in groupby(spans, key=lambda span: span[2] - span[1] >= LEAST):
        some = list(group)
        if is_long:
            blocks += [Block(began, ended, _blame(run)) for run, began, ended in some]
        elif (ended := some[-1][2]) - (began := some[0][1]) >= LEAST:
            blocks.append(Block(began, ended, Blame("many", NOBODY, _usual([run for run, _, _ in some]))))
    return blocks or [whole]


def _acquittal(evidence: Evidence) -> str:
    """Return the cause if it is none that ran in the thread of the loop, else nothing."""
    half = (evidence.ended - evidence.began) * _HALF
    if evidence.collecting >= half:
        return "garbage collection"
    if evidence.busy < min(half, LEAST):
        if evidence.delayed >= half:
            return "machine"
        if evidence.absent >= half:
            return "interpreter" if evidence.process >= half else "machine"
    return ""


def _blame(run: Run) -> Blame:
    frames = _usual([run])
    return Blame("worker" if run.who != NOBODY else _owner(frames), run.who, frames)


def _usual(runs: Sequence[Run]) -> tuple[Frame, ...]:
    """Return the stack with the place that took most of the time."""
    places: defaultdict[Place, float] = defaultdict(float)
    stacks: dict[Place, tuple[Frame, ...]] = {}
    for run in runs:
        for frames, seconds in run.stacks.items():
            place = place_of(frames)
            places[place] += seconds
            stacks[place] = frames
    return stacks[max(places, key=places.__getitem__)] if places else ()


def _owner(frames: tuple[Frame, ...]) -> str:
    if any(_is_own(frame) for frame in frames):
        return "code"
    return "asyncwatch" if any(is_in(frame.module, OUR_PACKAGE) for frame in frames) else "code"


def place_of(frames: tuple[Frame, ...]) -> Place:
    """Return the innermost line of own code, else the outermost that is not of the supervisor."""
    if not frames:
        return NOWHERE
    own = [number for number, frame in enumerate(frames) if _is_own(frame)]
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
    """Return the text of a line, or an empty one if that cannot be had."""
    try:
        return linecache.getline(file, line).strip()
    except Exception:
        return ""


def is_of_supervisor(module: str) -> bool:
    """Return whether a module is of what runs the workers: it is ours, and none that workers call."""
    return is_in(module, OUR_PACKAGE) and not any(is_in(module, package) for package in PACKAGES_OF_TARGETS)


def _is_own(frame: Frame) -> bool:
    """Return whether a frame is of the user's code: neither Python's, nor installed, nor ours."""
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
