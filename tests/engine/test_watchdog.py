"""The watchdog: whom it blames for a block, from samples and times that a test makes up; and once for real."""

from __future__ import annotations

import asyncio
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import cast

import pytest

from asyncwatch import Run, Watchdog
from asyncwatch.commands import StopRun, WatchStack, WorkerStack
from asyncwatch.engine.event_loop import new_event_loop
from asyncwatch.engine.stacks import Frame, frames_of, place_of, stack_frames
from asyncwatch.engine.watchdog import (
    HEARTBEAT,
    LONGEST_LOOK,
    NOBODY,
    Blame,
    Block,
    Evidence,
    Pulse,
    Sample,
    Spent,
    Stretch,
    Who,
    block_event,
    judge,
)
from asyncwatch.events import BLOCK_CAUSES, Event, LogRecorded, LoopBlocked
from asyncwatch.events.run import block_sentence, blocked_at
from tests.clock import run_jumping
from tests.engine.fleets import worker
from tests.engine.test_engine import engine_of, watch

A, B = Who("a", 1, 1), Who("b", 1, 2)


def code_of(file: str, function: str) -> CodeType:
    """Return code that says it is `function` of `file`."""
    return compile("", file, "exec").replace(co_name=function, co_qualname=function)


def frames(*places: tuple[str, int, str]) -> tuple[Frame, ...]:
    """Return a stack of (file, line, function), outermost first."""
    return tuple(Frame(code_of(file, function), line, Path(file).stem) for file, line, function in places)


MINE = frames(("/srv/jobs.py", 12, "fetch"))
OTHER = frames(("/srv/jobs.py", 40, "parse"))
OURS = (Frame(judge.__code__, 1, judge.__module__),)


def run(who: Who, first: float, last: float, *stacks: tuple[Frame, ...]) -> Stretch:
    """Return samples of one attempt from `first` to `last`."""
    samples = Stretch(who, first)
    for stack in stacks or (MINE,):
        samples.add(stack, last, 0.025)
    return samples


def blame(*runs: Stretch, **evidence: float) -> list[tuple[float, Blame]]:
    """Return how long who is blamed for a second in which the loop's thread worked, unless told otherwise."""
    blocks = judge(Evidence(10.0, 11.0, **{"busy": 1.0, **evidence}), runs)
    return [(round(block.seconds, 3), block.blame) for block in blocks]


def test_the_worker_that_the_samples_show() -> None:
    """One attempt that kept the loop for all the time is blamed, with the place it was seen at most often."""
    assert blame(run(A, 10.05, 10.95, MINE, OTHER, OTHER)) == [(1.0, Blame("worker", A, OTHER))]


def test_who_blocks_after_another_is_told_apart() -> None:
    """Each attempt that kept the loop for 100 ms has a block of its own; turns in between are told together."""
    seen = [run(A, 10.1, 10.38), run(B, 10.42, 10.6, OTHER)]
    seen += [run(who, 10.62 + turn / 50, 10.62 + turn / 50) for turn, who in enumerate([A, B, NOBODY, A, B, A, B, A])]
    seen += [run(NOBODY, 10.9, 10.95)]
    told = blame(*seen)
    assert told[:3] == [
        (0.4, Blame("worker", A, MINE)),
        (0.21, Blame("worker", B, OTHER)),
        (0.2, Blame("many", NOBODY, MINE)),
    ]
    assert [found.cause for _seconds, found in told] == ["worker", "worker", "many", "code"]
    assert sum(seconds for seconds, _found in told) == pytest.approx(1.0)


def test_a_call_that_lets_no_thread_run_is_seen_at_its_end() -> None:
    """The time in which the watchdog got no turn belongs to what it saw next, in an attempt and between two."""
    pulse = Pulse(0.0, Spent())
    for now in (0.05, 0.075, 0.1, 0.125, 0.15):
        pulse.look(now, Sample(A, MINE), pulse.due, 0.0)
    pulse.look(2.0, Sample(A, OTHER), pulse.due, 0.0)
    pulse.look(5.0, Sample(B, MINE), pulse.due, 0.0)
    blocks = pulse.beat(5.01, Spent(thread=4.8), 0.0)
    assert [(round(block.ended, 2), block.blame) for block in blocks] == [
        (2.05, Blame("worker", A, OTHER)),
        (5.01, Blame("worker", B, MINE)),
    ]


def test_many_that_take_turns() -> None:
    """Nobody is blamed if nobody had the loop for long; where the time was spent is told all the same."""
    seen = [run(who, 10.0 + turn / 20, 10.0 + turn / 20) for turn, who in enumerate([A, B] * 10)]
    assert blame(*seen) == [(1.0, Blame("many", NOBODY, MINE))]


def test_what_is_no_worker_is_told_apart() -> None:
    """Code outside any attempt, our own, and nothing seen at all have names of their own."""

    def cause(*runs: Stretch) -> str:
        ((_seconds, found),) = blame(*runs)
        return found.cause

    assert cause(run(NOBODY, 10.0, 10.9, MINE)) == "code"
    assert cause(run(NOBODY, 10.0, 10.9, OURS)) == "asyncwatch"
    assert cause(run(NOBODY, 10.0, 10.9, OURS + MINE)) == "code"
    assert cause() == "unknown"


@pytest.mark.parametrize(
    ("evidence", "cause"),
    [
        ({"collecting": 0.6}, "garbage collection"),
        ({"busy": 0.01, "delayed": 0.8}, "machine"),
        ({"busy": 0.01, "absent": 0.9, "process": 0.05}, "machine"),
        ({"busy": 0.01, "absent": 0.9, "process": 0.9}, "interpreter"),
        ({"busy": 0.0}, "worker"),
        ({"busy": 0.9, "absent": 0.9}, "worker"),
        ({"busy": 0.3, "absent": 0.9, "delayed": 0.7}, "worker"),
    ],
)
def test_times_acquit_workers(evidence: dict[str, float], cause: str) -> None:
    """A worker is not blamed if its thread could not run; it is if it slept, or worked for 100 ms of it."""
    ((seconds, found),) = blame(run(A, 10.0, 10.9), **evidence)
    assert (seconds, found.cause) == (1.0, cause)
    assert cause in BLOCK_CAUSES


def test_the_place_is_the_innermost_line_of_own_code() -> None:
    """Frames of Python's library, of what is installed and of ours are passed over, but the innermost is named."""
    library = str(threading.__file__)
    stack = frames(("/srv/jobs.py", 3, "main"), ("/srv/jobs.py", 12, "fetch"), (library, 99, "wait"))
    assert place_of(stack) == ("/srv/jobs.py", 12, "fetch", "wait in threading.py:99")
    installed = frames(("/x/site-packages/lib/a.py", 5, "get"), ("/x/site-packages/lib/b.py", 6, "read"))
    assert place_of(installed) == ("/x/site-packages/lib/a.py", 5, "get", "read in b.py:6")
    assert place_of(()) == ("", 0, "", "")


async def test_the_frames_of_an_attempt_begin_with_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """What called it, and what the garbage collector calls of ours in its midst, is of no interest."""
    seen: list[tuple[Frame, ...]] = []

    def look() -> float:
        seen.append(frames_of(sys._getframe().f_back))
        return 0.0

    async def target() -> None:
        with Watchdog(batch) as watchdog:
            monkeypatch.setattr("time.perf_counter", look)
            watchdog._note_collection("start", {})
            monkeypatch.undo()

    batch = Run([worker("a", target)])
    await batch.gather()
    assert [frame.code.co_name for frame in seen[0]] == ["target"]


def test_the_frames_of_the_loop_are_left_out() -> None:
    """A sample begins below the event loop; of a loop that waits there is none."""

    async def look() -> tuple[Frame, ...]:
        return frames_of(sys._getframe())

    assert [frame.code.co_name for frame in asyncio.run(look())] == ["look"]


def test_a_frame_without_a_line_is_told_by_the_first_of_its_function() -> None:
    """Python has no line for some instructions: what was seen there can be judged and told all the same."""
    code = code_of("/srv/jobs.py", "fetch")
    (frame,) = frames_of(
        cast(FrameType, SimpleNamespace(f_code=code, f_lineno=None, f_back=None, f_globals={"__name__": "jobs"}))
    )
    assert frame == (code, code.co_firstlineno, "jobs")
    assert place_of((frame,)).line == code.co_firstlineno


def test_a_source_whose_loader_fails_has_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reading the source raises, the place is told without it."""
    monkeypatch.setattr("linecache.getline", lambda *_: 1 / 0)
    assert place_of(MINE) == place_of(MINE)._replace(call="")
    assert all(frame.text == "" for frame in stack_frames(MINE))


def test_what_cannot_be_judged_is_a_block_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that judging raises reaches who asks for the block that goes on, nor the beat that ends it."""
    monkeypatch.setattr("asyncwatch.engine.watchdog.judge", lambda *_: 1 / 0)
    pulse = Pulse(0.0, Spent())
    pulse.look(0.1, Sample(A, MINE), pulse.due, 0.0)
    going_on = pulse.block(0.5)
    assert going_on is not None
    assert going_on.blame == Blame("unknown")
    (block,) = pulse.beat(0.5, Spent(thread=0.5), 0.0)
    assert block.blame == Blame("unknown")
    beats(pulse, 0.525)


def test_a_beat_that_fails_is_not_the_last() -> None:
    """What is called with a beat may raise: the next one comes."""
    calls: list[int] = []
    raised: list[object] = []

    def on_beat() -> None:
        calls.append(1)
        raise ValueError

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
        with Watchdog(Run([]), on_beat):
            await asyncio.sleep(4.5 * HEARTBEAT)

    run_jumping(main)
    assert len(calls) == len(raised) == 4


def beats(pulse: Pulse, *times: float) -> None:
    """Let the loop beat in time."""
    for now in times:
        assert pulse.beat(now, Spent(), 0.0) == []


def test_a_block_is_told_once_when_it_ends() -> None:
    """Looks at a late beat are samples; the beat that comes at last tells of the block, and the next of none."""
    pulse = Pulse(10.0, Spent())
    beats(pulse, 10.025, 10.05)
    for number in range(1, 9):
        pulse.look(10.05 + number * HEARTBEAT, None if number < 3 else Sample(A, MINE), pulse.due, 0.0)
    going_on = pulse.block(10.25)
    assert going_on is not None
    assert going_on.blame == Blame("worker", A, MINE)
    (block,) = pulse.beat(10.26, Spent(thread=0.2), 0.0)
    assert block.blame == Blame("worker", A, MINE)
    assert block.seconds == pytest.approx(0.21 - HEARTBEAT / 2)
    assert block.ended == 10.26
    assert pulse.block(10.26) is None
    beats(pulse, 10.285, 10.31)
    assert pulse.lags(10.31).highest == pytest.approx(0.185)


def test_the_block_that_goes_on_is_of_who_is_at_it() -> None:
    """Whoever keeps the loop at this moment is blamed once that is half of the time, and before it nobody alone."""
    pulse = Pulse(0.0, Spent())
    looks = [number * HEARTBEAT for number in range(2, 53)]
    for now in looks[:31]:
        pulse.look(now, Sample(A if now < 0.5 else B, MINE), pulse.due, 0.0)
    found = pulse.block(0.81)
    assert found is not None
    assert found.blame.cause == "many"
    for now in looks[31:]:
        pulse.look(now, Sample(B, MINE), pulse.due, 0.0)
    found = pulse.block(1.31)
    assert found is not None
    assert found.blame.who == B


def test_the_threshold() -> None:
    """Less than 100 ms is no block; a sample that was taken then is not held against a later one."""
    pulse = Pulse(0.0, Spent())
    pulse.look(0.075, Sample(B, OTHER), pulse.due, 0.0)
    assert pulse.block(0.09) is None
    beats(pulse, 0.09)
    pulse.look(0.24, Sample(A, MINE), pulse.due, 0.0)
    (block,) = pulse.beat(0.25, Spent(thread=0.1), 0.0)
    assert block.blame.who == A


def test_a_suspended_process_blames_nobody() -> None:
    """When neither the loop nor its watchdog ran, and no processor time passed, it was the machine."""
    pulse = Pulse(0.0, Spent())
    beats(pulse, 0.025)
    pulse.look(0.03, None, pulse.due, 0.0)
    pulse.look(60.0, Sample(A, MINE), pulse.due, 0.0)
    going_on = pulse.block(60.0)
    assert going_on is not None
    assert going_on.blame == Blame("unknown")
    (block,) = pulse.beat(60.01, Spent(), 0.0)
    assert block.blame == Blame("machine")


def test_a_look_that_comes_too_late_is_no_sample() -> None:
    """A beat that came while the sample was taken is not overdue: what was seen belongs to nothing."""
    pulse = Pulse(0.0, Spent())
    due = pulse.due
    assert pulse.beat(0.2, Spent(thread=0.2), 0.0)
    pulse.look(0.2, Sample(A, MINE), due, 0.0)
    (block,) = pulse.beat(0.5, Spent(thread=0.5), 0.0)
    assert block.blame.cause == "unknown"


def test_what_is_kept_of_a_long_block_is_bounded() -> None:
    """After a second of the same there are ten looks a second; stacks and turns are held up to a number."""
    pulse = Pulse(0.0, Spent())
    assert pulse.look(0.5, Sample(A, MINE), pulse.due, 0.0) == HEARTBEAT
    assert pulse.look(1.6, Sample(A, MINE), pulse.due, 0.0) == LONGEST_LOOK
    for line in range(1000):
        pulse.look(2.0, Sample(A, frames(("/srv/jobs.py", line, "f"))), pulse.due, 0.0)
    assert len(pulse._runs[0].stacks) <= 200
    for turn in range(3000):
        pulse.look(3.0, Sample(B if turn % 2 else A, MINE), pulse.due, 0.0)
    assert len(pulse._runs) <= 1000


def test_how_a_block_reads() -> None:
    """The sentence names the worker, the time and the place; what nobody is to blame for says so."""
    told = block_event(7, 2.0, 101.0, Block(100.0, 100.3144, Blame("worker", A, MINE)))
    assert told.began == 1.0
    assert block_sentence(told) == "a blocked the event loop for 0.31 s at jobs.py:12 fetch"
    machine = LoopBlocked(8, 3.0, 2.8, 0.2, "machine")
    assert block_sentence(machine) == "the event loop was 0.20 s late: the machine gave it no time"
    assert blocked_at(machine) == ""


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds; give up after twenty seconds."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  what another thread does has no event of this loop to wait for
            await asyncio.sleep(0.005)


async def test_a_worker_that_blocks_is_named() -> None:
    """The worker, the attempt, the line and the call are in the event; the log says the same, before the run ends."""

    async def nap() -> None:
        await asyncio.sleep(0)
        while (block := engine.statistics().blocked) is None or block.cause != "worker":
            time.sleep(0.2)  # noqa: ASYNC251  blocking is the subject of the test

    engine = engine_of(worker("a", nap), stays_open=True)

    def stop_after_the_block(event: Event) -> None:
        if isinstance(event, LoopBlocked) and event.worker:
            engine.send(StopRun())

    events = await watch(engine, stop_after_the_block)
    blocks = [event for event in events if isinstance(event, LoopBlocked) and event.worker]
    assert blocks, events
    assert (blocks[0].worker, blocks[0].incarnation, blocks[0].attempt) == ("a", 1, 1)
    assert blocks[0].cause == "worker"
    assert blocks[0].duration > 0.15
    assert re.match(r"test_watchdog\.py:\d+ .*nap: time\.sleep\(0\.2\)", blocked_at(blocks[0]))
    assert "time.sleep(0.2)" in blocks[0].stack
    assert [(e.worker, e.message) for e in events if isinstance(e, LogRecorded) and e.worker] == [
        ("a", block_sentence(blocks[0]).removeprefix("a "))
    ]


async def test_the_block_that_goes_on_is_in_the_statistics() -> None:
    """Who looks from another thread sees the worker and its stack while it blocks, and before it where it waited."""
    release, is_blocking = threading.Event(), threading.Event()

    async def hold() -> None:
        await asyncio.sleep(0.3)
        is_blocking.set()
        release.wait()

    engine = engine_of(worker("a", hold))
    engine.start()
    queue = engine.events()
    engine.send(WatchStack("a"))

    def stack() -> WorkerStack:
        known = engine.statistics().stack
        return WorkerStack("", 0, 0) if known is None else known

    def block() -> LoopBlocked:
        known = engine.statistics().blocked
        return LoopBlocked(-1, 0.0, 0.0, 0.0, "") if known is None else known

    try:
        await until(lambda: stack().frames)
        assert not stack().is_blocking
        assert stack().frames[0].function.endswith("hold")
        assert stack().frames[0].text == "await asyncio.sleep(0.3)"
        await until(lambda: block().cause == "worker")
        assert is_blocking.is_set()
        assert block().worker == "a"
        assert stack().is_blocking
        assert "release.wait()" in [frame.text for frame in stack().frames]
    finally:
        release.set()
        engine.send(StopRun())
    await until(lambda: engine.join(0))
    assert not queue.empty()


def test_a_block_that_ends_the_run_is_told_before_its_end() -> None:
    """The run ends in the turn of the loop that was blocked, before a beat can come: the block is told all the same."""

    async def hold() -> None:
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251  blocking is the subject of the test

    async def main() -> list[Event]:
        batch = Run([worker("a", hold)])
        queue = batch.subscribe()
        with Watchdog(batch):
            await batch.gather()
        return [event for _ in range(queue.qsize()) for event in queue.get_nowait()]

    told = [type(event).__name__ for event in asyncio.run(main())]
    assert "LoopBlocked" in told
    assert told[-1] == "RunFinished"


def test_tasks_exist_for_what_runs_only() -> None:
    """Of 20,000 workers no more tasks are alive at a time than may run, and no event is lost on the way."""
    highest = alive = 0

    async def count(number: int) -> None:
        nonlocal highest, alive
        highest = max(highest, batch.statistics().tasks)
        if number % 2_000 == 0:
            alive = max(alive, len(asyncio.all_tasks()))

    batch = Run([worker(str(number), count, number) for number in range(20_000)], concurrency=50)

    async def main() -> int:
        queue = batch.subscribe()
        await batch.gather()
        seqs = [event.seq for _ in range(queue.qsize()) for event in queue.get_nowait()]
        assert seqs == list(range(len(seqs)))
        return len(seqs)

    assert run_jumping(main) == batch.statistics().events >= 40_000
    assert highest <= 50
    assert alive <= 50 + 2


def test_on_every_loop_and_in_ones_own_program() -> None:
    """A Run in one's own loop is watched by `with Watchdog(supervisor)`; the loop of the engine is another."""

    async def main() -> list[Event]:
        async def hold() -> None:
            while (block := watchdog.blocked()) is None or block.blame.cause != "worker":
                time.sleep(0.05)  # noqa: ASYNC251  blocking is the subject of the test

        async def receive_block() -> None:
            async with asyncio.timeout(20):
                while not any(isinstance(event, LoopBlocked) and event.worker for event in events):
                    events.extend(await queue.get())

        events: list[Event] = []
        batch = Run([worker("a", hold), worker("b", receive_block)])
        queue = batch.subscribe()
        with Watchdog(batch) as watchdog:
            await batch.gather()
        return events

    for factory in (asyncio.new_event_loop, new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            told = [event.worker for event in runner.run(main()) if isinstance(event, LoopBlocked)]
        assert "a" in told
