"""Keys that act on workers: the requests they send, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from asyncwatch.commands import CancelAll, CancelWorker, RestartWorker
from tests.ui.fakes import FakeController, hides, shows, text_of, until
from tests.ui.running import running, visible


async def test_cancels_the_selected_worker() -> None:
    """`c` asks to cancel the incarnation that is shown, and nothing changes on screen by itself."""
    async with running() as (app, controller, pilot):
        await pilot.press("j", "j", "c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("2", 1)]
        assert "↻ backing off" in text_of(app)
        controller.cancel("2", 3.3, ended=False)
        await shows(app, "› 2       □ cancelling")


async def test_restarts_the_selected_worker() -> None:
    """`r` names the present incarnation, also after a restart."""
    async with running() as (app, controller, pilot):
        controller.restart("0", 3.3)
        await until(lambda: app.scene.fleet.rows[0].incarnation == 2)
        await pilot.press("r")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("0", 2)]


async def test_acts_on_the_marked_workers() -> None:
    """With marks, `c` goes to those of them that are active and `r` to all, in queue order."""
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


async def test_marks_what_the_filter_shows_and_clears() -> None:
    """`a` marks the visible workers only; `escape` clears first the marks, then the filter."""
    async with running() as (app, _, pilot):
        await pilot.press("f", "a")
        await until(lambda: set(app.scene.view.marks) == {"2", "3"})
        await pilot.press("escape")
        assert set(app.scene.view.marks) == set()
        assert visible(app) == ["2", "3"]
        await pilot.press("escape")
        assert len(visible(app)) == 8


async def test_cancel_all_asks_and_says_how_many() -> None:
    """`C` sends nothing before a yes, and says how many workers are active."""
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
async def test_many_marked_workers_are_asked_about(key: str, verb: str, kind: type[Any]) -> None:
    """Beyond twenty marked workers nothing is sent before a yes, which the same key gives; twenty need none."""

    def tell(controller: FakeController) -> None:
        controller.start(*(str(number) for number in range(21)))

    async with running(tell=tell) as (app, controller, pilot):
        await pilot.press("a", key)
        await shows(app, f"{verb} 21 marked workers?")
        assert controller.sent == []
        await pilot.press(key)
        await until(lambda: controller.sent)
        assert controller.sent == [kind(str(number), 1) for number in range(21)]
        await pilot.press("space", key)
        await until(lambda: len(controller.sent) == 41)


async def test_restart_all_takes_those_without_success() -> None:
    """`R` restarts every worker that ended without success, after a yes that enter gives too."""
    async with running() as (app, controller, pilot):
        await pilot.press("R")
        await shows(app, "Restart 2 workers that did not succeed?")
        await pilot.press("enter")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("3", 1), RestartWorker("4", 1)]


async def test_a_request_waits_for_no_loop_that_runs() -> None:
    """Without a blocked loop a request is sent without a note."""
    async with running() as (app, controller, pilot):
        controller.block(0.4)
        await pilot.press("j", "r")
        await until(lambda: controller.sent)
        await pilot.pause()
        assert "blocked" not in text_of(app)


async def test_refusals_become_one_note() -> None:
    """A refused request is told with its reason; of all that one action asked for, the number and the first."""
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


async def test_a_note_covers_nothing_that_lives() -> None:
    """What is said stands where the keys are, on whatever screen, and once however often the key is pressed."""
    async with running() as (app, _controller, pilot):
        before = text_of(app).splitlines()
        await pilot.press("u", "u", "u")
        await shows(app, "nothing to undo")
        *above, last = text_of(app).splitlines()
        assert above == before[:-1]
        assert last.strip(" ▌") == "No setting was changed: there is nothing to undo."
        await pilot.press("l")
        await shows(app, "log  ", "nothing to undo")
        assert text_of(app).splitlines()[0].lstrip().startswith("log  ")
