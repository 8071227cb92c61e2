"""Sort and filter the values of the synthetic run as plain lists, and print what each took as JSON.

`sorted()` and a list comprehension yield the indices of the rows, as the dashboard needs them. Each list has values of
one type only.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from asyncwatch.process import infrequent_gc
from tests.benchmarks.measure import Cost
from tests.benchmarks.synthetic_run import RANKS, end_of, name_of

_NO_RESULT, _NO_ERROR = 10**9, "~"
"""Values that sort last, as rows without a result or an error do."""


def sorts(workers: int) -> Mapping[str, Callable[[], object]]:
    """Return the sort for each order of the dashboard. The queue order needs none."""
    ends = [end_of(index) for index in range(workers)]
    lists: dict[str, list[Any]] = {
        "state": [RANKS[end.state] for end in ends],
        "retries": [end.attempts for end in ends],
        "luck": [end.luck for end in ends],
        "result": [_NO_RESULT if end.result is None else end.result for end in ends],
        "last": [end.last for end in ends],
        "elapsed": [end.elapsed for end in ends],
        "error": [f"TimeoutError: {end.error}" if end.error else _NO_ERROR for end in ends],
        "name": [name_of(index) for index in range(workers)],
    }
    return {order: partial(_sort, values) for order, values in lists.items()}


def _sort(values: list[Any]) -> list[int]:
    return sorted(range(len(values)), key=values.__getitem__)


def filters(workers: int) -> Mapping[str, Callable[[], object]]:
    """Return the comprehension for each filter text of the case."""
    ends = [end_of(index) for index in range(workers)]
    names = [name_of(index) for index in range(workers)]
    states = [str(end.state) for end in ends]
    retries = [end.attempts - 1 for end in ends]
    lucks = [end.luck for end in ends]
    errors = [f"TimeoutError: {end.error}" if end.error else "" for end in ends]
    return {
        "w77": lambda: [
            index
            for index, (name, error) in enumerate(zip(names, errors, strict=True))
            if "w77" in name.casefold() or "w77" in error.casefold()
        ],
        "state:failed": lambda: [index for index, state in enumerate(states) if state == "failed"],
        "retries>0": lambda: [index for index, count in enumerate(retries) if count > 0],
        "luck>0.9": lambda: [index for index, luck in enumerate(lucks) if luck > 0.9],
        "error:timeout": lambda: [index for index, error in enumerate(errors) if "timeout" in error.casefold()],
    }


def cost_of(work: Callable[[], object]) -> Cost:
    """Return what the work takes."""
    processor, wall = time.process_time(), time.perf_counter()
    work()
    return Cost(time.process_time() - processor, time.perf_counter() - wall)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("sorts", "filters"))
    parser.add_argument("--workers", type=int, required=True)
    given = parser.parse_args()
    works = sorts(given.workers) if given.what == "sorts" else filters(given.workers)
    with infrequent_gc():
        print(json.dumps({name: cost_of(work) for name, work in works.items()}))  # noqa: T201  the program's output


if __name__ == "__main__":
    main()
