"""How soon a resumed run starts its first worker: 100,000 items are done, and one is left.

The time is from the start of the command to the first call of the target, in text, csv and jsonl.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.measure import Effort, Finding, Goal
from tests.benchmarks.processes import ASYNCWATCH, environment

_JOBS = """
import os, time

async def job(item):
    if (item if isinstance(item, str) else item["id"]) == "last":
        if "FIRST" not in os.environ:
            raise ValueError
        with open(os.environ["FIRST"], "w") as file:
            file.write(repr(time.time()))
"""


def run(effort: Effort) -> Iterator[Finding]:
    """Yield the seconds of each format."""
    number = effort.size(100_000, 1_000)
    ids = [*map(str, range(number)), "last"]
    formats = {
        "txt": "".join(f"{each}\n" for each in ids),
        "csv": "id,city\n" + "".join(f"{each},Oslo\n" for each in ids),
        "jsonl": "".join(f'{{"id": "{each}", "city": "Oslo"}}\n' for each in ids),
    }
    for suffix, text in formats.items():
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "jobs.py").write_text(_JOBS)
            (folder / f"items.{suffix}").write_text(text)
            output = ["--output", f"out.{'csv' if suffix == 'txt' else suffix}"]
            _run(folder, ["jobs:job", "--items", f"items.{suffix}", *output])
            [journal] = (folder / "state" / "asyncwatch" / "runs").glob("*.sqlite")
            data = journal.read_bytes()
            seconds = []
            for _ in range(effort.pairs):
                journal.write_bytes(data)
                seconds.append(_run(folder, ["resume", journal.stem]))
        yield Finding(
            f"first start with {number:,} items done, {suffix}",
            statistics.median(seconds),
            "s",
            goal=Goal("<=", 1.0, "s"),
        )


def _run(folder: Path, arguments: list[str]) -> float:
    """Run the command, and return the seconds until the last item is called; 0.0 for the first run."""
    first = folder / "first"
    state = {"XDG_STATE_HOME": str(folder / "state")}
    if arguments[0] == "resume":
        state["FIRST"] = str(first)
    start = time.time()
    with Path(os.devnull).open("wb") as nothing:
        subprocess.run(
            [ASYNCWATCH, *arguments],
            cwd=folder,
            env=environment(**state),
            stdin=subprocess.DEVNULL,
            stdout=nothing,
            stderr=nothing,
            check=False,
        )
    return float(first.read_text()) - start if "FIRST" in state else 0.0
