"""The jitter of restarts."""

from __future__ import annotations

import asyncio
from typing import Any

from asyncwatch import RestartBackoff, Supervisor, WorkerSpec
from asyncwatch.events import RestartScheduled
from tests.engine.fleets import drain, raiser


def test_restart_jitter_is_drawn_for_each_incarnation(run: Any) -> None:
    """Also when the service was stable and the count of restarts begins again."""

    async def main() -> list[float]:
        backoff = RestartBackoff(base=10.0, cap=10.0, stable_after=1.0)
        spec = WorkerSpec("a", raiser, (ValueError(), 5.0), restart="permanent", backoff=backoff)
        supervisor = Supervisor([spec], seed=1, max_restarts=100)
        queue = supervisor.subscribe()
        async with supervisor:
            await asyncio.sleep(60.0)
        return [event.delay for event in drain(queue) if isinstance(event, RestartScheduled)]

    delays = run(main)
    assert len(delays) >= 3
    assert len(set(delays)) == len(delays)
    assert all(5.0 <= delay <= 10.0 for delay in delays)
