"""The client's end: updates for the user interface, and commands from any thread, whatever the run does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
import time
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from asyncwatch.commands import CancelAll, CancelWorker, Disconnected, Problem, SnapshotPart, Statistics
from asyncwatch.control import client as client_module
from asyncwatch.control import protocol
from asyncwatch.control.client import (
    ENOUGH,
    LAST_WRITES,
    Connection,
    ConnectionRefusedByRunError,
    RunClient,
    RunGoneError,
    ask_info,
    connect,
)
from asyncwatch.control.protocol import FrameReader, Kind, ProtocolError, batch_frame, message_frame, snapshot_frame
from asyncwatch.events import LogRecorded
from asyncwatch.testing import wait_until
from tests.control.runs import ENDED, PLAN, settle

INFO = protocol.RunInfo(True, 3, 1, {"running": 2}, 1.5, 1, False, False)


class Peer:
    """The run at the other end, as far as it writes and reads bytes."""

    def __init__(self, kind: Kind = Kind.VIEWER) -> None:
        ours, self.socket = socket.socketpair()
        self.connection = Connection(ours, kind)
        self.socket.setblocking(False)
        self.reader = FrameReader(1 << 20, is_run=False)
        assert [type(each) for each in self.received()] == [protocol.Hello]

    def received(self) -> list[Any]:
        """Return what the client has sent."""
        messages: list[Any] = []
        try:
            while data := self.socket.recv(1 << 16):
                messages += self.reader.feed(data)
        except BlockingIOError:
            pass
        return messages

    def close(self) -> None:
        """End both ends."""
        self.socket.close()
        self.connection.close()


def line(seq: int, text: str = "line") -> tuple[LogRecorded, ...]:
    """Return a batch of one event."""
    return (LogRecorded(seq, 0.0, None, "INFO", "test", text),)


def taken(queue: asyncio.Queue[Any]) -> list[Any]:
    """Return what is in a queue."""
    return [queue.get_nowait() for _ in range(queue.qsize())]


@pytest.fixture
def peer() -> Any:
    peer = Peer()
    yield peer
    peer.close()


async def test_client_passes_on_what_came_before_and_after_it_listens(peer: Peer) -> None:
    messages: list[Any] = []
    peer.socket.send(message_frame(PLAN) + batch_frame(line(0)) + message_frame(protocol.Problem("early")))
    plan = peer.connection.receive()
    client = RunClient(peer.connection, messages.append)
    part = SnapshotPart(b"data", True, True)
    figures = protocol.Figures(Statistics(events=9))
    peer.socket.send(snapshot_frame(part) + batch_frame(line(1)) + message_frame(figures)[:7])
    queue = client.events()
    await settle()
    peer.socket.send(message_frame(figures)[7:] + message_frame(ENDED))
    await settle()
    assert plan == PLAN
    assert taken(queue) == [line(0), Problem("early"), part, line(1)]
    assert messages == [ENDED]
    assert client.statistics() == Statistics(events=9)
    assert client.ended == ENDED
    client.close()


@pytest.mark.parametrize("is_read_before", [False, True])
async def test_client_knows_the_id_of_the_run(peer: Peer, *, is_read_before: bool) -> None:
    peer.socket.send(message_frame(protocol.Welcome("0.1.0", "kesbc5bq", "demo", 7)))
    if is_read_before:
        peer.connection.receive()
    client = RunClient(peer.connection)
    client.events()
    await settle()
    assert client.run_id == "kesbc5bq"
    client.close()


async def test_client_reads_no_more_than_its_reader_and_goes_on_when_there_is_room(peer: Peer) -> None:
    client = RunClient(peer.connection)
    queue = client.events()
    tracemalloc.start()
    sent = 0
    for _ in range(20_000):
        try:
            rest = batch_frame(line(sent, "x" * 10_000))
            while rest:
                rest = rest[peer.socket.send(rest) :]
        except BlockingIOError:
            break
        sent += 1
        await asyncio.sleep(0)
    await settle()
    assert ENOUGH <= queue.qsize() < 2 * ENOUGH
    assert tracemalloc.get_traced_memory()[0] < 4_000_000
    tracemalloc.stop()
    peer.socket.setblocking(True)
    later = [rest, *(batch_frame(line(number)) for number in range(sent + 1, sent + 5_000))]
    writer = threading.Thread(target=peer.socket.sendall, args=(b"".join(later),))
    writer.start()
    seen = 0
    async with asyncio.timeout(20):
        while seen < sent + 5_000:
            batch: Any = await queue.get()
            assert batch[0].seq == seen
            seen += 1
    writer.join()
    client.close()


async def test_commands_are_sent_from_any_thread_in_order(peer: Peer) -> None:
    client = RunClient(peer.connection)
    client.send(CancelWorker("a", 0))  # before it listens
    client.events()
    for number in range(1, 4):
        client.send(CancelWorker("a", number))
        if number == 1:
            await asyncio.to_thread(client.send, CancelWorker("b", 1), CancelWorker("b", 2))
            await settle()
    sent = [command for message in peer.received() for command in message.commands]
    assert [(command.worker, command.incarnation) for command in sent] == [
        ("a", 0), ("a", 1), ("b", 1), ("b", 2), ("a", 2), ("a", 3)
    ]  # fmt: skip
    client.close()
    await asyncio.to_thread(client.send, CancelWorker("b", 3))
    client.send(CancelWorker("b", 3))
    await settle()


async def test_many_commands_never_wait_and_all_arrive(peer: Peer) -> None:
    client = RunClient(peer.connection)
    client.events()
    many = [CancelWorker(str(number), 1) for number in range(100_000)]
    tracemalloc.start()
    start = time.thread_time()
    client.send(*many)
    assert time.thread_time() - start < 0.1
    await settle()
    assert tracemalloc.get_traced_memory()[0] < 3_000_000
    tracemalloc.stop()
    received: list[Any] = []
    async with asyncio.timeout(20):
        while len(received) < len(many):
            received += [command for message in peer.received() for command in message.commands]
            await asyncio.sleep(0)
    assert received == many
    client.close()


async def test_person_hears_when_commands_are_dropped_since_the_run_does_not_read(
    monkeypatch: pytest.MonkeyPatch, peer: Peer
) -> None:
    monkeypatch.setattr(client_module, "MOST_UNSENT", 5)
    client = RunClient(peer.connection)
    queue = client.events()
    name = "x" * 900_000
    for number in range(10):
        client.send(CancelWorker(name, number))
    assert [type(update) for update in taken(queue)] == [Problem] * 5
    received: list[Any] = []
    while len(received) < 5:
        received += [message.commands[0].incarnation for message in peer.received()]
        await asyncio.sleep(0)
    assert received == [0, 1, 2, 3, 4]
    client.close()


async def test_close_sends_what_is_left(peer: Peer) -> None:
    client = RunClient(peer.connection)
    client.events()
    client.send(CancelWorker("x" * 900_000, 1))
    client.detach()
    received: list[Any] = []

    def read() -> None:
        while len(received) < 2:
            received.extend(peer.received())

    reader = threading.Thread(target=read)
    reader.start()
    client.close()
    reader.join()
    assert [type(message) for message in received] == [protocol.Commands, protocol.Detach]
    client.close()


async def test_close_ends_in_time_although_the_run_does_not_read(monkeypatch: pytest.MonkeyPatch, peer: Peer) -> None:
    monkeypatch.setattr(client_module, "LAST_WRITES", 0.05)
    client = RunClient(peer.connection)
    client.events()
    client.send(CancelWorker("x" * 900_000, 1))
    start = time.monotonic()
    client.close()
    assert time.monotonic() - start < LAST_WRITES / 2 + 5  # a machine can be slow
    assert peer.connection.socket.fileno() == -1


async def test_closed_client_leaves_nothing_on_the_loop(peer: Peer) -> None:
    """Else the loop would watch a descriptor that has become another file."""
    lifeline, held = socket.socketpair()
    client = RunClient(peer.connection, lifeline=lifeline)
    client.events()
    client.send(CancelWorker("x" * 900_000, 1))
    await settle()
    peer.socket.close()
    client.close()
    selector: Any = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    assert {key.fd for key in selector.get_map().values()}.isdisjoint({lifeline.fileno(), -1})
    assert len(selector.get_map()) == 1
    lifeline.close()
    held.close()


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (b"", "The process of the run has gone."),
        (message_frame(ENDED), "The run has ended."),
        (message_frame(protocol.Refused("protocol", "no such thing")), "no such thing"),
        (b"\x00\x00\x00\x01qx", "what asyncwatch"),
        (b"\xff\xff\xff\xffm", "4,294,967,295 bytes"),
    ],
)
async def test_client_is_disconnected_once_and_says_why(peer: Peer, last: bytes, reason: str) -> None:
    client = RunClient(peer.connection)
    queue = client.events()
    peer.socket.send(batch_frame(line(0)) + last)
    await settle()
    peer.socket.close()
    await settle()
    first, lost = taken(queue)
    assert first == line(0)
    assert isinstance(lost, Disconnected)
    assert reason in lost.reason
    assert client.lost.is_set()
    client.send(CancelAll())
    client.detach()
    client.close()
    assert queue.empty()


async def test_client_is_disconnected_once_although_writing_fails_first(peer: Peer) -> None:
    client = RunClient(peer.connection)
    queue = client.events()
    peer.socket.send(batch_frame(line(0)))
    peer.socket.close()
    client.send(CancelAll())
    client.send(CancelAll())
    await settle()
    assert taken(queue) == [line(0), Disconnected("The process of the run has gone.")]
    client.close()


async def test_refusal_before_the_client_listens_disconnects_it(peer: Peer) -> None:
    peer.socket.send(message_frame(PLAN) + message_frame(protocol.Refused("full", "it is full")) + batch_frame(line(0)))
    peer.connection.receive()
    client = RunClient(peer.connection)
    queue = client.events()
    await settle()
    (lost,) = taken(queue)
    assert "it is full" in lost.reason
    client.close()


async def test_end_of_the_lifeline_disconnects(peer: Peer) -> None:
    lifeline, held = socket.socketpair()
    client = RunClient(peer.connection, lifeline=lifeline)
    queue = client.events()
    held.close()
    await settle()
    peer.socket.send(batch_frame(line(0)))
    await settle()
    assert taken(queue) == [Disconnected("The command of this dashboard has ended.")]
    client.close()
    lifeline.close()


# -- without an event loop


def test_receive_waits_as_long_as_it_may(peer: Peer) -> None:
    assert peer.connection.receive(0.0) is None
    start = time.monotonic()
    assert peer.connection.receive(0.01) is None
    assert time.monotonic() - start >= 0.01
    peer.socket.send(message_frame(protocol.Welcome("1", "r1", "demo", 7)) + message_frame(PLAN)[:10])
    assert peer.connection.receive(0.0) == peer.connection.welcome == protocol.Welcome("1", "r1", "demo", 7)
    assert peer.connection.receive(0.0) is None
    peer.socket.send(message_frame(PLAN)[10:] + batch_frame(line(0)))
    peer.socket.close()
    assert peer.connection.receive() == PLAN
    assert peer.connection.receive(0.0) == line(0)
    for timeout in (None, 0.0, 1.0):
        with pytest.raises(RunGoneError, match="gone"):
            peer.connection.receive(timeout)
    peer.connection.send(protocol.Ask())
    peer.connection.send_commands((CancelAll(),), 1)


def test_receive_reports_a_refusal_and_other_bytes(peer: Peer) -> None:
    peer.socket.send(message_frame(protocol.Refused("full", "it is full")) + b"\x00\x00\x00\x01qx")
    with pytest.raises(ConnectionRefusedByRunError, match="it is full"):
        peer.connection.receive()
    for _ in range(2):
        with pytest.raises(ProtocolError, match="kind"):
            peer.connection.receive(0.0)


def test_refusal_is_read_although_the_hello_could_not_be_written() -> None:
    ours, theirs = socket.socketpair()
    theirs.send(message_frame(protocol.Refused("full", "it is full")))
    theirs.close()
    connection = Connection(ours, Kind.ASKER)
    with pytest.raises(ConnectionRefusedByRunError, match="it is full") as caught:
        connection.receive()
    assert caught.value.kind == "full"
    connection.close()


def test_commands_are_answered_by_their_token(peer: Peer) -> None:
    peer.connection.send_commands([CancelWorker("a", number) for number in range(1_500)], 7)
    received = peer.received()
    assert [len(message.commands) for message in received] == [1_000, 500]
    assert [message.token for message in received] == [0, 7]


def test_connect_to_a_socket_without_a_run(tmp_path: Path) -> None:
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(tmp_path / "dead"))
    dead.close()
    for name in ("dead", "none", "x" * 200):
        with pytest.raises(RunGoneError, match=r"\w"):
            connect(str(tmp_path / name), Kind.ASKER)
        with pytest.raises(RunGoneError):
            ask_info(str(tmp_path / name), 0.1)


def test_connect_waits_until_the_run_accepts(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "a"))
    listener.listen(0)
    path = str(tmp_path / "a")
    first = connect(path, Kind.ASKER)
    with pytest.raises(RunGoneError, match=r"no connection|timed out"):
        connect(path, Kind.ASKER, timeout=0.05)
    second: list[Connection] = []
    thread = threading.Thread(target=lambda: second.append(connect(path, Kind.ASKER, timeout=20)))
    thread.start()
    accepted = [listener.accept()[0] for _ in range(2)]
    thread.join()
    for connection in (first, *second):
        connection.close()
    for each in (listener, *accepted):
        each.close()


def answering(path: Path, *frames: bytes) -> threading.Thread:
    """Accept one client, send it bytes, and end the connection when it does."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.sendall(b"".join(frames))
            if frames:
                while connection.recv(1_000):
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_ask_info_returns_the_answer_and_nothing_else(tmp_path: Path) -> None:
    welcome = message_frame(protocol.Welcome("1", "r1", "demo", 7))
    thread = answering(tmp_path / "a", welcome, message_frame(ENDED), message_frame(INFO))
    assert ask_info(str(tmp_path / "a"), 20) == INFO
    thread.join()
    thread = answering(tmp_path / "b", welcome)
    assert ask_info(str(tmp_path / "b"), 0.05) is None
    thread.join()
    thread = answering(tmp_path / "c")
    with pytest.raises(RunGoneError):
        ask_info(str(tmp_path / "c"), 20)
    thread.join()
    thread = answering(tmp_path / "d", message_frame(protocol.Refused("protocol", "another version")))
    with pytest.raises(ConnectionRefusedByRunError, match="another version"):
        ask_info(str(tmp_path / "d"), 20)
    thread.join()


async def test_wait_until_lost(peer: Peer) -> None:
    client = RunClient(peer.connection)
    client.events()
    waiting = asyncio.ensure_future(client.lost.wait())
    await settle()
    assert not waiting.done()
    peer.socket.close()
    await wait_until(waiting.done)
    client.close()


def test_connect_waits_for_the_socket_of_a_run_that_is_just_starting(base: Path) -> None:
    """The record by which it was found precedes its socket."""
    path = str(base / "late.sock")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def listen() -> None:
        listener.bind(path + "~")
        listener.listen()
        os.rename(path + "~", path)  # noqa: PTH104

    timer = threading.Timer(0.05, listen)
    timer.start()
    with contextlib.closing(listener), contextlib.closing(connect(path, Kind.ASKER)):
        timer.join()
