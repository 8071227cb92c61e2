"""The log page: filter, search, long lines, copies and files."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.pilot import Pilot

from asyncwatch.events import LogRecorded
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.render.log import fold, folded_lines, height_of, log_line
from tests.ui.fakes import FakeController, hides, make_app, shows, until

LONG = "BEGIN " + "x" * 200 + " END"
Running = tuple[AsyncwatchApp, FakeController, Pilot[Any]]


@asynccontextmanager
async def log_page(size: tuple[int, int] = (100, 20)) -> AsyncIterator[Running]:
    """Show the log of forty lines, and of one long line among them."""
    controller = FakeController()
    controller.start("web", "db")
    for number in range(40):
        controller.log("web" if number % 2 else "db", number / 10, f"line {number}", level="INFO")
        if number == 35:
            controller.log("db", number / 10, LONG, level="ERROR")
    app = make_app(controller)
    async with app.run_test(size=size, notifications=True) as pilot:
        await shows(app, "db")
        await pilot.press("l")
        await shows(app, "line 39", "● following", "41 lines")
        yield app, controller, pilot


def texts(lines: Any) -> list[str]:
    return ["".join(span.text for span in line) for line in lines]


async def type_text(pilot: Pilot[Any], text: str) -> None:
    await pilot.press(*("space" if char == " " else "colon" if char == ":" else char for char in text))


@pytest.mark.parametrize(
    ("text", "first", "rest", "expected"),
    [
        ("abc", 3, 2, ["abc"]),
        ("abcdefg", 3, 2, ["abc", "de", "fg"]),
        ("日本語x", 4, 3, ["日本", "語x"]),
        ("日本語", 3, 2, ["日", "本", "語"]),
        ("one two three", 9, 6, ["one two ", "three"]),
        ("a bcdefghijk", 6, 4, ["a bcde", "fghi", "jk"]),
        ("né deux trois", 9, 6, ["né deux ", "trois"]),
    ],
)
def test_fold(text: str, first: int, rest: int, expected: list[str]) -> None:
    assert fold(text, first, rest) == expected


def test_fold_of_huge_wide_text_is_quick_and_fits() -> None:
    pieces = fold("日" * 20_001, 30, 20)
    assert "".join(pieces) == "日" * 20_001
    assert max(map(cell_len, pieces)) <= 30


@pytest.mark.parametrize("width", [20, 60, 100])
def test_folded_record_is_whole_and_as_high_as_it_says(width: int) -> None:
    log = LogRecorded(0, 0.0, "web", "INFO", "app", f"{LONG}\nsecond 日本語")
    lines = folded_lines(log, 8, width)
    assert len(lines) == height_of(log, 8, width)
    assert max(map(cell_len, texts(lines[1:]))) <= width
    whole = "".join(text[4:] if number else text for number, text in enumerate(texts(lines)))
    assert LONG in whole
    assert whole.endswith("second 日本語")


def test_line_scrolled_sideways_begins_later() -> None:
    log = LogRecorded(0, 0.0, "web", "INFO", "app", "日本語 and more")
    assert texts([log_line(log, 3)])[0].endswith("web  日本語 and more")
    assert texts([log_line(log, 3, 6)])[0].endswith("web  … and more")
    assert texts([log_line(log, 3, 99)])[0].endswith("web  ")


def test_found_text_is_highlighted_in_any_case() -> None:
    log = LogRecorded(0, 0.0, "web", "INFO", "app", "Timeout, then timeout")
    styles = [(span.text, span.style) for span in log_line(log, 3, found="timeout")[3:]]
    assert styles == [("Timeout", "notice"), (", then ", ""), ("timeout", "notice"), ("", "")]


async def test_end_of_a_long_line_is_seen_sideways_and_folded() -> None:
    async with log_page() as (app, _, pilot):
        await shows(app, "BEGIN")
        await hides(app, " END")
        await pilot.press(*["right"] * 9)
        await shows(app, " END", "from column ")
        await pilot.press(*["left"] * 9)
        await hides(app, " END")
        await pilot.press("w")
        await shows(app, "BEGIN", " END", "● following", "line 39")
        await pilot.press("right")
        await shows(app, "Long lines are folded.")


async def test_folded_log_follows_and_counts_what_is_new() -> None:
    async with log_page() as (app, controller, pilot):
        await pilot.press("w", "g")
        await shows(app, "line 0")
        controller.log("db", 9.0, LONG, level="INFO")
        await shows(app, "+1 new")
        await pilot.press("G")
        await shows(app, " END", "● following")


async def test_filter_shows_only_lines_that_match() -> None:
    async with log_page() as (app, controller, pilot):
        await pilot.press("slash")
        await type_text(pilot, "level:error or 39")
        await pilot.press("enter")
        await shows(app, "BEGIN", "line 39", "2 of 41")
        await hides(app, "line 38")
        controller.log("db", 9.0, "line 139", level="INFO")
        controller.log("db", 9.0, "line 40", level="INFO")
        await shows(app, "line 139", "3 of 43")
        await pilot.press("escape")
        await shows(app, "line 40", "line 38")


async def test_search_goes_to_the_newest_match_and_on() -> None:
    async with log_page() as (app, _, pilot):
        await pilot.press("n")
        await shows(app, "Press f to search for a text first.")
        await pilot.press("f")
        await type_text(pilot, "line 1")
        await pilot.press("enter")
        await shows(app, "line 19", "11 of 41 lines have it", "reading")
        view = app.screen.query_one("LogView")
        assert view.current.message == "line 19"  # type: ignore[attr-defined]
        await pilot.press("N", "N")
        assert view.current.message == "line 17"  # type: ignore[attr-defined]
        await pilot.press("n", "n", "n")
        assert view.current.message == "line 1"  # type: ignore[attr-defined]
        await shows(app, "line 0")
        await pilot.press("escape")
        assert view.current is None  # type: ignore[attr-defined]
        await pilot.press("escape")
        await shows(app, "WORKER")


async def test_search_without_a_match_says_so() -> None:
    async with log_page() as (app, _, pilot):
        await pilot.press("f")
        await type_text(pilot, "zzz")
        await pilot.press("enter")
        await shows(app, "zzz is in no line that is shown.")


async def test_copy_takes_the_match_or_the_visible_lines() -> None:
    async with log_page() as (app, _, pilot):
        await pilot.press("y")
        await until(lambda: "line 39\n" in app.clipboard)
        assert "line 2\n" not in app.clipboard
        await pilot.press("f")
        await type_text(pilot, "END")
        await pilot.press("enter", "y")
        await until(lambda: app.clipboard == f"00:03.5 ERROR [db] {LONG}\n")


async def test_save_writes_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with log_page() as (app, controller, pilot):
        controller.log("db", 9.0, "http://me:hush@a.example \x1b[31m\nsecond", level="INFO")
        await shows(app, "second")
        await pilot.press("S")
        await shows(app, "Saved 42 lines")
    assert_saved(tmp_path)


def assert_saved(folder: Path) -> None:
    (path,) = folder.iterdir()
    lines = path.read_text().splitlines()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(lines) == 43
    assert "hush" not in path.read_text()
    assert "\x1b" not in path.read_text()
    assert lines[-1] == "    second"


remove = Path.rmdir


async def test_save_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    async with log_page() as (app, _, pilot):
        remove(tmp_path)
        await pilot.press("S")
        await shows(app, "The log could not be saved: No such file or directory.")


async def test_empty_log_says_what_would_be_there() -> None:
    controller = FakeController()
    controller.start("web")
    app = make_app(controller)
    async with app.run_test(size=(100, 20)) as pilot:
        await shows(app, "web")
        await pilot.press("l")
        await shows(app, "Nothing is logged yet. What workers log or print comes here")


async def test_level_key_skips_levels_that_leave_out_no_line() -> None:
    async with log_page() as (app, _, pilot):
        await pilot.press("v")
        await shows(app, "warning and above", "1 match")
        await pilot.press("v")
        await hides(app, "and above")
