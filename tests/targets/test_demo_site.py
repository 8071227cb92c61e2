"""The demo site, whose latencies are drawn from the seed."""

from __future__ import annotations

from types import SimpleNamespace

import aiohttp

from asyncwatch.engine.current import current
from asyncwatch.policies.bad_luck import Luck
from asyncwatch.targets.demo_site import DemoSite, DemoTarget


async def test_latency_is_drawn_for_the_worker_and_its_attempt() -> None:
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    async with DemoSite(7, sleep=sleep) as url, DemoTarget(timeout=5) as target:
        for name, incarnation, attempt in (("3", 1, 1), ("3", 1, 2), ("3", 2, 1), ("ü\n", 1, 1)):
            worker = SimpleNamespace(name=name, incarnation=incarnation, attempt=attempt, bad_luck=0.5)
            token = current.set(worker)
            assert await target(url) == 200
            current.reset(token)
        assert await target(url) == 200
    luck = Luck(7)
    keys = [("3", 1, 1), ("3", 1, 2), ("3", 2, 1), ("\\xfc\\n", 1, 1), ("", 1, 1)]
    assert waited == [0.5 + luck.draw("latency", *key) * (4 - 0.5) for key in keys]
    assert len(set(waited)) == len(waited)


async def test_headers_that_are_no_numbers_get_a_400() -> None:
    headers = {"X-Asyncwatch-Attempt": "x"}
    async with (
        DemoSite(7) as url,
        aiohttp.ClientSession(headers=headers) as session,
        session.get(url) as response,
    ):
        assert response.status == 400


async def test_two_sites_at_the_same_time_have_different_ports() -> None:
    async with DemoSite(1) as one, DemoSite(1) as two:
        assert one != two
        assert one.startswith("http://127.0.0.1:")
