"""The documentation on the screen."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from textual.pilot import Pilot

from asyncwatch import guide
from asyncwatch.ui.guide import GuideApp
from tests.ui.fakes import hides, shows, text_of

PAGES = {
    "index": "# First\n\n[one link](howto-b.md#far) and [another](https://a.example/)\n",
    "howto-b": "# Second\n\n"
    '```sh keys="qy"\nasyncwatch\n```\n\n'
    + "filler\n\n" * 14
    + "## Far\n\nthe needle\n\n"
    + "filler\n\n" * 14
    + "| a | b |\n|---|---|\n"
    + "| row | row |\n" * 14
    + "| NEEDLE | below |\n"
    + "| row | row |\n" * 14,
}


@pytest.fixture
def _pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the guide consist of two pages."""
    for topic, text in PAGES.items():
        (tmp_path / f"{topic}.md").write_text(text)
    monkeypatch.setattr(guide, "FOLDER", tmp_path)


@asynccontextmanager
async def shown(topic: str, columns: int = 100) -> AsyncIterator[tuple[GuideApp, Pilot[None]]]:
    """Show a page."""
    app = GuideApp(topic)
    async with app.run_test(size=(columns, 24)) as pilot:
        await pilot.pause()
        yield app, pilot


pytestmark = pytest.mark.usefixtures("_pages")


async def test_page_is_shown_beside_the_contents() -> None:
    async with shown("howto-b") as (app, _):
        await shows(app, "First", "Second", "└── Far", "filler", "q quit")
        assert "keys=" not in text_of(app)


async def test_contents_open_a_page_and_scroll_to_a_heading() -> None:
    async with shown("index") as (app, pilot):
        await shows(app, "one link")
        await pilot.press("tab", "down", "enter")
        await shows(app, "filler", "└── Far")
        await hides(app, "the needle")
        await pilot.press("tab", "down", "enter")
        await shows(app, "the needle")
        await pilot.press("b")
        await shows(app, "one link")


async def test_contents_take_room_in_a_narrow_terminal_only_while_they_are_used() -> None:
    async with shown("howto-b", 80) as (app, pilot):
        await shows(app, "filler")
        await hides(app, "└── Far")
        await pilot.press("tab")
        await shows(app, "└── Far")
        await pilot.press("down", "enter")
        await shows(app, "the needle")
        await hides(app, "└── Far")
        await pilot.press("tab", "tab")
        await hides(app, "└── Far")


async def test_title_in_brackets_is_shown_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "index.md").write_text("# [one]\n\n## [[two]]\n")
    async with shown("index") as (app, _):
        await shows(app, " [one]", "└── [[two]]")


async def test_link_opens_the_page_at_its_heading(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(GuideApp, "open_url", lambda _app, url, **_: opened.append(url))
    async with shown("index") as (app, pilot):
        await shows(app, "one link")
        (x, y) = next((line.index("one link"), y) for y, line in enumerate(text_of(app).splitlines()) if "one" in line)
        await pilot.click(offset=(x + 18, y))
        await pilot.pause()
        assert opened == ["https://a.example/"]
        await pilot.click(offset=(x + 2, y))
        await shows(app, "the needle")


async def test_search_finds_every_match_in_all_pages() -> None:
    async with shown("index") as (app, pilot):
        await pilot.press("slash", *"needle", "enter")
        await shows(app, "the needle", "1 of 2")
        await pilot.press("n")
        await shows(app, "NEEDLE", "below", "2 of 2")
        await pilot.press("n")
        await shows(app, "the needle", "1 of 2")
        await pilot.press("N")
        await shows(app, "NEEDLE", "2 of 2")
        await pilot.press("slash", *"xx", "enter")
        await shows(app, "no match")
        await pilot.press("escape")
        await hides(app, "no match")


async def test_q_and_ctrl_c_quit() -> None:
    for key in ("q", "ctrl+c"):
        async with shown("index") as (app, pilot):
            await pilot.press(key)
            await pilot.pause()
            assert not app.is_running or app._exit
