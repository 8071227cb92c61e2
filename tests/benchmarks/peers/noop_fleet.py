"""Run a fleet of no-op workers and print the microseconds per worker."""

from __future__ import annotations

import json
import statistics
import sys

from asyncwatch.engine.event_loop import new_event_loop
from tests.benchmarks.cases.noop import return_at_once, time_watched

_LEAST = 50_000
"""Least number of workers in total: small fleets are run several times."""


def main(workers: int) -> float:
    """Return the microseconds per worker of the median run."""
    for _ in range(3):
        time_watched(1_000, return_at_once, new_event_loop)
    runs = [time_watched(workers, return_at_once, new_event_loop)[0] for _ in range(max(1, _LEAST // workers))]
    return statistics.median(runs) / workers * 1e6


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))  # noqa: T201  the program's output
