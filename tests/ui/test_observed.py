"""A dashboard of tasks that a program has made by itself, which asyncwatch does not supervise."""

from __future__ import annotations

import pytest

from asyncwatch.commands import CancelWorker
from asyncwatch.events import ProgressReported
from asyncwatch.events.run import OBSERVED
from tests.ui.fakes import FakeController, dashboard_of, hides, overview_text, shows, text_of, until
from tests.ui.running import running, visible

WAITS = "client.py:88 fetch · Queue.get"
SLEEPS = "client.py:90 fetch · sleep"


def observed_run(controller: FakeController) -> None:
    """Emit five tasks: two wait in one place, one in another, one has failed and one returned."""
    names = [f"task {number}" for number in range(5)]
    controller.start(*names, runner=OBSERVED)
    for name, status in zip(names, [WAITS, f"{SLEEPS} (30 s)", WAITS, WAITS, WAITS], strict=True):
        controller.attempt(name, 0.1, luck=0.0)
        facts = {"attempt": 1, "done": None, "total": None, "unit": "", "status": status}
        controller.emit(ProgressReported, 0.2, worker=name, incarnation=1, **facts)
    controller.break_down(names[3], 0.5, "LookupError", "no such thing")
    controller.succeed(names[4], 1.1, result=42)


def test_overview_has_no_words_of_supervision() -> None:
    controller = FakeController()
    observed_run(controller)
    text = overview_text(dashboard_of(controller), 120)
    assert "5 tasks" in text
    assert "seed" not in text
    assert "attempts" not in text


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_rows_say_where_tasks_wait_and_the_overview_groups_them(size: tuple[int, int]) -> None:
    async with running(emit=observed_run, size=size) as (app, _, _pilot):
        await shows(app, f"2 × {WAITS}   1 × {SLEEPS}")
        await shows(app, f"{SLEEPS} (30 s)", "LookupError: no such thing", "WAITS AT, RESULT OR ERROR")
        assert " 42" in text_of(app)
        await hides(app, "LUCK")


@pytest.mark.parametrize("width", [20, 30, 40])
async def test_narrow_terminal_shows_the_names_of_tasks(width: int) -> None:
    async with running(emit=observed_run, size=(width, 12)) as (app, _, pilot):
        await pilot.press("j")
        await shows(app, "task 1")


async def test_time_can_be_hidden() -> None:
    async with running(emit=observed_run) as (app, _, _pilot):
        app.dashboard.columns["elapsed"] = False
        app.screen_stack[0].draw()  # type: ignore[attr-defined]  # the fleet
        await hides(app, "ELAPSED")


@pytest.mark.parametrize("key", ["r", "R", "n", "x", "N", "X", "P", "plus", "o", "u"])
async def test_keys_that_need_a_supervisor_say_why_there_is_none(key: str) -> None:
    async with running(emit=observed_run) as (app, controller, pilot):
        await pilot.press(key)
        await shows(app, "These are tasks of the program itself.")
        assert controller.sent == []


async def test_c_cancels_a_task() -> None:
    async with running(emit=observed_run) as (_, controller, pilot):
        await pilot.press("c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("task 0", 1)]


async def test_places_can_be_chosen_and_their_tasks_cancelled() -> None:
    async with running(emit=observed_run) as (app, controller, pilot):
        await pilot.press("w")
        await shows(app, f"2  {WAITS}", f"1  {SLEEPS}", "3 workers in 2 groups")
        await pilot.press("f")
        await until(lambda: visible(app) == ["task 0", "task 2"])
        await shows(app, f"those at {WAITS}")
        await pilot.press("escape", "w", "c")
        await shows(app, "Cancel 2 workers that wait there?")
        await pilot.press("c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("task 0", 1), CancelWorker("task 2", 1)]
