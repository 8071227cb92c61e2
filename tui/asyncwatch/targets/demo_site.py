"""The demo's own site: a page on the loopback interface. Its latency is drawn from the seed, like bad luck."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType

from aiohttp import web

from asyncwatch.engine.current import current_worker
from asyncwatch.policies.bad_luck import Luck
from asyncwatch.targets.http import HttpTarget

# Seconds:
SHORTEST_LATENCY = 0.5
LONGEST_LATENCY = 4.0

_WORKER = "X-Asyncwatch-Worker"
_INCARNATION = "X-Asyncwatch-Incarnation"
_ATTEMPT = "X-Asyncwatch-Attempt"


class DemoTarget(HttpTarget):
    """An `HttpTarget` that sends the worker and its attempt to the site, so that the seed decides the latency."""

    def own_headers(self) -> Mapping[str, str] | None:
        """Return the key for the draw of the latency."""
        worker = current_worker()
        if worker is None:
            return None
        # A header can hold Latin-1 only, a name any character.
        name = worker.name.encode("unicode_escape").decode("ascii")
        return {_WORKER: name, _INCARNATION: str(worker.incarnation), _ATTEMPT: str(worker.attempt)}


class DemoSite:
    """Responds to `GET /` with 200 after 0.5 to 4 seconds. The value of the context is its URL.

    Args:
        seed: The seed of the latencies.
        sleep: Waits for the seconds of a latency.

    """

    def __init__(self, seed: int, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        self._luck = Luck(seed)
        self._sleep = sleep
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> str:
        app = web.Application()
        app.router.add_get("/", self._respond)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        except BaseException:
            await self._runner.cleanup()
            raise
        host, port = self._runner.addresses[0][:2]
        return f"http://{host}:{port}/"

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def latency(self, worker: str, incarnation: int, attempt: int) -> float:
        """Return the seconds that the page takes for this attempt."""
        draw = self._luck.draw("latency", worker, incarnation, attempt)
        return SHORTEST_LATENCY + draw * (LONGEST_LATENCY - SHORTEST_LATENCY)

    async def _respond(self, request: web.Request) -> web.Response:
        try:
            key = int(request.headers.get(_INCARNATION, "1")), int(request.headers.get(_ATTEMPT, "1"))
        except ValueError:
            raise web.HTTPBadRequest(text="the headers for the draw must be numbers\n") from None
        await self._sleep(self.latency(request.headers.get(_WORKER, ""), *key))
        return web.Response(text="Hello from the demo of asyncwatch.\n")
