"""A journal that cannot be written: the run goes on, and says so everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from asyncwatch.journal.store import RunJournal
from tests.cli.test_recording import ROOT

JOBS = """
import asyncio, os, pathlib, shutil, sqlite3, resource

runs = pathlib.Path(os.environ["XDG_STATE_HOME"], "asyncwatch", "runs")

async def until(condition):
    while not condition():
        await asyncio.sleep(0.01)

async def job(item):
    return item * 1000

def journal():
    return next(runs.glob("*.sqlite"))

def events():
    try:
        with sqlite3.connect(f"file:{journal()}?mode=ro", uri=True) as connection:
            return connection.execute("SELECT count(*) FROM batch").fetchone()[0]
    except (sqlite3.Error, StopIteration):
        return 0

async def lose(item):
    if item == "a":
        await until(events)
        shutil.rmtree(runs)
    elif item == "b":
        await until(lambda: not runs.exists())
    return item

async def fill(item):
    if item == "a":
        await until(events)
        size = pathlib.Path(f"{journal()}-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        for _ in range(20):
            print(os.urandom(2_000).hex())
    elif item == "b":
        await until(lambda: resource.getrlimit(resource.RLIMIT_FSIZE)[0] >= 0)
        out = pathlib.Path("out.jsonl")
        await until(lambda: out.exists() and out.read_text().count("\\n") == 1)  # it is not held back
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await asyncio.sleep(1.2)  # the next attempt comes after a second
    return item
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "items.txt").write_text("a\nb\n")
    return tmp_path


def run(folder: Path, *arguments: str, preexec: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "asyncwatch", "--headless", "--items", "items.txt", "--output", "out.jsonl", *arguments],
        cwd=folder,
        env={**os.environ, "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": f"{folder}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        preexec_fn=preexec,
    )


def names(folder: Path) -> list[str]:
    return sorted(msgspec.json.decode(line)["name"] for line in (folder / "out.jsonl").read_bytes().splitlines())


def assert_said(ended: subprocess.CompletedProcess[str], reason: str) -> None:
    assert "not recorded since" in ended.stdout
    assert reason in ended.stdout
    assert ended.returncode == 0


def test_folder_that_cannot_be_made_is_said(folder: Path) -> None:
    (folder / "state").write_text("a file")
    ended = run(folder, "jobs:job")
    assert_said(ended, "File exists" if "File exists" in ended.stderr else "Not a directory")
    assert names(folder) == ["a", "b"]


def test_folder_that_is_deleted_during_the_run_is_said(folder: Path) -> None:
    assert_said(run(folder, "jobs:lose"), "deleted or replaced")
    assert names(folder) == ["a", "b"]


def test_full_disk_is_said_and_nothing_is_missing_once_there_is_space(folder: Path) -> None:
    ended = run(folder, "jobs:fill")
    assert "not recorded since" in ended.stderr
    assert "recorded again" in ended.stderr
    assert "not recorded" not in ended.stdout
    assert ended.returncode == 0
    [path] = (folder / "state" / "asyncwatch" / "runs").glob("*.sqlite")
    with RunJournal(path) as journal:
        events = [event.seq for batch in journal.batches(1) for event in batch.unpack()]
        assert events == list(range(len(events)))
        assert journal.launches()[0].status == 0
