"""1,000 services that end every 0.1 s, without a dashboard, against handwritten `while True` loops.

They end by an error, and then by a return. Both sides run on uvloop and write a line to a file for each restart. The
services count their starts, and note the processor time and the resident memory of their process at given numbers, so
the start is excluded. Memory is measured once, in a longer run.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, compare
from tests.benchmarks.processes import ASYNCWATCH, PEERS, ROOT, environment, peer

_OF_TIME = Goal("<=", 4.0)
_OF_MEMORY = Goal("<=", 2.0, "MB")
_CONFIG = """\
[[group]]
name = "services"
target = "jobs:{job}"
count = {count}
restart = "permanent"
max_restarts = 1_000_000
within = "1s"
"""


class _Use(NamedTuple):
    """The use of a process when each service has been started `starts` times: seconds, and bytes."""

    starts: int
    processor: float
    wall: float
    memory: float


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the ratio of the processor time of each restart, then the growth of memory."""
    services, period = effort.size(1_000, 20), 0.02 if effort.is_quick else 0.1
    at = (1, 2) if effort.is_quick else (20, 70)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for job in ("raise_soon", "return_soon"):

            def cost_each(side: str, job: str = job) -> Cost:
                first, last = _uses(side, job, services, at, period, folder)
                taken = Cost(last.processor - first.processor, last.wall - first.wall)
                return taken.each((last.starts - first.starts) * services)

            sides = {side: partial(cost_each, side) for side in ("asyncwatch", "loops")}
            costs = alternate(effort, sides)
            what = f"{services:,} services that {job.replace('_soon', '')} every {period:g} s"
            yield compare(what, costs["asyncwatch"], costs["loops"], _OF_TIME)
        at = (2, 4) if effort.is_quick else (200, 1200)
        first, last = _uses("asyncwatch", "raise_soon", services, at, period, folder)
        what = f"more memory from restart {at[0]:,} to {at[1]:,} of each"
        note = f"{first.memory / 1e6:.1f} MB, then {last.memory / 1e6:.1f} MB"
        yield Finding(what, (last.memory - first.memory) / 1e6, "MB", None, _OF_MEMORY, note)


def _uses(side: str, job: str, services: int, at: Sequence[int], period: float, folder: Path) -> Sequence[_Use]:
    milestones, config = folder / "milestones.txt", folder / "asyncwatch.toml"
    milestones.unlink(missing_ok=True)
    config.write_text(_CONFIG.format(job=job, count=services), encoding="utf-8")
    if side == "loops":
        command, cwd = peer("services_script", job, services), ROOT
    else:
        command, cwd = [ASYNCWATCH, "--config", str(config), "--headless"], PEERS
    settings = {
        "BENCH_MILESTONES": str(milestones),
        "BENCH_SERVICES": str(services),
        "BENCH_AT": " ".join(map(str, at)),
        "BENCH_PERIOD": str(period),
    }
    with (folder / "stderr.txt").open("wb") as errors:
        subprocess.run(
            command,
            cwd=cwd,
            env=environment(**settings),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            check=True,
        )
    lines = milestones.read_text(encoding="ascii").splitlines()
    return [_Use(int(starts), *map(float, rest)) for starts, *rest in map(str.split, lines)]
