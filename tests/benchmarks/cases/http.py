"""20,000 GET requests without a dashboard, against today's handwritten script and against the best of an expert.

Each client runs as a command in a process of its own, with 200 requests at once, and keeps its results in memory. The
peers record nothing, and neither does asyncwatch: `journal` has the cost of that. The figure is the processor time of a
request: the cost of a start, measured with few requests in the same round, is subtracted. The server, another process,
counts the requests; the wall time is from the first to the last of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, compare
from tests.benchmarks.processes import ASYNCWATCH, PEERS, ROOT, cost_of, peer
from tests.benchmarks.website import CONCURRENCY, Website, script, website

_PEERS = {
    "script": ("the handwritten script", Goal("<=", 0.85)),
    "expert": ("a pool of tasks on uvloop without cookies", Goal("<=", 1.05)),
}


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the processor time of a request to each script's."""
    many, few = effort.size(20_000, 300), CONCURRENCY
    with tempfile.TemporaryDirectory() as folder, website(Path(folder)) as site:

        def cost_each(side: str) -> Cost:
            whole = _cost(side, site, many)
            return whole.each(many) if effort.is_quick else whole.each(many - few, beyond=_cost(side, site, few))

        costs = alternate(effort, {side: partial(cost_each, side) for side in _COMMANDS})
    for side, (what, goal) in _PEERS.items():
        yield compare(f"{many:,} requests, against {what}", costs["asyncwatch"], costs[side], goal)


def _asyncwatch(urls: Path) -> Cost:
    limit = ["--concurrency", str(CONCURRENCY)]
    return cost_of([ASYNCWATCH, "--headless", "--no-journal", *limit, "--items", str(urls)], cwd=PEERS)


_COMMANDS: dict[str, Callable[[Path], Cost]] = {
    "asyncwatch": _asyncwatch,
    "script": lambda urls: cost_of(script(urls), cwd=PEERS),
    "expert": lambda urls: cost_of(peer("expert_script", urls, "--concurrency", CONCURRENCY), cwd=ROOT),
}


def _cost(side: str, site: Website, count: int) -> Cost:
    urls = site.urls(count)
    return site.cost(lambda: _COMMANDS[side](urls), count)
