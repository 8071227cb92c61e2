"""Events as lines of JSON, and back."""

from __future__ import annotations

import functools
from typing import Any

import msgspec

from asyncwatch.events.base import Event
from asyncwatch.events.run import (
    CircuitClosed,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    CircuitProbed,
    CommandRefused,
    LineHeld,
    LogRecorded,
    LoopBlocked,
    NestedRetriesFound,
    RunCancelRequested,
    RunFinished,
    RunHalted,
    RunStarted,
    RunTimedOut,
    SettingChanged,
    WorkersQueued,
)
from asyncwatch.events.tree import (
    ChildRemoved,
    RestartCounted,
    RestartLimitReached,
    RestartScheduled,
    SupervisorStarted,
    SupervisorTerminated,
    WorkerReady,
)
from asyncwatch.events.workers import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    CancelRequested,
    PollFailed,
    PollFinished,
    RetryRefused,
    RetryScheduled,
    WorkerCancelled,
    WorkerExhausted,
    WorkerFailed,
    WorkerRestarted,
    WorkerSucceeded,
    WorkerTimedOut,
    WorkerUnresponsive,
)

AnyEvent = (
    RunStarted
    | WorkersQueued
    | RunTimedOut
    | RunCancelRequested
    | RunHalted
    | LineHeld
    | SettingChanged
    | NestedRetriesFound
    | RunFinished
    | LoopBlocked
    | CommandRefused
    | CircuitOpened
    | CircuitHalfOpened
    | CircuitProbed
    | CircuitClosed
    | CircuitIsolated
    | LogRecorded
    | AttemptStarted
    | AttemptFailed
    | AttemptHeld
    | RetryScheduled
    | RetryRefused
    | CancelRequested
    | WorkerRestarted
    | WorkerSucceeded
    | WorkerFailed
    | WorkerExhausted
    | WorkerCancelled
    | WorkerTimedOut
    | WorkerUnresponsive
    | SupervisorStarted
    | SupervisorTerminated
    | RestartCounted
    | RestartLimitReached
    | ChildRemoved
    | WorkerReady
    | RestartScheduled
    | PollFinished
    | PollFailed
)


_encoder = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    r"""Return `event` as one JSON object, without a line ending.

    Lone surrogates, which UTF-8 cannot hold, are written as the text of their escape, `\udcff`.
    """
    try:
        return _encoder.encode(event)
    except UnicodeEncodeError:
        return _encoder.encode(_without_surrogates(msgspec.to_builtins(event)))


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case list() | tuple():
            return [_without_surrogates(item) for item in value]
        case dict():
            return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
        case _:
            return value


def decode(line: bytes | str) -> AnyEvent:
    """Return the event that `encode` wrote.

    Raises:
        msgspec.DecodeError: the line is no event.

    """
    return _decoder().decode(line)


@functools.cache
def _decoder() -> msgspec.json.Decoder[AnyEvent]:
    # It takes 1.6 ms to look at all the types, and a dashboard never reads a line.
    return msgspec.json.Decoder(AnyEvent)
