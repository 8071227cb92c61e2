"""The handwritten script: a semaphore, a retry loop that logs one line for each failure, and `gather`.

It calls a function of `jobs` for each line of a file. Its garbage collector is tuned as asyncwatch tunes its own.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import uvloop

from tests.benchmarks.peers import jobs

Job = Callable[[str], Awaitable[int]]

ATTEMPTS = 3
_TRANSIENT = (ConnectionError, TimeoutError)
_LOG = logging.getLogger("script")


async def retried(job: Job, slot: AbstractAsyncContextManager[None], item: str) -> int:
    """Return the result of a job, after up to three attempts."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            async with slot:
                return await job(item)
        except _TRANSIENT as error:
            if attempt == ATTEMPTS:
                _LOG.error("%s failed after %d attempts: %r", item, attempt, error)
                raise
            wait = random.uniform(0, min(5.0, 0.1 * 2 ** (attempt - 1)))
            _LOG.warning("%s: retry %d in %.2f s after %r", item, attempt, wait, error)
        except Exception as error:
            _LOG.error("%s failed: %r", item, error)
            raise
        await asyncio.sleep(wait)
    raise AssertionError


async def gather_retried(job: Job, items: Sequence[str], concurrency: int) -> list[int | BaseException]:
    """Return the result or the error of each item."""
    semaphore = asyncio.Semaphore(concurrency)
    return await asyncio.gather(*[retried(job, semaphore, item) for item in items], return_exceptions=True)


def tune_gc() -> None:
    """Collect garbage as rarely as asyncwatch does, and ignore the modules."""
    gc.freeze()
    gc.set_threshold(10_000)


def log_to_stderr() -> None:
    """Log one line for each record."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("job")
    parser.add_argument("file", type=Path)
    parser.add_argument("--concurrency", type=int, default=100)
    given = parser.parse_args()
    log_to_stderr()
    job, items = getattr(jobs, given.job), given.file.read_text(encoding="utf-8").split()
    tune_gc()
    results = uvloop.run(gather_retried(job, items, given.concurrency))
    failed = sum(isinstance(result, BaseException) for result in results)
    print(f"{len(results) - failed} succeeded, {failed} failed")  # noqa: T201  the program's output
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    main()
