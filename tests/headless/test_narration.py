"""What a run without a dashboard says on stderr: messages, and its progress."""

from __future__ import annotations

import io
import os

import pytest

from asyncwatch.cli.progress import Narrator, is_warning, log_lines
from asyncwatch.commands import Statistics
from asyncwatch.events import LoopBlocked, RunTimedOut
from tests.headless.script import HEAD, READY, SUMMARY, TAIL, Clock, FakeController, Terminal, log, run

ERASE = "\r\x1b[K"


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


async def test_stderr_that_fails_does_not_matter() -> None:
    """Narration that cannot be written is left out; the run and its data go on."""

    class Closed(io.StringIO):
        def write(self, text: str, /) -> int:
            raise BrokenPipeError

    out, _ = await run(FakeController(HEAD, [log("x")], TAIL), stderr=Closed())
    assert out.decode() == SUMMARY


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
