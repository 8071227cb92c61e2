"""The tree in the table: its lines, folding, and actions on groups and siblings."""

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
from asyncwatch.model.view.operations import NONE_WAITS
from asyncwatch.ui.app import AsyncwatchApp, Ending
from asyncwatch.ui.screens.confirm import ConfirmScreen
from tests.ui.fakes import FakeController, hides, make_app, shows, text_of, until
from tests.ui.trees import service_run, supervise, tree_run

Running = tuple[AsyncwatchApp, FakeController, Pilot[Ending]]


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
    fleet = app.dashboard.fleet
    table(app).select(fleet.get(name) or fleet.tree.branches[name])
    await shows(app, "›")


@pytest.mark.parametrize("size", [(120, 30), (80, 24)])
async def test_branch_line_shows_strategy_counts_and_gauge(size: tuple[int, int]) -> None:
    is_wide = size[0] == 120
    all_counts = "↺ 1 restarting  ↻ 1 backing off  ◌ 1 waiting  ● 7 running" if is_wide else "↺1 ↻1 ◌1 ●7"
    expiry = "1 of 3 restarts left, oldest expires in 25 s" if is_wide else "1 restart left · 25 s"
    async with running(size) as (app, _, _):
        await shows(app, "▾ stream  one_for_all  ● 3 running", "up to 3 restarts in 30s")
        await shows(app, "▾ ingest  rest_for_one  ↺ 1 restarting  ● 2 running", expiry)
        await shows(app, f"▾ root  one_for_one  {all_counts}")


async def test_row_note_says_what_the_worker_waits_for() -> None:
    async with running((180, 30)) as (app, _, _):
        await shows(app, "↺ restarting 3.5s", "in 24 s", "1 done", "circuit open 4.6s (example.org)", "not ready yet")
        await shows(app, "↻ backing off 1.5s", "ConnectionResetError: the strea")


async def test_poller_with_failing_polls_is_marked() -> None:
    facts = {"worker": "prices", "incarnation": 1, "elapsed": 0.1, "delay": 30.0}
    async with running((180, 30)) as (app, controller, pilot):
        controller.emit(PollFailed, 10.0, error_type="OSError", error="gone", failures=1, **facts)
        await shows(app, "failing: 1 poll failed: OSError", "in 30 s")
        controller.emit(PollFailed, 10.1, error_type="OSError", error="gone", failures=2, **facts)
        await shows(app, "failing: 2 polls in a row fail")
        await pilot.press("f")
        await hides(app, "stream/db")
        await go_to(app, "prices")
        await pilot.press("n")
        await until(lambda: controller.sent[-1:] == [RetryNow("prices", 1)])
        await pilot.press("x")
        await shows(app, NONE_WAITS)
        await pilot.press("enter")
        await shows(app, "failed polls in a row 2", "OSError: gone")
        await pilot.press("n")
        await until(lambda: controller.sent[-1:] == [RetryNow("prices", 1)] and len(controller.sent) > 1)
        await pilot.press("escape", "E")
        await shows(app, "failing: 2 polls in a row fail")


async def test_failing_polls_are_named_beside_what_is_up() -> None:
    facts = {"worker": "prices", "incarnation": 1, "elapsed": 0.1, "delay": 30.0}
    async with running((120, 30)) as (app, controller, _):
        await hides(app, ", 1 failing")
        controller.emit(PollFailed, 10.0, error_type="OSError", error="gone", failures=1, **facts)
        await shows(app, " up", ", 1 failing")


async def test_keys_on_a_group_are_those_of_a_group() -> None:
    async with running((120, 30)) as (app, _, pilot):
        await go_to(app, "prices")
        await shows(app, "enter details")
        await go_to(app, "root/stream")
        await shows(app, "enter fold")
        await pilot.press("enter")
        await shows(app, "enter unfold")
        await pilot.press("v")
        await shows(app, "root/stream is a group of 3 workers")


async def test_branch_line_ended_supervisor_says_why() -> None:
    async with running() as (app, controller, _):
        controller.emit(SupervisorTerminated, 10.0, name="root/urls", reason="KeyError: 'x'")
        await shows(app, "ended: KeyError: 'x'")


async def test_fold_keeps_the_cursor_visible() -> None:
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


async def test_filter_hides_branches_without_match() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("slash", *"writer", "enter")
        await shows(app, "▾ root", "▾ ingest", "writer", "1 of 10")
        assert "stream" not in text_of(app)


def taken_along(app: App[Any]) -> list[str]:
    """Return the names in the lines that are marked as restarted with another."""
    return [line.split()[1] for line in text_of(app).splitlines() if line.startswith("  ↺")]


async def test_restart_highlights_siblings_before_yes() -> None:
    async with running() as (app, controller, pilot):
        await go_to(app, "stream/cache")
        await pilot.press("r")
        await shows(app, "Restart stream/cache?", "Also restarts 2 siblings (one_for_all): stream/db and stream/api.")
        await until(lambda: taken_along(app) == ["db", "api"])
        assert controller.sent == []
        await pilot.press("r")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("stream/cache", 1)]
        await until(lambda: not taken_along(app))


async def test_restart_rest_for_one_names_later_siblings() -> None:
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
        ("root/urls", "n", "Retry 2 workers of urls now?", [RetryNow("urls/a", 1), RetryNow("urls/b", 1)]),
    ],
)
async def test_action_on_a_group_asks_first(branch: str, key: str, question: str, commands: list[Any]) -> None:
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
async def test_retry_now_and_give_up_waiting_worker(name: str, key: str, command: Any, is_open: bool) -> None:
    async with running() as (app, controller, pilot):
        await go_to(app, name)
        if is_open:
            await pilot.press("enter")
            await shows(app, "ATTEMPTS")
        await pilot.press(key)
        await until(lambda: controller.sent)
        assert controller.sent == [command]


async def test_retry_now_running_worker_shows_notice() -> None:
    async with running() as (app, controller, pilot):
        await go_to(app, "stream/db")
        await pilot.press("n")
        await shows(app, NONE_WAITS)
        assert controller.sent == []


@pytest.mark.parametrize(
    ("key", "question", "commands"),
    [
        ("N", "Retry 4 waiting workers now?", [RetryAllNow(), RestartWorker("ingest/parser", 1)]),
        ("X", "Give up 3 waiting workers?", [GiveUpAll(), CancelWorker("ingest/parser", 1)]),
    ],
)
async def test_action_on_all_waiting_workers_asks_first(key: str, question: str, commands: list[Any]) -> None:
    async with running() as (app, controller, pilot):
        await pilot.press(key)
        await shows(app, question)
        assert isinstance(app.screen, ConfirmScreen)
        await pilot.press(key)
        await until(lambda: controller.sent)
        assert controller.sent == commands


async def test_restart_all_in_a_tree_names_siblings() -> None:
    async with running() as (app, controller, pilot):
        controller.break_down("stream/api", 10.0)
        await shows(app, "✗ failed")
        await pilot.press("R")
        await shows(app, "Restart 1 worker that did not succeed?", "Also restarts 2 siblings (one_for_all)")
        await pilot.press("y")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("stream/api", 1)]


async def test_mark_on_a_group_toggles_its_workers() -> None:
    async with running() as (app, _, pilot):
        await go_to(app, "root/urls")
        await pilot.press("space")
        assert set(app.dashboard.view.marks) == {"urls/a", "urls/b", "urls/c"}
        await pilot.press("space")
        assert set(app.dashboard.view.marks) == set()


async def test_details_show_supervision_waits_and_restarts() -> None:
    async with running() as (app, _, pilot):
        await go_to(app, "ingest/parser")
        await pilot.press("enter")
        await shows(app, "strategy rest_for_one", "1 of 3 restarts left", "next incarnation in 3.5 s", "CRASHES")
        await shows(app, "restart in 4.50 s  ConnectionResetError: the stream closed")
        await pilot.press("escape")
        await go_to(app, "urls/b")
        await pilot.press("enter")
        await shows(app, "waiting for: circuit open 4.6s (example.org)", "attempt 2 waited: circuit of example.org")
        await pilot.press("left")
        await shows(app, "worker urls/a")


async def test_restart_group_names_its_siblings() -> None:
    async with running() as (app, controller, pilot):
        supervise(controller, "root", "rest_for_one")
        await go_to(app, "root/ingest")
        await pilot.press("r")
        await shows(app, "Restart ingest and its 3 workers?", "(rest_for_one): prices, urls/a, urls/b and urls/c.")
        await until(lambda: taken_along(app) == ["reader", "parser", "writer", "prices", "a", "b", "c"])
        supervise(controller, "root/ingest", "rest_for_one", incarnation=2)
        await until(lambda: app.dashboard.fleet.tree.branches["root/ingest"].incarnation == 2)
        await pilot.press("r")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartBranch("root/ingest", 2)]


async def test_restart_of_removed_workers_shows_notice() -> None:
    async with running() as (app, controller, pilot):
        for name in ("stream/api", "urls/c"):
            controller.break_down(name, 10.0)
        controller.emit(ChildRemoved, 10.0, supervisor="root/urls", child="c")
        await until(lambda: app.dashboard.fleet.tree.why_not_restarted(app.dashboard.fleet.rows[-1]))
        await pilot.press("R")
        await shows(app, "Restart 1 worker that did not succeed?", "1 worker cannot be restarted:", "forgotten by")
        await pilot.press("escape")
        await go_to(app, "urls/c")
        await pilot.press("r")
        await shows(app, "1 worker cannot be restarted: forgotten by the supervisor above.")
        controller.emit(SupervisorTerminated, 10.0, name="root/stream", reason="shutdown")
        await shows(app, "ended: shutdown")
        await pilot.press("R")
        await shows(app, "1 worker cannot be restarted: the supervisor above has ended.")
        assert controller.sent == []


async def test_ended_tree_offers_no_restart() -> None:
    async with running(size=(160, 30)) as (app, controller, pilot):
        assert {"c cancel", "r restart"} <= set(text_of(app).splitlines()[-1].strip().split("  "))
        for row in app.dashboard.fleet.rows:
            controller.break_down(row.name, 10.0)
        controller.emit(RestartLimitReached, 10.0, supervisor="root", restarts=3, within=30.0)
        for path in ("root/urls", "root/ingest", "root/stream", "root"):
            controller.emit(SupervisorTerminated, 10.0, name=path, reason="RestartLimitError: 4 in 30 s")
        await shows(app, "ended · the restart limit was reached · r on root starts it again", "r restart")
        assert not {"c cancel", "R restart failed"} & set(text_of(app).splitlines()[-1].strip().split("  "))
        await pilot.press("g", "j", "j", "enter")
        await shows(app, "worker stream/db", "esc back")
        assert not {"c cancel", "r restart", "n retry now"} & set(text_of(app).splitlines()[-1].strip().split("  "))
        await pilot.press("escape", "g", "r")
        await shows(app, "Restart root and its 10 workers?")
        await pilot.press("n", "R")
        await shows(app, "10 workers cannot be restarted: the restart limit was reached; r on root starts all again.")
        assert controller.sent == []
        await pilot.press("r", "y")
        await until(lambda: controller.sent == [RestartBranch("root", 1)])


async def test_limit_without_recent_restarts_has_no_countdown() -> None:
    async with running() as (app, controller, _pilot):
        await shows(app, "up to 3 restarts in 30s")
        for path in ("root/urls/c", "root/stream/db"):
            fields = {"child": path.rpartition("/")[2], "restarts": 1, "max_restarts": 2, "within": 30.0}
            controller.emit(RestartCounted, 10.0, supervisor=path, **fields)
        await shows(app, "limited per worker")


async def test_row_note_worker_at_its_limit_says_so() -> None:
    async with running() as (app, controller, pilot):
        controller.break_down("urls/c", 10.0, error="KeyError", text="price")
        await shows(app, "KeyError: price")
        controller.emit(RestartLimitReached, 10.0, supervisor="root/urls/c", restarts=3, within=30.0)
        await shows(app, "gave up", "limit reached")
        await go_to(app, "urls/c")
        await pilot.press("enter")
        await shows(app, "restart limit reached: stays down")


async def test_progress_of_services_counts_workers_up() -> None:
    async with running((160, 30)) as (app, controller, pilot):
        await shows(app, "7 of 10 up · 1 restart")
        controller.emit(WorkersQueued, 10.0, group="batch", max_attempts=1, workers=("x", "y"))
        controller.attempt("x", 10.0)
        controller.succeed("x", 10.1)
        await shows(app, "7 of 10 up · 1 restart", "batch 50 %")
        await pilot.resize_terminal(80, 24)
        await shows(app, "7 of 10 up  ━", "batch 50 %  1 of 2 done  ETA ")
        await pilot.resize_terminal(54, 24)
        await shows(app, "batch 1 of 2 done  ETA ")


async def test_header_restarts_equal_the_summary() -> None:
    async with running((160, 30)) as (app, controller, _):
        await shows(app, "7 of 10 up · 1 restart")
        controller.restart("stream/api", 10.0)
        await shows(app, "· 2 restarts")
        assert summarize(app.dashboard.fleet).restarts == 2
        assert "  2 restarts" in progress_line(app.dashboard.fleet, 10.0)


async def test_row_note_restarted_service_says_why() -> None:
    async with running((130, 30)) as (app, controller, _):
        controller.restart("ingest/parser", 13.5)
        controller.attempt("ingest/parser", 13.5, incarnation=2)
        await shows(app, "recovering", "not ready yet · Conn")
        controller.emit(WorkerReady, 13.5, worker="ingest/parser", incarnation=2)
        await hides(app, "not ready yet · Conn")
        controller.log(None, 39.1, "it is stable")
        await hides(app, "recovering")
        await shows(app, "ConnectionResetError: ")


async def test_table_of_services_leaves_out_empty_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.ui.test_tree.tree_run", service_run)
    async with running((80, 24)) as (app, controller, _):
        heading = text_of(app).splitlines()[5]
        assert heading.split() == ["WORKER", "STATE", "HEALTH", "UP", "SINCE", "RESTARTS", "RETRY", "LUCK", "ERROR"]
        controller.fail("web", 0.5)
        controller.emit(RestartScheduled, 0.5, worker="web", incarnation=1, delay=4.5, cause="OSError: x")
        await shows(app, "LUCK", "↺ restart 4.5s")


async def test_footer_shows_keys_that_matter() -> None:
    async with running() as (app, controller, _):
        await shows(app, "b limits", "n retry now")  # for the root, below which some wait
        await go_to(app, "prices")
        await hides(app, "n retry now")
        await go_to(app, "urls/a")
        await shows(app, "n retry now  x give up")
        controller.emit(SettingChanged, 10.0, name="paused", value=True, previous=False)
        await shows(app, "P resume", "u undo pause")


async def test_notice_covers_no_row() -> None:
    async with running((80, 24)) as (app, controller, pilot):
        await go_to(app, "urls/a")
        await pilot.press("x")
        await shows(app, "No further attempt of urls/a. Press r to restart it.")
        lines = text_of(app).splitlines()
        place = next(index for index, line in enumerate(lines) if "Press r to restart" in line)
        assert lines[place].strip().endswith("Press r to restart it.")
        assert place == len(lines) - 1
        await go_to(app, "stream/db")
        await pilot.press("n")
        await shows(app, NONE_WAITS)
        await hides(app, "starts it again")
        assert controller.sent == [GiveUp("urls/a", 1)]
