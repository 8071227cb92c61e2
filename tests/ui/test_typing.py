"""Keys that come faster than what they open: each is for what the one before it opened."""

from __future__ import annotations

from itertools import chain

import pytest
from textual.events import Key, Paste

from asyncwatch.commands import ChangeSetting, Command, RestartWorker
from asyncwatch.ui.app import AsyncwatchApp
from tests.ui.fakes import shows, until
from tests.ui.running import running


async def test_keys_typed_ahead_reach_what_opens() -> None:
    async with running() as (app, controller, _pilot):
        for key in "o12":
            app.post_message(Key(key, key))
        app.post_message(Key("enter", None))
        await until(lambda: controller.sent)
        for key in "/cC":
            app.post_message(Key("slash" if key == "/" else key, key))
        await shows(app, "/ cC")
        assert controller.sent == [ChangeSetting("concurrency", 12)]
        assert len(app.screen_stack) == 1


def _burst(app: AsyncwatchApp, *keys: str) -> None:
    """Hand over keys as a terminal does that has read them all at once; what is no name of a key is typed."""
    named = {"tab", "enter", "escape", "backspace", "ctrl+u", "left", "down"}
    for key in chain.from_iterable([key] if key in named else key for key in keys):
        app.post_message(Key("slash" if key == "/" else key, key if len(key) == 1 else None))


@pytest.mark.parametrize(
    ("keys", "commands"),
    [
        (["tab", "backspace", "45/s"], [ChangeSetting("rate", "45/s")]),
        (
            ["tab", "45/m", "tab", "tab", "backspace", "0.25"],
            [ChangeSetting("rate", "45/m"), ChangeSetting("bad luck", 0.25)],
        ),
        (["tab", "9", "ctrl+u", "7", "left", "4", "enter", "c"], None),
        (["7", "left", "4", "down", "ctrl+u", "4/s"], [ChangeSetting("concurrency", 47), ChangeSetting("rate", "4/s")]),
    ],
)
async def test_key_burst_reaches_each_target(keys: list[str], commands: list[Command] | None) -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("o")
        await shows(app, "Settings of the run")
        _burst(app, *keys)
        if commands is None:
            await shows(app, "a rate reads like", "4c7")
            return
        _burst(app, "enter")
        await until(lambda: controller.sent)
        assert controller.sent == commands


async def test_filter_takes_a_key_burst() -> None:
    async with running() as (app, controller, _pilot):
        _burst(app, "/abc", "ctrl+u", "state:cancelled", "enter", "ar")
        await until(lambda: controller.sent)
        assert app.dashboard.view.query.text == "state:cancelled"
        assert controller.sent == [RestartWorker("4", 1)]
        _burst(app, "/", "ctrl+u", "77", "escape", "G")
        await until(lambda: not app.dashboard.view.query.text)
        assert set(app.dashboard.view.marks) == {"4"}


async def test_paste_keeps_its_place_among_keys() -> None:
    async with running() as (app, _controller, _pilot):
        _burst(app, "/a", "backspace", "b")
        app.post_message(Paste("cd"))
        _burst(app, "left", "e")
        await until(lambda: app.dashboard.view.query.text == "bced")
