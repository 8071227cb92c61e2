"""A run without a dashboard, with a fake controller, fake streams and a clock that moves when told to."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import re
import signal
from collections.abc import Sequence
from typing import Any

import pytest

from asyncwatch import headless
from asyncwatch.commands import Command, Statistics, StopRun
from asyncwatch.events import (
    AttemptStarted,
    Batch,
    Event,
    LogRecorded,
    LoopBlocked,
    RestartScheduled,
    RunCancelRequested,
    RunFinished,
    RunStarted,
    RunTimedOut,
    SupervisorStarted,
    WorkerReady,
    WorkerRestarted,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
    WorkerUnresponsive,
    decode,
)
from asyncwatch.headless import Follower, StdoutError, run_headless
from asyncwatch.model.fleet import Fleet
from asyncwatch.narration import Narrator, is_warning, log_lines, progress_line
from tests.ui.fakes import FakeController as StoryTeller
from tests.ui.trees import tree_run

ERASE = "\r\x1b[K"
HEAD: list[Event] = [
    RunStarted(
        seq=0, at=0.0, run="demo", workers=1, runner="wait", seed=7, concurrency=1, timeout=None, started_at=0.0
    ),
    WorkersQueued(seq=1, at=0.0, group="", max_attempts=3, workers=("a",)),
    AttemptStarted(seq=2, at=0.1, worker="a", incarnation=1, attempt=1, bad_luck=0.5),
]
READY = WorkerReady(seq=3, at=0.2, worker="a", incarnation=1, value=None)
TAIL: list[Event] = [
    WorkerSucceeded(seq=4, at=0.5, worker="a", incarnation=1, attempts=1, elapsed=0.4, result=200),
    RunFinished(seq=5, at=0.5, states={"succeeded": 1}, attempts=1, elapsed=0.5, interrupted=False),
]
SUMMARY = "demo (wait, seed 7): 1 succeeded; 1 attempt in 500 ms\n\nslowest\n  400 ms  a  succeeded\n"


def log(message: str, level: str = "WARNING", worker: str | None = "a") -> LogRecorded:
    """Return a log record between HEAD and TAIL."""
    return LogRecorded(seq=3, at=0.2, worker=worker, level=level, logger="x", message=message)


class Clock:
    """A clock that stands still unless it is moved."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


class Script(asyncio.Queue[Batch]):
    """A queue that gives its steps one by one: a batch, or a number of seconds in which nothing comes."""

    def __init__(self, steps: Sequence[Batch | float], clock: Clock) -> None:
        super().__init__()
        self.steps = list(steps)
        self.clock = clock

    async def get(self) -> Batch:
        """Return the next batch, time out after the seconds, or wait for what is put."""
        if not self.steps:
            return await super().get()
        step = self.steps.pop(0)
        if isinstance(step, (int, float)):
            self.clock.now += step
            raise TimeoutError
        return step


class FakeController:
    """Plays a script of batches, and ends the run when it is told to stop."""

    def __init__(self, *steps: Batch | float, obeys: bool = True) -> None:
        self.clock = Clock()
        self.sent: list[Command] = []
        self.queue = Script(steps, self.clock)
        self.obeys = obeys
        self.known = Statistics()

    def send(self, *commands: Command) -> None:
        """Note the commands; a stop is followed by the end of the run."""
        self.sent += commands
        if self.obeys:
            finished = RunFinished(seq=99, at=1.0, states={}, attempts=0, elapsed=1.0, interrupted=True)
            self.queue.put_nowait([finished])

    def events(self) -> asyncio.Queue[Batch]:
        """Return the script."""
        return self.queue

    def statistics(self) -> Statistics:
        """Return what a test has put there."""
        return self.known


class Pipe(io.BytesIO):
    """A stdout that fails with `error` once it has taken `room` writes."""

    def __init__(self, room: int = 1_000, error: OSError | None = None) -> None:
        super().__init__()
        self.room = room
        self.error = error or BrokenPipeError()
        self.flushes = 0

    def write(self, data: Any, /) -> int:
        """Take the data, or fail."""
        self.room -= 1
        if self.room < 0:
            raise self.error
        return super().write(data)

    def flush(self) -> None:
        """Count the flushes."""
        self.flushes += 1


class Terminal(io.StringIO):
    """A stderr that is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


@pytest.fixture(autouse=True)
def _capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that a terminal counts as one wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm")


async def run(controller: FakeController, **options: Any) -> tuple[bytes, str]:
    """Run to the end and return what was written to stdout and stderr."""
    stdout, stderr = io.BytesIO(), options.pop("stderr", io.StringIO())
    options = {"json": False, "stdout": stdout, "stderr": stderr, "clock": controller.clock} | options
    with contextlib.suppress(StdoutError):
        await run_headless(controller, **options)
    return stdout.getvalue(), stderr.getvalue()


async def test_json_lines_are_the_events_and_nothing_else() -> None:
    """Stdout gets every event in order, as a line that reads back as the same event; the rest is on stderr."""
    out, err = await run(FakeController(HEAD, [log("look")], TAIL), json=True)
    assert [decode(line) for line in out.splitlines()] == [*HEAD, log("look"), *TAIL]
    assert out.endswith(b"\n")
    assert "WARNING [a] look" in err
    assert err.endswith(SUMMARY)


async def test_json_is_flushed_once_a_batch() -> None:
    """A reader of the pipe gets each batch at once, in one piece."""
    stdout = Pipe()
    await run(FakeController(HEAD, [log("x")], TAIL), json=True, stdout=stdout)
    assert (stdout.flushes, 1_000 - stdout.room) == (3, 3)


async def test_text_that_utf8_cannot_hold_does_not_end_the_run() -> None:
    """A lone surrogate in a message is written as its escape."""
    out, _ = await run(FakeController(HEAD, [log("bad \udcff name")], TAIL), json=True)
    assert json.loads(out.splitlines()[3])["message"] == r"bad \udcff name"


async def test_a_block_that_goes_on_is_told_once() -> None:
    """Nothing comes while the event loop is blocked; stderr says who does it, once a block, and stdout nothing."""
    controller = FakeController(HEAD, 1.0, 1.0, [log("again", level="INFO")], 1.0, TAIL)
    controller.known = Statistics(blocked=LoopBlocked(-1, 9.0, 7.0, 2.0, "worker", "a", 1, 1, "/srv/jobs.py", 3, "f"))
    out, err = await run(controller, json=True)
    assert err.count("a blocked the event loop for 2.00 s at jobs.py:3 f, and still does") == 2
    assert len(out.splitlines()) == len(HEAD) + 1 + len(TAIL)


async def test_the_programs_own_records_are_told() -> None:
    """All that the config lets through is said on stderr, printed lines too, unless it stands on stdout already."""
    script = HEAD, [log("look", "INFO")], TAIL
    assert "00:00.2 INFO [a] look\n" in (await run(FakeController(*script)))[1]
    assert "look" not in (await run(FakeController(*script), json=True))[1]


async def test_summary_goes_to_stdout_without_json() -> None:
    """Without JSON the summary is the data, and the progress is narration."""
    out, err = await run(FakeController(HEAD, TAIL))
    assert out.decode() == SUMMARY
    assert err == "00:00.5  1/1  1 succeeded\n"


async def test_returns_the_fleet_and_shows_every_batch_first() -> None:
    """The listener sees each batch, and the Fleet is that of all events."""
    controller, batches = FakeController(HEAD, TAIL), list[Batch]()
    fleet = await run_headless(
        controller,
        json=False,
        stdout=io.BytesIO(),
        stderr=io.StringIO(),
        on_batch=batches.append,
        clock=controller.clock,
    )
    assert batches == [HEAD, TAIL]
    assert fleet.counts[WorkerState.SUCCEEDED] == 1
    assert fleet.finished == TAIL[-1]
    assert controller.sent == []


async def test_what_happens_to_the_output_is_told_at_once() -> None:
    """What the one who gets the batches has to say stands on stderr, before the run has ended."""
    news = iter(["the disk is full", None])
    _, err = await run(FakeController(HEAD, TAIL), on_batch=lambda _batch: next(news))
    assert err.startswith("asyncwatch: the disk is full\n")
    assert err.count("asyncwatch:") == 1


async def test_progress_lines_come_once_a_second() -> None:
    """A stderr that is no terminal gets a line when something changed and a second has passed, and the last."""
    _, err = await run(FakeController(0.9, HEAD, 0.2, [log("", "INFO")], 5.0, TAIL))
    assert err.splitlines() == [
        "00:00.1  0/1  1 running  0 attempts/s",
        "00:00.2 INFO [a] ",
        "00:00.2  0/1  1 running  0 attempts/s",
        "00:00.5  1/1  1 succeeded",
    ]


async def test_nothing_is_shown_before_there_are_workers() -> None:
    """The first progress is that of a fleet, not of nothing."""
    _, err = await run(FakeController(5.0, HEAD[:1], 5.0, HEAD[1:], TAIL), stderr=Terminal())
    assert "0/0" not in err
    assert "0/1" in err


async def test_live_line_is_written_over() -> None:
    """A terminal gets one line that is written over ten times a second at most, with a clock that moves on."""
    _, err = await run(FakeController(HEAD, 0.06, [READY], 0.06, 1.0, TAIL), stderr=Terminal())
    assert err.split(ERASE) == [
        "",
        "00:00.1  0/1  1 running  0 attempts/s",
        "00:00.2  0/1  1 running  0 attempts/s",
        "00:01.2  0/1  1 running  0 attempts/s",
        "00:00.5  1/1  1 succeeded\n",
    ]


async def test_warnings_do_not_mix_with_the_live_line() -> None:
    """The live line is taken away before a message is written, and comes back below it when it is due."""
    _, err = await run(FakeController(HEAD, [log("look")], TAIL), stderr=Terminal())
    assert f"attempts/s{ERASE}00:00.2 WARNING [a] look\n{ERASE}00:00.5" in err


async def test_json_on_a_terminal_does_not_mix_with_the_live_line() -> None:
    """Where stdout and stderr are the same terminal, the live line goes before data comes."""

    class Screen(io.BytesIO):
        def isatty(self) -> bool:
            return True

    _, err = await run(FakeController(HEAD, TAIL), json=True, stdout=Screen(), stderr=Terminal())
    assert f"attempts/s{ERASE}{ERASE}00:00.5  1/1  1 succeeded\n" in err


async def test_live_line_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is cut at the width, because one that wraps cannot be written over."""
    monkeypatch.setattr(Terminal, "fileno", lambda self: 2, raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((12, 5)))
    _, err = await run(FakeController(HEAD, TAIL), stderr=Terminal())
    assert max(len(line) for line in err.split(ERASE)) == 12
    assert f"{ERASE}00:00.1  0/{ERASE}" in err


async def test_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that knows no escape sequence gets none."""
    monkeypatch.setenv("TERM", "dumb")
    _, err = await run(FakeController(HEAD, TAIL), stderr=Terminal())
    assert "\x1b" not in err


async def test_reader_that_leaves_stops_the_run() -> None:
    """When nobody reads stdout any more the run is stopped, its end awaited, and nothing complains."""
    controller = FakeController(HEAD, [log("x")])
    _, err = await run(controller, json=True, stdout=Pipe(room=1))
    assert controller.sent == [StopRun()]
    assert err == "00:01.0  0/1  1 running\n"


@pytest.mark.parametrize(("error", "is_reader_gone"), [(errno.EPIPE, True), (errno.ENOSPC, False)])
@pytest.mark.parametrize("json", [True, False])
async def test_a_lost_stdout_is_told_to_the_caller(error: int, json: bool, is_reader_gone: bool) -> None:
    """Who waits for the run learns that stdout is not whole, and whether that is a fault."""
    controller = FakeController(HEAD, TAIL)
    stdout = Pipe(room=0, error=OSError(error, "why"))
    with pytest.raises(StdoutError, match="cannot write to stdout: why") as caught:
        await run_headless(controller, json=json, stdout=stdout, stderr=io.StringIO(), clock=controller.clock)
    assert caught.value.is_reader_gone is is_reader_gone


async def test_stdout_that_fails_is_told_and_stops_the_run() -> None:
    """A disk that is full under stdout is an error that one is told, once."""
    controller = FakeController(HEAD, [log("x", "INFO")])
    stdout = Pipe(room=0, error=OSError(errno.ENOSPC, "No space left on device"))
    _, err = await run(controller, json=True, stdout=stdout)
    assert controller.sent == [StopRun()]
    assert err.count("asyncwatch: cannot write to stdout: No space left on device\n") == 1


async def test_broken_pipe_leaves_nothing_for_the_interpreter_to_flush() -> None:
    """What a real, buffered stdout still holds does not raise again when it is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    stdout = os.fdopen(writer, "wb")
    await run(FakeController(HEAD), json=True, stdout=stdout)
    stdout.close()


async def test_stderr_that_fails_does_not_matter() -> None:
    """Narration that cannot be written is left out; the run and its data go on."""

    class Closed(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    out, _ = await run(FakeController(HEAD, [log("x")], TAIL), stderr=Closed())
    assert out.decode() == SUMMARY


async def test_first_signal_stops_the_run_and_waits() -> None:
    """A signal asks for a stop; the events go on up to the last one."""
    controller = FakeController(HEAD)
    task = asyncio.create_task(run(controller, stop_signals=[signal.SIGUSR1]))
    await asyncio.sleep(0)
    signal.raise_signal(signal.SIGUSR1)
    out, err = await task
    assert controller.sent == [StopRun()]
    assert "stopping" in err
    assert b"interrupted" in out


async def test_second_signal_ends_the_run_at_once() -> None:
    """It gives nobody more time; the progress says how many are still to end, and the summary that it was so."""
    controller = FakeController(HEAD, obeys=False)
    stdout, stderr = io.BytesIO(), io.StringIO()
    follower = Follower(controller, json=False, stdout=stdout, stderr=stderr, clock=controller.clock)
    task = asyncio.create_task(follower.follow())
    await asyncio.sleep(0)
    follower.interrupt()
    controller.clock.now += 1.5
    controller.queue.put_nowait([])
    await asyncio.sleep(0)
    follower.interrupt()
    hurried = RunCancelRequested(3, 0.3, "at once")
    behind = WorkerUnresponsive(4, 0.3, "a", 1, 1, 0.2, "nap.py:3 in nap", 2)
    controller.queue.put_nowait([hurried, behind, RunFinished(5, 0.3, {"unresponsive": 1}, 1, 0.3, interrupted=True)])
    await task
    assert controller.sent == [StopRun(), StopRun(at_once=True)]
    assert "stopping: 1 of 1 have not ended  1 running" in stderr.getvalue()
    assert "interrupted twice: 1 unresponsive;" in stdout.getvalue().decode()
    assert "1 left behind: the end was not waited for" in stdout.getvalue().decode()


async def test_third_signal_ends_the_wait_at_once() -> None:
    """When the run does not end, a third signal leaves it; the Fleet says that it has not finished."""
    controller = FakeController(HEAD, obeys=False)
    stderr = io.StringIO()
    follower = Follower(controller, json=False, stdout=io.BytesIO(), stderr=stderr, clock=controller.clock)
    task = asyncio.create_task(follower.follow())
    await asyncio.sleep(0)
    controller.clock.now += 7.05
    for _ in range(3):
        follower.interrupt()
    fleet = await task
    assert fleet.finished is None
    assert re.search(r"00:07\.1 .*1 running", stderr.getvalue())
    assert fleet.end == pytest.approx(7.15)
    assert fleet.counts[WorkerState.RUNNING] == 1
    assert controller.sent == [StopRun(), StopRun(at_once=True)]


def flood() -> Batch:
    """Return more events between HEAD and TAIL than a pipe holds, and the last one."""
    logs = [LogRecorded(3 + number, 0.2, "a", "DEBUG", "x", "y" * 1_000) for number in range(300)]
    return [*logs, RunFinished(303, 0.5, {}, 1, 0.5, interrupted=False)]


@pytest.mark.parametrize("blocks", [True, False])
async def test_a_slow_reader_gets_every_line(blocks: bool) -> None:
    """Whether a full pipe blocks or takes no more, each event comes out of it whole and in order."""
    reader, writer = os.pipe()
    os.set_blocking(writer, blocks)
    with os.fdopen(reader, "rb") as pipe:
        reading = asyncio.create_task(asyncio.to_thread(pipe.read))
        with os.fdopen(writer, "wb", buffering=0) as stdout:
            await run(FakeController(HEAD, flood()), json=True, stdout=stdout)
        assert [decode(line) for line in (await reading).splitlines()] == [*HEAD, *flood()]


async def test_a_reader_that_stopped_holds_up_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads, so that the pipe is full: from the second signal on nothing waits for it."""
    monkeypatch.setattr(headless, "_LAST_WORDS", 0.0)
    reader, writer = os.pipe()
    stdout = os.fdopen(writer, "wb", buffering=0)
    controller = FakeController(HEAD, flood(), obeys=False)
    follower = Follower(controller, json=True, stdout=stdout, stderr=io.StringIO(), clock=controller.clock)
    following = asyncio.create_task(follower.follow())
    while controller.queue.steps:  # noqa: ASYNC110 - a script that is told has no event to wait for
        await asyncio.sleep(0)
    follower.interrupt()
    follower.interrupt()
    try:
        async with asyncio.timeout(30):
            await following
    finally:
        os.close(reader)  # frees the thread that writes
    # Its turn comes when that thread has given up what it was at; nobody uses the pipe after it.
    await follower._writer.write(b"")
    stdout.close()
    assert controller.sent == [StopRun(), StopRun(at_once=True)]


async def test_signal_handlers_are_taken_away() -> None:
    """After the run the signals mean what they meant before."""
    await run(FakeController(HEAD, TAIL), stop_signals=[signal.SIGUSR1])
    assert not asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)


async def test_total_timeout_is_told() -> None:
    """The end of the total timeout is said on stderr, with what it left pending."""
    timed_out = RunTimedOut(seq=3, at=0.2, timeout=10.0, pending=1)
    _, err = await run(FakeController(HEAD, [timed_out], TAIL))
    assert "timed out after 10 s with 1 worker pending\n" in err


@pytest.mark.parametrize(
    ("level", "expected"),
    [("DEBUG", False), ("INFO", False), ("Level 25", False), ("WARNING", True), ("CRITICAL", True), ("Level 35", True)],
)
def test_a_warning_is_known_by_the_number_of_its_level(level: str, expected: bool) -> None:
    """Levels without a name of their own count as well."""
    assert is_warning(log("x", level)) is expected


def test_messages_send_no_escapes() -> None:
    """A worker's text cannot move the cursor or pose as another line."""
    text = log_lines(log("a\x1b[2J\nb\rc", worker="w\x07"))
    assert text == "00:00.2 WARNING [w\\x07] a\\x1b[2J\n    b\n    c"


def test_a_record_of_no_worker_names_none() -> None:
    """A record made outside any worker has no name in front, and an empty one is still a line."""
    assert log_lines(log("", worker=None)) == "00:00.2 WARNING "


def test_narrator_without_a_line_has_nothing_to_clear() -> None:
    """Messages before the first progress do not erase what is on the screen."""
    stream = Terminal()
    Narrator(stream, clock=Clock()).say("hello")
    assert stream.getvalue() == "hello\n"


def told(story: StoryTeller) -> Fleet:
    """Return what the events of a story come to."""
    fleet = Fleet()
    for batch in story.early:
        fleet.apply_batch(batch)
    return fleet


def test_progress_of_services_is_how_many_are_up() -> None:
    """Workers that run for ever never come to an end: it says who is up, what the others do, and the restarts."""
    story = StoryTeller()
    tree_run(story)
    line = progress_line(told(story), 10.0)
    assert line.startswith("00:10.0  7/10 up, 1 backing off, 1 restarting, 1 waiting")
    assert "  1 restart  " in line
    assert "/10  " not in line


SERVICES: list[Event] = [
    RunStarted(
        seq=0, at=0.0, run="shop", workers=2, runner="serve", seed=7, concurrency=1, timeout=None, started_at=0.0
    ),
    SupervisorStarted(1, 0.0, "root", "", "one_for_one", 1, 5.0, "never"),
    WorkersQueued(seq=2, at=0.0, group="root", max_attempts=1, workers=("a",)),
    AttemptStarted(seq=3, at=0.0, worker="a", incarnation=1, attempt=1, bad_luck=0.5),
]
UP: list[Event] = [
    WorkerReady(seq=4, at=3.0, worker="a", incarnation=1, value=None),
    WorkersQueued(seq=5, at=3.0, group="root", max_attempts=1, workers=("b",)),
    AttemptStarted(seq=6, at=3.0, worker="b", incarnation=1, attempt=1, bad_luck=0.5),
    WorkerReady(seq=7, at=3.0, worker="b", incarnation=1, value=None),
]


async def test_progress_of_services_is_calm() -> None:
    """A log gets a line of what changed, not before ten seconds passed, and a sign of life in five minutes."""
    seconds = [1.0] * 1_000
    restart = [RestartScheduled(8, 500.0, "b", 1, 0.0, "OSError"), WorkerRestarted(9, 500.0, "b", 2)]
    end = RunFinished(seq=10, at=600.0, states={"cancelled": 2}, attempts=2, elapsed=600.0, interrupted=True)
    script = FakeController(SERVICES, *seconds[:2], UP, *seconds[:496], restart, *seconds[:90], [end])
    _, err = await run(script)
    assert [line.partition("  attempts")[0].rstrip() for line in err.splitlines()] == [
        "00:01.0  1/2 up  waiting for a to be ready  0 restarts  0 attempts/s",
        "00:11.0  2/2 up  0 restarts  0 attempts/s",
        "05:11.0  2/2 up  0 restarts  0 attempts/s",
        "08:20.0  1/2 up, 1 queued  1 restart  0 attempts/s",
        "10:00.0  0/2  1 queued, 1 running",
    ]


def test_a_tree_that_was_stopped_while_it_started_waits_for_nobody() -> None:
    """Those that were not started then never will be."""
    fleet = Fleet()
    fleet.apply_batch([*SERVICES, RunCancelRequested(seq=4, at=1.0, reason="person")])
    assert progress_line(fleet, 2.0).startswith("00:02.0  1/1 up  0 restarts")


def test_progress_of_a_mixed_run_tells_both() -> None:
    """A batch beside services counts its own workers only; at the end all count."""
    story = StoryTeller()
    tree_run(story)
    story.tell(WorkersQueued, 10.0, group="batch", max_attempts=1, workers=("x", "y"))
    story.attempt("x", 10.0)
    story.succeed("x", 10.2)
    assert "7/10 up" in progress_line(told(story), 10.2)
    assert "  1/2  1 queued, 1 succeeded  " in progress_line(told(story), 10.2)
    story.finish(10.3)
    assert "  1/12  " in progress_line(told(story), 10.3)
