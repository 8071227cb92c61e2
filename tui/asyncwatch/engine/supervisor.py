"""A supervision tree of services, and what OTP's `supervisor` module offers to change it while it runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from asyncwatch.commands import CancelAll, CancelWorker, RestartWorker, Statistics
from asyncwatch.engine.lifespan import Lifespan, LifespanFactory
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.run import check_batch
from asyncwatch.engine.run_control import RunControl
from asyncwatch.engine.scheduler import Scheduler
from asyncwatch.engine.spec import Outcome, WorkerSpec, WorkerSpecs
from asyncwatch.engine.tree.child import ChildCounts, ChildInfo
from asyncwatch.engine.tree.errors import NoSuchSupervisor
from asyncwatch.engine.tree.node import Node
from asyncwatch.engine.tree.specs import ChildSpec, SupervisorSpec
from asyncwatch.engine.tree.tree import Tree
from asyncwatch.events import Batch
from asyncwatch.events.tree import ROOT
from asyncwatch.policies.bad_luck import draw_seed
from asyncwatch.policies.budget import DEFAULT_RETRY_BUDGET, RetryBudget
from asyncwatch.policies.circuit import CircuitPolicy
from asyncwatch.policies.halt import Halt
from asyncwatch.policies.limits import DEFAULT_CONCURRENCY, DEFAULT_GRACE, check_limits
from asyncwatch.policies.rate import RateLimit
from asyncwatch.policies.restart import DEFAULT_FLAPPING, AutoShutdown, Flapping, Strategy
from asyncwatch.policies.runner import LifespanPer
from asyncwatch.policies.throttle import DEFAULT_THROTTLE, ThrottlePolicy


class Supervisor:
    """Runs a tree: services, supervisors and pools, started in order and restarted by OTP's rules.

    Inside `async with Supervisor(...) as supervisor:` the tree has started when the block begins, and is stopped when
    it ends; `serve` runs it until it ends by itself. It runs once. All methods belong to the thread of the event loop
    that it runs in.

    `under` names a supervisor of the tree: by its path (`a/b` or `root/a/b`), by its name if no other has it, or None
    for the root. Methods that change children are served in turn: between the tries of a restart loop, but not before
    a child that is being started and runs is ready, nor before one that is being stopped has ended. A child that cannot
    start yet (the run is paused, its circuit is open, a rate limit holds it) delays only its own caller. Methods that
    only read are answered at once. All of them raise `NoSuchSupervisor` if there is none, or if it ends before it
    answers.

    Args:
        children: the workers, supervisors and pools below the root, in order.
        name: what the run is called.
        concurrency: most attempts of the batch in flight. Services need no slot.
        seed: of every draw, from 0; a fresh one if None.
        grace: seconds that a worker may take to end after its cancellation; then it is abandoned as unresponsive.
        group_timeouts: seconds from the start after which the pending workers of a group of the batch are timed out.
        retry_budget: pays for all retries of the run; None for no limit.
        strategy: of the root, as in `SupervisorSpec`. So are the following three.
        max_restarts: restarts of children that the root allows.
        within: in how many seconds.
        auto_shutdown: whether the end of significant children ends the root.
        throttle: how long a key is waited for that asks for fewer attempts; None for no throttling by key.
        max_per_key: slots of one key; None for as many as stay free while other keys have work, else all. Without
            throttling by key, None is all.
        circuit: the policy of a circuit breaker for each key of the workers; None for none.
        rate: the limit of all attempts of the run together; None for none.
        rate_per_key: the limit of the attempts of each key; None for none.
        halt: after how many failures the batch halts; None for never.
        lifespan: returns an async context manager, entered once before the first attempt and left after the last. Its
            value is the last argument of each target. If its entry raises, so does the runner, and nothing is
            attempted. None: there is none.
        lifespan_per: `slot` makes one for each attempt in flight: the first before the first attempt, others when they
            are needed, and an error of their entry is one of the attempt. The next attempt uses it again, unless the
            last one raised `Renew`.
        flapping: when the dashboard and `asyncwatch ps` show that a child flaps, and when it counts as up.
        batch: work that ends, beside the tree and once that has started, as in a `Run`: with retries, at most
            `concurrency` attempts at a time, no supervisor's children. The end of the tree ends it.

    Raises:
        ValueError: two workers of the batch have the same name, or a number is out of its range.
        SpecError: a ValueError; the root would be invalid.

    """

    def __init__(
        self,
        children: Iterable[ChildSpec | WorkerSpecs],
        *,
        name: str = "",
        concurrency: int = DEFAULT_CONCURRENCY,
        seed: int | None = None,
        grace: float = DEFAULT_GRACE,
        group_timeouts: Mapping[str, float] | None = None,
        retry_budget: RetryBudget | None = DEFAULT_RETRY_BUDGET,
        strategy: Strategy | None = None,
        max_restarts: int | None = None,
        within: float | None = None,
        auto_shutdown: AutoShutdown | None = None,
        throttle: ThrottlePolicy | None = DEFAULT_THROTTLE,
        max_per_key: int | None = None,
        circuit: CircuitPolicy | None = None,
        rate: RateLimit | None = None,
        rate_per_key: RateLimit | None = None,
        halt: Halt | None = None,
        lifespan: LifespanFactory | None = None,
        lifespan_per: LifespanPer = "run",
        flapping: Flapping = DEFAULT_FLAPPING,
        batch: Iterable[WorkerSpec | WorkerSpecs] = (),
    ) -> None:
        check_limits(concurrency, grace, max_per_key)
        self.name = name
        self.seed = draw_seed() if seed is None else seed
        members = check_batch(batch)
        self._scheduler = Scheduler(
            members,
            reporter=Reporter(),
            seed=self.seed,
            concurrency=concurrency,
            grace=grace,
            has_slots=bool(members),
            retry_budget=retry_budget,
            throttle=throttle,
            max_per_key=max_per_key,
            circuit=circuit,
            rate=rate,
            rate_per_key=rate_per_key,
            halt=halt,
        )
        self._scheduler.flapping = flapping
        flags = {"strategy": strategy, "max_restarts": max_restarts, "within": within, "auto_shutdown": auto_shutdown}
        given: dict[str, Any] = {flag: value for flag, value in flags.items() if value is not None}
        self._tree = Tree(SupervisorSpec(ROOT, tuple(_one_by_one(children)), **given), self._scheduler)
        self._control = RunControl(self._scheduler, self._tree, group_timeouts)
        self._control.use_lifespan(None if lifespan is None else Lifespan(lifespan, lifespan_per))
        self._stays_open = False
        self._is_launched = False
        self._is_batch_started = False
        self._has_raised_ending = False

    @property
    def is_started(self) -> bool:
        """Whether the tree was started."""
        return self._scheduler.is_started

    @property
    def is_finished(self) -> bool:
        """Whether the run is over: `RunFinished` was reported."""
        return self._scheduler.is_finished

    def subscribe(self) -> asyncio.Queue[Batch]:
        """Return a queue of every batch of events emitted from now on, for the running event loop.

        Subscribe before the tree starts to get all of them. The loop may be another thread's.
        """
        return self._control.subscribe()

    def statistics(self) -> Statistics:
        """Return the figures of this moment."""
        return self._control.statistics()

    def outcomes(self) -> list[Outcome]:
        """Return the latest outcome of each worker that has ended, the batch first."""
        return self._control.outcomes()

    def cancel(self, name: str) -> None:
        """Request that the worker `name` is stopped for good; events say what becomes of that.

        Raises:
            KeyError: there is no such worker.

        """
        self._control.carry_out(CancelWorker(name, self._control.incarnation_of(name)))

    def restart(self, name: str) -> None:
        """Request a new incarnation of the worker `name`; events say what becomes of that.

        Raises:
            KeyError: there is no such worker.

        """
        self._control.carry_out(RestartWorker(name, self._control.incarnation_of(name)))

    def cancel_all(self) -> None:
        """Request that every worker is stopped for good. The supervisors run on, so all can still be restarted."""
        self._control.carry_out(CancelAll())

    async def serve(self) -> None:
        """Start the tree, if that has not been done, and return when it has ended.

        It ends when its root shuts down with a significant child, or when the run is stopped. To leave it early, cancel
        the caller: outside `async with` that stops all workers and waits for them.

        Raises:
            StartError: a child did not start; those before it have been stopped.
            RestartLimitError: the root gave up, after too many restarts.

        """
        try:
            await self._start()
            ending = await self._tree.over()
            self._control.end_batch()
        finally:
            if not self._stays_open:
                await self._finish()
        self._has_raised_ending = True
        if ending.error is not None:
            raise ending.error

    async def start_child(
        self, child: ChildSpec | str | None = None, *args: object, under: str | None = None
    ) -> ChildInfo:
        """Add a child to a supervisor and start it; return when it is ready.

        Under a pool `child` is the key of the new child, None for the next number, and `args` follow the template's.
        A child that ignores its start is `stopped`; a temporary one, or one of a pool, is not kept then.

        Raises:
            AlreadyStarted: there is a child of that name, and it runs.
            AlreadyPresent: there is a child of that name; it does not run.
            SpecError: the child cannot be one of this supervisor.
            StartError: it raised before it was ready. It is not kept.

        """
        try:
            await self._start()
        except Exception:
            if not self._stays_open:
                await self._finish()
            raise
        return await self._tree.find(under).start_child(child, args)

    async def terminate_child(self, name: str, *, under: str | None = None) -> None:
        """Stop a child, its start, or the wait for its restart, for good; return when it has ended or was abandoned.

        A child that is temporary or of a pool is forgotten; another can be started again.

        Raises:
            NotFound: there is no child of that name when the request's turn comes.
            SimpleOneForOne: it is the name of a pool's template.

        """
        await self._node(under).terminate_child(name)

    async def restart_child(self, name: str, *, under: str | None = None) -> ChildInfo:
        """Start a child that does not run; return when it is ready.

        Raises:
            NotFound: there is no child of that name.
            Running: it runs.
            Restarting: it is being restarted.
            SimpleOneForOne: the supervisor is a pool.
            StartError: it raised before it was ready. It is kept.

        """
        return await self._node(under).restart_child(name)

    async def delete_child(self, name: str, *, under: str | None = None) -> None:
        """Forget a child that does not run.

        Raises:
            NotFound: there is no child of that name.
            Running: it runs.
            Restarting: it is being restarted.
            SimpleOneForOne: the supervisor is a pool.

        """
        await self._node(under).delete_child(name)

    def which_children(self, *, under: str | None = None) -> list[ChildInfo]:
        """Return all children of a supervisor, in start order."""
        return self._node(under).which_children()

    def count_children(self, *, under: str | None = None) -> ChildCounts:
        """Return how many children a supervisor has."""
        return self._node(under).count_children()

    def get_childspec(self, name: str, *, under: str | None = None) -> ChildSpec:
        """Return the spec of a child; of a child of a pool, and by the template's own name, the template.

        Raises:
            NotFound: there is no child of that name.

        """
        return self._node(under).get_childspec(name)

    async def __aenter__(self) -> Self:
        """Start the tree, if that has not been done, and keep it open inside the context.

        Raises:
            RuntimeError: the run is over.
            StartError: a child did not start; those before it have been stopped.

        """
        if self.is_finished:
            raise RuntimeError("a Supervisor runs once; this one has been used")
        self._stays_open = True
        try:
            await self._start()
        except BaseException:
            await self._finish()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stays_open = False
        await self._finish()
        ending = self._tree.ending
        if error is None and not self._has_raised_ending and ending is not None and ending.error is not None:
            raise ending.error

    async def _start(self) -> None:
        """Start the run, the tree and then the batch, unless that was done; return when the tree is up."""
        scheduler, tree = self._scheduler, self._tree
        await self._control.open_lifespan()
        if self._control.is_stopping:
            tree.request_stop("person")
        if not scheduler.is_started and tree.ending is None:
            services = tree.worker_count()
            thresholds = (spec.bad_luck.threshold for spec in tree.worker_specs())
            scheduler.start(self.name, "serve", None, time.time(), services=services, thresholds=thresholds)
            self._is_launched = True
            tree.launch()
            scheduler.announce_batch()
        await tree.start()
        is_ending = tree.ending is not None or not scheduler.accepts_restarts
        if not self._is_batch_started and not is_ending:
            self._is_batch_started = True
            scheduler.start_batch()
            self._control.start_group_timers()

    async def _finish(self) -> None:
        await self._control.finish(has_tree=self._is_launched)

    def _node(self, under: str | None) -> Node:
        if not self._scheduler.is_started:
            raise NoSuchSupervisor("no supervisor runs: the tree has not been started")
        return self._tree.find(under)


def _one_by_one(children: Iterable[ChildSpec | WorkerSpecs]) -> Iterator[ChildSpec]:
    """Yield the children, and each worker of those that were given together."""
    for child in children:
        if isinstance(child, WorkerSpecs):
            yield from child
        else:
            yield child
