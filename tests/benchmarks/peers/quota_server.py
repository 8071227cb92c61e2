"""A web server that limits its clients, on a free port that it prints. Its limits are its argument, in JSON.

`quota` and `window` allow so many requests in each window of so many seconds, and another quota from a moment on with
`lowered` (seconds, quota); `rate` and `burst` are a token bucket; `at_once` limits concurrency; `outage` (from, to)
answers 503 meanwhile; `always` refuses everything. `retry_after` comes with each refusal, if it is given. An accepted
request is answered after `delay` seconds. Times count from the first request.

`/seen` returns the requests that were accepted and rejected, the seconds from the first request to the last, and the
second of the first one that was accepted after the outage.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from typing import Any

from aiohttp import web


class Limits:
    """Counts requests, and refuses some."""

    def __init__(self, limits: dict[str, Any]) -> None:
        self._limits = limits
        self._first: float | None = None
        self._tokens = float(limits.get("burst", 0))
        self._at = self._last = 0.0
        self._window, self._used = -1, 0
        self._at_once = 0
        self._back_at: float | None = None
        self._accepted = self._rejected = 0

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        if request.path == "/seen":
            return web.json_response(
                {
                    "accepted": self._accepted,
                    "rejected": self._rejected,
                    "seconds": self._last,
                    "back_at": self._back_at,
                }
            )
        if self._first is None:
            self._first = time.monotonic()
        now = self._last = time.monotonic() - self._first
        status = self._refusal(now)
        if status:
            self._rejected += 1
            wait = self._limits.get("retry_after")
            return web.Response(status=status, headers={} if wait is None else {"Retry-After": f"{wait}"})
        if self._back_at is None and now >= self._limits.get("outage", (0, math.inf))[1]:
            self._back_at = now
        self._at_once += 1
        await asyncio.sleep(self._limits.get("delay", 0))
        self._at_once -= 1
        self._accepted += 1
        self._last = time.monotonic() - self._first
        return web.Response(body=b"ok")

    def _refusal(self, now: float) -> int:
        """Return the status of a refused request, 0 for an accepted one."""
        limits = self._limits
        if limits.get("always") or self._at_once >= limits.get("at_once", math.inf):
            return 429
        if limits.get("outage", (0, 0))[0] <= now < limits.get("outage", (0, 0))[1]:
            return 503
        if "rate" in limits:
            self._tokens = min(limits["burst"], self._tokens + (now - self._at) * limits["rate"])
            self._at = now
            if self._tokens < 1:
                return 429
            self._tokens -= 1
        if "quota" in limits:
            window = int(now / limits["window"])
            if window > self._window:
                self._window, self._used = window, 0
            lowered_at, lowered = limits.get("lowered", (math.inf, 0))
            if self._used >= (limits["quota"] if now < lowered_at else lowered):
                return 429
            self._used += 1
        return 0


async def main() -> None:
    """Serve until the process is killed."""
    server = web.Server(Limits(json.loads(sys.argv[1])).answer, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    print(json.dumps(runner.addresses[0][1]), flush=True)  # noqa: T201  the parent process waits for it
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
