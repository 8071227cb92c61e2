"""The requests of the case `http` with the dashboard open in a terminal of 120x40.

Against the handwritten script: the server counts requests per second, from the first to the last, which leaves out the
start of the client, and the processor time is that of all three processes. Against a run whose dashboard has left: the
processor time of the engine's process alone. The benchmark itself reads the dashboard's output.
"""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, beside, ratio
from tests.benchmarks.processes import ASYNCWATCH, PEERS, children_of, cost_of, processor_time_of
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
    with tempfile.TemporaryDirectory() as folder, website(Path(folder)) as site:
        urls = site.urls(count)
        engines = alternate(
            effort, {"open": partial(_engine, urls, is_open=True), "none": partial(_engine, urls, is_open=False)}
        )
    engine, alone = engines["open"], engines["none"]
    what = "processor time of the engine with an open dashboard, against none"
    found = ratio(what, [cost.processor for cost in engine], [cost.processor for cost in alone], Goal("<=", 1.03))
    yield beside(found, [cost.each(count) for cost in engine], [cost.each(count) for cost in alone], "us")


def _rates(costs: list[Cost]) -> list[float]:
    return [1 / cost.wall for cost in costs]


def _watch(urls: Path) -> Cost:
    command = [ASYNCWATCH, "--items", str(urls), "--concurrency", str(CONCURRENCY)]
    with Terminal(command, cwd=PEERS, columns=120, rows=40) as terminal:
        terminal.wait_for_text("✓ finished")
        terminal.press("q")
        return terminal.wait_for_end()


def _engine(urls: Path, *, is_open: bool) -> Cost:
    """Return the cost of the engine's process with an open dashboard, or with one that has left at the beginning."""
    command = [ASYNCWATCH, "--items", str(urls), "--concurrency", str(CONCURRENCY)]
    with Terminal(command, cwd=PEERS, columns=120, rows=40) as terminal:
        terminal.wait_for_text("attempts/s")
        engine = next(pid for pid in children_of(terminal.process.pid) if os.getsid(pid) == pid)
        start, processor = time.perf_counter(), math.nan
        if not is_open:
            terminal.press("D")
        with contextlib.suppress(OSError):  # it has ended
            while not (is_open and "✓ finished" in terminal.text):
                processor = processor_time_of(engine)
                time.sleep(0.005)
        cost = Cost(processor, time.perf_counter() - start)
        if is_open:
            terminal.press("q")
        terminal.wait_for_end()
        return cost
