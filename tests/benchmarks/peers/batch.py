"""Run a job of `jobs` for many items in one way, and print its processor and wall seconds as JSON.

The ways are asyncwatch in a program of one's own and the code that it replaces. Every way has its own process, the same
loop and the same tuned garbage collector. Imports, the warm-up and the start of the loop are not measured.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import uvloop

from asyncwatch.api import amap, gather
from asyncwatch.engine.run import Run
from asyncwatch.engine.spec import WorkerSpec, WorkerSpecs
from asyncwatch.events import WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.process import infrequent_gc
from tests.benchmarks.measure import Cost
from tests.benchmarks.peers import jobs
from tests.benchmarks.peers.retry_script import Job, gather_retried, retried

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
_WARM_UP = 1_000


async def watched(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Make a spec for every worker, run them with all defaults on, and fold every event into a `Fleet`."""
    run = Run([WorkerSpecs(WorkerSpec("job", job), items, items)], concurrency=concurrency)
    folding = asyncio.Task(_fold(run), loop=asyncio.get_running_loop())
    await asyncio.sleep(0)
    await run.gather()
    fleet = await folding
    assert fleet.counts[WorkerState.SUCCEEDED] == len(items)


async def _fold(run: Run) -> Fleet:
    queue, fleet = run.subscribe(), Fleet()
    while fleet.finished is None:
        apply(fleet, await queue.get())
    return fleet


async def script(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Gather all jobs, with a semaphore and a retry loop."""
    _check(await gather_retried(job, items, concurrency))


async def bare(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Gather all jobs at once, without retries."""
    _check(await asyncio.gather(*[job(item) for item in items]))


async def with_amap(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Call `amap`, with all defaults on."""
    _check(await amap(job, items, concurrency=concurrency))


async def with_streamed_amap(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Iterate over `amap` of an iterator, which is read as workers end."""
    async for result in amap(job, iter(items), concurrency=concurrency):
        assert result == 1


async def with_gather(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Gather all jobs at once with `asyncwatch.gather`."""
    _check(await gather(*[job(item) for item in items]))


async def with_limited_gather(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Gather the jobs with `asyncwatch.gather` and its limit."""
    _check(await gather(*[job(item) for item in items], limit=concurrency))


async def limited(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Gather all jobs, with a semaphore."""
    semaphore = asyncio.Semaphore(concurrency)
    _check(await asyncio.gather(*[_with_slot(job, semaphore, item) for item in items]))


async def run_on_each(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Let aiometer run the bare jobs, whose results it drops."""
    aiometer: Any = importlib.import_module("aiometer")  # not always installed
    await aiometer.run_on_each(job, items, max_at_once=concurrency)


async def with_bare_tqdm(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Gather the bare jobs with tqdm's progress bar, which goes to stderr, all at once."""
    tqdm: Any = importlib.import_module("tqdm.asyncio").tqdm  # not always installed
    _check(await tqdm.gather(*[job(item) for item in items]))


async def with_limited_tqdm(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Gather the bare jobs with tqdm's progress bar and a semaphore."""
    tqdm: Any = importlib.import_module("tqdm.asyncio").tqdm  # not always installed
    semaphore = asyncio.Semaphore(concurrency)
    _check(await tqdm.gather(*[_with_slot(job, semaphore, item) for item in items]))


async def _with_slot(job: Job, semaphore: asyncio.Semaphore, item: str) -> int:
    async with semaphore:
        return await job(item)


async def with_aiometer(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Let aiometer limit the concurrency of the script's retry loop."""
    aiometer: Any = importlib.import_module("aiometer")  # not always installed
    retry = partial(retried, job, nullcontext())
    _check(await aiometer.run_all([partial(retry, item) for item in items], max_at_once=concurrency))


async def with_tqdm(job: Job, items: Sequence[str], concurrency: int) -> None:
    """Gather the script's jobs with tqdm's progress bar, which goes to stderr."""
    tqdm: Any = importlib.import_module("tqdm.asyncio").tqdm  # not always installed
    semaphore = asyncio.Semaphore(concurrency)
    _check(await tqdm.gather(*[retried(job, semaphore, item) for item in items]))


def _check(results: Sequence[object]) -> None:
    assert all(result == 1 for result in results)


WAYS: dict[str, Callable[[Job, Sequence[str], int], Coroutine[Any, Any, None]]] = {
    "asyncwatch": watched,
    "script": script,
    "gather": bare,
    "aiometer": with_aiometer,
    "tqdm": with_tqdm,
    "amap": with_amap,
    "streamed_amap": with_streamed_amap,
    "api_gather": with_gather,
    "limited_gather": with_limited_gather,
    "limited": limited,
    "run_on_each": run_on_each,
    "bare_tqdm": with_bare_tqdm,
    "limited_tqdm": with_limited_tqdm,
}


def measure(way: str, job: Job, count: int, concurrency: int, loop: str) -> Cost:
    """Return the processor and wall seconds of all `count` items."""
    items = [str(number) for number in range(count)]
    gc.collect()
    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        processor, wall = time.process_time(), time.perf_counter()
        runner.run(WAYS[way](job, items, concurrency))
        return Cost(time.process_time() - processor, time.perf_counter() - wall)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("job")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=100)
    parser.add_argument("--loop", choices=LOOPS, default="uvloop")
    given = parser.parse_args()
    job = getattr(jobs, given.job)
    with infrequent_gc():
        measure(given.way, job, _WARM_UP, given.concurrency, given.loop)
        cost = measure(given.way, job, given.count, given.concurrency, given.loop)
    print(json.dumps(cost))  # noqa: T201  the program's output


if __name__ == "__main__":
    main()
