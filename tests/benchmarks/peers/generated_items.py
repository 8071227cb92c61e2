"""Iterate over `amap` of so many generated items, and print the peak of the resident memory in MB as JSON."""

from __future__ import annotations

import asyncio
import json
import resource
import sys

from asyncwatch.api import amap
from tests.benchmarks.peers.jobs import return_at_once


async def main(size: int) -> None:
    """Run the jobs."""
    done = 0
    async for result in amap(return_at_once, (str(number) for number in range(size))):
        done += result
    assert done == size


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux, bytes on macOS
    print(json.dumps(peak / (1024 if sys.platform == "linux" else 1024 * 1024)))  # noqa: T201  the program's output
