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
    """Do nothing; for the item `hold`, wait at the gate."""
    if item == "hold":
        await _hold()
    return 1


async def wait(item: str) -> None:
    """Wait for ever; for the item `hold`, wait at the gate."""
    if item == "hold":
        await _hold()
    else:
        await asyncio.Event().wait()


async def _hold() -> None:
    """Wait until the file that `BENCH_GATE` names is there, and say so by another one beside it."""
    gate = Path(os.environ["BENCH_GATE"])
    gate.with_suffix(".reached").touch()
    while not gate.exists():  # noqa: ASYNC110, ASYNC240  another process makes it
        await asyncio.sleep(LONGEST_HOLD)


async def nap(item: str) -> int:
    """Sleep for a tenth of a second, more or less."""
    await asyncio.sleep(random.uniform(0.05, 0.15))
    return 1


async def block(item: str) -> None:
    """Wait for ever; the item `sleep 2` or `compute 2` blocks the event loop for two seconds again and again.

    When it begins and ends to do so stands in the file that `BENCH_TIMES` names, in monotonic seconds.
    """
    how, _, duration = item.partition(" ")
    while duration:
        await asyncio.sleep(float(duration) / 2)
        start = time.perf_counter()
        if how == "sleep":
            time.sleep(float(duration))  # noqa: ASYNC251  the mistake that is measured
        else:
            while time.perf_counter() < start + float(duration):
                sum(range(1000))
        with Path(os.environ["BENCH_TIMES"]).open("a", encoding="ascii") as times:  # noqa: ASYNC230  as above
            times.write(f"{start} {time.perf_counter()}\n")
    await asyncio.Event().wait()
