"""The watchdog: how late an event loop is, and which worker blocks it where, by samples of its thread's stack.

`judge` and `Pulse` are pure: they are given times and samples. `Watchdog` takes them, in a thread of its own.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import math
import selectors
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import groupby, pairwise
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final, NamedTuple, Protocol, Self

from asyncwatch.commands import WorkerStack
from asyncwatch.engine.capture import log_safely
from asyncwatch.engine.stacks import (
    OUR_PACKAGE,
    Frame,
    Place,
    callback,
    frames_of,
    is_in,
    is_own,
    place_of,
    stack_frames,
    stack_text,
)
from asyncwatch.events import LoopBlocked
from asyncwatch.events.run import FIXABLE_CAUSES, block_sentence

logger = logging.getLogger("asyncwatch.watchdog")

LEAST = 0.0875
"""Seconds that a block lasts at least to be reported: 100 ms, less half a heartbeat of uncertainty."""
LONGEST_LOOK = 0.1
"""Most seconds between two samples, as long as the watchdog's thread gets to run."""
_STACKS_KEPT = 200
_HALF: Final = 0.5
"""The share of a block that makes something its cause."""


class Who(NamedTuple):
    """One attempt of one worker."""

    worker: str
    incarnation: int
    attempt: int


NO_WORKER = Who("", 0, 0)
"""No known attempt."""


class Sample(NamedTuple):
    """What the loop's thread did at one moment. Frames come outermost first."""

    who: Who
    frames: tuple[Frame, ...]


class Stretch:
    """Consecutive samples that show the same attempt, or none. Times are by the samples' clock."""

    __slots__ = ("first", "last", "stacks", "who")

    def __init__(self, who: Who, now: float) -> None:
        self.who = who
        self.first = self.last = now
        self.stacks: dict[tuple[Frame, ...], float] = {}
        """The seconds that each stack stands for."""

    def add(self, frames: tuple[Frame, ...], now: float, seconds: float) -> None:
        """Add a sample that stands for `seconds`. Only so many different stacks are kept."""
        self.last = now
        if frames in self.stacks or len(self.stacks) < _STACKS_KEPT:
            self.stacks[frames] = self.stacks.get(frames, 0.0) + seconds


class Evidence(NamedTuple):
    """What is known of a block apart from its samples, in seconds; 0 for unknown."""

    began: float
    ended: float
    busy: float = 0.0
    """Processor time that the loop's thread took."""
    process: float = 0.0
    """Processor time that the whole process took."""
    absent: float = 0.0
    """How long the watchdog's thread did not run either."""
    delayed: float = 0.0
    """How long the loop's thread could have run, but got no processor."""
    collecting: float = 0.0
    """How long garbage was collected."""


class Blame(NamedTuple):
    """The cause of a block, one of `BLOCK_CAUSES`, the attempt, and the stack that took most of the time."""

    cause: str
    who: Who = NO_WORKER
    frames: tuple[Frame, ...] = ()


class Block(NamedTuple):
    """The loop did nothing else from `began` to `ended`."""

    began: float
    ended: float
    blame: Blame

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return self.ended - self.began


def judge(evidence: Evidence, runs: Sequence[Stretch]) -> list[Block]:
    """Return what blocked the loop, in order.

    Causes outside the loop's thread come first, unless that thread worked long enough to block the loop on any machine.
    Attempts that are each too short to report are reported together.
    """
    whole = Block(evidence.began, evidence.ended, Blame("many", NO_WORKER, _usual(runs)))
    if cause := _acquittal(evidence):
        return [whole._replace(blame=Blame(cause))]
    if len(runs) <= 1:
        return [whole._replace(blame=_blame(runs[0]) if runs else Blame("unknown"))]
    # A longer gap is a call that let no other thread run, seen when it ended.
    ends = [run.last + min(following.first - run.last, LONGEST_LOOK) / 2 for run, following in pairwise(runs)]
    spans = zip(runs, [evidence.began, *ends], [*ends, evidence.ended], strict=True)
    blocks = []
    for is_long, group in groupby(spans, key=lambda span: span[2] - span[1] >= LEAST):
        some = list(group)
        if is_long:
            blocks += [Block(began, ended, _blame(run)) for run, began, ended in some]
        elif (ended := some[-1][2]) - (began := some[0][1]) >= LEAST:
            blocks.append(Block(began, ended, Blame("many", NO_WORKER, _usual([run for run, _, _ in some]))))
    return blocks or [whole]


def _acquittal(evidence: Evidence) -> str:
    """Return the cause if it is outside the loop's thread, else an empty text."""
    half = (evidence.ended - evidence.began) * _HALF
    if evidence.collecting >= half:
        return "garbage collection"
    if evidence.busy < min(half, LEAST):
        if evidence.delayed >= half:
            return "machine"
        if evidence.absent >= half:
            return "interpreter" if evidence.process >= half else "machine"
    return ""


def _blame(run: Stretch) -> Blame:
    frames = _usual([run])
    return Blame("worker" if run.who != NO_WORKER else _owner(frames), run.who, frames)


def _usual(runs: Sequence[Stretch]) -> tuple[Frame, ...]:
    """Return the stack whose place took most of the time."""
    places: defaultdict[Place, float] = defaultdict(float)
    stacks: dict[Place, tuple[Frame, ...]] = {}
    for run in runs:
        for frames, seconds in run.stacks.items():
            place = place_of(frames)
            places[place] += seconds
            stacks[place] = frames
    return stacks[max(places, key=places.__getitem__)] if places else ()


def _owner(frames: tuple[Frame, ...]) -> str:
    if any(is_own(frame) for frame in frames):
        return "code"
    return "asyncwatch" if any(is_in(frame.module, OUR_PACKAGE) for frame in frames) else "code"


HEARTBEAT = 0.025
"""Seconds between two beats of the loop, and between two checks of it. A block is measured to half of that."""
PLAIN_HEARTBEAT = 0.05
"""Seconds between two beats, or two looks, of a loop without a run: less than 0.5 % of a core."""
RESTING_HEARTBEAT = 0.5
"""Seconds between two beats while nothing runs that could block the loop."""
_RUNS_KEPT = 1_000
_LAGS_KEPT = 10.0
"""Seconds for which the lag of a beat is kept."""


def block_event(seq: int, at: float, now: float, block: Block) -> LoopBlocked:
    """Return the event that reports a block. `at` is `now` in seconds since the run started."""
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


def blocking_stack(block: Block) -> WorkerStack:
    """Return the stack of the worker that blocks the loop, as it was seen from outside."""
    who = block.blame.who
    frames = stack_frames(block.blame.frames)
    return WorkerStack(who.worker, who.incarnation, who.attempt, frames, is_blocking=True)


def _judged(evidence: Evidence, runs: list[Stretch]) -> list[Block]:
    """Return what `judge` does; for evidence that it cannot judge, a block of unknown cause."""
    try:
        return judge(evidence, runs)
    except Exception:
        return [Block(evidence.began, evidence.ended, Blame("unknown"))]


class Lags(NamedTuple):
    """How late the beats were, in seconds: worst of the last second, quantiles of the last ten, worst of all."""

    last: float
    p50: float
    p95: float
    highest: float


class Spent(NamedTuple):
    """Seconds from any zero: processor time of the loop's thread and of the process, and time spent collecting."""

    thread: float = 0.0
    process: float = 0.0
    collecting: float = 0.0


class Pulse:
    """The loop's heartbeat, shared by two threads: the loop's calls `beat`, the watchdog's calls `look`."""

    def __init__(self, now: float, spent: Spent) -> None:
        self.due = now + HEARTBEAT
        """When the next beat is due."""
        self._spent = spent
        self._lock = threading.Lock()
        self._runs: list[Stretch] = []
        self._looked_at, self._wait = now, HEARTBEAT
        self._absent = 0.0
        self._delay: float | None = None
        self._lags: deque[tuple[float, float]] = deque()
        """Time and lag of each beat of the last ten seconds."""
        self._highest = 0.0

    def is_late(self, now: float) -> bool:
        """Return whether the beat is late enough at `now` to take a sample."""
        return now - self.due >= HEARTBEAT

    def beat(self, now: float, spent: Spent, delay: float, interval: float = HEARTBEAT) -> list[Block]:
        """Note a beat; return the blocks that it ends, in order.

        `delay` is how long the loop's thread has waited for a processor, from any zero. The next beat is due in
        `interval` seconds.
        """
        due = self.due
        late = max(0.0, now - due)
        lags = self._lags
        lags.append((now, late))
        while lags[0][0] < now - _LAGS_KEPT:
            lags.popleft()
        if late > self._highest:  # noqa: PLR1730  max() takes three times as long
            self._highest = late
        before, self._spent = self._spent, spent
        blocks: list[Block] = []
        if late >= HEARTBEAT or self._delay is not None:
            with self._lock:
                runs, self._runs = self._runs, []
                absent, self._absent = self._absent + self._overslept(now, late), 0.0
                delay_before, self._delay = self._delay, None
                self.due = now + interval
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
        self.due = now + interval
        return blocks

    def request(self, now: float, spent: Spent) -> None:
        """Note that a beat was requested: the loop is at work. No beat is due after it but by another request."""
        with self._lock:
            self._spent = spent
            self._looked_at, self._wait = now, PLAIN_HEARTBEAT
            self.due = now

    def look(self, now: float, sample: Sample | None, due: float, delay: float) -> float:
        """Note a sample, taken while the beat of `due` was late; return the seconds until the next look."""
        with self._lock:
            overslept = self._overslept(now, now - due)
            seconds = now - self._looked_at
            # A look before the beat can be late would find nothing, and would wake the thread twice for each beat.
            self._looked_at, self._wait = now, max(HEARTBEAT, self.due + HEARTBEAT - now)
            if sample is None or self.due != due:  # the beat is in time, or has come meanwhile
                return self._wait
            self._absent += overslept
            if self._delay is None:
                self._delay = delay
            if sample.frames:
                runs = self._runs
                if not runs or runs[-1].who != sample.who:
                    if len(runs) < _RUNS_KEPT:
                        runs.append(Stretch(sample.who, now))
                    else:
                        runs[-1].who = NO_WORKER
                runs[-1].add(sample.frames, now, seconds)
                if now - runs[-1].first > 1:
                    self._wait = LONGEST_LOOK  # there are enough samples
            return self._wait

    def block(self, now: float) -> Block | None:
        """Return the block in progress, judged by the samples so far; None if there is none.

        It begins where the loop was last in time. The attempt that runs is its cause if it ran for half of it.
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
            # What the loop's thread did meanwhile is known only when it comes back.
            return Block(evidence.began, now, Blame("unknown"))
        blame = last.blame if last.seconds >= late / 2 else Blame("many", frames=last.blame.frames)
        return Block(evidence.began, now, blame)

    def lags(self, now: float) -> Lags:
        """Return how late the loop is and was."""
        overdue = max(0.0, now - self.due)
        beats = list(self._lags)
        last = max((late for at, late in beats if at >= now - 1), default=0.0)
        lags = sorted(late for at, late in beats if at >= now - _LAGS_KEPT)
        count = len(lags)
        p50, p95 = (lags[count // 2], lags[count * 95 // 100]) if lags else (0.0, 0.0)
        return Lags(max(overdue, last), p50, p95, max(overdue, self._highest))

    def _overslept(self, now: float, late: float) -> float:
        """Return how many of the last `late` seconds the watchdog should have looked and did not."""
        return max(0.0, min(late, now - self._looked_at - self._wait))


class Watched(Protocol):
    """What the watchdog has to know of a run."""

    @property
    def now(self) -> float:
        """Seconds since the run started."""

    def running_worker(self, loop: asyncio.AbstractEventLoop) -> Who:
        """Return whose attempt runs on `loop` at this moment. Called from another thread."""

    def call_before_end(self, callback: Callable[[], object]) -> None:
        """Call `callback` on the loop just before the end of the run is reported: no block can follow it."""

    def record_block(self, block: Block) -> None:
        """Report a block that has ended. Called on the loop."""


class WatchedRun(Protocol):
    """A `Run` or a `Supervisor`."""

    @property
    def _control(self) -> Watched:
        """Its internal interface."""


class _NoRun:
    """An event loop without a run: its blocks are logged."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    @property
    def _control(self) -> Self:
        return self

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    def running_worker(self, loop: asyncio.AbstractEventLoop) -> Who:
        """Return that no worker is known."""
        del loop
        return NO_WORKER

    def call_before_end(self, callback: Callable[[], object]) -> None:
        """Do nothing: the end of the watch is that of its context."""

    def record_block(self, block: Block) -> None:
        """Log a block that a person can do something about."""
        event = block_event(-1, self.now, time.monotonic(), block)
        if event.cause in FIXABLE_CAUSES:
            log_safely(logger, logging.WARNING, "%s", block_sentence(event))


class Watchdog:
    """Watches the event loop that runs when it is entered: `with Watchdog():`.

    It names the file, the line and the function that block the loop for about a tenth of a second or longer, in a
    warning of the logger `asyncwatch.watchdog`. With a run it names the worker too, and the block becomes an event of
    the run.

    Blocks are measured to 50 ms, with a run to 25 ms: those of 0.14 s and longer (0.12 s with a run) are all reported,
    and of those from 0.09 s on, some.

    `asyncwatch` watches the loop of its own runs. A `Run` or `Supervisor` in your own loop is watched only so: that
    costs a thread, and a timer of the loop 40 times a second. Without a run, a loop of asyncio that waits is not woken:
    the thread looks at it 20 times a second, and requests a sign only of a loop that is at work. Other loops have a
    timer.

    Args:
        run: its workers are named in the events that report blocks; None for a loop without one.
        on_beat: called on the loop with each beat, of which there are then as many as with a run.
        is_at_rest: returns whether nothing runs that could block the loop. The heart then beats more slowly, until
            `wake` is called.
        on_block: called on the loop with each block after its end. Without a run, `at` and `began` of the event are in
            seconds since the watchdog was made, and nothing is logged.

    """

    def __init__(
        self,
        run: WatchedRun | None = None,
        on_beat: Callable[[], None] | None = None,
        is_at_rest: Callable[[], bool] = lambda: False,
        *,
        on_block: Callable[[LoopBlocked], object] | None = None,
    ) -> None:
        self._watched: Watched = _NoRun() if run is None else run._control  # noqa: SLF001  `control_of`, whose module needs this one
        self._on_block = on_block
        self._on_beat = on_beat
        self._is_at_rest = is_at_rest
        self._pulse: Pulse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_resting = self._is_over = False
        self._clock: int | None = None
        """The clock of the processor time of the loop's thread, if beats are requested instead of timed."""
        self._is_woken = threading.Event()
        self.collecting = 0.0
        """Seconds that the garbage collector has taken."""
        self.longest_collection = 0.0
        self._collect_began = 0.0

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread_id, self._native_id = threading.get_ident(), threading.get_native_id()
        self._pulse = Pulse(time.monotonic(), self._spent())
        gc.callbacks.append(self._note_collection)
        if isinstance(self._watched, _NoRun) and self._on_beat is None:
            self._clock = _clock_of(self._loop, self._thread_id)
        if self._clock is None:
            self._timer = self._loop.call_later(HEARTBEAT, self._beat)
        else:
            self._pulse.due = math.inf
        self._watched.call_before_end(self._catch_up)
        threading.Thread(target=self._watch, args=[self._pulse], name="asyncwatch watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._catch_up()
        self._is_over = True
        self._is_woken.set()
        if self._timer is not None:
            self._timer.cancel()
        gc.callbacks.remove(self._note_collection)

    def lags(self) -> Lags:
        """Return how late the loop is and was. From any thread."""
        if self._pulse is None or self._is_over:
            return Lags(0.0, 0.0, 0.0, 0.0)
        return self._pulse.lags(time.monotonic())

    def blocked(self) -> Block | None:
        """Return the block in progress; None if there is none. From any thread."""
        if self._pulse is None or self._is_over:
            return None
        return self._pulse.block(time.monotonic())

    def wake(self) -> None:
        """End a rest if something runs again. On the loop."""
        if self._is_resting and self._timer is not None and not self._is_at_rest():
            self._timer.cancel()
            self._beat()
            self._is_woken.set()

    def _beat(self) -> None:
        assert self._pulse is not None  # noqa: S101  it was entered
        self._is_resting = self._is_at_rest()
        self._timer = self._loop.call_later(self._interval, self._beat)
        blocks = self._blocks(self._pulse)
        if self._on_beat is not None:
            self._on_beat()
        for block in blocks:
            self._report(block)

    def _report(self, block: Block) -> None:
        if self._on_block is not None:
            try:
                self._on_block(block_event(-1, self._watched.now, time.monotonic(), block))
            except Exception:
                log_safely(logger, logging.ERROR, "on_block of a Watchdog raised an error", has_traceback=True)
        if self._on_block is None or not isinstance(self._watched, _NoRun):
            self._watched.record_block(block)

    def _catch_up(self) -> None:
        """Report a block that has just ended: the loop iteration in which the run ends comes before its beat."""
        if self._pulse is None or self._is_over or not self._pulse.is_late(time.monotonic()):
            return
        for block in self._blocks(self._pulse):
            self._report(block)

    @property
    def _interval(self) -> float:
        if self._clock is not None:
            return math.inf
        if self._is_resting:
            return RESTING_HEARTBEAT
        return PLAIN_HEARTBEAT if isinstance(self._watched, _NoRun) else HEARTBEAT

    def _blocks(self, pulse: Pulse) -> list[Block]:
        """Note a beat; return the blocks that it ends."""
        now = time.monotonic()
        delay = run_delay(self._native_id) if pulse.is_late(now) else 0.0
        return pulse.beat(now, self._spent(), delay, self._interval)

    def _watch(self, pulse: Pulse) -> None:
        wait = HEARTBEAT
        while True:
            if self._is_woken.wait(wait):
                self._is_woken.clear()
            if self._is_over:
                return
            now, due = time.monotonic(), pulse.due
            if self._clock is not None and due == math.inf:
                wait = PLAIN_HEARTBEAT
                if not _is_waiting(sys._current_frames().get(self._thread_id)):  # noqa: SLF001  as in `_sample`
                    self._request(pulse, now, self._clock)
            elif pulse.is_late(now):
                wait = pulse.look(now, self._sample(), due, run_delay(self._native_id))
            else:
                wait = pulse.look(now, None, due, 0.0)

    def _request(self, pulse: Pulse, now: float, clock: int) -> None:
        pulse.request(now, Spent(time.clock_gettime(clock), time.process_time(), self.collecting))
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._answer)

    @callback
    def _answer(self) -> None:
        if self._pulse is not None and not self._is_over:
            for block in self._blocks(self._pulse):
                self._report(block)

    def _sample(self) -> Sample:
        # This thread nearly always keeps the interpreter for both calls; a rare mixed sample does not matter.
        frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001  documented, despite its name
        return Sample(self._watched.running_worker(self._loop), frames_of(frame))

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


def _clock_of(loop: asyncio.AbstractEventLoop, thread: int) -> int | None:
    """Return the clock of a thread's processor time; None if there is none, or it is not seen when its loop waits."""
    if not isinstance(loop, asyncio.SelectorEventLoop) or not hasattr(time, "pthread_getcpuclockid"):
        return None
    return time.pthread_getcpuclockid(thread)


def _is_waiting(frame: FrameType | None) -> bool:
    """Return whether the loop of a thread, whose innermost frame this is, waits for something to do."""
    return frame is not None and frame.f_code in _SELECTS and getattr(frame.f_back, "f_code", None) is _ITERATION


_SELECTS = frozenset(
    kind.select.__code__ for kind in vars(selectors).values() if isinstance(kind, type) and hasattr(kind, "select")
)
_ITERATION = asyncio.BaseEventLoop._run_once.__code__  # type: ignore[attr-defined]  # noqa: SLF001  the loop's own frame


def run_delay(native_id: int) -> float:
    """Return how many seconds a thread of this process could have run, but got no processor; 0 if unknown.

    Linux has it in `/proc/<pid>/task/<tid>/schedstat`, in nanoseconds (its `sched-stats` documentation).
    """
    try:
        return int(Path(f"/proc/self/task/{native_id}/schedstat").read_text().split()[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return 0.0
