"""The installed command in a real terminal: keys act on real workers, and the terminal is restored."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncwatch.events import RunFinished, decode
from tests.terminal.screen import Terminal

COMMAND = str(Path(sysconfig.get_path("scripts")) / "asyncwatch")

WORK = """
import asyncio, os, subprocess, sys, time

async def job(item):
    if item == "quick":
        return 200
    if item == "noisy":
        print("a printed line")
        os.write(1, b"a stray line\\n")
        subprocess.run(["sh", "-c", "echo a line of a child; echo to stderr >&2; cat"])
        return "quiet"
    if item == "blocks":
        time.sleep(3600)
    await asyncio.sleep(3600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a module of targets in it."""
    (tmp_path / "work.py").write_text(WORK)
    return tmp_path


def start(folder: Path, *items: str, columns: int = 100, rows: int = 30) -> Terminal:
    """Start the dashboard with one worker for each item."""
    (folder / "items.txt").write_text("\n".join(items))
    return Terminal([COMMAND, "work:job", "--items", "items.txt"], cwd=folder, columns=columns, rows=rows)


def row(name: str, state: str) -> Callable[[str], object]:
    """Return the condition that the row of a worker shows that state."""
    pattern = re.compile(rf"^[ ›◆*]*{name} +\S+ {state}", re.MULTILINE)
    return pattern.search


def shows(words: str) -> Callable[[str], object]:
    """Return the condition that the screen shows the words."""
    return lambda text: words in text


def assert_restored(terminal: Terminal) -> None:
    """Check that the screen, cursor, mouse and line discipline are as before."""
    raw = bytes(terminal.raw)
    assert raw.rindex(b"\x1b[?1049l") > raw.rindex(b"\x1b[?1049h")
    assert raw.rindex(b"\x1b[?25h") > raw.rindex(b"\x1b[?25l")
    assert raw.rindex(b"\x1b[?1000l") > raw.rindex(b"\x1b[?1000h")
    assert terminal.current_attributes() == terminal.attributes
    assert "Traceback" not in terminal.text


def test_dashboard_cancels_restarts_quits_and_leaves_a_summary(folder: Path) -> None:
    with start(folder, "first", "second", "quick") as terminal:
        terminal.wait_for(row("first", "running"))
        terminal.wait_for(row("quick", "succeeded"))
        terminal.press("jc")
        terminal.wait_for(row("second", "cancelled"))
        assert row("first", "running")(terminal.text)
        terminal.press("r")
        terminal.wait_for(row("second", "running"))
        terminal.press("q")
        terminal.wait_for(lambda text: "Quit and stop all active workers (" in text)
        terminal.press("q")
        assert terminal.wait_for_exit() == 130
        assert_restored(terminal)
        assert "2 cancelled" in terminal.text
        assert "1 succeeded" in terminal.text


def test_output_of_workers_children_and_c_code_goes_to_the_log(folder: Path) -> None:
    """A child that reads standard input finds it empty."""
    with start(folder, "noisy", "first") as terminal:
        terminal.wait_for(row("noisy", "succeeded"))
        assert "line" not in terminal.text.replace("loop lag", "")
        terminal.press("l")
        for line in ("a printed line", "a stray line", "a line of a child", "to stderr"):
            terminal.wait_for(shows(line))
        terminal.press("\x03\x03")
        assert terminal.wait_for_exit() == 130
        assert_restored(terminal)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_stops_the_run_without_a_question(folder: Path, number: signal.Signals) -> None:
    with start(folder, "first") as terminal:
        terminal.wait_for(row("first", "running"))
        terminal.kill(number)
        assert terminal.wait_for_exit() == 130
        assert_restored(terminal)
        assert "1 cancelled" in terminal.text


@pytest.mark.parametrize("number", [None, signal.SIGTERM])
def test_terminal_that_goes_without_a_signal_stops_the_run(folder: Path, number: signal.Signals | None) -> None:
    """A process with another controlling terminal gets no SIGHUP."""
    (folder / "items.txt").write_text("first\nquick\n")
    command = [COMMAND, "work:job", "--items", "items.txt", "--output", "out.jsonl"]
    with Terminal(command, cwd=folder, is_controlling=False) as terminal:
        terminal.wait_for(row("first", "running"))
        terminal.wait_for(row("quick", "succeeded"))
        terminal.hang_up()
        if number is not None:
            terminal.kill(number)
        assert terminal.wait_for_exit() == 130
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [(line["name"], line["state"]) for line in lines] == [("quick", "succeeded"), ("first", "cancelled")]


SERVICES = """
import asyncio
from asyncwatch import current_worker, ready

async def serve():
    await ready()
    try:
        await asyncio.Event().wait()
    finally:
        with open("stopped.txt", "a") as file:
            print(current_worker().name, file=file)
"""
TREE = """
[[group]]
name = "first"
target = "services:serve"
restart = "permanent"
announces_ready = true

[[supervisor]]
name = "below"

[[group]]
name = "second"
under = "below"
target = "services:serve"
restart = "permanent"
announces_ready = true
"""


def test_signal_stops_a_tree_in_order(tmp_path: Path) -> None:
    (tmp_path / "services.py").write_text(SERVICES)
    (tmp_path / "tree.toml").write_text(TREE)
    with Terminal([COMMAND, "--config", "tree.toml"], cwd=tmp_path, columns=100, rows=30) as terminal:
        terminal.wait_for(shows("2 running"))
        terminal.kill(signal.SIGTERM)
        assert terminal.wait_for_exit() == 130
        assert_restored(terminal)
        assert "tree (serve, seed" in terminal.text
        assert "2 cancelled" in terminal.text
    stopped = (tmp_path / "stopped.txt").read_text().split()
    assert [name.split("/")[0] for name in stopped] == ["below", "first"]


def test_dashboard_answers_and_quits_while_a_worker_blocks_the_loop(folder: Path) -> None:
    with start(folder, "blocks", "first") as terminal:
        terminal.wait_for(row("blocks", "running"))
        terminal.press("?")
        terminal.wait_for(lambda text: "ignores its cancellation" in text)
        terminal.press("\x1b")
        terminal.wait_for(row("blocks", "running"))
        terminal.press("\x03")
        terminal.wait_for(lambda text: "Quit" in text or "active" in text)
        terminal.press("\x03")
        terminal.wait_for(lambda text: "stopping" in text)
        terminal.press("\x03")
        assert terminal.wait_for_exit() == 130
        assert_restored(terminal)


def test_dashboard_fills_the_window_after_a_resize(folder: Path) -> None:
    with start(folder, *(f"worker-{number}" for number in range(60)), columns=80, rows=24) as terminal:
        terminal.wait_for(row("worker-0", "running"))
        assert "worker-40" not in terminal.text
        terminal.resize(160, 50)
        terminal.kill(signal.SIGWINCH)
        terminal.wait_for(row("worker-40", "running"))
        terminal.wait_for(lambda text: "quit" in text.splitlines()[-1])
        terminal.kill(signal.SIGTERM)
        assert terminal.wait_for_exit() == 130


def test_dashboard_gets_keys_while_items_come_through_standard_input(folder: Path) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"first\nsecond\n")
    os.close(writing)
    with Terminal([COMMAND, "work:job", "--items", "-"], cwd=folder, stdin=reading) as terminal:
        os.close(reading)
        terminal.wait_for(row("second", "running"))
        terminal.wait_for(shows("› first"))
        terminal.press("c")
        terminal.wait_for(row("first", "cancelled"))
        terminal.kill(signal.SIGTERM)
        assert terminal.wait_for_exit() == 130


def test_dashboard_draws_nothing_into_redirected_standard_error(folder: Path) -> None:
    (folder / "items.txt").write_text("first\n")
    with (folder / "errors.txt").open("wb") as errors:
        command = [COMMAND, "work:job", "--items", "items.txt", "--no-journal"]
        with Terminal(command, cwd=folder, stderr=errors.fileno()) as terminal:
            terminal.wait_for(row("first", "running"))
            terminal.kill(signal.SIGTERM)
            assert terminal.wait_for_exit() == 130
    assert (folder / "errors.txt").read_bytes() == b""


def test_command_with_standard_output_in_a_pipe_is_headless(folder: Path) -> None:
    (folder / "items.txt").write_text("quick\n")
    done = subprocess.run(
        [COMMAND, "work:job", "--items", "items.txt"],
        cwd=folder,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"1 succeeded" in done.stdout


def test_json_lines_are_not_mixed_with_other_output(folder: Path) -> None:
    """Workers, C code, child processes and imports print meanwhile."""
    module = folder / "work.py"
    module.write_text("print('imported')\n" + module.read_text())
    (folder / "items.txt").write_text("noisy\nquick\n")
    command = [COMMAND, "work:job", "--items", "items.txt", "--json"]
    done = subprocess.run(command, cwd=folder, capture_output=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == 0
    events = [decode(line) for line in done.stdout.splitlines()]
    assert [event.seq for event in events] == list(range(len(events)))
    assert isinstance(events[-1], RunFinished)
    for line in (b"imported", b"a stray line", b"a line of a child"):
        assert line in done.stderr


def test_live_run_is_rewound_and_replayed_after_its_end(folder: Path) -> None:
    journals = folder / "journals"
    (folder / "asyncwatch.toml").write_text(f'journal_dir = "{journals}"\n')
    with start(folder, "first", "quick") as terminal:
        terminal.wait_for(row("quick", "succeeded"))
        terminal.wait_for(shows("● running"))
        terminal.press("t")
        terminal.wait_for(shows("THE PAST"))
        terminal.wait_for(shows("t let go"))
        terminal.press("c")
        terminal.wait_for(shows("Nothing can act on it"))
        terminal.press("t")
        terminal.wait_for(lambda text: "THE PAST" not in text)
        terminal.press("c")
        terminal.wait_for(row("first", "cancelled"))
        terminal.press("q")
        terminal.wait_for_exit()
        assert_restored(terminal)
    command = [COMMAND, "replay", "--journal-dir", str(journals)]
    with Terminal(command, cwd=folder, columns=80, rows=24) as terminal:
        terminal.wait_for(row("first", "cancelled"))
        terminal.wait_for(shows("recorded run"))
        terminal.press(":0\r")
        terminal.wait_for(lambda text: "cancelled" not in text and "00:00.0 of" in text)
        terminal.press(">>> ")
        terminal.wait_for(row("quick", "succeeded"))
        terminal.press("q")
        assert terminal.wait_for_exit() == 0
        assert_restored(terminal)
