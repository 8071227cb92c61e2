"""The tree in the table: what is shown of it, folding, and what a request for a group or a sibling means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from asyncwatch.commands import CancelWorker, GiveUp, GiveUpAll, RestartWorker, RetryAllNow, RetryNow
from asyncwatch.events import SupervisorTerminated
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.screens.confirm import ConfirmScreen
from tests.ui.fakes import FakeController, hides, make_app, shows, text_of, until
from tests.ui.trees import tree_run

Running = tuple[AsyncwatchApp, FakeController, Pilot[None]]


@asynccontextmanager
async def running(size: tuple[int, int] = (120, 30)) -> AsyncIterator[Running]:
    """Run the dashboard over the tree."""
    controller = FakeController()
    tree_run(controller)
    app = make_app(controller)
    async with app.run_test(size=size, notifications=True) as pilot:
        await shows(app, "› ▾ root")
        await pilot.pause()
        yield app, controller, pilot


def table(app: AsyncwatchApp) -> Any:
    """Return the table of the main screen."""
    return app.screen_stack[0].query_one("FleetTable")


async def go_to(app: AsyncwatchApp, name: str) -> None:
    """Put the cursor on a worker, or on a branch."""
    fleet = app.scene.fleet
    table(app).select(fleet.get(name) or fleet.tree.branches[name])
    await shows(app, "›")


@pytest.mark.parametrize("size", [(120, 30), (80, 24)])
async def test_branches_tell_strategy_counts_and_gauge(size: tuple[int, int]) -> None:
    """A line for each supervisor says who is in which state, and what is left of its restarts."""
    expiry = "1 of 3 left, oldest expires in 25.0 s" if size[0] == 120 else "1 of 3 left · 25.0 s"
    async with running(size) as (app, _, _):
        await shows(app, "▾ stream  one_for_all  ● 3 running", "3 of 3 left")
        await shows(app, "▾ ingest  rest_for_one  ↺ 1 restarting  ● 2 running", expiry)


async def test_rows_tell_what_a_worker_waits_for() -> None:
    """A restart is counted down, a poller says when it is called next, a held worker by whom, a late one that."""
    async with running((160, 30)) as (app, _, _):
        await shows(app, "↺ restarting 3.5s", "next call in 24.0 s", "circuit open 4.6s (example.org)", "not ready yet")
        await shows(app, "↻ backing off 1.5s", "ConnectionResetError: the stream closed")


async def test_a_supervisor_that_ended_says_why() -> None:
    """The gauge gives way to the reason."""
    async with running() as (app, controller, _):
        controller.tell(SupervisorTerminated, 10.0, name="root/urls", reason="KeyError: 'x'")
        await shows(app, "ended: KeyError: 'x'")


async def test_groups_fold_and_the_cursor_stays_in_sight() -> None:
    """Left folds, and from a worker goes to its group; enter and right unfold; a folded group keeps its counts."""
    async with running() as (app, _, pilot):
        await go_to(app, "stream/cache")
        await pilot.press("left")
        await shows(app, "›   ▾ stream")
        await pilot.press("left")
        await shows(app, "›   ▸ stream  one_for_all  ● 3 running")
        assert "cache" not in text_of(app)
        await pilot.press("j")
        await shows(app, "›   ▾ ingest")
        await pilot.press("k", "enter")
        await shows(app, "›   ▾ stream", "cache")
        await pilot.press("left", "left")
        await shows(app, "› ▾ root")
        await pilot.press("left")
        await hides(app, "ingest")
        await pilot.press("right")
        await shows(app, "ingest", "▸ stream")


async def test_a_filter_keeps_the_branches_that_match() -> None:
    """Groups without a match are not shown, and the sort order holds within groups."""
    async with running() as (app, _, pilot):
        await pilot.press("slash", *"writer", "enter")
        await shows(app, "▾ root", "▾ ingest", "writer", "1 of 10")
        assert "stream" not in text_of(app)


async def test_siblings_are_highlighted_before_a_restart_takes_them_along() -> None:
    """The question names them, they stand out in the table behind it, and a yes asks for the one worker only."""
    async with running() as (app, controller, pilot):
        await go_to(app, "stream/cache")
        await pilot.press("r")
        await shows(
            app, "Restart stream/cache?", "2 siblings restarted with it (one_for_all): stream/db and stream/api."
        )
        lines = text_of(app).splitlines()
        assert [line.split()[1] for line in lines if line.startswith("  ↺")] == ["db", "api"]
        assert controller.sent == []
        await pilot.press("r")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("stream/cache", 1)]
        await until(lambda: not any(line.startswith("  ↺") for line in text_of(app).splitlines()))


async def test_only_later_siblings_of_rest_for_one_go_along() -> None:
    """The last one takes nobody along, and so is restarted without a question."""
    async with running() as (app, controller, pilot):
        await go_to(app, "ingest/reader")
        await pilot.press("r")
        await shows(app, "ingest/parser and ingest/writer.")
        await pilot.press("escape")
        await go_to(app, "ingest/writer")
        await pilot.press("r")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("ingest/writer", 1)]


@pytest.mark.parametrize(
    ("branch", "key", "question", "commands"),
    [
        ("root/urls", "c", "Cancel 3 workers of urls?", [CancelWorker(f"urls/{name}", 1) for name in "abc"]),
        ("root/urls", "r", "Restart 3 workers of urls?", [RestartWorker(f"urls/{name}", 1) for name in "abc"]),
        ("root/stream", "r", "Restart 3 workers of stream?", [RestartWorker("stream/db", 1)]),
        ("root/urls", "n", "Try 2 workers of urls?", [RetryNow("urls/a", 1), RetryNow("urls/b", 1)]),
    ],
)
async def test_a_group_is_acted_on_after_a_question(branch: str, key: str, question: str, commands: list[Any]) -> None:
    """It says how many workers; of siblings that go together only one has to be asked."""
    async with running() as (app, controller, pilot):
        await go_to(app, branch)
        await pilot.press(key)
        await shows(app, question)
        assert controller.sent == []
        await pilot.press("y")
        await until(lambda: controller.sent)
        assert controller.sent == commands


@pytest.mark.parametrize(
    ("name", "key", "command"),
    [
        ("urls/a", "n", RetryNow("urls/a", 1)),
        ("urls/b", "x", GiveUp("urls/b", 1)),
        ("ingest/parser", "n", RestartWorker("ingest/parser", 1)),
        ("ingest/parser", "x", CancelWorker("ingest/parser", 1)),
    ],
)
@pytest.mark.parametrize("is_open", [False, True], ids=["fleet", "details"])
async def test_a_worker_that_waits_goes_on_or_gives_up(name: str, key: str, command: Any, is_open: bool) -> None:
    """`n` and `x` ask for its attempt, or for its next incarnation if that is what it waits for."""
    async with running() as (app, controller, pilot):
        await go_to(app, name)
        if is_open:
            await pilot.press("enter")
            await shows(app, "ATTEMPTS")
        await pilot.press(key)
        await until(lambda: controller.sent)
        assert controller.sent == [command]


async def test_a_worker_that_does_not_wait_cannot_go_on() -> None:
    """Nothing is sent, and a note says why."""
    async with running() as (app, controller, pilot):
        await go_to(app, "prices")
        await pilot.press("n")
        await shows(app, "It does not wait")
        assert controller.sent == []


@pytest.mark.parametrize(
    ("key", "question", "commands"),
    [
        ("N", "Try all 3 workers that wait now?", [RetryAllNow(), RestartWorker("ingest/parser", 1)]),
        ("X", "Give up all 3 workers that wait?", [GiveUpAll(), CancelWorker("ingest/parser", 1)]),
    ],
)
async def test_all_that_wait_are_acted_on_after_a_question(key: str, question: str, commands: list[Any]) -> None:
    """The question has their number; the same key again says yes."""
    async with running() as (app, controller, pilot):
        await pilot.press(key)
        await shows(app, question)
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press(key)
        await until(lambda: controller.sent)
        assert controller.sent == commands


async def test_restart_all_takes_siblings_along_too() -> None:
    """`R` in a tree says who goes along, and asks for the workers that did not succeed."""
    async with running() as (app, controller, pilot):
        controller.break_down("stream/api", 10.0)
        await shows(app, "✗ failed")
        await pilot.press("R")
        await shows(app, "Restart 1 worker that did not succeed?", "2 siblings restarted with it (one_for_all)")
        await pilot.press("y")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("stream/api", 1)]


async def test_space_on_a_group_marks_its_workers() -> None:
    """All below are marked, and unmarked by the same key."""
    async with running() as (app, _, pilot):
        await go_to(app, "root/urls")
        await pilot.press("space")
        assert app.scene.view.marks == {"urls/a", "urls/b", "urls/c"}
        await pilot.press("space")
        assert app.scene.view.marks == set()


async def test_details_tell_of_supervision_waits_and_restarts() -> None:
    """Strategy, restarts left, readiness; when it was held or restarted, and why."""
    async with running() as (app, _, pilot):
        await go_to(app, "ingest/parser")
        await pilot.press("enter")
        await shows(app, "strategy rest_for_one", "1 of 3 left", "next incarnation in 3.5 s", "WAITS AND RESTARTS")
        await shows(app, "restart in 4.50 s: ConnectionResetError: the stream closed")
        await pilot.press("escape")
        await go_to(app, "urls/b")
        await pilot.press("enter")
        await shows(app, "held by circuit open 4.6s (example.org)", "attempt 2 held by the circuit of example.org")
        await pilot.press("left")
        await shows(app, "worker urls/a")
