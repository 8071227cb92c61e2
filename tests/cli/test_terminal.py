"""Whether a terminal can show a dashboard, and what is said if it cannot."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from asyncwatch.cli.terminal import why_no_screens
from tests.terminal.screen import Terminal


def test_system_without_unix_sockets_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    assert why_no_screens() == "it needs a Unix system"


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ((0, 0), "the terminal has 0 columns and 0 lines"),
        ((80, 0), "the terminal has 80 columns and 0 lines"),
        ((80, 24), None),
    ],
)
def test_terminal_without_room_is_named(
    monkeypatch: pytest.MonkeyPatch, size: tuple[int, int], reason: str | None
) -> None:
    monkeypatch.setattr(os, "get_terminal_size", lambda _descriptor: os.terminal_size(size))
    monkeypatch.setattr(os, "isatty", lambda _descriptor: True)
    assert why_no_screens() == reason


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
