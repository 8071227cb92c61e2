"""A program with many tasks that another process can look at: `observed_tasks.py TASKS`.

It prints `ready`. Then it reads lines from standard input, each a number of seconds, and prints for each of
them a line of JSON: what its event loop did in so many seconds.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time

import asyncwatch

STEP = 0.01
"""Seconds between two looks at how late the loop is."""


async def fetch(draw: random.Random) -> None:
    """Wait again and again, for five seconds on average, in two places."""
    while True:
        await asyncio.sleep(draw.uniform(1, 9))
        await respond(draw)


async def respond(draw: random.Random) -> None:
    """Wait as for a response."""
    await asyncio.sleep(draw.uniform(1, 9))


async def measure(seconds: float) -> dict[str, float]:
    """Return the processor time of the thread, the wall time, and how late a timer was, in seconds."""
    late: list[float] = []
    loop = asyncio.get_running_loop()
    began, processor = time.perf_counter(), time.thread_time()
    while time.perf_counter() < began + seconds:
        due = loop.time() + STEP
        await asyncio.sleep(STEP)
        late.append(loop.time() - due)
    taken = time.thread_time() - processor
    late.sort()
    return {"processor": taken, "wall": time.perf_counter() - began, "late": late[len(late) * 99 // 100]}


async def main(number: int) -> None:
    """Make the tasks, and measure when asked to."""
    draw = random.Random(1)
    tasks = [asyncio.create_task(fetch(draw)) for _ in range(number)]
    await asyncio.sleep(1)
    print("ready", flush=True)  # noqa: T201  the output of the program
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await measure(float(line))), flush=True)  # noqa: T201  the same
    for task in tasks:
        task.cancel()


if __name__ == "__main__":
    with asyncwatch.observe(screen=False, name="observed"):
        asyncio.run(main(int(sys.argv[1])))
