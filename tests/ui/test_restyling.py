"""Cached lines after a change of theme or size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from textual.pilot import Pilot
from textual.theme import BUILTIN_THEMES

from asyncwatch.ui.app import AsyncwatchApp, Ending
from tests.ui.fakes import FakeController, make_app, shows, small_run, until

DARK = "textual-dark"
OTHER_ACCENT = replace(BUILTIN_THEMES[DARK], name="other", accent="#00ff00", error="#0000ff")
"""A theme of which only the paints of some spans are others: no widget's own colours."""


Size = tuple[int, int]
_STILL = 20


def lines(app: AsyncwatchApp) -> list[str]:
    """Return each line, with its colours."""
    strips = app.screen._compositor.render_strips()
    return ["".join(f"{segment.text}[{segment.style}]" for segment in strip) for strip in strips]


async def fresh(theme: str, size: Size) -> list[str]:
    """Return how the lines look from the beginning."""
    async with shown(theme, size) as (app, _pilot):
        seen: list[list[str]] = []

        def is_still() -> bool:
            seen.append(lines(app))
            return len(seen) > _STILL and all(picture == seen[-1] for picture in seen[-_STILL:])

        await until(is_still)
        return seen[-1]


@asynccontextmanager
async def shown(theme: str, size: Size) -> AsyncIterator[tuple[AsyncwatchApp, Pilot[Ending]]]:
    """Show a small run."""
    controller = FakeController()
    small_run(controller)
    app = make_app(controller)
    app.register_theme(OTHER_ACCENT)
    app.theme = theme
    async with app.run_test(size=size) as pilot:
        await shows(app, "› 0")
        yield app, pilot


@pytest.mark.parametrize("theme", ["textual-light", "nord", OTHER_ACCENT.name])
async def test_theme_change_recolours_all_lines(theme: str) -> None:
    expected = await fresh(theme, (120, 36))
    async with shown(DARK, (120, 36)) as (app, _pilot):
        assert lines(app) != expected
        app.theme = theme
        await until(lambda: lines(app) == expected)


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (60, 15)])
async def test_resize_lays_lines_out_anew(size: Size) -> None:
    expected = await fresh(DARK, size)
    async with shown(DARK, (120, 36)) as (app, pilot):
        await pilot.resize_terminal(*size)
        await until(lambda: lines(app) == expected)
