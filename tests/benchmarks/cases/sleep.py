"""100,000 workers that sleep for 0 to 20 ms, 5,000 at once, in a program: against a script and two libraries.

The script is the one of `noop`. aiometer and tqdm's `gather` run the same retry loop; tqdm has no limit of its own, so
the script's semaphore stays. Each side has its own process, with uvloop and a tuned garbage collector.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from importlib.util import find_spec

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, Skipped, alternate, compare
from tests.benchmarks.processes import run_json

_PEERS = {"script": "the script", "aiometer": "aiometer", "tqdm": "tqdm.asyncio.gather"}
_GOAL = Goal("<=", 0.6)


def run(effort: Effort) -> Iterator[Finding | Skipped]:
    """Yield the ratio to each peer that is installed."""
    workers, concurrency = effort.size(100_000, 1_000), effort.size(5_000, 500)
    peers = [peer for peer in _PEERS if peer == "script" or find_spec(peer) is not None]

    def cost_each(way: str) -> Cost:
        arguments = (way, "sleep_briefly", "--count", workers, "--concurrency", concurrency)
        return Cost(*run_json("batch", *arguments)).each(workers)

    costs = alternate(effort, {way: partial(cost_each, way) for way in ("asyncwatch", *peers)})
    for peer, name in _PEERS.items():
        what = f"{workers:,} sleeps, {concurrency:,} at once, against {name}"
        if peer in costs:
            yield compare(what, costs["asyncwatch"], costs[peer], _GOAL)
        else:
            yield Skipped(what, f"{peer} is not installed: pip install '.[bench]'")
