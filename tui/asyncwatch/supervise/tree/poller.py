"""Makes a service of a target that returns: it is called again, so many seconds after each return."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from asyncwatch.supervise.current import current
from asyncwatch.supervise.tree.crew import TreeWorker


class Poller:
    """Calls `target` for ever. A call may take `timeout` seconds; the first that raises ends the incarnation."""

    def __init__(self, target: Callable[..., Awaitable[Any]], every: float, timeout: float | None) -> None:
        self._target = target
        self._every = every
        self._timeout = timeout

    async def __call__(self, *args: object) -> NoReturn:
        """Call, tell what was returned, sleep, and call again."""
        worker = current.get()
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            async with asyncio.timeout(self._timeout):
                result = await self._target(*args)
            if isinstance(worker, TreeWorker):
                worker.owner.polled(result, loop.time() - began, self._every)
            await asyncio.sleep(self._every)
