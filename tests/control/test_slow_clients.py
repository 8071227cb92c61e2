"""Clients that do not read, or die, or too many of them: neither the run nor other clients notice."""

from __future__ import annotations

import asyncio
import errno
import socket
import tracemalloc
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asyncwatch import __version__
from asyncwatch.commands import SnapshotPart
from asyncwatch.control import door, protocol, server
from asyncwatch.control.client import Connection, ConnectionRefusedByRunError, connect
from asyncwatch.control.protocol import Kind
from tests.control.conftest import Play
from tests.control.runs import ENDED, PLAN, CountingSnapshot, FakeRun, Viewer, settle
from tests.control.test_protocol import HOSTILE

LONG = "x" * 1_000


async def flood(run: FakeRun, megabytes: int, *viewers: Viewer) -> None:
    """Let events of so many bytes happen. Viewers see each batch before the next one."""
    for _ in range(megabytes * 10):
        run.emit(100, LONG)
        for viewer in viewers:
            await viewer.catch_up(run)


def test_client_that_does_not_read_gets_a_snapshot_and_the_number_of_events_that_it_missed(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        run.server.open(PLAN)
        slow, other = await run.connect(Kind.VIEWER), await run.join()
        await settle()
        tracemalloc.start()
        for _ in range(4):
            await flood(run, 10, other)
        assert tracemalloc.get_traced_memory()[0] < 2 * server.BACKLOG
        tracemalloc.stop()
        late = Viewer(slow)
        await late.catch_up(run)
        assert late.snapshots == 1
        await asyncio.sleep(0.3)
        assert 20_000 < late.client.statistics().skipped < 40_000
        assert other.client.statistics().skipped == 0
        assert other.snapshots == 0
        run.emit(1)
        await late.catch_up(run)

    play(main)


def test_client_is_behind_after_many_small_batches(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        slow = await run.connect(Kind.VIEWER)
        await settle()
        for _ in range(10_000):
            run.emit(1)
        viewer = Viewer(slow)
        await viewer.catch_up(run)
        assert viewer.snapshots == 1
        slow = await run.connect(Kind.VIEWER)
        await settle(3)
        for _ in range(10_000):
            run.emit(1)
        viewer = Viewer(slow)
        await viewer.catch_up(run)

    play(main)


def test_answer_for_a_client_behind_comes_after_its_snapshot(play: Play) -> None:
    async def main(run: FakeRun) -> list[str]:
        slow = await run.connect(Kind.FOLLOWER)
        await settle()
        await flood(run, 10)
        slow.send_commands((), 7)
        await settle()
        run.callbacks[0](run.fleet.seen)
        names: list[str] = []
        while "Carried" not in names:
            if (received := slow.receive(0.0)) is not None:
                names.append(type(received).__name__)
            await asyncio.sleep(0.001)
        return names[-5:]

    assert play(main) == ["SnapshotPart"] * 4 + ["Carried"]


def test_snapshot_is_completed_however_fast_the_run_is(monkeypatch: Any, play: Play) -> None:
    """Else a client of a large and busy run would start anew for ever."""
    monkeypatch.setattr(server, "BACKLOG", 50_000)
    monkeypatch.setattr(CountingSnapshot, "PARTS", 100)

    async def main(run: FakeRun) -> None:
        run.emit(1)
        viewer = await run.join()
        for _ in range(1_000):
            run.emit(10, LONG)
            await settle(2)
            viewer.read()
        assert 5 < viewer.snapshots < 30
        assert viewer.seen > 5_000

    play(main)


def test_snapshot_of_a_client_that_stalls_is_dropped_and_made_anew(monkeypatch: Any, play: Play) -> None:
    """What a snapshot has to remember grows with all that happens meanwhile."""
    monkeypatch.setattr(CountingSnapshot, "SIZE", 200_000)

    async def main(run: FakeRun) -> None:
        run.emit(1)
        stalled = await run.connect(Kind.VIEWER)
        await settle()
        for _ in range(100):
            run.emit(1)
            await asyncio.sleep(0.1)
        (first,) = CountingSnapshot.made
        assert 20 <= first.heard <= 22
        viewer = Viewer(stalled)
        await viewer.catch_up(run)
        assert viewer.snapshots == 1

    play(main)


def test_clients_that_come_soon_after_each_other_share_a_snapshot(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        run.emit(1)
        viewers = []
        for _ in range(10):
            viewers.append(await run.join())
            await settle()
            run.emit(1, LONG)
            await asyncio.sleep(0.1)
        assert len(CountingSnapshot.made) == 1
        run.emit(1)
        for viewer in viewers:
            await viewer.catch_up(run)
            assert viewer.snapshots == 1
            assert viewer.client.statistics().skipped == 0
        assert CountingSnapshot.made[0].heard == 0  # it was whole
        await asyncio.sleep(server.SHARED_FOR)
        viewers.append(await run.join())
        await viewers[-1].catch_up(run)
        assert len(CountingSnapshot.made) == 2

    play(main)


def test_snapshot_is_not_shared_after_many_events(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        run.emit(1)
        await run.join()
        await settle()
        while run.fleet.seen * len(LONG) < server.SHARED_SIZE:
            run.emit(100, LONG)
        await (await run.join()).catch_up(run)
        assert len(CountingSnapshot.made) == 2

    play(main)


def test_snapshot_that_no_client_reads_any_more_costs_nothing(monkeypatch: Any, play: Play) -> None:
    monkeypatch.setattr(CountingSnapshot, "SIZE", 200_000)

    async def main(run: FakeRun) -> None:
        run.emit(1)
        clients = [await run.connect(Kind.VIEWER) for _ in range(3)]
        await settle()
        run.emit(1)
        (snapshot,) = CountingSnapshot.made
        assert snapshot.heard == 1
        for client in clients:
            client.close()
        await asyncio.sleep(2 * server.SHARED_FOR)
        run.emit(1)
        assert snapshot.heard == 1

    play(main)


def test_snapshots_of_clients_take_turns(monkeypatch: Any, play: Play) -> None:
    """One part in a loop iteration, however many clients come at a time; one that stalls holds up none."""
    monkeypatch.setattr(CountingSnapshot, "SIZE", 200_000)
    monkeypatch.setattr(CountingSnapshot, "PARTS", 20)
    parts: list[SnapshotPart] = []
    frame = protocol.snapshot_frame

    def note(part: SnapshotPart) -> bytes:
        parts.append(part)
        return frame(part)

    monkeypatch.setattr(protocol, "snapshot_frame", note)

    async def main(run: FakeRun) -> None:
        run.emit(1)
        stalled = [await run.connect(Kind.VIEWER) for _ in range(3)]
        viewers = [await run.join() for _ in range(3)]
        most = 0
        while any(viewer.snapshots == 0 for viewer in viewers):
            parts.clear()
            await asyncio.sleep(0)
            most = max(most, len(parts))
            for viewer in viewers:
                viewer.read()
        assert most == 1
        assert len({viewer.seen for viewer in viewers}) == 1
        del stalled

    play(main)


def test_client_that_asks_and_does_not_read_fills_no_memory(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        asker = await run.connect(Kind.ASKER)
        asker.socket.setblocking(False)
        questions = protocol.message_frame(protocol.Ask()) * 1_000
        await settle()
        tracemalloc.start()
        idle = 0
        while idle < 100:
            try:
                questions = questions[asker.socket.send(questions) :] or protocol.message_frame(protocol.Ask()) * 1_000
                idle = 0
            except BlockingIOError:
                idle += 1
            await asyncio.sleep(0)
        assert tracemalloc.get_traced_memory()[0] < 1_000 * server.MOST_WAITING
        tracemalloc.stop()
        while idle:
            idle -= asker.receive(0.0) is None  # all answers come, once they are read
            await asyncio.sleep(0)
        asker.socket.send(questions)
        await settle()
        assert isinstance(asker.receive(0.0), protocol.RunInfo)

    play(main)


def test_client_behind_that_sends_commands_without_end_is_cut_off(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        slow = await run.connect(Kind.FOLLOWER)
        await settle()
        await flood(run, 10)
        for _ in range(server.MOST_WAITING + 1):
            slow.send_commands((), 7)
            await settle(3)
            run.callbacks.pop()(0)
        await settle()
        assert run.server.clients == 0

    play(main)


def test_clients_that_die_in_the_middle_change_nothing_for_others(monkeypatch: Any, play: Play) -> None:
    monkeypatch.setattr(CountingSnapshot, "SIZE", 100_000)
    hello = protocol.message_frame(protocol.Hello(protocol.PROTOCOL, "1", Kind.VIEWER))

    async def main(run: FakeRun) -> None:
        run.server.open(PLAN)
        run.emit(1)
        witness = await run.join()
        for number in range(200):
            ours, theirs = socket.socketpair()
            await run.server.adopt(theirs, Kind.VIEWER)
            ours.send(hello[: number or None])
            run.emit(1, LONG)
            await settle(number % 20)
            if number % 3:
                ours.setblocking(False)
                with suppress(BlockingIOError):
                    ours.recv(number * 1_000 + 1)
            ours.close()
            witness.read()
        await witness.catch_up(run)
        await settle()
        assert witness.snapshots == 1
        assert run.server.clients == run.server.viewers == 1

    play(main)


# -- connections


def listener_at(path: Path) -> socket.socket:
    """Return a listening socket."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(128)
    return listener


async def answer(run: FakeRun, connection: Connection) -> Any:
    """Return the first message of the run on a connection, or the refusal, and close the connection."""
    await settle()
    try:
        return connection.receive(0.0)
    except Exception as error:
        return error
    finally:
        connection.close()
        await settle()


def test_socket_that_listens_is_replaced(play: Play, tmp_path: Path) -> None:
    async def main(run: FakeRun) -> None:
        run.door.listen(listener_at(tmp_path / "r1.sock"))
        first = connect(str(tmp_path / "r1.sock"), Kind.ASKER)
        await settle()
        run.door.listen(listener_at(tmp_path / "r1.again.sock"))
        assert (tmp_path / "r1.sock").exists()
        second = connect(str(tmp_path / "r1.again.sock"), Kind.ASKER)
        for connection in (first, second):
            assert isinstance(await answer(run, connection), protocol.Welcome)
        with pytest.raises(Exception, match="refused"):
            connect(str(tmp_path / "r1.sock"), Kind.ASKER)

    play(main)


def test_client_of_another_user_is_refused(play: Play, tmp_path: Path) -> None:
    async def main(run: FakeRun) -> None:
        run.door.listen(listener_at(tmp_path / "r1.sock"))
        error = await answer(run, connect(str(tmp_path / "r1.sock"), Kind.ASKER))
        assert error.kind == "stranger"
        assert run.server.clients == 0

    play(main, is_peer_trusted=lambda _connection: False)


def test_clients_leave_most_descriptors_to_workers(monkeypatch: Any, play: Play, tmp_path: Path) -> None:
    monkeypatch.setattr(door, "file_limit", lambda: 64)

    async def main(run: FakeRun) -> None:
        run.door.listen(listener_at(tmp_path / "r1.sock"))
        clients = [connect(str(tmp_path / "r1.sock"), Kind.ASKER) for _ in range(20)]
        await settle()
        assert run.server.clients == 8
        for connection in clients:
            connection.close()

    play(main)


def test_too_many_clients_are_refused_those_that_say_nothing_included(
    monkeypatch: Any, play: Play, tmp_path: Path
) -> None:
    monkeypatch.setattr(door, "MOST_CLIENTS", 4)

    async def main(run: FakeRun) -> None:
        run.door.listen(listener_at(tmp_path / "r1.sock"))
        clients = [connect(str(tmp_path / "r1.sock"), Kind.ASKER) for _ in range(2)]
        silent = [socket.socket(socket.AF_UNIX) for _ in range(2)]
        for each in silent:
            each.connect(str(tmp_path / "r1.sock"))
        await settle()
        error = await answer(run, connect(str(tmp_path / "r1.sock"), Kind.ASKER))
        assert error.kind == "full"
        await asyncio.sleep(server.HELLO_TIMEOUT + server.LAST_WRITES)
        assert isinstance(await answer(run, connect(str(tmp_path / "r1.sock"), Kind.ASKER)), protocol.Welcome)
        for connection in clients:
            connection.close()
        for each in silent:
            each.close()

    play(main)


def test_connection_without_a_hello_ends(play: Play, tmp_path: Path) -> None:
    async def main(run: FakeRun) -> None:
        run.door.listen(listener_at(tmp_path / "r1.sock"))
        silent = socket.socket(socket.AF_UNIX)
        silent.connect(str(tmp_path / "r1.sock"))
        adopted = await run.connect(Kind.DASHBOARD)
        await asyncio.sleep(2 * server.HELLO_TIMEOUT)
        refusal = protocol.Refused("protocol", "no message came in time")
        assert silent.recv(1_000) == protocol.message_frame(refusal)
        assert silent.recv(1_000) == b""
        silent.close()
        adopted.close()

    play(main)


def test_dashboard_that_was_forked_may_take_its_time(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        ours, theirs = socket.socketpair()
        await run.server.adopt(theirs, Kind.DASHBOARD)
        assert run.server.viewers == 1
        await asyncio.sleep(10 * server.HELLO_TIMEOUT)
        viewer = Viewer(Connection(ours, Kind.DASHBOARD))
        await settle()
        assert viewer.of(protocol.Welcome)
        viewer.client.close()
        await settle()
        assert run.server.viewers == 0

    play(main)


def test_lack_of_descriptors_delays_clients_and_costs_nothing(monkeypatch: Any, play: Play, tmp_path: Path) -> None:
    async def main(run: FakeRun) -> None:
        listener = listener_at(tmp_path / "r1.sock")
        calls = 0

        def fail(_self: socket.socket) -> Any:
            nonlocal calls
            calls += 1
            raise OSError(errno.EMFILE, "too many open files")

        run.door.listen(listener)
        with monkeypatch.context() as patch:
            patch.setattr(socket.socket, "accept", fail)
            connection = connect(str(tmp_path / "r1.sock"), Kind.ASKER)
            await asyncio.sleep(10.0)
        assert 10 <= calls <= 11
        await asyncio.sleep(door.ACCEPT_AGAIN)
        assert isinstance(await answer(run, connection), protocol.Welcome)

    play(main)


# -- the end


def test_close_waits_until_clients_have_all(monkeypatch: Any, play: Play) -> None:
    monkeypatch.setattr(CountingSnapshot, "SIZE", 200_000)

    async def main(run: FakeRun) -> None:
        run.server.open(PLAN)
        run.emit(1)
        viewer = await run.join()
        silent, theirs = socket.socketpair()
        await run.server.adopt(theirs, Kind.DASHBOARD)
        await settle(3)
        run.emit(1)
        run.server.end(ENDED)
        loop = asyncio.get_running_loop()
        start = loop.time()
        closing = loop.create_task(run.server.close())
        while not closing.done():
            viewer.read()
            await asyncio.sleep(0.001)
        assert loop.time() - start < server.LAST_WRITES / 2
        viewer.read()
        assert viewer.seen == run.fleet.seen == 2
        assert viewer.client.ended == ENDED
        assert viewer.lost is not None
        silent.close()

    play(main)


def test_close_ends_in_time_although_a_client_does_not_read(monkeypatch: Any, play: Play) -> None:
    monkeypatch.setattr(CountingSnapshot, "SIZE", 200_000)

    async def main(run: FakeRun) -> None:
        stalled = await run.connect(Kind.VIEWER)
        await settle()
        await flood(run, 20)
        in_snapshot = await run.connect(Kind.VIEWER)
        await settle()
        run.server.end(ENDED)
        start = asyncio.get_running_loop().time()
        await run.server.close()
        assert asyncio.get_running_loop().time() - start == pytest.approx(server.LAST_WRITES)
        await settle()
        assert run.server.clients == 0
        stalled.close()
        in_snapshot.close()

    play(main)


# -- other bytes


@pytest.mark.parametrize("name", HOSTILE)
def test_client_that_sends_other_bytes_is_refused_and_others_go_on(play: Play, name: str) -> None:
    async def main(run: FakeRun) -> None:
        run.server.open(PLAN)
        other, hostile = await run.join(), await run.connect(Kind.VIEWER)
        await settle()
        hostile.socket.send(HOSTILE[name][:100_000])
        for start in range(100_000, len(HOSTILE[name]), 100_000):
            await settle()
            hostile.socket.send(HOSTILE[name][start : start + 100_000])
        await settle()
        run.emit(1)
        with pytest.raises(ConnectionRefusedByRunError) as caught:
            [*iter(partial(hostile.receive, 0.0), None)]
        assert caught.value.kind == "protocol"
        assert 3 < len(str(caught.value)) < 200
        await settle()
        assert run.server.clients == 1
        assert run.commands == []
        await other.catch_up(run)

    play(main)


@pytest.mark.parametrize("name", HOSTILE)
def test_first_bytes_that_are_no_hello_are_refused(play: Play, name: str) -> None:
    async def main(run: FakeRun) -> None:
        ours, theirs = socket.socketpair()
        await run.server.adopt(theirs, Kind.VIEWER)
        with suppress(BrokenPipeError):
            ours.setblocking(False)
            ours.send(HOSTILE[name])
        await settle()
        refused = [*protocol.FrameReader(1_000, is_run=True).feed(ours.recv(1_000))]
        if name == "second hello":
            assert isinstance(refused[0], protocol.Welcome)
        else:
            assert isinstance(refused[0], protocol.Refused)
            assert run.server.clients == run.server.viewers == 0
        ours.close()

    play(main)


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (protocol.Hello(protocol.PROTOCOL + 1, "9.0", "hologram"), f"the run is of asyncwatch {__version__}, which"),
        (protocol.Hello(0, "0.1", "viewer"), "which does not understand asyncwatch 0.1"),
        (protocol.Hello(protocol.PROTOCOL, "1.0", "hologram"), "unknown kind"),
        (protocol.Hello(protocol.PROTOCOL, "1.0", "command"), "one command"),
    ],
)
def test_hello_of_another_version_gets_a_clear_answer(
    monkeypatch: Any, play: Play, tmp_path: Path, hello: protocol.Hello, reason: str
) -> None:
    async def main(run: FakeRun) -> None:
        run.door.listen(listener_at(tmp_path / "r1.sock"))
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(str(tmp_path / "r1.sock"))
        monkeypatch.setattr(protocol, "Hello", lambda *_args: hello)
        connection = Connection(ours, Kind.VIEWER)
        monkeypatch.undo()
        error = await answer(run, connection)
        assert isinstance(error, ConnectionRefusedByRunError)
        assert error.kind == "protocol"
        assert reason in str(error)
        assert run.server.clients == run.server.viewers == 0

    play(main)


def test_refused_client_that_does_not_read_is_forgotten(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        stalled = await run.connect(Kind.VIEWER)
        await settle()
        await flood(run, 10)
        stalled.socket.send(HOSTILE["garbage"])
        await asyncio.sleep(2 * server.LAST_WRITES)
        assert run.server.clients == run.server.viewers == 0

    play(main)
