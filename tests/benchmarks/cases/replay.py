"""Moments of a recorded run of 1,000,000 events: how long a dashboard takes to have one, without drawing it.

The run has 320,000 workers. One in three fails once and is retried, and one in nine fails for good. Most are in queue
order; a hundred are in flight at once. The updates are taken as the dashboard takes them, in the same process.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from asyncwatch.commands import Moment, SnapshotPart
from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    Batch,
    CommandRefused,
    Event,
    RetryScheduled,
    RunStarted,
    WorkerExhausted,
    WorkersQueued,
    WorkerSucceeded,
)
from asyncwatch.journal.index import Index, Marks, build
from asyncwatch.journal.replay import Replay
from asyncwatch.journal.store import Launch, RunInfo, RunJournal, RunStore, store_batch
from asyncwatch.process import infrequent_gc
from asyncwatch.ui.dashboard import DashboardState
from asyncwatch.ui.keys import Role
from asyncwatch.ui.pump import Pump
from tests.benchmarks.measure import Effort, Finding, Goal, percentile

_GOAL = Goal("<=", 300, "ms")
_AT_ONCE = 100
_STACK = '  File "/srv/app/jobs.py", line 12, in fetch\n    raise TimeoutError(url)\n'


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the time to index the run, its size, and the time of random moments."""
    workers, seeks = effort.size(320_000, 500), effort.size(60 * effort.pairs, 5)
    with tempfile.TemporaryDirectory() as name:
        path, events = _record(Path(name), workers)
        began = time.perf_counter()
        with RunJournal(path) as journal, Index(path, 1) as index:
            build(journal, 1, index, _go_on)
        yield Finding(f"index {events:,} events", (time.perf_counter() - began) * 1e3, "ms")
        size = path.with_suffix(".index").stat().st_size
        yield Finding("size of the index", size / 1e6, "MB", note=f"the journal: {path.stat().st_size / 1e6:.1f} MB")
        with infrequent_gc():  # as the command does
            times = asyncio.run(_seek(path, seeks))
    figures = f"{seeks} moments: p50 {percentile(times, 0.5):.0f} ms, max {max(times):.0f} ms"
    yield Finding("a random moment, p95", percentile(times, 0.95), "ms", goal=_GOAL, note=figures)


def _go_on(_marks: Marks, _at: float) -> bool:
    return True


class _Sink:
    """Folds updates as the dashboard does, and says when a moment is reached."""

    def __init__(self, replay: Replay) -> None:
        self.dashboard = DashboardState(role=Role.REPLAY, player=replay)
        self.reached = asyncio.Event()

    def receive(self, batch: Batch) -> None:
        self.dashboard.receive(batch)

    def read(self, part: SnapshotPart) -> bool:
        return self.dashboard.read(part)

    def move(self, moment: Moment) -> None:
        self.dashboard.move(moment)
        if moment.is_reached:
            self.reached.set()

    def draw(self) -> None:
        """Draw nothing."""

    def show_problem(self, problem: str) -> None:
        raise AssertionError(problem)

    def show_refusals(self, refusals: list[CommandRefused]) -> None:
        """Show nothing."""


async def _seek(path: Path, seeks: int) -> list[float]:
    """Return the milliseconds that random moments took."""
    replay = Replay(path)
    sink = _Sink(replay)
    pumping = asyncio.create_task(Pump(sink, is_endless=True).run(replay.events()))
    random = Random(5)
    times: list[float] = []
    try:
        await sink.reached.wait()
        for _ in range(seeks):
            sink.reached.clear()
            at = random.uniform(0.0, replay.recording().end)
            began = time.perf_counter()
            replay.seek(at)
            await sink.reached.wait()
            times.append((time.perf_counter() - began) * 1e3)
            assert sink.dashboard.fleet.latest <= at
    finally:
        pumping.cancel()
        replay.close()
    return times


def _record(folder: Path, workers: int) -> tuple[Path, int]:
    """Record the run; return the path of its journal and the number of its events."""
    store = RunStore.create(folder, RunInfo("abcdefgh", "abcdefgh", "", "synthetic"))
    launch = {"pid": 1, "host": "", "folder": "", "command": [], "seed": 1, "version": ""}
    store.begin(Launch(number=1, started=0.0, **launch))  # type: ignore[arg-type]
    events = _events(workers)
    number = 0
    while batch := tuple(islice(events, 500)):
        number += len(batch)
        store.write(batches=[store_batch(batch)])
    store.close()
    return folder / "abcdefgh.sqlite", number


def _events(workers: int) -> Iterator[Event]:
    """Yield the events of the run, in the order of time, with their numbers."""
    start = {"workers": workers, "runner": "gather", "seed": 1, "concurrency": _AT_ONCE, "timeout": None}
    yield RunStarted(seq=0, at=0.0, run="synthetic", started_at=0.0, **start)  # type: ignore[arg-type]
    seq = 0
    for first in range(0, workers, 4_000):
        seq += 1
        names = tuple(f"w{number}" for number in range(first, min(first + 4_000, workers)))
        yield WorkersQueued(seq=seq, at=0.0, group="synthetic", max_attempts=2, workers=names)
    flight = [_worker(number) for number in range(min(_AT_ONCE, workers))]
    following, turn = len(flight), 0
    random = Random(1)
    while flight:
        turn += 1
        place = random.randrange(len(flight))
        made = next(flight[place], None)
        if made is None:
            if following < workers:
                flight[place] = _worker(following)
                following += 1
            else:
                del flight[place]
            continue
        kind, fields = made
        seq += 1
        yield kind(seq=seq, at=turn / 1_000, **fields)


def _worker(number: int) -> Iterator[tuple[type[Event], dict[str, object]]]:
    who = {"worker": f"w{number}", "incarnation": 1}
    error = {"error_type": "TimeoutError", "error": f"https://shop.example/items/{number} took too long"}
    failure = {**error, "transient": True, "injected": False, "stack": _STACK, "elapsed": 0.1}
    luck = {"bad_luck": number % 997 / 997}
    yield AttemptStarted, {**who, "attempt": 1, **luck}
    if number % 3 == 0:
        yield AttemptFailed, {**who, "attempt": 1, **failure}
        yield RetryScheduled, {**who, "attempt": 2, "delay": 0.1}
        yield AttemptStarted, {**who, "attempt": 2, **luck}
        if number % 9 == 0:
            yield AttemptFailed, {**who, "attempt": 2, **failure}
            yield WorkerExhausted, {**who, "attempts": 2, "elapsed": 0.3, **error}
            return
    yield WorkerSucceeded, {**who, "attempts": 1, "elapsed": 0.1, "result": {"status": 200, "item": number}}
