"""100,000 sleeps of 0 to 20 ms in a program: `amap` and `gather` against what they replace.

The jobs are bare, without a retry loop. `amap` runs 5,000 at once with all defaults on; so do aiometer's `run_on_each`
and tqdm's `gather` with a semaphore, while tqdm's bare `gather` and `asyncio.gather` run all at once. Each side has its
own process, with a tuned garbage collector. The last row is the memory of a program that iterates over `amap` of
10,000,000 generated items; it has a process of its own too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, Skipped, alternate, compare
from tests.benchmarks.processes import run_json

_OURS = ("amap", "streamed_amap", "api_gather", "limited_gather")
_PAIRS: tuple[tuple[str, str, str, Goal | None], ...] = (
    ("amap", "run_on_each", "`amap`, against aiometer.run_on_each", Goal("<=", 0.6)),
    ("amap", "limited_tqdm", "`amap`, against tqdm.asyncio.gather and a semaphore", Goal("<=", 0.7)),
    ("amap", "bare_tqdm", "`amap`, against tqdm.asyncio.gather", Goal("<=", 0.7)),
    ("streamed_amap", "run_on_each", "`amap` of an iterator, against aiometer.run_on_each", None),
    ("api_gather", "gather", "`gather`, against asyncio.gather", Goal("<=", 1.1)),
    ("limited_gather", "limited", "`gather` with a limit, against asyncio.gather and a semaphore", None),
)
_LIBRARIES = {"run_on_each": "aiometer", "limited_tqdm": "tqdm", "bare_tqdm": "tqdm"}


def run(effort: Effort) -> Iterator[Finding | Skipped]:
    """Yield the ratio to each peer that is installed, on each loop, and the memory."""
    workers, concurrency = effort.size(100_000, 1_000), effort.size(5_000, 500)
    peers = {peer for _, peer, _, _ in _PAIRS if peer not in _LIBRARIES or find_spec(_LIBRARIES[peer]) is not None}
    for loop in ("asyncio", "uvloop"):

        def cost_each(way: str, loop: str = loop) -> Cost:
            arguments = (way, "sleep_briefly", "--count", workers, "--concurrency", concurrency, "--loop", loop)
            return Cost(*run_json("batch", *arguments)).each(workers)

        costs = alternate(effort, {way: partial(cost_each, way) for way in (*_OURS, *sorted(peers))})
        for ours, peer, what, goal in _PAIRS:
            if peer in costs:
                yield compare(f"{what}, {loop}", costs[ours], costs[peer], goal)
            else:
                yield Skipped(f"{what}, {loop}", f"{_LIBRARIES[peer]} is not installed: pip install '.[bench]'")
    items = effort.size(10_000_000, 10_000)
    megabytes = run_json("generated_items", items)
    yield Finding(f"peak with {items:,} generated items", megabytes, "MB", goal=Goal("<=", 200, "MB"))
