"""The same headless runs with a journal and without: what recording costs, in processor time and on the disk.

`noop` is a batch of workers that return at once, `http` the requests of the case of that name. The cost of the start,
measured with few items in the same round, is subtracted. The bytes are those of the journal after the run.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, compare
from tests.benchmarks.processes import ASYNCWATCH, cost_of
from tests.benchmarks.website import CONCURRENCY, website

_SWITCHES = ("--journal", "--no-journal")


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the processor time with a journal to that without one, and the bytes of a worker."""
    workers = effort.size(100_000, 1_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sizes: list[float] = []

        def noop(switch: str) -> Cost:
            many = _cost(folder, switch, workers)
            if switch == "--journal":
                sizes.append(sum(path.stat().st_size for path in (folder / "runs").iterdir()) / workers)
            return many if effort.is_quick else many.each(workers - 100, beyond=_cost(folder, switch, 100))

        costs = alternate(effort, {switch: partial(noop, switch) for switch in _SWITCHES})
        yield compare(f"{workers:,} no-op workers", costs["--journal"], costs["--no-journal"], Goal("<=", 1.2))
        yield Finding("a no-op worker in the file", statistics.median(sizes), "bytes", goal=Goal("<=", 64, "bytes"))
    many, few = effort.size(20_000, 300), CONCURRENCY
    with tempfile.TemporaryDirectory() as name, website(folder := Path(name)) as site:

        def http(switch: str) -> Cost:
            def cost(count: int) -> Cost:
                urls = site.urls(count)
                return site.cost(lambda: _run(folder, switch, str(urls), CONCURRENCY), count)

            return cost(many) if effort.is_quick else cost(many).each(many - few, beyond=cost(few))

        costs = alternate(effort, {switch: partial(http, switch) for switch in _SWITCHES})
        yield compare(f"{many:,} requests", costs["--journal"], costs["--no-journal"], Goal("<=", 1.08))


def _cost(folder: Path, switch: str, workers: int) -> Cost:
    items = folder / f"items-{workers}.txt"
    items.write_text("".join(f"{number}\n" for number in range(workers)))
    return _run(folder, switch, str(items), 100, "jobs:return_at_once")


def _run(folder: Path, switch: str, items: str, concurrency: int, *target: str) -> Cost:
    for file in (folder / "runs").glob("*"):
        file.unlink()
    config = folder / "settings.toml"
    config.write_text(f'journal_dir = "{folder / "runs"}"\n')
    settings = ["--config", str(config), "--concurrency", str(concurrency), "--items", items]
    return cost_of([ASYNCWATCH, "--headless", switch, *settings, *target])
