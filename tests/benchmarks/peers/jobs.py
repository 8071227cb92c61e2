"""Targets for asyncwatch, called as `jobs:function` with each item."""

from __future__ import annotations

import asyncio
import ctypes
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
    """Wait for ever. Items such as `sleep 2` block the event loop for two seconds again and again.

    They `sleep`, `compute`, or `hold` the interpreter in a call of C.

    The start and end of each block go to the file named by `BENCH_TIMES`, in seconds of `time.perf_counter`.
    """
    how, _, duration = item.partition(" ")
    while duration:
        await asyncio.sleep(float(duration) / 2)
        start = time.perf_counter()
        if how == "sleep":
            time.sleep(float(duration))  # noqa: ASYNC251  blocking the loop is what is measured
        elif how == "hold":
            ctypes.PyDLL(None).usleep(int(float(duration) * 1_000_000))
        else:
            while time.perf_counter() < start + float(duration):
                sum(range(1000))
        with Path(os.environ["BENCH_TIMES"]).open("a", encoding="ascii") as times:  # noqa: ASYNC230  the loop is blocked anyway
            times.write(f"{start} {time.perf_counter()}\n")
    await asyncio.Event().wait()


async def return_at_once(item: str) -> int:
    """Return without waiting."""
    return 1


async def yield_once(item: str) -> int:
    """Wait for one loop iteration."""
    await asyncio.sleep(0)
    return 1


async def sleep_briefly(item: str) -> int:
    """Sleep for 0 to 20 milliseconds."""
    await asyncio.sleep(0.02 * random.random())
    return 1


async def fail(item: str) -> int:
    """Raise at once an error that is not retried."""
    raise ValueError(f"no item {item}")


_calls: dict[str, int] = {}


async def flaky(item: str) -> int:
    """Raise an error that is retried in the first two calls for an item, then return."""
    calls = _calls[item] = _calls.get(item, 0) + 1
    if calls < 3:
        raise ConnectionError(f"no answer for item {item}")
    return 1


class _Milestones:
    """Notes the use of this process when its services have been started a given number of times.

    A line of `BENCH_MILESTONES` has that number for each service, the processor seconds, the wall seconds, and the
    resident memory in bytes. The last milestone ends the process.
    """

    def __init__(self) -> None:
        self._starts = 0
        self._services = int(os.environ.get("BENCH_SERVICES", "1"))
        self._each = [int(each) for each in os.environ.get("BENCH_AT", "").split()]

    def count(self) -> None:
        """Count one start."""
        self._starts += 1
        if self._each and self._starts == self._each[0] * self._services:
            each = self._each.pop(0)
            pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
            use = (each, time.process_time(), time.perf_counter(), pages * os.sysconf("SC_PAGE_SIZE"))
            with Path(os.environ["BENCH_MILESTONES"]).open("a", encoding="ascii") as lines:
                lines.write(" ".join(map(str, use)) + "\n")
            if not self._each:
                os._exit(0)


_milestones = _Milestones()
_PERIOD = float(os.environ.get("BENCH_PERIOD", "0.1"))


async def return_soon() -> None:
    """Return after 0.1 seconds, as a service should not."""
    _milestones.count()
    await asyncio.sleep(_PERIOD)


async def raise_soon() -> None:
    """Raise after 0.1 seconds, as a service should not."""
    _milestones.count()
    await asyncio.sleep(_PERIOD)
    raise RuntimeError("the connection is gone")


async def rest() -> None:
    """Wait for ever."""
    await asyncio.Event().wait()
