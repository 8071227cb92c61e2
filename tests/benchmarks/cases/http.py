"""20,000 GETs without a dashboard, against the script that one writes by hand, on asyncio's loop and on uvloop.

Each client runs in a process of its own by its real command, and both keep their results in memory. The server, a
third process, counts requests a second from the first to the last, so that the start of a process does not count; the
whole time of the processes is compared too, with no goal. On a machine of two cores the server has one to itself.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Effort, Finding, Goal, in_turn, ratio, seconds_of
from tests.benchmarks.processes import ASYNCWATCH, run_process
from tests.benchmarks.website import CONCURRENCY, script, website


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the requests a second to those of each script, then those of the whole times."""
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

        rates = in_turn(effort, {name: partial(fetch, name) for name in commands}, warm_up=warm_up)
    for peer, what, limit in (("script", "the script", 1.15), ("uvloop", "the script on uvloop", 1.05)):
        note = _against(rates["asyncwatch"], rates[peer], "requests/s")
        yield ratio(f"requests/s against {what}", rates["asyncwatch"], rates[peer], Goal(">=", limit), note)
    for peer, what in (("script", "the script"), ("uvloop", "the script on uvloop")):
        note = _against(whole["asyncwatch"], whole[peer], "s", digits=1)
        yield ratio(f"time of the whole process against {what}", whole["asyncwatch"], whole[peer], note=note)


def _against(figures: Sequence[float], peers: Sequence[float], unit: str, digits: int = 0) -> str:
    return f"{statistics.median(figures):,.{digits}f} {unit} against {statistics.median(peers):,.{digits}f}"
