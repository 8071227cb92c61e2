"""Run a fleet of no-op workers, and print the processor and wall seconds of each as JSON."""

from __future__ import annotations

import json
import statistics
import sys

from tests.benchmarks.measure import Cost
from tests.benchmarks.peers.batch import measure
from tests.benchmarks.peers.jobs import return_at_once

_LEAST = 50_000
"""Least number of workers in total: small fleets are run several times."""


def main(workers: int) -> Cost:
    """Return the cost of a worker in the median run."""
    for _ in range(3):
        measure("asyncwatch", return_at_once, 1_000, 100, "uvloop")
    runs = [measure("asyncwatch", return_at_once, workers, 100, "uvloop") for _ in range(max(1, _LEAST // workers))]
    return Cost(*map(statistics.median, zip(*runs, strict=True))).each(workers)


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]))))  # noqa: T201  the program's output
