"""Moving the cursor, filtering and sorting, with keys and the mouse."""

from __future__ import annotations

import pytest

from asyncwatch.commands import CancelWorker, RetryNow
from asyncwatch.events import RetryScheduled
from asyncwatch.ui.widgets.footer import FilterBar
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
async def test_cursor_keys_move_and_stop_at_both_ends(keys: list[str], name: str) -> None:
    async with running() as (app, _, pilot):
        await pilot.press(*keys)
        assert selected(app) == name
        await shows(app, f"› {name} ")


async def test_filter_follows_every_letter() -> None:
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


async def test_filter_invalid_term_is_named() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("slash", *"retries>x")
        await until(lambda: app.dashboard.view.query.problem)
        await shows(app, app.dashboard.view.query.problem)


async def test_filter_without_match_says_so() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("slash", *"zzz", "enter")
        await shows(app, "No worker matches the filter.", "0 of 8")
        await pilot.press("c", "enter", "space", "j")
        await pilot.pause()
        assert controller.sent == []
        await pilot.press("escape")
        await shows(app, "of 8 done", "› 0")


async def test_keys_of_a_worker_are_not_offered_when_none_is_listed() -> None:
    async with running(size=(120, 30)) as (app, _, pilot):
        await shows(app, "c cancel", "r restart", "enter details")
        await pilot.press("slash", *"zzz", "enter")
        for keys in ("c cancel", "r restart", "enter details"):
            await hides(app, keys)


async def test_filter_hides_selection_cursor_moves_to_neighbour() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("G", "f")
        await until(lambda: selected(app) == "3")


async def test_filter_row_that_stops_matching_stays_under_cursor() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("slash", *"state:back", "enter", "n")
        await until(lambda: controller.sent == [RetryNow("2", 1)])
        controller.attempt("2", 3.3, number=2)
        for name in "13":
            controller.restart(name, 3.3)
            controller.attempt(name, 3.4, incarnation=2)
            controller.emit(RetryScheduled, 3.5, worker=name, incarnation=2, attempt=2, delay=5.0)
        await until(lambda: app.dashboard.fleet.latest == 3.5)
        app.screen._resort()  # type: ignore[attr-defined]  # the fleet's
        assert (visible(app), selected(app)) == (["1", "2", "3"], "2")
        await shows(app, "2 stays while the cursor is on it · 2 of 8")
        await pilot.press("c")
        await until(lambda: controller.sent[1:] == [CancelWorker("2", 1)])
        await pilot.press("a", "down")
        assert set(app.dashboard.view.marks) == {"1", "3"}
        app.screen._resort()  # type: ignore[attr-defined]  # the fleet's
        assert (visible(app), selected(app)) == (["1", "3"], "3")
        await hides(app, "stays while")


async def test_sort_and_reverse_keep_the_selection() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("j", "s")
        await shows(app, "STATE▲")
        await pilot.press(*"sssssss", "S")
        await shows(app, "WORKER▼")
        assert visible(app)[0] == "7"
        assert selected(app) == "1"
        await pilot.press("j")
        assert selected(app) == "0"


async def test_sort_clicked_heading_sorts_then_reverses() -> None:
    async with running() as (app, _, pilot):
        await pilot.click(table_of(app), offset=(12, 0))
        await shows(app, "STATE▲")
        await pilot.click(table_of(app), offset=(12, 0))
        await shows(app, "STATE▼")
        assert selected(app) == "0"


async def test_mouse_click_selects_and_double_click_opens() -> None:
    async with running() as (app, _, pilot):
        await pilot.click(table_of(app), offset=(10, 3))
        assert selected(app) == "2"
        await pilot.click(table_of(app), offset=(10, 4), times=2)
        await shows(app, "worker 3", "LAST TRACEBACK")


async def test_trouble_filter_shows_only_trouble() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("f")
        await shows(app, "\n trouble only · 2 of 8\n")
        await pilot.press("slash")
        await shows(app, "/ text or state", "trouble only · 2 of 8")
        await pilot.press("escape")
        await shows(app, "\n trouble only · 2 of 8\n")
        await pilot.press("f")
        await hides(app, "trouble only")
        assert app.screen.query_one(FilterBar).display is False


async def test_filter_completes_what_is_typed() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("slash", *"state:fa")
        await shows(app, "/ state:failed")
        await pilot.press("tab", "enter")
        await shows(app, "1 of 8", "› 3")
        assert app.dashboard.view.query.text == "state:failed"


async def test_filter_problem_leaves_the_typed_text_visible() -> None:
    async with running(size=(60, 20)) as (app, _, pilot):
        await pilot.press("slash", *"nothing_like_this_field_exists:x")
        await shows(app, "nothing_like_this_field_exists:x", "no field noth")


async def test_filter_by_time_finds_rows_as_time_passes() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("slash", *"running elapsed>10s", "enter")
        await shows(app, "0 of 8")
        controller.log(None, 20.0, "much later")
        await until(lambda: app.dashboard.fleet.latest == 20.0)
        app.dashboard.view.resort()
        await until(lambda: visible(app) == ["6"])
