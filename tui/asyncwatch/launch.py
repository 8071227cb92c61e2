"""Plan -> Supervisor: opens what the targets need, in the event loop of the run, and awaits the runner."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from asyncwatch.config import Group
from asyncwatch.plan import Plan, PlannedGroup
from asyncwatch.supervise.luck import BadLuck
from asyncwatch.supervise.retry import RetryPolicy
from asyncwatch.supervise.spec import Target, WorkerSpec
from asyncwatch.supervise.supervisor import Supervisor


@asynccontextmanager
async def open_run(plan: Plan) -> AsyncIterator[Supervisor]:
    """Open the sessions and the site that the plan needs; give the supervisor of its workers, not entered yet."""
    async with AsyncExitStack() as stack:
        targets = _Targets(plan, stack)
        specs = [_specs(group, *await targets.open(group)) for group in plan.groups]
        config = plan.config
        yield Supervisor(
            itertools.chain.from_iterable(specs),
            name=plan.name,
            concurrency=config.concurrency,
            seed=plan.seed,
            grace=config.grace,
            group_timeouts={group.name: group.timeout for group in config.groups if group.timeout is not None},
        )


async def drive(plan: Plan, supervisor: Supervisor) -> None:
    """Await all workers by the plan's runner. How they end is told by events, so its own errors end here."""
    config = plan.config
    with contextlib.suppress(TimeoutError, BaseExceptionGroup):
        match config.runner:
            case "gather":
                await supervisor.gather(timeout=config.timeout)
            case "wait":
                await supervisor.wait(timeout=config.timeout, return_when=config.return_when)
            case "task_group":
                await supervisor.task_group(timeout=config.timeout)
            case _:
                async for _ in supervisor.as_completed(timeout=config.timeout):
                    pass


class _Targets:
    """Opens what the groups call; groups with the same HTTP settings share one session."""

    def __init__(self, plan: Plan, stack: AsyncExitStack) -> None:
        self._plan = plan
        self._stack = stack
        self._opened: dict[tuple[str, bytes], Target] = {}
        self._demo_url: str | None = None

    async def open(self, group: PlannedGroup) -> tuple[Target, str | None]:
        """Return the target of a group, and the URL that all its workers fetch, if there is one."""
        if group.function is not None:
            return group.function, None
        settings = group.settings
        if settings.target == "demo" and self._demo_url is None:
            from asyncwatch.targets.demo_site import DemoSite  # noqa: PLC0415  aiohttp.web, for the demo only

            self._demo_url = await self._stack.enter_async_context(DemoSite(self._plan.seed))
        key = (settings.target, msgspec.json.encode(settings.http))
        if key not in self._opened:
            self._opened[key] = await self._open_http(settings)
        return self._opened[key], self._demo_url if settings.target == "demo" else settings.url

    async def _open_http(self, settings: Group) -> Target:
        from asyncwatch.targets.http import HttpTarget  # noqa: PLC0415  functions do without aiohttp

        kind = HttpTarget
        if settings.target == "demo":
            from asyncwatch.targets.demo_site import DemoTarget  # noqa: PLC0415  as above

            kind = DemoTarget
        http = msgspec.structs.asdict(settings.http)
        target = kind(**http, concurrency=self._plan.config.concurrency)
        return await self._stack.enter_async_context(target)


def _specs(group: PlannedGroup, target: Target, url: str | None) -> Iterator[WorkerSpec]:
    settings = group.settings
    shared: dict[str, Any] = {
        "target": target,
        "retry": RetryPolicy(**msgspec.structs.asdict(settings.retry)),
        "bad_luck": _bad_luck(group),
        "attempt_timeout": settings.attempt_timeout,
        "group": settings.name,
    }
    if group.items is None:
        args = () if url is None else (url,)
        return (WorkerSpec(name=name, args=args, **shared) for name in group.names)
    pairs = zip(group.names, group.items, strict=True)
    return (WorkerSpec(name=name, args=(item,), **shared) for name, item in pairs)


def _bad_luck(group: PlannedGroup) -> BadLuck:
    threshold = group.settings.bad_luck.threshold
    if group.function is not None:
        return BadLuck(threshold=threshold)
    from asyncwatch.targets.http import HTTP_FAULTS  # noqa: PLC0415  functions do without aiohttp

    return BadLuck(threshold=threshold, faults=HTTP_FAULTS)
