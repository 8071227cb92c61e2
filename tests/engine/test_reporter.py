"""The inlined report of a success is equal to the general one."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.engine.describe import jsonable_or_repr
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.worker import Worker
from asyncwatch.events import Event, LogRecorded, WorkerSucceeded
from tests.engine.fleets import sleeper, worker

MICROSECONDS_A_YEAR = 365 * 24 * 3600 * 10**6
BOUNDS = [sign * (bound + off) for bound in (0, 2**30, 2**63, 2**64) for off in (-1, 0, 1) for sign in (-1, 1)]
RESULTS = [
    None,
    True,
    False,
    *BOUNDS,
    0.1,
    -0.0,
    float("nan"),
    float("inf"),
    "text",
    "\ud800",
    b"bytes",
    {"a": [1, {"b": (None, float("nan"))}], 2: "\udfff"},
    "https://user:secret@host/",
    object,
]


def reports_of_success(result: object, started_at: float, ended_at: float) -> tuple[bytes, bytes]:
    """Return the events of the inlined report and of the general one, encoded."""
    ended = Worker("w", (), worker("w", sleeper), incarnation=2, attempt=3, first_started_at=started_at)
    encoded: list[bytes] = []

    def emit(event: Event) -> None:
        encoded.append(msgspec.json.encode(event))

    for is_inlined in (True, False):
        reporter: Any = Reporter()
        reporter._emit = emit
        reporter._clock = lambda: ended_at
        if is_inlined:
            returned = reporter.succeeded(ended, result)
        else:
            shown, is_repr = jsonable_or_repr(result)
            returned = reporter._ended(WorkerSucceeded, ended, shown, is_repr or msgspec.UNSET)
        assert msgspec.json.encode(returned) == encoded[-1]
    inlined, general = encoded
    return inlined, general


@pytest.mark.parametrize("result", RESULTS, ids=repr)
def test_success_of_any_result_is_reported_like_every_end(result: object) -> None:
    inlined, general = reports_of_success(result, 1.0, 2.5)
    assert inlined == general


@given(st.integers(0, MICROSECONDS_A_YEAR), st.floats(0.0, MICROSECONDS_A_YEAR / 1e6))
def test_success_at_any_time_is_reported_like_every_end(started_at: int, elapsed: float) -> None:
    inlined, general = reports_of_success(None, started_at / 1e6, started_at / 1e6 + elapsed)
    assert inlined == general


def test_log_record_is_reported_without_credentials_in_its_logger_and_message() -> None:
    reporter: Any = Reporter()
    emitted: list[LogRecorded] = []
    reporter.outbox.emit_text = lambda event, _characters: emitted.append(event)
    reporter.log_recorded(None, "INFO", "pool.https://us:hush@host", 'got http://us:hu"sh@host/')
    (event,) = emitted
    assert (event.logger, event.message) == ("pool.https://***@host", "got http://***@host/")
