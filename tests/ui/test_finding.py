"""Keys that go from worker to worker, filter and sort them, and the mouse which does too."""

from __future__ import annotations

import pytest

from asyncwatch.commands import CancelWorker, RetryNow
from asyncwatch.events import RetryScheduled
from asyncwatch.ui.widgets.filter_bar import FilterBar
from tests.ui.fakes import hides, shows, until
from tests.ui.running import running, selected, table_of, visible


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (["j"], "1"),
        (["down", "down"], "2"),
        (["j", "k"], "0"),
        (["G"], "7"),
        (["end", "up"], "6"),
        (["G", "g"], "0"),
        (["pagedown"], "7"),
        (["end", "home"], "0"),
        (["end", "pageup"], "0"),
        (["k"], "0"),
    ],
)
async def test_moves_the_cursor(keys: list[str], name: str) -> None:
    """Arrows, letters and page keys move the cursor, and it stops at both ends."""
    async with running() as (app, _, pilot):
        await pilot.press(*keys)
        assert selected(app) == name
        await shows(app, f"› {name} ")


async def test_filters_as_one_types() -> None:
    """The fleet follows every letter; letters that are keys elsewhere do nothing but type."""
    async with running() as (app, controller, pilot):
        await pilot.press("slash", *"state:succ")
        await shows(app, "/ state:succ", "2 of 8")
        assert visible(app) == ["0", "1"]
        assert controller.sent == []
        await pilot.press("enter", "j")
        assert selected(app) == "1"
        await shows(app, "2 of 8")
        await pilot.press("slash", "escape")
        await hides(app, "2 of 8")
        assert len(visible(app)) == 8
        assert app.focused is table_of(app)


async def test_says_what_is_wrong_with_a_filter() -> None:
    """A term that cannot be understood is named instead of the count."""
    async with running() as (app, _, pilot):
        await pilot.press("slash", *"retries>x")
        await until(lambda: app.scene.view.query.problem)
        await shows(app, app.scene.view.query.problem)


async def test_says_that_nothing_matches() -> None:
    """A filter without a match leaves a line that says so, and acts on nobody."""
    async with running() as (app, controller, pilot):
        await pilot.press("slash", *"zzz", "enter")
        await shows(app, "No worker matches the filter.", "0 of 8")
        await pilot.press("c", "enter", "space", "j")
        await pilot.pause()
        assert controller.sent == []
        await pilot.press("escape")
        await shows(app, "8 workers", "› 0")


async def test_a_hidden_selection_moves_to_its_neighbour() -> None:
    """A worker that the filter hides hands the cursor to the nearest visible one."""
    async with running() as (app, _, pilot):
        await pilot.press("G", "f")
        await until(lambda: selected(app) == "3")


async def test_the_next_key_is_for_the_worker_that_left_the_filter() -> None:
    """A row that matches no more stays under the cursor until that moves, and says so: nobody takes its place."""
    async with running() as (app, controller, pilot):
        await pilot.press("slash", *"state:back", "enter", "n")
        await until(lambda: controller.sent == [RetryNow("2", 1)])
        controller.attempt("2", 3.3, number=2)
        for name in "13":
            controller.restart(name, 3.3)
            controller.attempt(name, 3.4, incarnation=2)
            controller.tell(RetryScheduled, 3.5, worker=name, incarnation=2, attempt=2, delay=5.0)
        await until(lambda: app.scene.fleet.latest == 3.5)
        app.screen._resort()  # type: ignore[attr-defined]  # the fleet's
        assert (visible(app), selected(app)) == (["1", "2", "3"], "2")
        await shows(app, "2 stays while the cursor is on it · 2 of 8")
        await pilot.press("c")
        await until(lambda: controller.sent[1:] == [CancelWorker("2", 1)])
        await pilot.press("a", "down")
        assert set(app.scene.view.marks) == {"1", "3"}
        app.screen._resort()  # type: ignore[attr-defined]  # the fleet's
        assert (visible(app), selected(app)) == (["1", "3"], "3")
        await hides(app, "stays while")


async def test_sorts_and_reverses_without_losing_the_selection() -> None:
    """`s` goes through the columns, `S` reverses, and the cursor stays on its worker."""
    async with running() as (app, _, pilot):
        await pilot.press("j", "s")
        await shows(app, "STATE▲")
        await pilot.press(*"sssssss", "S")
        await shows(app, "WORKER▼")
        assert visible(app)[0] == "7"
        assert selected(app) == "1"
        await pilot.press("j")
        assert selected(app) == "0"


async def test_sorts_by_a_heading_that_is_clicked() -> None:
    """A click on a heading sorts by it, a second one reverses."""
    async with running() as (app, _, pilot):
        await pilot.click(table_of(app), offset=(12, 0))
        await shows(app, "STATE▲")
        await pilot.click(table_of(app), offset=(12, 0))
        await shows(app, "STATE▼")
        assert selected(app) == "0"


async def test_selects_and_opens_with_the_mouse() -> None:
    """A click selects the row under it, a double click opens it."""
    async with running() as (app, _, pilot):
        await pilot.click(table_of(app), offset=(10, 3))
        assert selected(app) == "2"
        await pilot.click(table_of(app), offset=(10, 4), times=2)
        await shows(app, "worker 3", "LAST TRACEBACK")


async def test_shows_only_trouble() -> None:
    """`f` leaves the workers in trouble, and says so."""
    async with running() as (app, _, pilot):
        await pilot.press("f")
        await shows(app, "\n trouble only · 2 of 8\n")
        await pilot.press("slash")
        await shows(app, "/ text in name or error", "trouble only · 2 of 8")
        await pilot.press("escape")
        await shows(app, "\n trouble only · 2 of 8\n")
        await pilot.press("f")
        await hides(app, "trouble only")
        assert app.screen.query_one(FilterBar).display is False
