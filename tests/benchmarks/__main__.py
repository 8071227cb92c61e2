"""Run the named benchmark cases, or all of them, and print their findings."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterable

from tests.benchmarks import report
from tests.benchmarks.measure import Effort, Finding, Skipped

CASES = (
    "http",
    "dashboard",
    "noop",
    "sleep",
    "fail",
    "flaky",
    "restart",
    "idle",
    "frame",
    "keys",
    "memory",
    "scale",
    "start",
    "sort",
    "filter",
)

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
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(CASES):
        parser.error(f"unknown case: {', '.join(sorted(unknown))}")
    effort = Effort(arguments.pairs, arguments.quick)
    findings: list[tuple[str, Finding]] = []
    for case in arguments.names or CASES:
        for finding in load(case)(effort):
            if isinstance(finding, Finding):
                findings.append((case, finding))
            print(report.line(case, finding), flush=True)  # noqa: T201  the program's output
    print("", *report.table(findings), sep="\n")  # noqa: T201  the same


if __name__ == "__main__":
    main()
