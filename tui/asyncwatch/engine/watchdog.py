"""Why an event loop was blocked, by whom and where: judged from samples of its thread's stack and from times. Pure."""

from __future__ import annotations

import asyncio
import gc
import linecache
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from itertools import groupby, pairwise
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self, TypeVar

from asyncwatch.commands import StackFrame
from asyncwatch.events import LoopBlocked

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


HEARTBEAT = 0.025
"""Seconds between two beats of the loop, and between two looks at it. A block is known to half of that."""
_RUNS_KEPT = 1_000
_LAGS_KEPT = round(10 / HEARTBEAT)
_LAST_SECOND = round(1 / HEARTBEAT)


def block_event(seq: int, at: float, now: float, block: Block) -> LoopBlocked:
    """Return the event that tells of a block. `at` is `now` in seconds since the run started."""
    cause, who, frames = block.blame
    file, line, function, call = place_of(frames)
    return LoopBlocked(
        seq=seq,
        at=at,
        began=round(max(0.0, at - (now - block.began)), 6),
        duration=round(block.seconds, 6),
        cause=cause,
        worker=who.worker,
        incarnation=who.incarnation,
        attempt=who.attempt,
        file=file,
        line=line,
        function=function,
        call=call,
        stack=stack_text(frames),
    )


def _judged(evidence: Evidence, runs: list[Run]) -> list[Block]:
    """Return what `judge` does, or of whatever it cannot judge that the loop was blocked."""
    try:
        return judge(evidence, runs)
    except Exception:
        return [Block(evidence.began, evidence.ended, Blame("unknown"))]


class Lags(NamedTuple):
    """How late the beats were, in seconds: the latest of the last second, of the last ten seconds, of all."""

    last: float
    p50: float
    p95: float
    highest: float


class Spent(NamedTuple):
    """Seconds, counted from any zero: of the processor, by the loop's thread and the process; of collecting garbage."""

    thread: float = 0.0
    process: float = 0.0
    collecting: float = 0.0


class Pulse:
    """Put together by two threads: `beat` belongs to that of the loop, `look` to that of the watchdog."""

    def __init__(self, now: float, spent: Spent) -> None:
        self.due = now + HEARTBEAT
        """When the next beat is to come."""
        self._spent = spent
        self._lock = threading.Lock()
        self._runs: list[Run] = []
        self._looked_at, self._wait = now, HEARTBEAT
        self._absent = 0.0
        self._delay: float | None = None
        self._lags: deque[float] = deque(maxlen=_LAGS_KEPT)
        self._highest = 0.0

    def is_late(self, now: float) -> bool:
        """Return whether a look at `now` needs a sample."""
        return now - self.due >= HEARTBEAT

    def beat(self, now: float, spent: Spent, delay: float) -> list[Block]:
        """Note a beat; return the blocks that it ends, in order.

        `delay` is for how long the loop's thread has waited for a processor, from any zero.
        """
        due = self.due
        late = max(0.0, now - due)
        self._lags.append(late)
        if late > self._highest:  # noqa: PLR1730  max() takes three times as long
            self._highest = late
        before, self._spent = self._spent, spent
        blocks: list[Block] = []
        if late >= HEARTBEAT or self._delay is not None:
            with self._lock:
                runs, self._runs = self._runs, []
                absent, self._absent = self._absent + self._overslept(now, late), 0.0
                delay_before, self._delay = self._delay, None
                self.due = now + HEARTBEAT
            if late >= LEAST:
                evidence = Evidence(
                    due - HEARTBEAT / 2,
                    now,
                    busy=spent.thread - before.thread,
                    process=spent.process - before.process,
                    absent=absent,
                    delayed=0.0 if delay_before is None else delay - delay_before,
                    collecting=spent.collecting - before.collecting,
                )
                blocks = _judged(evidence, runs)
        self.due = now + HEARTBEAT
        return blocks

    def look(self, now: float, sample: Sample | None, due: float, delay: float) -> float:
        """Note what was seen of the loop while its beat of `due` was late; return the seconds until the next look."""
        with self._lock:
            overslept = self._overslept(now, now - due)
            seconds = now - self._looked_at
            self._looked_at, self._wait = now, HEARTBEAT
            if sample is None or self.due != due:  # it is in time, or has come meanwhile
                return self._wait
            self._absent += overslept
            if self._delay is None:
                self._delay = delay
            if sample.frames:
                runs = self._runs
                if not runs or runs[-1].who != sample.who:
                    if len(runs) < _RUNS_KEPT:
                        runs.append(Run(sample.who, now))
                    else:
                        runs[-1].who = NOBODY
                runs[-1].add(sample.frames, now, seconds)
                if now - runs[-1].first > 1:
                    self._wait = LONGEST_LOOK  # it has been seen often enough
            return self._wait

    def block(self, now: float) -> Block | None:
        """Return the block that goes on, judged by what was seen of it so far; None if there is none.

        It goes back to where the loop was in time. Whoever is at it is to blame if that was so for half of it.
        """
        due = self.due
        late = now - due
        if late < LEAST:
            return None
        evidence = Evidence(due - HEARTBEAT / 2, now)
        with self._lock:
            absent = self._absent + self._overslept(now, late)
            last = _judged(evidence, self._runs)[-1]
        if absent >= late / 2:
            # What its thread did meanwhile is not known before it comes back.
            return Block(evidence.began, now, Blame("unknown"))
        blame = last.blame if last.seconds >= late / 2 else Blame("many", frames=last.blame.frames)
        return Block(evidence.began, now, blame)

    def lags(self, now: float) -> Lags:
        """Return how late the loop is and was."""
        overdue = max(0.0, now - self.due)
        lags = list(self._lags)
        last = max(overdue, *lags[-_LAST_SECOND:], 0.0)
        lags.sort()
        count = len(lags)
        p50, p95 = (lags[count // 2], lags[count * 95 // 100]) if lags else (0.0, 0.0)
        return Lags(last, p50, p95, max(overdue, self._highest))

    def _overslept(self, now: float, late: float) -> float:
        """Return for how long of the last `late` seconds nobody looked although somebody was to."""
        return max(0.0, min(late, now - self._looked_at - self._wait))


class Watched(Protocol):
    """What the watchdog has to know of a run: a `Supervisor`."""

    def whose_turn(self, loop: asyncio.AbstractEventLoop) -> Who:
        """Return whose attempt runs on `loop` at this moment. Called from another thread."""

    def call_before_end(self, callback: Callable[[], object]) -> None:
        """Call that on the loop when the end of the run is about to be told: no block can be after it."""

    def record_block(self, block: Block) -> None:
        """Tell of a block that has ended. Called on the loop."""


class Watchdog:
    """Watches the event loop that runs when it is entered: `with Watchdog(supervisor):`.

    `asyncwatch` watches the loop of its runs by itself. A `Supervisor` in one's own loop is watched only so: it costs a
    thread, and 40 times a second a timer of the loop.

    Args:
        watched: the supervisor whose workers are to be named, and whose listeners are told of blocks.
        on_beat: called on the loop with each beat.

    """

    def __init__(self, watched: Watched, on_beat: Callable[[], None] | None = None) -> None:
        self._watched = watched
        self._on_beat = on_beat
        self._pulse: Pulse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_over = threading.Event()
        self.collecting = 0.0
        """Seconds that the garbage collector has taken."""
        self.longest_collection = 0.0
        self._collect_began = 0.0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread_id, self._native_id = threading.get_ident(), threading.get_native_id()
        self._pulse = Pulse(time.monotonic(), self._spent())
        gc.callbacks.append(self._note_collection)
        self._timer = self._loop.call_later(HEARTBEAT, self._beat)
        self._watched.call_before_end(self._catch_up)
        threading.Thread(target=self._watch, args=[self._pulse], name="asyncwatch watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        if self._timer is not None:
            self._timer.cancel()
        gc.callbacks.remove(self._note_collection)

    def lags(self) -> Lags:
        """Return how late the loop is and was. From any thread."""
        if self._pulse is None or self._is_over.is_set():
            return Lags(0.0, 0.0, 0.0, 0.0)
        return self._pulse.lags(time.monotonic())

    def blocked(self) -> Block | None:
        """Return the block that goes on; None if there is none. From any thread."""
        if self._pulse is None or self._is_over.is_set():
            return None
        return self._pulse.block(time.monotonic())

    def _beat(self) -> None:
        assert self._pulse is not None  # noqa: S101  it was entered
        self._timer = self._loop.call_later(HEARTBEAT, self._beat)
        blocks = self._blocks(self._pulse)
        if self._on_beat is not None:
            self._on_beat()
        for block in blocks:
            self._watched.record_block(block)

    def _catch_up(self) -> None:
        """Tell of the block that has just ended: the turn of the loop in which the run ends comes before its beat."""
        if self._pulse is None or self._is_over.is_set() or not self._pulse.is_late(time.monotonic()):
            return
        for block in self._blocks(self._pulse):
            self._watched.record_block(block)

    def _blocks(self, pulse: Pulse) -> list[Block]:
        """Note that the loop gets on; return the blocks that have ended by that."""
        now = time.monotonic()
        delay = run_delay(self._native_id) if pulse.is_late(now) else 0.0
        return pulse.beat(now, self._spent(), delay)

    def _watch(self, pulse: Pulse) -> None:
        wait = HEARTBEAT
        while not self._is_over.wait(wait):
            now, due = time.monotonic(), pulse.due
            if pulse.is_late(now):
                wait = pulse.look(now, self._sample(), due, run_delay(self._native_id))
            else:
                wait = pulse.look(now, None, due, 0.0)

    def _sample(self) -> Sample:
        # This thread has the interpreter for both calls, but for a chance that does not matter among many samples.
        frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001  documented, in spite of its name
        return Sample(self._watched.whose_turn(self._loop), frames_of(frame))

    def _spent(self) -> Spent:
        return Spent(time.thread_time(), time.process_time(), self.collecting)

    @callback
    def _note_collection(self, phase: str, info: dict[str, int]) -> None:
        del info
        if phase == "start":
            self._collect_began = time.perf_counter()
        else:
            seconds = time.perf_counter() - self._collect_began
            self.collecting += seconds
            self.longest_collection = max(self.longest_collection, seconds)


def run_delay(native_id: int) -> float:
    """Return the seconds for which a thread of this process could have run, but got no processor; 0 if unknown.

    Linux tells it in `/proc/<pid>/task/<tid>/schedstat`, in nanoseconds (its `sched-stats` documentation).
    """
    try:
        return int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
