"""Targets for asyncwatch, called as `jobs:function` with each item."""

from __future__ import annotations

import asyncio
import os
import random
import time
from pathlib import Path

LONGEST_HOLD = 0.1
"""Seconds between two checks whether a held job may end."""


async def noop(item: str) -> int:
    """Return at once, or wait for the gate if the item is `hold`."""
    if item == "hold":
        await _hold()
    return 1


async def wait(item: str) -> None:
    """Wait for ever, or for the gate if the item is `hold`."""
    if item == "hold":
        await _hold()
    else:
        await asyncio.Event().wait()


async def _hold() -> None:
    """Create a `.reached` file, then wait until the file named by `BENCH_GATE` exists."""
    gate = Path(os.environ["BENCH_GATE"])
    gate.with_suffix(".reached").touch()
    while not gate.exists():  # noqa: ASYNC110, ASYNC240  another process creates it
        await asyncio.sleep(LONGEST_HOLD)


async def nap(item: str) -> int:
    """Sleep for 0.05 to 0.15 seconds."""
    await asyncio.sleep(random.uniform(0.05, 0.15))
    return 1


async def block(item: str) -> None:
    """Wait for ever. The items `sleep 2` and `compute 2` block the event loop for two seconds again and again.

    The start and end of each block go to the file named by `BENCH_TIMES`, in seconds of `time.perf_counter`.
    """
    how, _, duration = item.partition(" ")
    while duration:
        await asyncio.sleep(float(duration) / 2)
        start = time.perf_counter()
        if how == "sleep":
            time.sleep(float(duration))  # noqa: ASYNC251  blocking the loop is what is measured
        else:
            while time.perf_counter() < start + float(duration):
                sum(range(1000))
        with Path(os.environ["BENCH_TIMES"]).open("a", encoding="ascii") as times:  # noqa: ASYNC230  the loop is blocked anyway
            times.write(f"{start} {time.perf_counter()}\n")
    await asyncio.Event().wait()
