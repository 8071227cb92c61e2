"""Keys that act on workers: the commands they send and the notices they show."""

from __future__ import annotations

from typing import Any

import pytest

from asyncwatch.commands import CancelAll, CancelWorker, RestartWorker
from tests.ui.fakes import FakeController, hides, shows, text_of, until
from tests.ui.running import running, visible


async def test_cancel_selected_worker_changes_the_row_only_by_events() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("j", "j", "c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("2", 1)]
        assert "↻ backing off" in text_of(app)
        controller.cancel("2", 3.3, ended=False)
        await shows(app, "› 2       □ cancelling")


async def test_restart_selected_worker_names_the_present_incarnation() -> None:
    async with running() as (app, controller, pilot):
        controller.restart("0", 3.3)
        await until(lambda: app.dashboard.fleet.rows[0].incarnation == 2)
        await pilot.press("r")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("0", 2)]


async def test_cancel_and_restart_marked_workers_are_sent_in_queue_order() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("space", "j", "space", "space")
        await shows(app, "▌  0", "▌  2", "▌  3")
        await pilot.press("c")
        await until(lambda: len(controller.sent) == 1)
        await pilot.press("r")
        await until(lambda: len(controller.sent) == 4)
        assert controller.sent == [
            CancelWorker("2", 1),
            RestartWorker("0", 1),
            RestartWorker("2", 1),
            RestartWorker("3", 1),
        ]


async def test_mark_all_filtered_marks_visible_workers_only() -> None:
    async with running() as (app, _, pilot):
        await pilot.press("f", "a")
        await until(lambda: set(app.dashboard.view.marks) == {"2", "3"})
        await pilot.press("escape")
        assert set(app.dashboard.view.marks) == set()
        assert visible(app) == ["2", "3"]
        await pilot.press("escape")
        assert len(visible(app)) == 8


async def test_cancel_all_sends_nothing_before_yes() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("C")
        await shows(app, "Cancel 4 workers?")
        await pilot.press("n")
        await hides(app, "Cancel 4 workers?")
        assert controller.sent == []
        await pilot.press("C", "y")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelAll()]


@pytest.mark.parametrize(("key", "verb", "kind"), [("c", "Cancel", CancelWorker), ("r", "Restart", RestartWorker)])
async def test_action_on_more_than_twenty_marked_workers_asks_first(key: str, verb: str, kind: type[Any]) -> None:
    def emit(controller: FakeController) -> None:
        controller.start(*(str(number) for number in range(21)))

    async with running(emit=emit) as (app, controller, pilot):
        await pilot.press("a", key)
        await shows(app, f"{verb} 21 marked workers?")
        assert controller.sent == []
        await pilot.press(key)
        await until(lambda: controller.sent)
        assert controller.sent == [kind(str(number), 1) for number in range(21)]
        await pilot.press("space", key)
        await until(lambda: len(controller.sent) == 41)


async def test_restart_all_is_confirmed_by_enter() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("R")
        await shows(app, "Restart 2 workers that did not succeed?")
        await pilot.press("enter")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("3", 1), RestartWorker("4", 1)]


async def test_action_short_block_shows_no_notice() -> None:
    async with running() as (app, controller, pilot):
        controller.block(0.4)
        await pilot.press("j", "r")
        await until(lambda: controller.sent)
        await pilot.pause()
        assert "blocked" not in text_of(app)


async def test_action_on_all_acts_on_the_workers_that_the_filter_matches() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("slash", *"state:failed", "enter")
        await until(lambda: visible(app) == ["3"])
        await pilot.press("R")
        await shows(app, "Restart 1 matching worker that did not succeed?", "The filter matches 1 of 8 workers.")
        assert controller.sent == []
        await pilot.press("R")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("3", 1)]
        await pilot.press("escape", "C")
        await shows(app, "Cancel 4 workers?")


async def test_refusals_of_one_action_share_one_notice() -> None:
    async with running() as (app, controller, pilot):
        controller.refuse("0", 3.3, "it has ended: succeeded")
        await shows(app, "cancel 0: it has ended: succeeded")
        await pilot.press("a", "c")
        await until(lambda: len(controller.sent) == 4)
        controller.refuse("2", 3.4, "it has ended: failed")
        await shows(app, "cancel 2: it has ended: failed")
        controller.refuse("6", 3.5, "it has ended: failed")
        await shows(app, "2 of 4 requests refused. The first: cancel 2: it has")
        assert len(app._notifications) == 1


async def test_notice_covers_neither_rows_nor_keys() -> None:
    async with running() as (app, _controller, pilot):
        before = text_of(app).splitlines()
        await pilot.press("u", "u", "u")
        await shows(app, "Nothing to undo")
        *above, keys, last = text_of(app).splitlines()
        assert keys == before[-1]
        assert [line for line in above if line] == [line for line in before[:-1] if line]
        assert last.strip(" ▌") == "Nothing to undo: no setting has been changed."
        await pilot.press("l")
        await shows(app, "log  ", "Nothing to undo")
        assert text_of(app).splitlines()[0].lstrip().startswith("log  ")


async def test_notice_shows_a_name_with_brackets_as_it_is() -> None:
    def emit(controller: FakeController) -> None:
        controller.start("job[/x]")
        controller.attempt("job[/x]", 0.1)
        controller.fail("job[/x]", 0.2)
        controller.back_off("job[/x]", 0.2, delay=30.0)

    async with running(emit=emit) as (app, _controller, pilot):
        await pilot.press("x")
        await shows(app, "No further attempt of job[/x].")
