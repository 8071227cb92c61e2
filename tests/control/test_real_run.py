"""Clients of an engine that runs: each ends with the state that the engine's process has."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

import pytest

from asyncwatch.commands import CancelWorker, Disconnected, RestartWorker, SnapshotPart, StopRun, WatchStack
from asyncwatch.control import protocol, server
from asyncwatch.control.client import Connection, RunClient
from asyncwatch.control.protocol import Kind
from asyncwatch.control.server import ControlServer
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.snapshot import SnapshotReader
from asyncwatch.model.summary import summarize
from tests.control.runs import ENDED, PLAN
from tests.engine.engines import engine_of
from tests.engine.fleets import raiser, sleeper, worker
from tests.ui.fakes import until

FOREVER = 1e6


async def follow(client: RunClient, fleets: list[Fleet]) -> Fleet:
    """Fold all updates, and return the last state."""
    queue, reader, fleet = client.events(), SnapshotReader(), Fleet()
    fleets.append(fleet)
    while not isinstance(update := await queue.get(), Disconnected):
        if isinstance(update, SnapshotPart):
            fleet = fleets[-1] = reader.read(update)
        elif isinstance(update, tuple):
            apply(fleet, update)
    client.close()
    return fleet


@pytest.mark.parametrize("room", [1 << 17, 2_000])
async def test_clients_that_join_at_any_time_end_with_the_same_state(
    monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(server, "_ROOM", room)
    specs = [
        worker(f"w{n}", *(raiser, OSError(n)) if n % 100 == 0 else (sleeper, n % 10 / 1e4, n)) for n in range(2_000)
    ]
    engine = engine_of(*specs, worker("last", sleeper, FOREVER), stays_open=True, concurrency=20)
    fleet = Fleet()
    run = server.Run(
        "r1", "demo", os.getpid(), fleet, lambda commands: engine.send(*commands), engine.send_then, engine.statistics
    )
    control = ControlServer(run)
    control.open(PLAN)

    async def join(kind: Kind = Kind.VIEWER) -> RunClient:
        ours, theirs = socket.socketpair()
        await control.adopt(theirs, kind)
        return RunClient(Connection(ours, kind), answers.append)

    answers: list[Any] = []
    fleets: list[Fleet] = []
    followers: list[asyncio.Task[Fleet]] = []
    first = await join()
    followers.append(asyncio.create_task(follow(first, fleets)))
    queue = engine.events()

    async def serve() -> None:
        while fleet.finished is None:
            batch = await queue.get()
            control.take(batch)
            apply(fleet, batch)
            if len(followers) < 8:
                followers.append(asyncio.create_task(follow(await join(), fleets)))

    engine.start()
    async with asyncio.timeout(50):
        serving = asyncio.create_task(serve())
        await until(lambda: fleet.settled == 2_000)
        first.send(WatchStack("last"), RestartWorker("w1", 1), CancelWorker("last", 9))
        first.send_message(protocol.Commands((), 7))
        await until(lambda: protocol.Carried(7) in answers)
        assert [refusal.incarnation for refusal in fleets[0].refusals] == [9]
        followers.append(asyncio.create_task(follow(await join(Kind.FOLLOWER), fleets)))
        first.send(StopRun())
        await serving
        control.end(ENDED)
        await control.close()
        states = [await follower for follower in followers]
    assert engine.join(10)
    assert len(states) > 5
    for state in states:
        assert state.last_seq == fleet.last_seq
        assert summarize(state) == summarize(fleet)
        assert [(row.name, row.state, row.incarnation) for row in state.rows] == [
            (row.name, row.state, row.incarnation) for row in fleet.rows
        ]
