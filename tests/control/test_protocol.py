"""Frames and messages: there and back, sizes, and bytes of any other kind."""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from asyncwatch import commands
from asyncwatch.commands import (
    CancelWorker,
    ChangeSetting,
    Command,
    RetryAllNow,
    SnapshotPart,
    Statistics,
    StopRun,
    WatchStack,
)
from asyncwatch.control import protocol
from asyncwatch.control.protocol import (
    COMMANDS_A_FRAME,
    LARGEST_FROM_CLIENT,
    FrameReader,
    Kind,
    Message,
    ProtocolError,
    command_frames,
    message_frame,
)
from asyncwatch.engine import port
from asyncwatch.engine.command_queue import FEW
from asyncwatch.events import LogRecorded
from tests.control.runs import ENDED

BATCH = (LogRecorded(0, 0.0, None, "INFO", "test", "one"), LogRecorded(1, 0.5, "a", "INFO", "test", "two"))
FROM_RUN: list[Any] = [
    protocol.Welcome("1.0", "r1", "demo", 7),
    protocol.Refused("full", "too many"),
    protocol.PlanMade("r1", ("note",), BATCH),
    protocol.PlanRefused(("bad",), 2),
    protocol.Figures(Statistics(events=3, skipped=2)),
    protocol.Problem("the disk is full"),
    protocol.Carried(4),
    protocol.RunInfo(True, 3, 1, {"running": 2}, 1.5, 1, False, False),
    protocol.Detached(),
    ENDED,
    BATCH,
    (),
    SnapshotPart(b"data", True, False),
    SnapshotPart(b"", False, True),
]
FROM_CLIENT: list[Any] = [
    protocol.Hello(1, "1.0", Kind.VIEWER, True),
    protocol.Commands((StopRun(), CancelWorker("a", 1), ChangeSetting("rate", "5/s"), WatchStack(None)), 3),
    protocol.Detach(),
    protocol.Follow(),
    protocol.HangUp(),
    protocol.Ask(),
]


def frame_of(value: Any) -> bytes:
    """Return the frame of what one side sends."""
    if isinstance(value, SnapshotPart):
        return protocol.snapshot_frame(value)
    return message_frame(value) if isinstance(value, Message) else protocol.batch_frame(value)


@pytest.mark.parametrize(("is_run", "sent"), [(True, FROM_RUN), (False, FROM_CLIENT)])
@given(st.data())
def test_what_was_sent_arrives_however_the_bytes_are_cut(is_run: bool, sent: list[Any], data: st.DataObject) -> None:
    reader = FrameReader(1 << 20, is_run=is_run)
    stream = b"".join(map(frame_of, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20)))
    received: list[Any] = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        received += reader.feed(stream[start:end])
    assert received == sent


def test_messages_of_every_class_are_tried() -> None:
    assert {type(each) for each in (*FROM_RUN, *FROM_CLIENT)} - {tuple, SnapshotPart} == {*Message.__subclasses__()}


def test_first_messages_are_the_same_in_every_version() -> None:
    """Runs and clients of other versions read them. Never change these bytes."""
    hello = protocol.Hello(1, "1.0", Kind.VIEWER)
    assert message_frame(hello) == (
        b"\x00\x00\x00\x3fm\x85\xa7message\xa5Hello\xa8protocol\x01\xa7version\xa31.0\xa4kind\xa6viewer"
        b"\xacis_read_only\xc2"
    )
    assert message_frame(protocol.Hello(1, "1.0", Kind.VIEWER, run="a")) == (
        b"\x00\x00\x00\x45m\x86\xa7message\xa5Hello\xa8protocol\x01\xa7version\xa31.0\xa4kind\xa6viewer"
        b"\xacis_read_only\xc2\xa3run\xa1a"
    )
    assert message_frame(protocol.Refused("protocol", "why")) == (
        b"\x00\x00\x00\x2am\x83\xa7message\xa7Refused\xa4kind\xa8protocol\xa6reason\xa3why"
    )


def test_hello_of_a_later_version_is_read() -> None:
    later = {"message": "Hello", "protocol": 99, "version": "9.0", "kind": "hologram", "is_tall": [1, {"a": 2}]}
    body = msgspec.msgpack.encode(later)
    hello = [*FrameReader(1000, is_run=False).feed(len(body).to_bytes(4) + b"m" + body)]
    assert hello == [protocol.Hello(99, "9.0", "hologram")]


def test_lone_surrogates_arrive_as_their_escapes() -> None:
    for message, expected in (
        (protocol.Problem("caf\udce9"), protocol.Problem("caf\\udce9")),
        ((LogRecorded(0, 0.0, None, "INFO", "t", "\udcff"),), (LogRecorded(0, 0.0, None, "INFO", "t", "\\udcff"),)),
    ):
        assert [*FrameReader(1000, is_run=True).feed(frame_of(message))] == [expected]


def test_only_commands_of_a_person_can_be_sent() -> None:
    kinds = set(protocol.command_types())
    assert kinds == {kind for kind in vars(commands).values() if isinstance(kind, type) and kind.__base__ is Command}
    assert {kind for kind in Command.__subclasses__() if kind.__module__ == port.__name__} - kinds
    body = msgspec.msgpack.encode({"message": "Commands", "commands": [{"command": "_Then", "callback": 1}]})
    with pytest.raises(ProtocolError):
        [*FrameReader(1000, is_run=False).feed(len(body).to_bytes(4) + b"m" + body)]


@given(st.lists(st.sampled_from([3, 200, 5_000, 300_000, 2_000_000]), max_size=30), st.integers(0, 9))
def test_commands_of_any_size_are_cut_into_frames_that_a_run_takes(sizes: list[int], token: int) -> None:
    many = [CancelWorker("x" * size, number) for number, size in enumerate(sizes)]
    reader = FrameReader(LARGEST_FROM_CLIENT, is_run=False)
    received: list[Any] = [message for frame in command_frames(many, token) for message in reader.feed(frame)]
    assert [message.token for message in received if message.token] == [token] * bool(token)
    assert not token or received[-1].token == token
    arrived = [command for message in received for command in message.commands]
    assert arrived == [command for command in many if len(command.worker) < 1_000_000]


def test_many_commands_are_cut_into_frames() -> None:
    many = [RetryAllNow()] * (2 * COMMANDS_A_FRAME + 1)
    reader = FrameReader(LARGEST_FROM_CLIENT, is_run=False)
    received: list[Any] = [message for frame in command_frames(many, 5) for message in reader.feed(frame)]
    assert [len(message.commands) for message in received] == [COMMANDS_A_FRAME, COMMANDS_A_FRAME, 1]
    assert COMMANDS_A_FRAME <= FEW  # the engine looks among so many for those that do not wait


# -- other bytes


def text(value: str) -> bytes:
    """Return a short text as MessagePack."""
    return bytes((0xA0 | len(value),)) + value.encode()


def framed(body: bytes, kind: bytes = b"m") -> bytes:
    """Return a frame with this body."""
    return len(body).to_bytes(4) + kind + body


def message(name: str, **fields: Any) -> bytes:
    """Return the frame of a message with any fields."""
    return framed(msgspec.msgpack.encode({"message": name, **fields}))


_COMMANDS = b"\x82" + text("message") + text("Commands") + text("commands")
_SKIPPED = b"\x83" + text("message") + text("Ask") + text("x")
HOSTILE: dict[str, bytes] = {
    "garbage": b"GET / HTTP/1.1\r\n\r\n",
    "zeros": bytes(1_000),
    "1 GB": (1 << 30).to_bytes(4) + b"m",
    "4 GB": b"\xff\xff\xff\xffm",
    "no body": framed(b""),
    "unknown kind": framed(b"abc", b"q"),
    "events": protocol.batch_frame(BATCH),
    "snapshot": protocol.snapshot_frame(SnapshotPart(b"data")),
    "no map": framed(b"\x93\x01\x02\x03"),
    "unknown message": message("Explode"),
    "message of a run": message_frame(protocol.Problem("boo")),
    "second hello": message_frame(protocol.Hello(protocol.PROTOCOL, "1", Kind.VIEWER)),
    "more after the message": framed(msgspec.msgpack.encode({"message": "Ask"}) + b"\xc0"),
    "deep": framed(_COMMANDS + b"\x91" * 100_000),
    "deep and skipped": framed(_SKIPPED + b"\x91" * 100_000 + b"\xc0" + text("y") + b"\xc0"),
    "deep maps": framed(_SKIPPED + b"\x81\xa0" * 100_000 + b"\xc0" + text("y") + b"\xc0"),
    "list without end": framed(_COMMANDS + b"\xdd\xff\xff\xff\xff"),
    "map without end": framed(b"\xdf\xff\xff\xff\xff"),
    "text without end": framed(b"\x81\xdb\xff\xff\xff\xff"),
    "extension": framed(_COMMANDS + b"\xc9\x00\x00\x00\x04\x05abcd"),
    "bad UTF-8": framed(b"\x81" + text("message") + b"\xa3\xff\xfe\xfd"),
    "surrogates": framed(b"\x81" + text("message") + b"\xa3\xed\xb3\xbf"),
    "no list": message("Commands", commands="all"),
    "no commands": message("Commands", commands=[1, None, "x", []]),
    "token": message("Commands", commands=[], token="x"),
    "large token": message("Commands", commands=[], token=1.5),
    "wrong fields": message("Commands", commands=[{"command": "CancelWorker", "worker": 7, "incarnation": "x"}]),
    "missing fields": message("Commands", commands=[{"command": "CancelWorker"}]),
    "setting": message("Commands", commands=[{"command": "ChangeSetting", "name": "rate", "value": [1]}]),
    "many commands": message("Commands", commands=[{"command": "RetryAllNow"}] * (COMMANDS_A_FRAME + 1)),
}


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in ("second hello", "many commands")])
def test_bytes_of_another_kind_are_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        [*FrameReader(LARGEST_FROM_CLIENT, is_run=False).feed(HOSTILE[name])]


@pytest.mark.parametrize("is_run", [True, False])
@given(st.binary(max_size=300), st.integers(0, 300), st.integers(0, 255))
def test_any_bytes_are_read_or_refused(is_run: bool, noise: bytes, place: int, value: int) -> None:
    stream = bytearray(b"".join(map(frame_of, FROM_RUN if is_run else FROM_CLIENT)))
    stream[place % len(stream)] = value
    for data in (noise, bytes(stream), framed(noise), framed(noise, b"e"), framed(noise, b"s")):
        with suppress(ProtocolError):
            for received in FrameReader(1 << 20, is_run=is_run).feed(data):
                assert isinstance(received, Message | tuple | SnapshotPart)


def test_frame_that_is_announced_and_does_not_come_takes_no_memory() -> None:
    reader = FrameReader(LARGEST_FROM_CLIENT, is_run=False)
    assert not [*reader.feed(LARGEST_FROM_CLIENT.to_bytes(4) + b"m")]
    assert len(reader._data) < 100


def test_numbers_that_are_none_are_commands() -> None:
    """The engine refuses them."""
    sent = protocol.Commands((ChangeSetting("concurrency", math.nan), CancelWorker("a", -(1 << 63))))
    received = [*FrameReader(1000, is_run=False).feed(message_frame(sent))]
    assert str(received) == str([sent])
