"""Runs that go on in the background, as real processes: they are found, and they leave nothing but their record."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

JOBS = """
import asyncio


async def wait(row: dict[str, str]) -> None:
    await asyncio.sleep(3600)
"""
PATIENCE = 30.0
"""Seconds. A run looks every five seconds whether its folder is there."""


class Shell:
    """Commands in a folder, with a folder of sockets of their own."""

    def __init__(self, folder: Path, base: Path) -> None:
        runtime, temporary = base / "run", base / "tmp"
        runtime.mkdir(mode=0o700)
        temporary.mkdir()
        self.sockets = runtime / "asyncwatch"
        self.other_sockets = temporary / f"asyncwatch-{os.geteuid()}"
        self._folder = folder
        folders = {"XDG_RUNTIME_DIR": str(runtime), "TMPDIR": str(temporary), "HOME": str(folder)}
        self._environment = {**os.environ, **folders}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command, and return its output."""
        return subprocess.run(
            [sys.executable, "-m", "asyncwatch", *arguments],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command, and return its process."""
        return subprocess.Popen(
            [sys.executable, "-m", "asyncwatch", *arguments],
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ps(self) -> list[dict[str, Any]]:
        """Return the runs that are alive."""
        runs: list[dict[str, Any]] = json.loads(self.run("ps", "--json").stdout)["runs"]
        return runs

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], object]) -> list[dict[str, Any]]:
        """Return the runs that are alive once the condition holds for them."""
        deadline = time.monotonic() + PATIENCE
        while not condition(runs := self.ps()):
            assert time.monotonic() < deadline, runs
        return runs


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """Return a shell in which runs are stopped at the end."""
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "ids.csv").write_text("id\n10\n20\n30\n")
    base = Path(tempfile.mkdtemp(prefix="aw-", dir="/tmp"))
    shell = Shell(tmp_path, base)
    yield shell
    for run in shell.ps():
        with suppress(ProcessLookupError):
            os.kill(run["pid"], signal.SIGKILL)
    shutil.rmtree(base)


def detached(shell: Shell) -> dict[str, Any]:
    done = shell.run("-d", "jobs:wait", "--items", "ids.csv")
    assert done.returncode == 0, done.stderr
    [run] = shell.wait_for(lambda runs: runs[0]["settled"] is not None and runs[0]["counts"].get("running") == 3)
    assert f"asyncwatch attach {run['id']}" in done.stderr
    return run


def test_detached_run_is_listed_until_it_is_stopped_and_its_end_is_kept(shell: Shell, tmp_path: Path) -> None:
    run = detached(shell)
    assert (run["name"], run["folder"], run["workers"], run["settled"]) == ("jobs:wait", str(tmp_path), 3, 0)
    assert (run["state"], run["clients"], run["is_detached"], run["error"]) == ("running", 0, True, None)
    os.kill(run["pid"], signal.SIGTERM)
    shell.wait_for(lambda runs: not runs)
    assert [path.name for path in shell.sockets.iterdir()] == [f"{run['id']}.ended"]
    for text in (run["id"], run["id"][:3], "jobs:wait"):
        shown = shell.run("attach", text)
        assert shown.returncode == 130
        assert "3 cancelled" in shown.stdout


def test_detached_run_that_is_killed_leaves_nothing(shell: Shell) -> None:
    run = detached(shell)
    os.kill(run["pid"], signal.SIGKILL)
    shell.wait_for(lambda runs: not runs)
    assert list(shell.sockets.iterdir()) == []
    shown = shell.run("attach", run["id"])
    assert (shown.returncode, shown.stdout) == (2, "")
    assert shown.stderr == f"asyncwatch: There is no run '{run['id']}'. No run is alive.\n"


def test_run_that_is_stopped_in_its_tracks_is_listed_without_progress(shell: Shell) -> None:
    run = detached(shell)
    os.kill(run["pid"], signal.SIGSTOP)
    [stopped] = shell.ps()
    assert stopped["id"] == run["id"]
    assert stopped["error"] == {"kind": "timeout", "message": "the run does not answer"}
    os.kill(run["pid"], signal.SIGCONT)
    [again] = shell.ps()
    assert again["error"] is None


@pytest.mark.parametrize("removed", ["sockets", "runtime"])
def test_run_whose_folder_was_removed_makes_it_anew(shell: Shell, removed: str) -> None:
    run = detached(shell)
    sockets = shell.sockets if removed == "sockets" else shell.other_sockets
    shutil.rmtree(shell.sockets if removed == "sockets" else shell.sockets.parent)  # as a log-out does
    [again] = shell.wait_for(bool)
    assert (again["id"], again["settled"], again["error"]) == (run["id"], 0, None)
    assert {path.stat().st_mode & 0o777 for path in sockets.iterdir()} == {0o600}
    assert sockets.stat().st_mode & 0o777 == 0o700
    assert shell.run("ctl", run["id"][:4], "stop").returncode == 0
    assert shell.run("ctl", run["id"][:4], "wait").returncode == 130
    shell.wait_for(lambda runs: not runs)
    assert [path.name for path in sockets.iterdir()] == [f"{run['id']}.ended"]


def test_run_whose_end_cannot_be_recorded_ends_with_its_status(shell: Shell) -> None:
    with shell.start("--headless", "jobs:wait", "--items", "ids.csv") as process:
        shell.wait_for(bool)
        shell.sockets.chmod(0o755)
        process.send_signal(signal.SIGTERM)
        _, stderr = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "Traceback" not in stderr
