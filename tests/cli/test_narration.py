"""Messages and progress of a headless run on stderr."""

from __future__ import annotations

import io
import logging
import os
from typing import Any

import pytest

from asyncwatch.cli.progress import Narrator, log_lines
from asyncwatch.commands import Problem, Statistics
from asyncwatch.events import LoopBlocked, RunTimedOut
from asyncwatch.model.view.log_filter import level_number
from tests.cli.script import HEAD, READY, SUMMARY, TAIL, Clock, FakeController, Terminal, log, run

ERASE = "\r\x1b[K"


async def test_block_that_goes_on_is_reported_once() -> None:
    controller = FakeController(HEAD, 1.0, 1.0, [log("again", level="INFO")], 1.0, TAIL)
    controller.known = Statistics(blocked=LoopBlocked(-1, 9.0, 7.0, 2.0, "worker", "a", 1, 1, "/srv/jobs.py", 3, "f"))
    out, err = await run(controller, json=True)
    assert err.count("a blocked the event loop for 2.00 s at jobs.py:3 f, and still does") == 2
    assert len(out.splitlines()) == len(HEAD) + 1 + len(TAIL)


async def test_log_record_without_json_is_shown_whatever_its_level() -> None:
    script = HEAD, [log("look", "INFO")], TAIL
    assert "00:00.2 INFO [a] look\n" in (await run(FakeController(*script)))[1]
    assert "look" not in (await run(FakeController(*script), json=True))[1]


async def test_message_about_the_output_file_is_shown_at_once() -> None:
    news = iter(["the disk is full", None])
    _, err = await run(FakeController(HEAD, TAIL), on_batch=lambda _batch: next(news))
    assert err.startswith("asyncwatch: the disk is full\n")
    assert err.count("asyncwatch:") == 1


async def test_problem_of_a_run_in_another_process_is_shown() -> None:
    steps: list[Any] = [HEAD, Problem("the disk\n is full"), TAIL]
    out, err = await run(FakeController(*steps))
    assert "asyncwatch: the disk\\n is full\n" in err
    assert out == SUMMARY.encode()


async def test_progress_in_a_log_is_a_line_a_second() -> None:
    _, err = await run(FakeController(0.9, HEAD, 0.2, [log("", "INFO")], 5.0, TAIL))
    assert err.splitlines() == [
        "00:00.1  0/1  1 running  0 attempts/s",
        "00:00.2 INFO [a] ",
        "00:00.2  0/1  1 running  0 attempts/s",
        "00:00.5  1/1  1 succeeded",
    ]


async def test_progress_without_workers_is_not_shown() -> None:
    _, err = await run(FakeController(5.0, HEAD[:1], 5.0, HEAD[1:], TAIL), stderr=Terminal())
    assert "0/0" not in err
    assert "0/1" in err


async def test_live_line_is_redrawn_ten_times_a_second() -> None:
    _, err = await run(FakeController(HEAD, 0.06, [READY], 0.06, 1.0, TAIL), stderr=Terminal())
    assert err.split(ERASE) == [
        "",
        "00:00.1  0/1  1 running  0 attempts/s",
        "00:00.2  0/1  1 running  0 attempts/s",
        "00:01.2  0/1  1 running  0 attempts/s",
        "00:00.5  1/1  1 succeeded\n",
    ]


async def test_warning_erases_the_live_line_first() -> None:
    _, err = await run(FakeController(HEAD, [log("look")], TAIL), stderr=Terminal())
    assert f"attempts/s{ERASE}00:00.2 WARNING [a] look\n{ERASE}00:00.5" in err


async def test_json_on_the_same_terminal_erases_the_live_line_first() -> None:

    class Screen(io.BytesIO):
        def isatty(self) -> bool:
            return True

    _, err = await run(FakeController(HEAD, TAIL), json=True, stdout=Screen(), stderr=Terminal())
    assert f"attempts/s{ERASE}{ERASE}00:00.5  1/1  1 succeeded\n" in err


async def test_live_line_is_cut_at_the_width_of_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Terminal, "fileno", lambda self: 2, raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda fd: os.terminal_size((12, 5)))
    _, err = await run(FakeController(HEAD, TAIL), stderr=Terminal())
    assert max(len(line) for line in err.split(ERASE)) == 12
    assert f"{ERASE}00:00.1  0/{ERASE}" in err


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
async def test_dumb_terminal_gets_no_escape_sequence(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("TERM", kind)
    _, err = await run(FakeController(HEAD, TAIL), stderr=Terminal())
    assert "\x1b" not in err


async def test_stderr_that_fails_leaves_the_data_whole() -> None:

    class Closed(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    out, _ = await run(FakeController(HEAD, [log("x")], TAIL), stderr=Closed())
    assert out.decode() == SUMMARY


async def test_messages_of_a_batch_are_written_at_once() -> None:
    """Thousands of workers can fail in a second, and each write is a system call."""

    class Counted(io.StringIO):
        writes = 0

        def write(self, text: str, /) -> int:
            self.writes += 1
            return super().write(text)

    stderr = Counted()
    timed_out = RunTimedOut(seq=3, at=0.2, timeout=10.0, pending=1)
    await run(FakeController([*HEAD, log("one"), log("two", "INFO")], [log("three"), timed_out], TAIL), stderr=stderr)
    lines = [line.rpartition(" ")[2] for line in stderr.getvalue().splitlines()]
    assert lines == ["one", "two", "three", "pending.", "succeeded"]
    assert stderr.writes == 3


async def test_total_timeout_is_reported() -> None:
    timed_out = RunTimedOut(seq=3, at=0.2, timeout=10.0, pending=1)
    _, err = await run(FakeController(HEAD, [timed_out], TAIL))
    assert "asyncwatch: The run timed out after 10 s with 1 worker pending.\n" in err


@pytest.mark.parametrize(
    ("level", "expected"),
    [("DEBUG", False), ("INFO", False), ("Level 25", False), ("WARNING", True), ("CRITICAL", True), ("Level 35", True)],
)
def test_level_is_compared_by_its_number(level: str, expected: bool) -> None:
    assert (level_number(log("x", level)) >= logging.WARNING) is expected


def test_log_lines_escape_control_characters() -> None:
    text = log_lines(log("a\x1b[2J\nb\rc", worker="w\x07"))
    assert text == "00:00.2 WARNING [w\\x07] a\\x1b[2J\n    b\n    c"


def test_log_lines_without_a_worker_name_none() -> None:
    assert log_lines(log("", worker=None)) == "00:00.2 WARNING "


def test_message_before_the_first_progress_erases_nothing() -> None:
    stream = Terminal()
    Narrator(stream, clock=Clock()).say("hello")
    assert stream.getvalue() == "hello\n"
