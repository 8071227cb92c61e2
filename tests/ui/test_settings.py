"""Settings that a person changes during the run: by a key, in the dialog, and back."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from asyncwatch.commands import ChangeSetting
from asyncwatch.events import SettingChanged
from asyncwatch.ui.screens.options import changes
from tests.ui.fakes import FakeController, hides, make_app, shows, text_of, until
from tests.ui.running import running
from tests.ui.trees import tree_run


def change(controller: FakeController, name: str, value: object, previous: object, *, is_undo: bool = False) -> None:
    """Say that a setting was changed."""
    controller.emit(SettingChanged, 3.3, name=name, value=value, previous=previous, is_undo=is_undo)


async def test_pause_toggles() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("P")
        change(controller, "paused", value=True, previous=False)
        await shows(app, "‖ paused")
        await pilot.press("P")
        await until(lambda: len(controller.sent) == 2)
        assert controller.sent == [ChangeSetting("paused", True), ChangeSetting("paused", False)]
        change(controller, "paused", value=False, previous=True)
        await hides(app, "paused")


async def test_concurrency_keys_build_on_the_answer_before() -> None:
    async with running() as (app, controller, pilot):

        async def asks_for(*numbers: int) -> None:
            await until(lambda: len(controller.sent) == len(numbers))
            assert controller.sent == [
                ChangeSetting("concurrency", abs(number), is_undo=number < 0) for number in numbers
            ]

        await pilot.press("u")
        await shows(app, "Nothing to undo: no setting has been changed.")
        await pilot.press("plus", "plus")
        await asks_for(110)
        change(controller, "concurrency", 110, 100)
        await shows(app, "concurrency 110 (was 100)")
        await asks_for(110, 121)
        await pilot.press("u", "u")
        change(controller, "concurrency", 121, 110)
        await asks_for(110, 121, -110)
        await shows(app, "Undone: concurrency is 110 again (was 121). 1 earlier change can be undone.")
        app.clear_notifications()  # it stands before the keys
        await shows(app, "undo concurrency")
        change(controller, "concurrency", 110, 121, is_undo=True)
        await asks_for(110, 121, -110, -100)
        change(controller, "concurrency", 100, 110, is_undo=True)
        await hides(app, "(was 100)")


async def test_undo_bad_luck_says_what_is_back() -> None:
    async with running() as (app, controller, pilot):
        started = app.dashboard.fleet.run
        assert started is not None
        app.dashboard.fleet.settings.started(replace(started, bad_luck=1.0))
        change(controller, "bad luck", 0.0, None)
        await shows(app, "bad luck 0 (was 1)")
        await pilot.press("u")
        await shows(app, "Undone: bad luck is 1 again (was 0).")


async def test_options_before_the_run_started_say_so() -> None:
    controller = FakeController()
    app = make_app(controller)
    async with app.run_test(notifications=True) as pilot:
        await pilot.press("o")
        await shows(app, "The run has not started yet")
        assert len(app.screen_stack) == 1


async def test_concurrency_of_a_tree_cannot_be_changed() -> None:
    async with running(emit=tree_run) as (app, controller, pilot):
        await pilot.press("plus")
        await shows(app, "A tree has no concurrency limit")
        app.clear_notifications()
        await pilot.press("o")
        await shows(app, "Settings of the run", "bad luck above")
        await hides(app, "limit: all")
        assert "concurrency" not in text_of(app)
        assert controller.sent == []


async def test_options_send_only_changed_settings() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("o")
        await shows(app, "Settings of the run")
        await pilot.press("backspace", "backspace", "backspace", "x", "enter")
        await shows(app, "concurrency: must be a whole number, not text ('x')")
        await pilot.press("backspace", "8", "down", *"20/s", "enter")
        await until(lambda: controller.sent)
        assert controller.sent == [ChangeSetting("concurrency", 8), ChangeSetting("rate", "20/s")]
        await hides(app, "Settings of the run")


async def test_options_invalid_rate_stays_open() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("o")
        await shows(app, "Settings of the run")
        await pilot.press("down", *"fast", "enter")
        await shows(app, "a rate reads like 50/s, 90/min, 3/10s or 50/s burst 10, not 'fast'")
        assert controller.sent == []
        await pilot.press("escape")
        await hides(app, "Settings of the run")


async def test_options_closed_or_unchanged_send_nothing() -> None:
    async with running() as (app, controller, pilot):
        for key in ("escape", "enter"):
            await pilot.press("o")
            await shows(app, "Settings of the run")
            await pilot.press(key)
            await hides(app, "Settings of the run")
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
def test_changes_none_removes_a_setting(name: str, typed: str, value: float | str | None) -> None:
    assert changes({name: "before"}, {name: typed}) == [ChangeSetting(name, value)]
    assert changes({name: "before"}, {name: ""}) == []


@pytest.mark.parametrize("typed", ["2", "-1", "often"])
def test_changes_bad_luck_out_of_range_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match=r"^bad luck: must be .*; 'none' means each worker's own$"):
        changes({"bad luck": ""}, {"bad luck": typed})
