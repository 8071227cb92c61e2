"""The requests of the case `http` with the dashboard open in a terminal of 120x40, against the handwritten script.

The server counts requests per second, from the first to the last, which leaves out the start of the client. The
processor time is that of the whole process. The benchmark itself reads the dashboard's output.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, beside, ratio
from tests.benchmarks.processes import ASYNCWATCH, PEERS, cost_of
from tests.benchmarks.terminal import Terminal
from tests.benchmarks.website import CONCURRENCY, script, website

_GOAL = Goal(">=", 1.0)


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the requests per second."""
    count = effort.size(20_000, 300)
    with tempfile.TemporaryDirectory() as folder, website(Path(folder)) as site:
        urls = site.urls(count)
        sides = {"asyncwatch": partial(_watch, urls), "script": partial(cost_of, script(urls))}
        costs = alternate(
            effort,
            {side: lambda work=work: site.cost(work, count).each(count) for side, work in sides.items()},  # type: ignore[misc]  # mypy cannot infer it
        )
    watched, bare = costs["asyncwatch"], costs["script"]
    found = ratio("requests/s against the script", _rates(watched), _rates(bare), _GOAL)
    yield beside(found, watched, bare, "us")


def _rates(costs: list[Cost]) -> list[float]:
    return [1 / cost.wall for cost in costs]


def _watch(urls: Path) -> Cost:
    command = [ASYNCWATCH, "--items", str(urls), "--concurrency", str(CONCURRENCY)]
    with Terminal(command, cwd=PEERS, columns=120, rows=40) as terminal:
        terminal.wait_for_text("✓ finished")
        terminal.press("q")
        return terminal.wait_for_end()
