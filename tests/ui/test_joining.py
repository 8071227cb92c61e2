"""A dashboard that joins a run late, or falls behind: snapshots, and the end of the connection."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asyncwatch.commands import CancelWorker, Disconnected, SnapshotPart
from asyncwatch.events import RunFinished
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.snapshot import Snapshot
from asyncwatch.ui.app import Ending
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.screens.errors import ErrorsScreen
from asyncwatch.ui.widgets.lines import SELECTION_IS_TO_COME
from tests.ui.fakes import FakeController, hides, make_app, shows, small_run, text_of, until
from tests.ui.running import running, selected, table_of, visible
from tests.ui.trees import tree_run

MANY = [f"n{number:04}" for number in range(2_000)]


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncwatch.model.snapshot.PART_SIZE", 4_000)


def parts_of(emit: Callable[[FakeController], object]) -> list[SnapshotPart]:
    """Return the parts of a snapshot that is taken after the emitted events."""
    controller, fleet = FakeController(), Fleet()
    emit(controller)
    for batch in controller.early:
        apply(fleet, batch)
    return list(Snapshot(fleet).parts())


def many_run(controller: FakeController) -> None:
    """Emit a run of many workers, of which the first ten have succeeded."""
    controller.start(*MANY)
    for name in MANY[:10]:
        controller.attempt(name, 0.1)
        controller.succeed(name, 1.0)


async def test_first_part_shows_the_first_screen_and_later_parts_add_workers() -> None:
    parts = parts_of(many_run)
    assert len(parts) > 4
    controller = FakeController()
    app = make_app(controller)
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(app, "starting…")
        for part in parts[:2]:
            controller.put(part)
        await shows(app, "› n0000", "✓ 10 succeeded", "○ 1,990 queued", "10 of 2,000 done")
        assert 0 < len(app.dashboard.fleet.rows) < len(MANY)
        assert app.dashboard.active == len(MANY) - 10
        await pilot.press("j", "c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("n0001", 1)]
        for part in parts[2:]:
            controller.put(part)
        await until(lambda: not app.dashboard.is_growing)
        assert selected(app) == "n0001"
        assert visible(app) == MANY
        controller._seq = app.dashboard.fleet.last_seq + 1
        controller.attempt("n1999", 2.0)
        await shows(app, "● 1 running")
        await pilot.press("G")
        await shows(app, "› n1999   ● running")


@pytest.mark.parametrize("at_once", [100, 10_000])
async def test_snapshot_replaces_the_fleet_and_keeps_cursor_marks_filter_and_order(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncwatch.model.view.selection.AT_ONCE", at_once)

    def now(controller: FakeController) -> None:
        controller.start(*MANY[3:], "new")
        controller.break_down("n0700", 9.0)

    async with running(emit=many_run) as (app, controller, pilot):
        app.dashboard.view.marks.toggle_worker("n0001")
        app.dashboard.view.marks.toggle_worker("n0005")
        app.dashboard.view.marks.toggle_worker("n1805")
        await pilot.press("S", "slash", *"n", "enter")
        await until(lambda: visible(app) == MANY[::-1])
        row = app.dashboard.fleet.get("n0700")
        assert row is not None
        table_of(app).select(row)
        before = app.dashboard.fleet
        for part in parts_of(now):
            controller.put(part)
        await until(lambda: app.dashboard.fleet is not before and not app.dashboard.is_growing)
        await until(lambda: selected(app) == "n0700")
        assert set(app.dashboard.view.marks) == {"n0005", "n1805"}
        await until(lambda: visible(app)[:2] == ["new", "n1999"])
        assert app.dashboard.view.query.text == "n"
        await shows(app, "› n0700   ✗ failed")
        await pilot.press("escape", "c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("n0700", 1)]


async def test_key_waits_for_the_selected_worker_of_a_replaced_fleet() -> None:
    """The cursor must not act on another worker meanwhile."""
    parts = parts_of(many_run)
    async with running(emit=many_run) as (app, controller, pilot):
        await pilot.press("G")
        controller.put(parts[0])
        controller.put(parts[1])
        await until(lambda: app.dashboard.is_growing and app.dashboard.fleet.rows)
        await pilot.press("c")
        await shows(app, SELECTION_IS_TO_COME)
        for part in parts[2:]:
            controller.put(part)
        await until(lambda: selected(app) == "n1999")
        await pilot.press("c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("n1999", 1)]


async def test_selected_worker_that_does_not_come_leaves_the_cursor_at_the_top() -> None:
    async with running(emit=many_run) as (app, controller, pilot):
        await pilot.press("G")
        for part in parts_of(lambda controller: controller.start(*MANY[:1_000])):
            controller.put(part)
        await until(lambda: len(app.dashboard.fleet.rows) == 1_000 and table_of(app)._sought is None)
        await pilot.press("c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("n0000", 1)]


async def test_frozen_screen_holds_a_snapshot_and_later_batches_back() -> None:
    def later(controller: FakeController) -> None:
        small_run(controller)
        controller.succeed("6", 4.0)

    async with running() as (app, controller, pilot):
        await pilot.press("j", "space", "p")
        controller.log("6", 3.3, "in the snapshot, too")
        await shows(app, "frozen · 1 event waiting")
        for part in parts_of(later):
            controller.put(part)
        controller.attempt("7", 4.1)
        await shows(app, "frozen · 2 events waiting", "2 succeeded", "▌  1")
        await pilot.press("p")
        await shows(app, "3 succeeded", "▌  1", "7       ● running")
        await hides(app, "frozen")


async def test_open_pages_show_what_a_snapshot_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncwatch.model.snapshot.PART_SIZE", 20)
    monkeypatch.setattr("asyncwatch.ui.screens.errors.EVERY", 0.0)
    monkeypatch.setattr("asyncwatch.ui.screens.errors.SHARE", 0.0)

    def now(controller: FakeController) -> None:
        small_run(controller)
        controller.log("2", 3.2, "a line that was missed")

    parts = parts_of(now)
    for keys, texts in (
        (("j", "j", "enter"), ("worker 2", "ServerTimeoutError: bad luck", "a line that was missed")),
        (("l",), ("a line that was missed", "4 lines")),
        (("e",), ("RuntimeError: bad luck", "ServerTimeoutError: bad luck", "/srv/app/fetch.py:12")),
    ):
        async with running(emit=nothing_but_names) as (app, controller, pilot):
            await pilot.press(*keys)
            for part in parts:
                controller.put(part)
                await until(lambda: controller.queue is not None and controller.queue.empty())
                app._draw_screens()
            assert len(parts) > 5
            await shows(app, *texts)


def nothing_but_names(controller: FakeController) -> None:
    """Emit the start of the small run."""
    controller.start(*"01234567")


async def test_errors_are_those_of_the_fleet_that_a_snapshot_brings() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("e")
        await shows(app, "2 workers in 2 groups")
        page, before = app.screen, app.dashboard.fleet
        assert isinstance(page, ErrorsScreen)
        (part,) = parts_of(small_run)
        controller.put(part)
        await until(lambda: app.dashboard.fleet is not before)
        rows = app.dashboard.fleet.rows
        await until(lambda: all(cluster.rows[0] in rows for cluster in page._clusters.values()))


async def test_snapshot_replaces_the_foreseen_fleet_and_lets_commands_pass() -> None:
    foreseen, controller = FakeController(), FakeController()
    foreseen.start("ada", "bob")
    app = make_app(controller, foreseen=[event for batch in foreseen.early for event in batch])
    async with app.run_test(size=(100, 30)) as pilot:
        await shows(app, "› ada")
        await pilot.press("j", "c")
        for part in parts_of(lambda controller: controller.start("bob", "cid")):
            controller.put(part)
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("bob", 1)]
        assert selected(app) == "bob"
        assert visible(app) == ["bob", "cid"]
        controller._seq = app.dashboard.fleet.last_seq + 1
        controller.attempt("cid", 1.0)
        await shows(app, "cid     ● running")
        assert app.dashboard.frame_statistics.received == app.dashboard.fleet.events == 3


def test_run_time_of_a_snapshot_is_that_of_the_wall_clock() -> None:
    """Its latest event may be old."""
    seconds = 50.0
    dashboard = DashboardState(lambda: seconds, lambda: 3_600.0)
    for part in parts_of(many_run):
        dashboard.read(part)
    assert dashboard.now == 3_600.0
    seconds = 60.0
    assert dashboard.now == 3_610.0


@pytest.mark.parametrize("is_frozen", [False, True])
async def test_snapshot_of_a_finished_run_ends_the_dashboard(*, is_frozen: bool) -> None:
    def finished(controller: FakeController) -> None:
        small_run(controller)
        controller.finish(5.0)

    async with running() as (app, controller, pilot):
        if is_frozen:
            await pilot.press("p")
        for part in parts_of(finished):
            controller.put(part)
        await until(lambda: not app.is_running)
        assert app.return_value is Ending.FINISHED
        assert isinstance(app.dashboard.close().finished, RunFinished)


async def test_lost_connection_ends_the_dashboard_with_its_reason() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("p")
        controller.succeed("6", 4.0)
        controller.put(Disconnected("The engine was killed by signal 9."))
        await until(lambda: not app.is_running)
        assert app.return_value is Ending.DISCONNECTED
        assert app.reason == "The engine was killed by signal 9."
        assert app.dashboard.close().get("6").state == "succeeded"  # type: ignore[union-attr]


@pytest.mark.parametrize("emit", [small_run, tree_run], ids=["batch", "tree"])
@pytest.mark.parametrize("keys", [(), ("j", "j", "enter"), ("e",), ("b",), ("l",)], ids=" ".join)
async def test_screen_of_a_snapshot_is_that_of_the_events(
    emit: Callable[[FakeController], None], keys: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asyncwatch.model.snapshot.PART_SIZE", 100)
    # A client that joins knows the pace only some seconds later.
    monkeypatch.setattr("asyncwatch.model.statistics.Pace.seconds", lambda *_: None)
    async with running(emit=emit) as (app, _, pilot):
        await until(lambda: not app._pump.is_drawing)
        await pilot.press(*keys)
        await pilot.pause()
        expected = text_of(app)
    controller = FakeController()
    app = make_app(controller)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        for number, part in enumerate(parts_of(emit)):
            controller.put(part)
            await until(lambda: controller.queue is not None and controller.queue.empty())
            await pilot.pause()
            if app.dashboard.fleet.rows and number % 3 == 0:
                app._draw_screens()
        await pilot.press(*keys)
        await until(lambda: text_of(app) == expected)


async def test_folded_branches_stay_folded_in_a_snapshot() -> None:
    async with running(emit=tree_run) as (app, controller, pilot):
        before = text_of(app)
        await pilot.press("j", "left")
        await until(lambda: text_of(app) != before)
        await pilot.pause()
        folded, fleet = text_of(app), app.dashboard.fleet
        for part in parts_of(tree_run):
            controller.put(part)
        await until(lambda: app.dashboard.fleet is not fleet and not app.dashboard.is_growing)
        await until(lambda: text_of(app) == folded)
