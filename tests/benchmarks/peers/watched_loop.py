"""Prints what share of a core an event loop takes in percent: bare, and with a Watchdog.

Arguments: seconds, `idle` or `busy`, and the loop. A busy loop has 100 tasks that sleep for 10 ms again and again. The
two take turns of a 20th of the time, so that a change of the machine's speed changes both.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import nullcontext

import uvloop

from asyncwatch import Watchdog

_TASKS, _TURNS = 100, 10


async def sleep_again_and_again() -> None:
    while True:  # noqa: ASYNC110  it waits for nothing
        await asyncio.sleep(0.01)


async def taken_in(seconds: float, *, is_watched: bool) -> float:
    """Return the processor time that the process takes in some seconds."""
    with Watchdog(on_block=lambda _block: None) if is_watched else nullcontext():
        await asyncio.sleep(0.1)
        before = time.process_time()
        await asyncio.sleep(seconds)
        return time.process_time() - before


async def main(seconds: float, *, is_busy: bool) -> None:
    """Measure, and print both shares."""
    tasks = [asyncio.create_task(sleep_again_and_again()) for _ in range(_TASKS if is_busy else 0)]
    sums = [0.0, 0.0]
    for _ in range(_TURNS):
        for is_watched in (False, True):
            sums[is_watched] += await taken_in(seconds / _TURNS / 2, is_watched=is_watched)
    for task in tasks:
        task.cancel()
    sys.stdout.write(json.dumps([100 * each / (seconds / 2) for each in sums]))


if __name__ == "__main__":
    _, how_long, kind, loop = sys.argv
    with asyncio.Runner(loop_factory=uvloop.new_event_loop if loop == "uvloop" else asyncio.new_event_loop) as runner:
        runner.run(main(float(how_long), is_busy=kind == "busy"))
