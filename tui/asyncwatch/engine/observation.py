"""Observation: the tasks that a program makes by itself, as workers of a run that asyncwatch does not supervise.

Samplers on the event loops of the program say what its tasks do. Here that becomes the events of a run, in the thread
that serves it, so that every client shows such a run like any other. Nothing is looked at while no client looks.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Self
from weakref import WeakMethod

import msgspec

from asyncwatch.commands import (
    CancelAll,
    CancelBranch,
    CancelWorker,
    Command,
    GiveUp,
    RestartBranch,
    RestartWorker,
    RetryNow,
    Statistics,
    StopRun,
    WatchStack,
    WorkerStack,
)
from asyncwatch.engine.describe import clean_message
from asyncwatch.engine.port import STACK_EVERY
from asyncwatch.engine.sampler import (
    CancelAsked,
    Ended,
    Moved,
    Observed,
    RoundEnded,
    Sampler,
    Seen,
    Stack,
    loops_of_tasks,
)
from asyncwatch.engine.stacks import Frame, stack_frames
from asyncwatch.engine.watchdog import NO_WORKER, Block, Who, block_event
from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    Batch,
    CancelRequested,
    CommandRefused,
    Event,
    LogRecorded,
    ProgressReported,
    RunFinished,
    RunStarted,
    WorkerCancelled,
    WorkerFailed,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
)
from asyncwatch.events.run import OBSERVED, OBSERVED_ONLY
from asyncwatch.text import one_line

ROWS_KEPT = 10_000
"""Tasks that have ended of which the rows are kept, the latest."""
GROUPS = 500
"""Most coroutine functions that have a group of their own."""
OTHERS = "other tasks"
FIRST_ROUND = 0.4
"""Seconds that a client waits at most for the first look at all tasks."""
DRAIN_EVERY = 0.05
"""Seconds between two looks at what samplers have seen, while a client looks."""
TEND_EVERY = 0.5
"""Seconds between two looks at whether event loops were closed, and at what was seen of tasks without a client."""
_AT_ONCE = 64
"""Events of a batch. Between two batches clients come, and the thread of the program gets the interpreter. While many
events are encoded it would wait 5 ms for it, `sys.getswitchinterval()`."""
_LONGEST_NAME = 200


@dataclass(slots=True)
class _Task:
    """A task that has not ended."""

    sampler: Sampler
    number: int
    name: str
    group: str
    began: float
    report: str = ""


class Observation:
    """The tasks of the event loops of this process, from the first moment at which a client looks.

    All methods belong to the thread that calls `events`, unless they say otherwise.

    Args:
        name: of the run.
        is_hidden: returns whether an event loop is asyncwatch's own, which is not observed.

    """

    def __init__(self, name: str, is_hidden: Callable[[asyncio.AbstractEventLoop], bool] = lambda _loop: False) -> None:
        self._name = name
        self._is_hidden = is_hidden
        self._began = time.monotonic()
        self._number = itertools.count(1).__next__
        self._seq = itertools.count().__next__
        self._lock = threading.Lock()
        self._samplers: dict[asyncio.AbstractEventLoop, Sampler] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: asyncio.Queue[Batch] = asyncio.Queue()
        self._events = 0
        self._tasks: dict[int, _Task] = {}
        self._by_name: dict[str, _Task] = {}
        self._names: OrderedDict[str, int] = OrderedDict()
        """How often each name was given, of the latest names."""
        self._groups: set[str] = set()
        self._states: Counter[WorkerState] = Counter()
        self._seen = 0
        self._is_looked_at = False
        self._unfinished: set[Sampler] = set()
        """Samplers whose first round since the begin of the look is not over."""
        self._waiting: list[Callable[[], None]] = []
        """What waits for these rounds."""
        self._watched_task: str | None = None
        self._stack: WorkerStack | None = None
        self._stack_timer: asyncio.TimerHandle | None = None
        self._drain_timer: asyncio.TimerHandle | None = None
        self._inbox: deque[tuple[Sampler, list[Observed]]] = deque()
        self._is_over = False
        forget = WeakMethod(self._forget_after_fork)
        os.register_at_fork(after_in_child=lambda: (method := forget()) and method())

    # -- from any thread

    def add_loop(self, loop: asyncio.AbstractEventLoop, *, reports_stops: bool = True) -> None:
        """Observe the tasks of an event loop, too.

        If no one `reports_stops` of it, it has no watchdog: that would take a loop that has stopped for blocked.
        """
        with self._lock:
            if loop in self._samplers or self._is_over or self._is_hidden(loop):
                return
            sampler = self._samplers[loop] = Sampler(
                loop, self._pass_on, self._clock, self._number, self._add_found, self if reports_stops else None
            )
        self._call(self._take_loop, sampler)

    def _add_found(self, loop: asyncio.AbstractEventLoop) -> None:
        """Observe an event loop that was found by a task of it."""
        if loop not in self._samplers and not loop.is_closed():  # a pending task keeps its loop
            self.add_loop(loop, reports_stops=False)

    def note_stop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that an event loop has stopped, in its thread."""
        if (sampler := self._samplers.get(loop)) is not None:
            sampler.stop()

    def record_log(self, _worker: str | None, level: str, source: str, message: str) -> None:
        """Make a log record or a printed line an event of the run."""
        self._call(self._log, self._clock(), level, source, message)

    def _forget_after_fork(self) -> None:
        """Observe nothing in a forked process, which has no thread that serves it."""
        self._is_over, self._loop = True, None
        self._lock = threading.Lock()

    def _clock(self) -> float:
        return int((time.monotonic() - self._began) * 1e6) / 1e6

    # -- what the watchdogs of the loops know and report

    @property
    def _control(self) -> Self:
        return self

    @property
    def now(self) -> float:
        """Seconds since the observation began."""
        return self._clock()

    def running_worker(self, loop: asyncio.AbstractEventLoop) -> Who:
        """Return which task runs on `loop` at this moment. From any thread."""
        running, sampler = asyncio.current_task(loop), self._samplers.get(loop)
        if running is None or sampler is None:
            return NO_WORKER
        task = self._tasks.get(sampler.number_of(running))
        return NO_WORKER if task is None else Who(task.name, 1, 1)

    def call_before_end(self, callback: Callable[[], object]) -> None:
        """Do nothing: a watchdog ends when no client looks."""

    def record_block(self, block: Block) -> None:
        """Report a block that has ended. From any thread."""
        self._call(self._blocked, block, time.monotonic())

    def _blocked(self, block: Block, now: float) -> None:
        if not self._is_over:
            self._emit([block_event(self._seq(), self._clock(), now, block)])

    def _pass_on(self, sampler: Sampler, seen: list[Observed]) -> None:
        # To wake the other thread is a system call, after which the program would have to wait for the interpreter.
        if not self._is_over:
            self._inbox.append((sampler, seen))

    def _call(self, function: Callable[..., object], *args: Any) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function, *args)

    # -- the port of the run

    def events(self) -> asyncio.Queue[Batch]:
        """Return the queue of all events, for the running event loop; once."""
        self._loop = asyncio.get_running_loop()
        run = RunStarted(
            self._seq(),
            0.0,
            self._name,
            workers=0,
            runner=OBSERVED,
            seed=0,
            concurrency=0,
            timeout=None,
            started_at=time.time() - self._clock(),
            bad_luck=1.0,
            reads_items=True,
            rows_kept=ROWS_KEPT,
        )
        self._emit([run])
        self._loop.call_later(TEND_EVERY, self._tend)
        self._drain()
        return self._queue

    def look(self, is_looked_at: bool) -> None:
        """Look at the tasks from now on, or no longer."""
        if is_looked_at == self._is_looked_at:
            return
        if is_looked_at:
            self._find_loops()
        self._is_looked_at = is_looked_at
        with self._lock:
            samplers = list(self._samplers.values())
        self._unfinished = set(samplers) if is_looked_at else set()
        for sampler in samplers:
            sampler.look(is_looked_at)
        self._release()
        if is_looked_at and self._loop is not None:
            self._loop.call_later(FIRST_ROUND, self._stop_waiting)
        self._drain()

    def send(self, *commands: Command) -> None:
        """Carry commands out."""
        for command in commands:
            if reason := self._carry_out(command):
                worker, incarnation = "", 0
                if isinstance(command, CancelWorker | RestartWorker | RetryNow | GiveUp):
                    worker, incarnation = command.worker, command.incarnation
                facts = type(command).__name__, worker, incarnation, reason
                self._emit([CommandRefused(self._seq(), self._clock(), *facts)])

    def send_then(self, commands: Sequence[Command], callback: Callable[[int], object]) -> None:
        """Carry commands out, and call back with the number of events so far: after the first look at all tasks."""

        def answer() -> None:
            self.send(*commands)
            callback(self._events)

        if self._unfinished:
            self._waiting.append(answer)
        else:
            answer()

    def statistics(self) -> Statistics:
        """Return the figures of this moment."""
        known = Statistics(events=self._events, in_flight=len(self._tasks), tasks=len(self._tasks), stack=self._stack)
        watchdogs = [dog for sampler in list(self._samplers.values()) if (dog := sampler.watchdog) is not None]
        if not watchdogs:
            return known
        watchdog = max(watchdogs, key=lambda watchdog: watchdog.lags().last)  # of the loop that is latest
        lags, block = watchdog.lags(), watchdog.blocked()
        return msgspec.structs.replace(
            known,
            loop_lag=lags.last,
            lag_p50=lags.p50,
            lag_p95=lags.p95,
            lag_highest=lags.highest,
            collecting=watchdog.collecting,
            longest_collection=watchdog.longest_collection,
            blocked=None if block is None else block_event(-1, self._clock(), time.monotonic(), block),
        )

    def finish(self) -> None:
        """End the observation."""
        if self._is_over:
            return
        self.look(False)
        self._drain()
        with self._lock:
            self._is_over = True
        states = {str(state): number for state, number in self._states.items() if number}
        if self._tasks:
            states[str(WorkerState.RUNNING)] = len(self._tasks)
        at = self._clock()
        self._emit([RunFinished(self._seq(), at, states, self._seen, at, interrupted=False)])

    # -- commands

    def _carry_out(self, command: Command) -> str:
        """Do what a command requests; return why that is not possible, or an empty text."""
        match command:
            case CancelWorker():
                return self._cancel(command)
            case CancelBranch():
                self._cancel_all([task for task in self._tasks.values() if task.group == command.path])
            case CancelAll():
                self._cancel_all(list(self._tasks.values()))
            case WatchStack(worker):
                self._watched_task, self._stack = worker, None
                self._take_stack()
            case StopRun():
                os.kill(os.getpid(), signal.SIGINT)  # asyncwatch does not run the program, so it does what Ctrl+C does
            case RestartWorker() | RestartBranch():
                return OBSERVED_ONLY
            case _:
                return "asyncwatch only observes these tasks: it can cancel them, and nothing else"
        return ""

    def _cancel(self, command: CancelWorker) -> str:
        task = self._by_name.get(command.worker)
        if task is None:
            return "it has ended" if command.worker in self._names else "there is no such task"
        task.sampler.cancel(task.number)
        return ""

    def _cancel_all(self, tasks: list[_Task]) -> None:
        for task in tasks:
            task.sampler.cancel(task.number)

    def _take_stack(self) -> None:
        """Keep the stack of the task that is watched, now and again and again."""
        if self._stack_timer is not None:
            self._stack_timer.cancel()
            self._stack_timer = None
        task = None if self._watched_task is None else self._by_name.get(self._watched_task)
        if task is None or self._loop is None or self._is_over:
            return
        name = task.name
        task.sampler.take_stack(task.number, lambda frames: self._call(self._took_stack, name, tuple(frames)))
        self._stack_timer = self._loop.call_later(STACK_EVERY, self._take_stack)

    def _took_stack(self, name: str, frames: tuple[Frame, ...]) -> None:
        if name == self._watched_task:
            self._stack = WorkerStack(name, 1, 1, stack_frames(frames))

    # -- what was seen

    def _drain(self) -> None:
        """Take what the samplers have passed on, now and again while a client looks."""
        if self._is_over or self._loop is None:
            return
        while self._inbox:
            self._take(*self._inbox.popleft())
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        self._drain_timer = self._loop.call_later(DRAIN_EVERY, self._drain) if self._is_looked_at else None

    def _take_loop(self, sampler: Sampler) -> None:
        if self._is_looked_at:
            sampler.look(True)

    def _take(self, sampler: Sampler, seen: list[Observed]) -> None:
        """Make what a sampler has seen events, in order."""
        events: list[Event] = []
        for each in seen if not self._is_over else ():
            match each:
                case Seen():
                    events += self._started(sampler, each)
                case Moved():
                    events += self._moved(each)
                case Ended():
                    events += self._ended(each)
                case CancelAsked(number, at):
                    if (task := self._tasks.get(number)) is not None:
                        events.append(CancelRequested(self._seq(), at, task.name, 1, "person"))
                case RoundEnded():
                    self._emit(events)
                    events = []
                    self._unfinished.discard(sampler)
                    self._release()
            if len(events) >= _AT_ONCE:
                self._emit(events)
                events = []
        self._emit(events)

    def _started(self, sampler: Sampler, seen: Seen) -> Iterator[Event]:
        group = function = one_line(clean_message(seen.function), _LONGEST_NAME)
        if group not in self._groups:
            if len(self._groups) >= GROUPS:
                group = OTHERS
            self._groups.add(group)
        given = one_line(clean_message(seen.name), _LONGEST_NAME)
        name = self._unique(f"{given} {function}" if is_default_name(given) else given)
        task = _Task(sampler, seen.number, name, group, seen.at)
        self._tasks[seen.number] = self._by_name[name] = task
        self._seen += 1
        yield WorkersQueued(self._seq(), seen.at, group, 1, (name,))
        yield AttemptStarted(self._seq(), seen.at, name, 1, 1, 0.0)

    def _unique(self, name: str) -> str:
        names = self._names
        unique = name
        while unique in names or unique in self._by_name:
            names[name] = names.get(name, 1) + 1
            names.move_to_end(name)
            unique = f"{name} ({names[name]})"
        names[unique] = 1
        while len(names) > 2 * ROWS_KEPT + len(self._tasks):
            names.popitem(last=False)
        return unique

    def _moved(self, moved: Moved) -> Iterator[Event]:
        task = self._tasks.get(moved.number)
        if task is None:
            return
        report = clean_message(report_of(moved.stack, moved.detail))
        if report != task.report:
            task.report = report
            yield ProgressReported(self._seq(), moved.at, task.name, 1, 1, None, None, "", report)

    def _ended(self, ended: Ended) -> Iterator[Event]:
        task = self._tasks.pop(ended.number, None)
        if task is None:
            return
        del self._by_name[task.name]
        elapsed = round(max(0.0, ended.at - task.began), 6)
        facts = task.name, 1
        if ended.is_cancelled:
            state = WorkerState.CANCELLED
            yield WorkerCancelled(self._seq(), ended.at, *facts, 1, elapsed)
        elif ended.error is None:
            state = WorkerState.SUCCEEDED
            yield WorkerSucceeded(self._seq(), ended.at, *facts, 1, elapsed, ended.result)
        else:
            state = WorkerState.FAILED
            kind, message, stack = ended.error
            yield AttemptFailed(
                self._seq(), ended.at, *facts, 1, kind, message, False, False, elapsed, stack, "permanent"
            )
            yield WorkerFailed(self._seq(), ended.at, *facts, 1, elapsed, kind, message)
        self._states[state] += 1

    def _log(self, at: float, level: str, source: str, message: str) -> None:
        if not self._is_over:
            texts = clean_message(level), clean_message(source), clean_message(message)
            self._emit([LogRecorded(self._seq(), at, None, *texts)])

    def _emit(self, events: list[Event]) -> None:
        if events:
            self._events += len(events)
            self._queue.put_nowait(tuple(events))

    # -- time

    def _tend(self) -> None:
        """End the tasks of event loops that were closed."""
        if self._is_over or self._loop is None:
            return
        self._loop.call_later(TEND_EVERY, self._tend)
        self._drain()
        with self._lock:
            closed = [sampler for loop, sampler in self._samplers.items() if loop.is_closed()]
            for sampler in closed:
                del self._samplers[sampler.loop]
        if self._is_looked_at:
            self._find_loops()
        for sampler in closed:
            self._take(sampler, sampler.abandon())
            self._unfinished.discard(sampler)
        self._release()

    def _find_loops(self) -> None:
        """Look for event loops by their tasks if none is known to run: one that runs finds the others."""
        with self._lock:
            is_any_running = any(loop.is_running() for loop in self._samplers)
        for loop in () if is_any_running else loops_of_tasks():
            self._add_found(loop)

    def _stop_waiting(self) -> None:
        self._unfinished.clear()
        self._release()

    def _release(self) -> None:
        if not self._unfinished:
            waiting, self._waiting = self._waiting, []
            for answer in waiting:
                answer()


def is_default_name(name: str) -> bool:
    """Return whether asyncio gave a task this name."""
    return name.startswith("Task-") and name[5:].isdigit()


def report_of(stack: Stack, detail: str) -> str:
    """Return where a task waits in one line: `client.py:88 fetch · sleep (3 s) · from crawl.py:12 crawl`."""
    texts = stack.texts()
    called = f"{texts.called} ({detail})" if texts.called and detail else texts.called or detail or texts.source
    return " · ".join(filter(None, [texts.place, called, texts.callers and f"from {texts.callers}"]))


class LoopFinder:
    """Tells an observation of each event loop that begins to run in this process, while it is installed.

    Every event loop, uvloop's too, calls `asyncio._set_running_loop` when it begins and when it stops. uvloop keeps the
    function that it has found when it was imported: if that was earlier, its loops are found by their tasks.
    """

    def __init__(self, observation: Observation) -> None:
        self._observation = observation
        self._original = asyncio.events._set_running_loop  # noqa: SLF001  documented for event loops, despite its name

    def install(self) -> None:
        """Begin."""
        asyncio.events._set_running_loop = asyncio._set_running_loop = self._set  # noqa: SLF001

    def remove(self) -> None:
        """End, unless other code has replaced the function too."""
        if asyncio.events._set_running_loop == self._set:  # noqa: SLF001
            asyncio.events._set_running_loop = asyncio._set_running_loop = self._original  # noqa: SLF001

    def _set(self, loop: asyncio.AbstractEventLoop | None) -> None:
        before = asyncio._get_running_loop()  # noqa: SLF001  as above
        self._original(loop)
        if loop is not None:
            self._observation.add_loop(loop)
        elif before is not None:
            self._observation.note_stop(before)
