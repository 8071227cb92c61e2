"""The best script that an expert writes with aiohttp: a fixed pool of tasks over an iterator, on uvloop.

It keeps no cookies, opens no more connections than tasks, limits the time of a request, and collects garbage as rarely
as asyncwatch does. Failures are retried and logged as in the handwritten script.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import uvloop

from tests.benchmarks.peers.retry_script import log_to_stderr, tune_gc

_ATTEMPTS = 3
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}
_LOG = logging.getLogger("script")


async def fetch(session: aiohttp.ClientSession, url: str) -> int:
    """Return the status of a URL, after up to three attempts."""
    attempt = 1
    while True:
        try:
            async with session.get(url) as response:
                await response.read()
                response.raise_for_status()
                return response.status
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError):
            if attempt == _ATTEMPTS:
                raise
        except aiohttp.ClientResponseError as error:
            if error.status not in _TRANSIENT or attempt == _ATTEMPTS:
                raise
        await asyncio.sleep(random.uniform(0, min(5.0, 0.1 * 2 ** (attempt - 1))))
        attempt += 1


async def fetch_some(session: aiohttp.ClientSession, urls: Iterator[str], results: dict[str, int | None]) -> None:
    """Fetch URLs until there are no more."""
    for url in urls:
        try:
            results[url] = await fetch(session, url)
        except (aiohttp.ClientError, TimeoutError) as error:
            _LOG.error("%s failed: %r", url, error)
            results[url] = None


async def main(urls: list[str], concurrency: int) -> dict[str, int | None]:
    """Return the status of each URL, None for a failure."""
    results: dict[str, int | None] = {}
    remaining = iter(urls)
    async with (
        aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=concurrency),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=30),
        ) as session,
        asyncio.TaskGroup() as pool,
    ):
        for _ in range(concurrency):
            pool.create_task(fetch_some(session, remaining, results))
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--concurrency", type=int, default=100)
    given = parser.parse_args()
    log_to_stderr()
    lines = given.file.read_text(encoding="utf-8").split()
    tune_gc()
    statuses = uvloop.run(main(lines, given.concurrency))
    failed = sum(status is None for status in statuses.values())
    print(f"{len(statuses) - failed} succeeded, {failed} failed")  # noqa: T201  the program's output
    raise SystemExit(1 if failed else 0)
