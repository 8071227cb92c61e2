"""100,000 workers that do nothing, in a program: what supervision and the model cost for each.

asyncwatch makes a spec for every worker, runs them with all defaults on, and folds every event into a `Fleet`, all on
one loop. The peer is the handwritten script: `Semaphore(100)` and `gather`, with a retry loop. `gather` of the bare
jobs stands beside it. Each side has its own process, in which the garbage collector is tuned as asyncwatch tunes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, compare
from tests.benchmarks.peers.batch import LOOPS
from tests.benchmarks.processes import run_json

_GOALS = {"return_at_once": Goal("<=", 1.25), "yield_once": Goal("<=", 0.8)}


def run(effort: Effort) -> Iterator[Finding]:
    """Yield a ratio to each peer for each job on each loop."""
    workers = effort.size(100_000, 1_000)
    for job, goal in _GOALS.items():
        for loop in LOOPS:

            def cost_each(way: str, job: str = job, loop: str = loop) -> Cost:
                return Cost(*run_json("batch", way, job, "--count", workers, "--loop", loop)).each(workers)

            ways = ("asyncwatch", "script", "gather")
            costs = alternate(effort, {way: partial(cost_each, way) for way in ways})
            what = f"{job.replace('_', ' ')}, {loop}"
            yield compare(what, costs["asyncwatch"], costs["script"], goal)
            yield compare(f"{what}, against bare gather", costs["asyncwatch"], costs["gather"])
