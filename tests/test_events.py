"""Events as JSON lines are what the README shows, and read back equal."""

from __future__ import annotations

import re
from pathlib import Path

from asyncwatch.events import AttemptStarted, decode, encode

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_line_in_the_readme() -> None:
    """The README shows the very bytes of an event; fields at their default are left out."""
    event = AttemptStarted(7, 0.0123, "3", 1, 1, 0.4217)
    (line,) = re.findall(r'^    (\{"event".*\})$', README, re.MULTILINE)
    assert encode(event) == line.encode()
    assert decode(line) == event


def test_added_latency_is_told() -> None:
    """An attempt that bad luck delays says by how much."""
    event = AttemptStarted(7, 0.0123, "3", 1, 1, 0.4217, 0.5)
    assert b'"latency":0.5' in encode(event)
    assert decode(encode(event)) == event
