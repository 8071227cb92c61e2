"""What asyncwatch is given to do, as `jobs:function`, once an item."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

LONGEST_HOLD = 0.1
"""Seconds between two looks at whether a held job may end."""


async def noop(item: str) -> int:
    """Do nothing; for the item `hold`, wait until the file that `BENCH_GATE` names is there."""
    if item == "hold":
        gate = Path(os.environ["BENCH_GATE"])
        gate.with_suffix(".reached").touch()
        while not gate.exists():  # noqa: ASYNC110, ASYNC240  another process makes it
            await asyncio.sleep(LONGEST_HOLD)
    return 1


async def wait(item: str) -> None:
    """Wait for ever."""
    await asyncio.Event().wait()


async def nap(item: str) -> int:
    """Sleep for a tenth of a second, more or less."""
    await asyncio.sleep(random.uniform(0.05, 0.15))
    return 1


async def block(item: str) -> None:
    """Wait for ever; the item `sleep` or `compute` blocks the event loop meanwhile, for two seconds again and again.

    When it begins and ends to do so stands in the file that `BENCH_TIMES` names, in monotonic seconds.
    """
    while item in {"sleep", "compute"}:
        await asyncio.sleep(1)
        start = time.perf_counter()
        if item == "sleep":
            time.sleep(2)  # noqa: ASYNC251  the mistake that is measured
        else:
            while time.perf_counter() < start + 2:
                sum(range(1000))
        with Path(os.environ["BENCH_TIMES"]).open("a", encoding="ascii") as times:  # noqa: ASYNC230  as above
            times.write(f"{start} {time.perf_counter()}\n")
    await asyncio.Event().wait()
