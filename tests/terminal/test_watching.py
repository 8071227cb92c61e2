"""The dashboard of one's own program: it has the terminal for a while, and takes nothing else from the program."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncwatch.control.discovery import alive
from tests.terminal.screen import Terminal
from tests.terminal.test_dashboard import assert_restored
from tests.terminal.test_processes import children_of, last_words, only_run, wait_until

PROGRAM = """
import asyncio, logging, os, sys, time
import asyncwatch
from asyncwatch import Run, Supervisor, SupervisorSpec, WorkerSpec

async def job(name):
    print("printed by", name)
    logging.getLogger("mine").warning("logged by %s", name)
    if name == "blocks":
        time.sleep(3600 if os.path.exists("for-ever") else 2)
    while not os.path.exists("done"):
        await asyncio.sleep(0.01)
    if name == "fails":
        raise ValueError("it failed")
    return name

async def main(*names):
    run = Run([WorkerSpec(name=name, target=job, args=(name,)) for name in names], name="mine")
    async with asyncwatch.watch(run):
        print("before the run")
        os.system("echo from a child")
        if "raises" in names:
            while not os.path.exists("done"):
                await asyncio.sleep(0.01)
            raise LookupError("raised inside")
        await run.wait()
        print("after the run")
    print("ended with", [outcome.state.value for outcome in run.outcomes()])

if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
"""
CALLS = """
import asyncio, os, sys
import asyncwatch

async def job(name):
    while not os.path.exists("done"):
        await asyncio.sleep(0.01)
    return name

async def main(way, watch):
    watch = {"yes": True, "no": False, "unsaid": None}[watch]
    if way == "amap":
        print(await asyncwatch.amap(job, ["first", "second"], watch=watch))
    elif way == "gather":
        print(await asyncwatch.gather(job("first"), job("second"), watch=watch))
    else:
        async with asyncwatch.open_run(name="mine" if way == "named" else "", watch=watch) as run:
            handles = [run.start_soon(job, name, name=name) for name in ("first", "second")]
            print([await handle for handle in handles])

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a program, and a folder of sockets of its own."""
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "calls.py").write_text(CALLS)
    with tempfile.TemporaryDirectory(prefix="aw-", dir="/tmp") as sockets:
        monkeypatch.setenv("XDG_RUNTIME_DIR", sockets)
        monkeypatch.setenv("TMPDIR", sockets)
        yield tmp_path


def start(folder: Path, *names: str) -> Terminal:
    return Terminal([sys.executable, "program.py", *names], cwd=folder)


def finish(folder: Path) -> None:
    (folder / "done").touch()


def shows_run(screen: str) -> bool:
    return "● 2 running" in screen and "leave" in screen


def wait_for_terminal(terminal: Terminal) -> None:
    """Wait until the terminal is as it was before the dashboard, which has left the screen."""
    terminal.wait_for(lambda _screen: b"\x1b[?1049l" in terminal.raw)
    wait_until(lambda: terminal.current_attributes() == terminal.attributes)


def test_program_is_shown_and_has_its_terminal_back(folder: Path) -> None:
    with start(folder, "first", "fails") as terminal:
        terminal.wait_for(shows_run)
        terminal.press("l")
        lines = ("before the run", "from a child", "printed by first", "logged by fails")
        terminal.wait_for(lambda screen: all(line in screen for line in lines))
        finish(folder)
        assert terminal.wait_for_exit() == 0
        assert last_words(terminal).endswith("after the run\r\nended with ['succeeded', 'failed']\r\n")
        assert_restored(terminal)
        assert alive() == []


def test_q_leaves_the_program_which_goes_on(folder: Path) -> None:
    with start(folder, "first", "second") as terminal:
        terminal.wait_for(shows_run)
        terminal.press("q")
        wait_for_terminal(terminal)
        assert [run.name for run in alive()] == ["mine"]
        finish(folder)
        assert terminal.wait_for_exit() == 0
        assert "ended with ['succeeded', 'succeeded']" in last_words(terminal)


def test_ctrl_c_interrupts_the_program(folder: Path) -> None:
    with start(folder, "first", "second") as terminal:
        terminal.wait_for(shows_run)
        terminal.press("\x03")
        assert terminal.wait_for_exit() in {-signal.SIGINT, 128 + signal.SIGINT}
        assert "KeyboardInterrupt" in last_words(terminal)
        assert terminal.current_attributes() == terminal.attributes


def test_death_of_the_dashboard_harms_nothing(folder: Path) -> None:
    with start(folder, "first", "second") as terminal:
        terminal.wait_for(shows_run)
        (child,) = children_of(terminal.process.pid)
        os.kill(child, signal.SIGKILL)
        wait_for_terminal(terminal)
        finish(folder)
        assert terminal.wait_for_exit() == 0
        assert b"after the run" in terminal.raw


def test_death_of_the_program_ends_the_dashboard(folder: Path) -> None:
    with start(folder, "first", "second") as terminal:
        terminal.wait_for(shows_run)
        (child,) = children_of(terminal.process.pid)
        terminal.kill(signal.SIGKILL)
        terminal.wait_for_exit()
        wait_until(lambda: subprocess.run(["ps", "-p", str(child)], capture_output=True, check=False).returncode)
        assert terminal.current_attributes() == terminal.attributes


def test_exception_of_the_program_comes_through(folder: Path) -> None:
    with start(folder, "raises") as terminal:
        terminal.wait_for(lambda screen: "leave" in screen)
        finish(folder)
        assert terminal.wait_for_exit() == 1
        assert "LookupError: raised inside" in last_words(terminal)
        assert terminal.current_attributes() == terminal.attributes


def test_dashboard_goes_on_while_the_loop_of_the_program_is_blocked(folder: Path) -> None:
    (folder / "for-ever").touch()
    with start(folder, "first", "blocks") as terminal:
        terminal.wait_for(lambda screen: "event loop blocked for 3 s by blocks" in screen)
        terminal.press("?")
        terminal.wait_for(lambda screen: "ignores its cancellation" in screen)


def test_program_without_a_terminal_is_found_by_others_and_prints_what_it_prints(folder: Path) -> None:
    command = [sys.executable, "program.py", "first", "second"]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as process:
        assert only_run().name == "mine"
        finish(folder)
        out, err = process.communicate(timeout=60)
    # A child writes at once, the program when it ends.
    assert sorted(out.decode().splitlines()) == sorted(
        [
            *("before the run", "from a child", "printed by first", "printed by second", "after the run"),
            "ended with ['succeeded', 'succeeded']",
        ]
    )
    assert err.decode().splitlines() == ["logged by first", "logged by second"]
    assert alive() == []


@pytest.mark.parametrize("way", ["amap", "gather", "open"])
@pytest.mark.parametrize(("watch", "variable"), [("yes", None), ("unsaid", "1")])
def test_calls_are_shown_by_their_argument_or_the_environment(
    folder: Path, way: str, watch: str, variable: str | None
) -> None:
    env = {} if variable is None else {"ASYNCWATCH": variable}
    with Terminal([sys.executable, "calls.py", way, watch], cwd=folder, env=env) as terminal:
        terminal.wait_for(shows_run)
        finish(folder)
        assert terminal.wait_for_exit() == 0
        assert last_words(terminal).endswith("['first', 'second']\r\n")
        assert_restored(terminal)


@pytest.mark.parametrize(
    ("way", "watch", "variable", "is_found"),
    [
        ("amap", "unsaid", "", False),
        ("amap", "no", "1", False),
        ("gather", "unsaid", "0", False),
        ("open", "unsaid", "", False),
        ("amap", "unsaid", "attach", True),
        ("gather", "unsaid", "attach", True),
        ("named", "unsaid", "", True),
    ],
)
def test_calls_that_are_not_shown_leave_the_terminal_alone(
    folder: Path, way: str, watch: str, variable: str, is_found: bool
) -> None:
    env = {"ASYNCWATCH": variable}
    with Terminal([sys.executable, "calls.py", way, watch], cwd=folder, env=env) as terminal:
        if is_found:
            assert only_run().pid == terminal.process.pid
        finish(folder)
        assert terminal.wait_for_exit() == 0
        assert bytes(terminal.raw) == b"['first', 'second']\r\n"
        assert alive() == []
