"""The command with a cluster: what is refused before anything starts, and that nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest

import asyncwatch
from asyncwatch.config.engine import parse_engine
from asyncwatch.plan import cluster
from tests.cluster.conftest import PATIENCE

ROOT = Path(asyncwatch.__file__).parents[1]
JOBS = """
import asyncio, os, pathlib, threading

async def nap(item):
    with open("calls", "a") as file:
        file.write(item + "\\n")
    if "wait" in item and not os.path.exists("go"):
        await asyncio.sleep(3600)
    return os.getpid()

def _make():
    lock = threading.Lock()
    async def held(item):
        return lock
    return held

held = _make()
"""
CONFIG = """
engine = "dask"
[cluster]
processes = 2
[[group]]
target = "jobs:nap"
items = "items"
"""


class Place:
    """A folder in which the command is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.scratch = folder / "scratch"
        self.scratch.mkdir()
        (folder / "jobs.py").write_text(JOBS, encoding="utf-8")
        (folder / "run.toml").write_text(CONFIG, encoding="utf-8")

    def write_items(self, *items: str) -> None:
        (self.folder / "items").write_text("".join(f"{item}\n" for item in items), encoding="utf-8")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        environment = os.environ | {
            "XDG_STATE_HOME": str(self.folder / "state"),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.scratch),
        }
        return subprocess.Popen(
            [sys.executable, "-m", "asyncwatch", *arguments],
            cwd=self.folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=2 * PATIENCE)
        return process.returncode, out, err

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return path.read_text(encoding="utf-8").split() if path.exists() else []


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def eventually(is_so: Callable[[], object], what: str) -> None:
    ends_at = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < ends_at, what
        time.sleep(0.02)


def nodes_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the processes of the cluster, the scheduler first."""
    return sorted(psutil.Process(process.pid).children(recursive=True), key=lambda each: each.pid)


def test_run_on_two_processes_leaves_nothing_behind(place: Place) -> None:
    place.write_items(*"abcdef")
    status, out, err = place.run("--config", "run.toml", "--headless", "--json")
    assert status == 0, err
    results = [json.loads(line)["result"] for line in out.splitlines() if '"WorkerSucceeded"' in line]
    assert len(set(results)) == 2
    assert not any(psutil.pid_exists(pid) for pid in results)
    assert list(place.scratch.glob("*-cluster-*")) == []


def test_scheduler_killed_run_says_so_and_resume_goes_on(place: Place) -> None:
    place.write_items("a", "b", "wait1", "wait2")
    process = place.start("--config", "run.toml", "--headless", "--output", "out.jsonl")
    eventually(lambda: len(place.calls) == 4, "all attempts have begun")
    output = place.folder / "out.jsonl"
    eventually(lambda: output.exists() and output.read_text().count("\n") == 2, "the results of two are here")
    nodes = nodes_of(process)
    nodes[0].send_signal(signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "the scheduler of the cluster has gone, and all attempts with it" in err
    psutil.wait_procs(nodes, timeout=PATIENCE)
    assert not any(node.is_running() for node in nodes)
    assert list(place.scratch.glob("*-cluster-*")) == []
    (place.folder / "go").touch()
    status, _, err = place.run("resume", "--headless")
    assert status == 0, err
    assert sorted(place.calls) == ["a", "b", "wait1", "wait1", "wait2", "wait2"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_command_ended_by_a_signal_leaves_no_process_and_no_file(place: Place, number: signal.Signals) -> None:
    place.write_items("wait1", "wait2")
    process = place.start("--config", "run.toml", "--headless")
    eventually(lambda: len(place.calls) == 2, "all attempts have begun")
    nodes = nodes_of(process)
    assert len(nodes) == 3
    process.send_signal(number)
    process.communicate(timeout=PATIENCE)
    gone, alive = psutil.wait_procs(nodes, timeout=PATIENCE)
    assert (len(gone), alive) == (3, [])
    eventually(lambda: list(place.scratch.glob("*-cluster-*")) == [], "the folder of the cluster was removed")


def test_function_that_cannot_travel_is_refused_before_the_run(place: Place) -> None:
    place.write_items("a")
    status, _, err = place.run("jobs:held", "--items", "items", "--engine", "dask", "--headless")
    assert status == 2
    assert "cannot be sent to another process: TypeError: cannot pickle '_thread.lock' object" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--engine", "dask"], "demo: a cluster runs functions, and target = 'demo' is none; use engine = 'asyncio'"),
        (
            ["jobs:nap", "--engine", "tcp://10.1.2.3:8786", "--items", "items"],
            "use tls://, or permit it with --insecure",
        ),
        (["jobs:nap", "--engine", "no.json", "--items", "items"], "no.json"),
        (["jobs:nap", "--engine", "dusk", "--items", "items"], "must be an engine, not 'dusk'"),
    ],
)
def test_what_cannot_run_is_refused_with_a_reason(place: Place, arguments: list[str], message: str) -> None:
    place.write_items("a")
    status, _, err = place.run(*arguments, "--headless")
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_check_shows_the_engine(place: Place) -> None:
    place.write_items("a")
    status, out, _ = place.run("check", "run.toml")
    assert status == 0
    assert "engine       dask: 2 processes of this machine" in out


@pytest.mark.parametrize(
    ("text", "is_open"),
    [("tcp://127.0.0.1:1", False), ("tcp://localhost:1", False), ("tcp://[::1]:1", False), ("tcp://10.0.0.1:1", True)],
)
def test_plain_tcp_is_for_this_machine(text: str, *, is_open: bool) -> None:
    assert parse_engine(text).is_open is is_open
    assert bool(cluster.security_problem(text, is_insecure=False)) is is_open
    assert not cluster.security_problem(text, is_insecure=True)


def test_scheduler_file_with_an_open_address_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text('{"address": "tcp://10.0.0.1:8786"}', encoding="utf-8")
    assert "use tls://" in cluster.security_problem(str(file), is_insecure=False)
    file.write_text('{"address": "tls://10.0.0.1:8786"}', encoding="utf-8")
    assert not cluster.security_problem(str(file), is_insecure=False)
    file.write_text("[]", encoding="utf-8")
    assert "is no scheduler file" in cluster.security_problem(str(file), is_insecure=False)
