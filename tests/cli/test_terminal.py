"""Terminals that can show a dashboard, and those that cannot."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from asyncwatch.cli import main as cli
from asyncwatch.cli.terminal import why_no_screens
from tests.terminal.screen import Terminal


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that can show a dashboard."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(os, "get_terminal_size", lambda _descriptor: os.terminal_size((80, 24)))
    monkeypatch.setattr(os, "isatty", lambda _descriptor: True)
    monkeypatch.setattr("sys.stdout.fileno", lambda: 1)


def test_ordinary_terminal_shows_screens() -> None:
    assert why_no_screens() is None


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_terminal_that_moves_no_cursor_is_named(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("TERM", kind)
    assert why_no_screens() == f"a terminal of the kind TERM={kind} shows no screens"


@pytest.mark.parametrize("size", [(0, 24), (80, 0), (0, 0)])
def test_terminal_without_rows_or_columns_shows_no_screens(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda _descriptor: os.terminal_size(size))
    assert why_no_screens() == f"the terminal has {size[0]} columns and {size[1]} lines"


def test_terminal_of_unknown_size_shows_no_screens(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_descriptor: int) -> os.terminal_size:
        raise OSError

    monkeypatch.setattr(os, "get_terminal_size", fail)
    assert why_no_screens() == "the size of the terminal is unknown"


def test_other_system_is_told_what_the_dashboard_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "name", "nt")
    reason = why_no_screens()
    monkeypatch.undo()
    assert reason is not None
    assert reason.startswith("it needs a Unix system")


def test_other_system_detaches_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "name", "nt")
    result = CliRunner().invoke(cli.main, ["-d"])
    monkeypatch.undo()
    assert result.exit_code == 2
    assert "--detach needs a Unix system." in result.output


@pytest.mark.parametrize("kind", ["dumb", "unknown"])
def test_terminal_without_screens_gets_progress_and_the_reason(tmp_path: Path, kind: str) -> None:
    (tmp_path / "jobs.py").write_text("async def job(item):\n    return item\n")
    (tmp_path / "items.txt").write_text("1\n2\n")
    command = [sys.executable, "-m", "asyncwatch", "jobs:job", "--items", "items.txt"]
    with Terminal(command, cwd=tmp_path, env={"TERM": kind}) as terminal:
        assert terminal.wait_for_exit() == 0
        assert f"no dashboard, since a terminal of the kind TERM={kind} shows no screens" in terminal.text
        assert "2 succeeded" in terminal.text
        assert b"\x1b[" not in terminal.raw
