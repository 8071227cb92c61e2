"""Handwritten services: each runs in a `while True` loop that logs one line whenever it ends, and starts it again."""

from __future__ import annotations

import argparse
import asyncio
import logging
from collections.abc import Awaitable, Callable

import uvloop

from tests.benchmarks.peers import jobs
from tests.benchmarks.peers.retry_script import log_to_stderr, tune_gc

_LOG = logging.getLogger("services")


async def keep_running(name: str, service: Callable[[], Awaitable[object]]) -> None:
    """Call a service again and again."""
    while True:
        try:
            await service()
        except Exception as error:
            _LOG.warning("%s restarted after %r", name, error)
        else:
            _LOG.warning("%s restarted after it returned", name)


async def main(service: Callable[[], Awaitable[object]], count: int) -> None:
    """Run `count` services for ever."""
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(keep_running(f"services/{number}", service))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("job")
    parser.add_argument("count", type=int)
    given = parser.parse_args()
    log_to_stderr()
    tune_gc()
    uvloop.run(main(getattr(jobs, given.job), given.count))
