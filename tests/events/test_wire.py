"""Events as lines of JSON, what readers of `--json` get, and as MessagePack, what clients get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from asyncwatch.events import AttemptStarted, Event, LogRecorded, WorkerSucceeded, decode, encode
from asyncwatch.events.wire import event_types, pack_batch, unpack_batch

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


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just("\udcff")),
        lambda values: st.one_of(
            st.lists(values), st.dictionaries(st.one_of(st.text(), st.just("\udcff"), st.integers()), values)
        ),
    )
)
def test_any_result_is_packed(result: Any) -> None:
    event = WorkerSucceeded(4, 0.5, "a", 1, 1, 0.4, result)
    (unpacked,) = unpack_batch(pack_batch((event,)))
    assert isinstance(unpacked, WorkerSucceeded)
    assert unpacked.worker == "a"


def test_large_number_is_packed_as_a_text() -> None:
    large = 1 << 20_000
    texts = {2**64 - 1: 2**64 - 1, 10**30: str(10**30), -(2**63) - 1: str(-(2**63) - 1), large: hex(large)}
    for number, packed in texts.items():
        event = WorkerSucceeded(4, 0.5, "a", 1, 1, 0.4, [number, {"n": number}])
        (unpacked,) = unpack_batch(pack_batch((event,)))
        assert isinstance(unpacked, WorkerSucceeded)
        assert unpacked.result == [packed, {"n": packed}]


def test_line_that_is_no_event_is_a_decode_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode('{"event":"Nothing","seq":0,"at":0.0}')
