"""The tree in the table: what is shown of it, folding, and what a request for a group or a sibling means."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from textual.app import App
from textual.pilot import Pilot

from asyncwatch.cli.progress import progress_line
from asyncwatch.commands import (
    CancelBranch,
    CancelWorker,
    GiveUp,
    GiveUpAll,
    RestartBranch,
    RestartWorker,
    RetryAllNow,
    RetryNow,
)
from asyncwatch.events import (
    ChildRemoved,
    PollFailed,
    RestartCounted,
    RestartLimitReached,
    RestartScheduled,
    SettingChanged,
    SupervisorTerminated,
    WorkerReady,
    WorkersQueued,
)
from asyncwatch.model.summary import summarize
from asyncwatch.ui import actions as asks
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.screens.confirm import ConfirmScreen
from tests.ui.fakes import FakeController, hides, make_app, shows, text_of, until
from tests.ui.trees import service_run, supervise, tree_run

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
    is_wide = size[0] == 120
    all_counts = "↺ 1 restarting  ↻ 1 backing off  ◌ 1 waiting  ● 7 running" if is_wide else "↺1 ↻1 ◌1 ●7"
    expiry = "1 of 3 left, oldest expires in 25 s" if is_wide else "1 of 3 left · 25 s"
    async with running(size) as (app, _, _):
        await shows(app, "▾ stream  one_for_all  ● 3 running", "3 of 3 left")
        await shows(app, "▾ ingest  rest_for_one  ↺ 1 restarting  ● 2 running", expiry)
        await shows(app, f"▾ root  one_for_one  {all_counts}")


async def test_rows_tell_what_a_worker_waits_for() -> None:
    """A restart is counted down, a poller says when it is called next, a held worker by whom, a late one that."""
    async with running((160, 30)) as (app, _, _):
        await shows(
            app, "↺ restarting 3.5s", "next call in 24 s, 1 done", "circuit open 4.6s (example.org)", "not ready yet"
        )
        await shows(app, "↻ backing off 1.5s", "ConnectionResetError: the stream closed")


async def test_a_poller_whose_polls_fail_says_so() -> None:
    """The mark is in its row, on its page and among the errors, the filter shows it, and n polls now."""
    facts = {"worker": "prices", "incarnation": 1, "elapsed": 0.1, "delay": 30.0}
    async with running((160, 30)) as (app, controller, pilot):
        controller.tell(PollFailed, 10.0, error_type="OSError", error="gone", failures=1, **facts)
        await shows(app, "failing: 1 poll failed: OSError: gone", "next call in 3")
        controller.tell(PollFailed, 10.1, error_type="OSError", error="gone", failures=2, **facts)
        await shows(app, "failing: 2 polls in a row failed: OSError: gone")
        await pilot.press("f")
        await hides(app, "stream/db")
        await go_to(app, "prices")
        await pilot.press("n")
        await until(lambda: controller.sent[-1:] == [RetryNow("prices", 1)])
        await pilot.press("x")
        await shows(app, asks.NOBODY_WAITS)
        await pilot.press("enter")
        await shows(app, "polls failed in a row 2", "OSError: gone")
        await pilot.press("n")
        await until(lambda: controller.sent[-1:] == [RetryNow("prices", 1)] and len(controller.sent) > 1)
        await pilot.press("escape", "E")
        await shows(app, "OSError: gone")


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


def taken_along(app: App[Any]) -> list[str]:
    """Return the names in the lines that are marked as restarted with another."""
    return [line.split()[1] for line in text_of(app).splitlines() if line.startswith("  ↺")]


async def test_siblings_are_highlighted_before_a_restart_takes_them_along() -> None:
    """The question names them, they stand out in the table behind it, and a yes asks for the one worker only."""
    async with running() as (app, controller, pilot):
        await go_to(app, "stream/cache")
        await pilot.press("r")
        await shows(
            app, "Restart stream/cache?", "2 siblings restarted with it (one_for_all): stream/db and stream/api."
        )
        await until(lambda: taken_along(app) == ["db", "api"])
        assert controller.sent == []
        await pilot.press("r")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("stream/cache", 1)]
        await until(lambda: not taken_along(app))


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
        ("root/urls", "c", "Stop urls and its 3 active workers?", [CancelBranch("root/urls", 1)]),
        ("root/urls", "r", "Restart urls and its 3 workers?", [RestartBranch("root/urls", 1)]),
        ("root/urls", "n", "Try 2 workers of urls?", [RetryNow("urls/a", 1), RetryNow("urls/b", 1)]),
    ],
)
async def test_a_group_is_acted_on_after_a_question(branch: str, key: str, question: str, commands: list[Any]) -> None:
    """It says how many workers; a supervisor is restarted or stopped as a whole, by one request."""
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
        await go_to(app, "stream/db")
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
        assert set(app.scene.view.marks) == {"urls/a", "urls/b", "urls/c"}
        await pilot.press("space")
        assert set(app.scene.view.marks) == set()


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
        await shows(app, "waits: circuit open 4.6s (example.org)", "attempt 2 waited: circuit of example.org")
        await pilot.press("left")
        await shows(app, "worker urls/a")


async def test_a_group_that_is_restarted_takes_its_siblings_along() -> None:
    """The strategy above counts: its later siblings are named and stand out, with all below the group itself."""
    async with running() as (app, controller, pilot):
        supervise(controller, "root", "rest_for_one")
        await go_to(app, "root/ingest")
        await pilot.press("r")
        await shows(app, "Restart ingest and its 3 workers?", "(rest_for_one): prices, urls/a, urls/b and urls/c.")
        await until(lambda: taken_along(app) == ["reader", "parser", "writer", "prices", "a", "b", "c"])
        supervise(controller, "root/ingest", "rest_for_one", incarnation=2)
        await until(lambda: app.scene.fleet.tree.branches["root/ingest"].incarnation == 2)
        await pilot.press("r")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartBranch("root/ingest", 2)]


async def test_what_cannot_be_restarted_is_not_asked_for() -> None:
    """`r` and `R` leave out workers whose supervisor has ended or forgotten them, and say so."""
    async with running() as (app, controller, pilot):
        for name in ("stream/api", "urls/c"):
            controller.break_down(name, 10.0)
        controller.tell(ChildRemoved, 10.0, supervisor="root/urls", child="c")
        await until(lambda: app.scene.fleet.tree.why_not_restarted(app.scene.fleet.rows[-1]))
        await pilot.press("R")
        await shows(app, "Restart 1 worker that did not succeed?", "1 worker cannot be restarted:", "forgotten by")
        await pilot.press("escape")
        await go_to(app, "urls/c")
        await pilot.press("r")
        await shows(app, "1 worker cannot be restarted: forgotten by the supervisor above.")
        controller.tell(SupervisorTerminated, 10.0, name="root/stream", reason="shutdown")
        await shows(app, "ended: shutdown")
        await pilot.press("R")
        await shows(app, "1 worker cannot be restarted: the supervisor above has ended.")
        assert controller.sent == []


async def test_nothing_of_a_tree_that_has_ended_is_offered() -> None:
    """After the root gave up no key in the footer asks for a restart, and `r` says why it asks for nothing."""
    async with running(size=(160, 30)) as (app, controller, pilot):
        assert {"c cancel", "r restart"} <= set(text_of(app).splitlines()[-1].strip().split("  "))
        for row in app.scene.fleet.rows:
            controller.break_down(row.name, 10.0)
        controller.tell(RestartLimitReached, 10.0, supervisor="root", restarts=3, within=30.0)
        for path in ("root/urls", "root/ingest", "root/stream", "root"):
            controller.tell(SupervisorTerminated, 10.0, name=path, reason="RestartLimitError: 4 in 30 s")
        await shows(app, "finished · the restart limit was reached")
        assert not {"c cancel", "r restart", "R restart all"} & set(text_of(app).splitlines()[-1].strip().split("  "))
        await pilot.press("g", "j", "j", "enter")
        await shows(app, "worker stream/db", "esc back")
        assert not {"c cancel", "r restart", "n try now"} & set(text_of(app).splitlines()[-1].strip().split("  "))
        await pilot.press("escape", "g", "r")
        await shows(app, "root cannot be restarted: the restart limit was reached.")
        await pilot.press("R")
        await shows(app, "10 workers cannot be restarted: the restart limit was reached.")
        assert controller.sent == []


async def test_a_limit_of_which_nothing_counts_is_not_counted_down() -> None:
    """A group whose workers have limits of their own says so: what is left of its own tells nothing."""
    async with running() as (app, controller, _pilot):
        await shows(app, "3 of 3 left")
        for path in ("root/urls/c", "root/stream/db"):
            told = {"child": path.rpartition("/")[2], "restarts": 1, "max_restarts": 2, "within": 30.0}
            controller.tell(RestartCounted, 10.0, supervisor=path, **told)
        await shows(app, "each its own limit")


async def test_a_worker_at_its_own_limit_says_so() -> None:
    """It stays down beside siblings that go on, on its row and in its details."""
    async with running() as (app, controller, pilot):
        controller.break_down("urls/c", 10.0, error="KeyError", text="price")
        await shows(app, "KeyError: price")
        controller.tell(RestartLimitReached, 10.0, supervisor="root/urls/c", restarts=3, within=30.0)
        await shows(app, "restart limit reached")
        await go_to(app, "urls/c")
        await pilot.press("enter")
        await shows(app, "restart limit reached: it stays down")


async def test_services_are_counted_by_who_is_up() -> None:
    """They are never done: the bar says how many run, and how often one was restarted; of a mixed run the batch's."""
    async with running((160, 30)) as (app, controller, _):
        await shows(app, "7 of 10 up · 1 restart")
        controller.tell(WorkersQueued, 10.0, group="batch", max_attempts=1, workers=("x", "y"))
        controller.attempt("x", 10.0)
        controller.succeed("x", 10.1)
        await shows(app, "7 of 10 up · 1 restart", "batch 50 %")


async def test_the_header_counts_the_restarts_that_the_summary_counts() -> None:
    """Also one that a supervisor took along, without a cause of the worker's own."""
    async with running((160, 30)) as (app, controller, _):
        await shows(app, "7 of 10 up · 1 restart")
        controller.restart("stream/api", 10.0)
        await shows(app, "· 2 restarts")
        assert summarize(app.scene.fleet).restarts == 2
        assert "  2 restarts" in progress_line(app.scene.fleet, 10.0)


async def test_a_service_that_was_restarted_says_so_while_it_counts() -> None:
    """Up again it tells how often it crashed, and of what, until the supervisor's window of 30 seconds is over."""
    async with running() as (app, controller, _):
        controller.restart("ingest/parser", 13.5)
        controller.attempt("ingest/parser", 13.5, incarnation=2)
        await shows(app, "not ready yet · restarted 1×")
        controller.tell(WorkerReady, 13.5, worker="ingest/parser", incarnation=2)
        await shows(app, "restarted 1×: Connection")
        controller.log(None, 38.5, "it still counts")
        await shows(app, "00:38.5")
        await shows(app, "restarted 1×: Connection")
        controller.log(None, 39.1, "it is stable")
        await hides(app, "restarted 1×")


async def test_services_have_no_columns_that_say_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No retries, no luck, no result: their room goes to what there is to say; luck that strikes is shown."""
    monkeypatch.setattr("tests.ui.test_tree.tree_run", service_run)
    async with running((80, 24)) as (app, controller, _):
        heading = text_of(app).splitlines()[5]
        assert heading.split() == ["WORKER", "STATE", "LAST", "ELAPSED", "ERROR"]
        controller.fail("web", 0.5)
        controller.tell(RestartScheduled, 0.5, worker="web", incarnation=1, delay=4.5, cause="OSError: x")
        await shows(app, "LUCK", "↺ restarting 4.5s")


async def test_the_footer_shows_the_keys_that_matter_now() -> None:
    """Try now and give up on a worker that waits, the circuits while one is open, going on while paused."""
    async with running() as (app, controller, _):
        footer = text_of(app).splitlines()[-1]
        assert "b circuits" in footer
        assert "n try now" in footer  # for the root, below which some wait
        await go_to(app, "prices")
        await hides(app, "n try now")
        await go_to(app, "urls/a")
        await shows(app, "n try now  x give up")
        controller.tell(SettingChanged, 10.0, name="paused", value=True, previous=False)
        await shows(app, "P go on", "u undo pause")


async def test_notes_cover_no_row() -> None:
    """A note stands in the line of the keys, and a later one takes its place."""
    async with running((80, 24)) as (app, controller, pilot):
        await go_to(app, "urls/a")
        await pilot.press("x")
        await shows(app, "urls/a gives up; restart (r) starts it again.")
        lines = text_of(app).splitlines()
        place = next(index for index, line in enumerate(lines) if "starts it again" in line)
        assert lines[place].strip().endswith("starts it again.")
        assert place == len(lines) - 1
        await go_to(app, "stream/db")
        await pilot.press("n")
        await shows(app, "It does not wait")
        await hides(app, "starts it again")
        assert controller.sent == [GiveUp("urls/a", 1)]
