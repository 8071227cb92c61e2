"""Events as JSON lines are what the README shows, and read back equal."""

from __future__ import annotations

import re
from pathlib import Path

from asyncwatch.events import AttemptStarted, PollFailed, decode, encode

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_line_in_the_readme() -> None:
    """The README shows the very bytes of an event; fields at their default are left out."""
    event = AttemptStarted(7, 0.0123, "3", 1, 1, 0.4217)
    (line,) = re.findall(r'^    (\{"event":"AttemptStarted".*\})$', README, re.MULTILINE)
    assert encode(event) == line.encode()
    assert decode(line) == event


def test_a_failed_poll_is_a_line_of_its_own() -> None:
    """It says what went wrong, when the next poll follows, and how many have failed in a row; the README shows one."""
    event = PollFailed(412, 95.5, "prices", 1, "OSError", "gone", 0.25, 30.0, 3)
    (line,) = re.findall(r'^( *\{"event":"PollFailed".*\})$', README, re.MULTILINE)
    assert encode(event) == line.strip().encode()
    assert decode(line) == event


def test_added_latency_is_told() -> None:
    """An attempt that bad luck delays says by how much."""
    event = AttemptStarted(7, 0.0123, "3", 1, 1, 0.4217, 0.5)
    assert b'"latency":0.5' in encode(event)
    assert decode(encode(event)) == event
