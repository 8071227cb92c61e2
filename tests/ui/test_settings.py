"""Settings that a person changes while the run goes on: by a key, in a dialog, and back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from asyncwatch.commands import ChangeSetting
from asyncwatch.events import SettingChanged
from asyncwatch.ui.actions import step
from asyncwatch.ui.screens.options import changes
from tests.ui.fakes import FakeController, hides, make_app, shows, text_of, until
from tests.ui.running import running
from tests.ui.trees import tree_run


def change(controller: FakeController, name: str, value: object, previous: object, *, is_undo: bool = False) -> None:
    """Say that a setting was changed."""
    controller.tell(SettingChanged, 3.3, name=name, value=value, previous=previous, is_undo=is_undo)


async def test_pauses_and_goes_on() -> None:
    """`P` asks for the opposite of what is, and the header says that the run is paused."""
    async with running() as (app, controller, pilot):
        await pilot.press("P")
        change(controller, "paused", value=True, previous=False)
        await shows(app, "‖ paused")
        await pilot.press("P")
        await until(lambda: len(controller.sent) == 2)
        assert controller.sent == [ChangeSetting("paused", True), ChangeSetting("paused", False)]
        change(controller, "paused", value=False, previous=True)
        await hides(app, "paused")


async def test_changes_the_concurrency_and_undoes_it() -> None:
    """`+` and `-` ask for a tenth more or less, the header says what it was, `u` asks for the previous value.

    Keys that are pressed faster than the engine answers are not lost: each builds on what came of the one before.
    """
    async with running() as (app, controller, pilot):

        async def asks_for(*numbers: int) -> None:
            await until(lambda: len(controller.sent) == len(numbers))
            assert controller.sent == [
                ChangeSetting("concurrency", abs(number), is_undo=number < 0) for number in numbers
            ]

        await pilot.press("u")
        await shows(app, "No setting was changed: there is nothing to undo.")
        await pilot.press("plus", "plus")
        await asks_for(110)
        change(controller, "concurrency", 110, 100)
        await shows(app, "concurrency 110 (was 100)")
        await asks_for(110, 121)
        await pilot.press("u", "u")
        change(controller, "concurrency", 121, 110)
        await asks_for(110, 121, -110)
        await shows(app, "Undone: concurrency is 110 again (was 121). 1 change before it.")
        app.clear_notifications()  # it stands before the keys
        await shows(app, "undo concurrency")
        change(controller, "concurrency", 110, 121, is_undo=True)
        await asks_for(110, 121, -110, -100)
        change(controller, "concurrency", 100, 110, is_undo=True)
        await hides(app, "(was 100)")


async def test_undone_bad_luck_is_that_of_the_workers() -> None:
    """What an undo says to have brought back is what the chip said before it."""
    async with running() as (app, controller, pilot):
        started = app.scene.fleet.run
        assert started is not None
        app.scene.fleet.settings.started(replace(started, bad_luck=1.0))
        change(controller, "bad luck", 0.0, None)
        await shows(app, "bad luck 0 (was 1)")
        await pilot.press("u")
        await shows(app, "Undone: bad luck is 1 again (was 0).")


async def test_settings_are_typed_when_they_are_known() -> None:
    """Before the run has started `o` says so, and opens nothing with half of the fields."""
    controller = FakeController()
    app = make_app(controller)
    async with app.run_test(notifications=True) as pilot:
        await pilot.press("o")
        await shows(app, "The run has not started yet")
        assert len(app.screen_stack) == 1


async def test_a_tree_has_no_concurrency_to_change() -> None:
    """Its workers hold no places: nothing is sent, and the dialog has no such line."""
    async with running(tell=tree_run) as (app, controller, pilot):
        await pilot.press("plus")
        await shows(app, "All workers of a tree run at a time")
        await pilot.press("o")
        await shows(app, "Change while it runs", "bad luck above")
        assert "concurrency" not in text_of(app)
        assert controller.sent == []


@pytest.mark.parametrize("number", [1, 2, 9, 10, 11, 99, 100, 1234, 10_000])
def test_a_step_down_takes_back_a_step_up(number: int) -> None:
    """Up and down again is where one was, and a step always changes something."""
    assert step(number, 1) > number
    assert step(step(number, 1), -1) == number
    assert step(1, -1) == 1


async def test_types_settings() -> None:
    """`o` sends what was typed anew, and nothing else; what cannot be is said, and stays to be mended."""
    async with running() as (app, controller, pilot):
        await pilot.press("o")
        await shows(app, "Change while it runs")
        await pilot.press("backspace", "backspace", "backspace", "x", "enter")
        await shows(app, "concurrency is a whole number of at least 1")
        await pilot.press("backspace", "8", "down", *"20/s", "enter")
        await until(lambda: controller.sent)
        assert controller.sent == [ChangeSetting("concurrency", 8), ChangeSetting("rate", "20/s")]
        await hides(app, "Change while it runs")


async def test_a_rate_that_is_none_is_said_before_it_is_sent() -> None:
    """What no rate looks like stands in the dialog, which stays open until it is mended."""
    async with running() as (app, controller, pilot):
        await pilot.press("o")
        await shows(app, "Change while it runs")
        await pilot.press("down", *"fast", "enter")
        await shows(app, "a rate reads like 50/s, 90/min, 3/10s or 50/s burst 10, not 'fast'")
        assert controller.sent == []
        await pilot.press("escape")
        await hides(app, "Change while it runs")


async def test_leaves_settings_as_they_are() -> None:
    """Escape, and enter without a change, send nothing."""
    async with running() as (app, controller, pilot):
        for key in ("escape", "enter"):
            await pilot.press("o")
            await shows(app, "Change while it runs")
            await pilot.press(key)
            await hides(app, "Change while it runs")
        assert controller.sent == []


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("bad luck", "0.5", 0.5),
        ("bad luck", "none", None),
        ("rate", "none", None),
        ("rate per key", " 5/min ", "5/min"),
    ],
)
def test_none_takes_a_setting_away(name: str, typed: str, value: float | str | None) -> None:
    """`none` is no limit, or each worker's own luck; an empty line changes nothing."""
    assert changes({name: "before"}, {name: typed}) == [ChangeSetting(name, value)]
    assert changes({name: "before"}, {name: ""}) == []


@pytest.mark.parametrize("typed", ["2", "-1", "often"])
def test_bad_luck_is_a_draw(typed: str) -> None:
    """A threshold outside 0 to 1 is refused."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        changes({"bad luck": ""}, {"bad luck": typed})
