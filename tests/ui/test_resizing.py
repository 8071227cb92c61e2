"""Every screen follows the size of the terminal, however many changes of it are queued."""

from __future__ import annotations

import pytest
from textual import events
from textual.command import CommandPalette
from textual.geometry import Size
from textual.screen import Screen

from asyncwatch.ui.screens.confirm import ConfirmScreen
from asyncwatch.ui.screens.cost import CostScreen
from asyncwatch.ui.screens.details import DetailsScreen
from asyncwatch.ui.screens.errors import ErrorsScreen
from asyncwatch.ui.screens.fleet import FleetScreen
from asyncwatch.ui.screens.help import HelpScreen
from asyncwatch.ui.screens.hosts import HostsScreen
from asyncwatch.ui.screens.limits import LimitsScreen
from asyncwatch.ui.screens.log import LogScreen
from asyncwatch.ui.screens.options import OptionsScreen
from tests.ui.fakes import shows, text_of, until
from tests.ui.running import running

_MOST_LAYOUTS = 20
_TERMINAL = Size(120, 30)
_SCREENS = {
    "": FleetScreen,
    "slash": FleetScreen,
    "enter": DetailsScreen,
    "e": ErrorsScreen,
    "b": LimitsScreen,
    "l": LogScreen,
    "d": CostScreen,
    "H": HostsScreen,
    "question_mark": HelpScreen,
    "o": OptionsScreen,
    "q": ConfirmScreen,
    "ctrl+p": CommandPalette,
}


@pytest.mark.parametrize("between", [0, 1, 2])
@pytest.mark.parametrize(("key", "kind"), _SCREENS.items())
async def test_resizes_queued_between_messages_settle_on_terminal_size(
    key: str, kind: type[Screen[object]], between: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    layouts: list[Size] = []
    lay_out = Screen._screen_resized

    def counting(screen: Screen[object], size: Size) -> None:
        layouts.append(size)
        assert len(layouts) < _MOST_LAYOUTS, "the screen is laid out again and again"
        lay_out(screen, size)

    async with running(size=(80, 24)) as (app, _controller, pilot):
        await pilot.press(*filter(None, [key]))
        await until(lambda: isinstance(app.screen, kind))
        await pilot.resize_terminal(*_TERMINAL)
        monkeypatch.setattr(Screen, "_screen_resized", counting)
        for number, size in enumerate((Size(100, 30), _TERMINAL)):
            for screen in app.screen_stack:
                screen.post_message(events.Resize(size, size))
                if number < between:
                    screen.call_later(lambda: None)
        await until(lambda: layouts)  # a pause would queue a message of its own
        await pilot.pause()
        assert layouts[-1] == _TERMINAL
        assert kind is CommandPalette or set(layouts) == {_TERMINAL}
        await pilot.press("escape")
        if key not in {"", "slash"}:
            await until(lambda: isinstance(app.screen, FleetScreen))
        await pilot.press("j")
        await shows(app, "› 1")
        assert max(map(len, text_of(app).splitlines())) == _TERMINAL.width - 1
