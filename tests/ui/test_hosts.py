"""The page of the processes of a cluster, and where a worker ran."""

from __future__ import annotations

from asyncwatch.events import AttemptPlaced, HostFigures, HostJoined, HostLost, HostsReported
from asyncwatch.ui.screens.fleet import FleetScreen
from tests.ui.fakes import FakeController, make_app, shows, small_run, until


async def test_page_without_a_cluster_says_how_to_get_one() -> None:
    controller = FakeController()
    small_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(100, 20)) as pilot:
        await shows(app, "› 0")
        await pilot.press("H")
        await shows(app, "This run has no cluster", "--engine dask")
        await pilot.press("H")
        await until(lambda: isinstance(app.screen, FleetScreen))


async def test_page_shows_processes_and_lost_ones() -> None:
    controller = FakeController()
    small_run(controller)
    controller.emit(HostJoined, 3.3, host="10.0.0.7:4001", slots=4, pid=1)
    controller.emit(HostJoined, 3.3, host="10.0.0.8:4002", slots=1, pid=2)
    controller.emit(HostsReported, 3.3, hosts=(HostFigures("10.0.0.7:4001", 1_234, 75.0, 64_000_000, 0.25, 0.0),))
    controller.emit(HostLost, 3.3, host="10.0.0.8:4002", reason="ended", attempts=3)
    app = make_app(controller)
    async with app.run_test(size=(100, 20)) as pilot:
        await until(lambda: app.dashboard.fleet.events == len(controller.early))
        await pilot.press("H")
        await shows(app, "PROCESS", "10.0.0.7:4001", "1,234", "75%", "64 MB", "250 ms")
        await shows(app, "LOST", "1 process", "10.0.0.8:4002", "3 attempts lost")


async def test_details_say_where_a_worker_runs() -> None:
    controller = FakeController()
    small_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await until(lambda: app.dashboard.fleet.events == len(controller.early))
        row = next(row for row in app.dashboard.fleet.rows if row.state == "running")
        facts = {"worker": row.name, "incarnation": row.incarnation, "attempt": row.attempt, "host": "10.0.0.7:4001"}
        controller.emit(AttemptPlaced, 3.3, **facts)
        await until(lambda: row.name in app.dashboard.fleet.hosts.by_worker)
        app.screen.query_one("FleetTable").select(row)  # type: ignore[attr-defined]
        await pilot.press("enter")
        await shows(app, "runs at 10.0.0.7:4001")
