"""Runs the cases that are named, or all, and prints their findings."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterable

from tests.benchmarks import report
from tests.benchmarks.measure import Effort, Finding

CASES = ("http", "dashboard", "noop", "frame", "keys", "memory", "scale", "start", "sort", "filter")

Run = Callable[[Effort], Iterable[Finding]]


def load(case: str) -> Run:
    """Return what runs a case."""
    run: Run = importlib.import_module(f"tests.benchmarks.cases.{case}").run
    return run


def main() -> None:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(CASES)}; all if none is given")
    parser.add_argument(
        "--pairs",
        type=int,
        default=5,
        metavar="N",
        help="measurements of each kind (default: 5); memory is taken once, as it does not vary",
    )
    parser.add_argument("--quick", action="store_true", help="small sizes: shows that it works, and no more")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(CASES):
        parser.error(f"there is no case {', '.join(sorted(unknown))}")
    effort = Effort(arguments.pairs, arguments.quick)
    findings: list[tuple[str, Finding]] = []
    for case in arguments.names or CASES:
        for finding in load(case)(effort):
            findings.append((case, finding))
            print(report.line(case, finding), flush=True)  # noqa: T201  that is its output
    print("", *report.table(findings), sep="\n")  # noqa: T201


if __name__ == "__main__":
    main()
