"""`asyncwatch observe` in a terminal: the dashboard of a program's own tasks, and the terminal afterwards."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncwatch.control.discovery import alive
from tests.terminal.screen import Terminal
from tests.terminal.test_dashboard import COMMAND, assert_restored
from tests.terminal.test_processes import last_words
from tests.terminal.test_watching import wait_for_terminal

PROGRAM = """
import asyncio, os, sys

async def fetch(number):
    if number == 0:
        raise LookupError("no such thing")
    await asyncio.Event().wait()

async def finishes():
    while not os.path.exists("done"):
        await asyncio.sleep(0.01)

async def main():
    print("begins")
    tasks = [asyncio.create_task(fetch(number), name=f"fetch-{number}") for number in range(1, 20)]
    await finishes()
    print("ends")
    print([task.get_name() for task in tasks if task.cancelled()], file=sys.stderr)
    if "fails" in sys.argv:
        raise LookupError("at the end")
    sys.exit(5)

asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "app.py").write_text(PROGRAM)
    with tempfile.TemporaryDirectory(prefix="aw-", dir="/tmp") as sockets:
        monkeypatch.setenv("XDG_RUNTIME_DIR", sockets)
        monkeypatch.setenv("TMPDIR", sockets)
        yield tmp_path


def start(folder: Path, *arguments: str) -> Terminal:
    return Terminal([COMMAND, "observe", "app.py", *arguments], cwd=folder)


def shows_tasks(screen: str) -> bool:
    return "20 tasks so far" in screen and "19 × app.py:7 fetch · Event.wait" in screen


def test_tasks_are_shown_grouped_and_cancelled_and_the_output_follows(folder: Path) -> None:
    with start(folder) as terminal:
        terminal.wait_for(shows_tasks)
        terminal.press("r")
        terminal.wait_for(lambda screen: "asyncwatch only observes them" in screen)
        terminal.press("w")
        terminal.wait_for(lambda screen: "19  app.py:7 fetch · Event.wait" in screen)
        terminal.press("f")
        terminal.wait_for(lambda screen: "those at app.py:7 fetch · Event.wait · 19 of 20" in screen)
        terminal.press("j")
        terminal.press("c")
        terminal.wait_for(lambda screen: "■ 1 cancelled" in screen)
        (folder / "done").touch()
        assert terminal.wait_for_exit() == 5
        assert "begins\r\nends\r\n['fetch-" in last_words(terminal)
        assert_restored(terminal)
        assert alive() == []


def test_q_leaves_the_program_which_goes_on(folder: Path) -> None:
    with start(folder) as terminal:
        terminal.wait_for(shows_tasks)
        terminal.press("q")
        wait_for_terminal(terminal)
        assert [run.name for run in alive()] == ["app.py"]
        (folder / "done").touch()
        assert terminal.wait_for_exit() == 5


def test_ctrl_c_interrupts_the_program(folder: Path) -> None:
    with start(folder) as terminal:
        terminal.wait_for(shows_tasks)
        terminal.press("\x03")
        assert terminal.wait_for_exit() in {-signal.SIGINT, 128 + signal.SIGINT}
        assert last_words(terminal).rstrip().endswith("KeyboardInterrupt")
        assert terminal.current_attributes() == terminal.attributes


def test_exception_of_the_program_is_printed_when_the_dashboard_has_left(folder: Path) -> None:
    with start(folder, "fails") as terminal:
        terminal.wait_for(shows_tasks)
        (folder / "done").touch()
        assert terminal.wait_for_exit() == 1
        words = last_words(terminal)
        assert words.rstrip().endswith("LookupError: at the end")
        assert "observed.py" not in words


def test_headless_takes_no_screen(folder: Path) -> None:
    (folder / "done").touch()
    with Terminal([COMMAND, "observe", "--headless", "app.py"], cwd=folder) as terminal:
        assert terminal.wait_for_exit() == 5
        assert b"\x1b" not in terminal.raw
        assert b"asyncwatch attach" in terminal.raw
