"""A fleet of no-op workers: what supervision and the model cost, compared with a bare task.

asyncwatch makes a spec for every worker, runs them with all defaults on, and folds every event into a `Fleet`, all on
one loop. The peer is `asyncio.gather` of the same coroutines. Each run has a new loop. The garbage collector has
Python's default thresholds for both, and a full collection comes first.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator

import uvloop

from asyncwatch.engine.run import Run
from asyncwatch.engine.spec import WorkerSpec, WorkerSpecs
from asyncwatch.events import WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from tests.benchmarks.measure import Effort, Finding, Goal, alternate, ratio

Job = Callable[[], Awaitable[int]]

_LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


async def return_at_once() -> int:
    """Return without waiting."""
    return 1


async def yield_once() -> int:
    """Wait for one loop iteration."""
    await asyncio.sleep(0)
    return 1


def run(effort: Effort) -> Iterator[Finding]:
    """Yield a ratio for each job on each loop."""
    workers = effort.size(100_000, 1_000)
    for job in (return_at_once, yield_once):
        for loop, new_loop in _LOOPS.items():
            yield _compare(f"{job.__name__.replace('_', ' ')}, {loop}", job, new_loop, workers, effort)


def _compare(
    what: str, job: Job, new_loop: Callable[[], asyncio.AbstractEventLoop], workers: int, effort: Effort
) -> Finding:
    making: list[float] = []

    def watched() -> float:
        seconds, of_specs = time_watched(workers, job, new_loop)
        making.append(of_specs)
        return seconds

    figures = alternate(effort, {"watched": watched, "bare": lambda: _time_bare(workers, job, new_loop)})
    watched_seconds, bare_seconds = figures["watched"], figures["bare"]
    run_only = [
        all_ - of_specs for all_, of_specs in zip(watched_seconds, making[-len(watched_seconds) :], strict=True)
    ]
    each = 1e6 / workers
    run_ratio = ratio("", run_only, bare_seconds).figure
    note = (
        f"{statistics.median(watched_seconds) * each:.1f} us per worker against "
        f"{statistics.median(bare_seconds) * each:.1f}; {run_ratio:.2f} x without making specs"
    )
    return ratio(what, watched_seconds, bare_seconds, Goal("<=", 1.0), note)


def time_watched(workers: int, job: Job, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> tuple[float, float]:
    """Return the seconds from the first spec to the last folded event, and the part that making the specs took."""

    async def main() -> tuple[float, float]:
        start = time.perf_counter()
        specs = WorkerSpecs(WorkerSpec("noop", job), [str(number) for number in range(workers)])
        of_specs = time.perf_counter() - start
        supervisor = Run([specs])
        folding = asyncio.Task(_fold(supervisor), loop=asyncio.get_running_loop())
        await asyncio.sleep(0)
        await supervisor.gather()
        fleet = await folding
        seconds = time.perf_counter() - start
        assert fleet.counts[WorkerState.SUCCEEDED] == workers
        return seconds, of_specs

    gc.collect()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main())


async def _fold(supervisor: Run) -> Fleet:
    queue, fleet = supervisor.subscribe(), Fleet()
    while fleet.finished is None:
        apply(fleet, await queue.get())
    return fleet


def _time_bare(workers: int, job: Job, new_loop: Callable[[], asyncio.AbstractEventLoop]) -> float:
    async def main() -> float:
        start = time.perf_counter()
        results = await asyncio.gather(*[job() for _ in range(workers)])
        seconds = time.perf_counter() - start
        assert sum(results) == workers
        return seconds

    gc.collect()
    with asyncio.Runner(loop_factory=new_loop) as runner:
        return runner.run(main())
