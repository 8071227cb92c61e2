"""Plan -> Supervisor: opens what the targets need, in the event loop of the run, and awaits the runner."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec

from asyncwatch.config.load import ROOT_FLAGS, Config, Group, Retry, SupervisorTable
from asyncwatch.engine.spec import Target, WorkerSpec, WorkerSpecs
from asyncwatch.engine.supervisor import Supervisor
from asyncwatch.engine.tree.specs import PoolSpec, SupervisorSpec
from asyncwatch.plan.plan import Plan, PlannedGroup
from asyncwatch.policies.budget import RetryBudget
from asyncwatch.policies.circuit import CircuitPolicy
from asyncwatch.policies.halt import parse_halt
from asyncwatch.policies.rate import parse_rate
from asyncwatch.policies.restart import RestartBackoff, RestartType
from asyncwatch.policies.retry import RetryPolicy
from asyncwatch.targets.errors import classify_by, make_bad_luck


@asynccontextmanager
async def open_run(plan: Plan) -> AsyncIterator[Supervisor]:
    """Open the sessions and the site that the plan needs; give the supervisor of its workers, not entered yet."""
    async with AsyncExitStack() as stack:
        targets = _Targets(plan, stack)
        specs = [_specs(plan, group, *await targets.open(group)) for group in plan.groups]
        config = plan.config
        groups = zip(plan.groups, specs, strict=True)
        batch = [members for group, members in groups if not group.settings.is_supervised]
        yield Supervisor(
            _tree(plan, specs) if config.is_tree else batch,
            batch=batch if config.is_tree else (),
            name=plan.name,
            concurrency=config.concurrency,
            seed=plan.seed,
            grace=config.grace,
            group_timeouts={group.name: group.timeout for group in config.groups if group.timeout is not None},
            retry_budget=_retry_budget(config),
            circuit=_circuit(config),
            rate=None if config.rate is None else parse_rate(config.rate, config.burst),
            rate_per_key=None if config.rate_per_key is None else parse_rate(config.rate_per_key, config.burst_per_key),
            halt=None if config.halt is None else parse_halt(config.halt, config.halt_mode),
            **_root_flags(config),
        )


async def drive(plan: Plan, supervisor: Supervisor) -> None:
    """Await all workers by the plan's runner. How they end is told by events, so its own errors end here.

    Raises:
        TreeError: the tree, if it is one, did not start or gave up.

    """
    config = plan.config
    supervisor.keep_no_values()
    if config.is_tree:
        await supervisor.serve()
        return
    with contextlib.suppress(TimeoutError, BaseExceptionGroup):
        match config.runner:
            case "gather":
                await supervisor.gather(timeout=config.timeout)
            case "wait":
                await supervisor.wait(timeout=config.timeout, return_when=config.return_when)
            case "task_group":
                await supervisor.task_group(timeout=config.timeout)
            case _:
                await supervisor.complete_all(timeout=config.timeout)


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


def _specs(plan: Plan, group: PlannedGroup, target: Target, url: str | None) -> WorkerSpecs:
    settings = group.settings
    retry = settings.retry
    luck = settings.bad_luck
    shared: dict[str, Any] = {
        "target": target,
        "retry": _policy(retry),
        "retry_by_class": {name: _policy(policy) for name, policy in retry.by_class().items()} or None,
        "classify": classify_by(settings.classify, plan.errors),
        "bad_luck": make_bad_luck(
            luck.threshold, luck.faults, luck.latency, plan.errors, is_http=group.function is None
        ),
        "attempt_timeout": settings.attempt_timeout,
        "deadline": settings.deadline,
        "group": settings.name,
        "key": settings.key,
        "shutdown": settings.shutdown,
    }
    if settings.is_supervised:
        shared |= _supervision(settings)
        if settings.key is None:
            shared["key"] = getattr(target, "key_of", None)  # that of a poller is lost otherwise
    args = () if group.items is not None or url is None else (url,)
    return WorkerSpecs(WorkerSpec(name=settings.name, args=args, **shared), group.names, group.items)


def _supervision(group: Group) -> dict[str, Any]:
    """Return what a supervisor has to know of each worker of a group."""
    return {
        "restart": group.restart,
        "significant": group.significant,
        "announces_ready": group.announces_ready,
        "every": group.every,
        "max_restarts": group.per_worker.max_restarts,
        "within": group.per_worker.within,
        "escalates": group.per_worker.escalates,
        "backoff": RestartBackoff(**msgspec.structs.asdict(group.restart_backoff)),
    }


def _pool(name: str, members: WorkerSpecs, flags: dict[str, Any]) -> PoolSpec:
    del flags["strategy"]
    args: Iterable[tuple[Any, ...]] = itertools.repeat(()) if members.items is None else zip(members.items, strict=True)
    return PoolSpec(name, members.template, initial=tuple(zip(members.names, args, strict=False)), **flags)


def _tree(plan: Plan, specs: list[WorkerSpecs]) -> list[SupervisorSpec | PoolSpec]:
    """Return the children of the root: each supervised group is a supervisor of its workers, below that which it names.

    The other groups run beside the tree.
    """
    config = plan.config
    workers = {group.settings.name: members for group, members in zip(plan.groups, specs, strict=True)}
    nodes: dict[str, SupervisorTable | Group] = {table.name: table for table in config.supervisors}
    nodes |= {group.name: group for group in config.groups if group.is_supervised}

    def below(above: Config | SupervisorTable, name: str | None) -> list[SupervisorSpec | PoolSpec]:
        order = [nodes[each] for each in config.order or nodes if each in nodes]
        return [build(node, above) for node in order if node.under == name]

    def build(node: SupervisorTable | Group, above: Config | SupervisorTable) -> SupervisorSpec | PoolSpec:
        if isinstance(node, Group):
            # One that shuts down with its workers has done what it should: it is not restarted, and those above that
            # heed such ends heed this one.
            is_ending = node.auto_shutdown != "never"
            restart: RestartType = "transient" if is_ending else "permanent"
            significant = is_ending and above.auto_shutdown != "never"
            members = workers[node.name]
            flags = {"restart": restart, "significant": significant, **_root_flags(node)}
            if node.is_pool:
                return _pool(node.name, members, flags)
            return SupervisorSpec(node.name, tuple(members), **flags)
        return SupervisorSpec(
            node.name,
            tuple(below(node, node.name)),
            restart=node.restart,
            shutdown=node.shutdown,
            significant=node.significant,
            backoff=RestartBackoff(**msgspec.structs.asdict(node.restart_backoff)),
            **_root_flags(node),
        )

    return below(config, None)


def _root_flags(node: Config | SupervisorTable | Group) -> dict[str, Any]:
    """Return the flags of a supervisor; none for the root of a batch, which they would make a tree."""
    if isinstance(node, Config) and not node.is_tree:
        return {}
    return {flag: getattr(node, flag) for flag in ROOT_FLAGS}


def _policy(retry: Retry) -> RetryPolicy:
    return RetryPolicy(
        max_attempts=retry.max_attempts,
        base=retry.base,
        cap=retry.cap,
        kind=retry.backoff,
        max_retry_after=retry.max_retry_after,
    )


def _retry_budget(config: Config) -> RetryBudget | None:
    budget = config.retry_budget
    if budget is None:
        return None
    return RetryBudget(
        capacity=budget.tokens,
        retry_cost=budget.retry_cost,
        timeout_cost=budget.timeout_cost,
        success_gain=budget.success_gain,
    )


def _circuit(config: Config) -> CircuitPolicy | None:
    fields = msgspec.structs.asdict(config.circuit)
    return CircuitPolicy(**fields) if fields.pop("enabled") else None
