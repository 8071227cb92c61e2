"""Runs leave a journal, without which nothing can be resumed; and never a secret in it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

import asyncwatch
from asyncwatch.cli.session import RunHost, prepare
from asyncwatch.commands import SnapshotPart
from asyncwatch.config.load import parse_config
from asyncwatch.config.schema import Config
from asyncwatch.events import RunFinished, WorkerSucceeded
from asyncwatch.journal.identity import keys_of
from asyncwatch.journal.store import DamagedError, RunJournal, RunStore
from asyncwatch.model.reducer import apply
from asyncwatch.model.snapshot import SnapshotReader
from asyncwatch.plan.plan import make_plan

ROOT = Path(asyncwatch.__file__).parents[1]

JOBS = """
import asyncio

async def job(item):
    if item == "bad":
        raise ValueError(item)
    return item
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "items.txt").write_text("a\nb\nbad\n")
    return tmp_path


def run(
    folder: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    is_read: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run the command. A child that it leaves keeps its streams, so that they cannot be read to their end."""
    stream = subprocess.PIPE if is_read else subprocess.DEVNULL
    return subprocess.run(
        [sys.executable, "-m", "asyncwatch", "--headless", *arguments],
        input=stdin,
        cwd=folder,
        env={
            **os.environ,
            "XDG_STATE_HOME": str(folder / "state"),
            "PYTHONPATH": f"{folder}:{ROOT}",
            **(env or {}),
        },
        stdout=stream,
        stderr=stream,
        text=True,
        timeout=50,
        check=False,
    )


def journals(folder: Path) -> list[Path]:
    return sorted((folder / "state" / "asyncwatch" / "runs").glob("*.sqlite"))


def test_batch_with_items_is_recorded(folder: Path) -> None:
    ended = run(folder, "jobs:job", "--items", "items.txt", "--seed", "7")
    assert ended.returncode == 1
    [path] = journals(folder)
    with RunJournal(path) as journal:
        [launch] = journal.launches()
        assert (launch.folder, launch.seed, launch.status) == (str(folder), 7, 1)
        assert launch.command == ["--headless", "jobs:job", "--items", "items.txt", "--seed", "7"]
        events = [event for batch in journal.batches(1) for event in batch.unpack()]
        assert [event.seq for event in events] == list(range(len(events)))
        assert isinstance(events[-1], RunFinished)
        assert {event.worker for event in events if isinstance(event, WorkerSucceeded)} == {"a", "b"}
        [part] = journal.items(1)
        assert part.keys == keys_of(["a", "b", "bad"]).keys


def test_items_of_a_pipe_are_recorded(folder: Path) -> None:
    run(folder, "jobs:job", "--items", "-", stdin="a\nb\nbad\n")
    [path] = journals(folder)
    with RunJournal(path) as journal:
        parts = list(journal.items(1))
        assert b"".join(part.keys for part in parts) == keys_of(["a", "b", "bad"]).keys
        assert [part.first for part in parts] == [0, *(part.first for part in parts[1:])]


@pytest.mark.parametrize("arguments", [["--no-journal", "jobs:job", "--items", "items.txt"], []])
def test_run_is_not_recorded_on_request_nor_is_the_demo(folder: Path, arguments: list[str]) -> None:
    run(folder, *arguments)
    assert journals(folder) == []


@pytest.mark.parametrize(
    ("settings", "is_recorded"),
    [
        ('[[group]]\nurl = "http://127.0.0.1:1/"', True),
        ('[[group]]\ntarget = "kinds:job"\nitems = ["a"]', True),
        ('journal = false\n[[group]]\ntarget = "kinds:job"\nitems = ["a"]', False),
        ('[[group]]\ntarget = "kinds:plain"', False),
        ('journal = true\n[[group]]\ntarget = "kinds:plain"', True),
        ('[[group]]\ntarget = "kinds:job"\nitems = ["a"]\nrestart = "permanent"', False),
        ('journal = true\n[[group]]\ntarget = "kinds:job"\nitems = ["a"]\nrestart = "permanent"', True),
        ('[[group]]\ntarget = "demo"', False),
        ('journal = true\n[[group]]\ntarget = "demo"', True),
    ],
)
def test_kind_of_run_decides_whether_it_is_recorded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, settings: str, is_recorded: bool
) -> None:
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    (folder / "kinds.py").write_text(f"{JOBS}\nasync def plain():\n    pass\n")
    monkeypatch.delitem(sys.modules, "kinds", raising=False)
    assert make_plan(parse_config(settings, folder / "c.toml")).is_recorded is is_recorded


def test_demo_is_recorded_on_request_and_cannot_be_resumed(folder: Path) -> None:
    (folder / "asyncwatch.toml").write_text("""
        [[group]]
        target = "demo"
        count = 3
        bad_luck.threshold = 0.0
        retry.max_attempts = 1
    """)
    ended = run(folder, "--journal")
    [path] = journals(folder)
    assert f"To see the run again, moment by moment: asyncwatch replay {path.stem}" in ended.stderr
    assert "asyncwatch again" not in ended.stderr
    for command in ("resume", "again"):
        done = subprocess.run(
            [sys.executable, "-m", "asyncwatch", command, path.stem],
            cwd=folder,
            env={**os.environ, "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 2
        assert "the demo cannot be resumed" in done.stderr


def test_end_of_a_recorded_run_names_the_commands_that_go_on(folder: Path) -> None:
    ended = run(folder, "jobs:job", "--items", "items.txt")
    [path] = journals(folder)
    assert ended.stderr.splitlines()[-2:] == [
        f"asyncwatch: To repeat the 1 that failed: asyncwatch again {path.stem}",
        f"asyncwatch: To see the run again, moment by moment: asyncwatch replay {path.stem}",
    ]
    (folder / "items.txt").write_text("a\n")
    for options in (["--items", "items.txt"], ["--items", "items.txt", "--no-journal"]):
        assert "To repeat" not in run(folder, "jobs:job", *options).stderr
    (folder / "items.txt").write_text("bad\n")
    assert "To repeat" not in run(folder, "jobs:job", "--items", "items.txt", "--quiet").stderr


def test_detached_run_is_recorded_too(folder: Path) -> None:
    run(folder, "-d", "jobs:job", "--items", "items.txt", is_read=False)
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, DamagedError, IndexError, ValueError):
            [path] = journals(folder)
            with RunJournal(path) as journal:
                if journal.launches()[0].status is not None:
                    break
        time.sleep(0.01)
    with RunJournal(path) as journal:
        assert journal.launches()[0].status == 1
        [part] = journal.items(1)
        assert part.keys == keys_of(["a", "b", "bad"]).keys


def test_forked_child_of_a_worker_does_not_keep_the_lock(folder: Path) -> None:
    (folder / "forks.py").write_text(
        "import os, time\n\nasync def fork(item):\n    pid = os.fork()\n    if pid == 0:\n"
        "        time.sleep(60)\n        os._exit(0)\n    return pid\n"
    )
    (folder / "items.txt").write_text("a\n")
    run(folder, "forks:fork", "--items", "items.txt", "--output", "out.jsonl", is_read=False)
    [path] = journals(folder)
    child = msgspec.json.decode((folder / "out.jsonl").read_bytes())["result"]
    try:
        RunStore.reopen(path).close()
    finally:
        os.kill(child, signal.SIGKILL)


async def test_line_is_held_back_until_its_event_is_on_disk(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = threading.Event()
    write = RunStore.write

    def slow_write(self: RunStore, *parts: Any) -> None:
        gate.wait(30)
        write(self, *parts)

    monkeypatch.setattr(RunStore, "write", slow_write)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
    plan = make_plan(Config(output=str(folder / "out.jsonl")), targets=["http://127.0.0.1:1/"])
    session = prepare(plan, stays_open=False, on_problem=lambda _text: None)
    host = RunHost(session)
    await host.open()
    assert session.recorder is not None
    assert session.recorder._writer is not None
    batch = (RunFinished(0, 0.0, {}, 0, 0.0, interrupted=False), WorkerSucceeded(1, 0.0, "a", 1, 1, 0.1, 7))
    session.recorder._writer.deliver(batch, None)
    host.receive(batch)
    await asyncio.sleep(0)
    assert not (folder / "out.jsonl").exists()
    gate.set()
    async with asyncio.timeout(30):
        while not (folder / "out.jsonl").exists():
            host.receive(())
            await asyncio.sleep(0)
    await host.settle()
    await host.end(0, [])


def test_first_run_that_writes_to_a_folder_says_where(folder: Path) -> None:
    first, second = (run(folder, "jobs:job", "--items", "items.txt").stderr for _ in range(2))
    assert str(folder / "state" / "asyncwatch" / "runs") in first
    assert "--no-journal" in first
    assert "runs are recorded" not in second


def test_settings_are_recorded_as_written_and_no_secret_is(folder: Path) -> None:
    (folder / "c.toml").write_text(
        'concurrency = 3\njournal_dir = "kept"\n[http]\n'
        'proxy = "http://me:hunter2@127.0.0.1:1"\nbody = "pass=open-sesame"\n'
        'headers = { Authorization = "Bearer ${MY_TOKEN}", X-Key = "swordfish" }\n'
        '[[group]]\nitems = ["http://u:tiger@127.0.0.1:1/", "http://127.0.0.1:1/b"]\nretry = { max_attempts = 1 }\n'
    )
    run(folder, "--config", "c.toml", env={"MY_TOKEN": "abracadabra"})
    files = list((folder / "kept").iterdir())
    assert files
    data = b"".join(path.read_bytes() for path in files)
    assert not [word for word in (b"hunter2", b"sesame", b"swordfish", b"tiger", b"abracadabra") if word in data]
    [path] = (folder / "kept").glob("*.sqlite")
    with RunJournal(path) as journal:
        settings = journal.launches()[0].settings
        assert settings["concurrency"] == 3
        assert settings["http.headers.Authorization"] == "*** ${MY_TOKEN}"
        assert settings["http.headers.X-Key"] == "***"
        assert settings["group.0.items"] == "2 items"


def test_journal_of_a_tree_is_a_ring_that_starts_with_a_snapshot(folder: Path) -> None:
    (folder / "services.py").write_text(
        "import asyncio, os\ncalls = 0\n\nasync def poll():\n    global calls\n    calls += 1\n    if calls > 4_000:\n"
        "        os.kill(os.getpid(), 15)\n        await asyncio.sleep(60)\n    return os.urandom(1_000).hex()\n"
    )
    (folder / "c.toml").write_text(
        'journal = true\njournal_size = "1MB"\n[[group]]\nname = "p"\ntarget = "services:poll"\nevery = "1ms"\n'
    )
    run(folder, "--config", "c.toml")
    [path] = journals(folder)
    with RunJournal(path) as journal:
        snapshot = next(journal.snapshots(1))
        batches = list(journal.batches(1))
        events = [event for batch in batches for event in batch.unpack()]
        assert sum(len(batch.data) for batch in batches) < 2_000_000
        assert events[0].seq > 0
        assert [event.seq for event in events] == list(range(events[0].seq, events[-1].seq + 1))
        parts = [
            SnapshotPart(data, is_first=number == 0, is_last=number == len(snapshot.parts) - 1)
            for number, data in enumerate(snapshot.parts)
        ]
        reader = SnapshotReader()
        fleet = [reader.read(part) for part in parts][-1]
        assert fleet.last_seq == snapshot.seq - 1
        assert events[0].seq <= snapshot.seq
        apply(fleet, [event for event in events if event.seq >= snapshot.seq])
        assert fleet.finished is not None
