"""Events as lines of JSON: what readers of `--json` get."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from asyncwatch.events import AttemptStarted, Event, LogRecorded, decode, encode
from asyncwatch.events.wire import event_types

RECORDED = (Path(__file__).parent / "recorded.jsonl").read_text().splitlines()


@pytest.mark.parametrize("line", RECORDED)
def test_recorded_line_decoded_and_encoded_is_the_same_bytes(line: str) -> None:
    assert encode(decode(line)) == line.encode()


def test_recorded_lines_are_of_every_event() -> None:
    assert {type(decode(line)) for line in RECORDED} == event_types()
    assert Event not in event_types()


def test_attempt_started_with_latency_shows_it() -> None:
    event = AttemptStarted(7, 0.0123, "3", 1, 1, 0.4217, 0.5)
    assert b'"latency":0.5' in encode(event)
    assert decode(encode(event)) == event


def test_lone_surrogate_is_written_as_its_escape() -> None:
    event = decode(encode(LogRecorded(0, 0.0, None, "INFO", "x", "a\udcff")))
    assert isinstance(event, LogRecorded)
    assert event.message == r"a\udcff"


def test_line_that_is_no_event_is_a_decode_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode('{"event":"Nothing","seq":0,"at":0.0}')
