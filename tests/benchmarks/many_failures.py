"""Commands whose workers fail: asyncwatch without a dashboard against the handwritten script, for `fail` and `flaky`.

Both run on uvloop, 100 workers at once, with the same backoff, and write one line to a file for each failed attempt.
The cost of a start, measured with few workers in the same round, is subtracted.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from tests.benchmarks.measure import Cost, Effort, Finding, Goal, alternate, compare
from tests.benchmarks.processes import ASYNCWATCH, PEERS, ROOT, cost_of, peer

_CONFIG = """\
retry_budget = "none"
[[group]]
target = "jobs:{job}"
items = "{items}"
"""


def findings(job: str, what: str, goal: Goal, effort: Effort, *, status: int, lines_each: int) -> Iterator[Finding]:
    """Yield the ratio of the processor time of each worker to the script's.

    Each process has to end with `status`, and to write `lines_each` lines for each worker.
    """
    many, few = effort.size(30_000, 300), 300
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)

        def cost_each(side: str) -> Cost:
            whole = _cost(side, job, many, folder, status, lines_each)
            if effort.is_quick:  # the start takes longer than the work, and noise more than their difference
                return whole.each(many)
            return whole.each(many - few, beyond=_cost(side, job, few, folder, status, lines_each))

        costs = alternate(effort, {side: partial(cost_each, side) for side in ("asyncwatch", "script")})
    yield compare(f"{many:,} workers that {what}", costs["asyncwatch"], costs["script"], goal)


def _cost(side: str, job: str, count: int, folder: Path, status: int, lines_each: int) -> Cost:
    items, errors = folder / f"items-{count}.txt", folder / "stderr.txt"
    items.write_text("".join(f"{number}\n" for number in range(count)), encoding="ascii")
    if side == "script":
        cost = cost_of(peer("retry_script", job, items), status=status, errors=errors, cwd=ROOT)
    else:
        cost = cost_of(_command(job, items, folder), status=status, errors=errors, cwd=PEERS)
    with errors.open("rb") as written:
        lines = sum(b" ERROR " in line or b" WARNING " in line for line in written)
    assert lines == count * lines_each, f"{side} wrote {lines:,} lines about {count:,} workers"
    return cost


def _command(job: str, items: Path, folder: Path) -> Sequence[str]:
    config = folder / "asyncwatch.toml"
    config.write_text(_CONFIG.format(job=job, items=items), encoding="utf-8")
    return [ASYNCWATCH, "--config", str(config), "--headless"]
