"""The requests of the case `http` with the dashboard open in a terminal of 120x40, against the plain script.

The server counts requests per second, as in `http`. The benchmark itself reads the dashboard's output.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Effort, Finding, Goal, alternate, ratio
from tests.benchmarks.processes import ASYNCWATCH, PEERS, run_process
from tests.benchmarks.terminal import Terminal
from tests.benchmarks.website import CONCURRENCY, script, website


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the requests per second."""
    count = effort.size(20_000, 300)
    with tempfile.TemporaryDirectory() as folder, website(Path(folder)) as site:
        urls, few = site.urls(count), site.urls(max(1, count // 10))

        def warm_up() -> None:
            _watch(few)
            run_process(script(few))

        rates = alternate(
            effort,
            {
                "asyncwatch": lambda: site.rate(partial(_watch, urls), count),
                "script": lambda: site.rate(partial(run_process, script(urls)), count),
            },
            warm_up=warm_up,
        )
    watched, bare = rates["asyncwatch"], rates["script"]
    note = f"{statistics.median(watched):,.0f} requests/s against {statistics.median(bare):,.0f}"
    yield ratio("requests/s against the script", watched, bare, Goal(">=", 1.0), note)


def _watch(urls: Path) -> None:
    command = [ASYNCWATCH, "--items", str(urls), "--concurrency", str(CONCURRENCY)]
    with Terminal(command, cwd=PEERS, columns=120, rows=40) as terminal:
        terminal.wait_for_text("✓ finished")
        terminal.press("q")
        assert terminal.process.wait() == 0
