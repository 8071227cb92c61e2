"""20,000 GET requests without a dashboard, against the handwritten script on asyncio's loop and on uvloop.

Each client runs as a command in a process of its own, and both keep their results in memory. The server, a third
process, counts requests per second from the first to the last, which leaves out the start of the client. The total run
time of the processes is compared too, without a goal. On a machine with two cores the server has one to itself.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Effort, Finding, Goal, alternate, ratio, seconds_of
from tests.benchmarks.processes import ASYNCWATCH, run_process
from tests.benchmarks.website import CONCURRENCY, script, website


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratios of the requests per second to each script, then of the total run times."""
    count = effort.size(20_000, 300)
    with tempfile.TemporaryDirectory() as folder, website(Path(folder)) as site:
        urls, few = site.urls(count), site.urls(max(1, count // 10))
        commands: dict[str, Callable[[Path], list[str]]] = {
            "asyncwatch": lambda file: [
                *(ASYNCWATCH, "--headless", "--concurrency", str(CONCURRENCY), "--items", str(file))
            ],
            "script": script,
            "uvloop": lambda file: script(file, "--uvloop"),
        }
        whole: dict[str, list[float]] = {name: [] for name in commands}

        def fetch(name: str) -> float:
            def work() -> None:
                whole[name].append(seconds_of(partial(run_process, commands[name](urls))))

            return site.rate(work, count)

        def warm_up() -> None:
            for command in commands.values():
                run_process(command(few))

        rates = alternate(effort, {name: partial(fetch, name) for name in commands}, warm_up=warm_up)
    for peer, what, limit in (("script", "the script", 1.15), ("uvloop", "the script on uvloop", 1.05)):
        note = _against(rates["asyncwatch"], rates[peer], "requests/s")
        yield ratio(f"requests/s against {what}", rates["asyncwatch"], rates[peer], Goal(">=", limit), note)
    for peer, what in (("script", "the script"), ("uvloop", "the script on uvloop")):
        note = _against(whole["asyncwatch"], whole[peer], "s", digits=1)
        yield ratio(f"time of the whole process against {what}", whole["asyncwatch"], whole[peer], note=note)


def _against(figures: Sequence[float], peers: Sequence[float], unit: str, digits: int = 0) -> str:
    return f"{statistics.median(figures):,.{digits}f} {unit} against {statistics.median(peers):,.{digits}f}"
