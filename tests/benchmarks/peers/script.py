"""The handwritten script: a session, a semaphore, a retry loop and `asyncio.gather`, without any display."""

from __future__ import annotations

import argparse
import asyncio
import random
from pathlib import Path

import aiohttp

_ATTEMPTS = 3
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}


async def fetch(session: aiohttp.ClientSession, semaphore: asyncio.Semaphore, url: str) -> int:
    """Return the status of a URL, after up to three attempts."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with semaphore, session.get(url) as response:
                await response.read()
                response.raise_for_status()
                return response.status
        except (aiohttp.ClientConnectionError, TimeoutError):
            if attempt == _ATTEMPTS:
                raise
        except aiohttp.ClientResponseError as error:
            if error.status not in _TRANSIENT or attempt == _ATTEMPTS:
                raise
        await asyncio.sleep(random.uniform(0, min(5.0, 0.1 * 2 ** (attempt - 1))))
    raise AssertionError


async def main(urls: list[str], concurrency: int) -> None:
    """Fetch every URL and print how many failed."""
    semaphore = asyncio.Semaphore(concurrency)
    connector = aiohttp.TCPConnector(limit=concurrency)
    timeout = aiohttp.ClientTimeout(total=30)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        results = await asyncio.gather(*(fetch(session, semaphore, url) for url in urls), return_exceptions=True)
    failed = sum(isinstance(result, BaseException) for result in results)
    print(f"{len(results) - failed} succeeded, {failed} failed")  # noqa: T201  the program's output
    raise SystemExit(1 if failed else 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file", type=Path)
    parser.add_argument("--concurrency", type=int, default=100)
    given = parser.parse_args()
    asyncio.run(main(given.file.read_text(encoding="utf-8").split(), given.concurrency))
