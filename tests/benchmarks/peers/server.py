"""A minimal web server: answers every path with a small body, on a free port that it prints.

`/seen` returns the number of requests since the last `/seen`, and the seconds from the first of them to the last.
"""

from __future__ import annotations

import asyncio
import json
import time

import uvloop
from aiohttp import web

_BODY = b'{"id": 17, "name": "an item", "price": 12.5}\n'


class _Seen:
    """Counts requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.first = self.last = 0.0

    async def answer(self, request: web.BaseRequest) -> web.Response:
        """Answer a request."""
        if request.path == "/seen":
            seen = {"requests": self.requests, "seconds": self.last - self.first}
            self.requests = 0
            return web.json_response(seen)
        self.last = time.perf_counter()
        if not self.requests:
            self.first = self.last
        self.requests += 1
        return web.Response(body=_BODY, content_type="application/json")


async def main() -> None:
    """Serve until the process is killed."""
    runner = web.ServerRunner(web.Server(_Seen().answer, access_log=None))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(json.dumps(runner.addresses[0][1]), flush=True)  # noqa: T201  the parent process waits for it
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
