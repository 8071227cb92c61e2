"""What metrics cost a run: the processor time of the thread that serves it, at 10,000 attempts a second.

One attempt in ten fails and is retried. The time is that of counting the events, and of a page for a scrape every 15
seconds. The last finding compares whole runs with and without `--metrics`; the cost of the start, measured with few
items in the same round, is subtracted.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from asyncwatch.commands import Statistics
from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    Batch,
    Event,
    RetryScheduled,
    RunStarted,
    WorkersQueued,
    WorkerSucceeded,
)
from asyncwatch.metrics.exposition import Exposition
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.process import infrequent_gc
from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, compare, median_of
from tests.benchmarks.processes import ASYNCWATCH, cost_of

_PER_SECOND = 10_000
_BATCH = 500
_GROUPS = 10
_SCRAPED_EVERY = 15.0
"""Seconds."""
_SWITCHES: dict[str, tuple[str, ...]] = {"with": ("--metrics", "0"), "without": ()}


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the share of a core, and the ratio of the processor time with metrics to that without them."""
    seconds = effort.size(20, 1)
    times = [_times(seconds) for _ in range(effort.pairs)]
    shares = [100 * (counting + page / _SCRAPED_EVERY) for counting, page in times]
    note = f"{seconds * _PER_SECOND:,} attempts, {_GROUPS} groups with 5 types of errors each"
    yield median_of("share of a core at 10,000 attempts/s", shares, unit="%", goal=Goal("<=", 2, "%"), note=note)
    yield median_of("a page of such a run", [page * 1e3 for _, page in times], unit="ms")
    workers = effort.size(100_000, 1_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def cost(options: tuple[str, ...]) -> Cost:
            many = _cost(folder, options, workers)
            return many if effort.is_quick else many.each(workers - 100, beyond=_cost(folder, options, 100))

        costs = alternate(effort, {name: partial(cost, options) for name, options in _SWITCHES.items()})
        yield compare(f"{workers:,} no-op workers", costs["with"], costs["without"], Goal("<=", 1.05))


def _times(seconds: int) -> tuple[float, float]:
    """Return the processor time that counting takes in each of so many seconds of a run, and that of a page."""
    fleet = Fleet()
    exposition = Exposition(fleet, Statistics, lambda: 0, time.monotonic)
    counting = 0.0
    with infrequent_gc():
        for batch in _batches(seconds):
            began = time.thread_time()
            exposition.take(batch)
            counting += time.thread_time() - began
            apply(fleet, batch)
        began = time.thread_time()
        exposition.pages["/metrics"]()
        return counting / seconds, time.thread_time() - began


def _batches(seconds: int) -> Iterator[Batch]:
    """Yield the events of a run whose attempts start at `_PER_SECOND` for so long."""
    names = [f"worker {number}" for number in range(seconds * _PER_SECOND)]
    yield (RunStarted(0, 0.0, "synthetic", len(names), "gather", 7, 100, None, 0.0),)
    size = len(names) // _GROUPS
    seq = 1
    for group in range(_GROUPS):
        for start in range(group * size, (group + 1) * size, 4_000):
            some = tuple(names[start : min(start + 4_000, (group + 1) * size)])
            yield (WorkersQueued(seq, 0.0, f"group {group}", 3, some),)
            seq += 1
    batch: list[Event] = []
    for number, name in enumerate(names):
        at, taken = number / _PER_SECOND, 0.001 * (number % 1_000)
        events: list[Event] = [AttemptStarted(seq, at, name, 1, 1, 0.5)]
        if number % 10:
            events.append(WorkerSucceeded(seq + 1, at + taken, name, 1, 1, taken))
        else:
            error = f"Error{number % 50}"
            events += [
                AttemptFailed(seq + 1, at, name, 1, 1, error, "it failed", True, False, taken, "", "transient"),
                RetryScheduled(seq + 2, at, name, 1, 2, 0.1),
                AttemptStarted(seq + 3, at, name, 1, 2, 0.5),
                WorkerSucceeded(seq + 4, at + taken, name, 1, 2, 0.1 + taken),
            ]
        seq += len(events)
        batch += events
        if len(batch) >= _BATCH:
            yield tuple(batch)
            batch = []


def _cost(folder: Path, options: tuple[str, ...], workers: int) -> Cost:
    items = folder / f"items-{workers}.txt"
    items.write_text("".join(f"{number}\n" for number in range(workers)))
    run = [ASYNCWATCH, "--headless", "--no-journal", "--concurrency", "100", "--items", str(items)]
    return cost_of([*run, *options, "jobs:return_at_once"])
