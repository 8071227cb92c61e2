"""A process that is killed, and a file whose end is cut or garbled: what was on disk is read again."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

import asyncwatch
from asyncwatch.events import AttemptStarted, Batch, WorkersQueued, WorkerSucceeded
from asyncwatch.journal.store import DamagedError, Launch, RunInfo, RunJournal, RunStore, store_batch

KILLS = int(os.environ.get("ASYNCWATCH_JOURNAL_KILLS", "3"))
"""How often a run is killed, and resumed to its end. 200 take about ten minutes, and print what was repeated."""
ITEMS, AT_ONCE = 1_000, 50
JOBS = """
import asyncio, os, random, time

started, ended = (os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("started", "ended"))

async def job(item):
    os.write(started, f"{item}\\n".encode())
    await asyncio.sleep(random.random() / 50)
    os.write(ended, f"{item} {time.time()}\\n".encode())
    return int(item)
"""


def recorded(path: Path) -> list[str]:
    """Return the workers whose success is in the journal."""
    with RunJournal(path) as journal:
        events = [event for batch in journal.batches(1) for event in batch.unpack()]
    assert [event.seq for event in events] == list(range(len(events)))
    return [event.worker for event in events if isinstance(event, WorkerSucceeded)]


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def ends_of(path: Path) -> dict[str, float]:
    """Return when each item ended, in that order."""
    return {item: float(at) for item, at in (line.split() for line in lines_of(path))}


@pytest.mark.timeout(180)
@pytest.mark.parametrize("number", range(KILLS))
def test_killed_run_has_lost_nothing_and_its_resume_repeats_only_the_last_moment(
    tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(number)
    items = [str(item) for item in range(ITEMS)]
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "items.txt").write_text("".join(f"{item}\n" for item in items))
    command = [sys.executable, "-m", "asyncwatch"]
    arguments = ["--headless", "jobs:job", "--items", "items.txt", "--concurrency", str(AT_ONCE)]
    own = {"XDG_STATE_HOME": str(tmp_path), "PYTHONPATH": f"{tmp_path}:{Path(asyncwatch.__file__).parents[1]}"}
    environment = {**os.environ, **own}
    with subprocess.Popen(
        [*command, *arguments, "--output", "out.jsonl"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as run:
        least, deadline = chance.randrange(ITEMS - 100), time.monotonic() + 50
        while len(lines_of(tmp_path / "ended")) <= least:
            assert run.poll() is None
            assert time.monotonic() < deadline, "the run made no progress"
        time.sleep(chance.random() / 20)
        run.send_signal(signal.SIGKILL)
        killed = time.time()
    ends = ends_of(tmp_path / "ended")
    first_starts = lines_of(tmp_path / "started")
    done = list(ends)
    [path] = (tmp_path / "asyncwatch" / "runs").glob("*.sqlite")
    kept = recorded(path)
    assert set(kept) <= set(done)
    written = [msgspec.json.decode(line)["name"] for line in lines_of(tmp_path / "out.jsonl")]
    assert set(written) <= set(kept)
    assert len(written) == len(set(written))
    lost = set(done) - set(kept)
    assert lost <= set(done[-len(lost) - AT_ONCE :])  # the newest ones alone
    resumed = subprocess.run(
        [*command, "resume"], cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr
    assert set(ends_of(tmp_path / "ended")) == set(items)
    assert sorted(msgspec.json.decode(line)["name"] for line in lines_of(tmp_path / "out.jsonl")) == sorted(items)
    again = lines_of(tmp_path / "started")[len(first_starts) :]
    assert len(again) == len(set(again))
    repeated = set(again) & set(first_starts)
    in_flight = set(first_starts) - set(done)
    assert len(in_flight) <= AT_ONCE
    assert repeated == in_flight | lost
    oldest = max((killed - ends[item] for item in lost), default=0.0)
    with capsys.disabled():
        text = f"{len(repeated)} repeated: {len(in_flight)} in flight, {len(lost)} ended, {oldest * 1e3:.0f} ms before"
        sys.stdout.write(f"{text}\n" if KILLS > 3 else "")


def batch(number: int) -> Batch:
    first = number * 2
    return (
        AttemptStarted(first, 0.5, f"w{number}", 1, 1, 0.25),
        WorkerSucceeded(first + 1, 1.5, f"w{number}", 1, 1, 1.0, "x" * 500),
    )


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Return a journal as it was left by a process that was killed, and how many batches it has."""
    folder = tmp_path_factory.mktemp("crashed")
    store = RunStore.create(folder / "live", RunInfo("abcdefgh", "abcdefgh", "", "run"))
    store.begin(Launch(number=0, started=0.0, pid=1, host="", folder="", command=[], seed=1, version=""))
    store.write(batches=[store_batch((WorkersQueued(0, 0.0, "", 1, ("a",)),))])
    for number in range(1, 40):
        store.write(batches=[store_batch(batch(number))])
    shutil.copytree(folder / "live", folder / "dead")
    store.close()
    return folder / "dead" / store.path.name, 40


@pytest.mark.parametrize("seed", range(60))
def test_cut_or_garbled_end_of_the_log_costs_only_the_end(crashed: tuple[Path, int], tmp_path: Path, seed: int) -> None:
    path, number = crashed
    copy = Path(shutil.copytree(path.parent, tmp_path / "copy")) / path.name
    chance = random.Random(seed)
    log = Path(f"{copy}-wal")
    data = bytearray(log.read_bytes())
    at = chance.randrange(len(data) // 2, len(data))
    if seed % 2:
        data[at:] = chance.randbytes(len(data) - at)
    else:
        del data[at:]
    log.write_bytes(data)
    Path(f"{copy}-shm").unlink()
    with RunJournal(copy) as journal:
        batches = list(journal.batches(1))
    assert [each.number for each in batches] == list(range(1, len(batches) + 1))
    assert number // 3 < len(batches) < number
    for each in batches:
        each.unpack()
    store = RunStore.reopen(copy)
    store.begin(Launch(number=0, started=0.0, pid=1, host="", folder="", command=[], seed=1, version=""))
    store.write(batches=[store_batch(batch(99))])
    store.close()
    with RunJournal(copy) as journal:
        assert [each.unpack() for each in journal.batches(2)] == [batch(99)]


@pytest.mark.parametrize("seed", range(40))
def test_garbled_file_is_read_or_refused(crashed: tuple[Path, int], tmp_path: Path, seed: int) -> None:
    path, _ = crashed
    copy = Path(shutil.copytree(path.parent, tmp_path / "copy")) / path.name
    RunStore.reopen(copy).close()  # takes the log into the file
    chance = random.Random(seed)
    data = bytearray(copy.read_bytes())
    at = chance.randrange(len(data))
    if seed % 2:
        data[at : at + 200] = chance.randbytes(200)
    else:
        del data[at:]
    copy.write_bytes(data)
    with contextlib.suppress(DamagedError), RunJournal(copy) as journal:  # any other error is a fault
        for each in journal.batches(1):
            each.unpack()
        journal.launches()
