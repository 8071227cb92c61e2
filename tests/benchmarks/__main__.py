"""Run the named benchmark cases, or all of them, and print their findings."""

from __future__ import annotations

import argparse
import compileall
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import asyncwatch
import tests.benchmarks
from tests.benchmarks import report
from tests.benchmarks.measure import Effort, Finding, Skipped
from tests.benchmarks.report import Result

CASES = (
    "http",
    "dashboard",
    "noop",
    "sleep",
    "api",
    "fail",
    "flaky",
    "restart",
    "idle",
    "observe",
    "watchdog",
    "frame",
    "live",
    "map",
    "keys",
    "attach",
    "memory",
    "scale",
    "start",
    "sort",
    "filter",
    "throttle",
    "journal",
    "resume",
    "replay",
    "metrics",
    "dask",
)

_RESULTS = Path(__file__).with_name("RESULTS.md")

Run = Callable[[Effort], Iterable[Finding | Skipped]]


def load(case: str) -> Run:
    """Return the `run` function of a case."""
    run: Run = importlib.import_module(f"tests.benchmarks.cases.{case}").run
    return run


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(CASES)}; all if none is given")
    parser.add_argument(
        "--pairs",
        type=int,
        default=5,
        metavar="N",
        help="measurements of each kind (default: 5); memory is measured once, because it does not vary",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: shows only that a case works")
    parser.add_argument(
        "--write", action="store_true", help=f"write the rows to {_RESULTS.name}, for this version of Python"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(CASES):
        parser.error(f"unknown case: {', '.join(sorted(unknown))}")
    if arguments.write:
        try:
            report.write(_RESULTS, (), CASES)
        except ValueError as error:
            parser.error(str(error))
    for package in (asyncwatch, tests.benchmarks):
        compileall.compile_dir(Path(package.__file__ or "").parent, quiet=2)  # not during the first measurement
    effort = Effort(arguments.pairs, arguments.quick)
    results: list[Result] = []
    broken: list[str] = []
    for case in arguments.names or CASES:
        of_case: list[Result] = []
        try:
            for found in load(case)(effort):
                of_case.append(Result(case, found, effort.pairs, datetime.now(UTC), os.getloadavg()[0]))
                print(report.line(of_case[-1]), flush=True)  # noqa: T201  the program's output
        except Exception:
            traceback.print_exc()
            broken.append(case)
            continue
        results += of_case
        if arguments.write:
            report.write(_RESULTS, of_case, CASES)
    print("", *report.table(results), sep="\n")  # noqa: T201  the same
    if broken:
        sys.exit(f"These cases broke off: {', '.join(broken)}")


if __name__ == "__main__":
    main()
