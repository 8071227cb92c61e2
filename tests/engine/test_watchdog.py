"""Watchdog: what it blames for a block of the loop, from made-up samples and times, and from a real loop."""

from __future__ import annotations

import asyncio
import logging
import re
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType, SimpleNamespace
from typing import Any, cast

import pytest

from asyncwatch import Run, Watchdog
from asyncwatch.commands import RestartWorker, StopRun, WatchStack, WorkerStack
from asyncwatch.engine.event_loop import new_event_loop
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.stacks import Frame, frames_of, place_of, stack_frames
from asyncwatch.engine.watchdog import (
    HEARTBEAT,
    LONGEST_LOOK,
    NO_WORKER,
    PLAIN_HEARTBEAT,
    RESTING_HEARTBEAT,
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
from asyncwatch.process import paused_gc
from tests.clock import run_jumping
from tests.engine.engines import engine_of, watch
from tests.engine.fleets import worker

A, B = Who("a", 1, 1), Who("b", 1, 2)


def code_of(file: str, function: str) -> CodeType:
    """Return code that names `function` of `file` as its origin."""
    return compile("", file, "exec").replace(co_name=function, co_qualname=function)


def frames(*places: tuple[str, int, str]) -> tuple[Frame, ...]:
    """Return a stack of (file, line, function), outermost first."""
    return tuple(Frame(code_of(file, function), line, Path(file).stem) for file, line, function in places)


MINE = frames(("/srv/jobs.py", 12, "fetch"))
OTHER = frames(("/srv/jobs.py", 40, "parse"))
OURS = (Frame(judge.__code__, 1, judge.__module__),)


def samples(who: Who, first: float, last: float, *stacks: tuple[Frame, ...]) -> Stretch:
    """Return samples of one attempt from `first` to `last`."""
    stretch = Stretch(who, first)
    for stack in stacks or (MINE,):
        stretch.add(stack, last, 0.025)
    return stretch


def blame(*stretches: Stretch, **evidence: float) -> list[tuple[float, Blame]]:
    """Return the seconds and the blame of each block of one second of work of the loop's thread."""
    blocks = judge(Evidence(10.0, 11.0, **{"busy": 1.0, **evidence}), stretches)
    return [(round(block.seconds, 3), block.blame) for block in blocks]


def test_blame_worker_that_kept_the_loop_at_its_most_frequent_place() -> None:
    assert blame(samples(A, 10.05, 10.95, MINE, OTHER, OTHER)) == [(1.0, Blame("worker", A, OTHER))]


def test_blame_attempts_of_100_ms_each_and_shorter_ones_together() -> None:
    seen = [samples(A, 10.1, 10.38), samples(B, 10.42, 10.6, OTHER)]
    seen += [
        samples(who, 10.62 + number / 50, 10.62 + number / 50)
        for number, who in enumerate([A, B, NO_WORKER, A, B, A, B, A])
    ]
    seen += [samples(NO_WORKER, 10.9, 10.95)]
    blocks = blame(*seen)
    assert blocks[:3] == [
        (0.4, Blame("worker", A, MINE)),
        (0.21, Blame("worker", B, OTHER)),
        (0.2, Blame("many", NO_WORKER, MINE)),
    ]
    assert [found.cause for _seconds, found in blocks] == ["worker", "worker", "many", "code"]
    assert sum(seconds for seconds, _found in blocks) == pytest.approx(1.0)


def test_blame_gap_between_samples_on_the_next_sample() -> None:
    """A call that holds the interpreter lets the watchdog take no sample before its end."""
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


def test_blame_many_if_none_kept_the_loop_for_long() -> None:
    seen = [samples(who, 10.0 + number / 20, 10.0 + number / 20) for number, who in enumerate([A, B] * 10)]
    assert blame(*seen) == [(1.0, Blame("many", NO_WORKER, MINE))]


def test_blame_without_a_worker_names_code_asyncwatch_or_unknown() -> None:
    def cause(*stretches: Stretch) -> str:
        ((_seconds, found),) = blame(*stretches)
        return found.cause

    assert cause(samples(NO_WORKER, 10.0, 10.9, MINE)) == "code"
    assert cause(samples(NO_WORKER, 10.0, 10.9, OURS)) == "asyncwatch"
    assert cause(samples(NO_WORKER, 10.0, 10.9, OURS + MINE)) == "code"
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
def test_blame_follows_the_times_of_thread_process_and_machine(evidence: dict[str, float], cause: str) -> None:
    ((seconds, found),) = blame(samples(A, 10.0, 10.9), **evidence)
    assert (seconds, found.cause) == (1.0, cause)
    assert cause in BLOCK_CAUSES


def test_place_is_the_innermost_line_of_user_code() -> None:
    """Else it is the innermost frame."""
    library = str(threading.__file__)
    stack = frames(("/srv/jobs.py", 3, "main"), ("/srv/jobs.py", 12, "fetch"), (library, 99, "wait"))
    assert place_of(stack) == ("/srv/jobs.py", 12, "fetch", "wait in threading.py:99")
    installed = frames(("/x/site-packages/lib/a.py", 5, "get"), ("/x/site-packages/lib/b.py", 6, "read"))
    assert place_of(installed) == ("/x/site-packages/lib/a.py", 5, "get", "read in b.py:6")
    assert place_of(()) == ("", 0, "", "")


async def test_frames_of_an_attempt_begin_with_its_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """A garbage collection within it adds no frame."""
    seen: list[tuple[Frame, ...]] = []

    def look() -> float:
        seen.append(frames_of(sys._getframe().f_back))
        return 0.0

    async def target() -> None:
        with Watchdog(batch) as watchdog, paused_gc():  # a real collection would look too, from inside `look`
            monkeypatch.setattr("time.perf_counter", look)
            watchdog._note_collection("start", {})
            monkeypatch.undo()

    batch = Run([worker("a", target)])
    await batch.gather()
    assert [frame.code.co_name for frame in seen[0]] == ["target"]


def test_frames_of_the_event_loop_are_left_out() -> None:
    async def look() -> tuple[Frame, ...]:
        return frames_of(sys._getframe())

    assert [frame.code.co_name for frame in asyncio.run(look())] == ["look"]


def test_frame_without_a_line_has_the_first_line_of_its_function() -> None:
    """Python has no line for some instructions."""
    code = code_of("/srv/jobs.py", "fetch")
    (frame,) = frames_of(
        cast(FrameType, SimpleNamespace(f_code=code, f_lineno=None, f_back=None, f_globals={"__name__": "jobs"}))
    )
    assert frame == (code, code.co_firstlineno, "jobs")
    assert place_of((frame,)).line == code.co_firstlineno


def test_place_whose_source_cannot_be_read_has_no_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linecache.getline", lambda *_: 1 / 0)
    assert place_of(MINE) == place_of(MINE)._replace(call="")
    assert all(frame.text == "" for frame in stack_frames(MINE))


def test_block_whose_judgement_raises_has_an_unknown_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncwatch.engine.watchdog.judge", lambda *_: 1 / 0)
    pulse = Pulse(0.0, Spent())
    pulse.look(0.1, Sample(A, MINE), pulse.due, 0.0)
    going_on = pulse.block(0.5)
    assert going_on is not None
    assert going_on.blame == Blame("unknown")
    (block,) = pulse.beat(0.5, Spent(thread=0.5), 0.0)
    assert block.blame == Blame("unknown")
    beats(pulse, 0.525)


def test_beat_whose_callback_raises_is_followed_by_the_next() -> None:
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
    """Beat at these times, none of which ends a block."""
    for now in times:
        assert pulse.beat(now, Spent(), 0.0) == []


def test_block_is_reported_once_at_its_end() -> None:
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


@pytest.mark.parametrize("interval", [HEARTBEAT, RESTING_HEARTBEAT])
def test_lags_are_of_the_last_second_and_the_last_ten_at_any_rate_of_beats(interval: float) -> None:
    pulse = Pulse(0.0, Spent())
    late = 0.05
    for number in range(round(2 / interval)):  # late beats for two seconds, then beats in time
        pulse.beat(pulse.due + (late if number else 0.0), Spent(), 0.0, interval)
    ended = pulse.due - interval
    assert pulse.lags(ended + 0.01)[:3] == pytest.approx((late, late, late))
    while pulse.due < ended + 8:
        pulse.beat(pulse.due, Spent(), 0.0, interval)
    last, p50, p95, highest = pulse.lags(ended + 8)
    assert (last, p50, p95, highest) == pytest.approx((0.0, 0.0, late, late), abs=1e-9)
    while pulse.due < ended + 10.5:
        pulse.beat(pulse.due, Spent(), 0.0, interval)
    assert pulse.lags(ended + 10.5)[:3] == pytest.approx((0.0, 0.0, 0.0), abs=1e-9)


def test_current_block_blames_the_attempt_at_work_for_half_of_it() -> None:
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


def test_block_under_100_ms_is_none_and_its_samples_are_dropped() -> None:
    pulse = Pulse(0.0, Spent())
    pulse.look(0.075, Sample(B, OTHER), pulse.due, 0.0)
    assert pulse.block(0.09) is None
    beats(pulse, 0.09)
    pulse.look(0.24, Sample(A, MINE), pulse.due, 0.0)
    (block,) = pulse.beat(0.25, Spent(thread=0.1), 0.0)
    assert block.blame.who == A


def test_block_of_a_suspended_process_blames_the_machine() -> None:
    pulse = Pulse(0.0, Spent())
    beats(pulse, 0.025)
    pulse.look(0.03, None, pulse.due, 0.0)
    pulse.look(60.0, Sample(A, MINE), pulse.due, 0.0)
    going_on = pulse.block(60.0)
    assert going_on is not None
    assert going_on.blame == Blame("unknown")
    (block,) = pulse.beat(60.01, Spent(), 0.0)
    assert block.blame == Blame("machine")


def test_sample_taken_after_the_beat_is_dropped() -> None:
    pulse = Pulse(0.0, Spent())
    due = pulse.due
    assert pulse.beat(0.2, Spent(thread=0.2), 0.0)
    pulse.look(0.2, Sample(A, MINE), due, 0.0)
    (block,) = pulse.beat(0.5, Spent(thread=0.5), 0.0)
    assert block.blame.cause == "unknown"


def test_samples_of_a_long_block_are_bounded() -> None:
    """They are also taken less often after a second of the same."""
    pulse = Pulse(0.0, Spent())
    assert pulse.look(0.5, Sample(A, MINE), pulse.due, 0.0) == HEARTBEAT
    assert pulse.look(1.6, Sample(A, MINE), pulse.due, 0.0) == LONGEST_LOOK
    for line in range(1000):
        pulse.look(2.0, Sample(A, frames(("/srv/jobs.py", line, "f"))), pulse.due, 0.0)
    assert len(pulse._runs[0].stacks) <= 200
    for number in range(3000):
        pulse.look(3.0, Sample(B if number % 2 else A, MINE), pulse.due, 0.0)
    assert len(pulse._runs) <= 1000


def test_block_sentence_names_worker_time_and_place_or_the_machine() -> None:
    event = block_event(7, 2.0, 101.0, Block(100.0, 100.3144, Blame("worker", A, MINE)))
    assert event.began == 1.0
    assert block_sentence(event) == "a blocked the event loop for 0.31 s at jobs.py:12 fetch"
    machine = LoopBlocked(8, 3.0, 2.8, 0.2, "machine")
    assert block_sentence(machine) == "the event loop was 0.20 s late: the machine gave it no time"
    assert blocked_at(machine) == ""


async def until(condition: Callable[[], object]) -> None:
    """Wait until the condition holds, at most 20 s."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"the condition did not become true within 20 s: {condition!r}"
        await asyncio.sleep(0.005)  # another thread has no event of this loop to wait for


async def test_worker_that_blocks_is_named_in_event_and_log_before_the_end() -> None:
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


async def test_statistics_show_the_current_block_and_the_stack_of_a_worker() -> None:
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


def test_block_in_the_last_loop_iteration_is_reported_before_the_end() -> None:
    async def hold() -> None:
        await asyncio.sleep(0)
        time.sleep(0.2)  # noqa: ASYNC251  blocking is the subject of the test

    async def main() -> list[Event]:
        batch = Run([worker("a", hold)])
        queue = batch.subscribe()
        with Watchdog(batch):
            await batch.gather()
        return [event for _ in range(queue.qsize()) for event in queue.get_nowait()]

    kinds = [type(event).__name__ for event in asyncio.run(main())]
    assert "LoopBlocked" in kinds
    assert kinds[-1] == "RunFinished"


def test_tasks_of_20_000_workers_are_at_most_the_concurrency() -> None:
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


def test_watchdog_works_on_asyncio_and_uvloop_in_the_program_of_the_user() -> None:
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
            blamed = [event.worker for event in runner.run(main()) if isinstance(event, LoopBlocked)]
        assert "a" in blamed


def hold_the_loop(seconds: float) -> None:
    time.sleep(seconds)


def hold_the_loop_by_a_selector(seconds: float) -> None:
    with selectors.SelectSelector() as selector:
        selector.select(seconds)


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, new_event_loop])
@pytest.mark.parametrize("hold", [hold_the_loop, hold_the_loop_by_a_selector])
def test_watchdog_without_a_run_logs_the_place_that_blocks_the_loop(
    factory: Callable[[], asyncio.AbstractEventLoop],
    hold: Callable[[float], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        with Watchdog():
            await asyncio.sleep(0.05)
            hold(0.4)
            await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    warnings = [record for record in caplog.records if record.name == "asyncwatch.watchdog"]
    assert len(warnings) == 1
    assert "test_watchdog.py:" in warnings[0].getMessage()
    assert hold.__name__ in warnings[0].getMessage()


def test_watchdog_without_a_run_wakes_no_loop_that_waits() -> None:
    class CountingLoop(asyncio.SelectorEventLoop):
        wakes = 0

        def _write_to_self(self) -> None:
            self.wakes += 1
            super()._write_to_self()  # type: ignore[misc]

        def call_at(self, *args: Any, **kwargs: Any) -> asyncio.TimerHandle:  # type: ignore[override]
            self.wakes += 1
            return super().call_at(*args, **kwargs)

    async def main() -> int:
        with Watchdog():
            await asyncio.sleep(1.0)
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountingLoop)
        return loop.wakes

    with asyncio.Runner(loop_factory=CountingLoop) as runner:
        assert runner.run(main()) < 0.5 / PLAIN_HEARTBEAT


UNLOGGED = """
import asyncio, time
from asyncwatch import Watchdog, amap

async def fails(item):
    raise ValueError(item)

async def main():
    with Watchdog():
        await asyncio.sleep(0.05)
        time.sleep(0.4)
        await asyncio.sleep(0.1)
    await amap(fails, [1], on_error="return")

asyncio.run(main())
"""


def test_watchdog_warns_a_program_that_configures_no_logging_and_uses_amap() -> None:
    done = subprocess.run([sys.executable, "-c", UNLOGGED], capture_output=True, text=True, check=True)
    (line,) = done.stderr.splitlines()
    assert "blocked the event loop for" in line


def test_watchdog_passes_blocks_to_a_callback_that_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    blocks: list[LoopBlocked] = []

    def note(block: LoopBlocked) -> None:
        blocks.append(block)
        raise LookupError("the callback failed")

    async def main() -> None:
        with Watchdog(on_block=note):
            await asyncio.sleep(0.05)
            hold_the_loop(0.4)

    asyncio.run(main())
    (block,) = blocks
    assert block.function == "hold_the_loop"
    assert block.file.endswith("test_watchdog.py")
    assert block.duration == pytest.approx(0.4, abs=0.2)
    assert [record.exc_info is not None for record in caplog.records if "on_block" in record.message] == [True]


def test_heart_beats_slowly_at_rest_until_woken() -> None:
    beats_at: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        is_resting = True
        with Watchdog(Run([]), lambda: beats_at.append(round(loop.time() - start, 6)), lambda: is_resting) as watchdog:
            await asyncio.sleep(HEARTBEAT + 2.5 * RESTING_HEARTBEAT)
            is_resting = False
            watchdog.wake()
            await asyncio.sleep(2.5 * HEARTBEAT)
            watchdog.wake()  # changes nothing

    start = 0.0
    run_jumping(main)
    rest, woken = HEARTBEAT + RESTING_HEARTBEAT, HEARTBEAT + 2.5 * RESTING_HEARTBEAT
    expected = [HEARTBEAT, rest, rest + RESTING_HEARTBEAT, woken, woken + HEARTBEAT, woken + 2 * HEARTBEAT]
    assert [at - beats_at[0] for at in beats_at] == pytest.approx([at - HEARTBEAT for at in expected])


@pytest.mark.parametrize("interval", [HEARTBEAT, PLAIN_HEARTBEAT])
def test_pulse_is_looked_at_once_a_beat_and_as_soon_as_it_can_be_late(interval: float) -> None:
    pulse, now = Pulse(0.0, Spent()), HEARTBEAT
    looks = 0
    while now < 10:
        while (beat_at := pulse.due + 0.001) <= now:
            assert pulse.beat(beat_at, Spent(), 0.0, interval) == []
        now += pulse.look(now, None, pulse.due, 0.0)
        looks += 1
        assert not pulse.is_late(now - 1e-9)
    assert looks <= 10 / interval + 1


def test_pulse_at_rest_is_looked_at_when_its_beat_can_be_late() -> None:
    pulse = Pulse(0.0, Spent())
    assert pulse.beat(0.025, Spent(), 0.0, RESTING_HEARTBEAT) == []
    assert pulse.look(0.05, None, pulse.due, 0.0) == pytest.approx(RESTING_HEARTBEAT)
    assert pulse.look(0.525, None, pulse.due, 0.0) == pytest.approx(HEARTBEAT)
    pulse.look(0.55, Sample(A, MINE), pulse.due, 0.0)
    (block,) = pulse.beat(0.725, Spent(thread=0.2), 0.0)
    assert block.blame == Blame("worker", A, MINE)
    assert block.seconds == pytest.approx(0.2 + HEARTBEAT / 2)


async def test_engine_rests_once_all_workers_have_settled_and_wakes_for_a_restart() -> None:
    calls: list[int] = []

    async def block_at_last() -> None:
        calls.append(1)
        if len(calls) > 1:
            time.sleep(0.2)  # noqa: ASYNC251  the block

    engine = engine_of(worker("a", block_at_last), stays_open=True)

    def stop_after_the_block(event: Event) -> None:
        if isinstance(event, LoopBlocked):
            engine.send(StopRun())

    watching = asyncio.ensure_future(watch(engine, stop_after_the_block))
    await until(lambda: engine._watchdog and engine._watchdog._is_resting)
    engine.send(RestartWorker("a", 1))
    events = await watching
    (block,) = [event for event in events if isinstance(event, LoopBlocked)]
    assert (block.worker, block.incarnation) == ("a", 2)
    assert block.duration > 0.15


@pytest.mark.parametrize(("cause", "level"), [("machine", "INFO"), ("worker", "WARNING"), ("many", "DEBUG")])
async def test_block_is_logged_at_a_level_for_its_cause(
    cause: str, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    reporter = Reporter()
    reporter.run_started("run", 0, "gather", 7, 1, None, 0.0, {})
    now = time.monotonic()
    reporter.loop_blocked(Block(now - 0.5, now, Blame(cause)))
    (record,) = (record for record in caplog.records if record.name == "asyncwatch.supervisor")
    assert (record.levelname, "0.50 s" in record.getMessage()) == (level, True)
