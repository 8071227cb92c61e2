"""The GETs of the case `http` with the dashboard open in a terminal of 120x40, against the script that shows nothing.

As in `http`, the server counts requests a second. The benchmark itself reads what the dashboard draws.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Effort, Finding, Goal, in_turn, ratio
from tests.benchmarks.picture import Picture
from tests.benchmarks.processes import ASYNCWATCH, PEERS, run_process
from tests.benchmarks.website import CONCURRENCY, script, website


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the requests a second."""
    count = effort.size(20_000, 300)
    with tempfile.TemporaryDirectory() as folder, website(Path(folder)) as site:
        urls, few = site.urls(count), site.urls(max(1, count // 10))

        def warm_up() -> None:
            _watch(few)
            run_process(script(few))

        rates = in_turn(
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
    with Picture(command, cwd=PEERS, columns=120, rows=40) as picture:
        picture.wait_for_text("✓ finished")
        picture.press("q")
        assert picture.process.wait() == 0
