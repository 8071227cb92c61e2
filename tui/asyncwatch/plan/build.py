"""From a plan to a run: opens the targets, makes the specs and the supervisor, and awaits the runner."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from asyncwatch.config.load import ROOT_FLAGS
from asyncwatch.config.schema import Config, Group, SupervisorTable
from asyncwatch.engine.lifespan import Lifespan
from asyncwatch.engine.run import Run, complete_all
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.spec import Target, WorkerSpec, WorkerSpecs
from asyncwatch.engine.supervisor import Supervisor
from asyncwatch.engine.tree.specs import PoolSpec, SupervisorSpec
from asyncwatch.plan.cluster import make_cluster
from asyncwatch.plan.feed import ItemFeeder, OnItems
from asyncwatch.plan.keys import WorkerKeys
from asyncwatch.plan.plan import Plan, PlannedGroup, children_by_parent
from asyncwatch.policies.bad_luck import BadLuck
from asyncwatch.policies.budget import RetryBudget
from asyncwatch.policies.circuit import CircuitPolicy
from asyncwatch.policies.classify import ErrorClass
from asyncwatch.policies.halt import parse_halt
from asyncwatch.policies.rate import parse_rate
from asyncwatch.policies.restart import RestartType
from asyncwatch.policies.retry import RetryPolicy
from asyncwatch.policies.settings import as_policy
from asyncwatch.policies.throttle import ThrottlePolicy
from asyncwatch.targets.names import classify_by, with_faults


@asynccontextmanager
async def open_run(
    plan: Plan, on_items: OnItems | None = None, keys: WorkerKeys | None = None
) -> AsyncIterator[Run | Supervisor]:
    """Open the sessions and the site that the plan needs. Yield the run or the tree of its workers, not entered yet.

    `on_items` gets the items of pipes before their workers are queued. `keys` are those of the workers.
    """
    async with AsyncExitStack() as stack:
        functions = [group.function for group in plan.groups if group.function is not None]
        cluster = make_cluster(plan.config, functions, plan.lifespan)
        targets = _Targets(plan, stack, None if cluster is None else cluster.remote)
        specs = [_specs(plan, group, *await targets.open(group)) for group in plan.groups]
        config = plan.config
        groups = zip(plan.groups, specs, strict=True)
        batch = [members for group, members in groups if not group.settings.is_supervised and group.live is None]
        settings: dict[str, Any] = {
            "name": plan.name,
            "concurrency": config.concurrency,
            "seed": plan.seed,
            "grace": config.grace,
            "group_timeouts": {group.name: group.timeout for group in config.groups if group.timeout is not None},
            "retry_budget": _budget(config),
            "throttle": _throttle(config),
            "max_per_key": config.max_per_key,
            "circuit": as_policy(CircuitPolicy, config.circuit) if config.circuit.enabled else None,
            "rate": None if config.rate is None else parse_rate(config.rate, config.burst),
            "rate_per_key": (
                None if config.rate_per_key is None else parse_rate(config.rate_per_key, config.burst_per_key)
            ),
            "halt": None if config.halt is None else parse_halt(config.halt, config.halt_mode),
        }
        if config.is_tree:
            tree = _tree(plan, specs)
            run: Run | Supervisor = Supervisor(
                tree, batch=batch, flapping=config.flapping, **_root_flags(config), **settings
            )
        else:
            run = Run(batch, **settings)
        control_of(run).expect_signals()
        if keys is not None:
            control_of(run).identify_by(keys)
        if plan.resumption is not None:
            control_of(run).resume_after(plan.resumption.done_before)
        if cluster is not None:
            cluster.join(control_of(run))
        elif plan.lifespan is not None:
            lifespan = Lifespan(plan.lifespan, config.lifespan_per, name=str(config.lifespan), targets=functions)
            control_of(run).use_lifespan(lifespan)
        for group, members in zip(plan.groups, specs, strict=True):
            if group.live is not None:
                say = partial(control_of(run).record_log, None, "WARNING", "asyncwatch")
                control_of(run).open_feed(ItemFeeder(group.live, members.template, say, on_items))
        yield run


async def drive(plan: Plan, run: Run | Supervisor) -> None:
    """Await all workers by the plan's runner. Events report how workers end, so the runner's own errors end here.

    Raises:
        TreeError: the tree, if there is one, did not start or gave up.

    """
    config = plan.config
    control_of(run).keep_no_values()
    if isinstance(run, Supervisor):
        await run.serve()
        return
    with contextlib.suppress(TimeoutError, BaseExceptionGroup):
        match config.runner:
            case "gather":
                await run.gather(timeout=config.timeout)
            case "wait":
                await run.wait(timeout=config.timeout, return_when=config.return_when)
            case "task_group":
                await run.task_group(timeout=config.timeout)
            case _:
                await complete_all(run, timeout=config.timeout)


def _throttle(config: Config) -> ThrottlePolicy | None:
    if not config.is_adaptive:
        return None
    return ThrottlePolicy(patience=config.throttle_patience, max_retry_after=config.max_retry_after)


def _budget(config: Config) -> RetryBudget | None:
    budget = config.retry_budget
    return None if budget is None else msgspec.structs.replace(budget, patience=config.throttle_patience)


class _Targets:
    """Opens the targets of the groups. Groups with the same HTTP settings share one session.

    `remote` makes targets of functions that run on a cluster; None if they run here.
    """

    def __init__(self, plan: Plan, stack: AsyncExitStack, remote: Callable[[Target], Target] | None) -> None:
        self._plan = plan
        self._remote = remote
        self._stack = stack
        self._opened: dict[tuple[str, bytes], Target] = {}
        self._demo_url: str | None = None

    async def open(self, group: PlannedGroup) -> tuple[Target, str | None]:
        """Return the target of a group, and the URL that all its workers fetch, if there is one."""
        if group.function is not None:
            return group.function if self._remote is None else self._remote(group.function), None
        settings = group.settings
        if settings.target == "demo" and self._demo_url is None:
            from asyncwatch.targets.demo_site import DemoSite  # noqa: PLC0415  aiohttp.web is for the demo only

            self._demo_url = await self._stack.enter_async_context(DemoSite(self._plan.seed))
        key = (settings.target, msgspec.json.encode(settings.http))
        if key not in self._opened:
            self._opened[key] = await self._open_http(settings)
        return self._opened[key], self._demo_url if settings.target == "demo" else settings.url

    async def _open_http(self, settings: Group) -> Target:
        from asyncwatch.targets.http import HttpTarget  # noqa: PLC0415  functions do without aiohttp

        kind = HttpTarget
        http = msgspec.structs.asdict(settings.http)
        if settings.target == "demo":
            from asyncwatch.targets.demo_site import DemoTarget  # noqa: PLC0415  as above

            kind = DemoTarget
            http["proxy"] = None  # the site is on this machine
        target = kind(**http, concurrency=self._plan.config.concurrency)
        return await self._stack.enter_async_context(target)


def _specs(plan: Plan, group: PlannedGroup, target: Target, url: str | None) -> WorkerSpecs:
    settings = group.settings
    luck = as_policy(BadLuck, settings.bad_luck)
    shared: dict[str, Any] = {
        "target": target,
        "retry": settings.retry.policy,
        "retry_by_class": _by_class(settings, plan.config) or None,
        "classify": classify_by(settings.classify, plan.errors),
        "bad_luck": with_faults(luck, settings.bad_luck.named_faults, plan.errors, is_http=group.function is None),
        "attempt_timeout": settings.attempt_timeout,
        "deadline": settings.deadline,
        "group": settings.name,
        "key": settings.key,
        "shutdown": settings.shutdown,
    }
    if settings.is_supervised:
        shared |= _supervision(settings)
        if settings.key is None:
            shared["key"] = getattr(target, "key_of", None)  # a poller wraps its target, which hides the attribute
    args = () if group.items is not None or url is None else (url,)
    return WorkerSpecs(WorkerSpec(name=settings.name, args=args, **shared), group.names, group.items)


def _by_class(group: Group, config: Config) -> dict[ErrorClass, RetryPolicy]:
    """Return the policies of classes of errors. That of throttled attempts would limit them where it says no number."""
    by_class = group.retry.by_class()
    if config.is_adaptive and "max_attempts" not in group.retry.on_throttled:
        by_class.pop(ErrorClass.THROTTLED, None)
    return by_class


def _supervision(group: Group) -> dict[str, Any]:
    """Return the fields of a worker's spec that its supervisor uses."""
    return {
        "restart": group.restart,
        "significant": group.significant,
        "announces_ready": group.announces_ready,
        "liveness": group.liveness,
        "every": group.every,
        "backoff": group.restart_backoff,
        **msgspec.structs.asdict(group.per_worker),
    }


def _pool(name: str, members: WorkerSpecs, flags: dict[str, Any]) -> PoolSpec:
    del flags["strategy"]
    args: Iterable[tuple[Any, ...]] = itertools.repeat(()) if members.items is None else zip(members.items, strict=True)
    return PoolSpec(name, members.template, initial=tuple(zip(members.names, args, strict=False)), **flags)


def _tree(plan: Plan, specs: list[WorkerSpecs]) -> list[SupervisorSpec | PoolSpec]:
    """Return the children of the root. Each supervised group is a supervisor of its workers; others are a batch."""
    workers = {group.settings.name: members for group, members in zip(plan.groups, specs, strict=True)}
    children = children_by_parent(plan.config)

    def below(above: Config | SupervisorTable, name: str | None) -> list[SupervisorSpec | PoolSpec]:
        return [build(node, above) for node in children.get(name, ())]

    def build(node: SupervisorTable | Group, above: Config | SupervisorTable) -> SupervisorSpec | PoolSpec:
        if isinstance(node, Group):
            # A group that shuts down with its workers has done its work: it is not restarted, and it is significant
            # to a supervisor above that shuts down with its children.
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
            backoff=node.restart_backoff,
            **_root_flags(node),
        )

    return below(plan.config, None)


def _root_flags(node: Config | SupervisorTable | Group) -> dict[str, Any]:
    """Return the flags of a supervisor."""
    return {flag: getattr(node, flag) for flag in ROOT_FLAGS}
