"""A fleet of so many workers that do nothing, in a process of its own: prints the microseconds a worker."""

from __future__ import annotations

import json
import statistics
import sys

from asyncwatch.engine.thread import new_event_loop
from tests.benchmarks.cases.noop import return_at_once, time_watched

_LEAST = 50_000
"""Workers in all: small fleets are run more than once."""


def main(workers: int) -> float:
    """Return the microseconds a worker, of the run in the middle."""
    for _ in range(3):
        time_watched(1_000, return_at_once, new_event_loop)
    runs = [time_watched(workers, return_at_once, new_event_loop)[0] for _ in range(max(1, _LEAST // workers))]
    return statistics.median(runs) / workers * 1e6


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))  # noqa: T201  its answer
