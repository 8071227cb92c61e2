"""A terminal with 16 colours: the styles of states have plain colours there, since tints of a theme would be white."""

import pytest

from tests.ui.running import running


@pytest.mark.parametrize(
    ("terminal", "depth", "has_few"),
    [("xterm", "", True), ("xterm-256color", "", False), ("xterm-256color", "truecolor", False)],
)
async def test_states_have_plain_colours_where_there_are_few(
    monkeypatch: pytest.MonkeyPatch, terminal: str, depth: str, has_few: bool
) -> None:
    monkeypatch.setenv("TERM", terminal)
    monkeypatch.setenv("COLORTERM", depth)
    async with running() as (app, _controller, pilot):
        assert app.has_class("-few-colors") is has_few
        style = app.get_component_styles("span--running")
        assert ((style.color.r, style.color.g, style.color.b) == (0, 128, 128)) is has_few
        await pilot.press("C")
        await pilot.pause()
        assert (app.screen.styles.background.a == 0) is has_few
