"""The server of a run: what clients get, in which order, whatever other clients do."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from asyncwatch.commands import (
    CancelAll,
    RetryAllNow,
    SnapshotPart,
    StackFrame,
    Statistics,
    StopRun,
    WatchStack,
    WorkerStack,
)
from asyncwatch.control import client as client_module
from asyncwatch.control import protocol, server
from asyncwatch.control.client import Connection
from asyncwatch.control.protocol import Kind
from asyncwatch.events import LogRecorded
from asyncwatch.testing import wait_until
from tests.control.conftest import Play
from tests.control.runs import ENDED, PLAN, CountingSnapshot, FakeRun, Viewer, settle


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(seed=st.integers(0, 1 << 32), backlog=st.sampled_from([3_000, 20_000, 1 << 20]), parts=st.integers(1, 30))
def test_every_client_gets_a_snapshot_and_then_every_event_once(
    monkeypatch: Any, play: Play, seed: int, backlog: int, parts: int
) -> None:
    random = Random(seed)
    monkeypatch.setattr(server, "BACKLOG", backlog)
    monkeypatch.setattr(server, "SHARED_SIZE", backlog // 4)
    monkeypatch.setattr(server, "_ROOM", 400)
    monkeypatch.setattr(client_module, "ENOUGH", 4)
    monkeypatch.setattr(client_module, "_READ", 2_000)
    monkeypatch.setattr(CountingSnapshot, "PARTS", parts)
    monkeypatch.setattr(CountingSnapshot, "SIZE", 2_000)

    async def main(run: FakeRun) -> None:
        run.is_narrow = True
        run.server.open(PLAN)
        viewers: list[Viewer] = []
        for _ in range(100):
            viewer = random.choice(viewers) if viewers else None
            match random.randrange(8), viewer:
                case ((0 | 1), _) if len(viewers) < 5:
                    viewers.append(await run.join(random.choice([Kind.VIEWER, Kind.FOLLOWER, Kind.DASHBOARD])))
                case 2, Viewer():
                    viewer.read(random.randrange(30))
                case 3, Viewer() if random.random() < 0.2:
                    viewers.remove(viewer)
                    viewer.client.close()
                case 4, _:
                    await settle(random.randrange(6))
                case 5, _:
                    await asyncio.sleep(random.choice([0.1, 3.0]))
                case _:
                    run.emit(random.randrange(1, 20), "x" * random.choice([1, 1_000]))
        run.emit(1)
        run.server.end(ENDED)
        async with asyncio.timeout(1_000):
            while any(viewer.seen < run.fleet.seen or not viewer.of(protocol.Ended) for viewer in viewers):
                for viewer in viewers:
                    viewer.read()
                await asyncio.sleep(0.01)
        await settle()
        assert run.server.clients == len(viewers)
        for viewer in viewers:
            assert viewer.lost is None
            viewer.client.close()
        await settle()
        assert run.server.clients == 0

    play(main)


# -- what each kind of client gets


@pytest.mark.parametrize(
    ("kind", "early", "late"),
    [
        (Kind.COMMAND, "Welcome PlanMade Ended", "Welcome PlanMade Ended"),
        (Kind.DASHBOARD, "Welcome PlanMade events Figures events Ended", "Welcome PlanMade snapshot events Ended"),
        (Kind.VIEWER, "Welcome PlanMade events Figures events Ended", "Welcome PlanMade snapshot events Ended"),
        (Kind.FOLLOWER, "Welcome PlanMade events Figures events Ended", "Welcome PlanMade snapshot events Ended"),
        (Kind.ASKER, "Welcome Ended", "Welcome Ended"),
    ],
)
def test_kind_of_a_client_decides_what_it_gets(play: Play, kind: Kind, early: str, late: str) -> None:
    async def main(run: FakeRun) -> list[str]:
        first = await run.connect(kind)
        await settle()
        run.server.open(PLAN)
        run.emit(2)
        await asyncio.sleep(1.0)
        second = await run.connect(kind)
        await settle()
        run.emit(3)
        run.server.end(ENDED)
        await settle()
        return [story(first), story(second)]

    assert play(main) == [early, late]


def story(connection: Connection) -> str:
    """Return what has come on a connection, in order."""
    words = []
    while (received := connection.receive(0.0)) is not None:
        match received:
            case SnapshotPart():
                words += ["snapshot"] * received.is_last
            case tuple():
                words.append("events")
            case _:
                words.append(type(received).__name__)
    connection.close()
    return " ".join(words)


def test_plan_has_the_foreseen_events_until_the_run_begins(play: Play) -> None:
    foreseen = (LogRecorded(0, 0.0, None, "INFO", "test", "foreseen"),)

    async def main(run: FakeRun) -> list[Any]:
        run.server.open(protocol.PlanMade("r1", ("a note",), foreseen))
        command, early = await run.join(Kind.COMMAND), await run.join()
        await settle()
        run.emit(1)
        late = await run.join()
        await settle()
        return [viewer.of(protocol.PlanMade)[0] for viewer in (command, early, late)]

    short = protocol.PlanMade("r1", ("a note",), ())
    assert play(main) == [short, protocol.PlanMade("r1", ("a note",), foreseen), short]


def test_command_that_follows_gets_what_a_follower_gets(play: Play) -> None:
    async def main(run: FakeRun) -> list[str]:
        early, late = await run.connect(Kind.COMMAND), await run.connect(Kind.COMMAND)
        viewer = await run.connect(Kind.VIEWER)
        early.send(protocol.Follow())
        early.send(protocol.Follow())
        await settle()
        run.server.open(PLAN)
        run.emit(2)
        late.send(protocol.Follow())
        viewer.send(protocol.Follow())
        await settle()
        run.emit(1)
        await settle()
        return [story(early), story(late), story(viewer)]

    assert play(main) == [
        "Welcome PlanMade events events",
        "Welcome PlanMade snapshot events",
        "Welcome PlanMade events events",
    ]


def test_problem_goes_to_clients_that_follow(play: Play) -> None:
    async def main(run: FakeRun) -> list[Any]:
        viewers = [await run.join(kind) for kind in (Kind.COMMAND, Kind.DASHBOARD, Kind.FOLLOWER)]
        await settle()
        run.server.report("the disk is full")
        await settle()
        for viewer in viewers:
            viewer.read()
        return [viewer.problems for viewer in viewers]

    assert play(main) == [[], ["the disk is full"], ["the disk is full"]]


# -- commands


def test_commands_are_passed_on_in_order_and_answered_after_their_events(play: Play) -> None:
    async def main(run: FakeRun) -> tuple[list[Any], list[str]]:
        run.emit(1)
        client = await run.connect(Kind.FOLLOWER)
        await settle()
        client.send_commands((RetryAllNow(), CancelAll()), 7)
        client.send_commands((), 8)
        await settle()
        stories = [story_of(client)]
        run.callbacks[0](3)
        run.callbacks[1](3)
        await settle()
        stories.append(story_of(client))
        run.emit(1)
        run.emit(1)
        await settle()
        stories.append(story_of(client))
        client.close()
        return run.commands, stories

    commands, stories = play(main)
    assert commands == [RetryAllNow(), CancelAll()]
    assert stories == ["Welcome snapshot", "", "events events Carried Carried"]


def story_of(connection: Connection) -> str:
    """Return what has come, and leave the connection open."""
    copy = Connection.__new__(Connection)
    copy.__dict__ = connection.__dict__ | {"close": lambda: None}
    return story(copy)


def test_answer_waits_for_the_snapshot_that_stands_for_its_events(play: Play) -> None:
    async def main(run: FakeRun) -> list[str]:
        run.emit(1)
        client = await run.connect(Kind.FOLLOWER)
        client.send_commands((CancelAll(),), 7)
        await wait_until(lambda: run.callbacks)
        run.emit(1)
        run.callbacks[0](2)
        await settle()
        return [story(client)]

    assert play(main) == ["Welcome snapshot events Carried"]


def test_commands_at_and_after_the_end_are_answered(play: Play) -> None:
    async def main(run: FakeRun) -> tuple[str, int]:
        client = await run.connect(Kind.ASKER)
        client.send_commands((CancelAll(),), 7)
        await settle()
        run.callbacks[0](99)
        run.server.end(ENDED)
        client.send_commands((CancelAll(),), 8)
        await settle()
        return story(client), len(run.commands)

    assert play(main) == ("Welcome Carried Ended Carried", 1)


def test_answer_for_a_client_that_has_gone_is_dropped(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        client = await run.connect(Kind.ASKER)
        client.send_commands((CancelAll(),), 7)
        await settle()
        client.close()
        await settle()
        run.callbacks[0](0)
        await settle()
        assert run.server.clients == 0

    play(main)


def test_read_only_client_cannot_act(play: Play) -> None:
    async def main(run: FakeRun) -> tuple[list[Any], str]:
        client = await run.connect(Kind.VIEWER, is_read_only=True)
        client.send_commands((StopRun(), WatchStack("a"), CancelAll()), 7)
        for message in (protocol.Detach(), protocol.HangUp(), protocol.Follow(), protocol.Ask()):
            client.send(message)
        await settle()
        run.callbacks[0](0)
        await settle()
        assert not run.server.is_stopping
        assert not run.server.is_detached
        return [*run.commands], story(client)

    assert play(main) == ([WatchStack("a")], "Welcome RunInfo Carried")


def test_stop_is_noted(play: Play) -> None:
    async def main(run: FakeRun) -> bool:
        client = await run.connect(Kind.ASKER)
        client.send_commands((StopRun(),), 0)
        await settle()
        client.send(protocol.Ask())
        await settle()
        info = [received for received in drain(client) if isinstance(received, protocol.RunInfo)]
        client.close()
        return run.commands == [StopRun()] and info[0].is_stopping

    assert play(main)


def drain(connection: Connection) -> list[Any]:
    """Return what has come."""
    received = []
    while (message := connection.receive(0.0)) is not None:
        received.append(message)
    return received


@pytest.mark.parametrize(("kind", "detaches"), [(kind, kind in (Kind.COMMAND, Kind.DASHBOARD)) for kind in Kind])
def test_command_and_its_dashboard_detach_the_run(play: Play, kind: Kind, detaches: bool) -> None:
    changes: list[None] = []

    async def main(run: FakeRun) -> None:
        command, client = await run.join(Kind.COMMAND), await run.join(kind)
        await settle()
        changes.clear()
        client.client.detach()
        await settle()
        assert run.server.is_detached == bool(changes) == bool(command.of(protocol.Detached)) == detaches
        assert run.server.has_owner
        command.client.close()
        await settle()
        assert run.server.has_owner == (kind is Kind.COMMAND)

    play(main, on_change=lambda: changes.append(None))


@pytest.mark.parametrize("kind", Kind)
def test_only_the_command_tells_that_the_terminal_has_gone(play: Play, kind: Kind) -> None:
    calls: list[None] = []

    async def main(run: FakeRun) -> int:
        client = await run.join(kind)
        client.client.send_message(protocol.HangUp())
        await settle()
        return len(calls)

    assert play(main, on_hang_up=lambda: calls.append(None)) == (kind is Kind.COMMAND)


def test_last_words_of_a_client_count_although_writing_to_it_fails(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        client = await run.connect(Kind.DASHBOARD)
        await settle()
        client.send(protocol.Detach())
        client.close()
        run.emit(1)
        await settle()
        assert run.server.is_detached
        assert run.server.viewers == 0

    play(main)


# -- figures and stacks


def test_figures_come_when_they_changed_and_at_most_four_times_a_second(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        def figures(connection: Connection) -> list[Statistics]:
            return [message.statistics for message in drain(connection) if isinstance(message, protocol.Figures)]

        first = await run.connect(Kind.VIEWER)
        await asyncio.sleep(10.0)
        assert figures(first) == [Statistics(viewers=1)]
        second = await run.connect(Kind.VIEWER)
        follower = await run.connect(Kind.FOLLOWER)
        await asyncio.sleep(10.0)
        assert figures(first) == figures(second) == figures(follower) == [Statistics(viewers=2)]
        second.close()
        await settle()
        seen = []
        for number in range(1_000):
            run.known = Statistics(events=number)
            await asyncio.sleep(0.01)
            seen += figures(first)
        assert 38 <= len(seen) <= 41
        assert {each.viewers for each in seen} == {1}

    play(main)


def test_lag_alone_is_reported_once_a_second_and_attempts_soon(play: Play) -> None:
    async def main(run: FakeRun) -> None:
        client = await run.connect(Kind.VIEWER)
        await settle()
        run.known, lags = Statistics(), []
        for number in range(1_000):
            run.known = msgspec.structs.replace(run.known, loop_lag=number / 1_000)
            await asyncio.sleep(0.01)
            lags += [message for message in drain(client) if isinstance(message, protocol.Figures)]
        assert 9 <= len(lags) <= 11
        run.known = msgspec.structs.replace(run.known, in_flight=1)
        await asyncio.sleep(0.26)
        (figures,) = [message for message in drain(client) if isinstance(message, protocol.Figures)]
        assert figures.statistics.in_flight == 1

    play(main)


def test_figures_are_asked_for_only_while_a_client_follows(monkeypatch: Any, play: Play) -> None:
    async def main(run: FakeRun) -> None:
        run.server.open(PLAN)
        await run.join(Kind.COMMAND)
        viewer = await run.join()
        await asyncio.sleep(1.0)
        viewer.client.close()
        await settle()
        monkeypatch.setattr(run.server, "run", None)
        await asyncio.sleep(10.0)

    play(main)


def test_clients_that_watch_stacks_take_turns(play: Play) -> None:
    """The engine follows one worker at a time."""

    async def main(run: FakeRun) -> None:
        first, second, third = [await run.join() for _ in range(3)]
        await settle()

        async def follow(seconds: float) -> None:
            for _ in range(int(seconds * 10)):
                watched = next((each.worker for each in reversed(run.commands) if isinstance(each, WatchStack)), None)
                frames = (StackFrame("f", len(run.commands), "g"),)
                run.known = Statistics(stack=None if watched is None else WorkerStack(watched, 1, 1, frames))
                await asyncio.sleep(0.1)

        def shown() -> list[str | None]:
            stacks = [viewer.client.statistics().stack for viewer in (first, second, third)]
            return [None if stack is None else stack.worker for stack in stacks]

        first.client.send(WatchStack("a"))
        await follow(1.0)
        assert shown() == ["a", None, None]
        assert run.commands == [WatchStack("a")]
        second.client.send(WatchStack("b"))
        await follow(2.0)
        assert shown() == ["a", "b", None]
        before = len(run.commands)
        await follow(2.0)
        assert len(run.commands) - before in (7, 8, 9)
        first.client.close()
        await follow(1.0)
        assert shown()[1:] == ["b", None]
        second.client.send(WatchStack(None))
        await follow(1.0)
        assert shown()[1:] == [None, None]
        assert run.commands[-1] == WatchStack(None)

    play(main)
