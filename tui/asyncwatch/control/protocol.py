"""What a run and its clients say to each other over a socket.

A frame is the length of its body in bytes (4 bytes, the highest first), the kind of the body (1 byte) and the body:

    m   one message of this module, as MessagePack
    e   a batch of events (`events.wire.pack_batch`)
    s   a part of a snapshot (`model.snapshot`), after one byte of flags: 1 the first part, 2 the last one

A client sends `Hello` first and gets `Welcome` or `Refused`. `Hello`, `Refused` and the frame are the same in every
version of the protocol, except for fields that a client can leave out. Then the client may send `Commands`, `Detach`,
`Follow`, `HangUp` and `Ask`.

Every client except an asker gets `PlanMade` or `PlanRefused`. One that follows the run also gets a snapshot, if the run
has begun already, and then every batch, with no gap. The snapshot can be some seconds old: other clients got it too. A
client that is too far behind gets a new snapshot in place of the batches. `Carried` and `Ended` come after all events
before them. A client that closes its end for writing is taken to have gone.
"""

from __future__ import annotations

import enum
import functools
from collections.abc import Iterator, Sequence
from typing import Union

import msgspec

from asyncwatch.commands import Command, SnapshotPart, Statistics
from asyncwatch.events import Batch, Event
from asyncwatch.events.wire import event_types, pack_batch, unpack_batch, without_surrogates

PROTOCOL = 1
"""The version of all that follows `Hello`."""
LARGEST_FROM_CLIENT = 1 << 20
"""Bytes of the longest frame that a run takes."""
LARGEST_HELLO = 1 << 12
LARGEST_FROM_RUN = 1 << 27
"""Bytes of the longest frame that a client takes."""
COMMANDS_A_FRAME = 1_000
"""Most commands in a frame."""

_HEADER = 5
_MESSAGE, _EVENTS, _SNAPSHOT = b"mes"


class ProtocolError(Exception):
    """The other side does not follow the protocol."""


class Kind(enum.StrEnum):
    """What a client is."""

    COMMAND = "command"
    """The process that started the run and owns it. It gets no events."""
    DASHBOARD = "dashboard"
    """The dashboard of the command that owns the run."""
    VIEWER = "viewer"
    """A dashboard that was attached later."""
    FOLLOWER = "follower"
    """A program that follows the run, and is no dashboard."""
    ASKER = "asker"
    """A program that asks questions. It gets no events."""


FOLLOWING = frozenset({Kind.DASHBOARD, Kind.VIEWER, Kind.FOLLOWER})
"""Clients that get events."""
LOOKING = frozenset({Kind.DASHBOARD, Kind.VIEWER})
"""Clients that keep a run open whose workers have settled, so that a person can restart them."""


class Message(msgspec.Struct, frozen=True, tag=True, tag_field="message"):
    """Base of all messages."""


def command_types() -> tuple[type[Command], ...]:
    """Return the class of every command that a client can send."""
    return tuple(kind for kind in Command.__subclasses__() if kind.__module__ == Command.__module__)


# -- from a client


class Hello(Message, frozen=True):
    """The first message of a client. Its layout never changes, except for fields that can be left out."""

    protocol: int
    version: str
    """Of asyncwatch."""
    kind: str
    """A `Kind`, or one of another version of the protocol."""
    is_read_only: bool = False
    run: str | msgspec.UnsetType = msgspec.UNSET
    """The ID of the run, since several runs of a process may share a socket. Unset for the only one."""


class Commands(Message, frozen=True):
    """Requests about workers and the run, in order.

    With a `token` the run answers `Carried` after all events that report what became of them.
    """

    commands: tuple[Union[command_types()], ...]  # type: ignore[valid-type]  # noqa: UP007  known at run time
    token: int = 0


class Detach(Message, frozen=True):
    """The run goes on without the command that owns it. Only the command and its dashboard can say so."""


class Follow(Message, frozen=True):
    """The command gets what a follower gets from now on: its dashboard broke."""


class HangUp(Message, frozen=True):
    """The terminal of the command has gone. The run stops, or goes on without it, as its config says."""


class Ask(Message, frozen=True):
    """A question to which the run answers `RunInfo`."""


# -- from a run


class Welcome(Message, frozen=True):
    """The run takes the client."""

    version: str
    run: str
    """The id of the run."""
    name: str
    pid: int


class Refused(Message, frozen=True):
    """The run does not take the client, or no more of its messages. The connection ends. Its layout never changes.

    `kind` is `protocol` (another version, or garbage), `full` (too many clients) or `stranger` (another user).
    """

    kind: str
    reason: str


class PlanMade(Message, frozen=True):
    """The run is about to begin, or has begun.

    `notes` are for the person at the terminal. `foreseen` are the first events of a run that has not begun. `resume` is
    the command that goes on with the run if its process dies, and `journal` the path of its journal; both are empty if
    it is not recorded.
    """

    run: str
    notes: tuple[str, ...]
    foreseen: tuple[Union[tuple(event_types())], ...]  # type: ignore[valid-type]  # noqa: UP007  as above
    resume: str = ""
    journal: str = ""


class PlanRefused(Message, frozen=True):
    """There will be no run: the arguments, the config or the system do not allow it, or no item is left to do."""

    problems: tuple[str, ...]
    status: int


class Figures(Message, frozen=True):
    """The latest statistics of the engine."""

    statistics: Statistics


class Problem(Message, frozen=True):
    """A problem of the run beside the work, such as a disk that is full, for a person."""

    text: str


class Carried(Message, frozen=True):
    """The commands with this token were carried out or refused."""

    token: int


class RunInfo(Message, frozen=True):
    """The state of a run in a few figures."""

    has_begun: bool
    """Whether its first event has happened."""
    workers: int
    settled: int
    counts: dict[str, int]
    """Workers by state."""
    elapsed: float
    """Seconds since the run started."""
    viewers: int
    is_detached: bool
    is_stopping: bool
    not_recorded: str = ""
    """Since when and why it is not recorded; empty if it is, or was not meant to be."""
    flapping: int = 0
    """Services that crash again and again."""


class Detached(Message, frozen=True):
    """The run goes on without its command, which can end."""


class Ended(Message, frozen=True):
    """The run has ended, with this exit status. `problems` are what went wrong beside the work."""

    status: int
    problems: tuple[str, ...]
    summary: msgspec.Raw
    """A `model.summary.Summary`."""


_encode = msgspec.msgpack.Encoder().encode


@functools.cache
def _decoder(*, is_run: bool) -> msgspec.msgpack.Decoder[Message]:
    # Made on first use: it takes some milliseconds.
    from_run = Welcome, Refused, PlanMade, PlanRefused, Figures, Problem, Carried, RunInfo, Detached, Ended
    return msgspec.msgpack.Decoder(Union[from_run if is_run else (Hello, Commands, Detach, Follow, HangUp, Ask)])  # noqa: UP007  as above


Received = Message | tuple[Event, ...] | SnapshotPart


def message_frame(message: Message) -> bytes:
    """Return the frame of a message."""
    return _frame(_MESSAGE, packed(message))


def packed(value: object) -> bytes:
    """Return a value as MessagePack. A lone surrogate in a text is written as its escape."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(without_surrogates(msgspec.to_builtins(value)))


def command_frames(commands: Sequence[Command], token: int = 0) -> Iterator[bytes]:
    """Yield the frames of any number of commands. A command that fits no frame is left out.

    With a `token`, the answer follows the last of them.
    """
    for start in range(0, max(1, len(commands)), COMMANDS_A_FRAME):
        end = start + COMMANDS_A_FRAME
        yield from _fitting_frames(tuple(commands[start:end]), token if end >= len(commands) else 0)


def _fitting_frames(commands: tuple[Command, ...], token: int) -> Iterator[bytes]:
    frame = message_frame(Commands(commands, token))
    if len(frame) - _HEADER <= LARGEST_FROM_CLIENT:
        yield frame
    elif middle := len(commands) // 2:
        yield from _fitting_frames(commands[:middle], 0)
        yield from _fitting_frames(commands[middle:], token)
    elif token:
        yield message_frame(Commands((), token))


def batch_frame(batch: Batch) -> bytes:
    """Return the frame of a batch."""
    return _frame(_EVENTS, pack_batch(batch))


def snapshot_frame(part: SnapshotPart) -> bytes:
    """Return the frame of a part of a snapshot."""
    return _frame(_SNAPSHOT, bytes((part.is_first | part.is_last << 1,)), part.data)


def _frame(kind: int, *pieces: bytes) -> bytes:
    length = sum(map(len, pieces))
    return b"".join((length.to_bytes(4), bytes((kind,)), *pieces))


class FrameReader:
    """Cuts the bytes from a socket into frames, and decodes them.

    Args:
        largest: bytes of the longest frame that is taken.
        is_run: whether the other side is a run, not a client.

    """

    def __init__(self, largest: int, *, is_run: bool) -> None:
        self.largest = largest
        self._is_run = is_run
        self._data = bytearray()

    def feed(self, data: bytes | memoryview) -> Iterator[Received]:
        """Take bytes, and yield what has come as a whole.

        Raises:
            ProtocolError: The bytes are not of this protocol. No more must be fed.

        """
        self._data += data
        start = 0
        try:
            while len(self._data) - start >= _HEADER:
                length = int.from_bytes(self._data[start : start + 4])
                if length > self.largest:
                    raise ProtocolError(f"a frame of {length:,} bytes")
                end = start + _HEADER + length
                if len(self._data) < end:
                    break
                kind, body = self._data[start + 4], bytes(self._data[start + _HEADER : end])
                start = end
                yield self._decode(kind, body)
        finally:
            del self._data[:start]

    def _decode(self, kind: int, body: bytes) -> Received:
        try:
            if kind == _MESSAGE:
                return _decoder(is_run=self._is_run).decode(body)
            if kind == _EVENTS and self._is_run:
                return unpack_batch(body)
            if kind == _SNAPSHOT and self._is_run and body:
                return SnapshotPart(body[1:], bool(body[0] & 1), bool(body[0] & 2))
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ProtocolError(str(error)) from None
        raise ProtocolError(f"a frame of the kind {kind}")
