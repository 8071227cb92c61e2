"""Services on the screen: which are up, which flap, and why they crashed."""

from __future__ import annotations

from asyncwatch.cli.progress import progress_line
from asyncwatch.events import RestartScheduled
from asyncwatch.model.fleet import Fleet
from asyncwatch.ui.hints import fleet_hints
from asyncwatch.ui.render.columns import HEADINGS, OPTIONAL, arrange
from asyncwatch.ui.render.details import report
from asyncwatch.ui.render.services import cells_of, health, state_style
from asyncwatch.ui.render.spans import Line
from asyncwatch.ui.render.tree import branch_line, note
from tests.ui.fakes import FakeController, dashboard_of, hides, make_app, shows, text_of
from tests.ui.trees import loop_run, tree_run


def looping() -> Fleet:
    """Return the fleet of `loop_run`."""
    controller = FakeController()
    loop_run(controller)
    return dashboard_of(controller).fleet


def styles(line: Line) -> dict[str, str]:
    """Return the styles of a line, by text."""
    return {span.text.strip(): span.style for span in line}


async def test_service_in_a_loop_is_flapping_wherever_it_is_counted() -> None:
    controller = FakeController()
    loop_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "1 of 2 up, 1 flapping · 4 restarts", "≈ 1 flapping  ● 2 running")
        await shows(
            app, "≈ flapping  00:00:08 (0 s)     4 ", "OSError: the queue is gone", "up          00:00:00 (8 s)"
        )
        await pilot.press("f")
        await shows(app, "trouble only", "mail")
        await hides(app, "  web ")
        await pilot.press("e")
        await shows(app, "4 crashes, the last at ", "OSError: the queue is gone")


def test_service_that_flaps_is_never_green() -> None:
    fleet = looping()
    assert state_style(fleet, fleet.by_name["mail"], 10.0) == "warning"
    assert state_style(fleet, fleet.by_name["web"], 10.0) == state_style(fleet, fleet.by_name["mail"], 700.0) == ""
    root = fleet.tree.branches["root"]
    gauge = fleet.tree.gauge(root, 10.0)
    lines = [
        styles(branch_line(root, gauge, 100, is_folded=False, is_selected=False, flapping=flapping))
        for flapping in (1, 2)
    ]
    assert [line["● 2 running"] for line in lines] == ["running", "warning"]


def test_progress_without_a_dashboard_counts_flapping_services() -> None:
    assert "1/2 up, 1 flapping  4 restarts" in progress_line(looping(), 10.0)
    assert "2/2 up  4 restarts" in progress_line(looping(), 700.0)


def columns_of(fleet: Fleet, name: str, now: float) -> dict[str, str]:
    """Return the cells that only services have, in a wide terminal."""
    layout = arrange(200, 10, 10, without={"retries", "luck", *OPTIONAL}, of_services={*HEADINGS})
    return {key: text for key, (text, _) in cells_of(fleet, fleet.by_name[name], now, layout).items()}


def test_columns_say_since_when_a_service_is_up_and_when_it_crashed() -> None:
    fleet = looping()
    assert columns_of(fleet, "web", 100.0) == {"health": "up", "since": "00:00:00 (1m 40s)"}
    assert columns_of(fleet, "mail", 10.0) == {
        "health": "≈ flapping",
        "since": "00:00:08 (2 s)",
        "restarts": f"    4 {'▁' * 11}█",
        "crash": "00:00:08 (2 s)",
    }
    assert columns_of(fleet, "mail", 90_000.0)["crash"] == "Jan 01 00:00"


def test_health_of_a_service_is_a_word_for_each_state() -> None:
    controller = FakeController()
    tree_run(controller)
    fleet = dashboard_of(controller).fleet
    words = {row.name: health(fleet, row, 10.0)[0] for row in fleet.rows}
    assert words == {
        **dict.fromkeys(("stream/db", "stream/cache", "stream/api", "ingest/reader", "prices", "urls/c"), "up"),
        "ingest/parser": "down",
        "ingest/writer": "starting",
        "urls/a": "failing",
        "urls/b": "held back",
    }
    assert columns_of(fleet, "prices", 10.0)["poll"] == "in 24 s"


def test_note_on_a_flapping_service_is_there_without_its_column() -> None:
    fleet = looping()
    mail = fleet.by_name["mail"]
    assert note(fleet, mail, 10.0) == "flapping: 4 restarts in the last minute · OSError: the queue is gone"
    assert note(fleet, mail, 100.0) == "flapping: 4 restarts in ten minutes · OSError: the queue is gone"
    assert note(fleet, mail, 10.0, 20) == "flapping, 4× · OSError: the queue is gone"
    assert note(fleet, mail, 10.0, 20, {"health"}) == "restarted 4×: OSError: the queue is gone"
    assert note(fleet, mail, 700.0) == "crashed 11m 32s ago: OSError: the queue is gone"


def test_narrow_terminal_keeps_room_for_the_cause() -> None:
    hidden = {"retries", "luck", "elapsed", "last"}
    keys = [key for key, _ in arrange(80, 10, 10, without=hidden, of_services={*HEADINGS}).columns]
    assert keys == ["name", "state", "health", "since", "restarts", "error"]


def test_narrow_terminal_keeps_the_times_of_a_batch_beside_services() -> None:
    layout = dict(arrange(80, 10, 10, of_services={"health", "since", "restarts", "crash"}).columns)
    assert [*layout] == ["name", "state", "health", "retries", "luck", "elapsed", "error"]
    assert layout["error"] >= 12


def test_footer_names_the_errors_of_services_that_crashed() -> None:
    assert fleet_hints(looping(), [], has_marks=False)["errors"] == ""


def details_of(fleet: Fleet, name: str, now: float, width: int) -> list[str]:
    """Return the page of a worker, without its facts."""
    return ["".join(span.text for span in line).rstrip() for line in report(fleet, fleet.by_name[name], now, width)]


def test_details_list_crashes_newest_first() -> None:
    lines = details_of(looping(), "mail", 10.0, 100)
    assert lines[0] == "CRASHES  the newest first"
    assert lines[1] == "00:00:08      incarnation 4     restarted at once  OSError: the queue is gone"
    assert [line[:8] for line in lines[2:5]] == ["00:00:06", "00:00:04", "00:00:02"]
    assert lines[6].startswith("ATTEMPTS")


def test_details_in_a_narrow_terminal_give_causes_lines_of_their_own() -> None:
    lines = details_of(looping(), "mail", 10.0, 60)
    assert lines[1:3] == ["00:00:08      incarnation 4     restarted at once", "  OSError: the queue is gone"]
    assert details_of(looping(), "mail", 10.0, 26)[2:4] == ["  OSError: the queue is", "  gone"]


def test_details_say_how_many_crashes_are_not_kept() -> None:
    fleet = looping()
    fleet.restarts.by_worker["mail"].times = 1_204
    assert details_of(fleet, "mail", 10.0, 100)[0] == "CRASHES  the last 4 of 1,204, the newest first"


async def test_facts_of_a_service_say_that_it_flaps_and_since_when_it_is_up() -> None:
    controller = FakeController()
    loop_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "1 flapping")
        await pilot.press("f", "j", "enter")
        await shows(
            app, "health flapping: 4 restarts in the last minute", "up since 00:00:08 (0 s)", "restarted 4 times"
        )


async def test_loop_without_an_error_is_on_the_page_of_errors() -> None:
    controller = FakeController()
    loop_run(controller)
    controller.emit(RestartScheduled, 9.0, worker="mail", incarnation=5, delay=0.0, cause="normal")
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "mail")
        await pilot.press("e")
        await shows(app, "it returned", "its function ended without an error", "1 crash, the last at 00:00:09")


async def test_services_are_sorted_by_their_restarts() -> None:
    controller = FakeController()
    loop_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "mail", "RESTARTS")
        heading = text_of(app).splitlines()[5]
        await pilot.click("FleetTable", offset=(heading.index("RESTARTS") + 1, 0))
        await shows(app, "RESTARTS▲")
        await pilot.press("S")
        await shows(app, "RESTARTS▼")
        lines = text_of(app).splitlines()
        assert [line.split()[0] for line in lines[7:9]] == ["mail", "web"]
