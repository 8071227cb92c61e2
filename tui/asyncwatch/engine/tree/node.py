"""A supervisor of the tree: OTP's supervisor.erl for workers that are coroutines.

Start and end
    It starts its initial children in order, each ready before the next starts. If one does not start, the children
    before it stop in reverse order and the start of the supervisor fails. When it ends, for whatever reason, its
    children stop in reverse order; the children of a pool stop all at once.

Restarts
    A child that ended is restarted if it is permanent, or transient and its end was abnormal. The strategy says which
    siblings restart with it: none (one_for_one), all (one_for_all), or the ones after it (rest_for_one). They stop in
    reverse order, temporary ones are forgotten, and the others start in order.
    More than `max_restarts` restarts within `within` seconds are too many: the supervisor ends with RestartLimitError.
    A restart that fails counts as a restart, and is tried again by a message of its own, so that requests are handled
    between two tries.
    The end for good of a significant child ends the supervisor as `auto_shutdown` says.

Requests
    A supervisor is a task with a mailbox. It handles one message after the other: requests, ends of children and its
    own reminders. Its end is no message: messages that wait then are refused.
    The end of a service needs no message if the supervisor is idle and has nothing to wait for: it restarts the service
    at once. It does not await that service's first wait, since no sibling starts after it.
    Nothing waits within a message, neither for a backoff nor for a worker that may not make its first attempt yet (the
    run is paused, its circuit is open, a rate limit holds it) or backs off. Such a child is starting or restarting, and
    the siblings that would start after it are owed to it.

Beyond OTP
    A request to stop the supervisor, or the very child that is being started, interrupts the start. Only the initial
    start of a child is not interrupted by a request to stop that child: it would end the supervisor.
    A child can have a restart limit of its own, and a backoff before its restart.
    A person can stop and restart single children, a supervisor, and all that is below the root.
    tests/README.md lists all differences.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import cast

from asyncwatch.engine.capture import log_safely
from asyncwatch.engine.event_loop import pass_on_interrupt
from asyncwatch.engine.reporter import logger
from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.tree import errors, rules
from asyncwatch.engine.tree.child import (
    COMING,
    Child,
    ChildCounts,
    ChildInfo,
    ChildNode,
    ChildStatus,
    Ending,
    Incarnation,
    NodeIncarnation,
    NodeOwner,
    Progress,
    WorkerIncarnation,
)
from asyncwatch.engine.tree.mailbox import Handler, Mailbox
from asyncwatch.engine.tree.pool import STRATEGY as POOL_STRATEGY
from asyncwatch.engine.tree.pool import Pool
from asyncwatch.engine.tree.scheduling import ServiceScheduler
from asyncwatch.engine.tree.specs import ChildSpec, NodeSpec, PoolSpec, check_child
from asyncwatch.engine.tree.supervisors import SupervisorRegistry
from asyncwatch.engine.worker import FORGOTTEN, StopReason, Worker
from asyncwatch.events.tree import shown_path
from asyncwatch.policies.restart import Reason, RestartWindow, is_restarted, restarted_together

NOT_READY = "it ended before it was ready"
CALLED_OFF = "it was stopped by request before it was ready"
STOPPING_FOR_GOOD = "it is being stopped for good"
REPORT_TIME = 1.0
"""Seconds that a supervisor gets to report its end when the run is broken off."""
Started = ChildInfo | asyncio.Future[ChildInfo]
"""A started child, now or once it is ready."""


class Node:
    """One incarnation of a supervisor. `path` is `root` for the one at the top, `root/a/b` for one below."""

    def __init__(
        self, spec: NodeSpec, path: str, parent: str, scheduler: ServiceScheduler, registry: SupervisorRegistry[Node]
    ) -> None:
        self.spec = spec
        self.path = path
        self.parent = parent
        """The path of the supervisor above; "" for the root."""
        self.shown = shown_path(path)
        """What it is called in messages to people."""
        self.scheduler = scheduler
        self.incarnation = 0
        self.children: dict[str, Child] = {}
        """By name, in start order."""
        self.ending: Ending | None = None
        """Set when it is to end, or has ended."""
        self._registry = registry
        self._pool = Pool(spec, self.shown) if isinstance(spec, PoolSpec) else None
        self._mailbox = Mailbox(self.shown)
        self._window = RestartWindow(spec.max_restarts, spec.within)
        self._stop_reason: StopReason = "supervisor"
        """The reason given to children that are stopped."""
        self._is_hurried = False
        """Whether children get no time to end."""
        self._is_up = False
        """Whether all initial children have started."""
        self._unstarted = deque[Child]()
        """Initial children that have not started."""
        self._starting: Incarnation | None = None
        """The incarnation whose start is awaited."""
        self._owner: NodeOwner | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def _is_ending(self) -> bool:
        """Whether it restarts no child any more."""
        return self.ending is not None or self._registry.is_stopping

    @property
    def strategy(self) -> str:
        """The word for how it restarts, also of a pool."""
        return self.spec.strategy if self._pool is None else POOL_STRATEGY

    # Start and end

    def start(self, owner: NodeOwner) -> None:
        """Start the initial children. `owner` is notified when they have started, and of the end."""
        self._owner = owner
        self.incarnation = self._registry.begin(self)
        try:
            self.scheduler.reporter.supervisor_started(self)
        except BaseException as fault:
            ending = Ending(Reason.ABNORMAL, fault)
            self._finish(ending)
            self._registry.end(self, ending.cause)
            raise
        # Not by the loop's task factory: an eager one would start children inside this very call.
        self._task = asyncio.Task(self._run(owner), loop=self.scheduler.loop, name=f"supervisor {self.path}")
        # Not at the end of `_run`: a task that is cancelled before its first step never gets there.
        self._task.add_done_callback(self._over)

    def stop(self, reason: StopReason) -> None:
        """Request that it ends. A start or a restart that is under way is interrupted."""
        self._stop_reason = reason
        self._finish(Ending(Reason.SHUTDOWN))

    def hasten(self) -> None:
        """Request that it ends, and give the children no more time to. None of them is started again."""
        self._finish(Ending(Reason.SHUTDOWN))
        self._is_hurried = True
        for child in self.children.values():
            if child.current is not None:
                child.current.hasten()

    def break_off(self) -> None:
        """End without waiting for the children: the run is broken off."""
        if self._task is not None:
            self._task.cancel()
        if self._owner is not None:
            ending = Ending(Reason.ABNORMAL, TimeoutError("the run was broken off"))
            self.scheduler.loop.call_later(REPORT_TIME, self._owner.has_ended, ending)

    def _finish(self, ending: Ending) -> None:
        """End after the message that is being handled; the first ending counts. A start under way is interrupted."""
        if self.ending is None:
            self.ending = ending
            self._mailbox.close()
            if self._starting is not None:
                self._starting.stop(self._stop_reason)

    async def _run(self, owner: NodeOwner) -> None:
        try:
            self._unstarted.extend(Child(spec, self.path) for spec in self._initial())
            self.children.update((child.name, child) for child in self._unstarted)
            while self.ending is None:
                if not self._is_up:
                    await self._start_initial(owner)
                if self.ending is None:
                    await self._mailbox.handle_next()
        except errors.StartError as error:
            # Its own traceback holds this frame, and so the node that keeps it; its cause tells what happened.
            self._finish(Ending(Reason.ABNORMAL, error.with_traceback(None)))
        except asyncio.CancelledError:
            self._finish(Ending(Reason.ABNORMAL, asyncio.CancelledError("cancelled by other code")))
        except Exception as error:  # a defect: the supervisor above treats it as the end of any child
            self._finish(Ending(Reason.ABNORMAL, error))
        await self._stop_surely()

    def _initial(self) -> Sequence[ChildSpec]:
        if self._pool is not None:
            return self._pool.initial()
        return getattr(self.spec, "children", ())

    async def _start_initial(self, owner: NodeOwner) -> None:
        """Start the initial children up to the first that has to wait.

        Raises:
            StartError: one raised, or ended, before it was ready.

        """
        while self._unstarted:
            child = self._unstarted[0]
            if child.status is ChildStatus.STARTING and self._has(child):
                is_ready = child.current is None and await self._start_one(child)
                if self.ending is not None:
                    return
                if not is_ready and child.current is not None:
                    owner.waits()
                    return
                if not is_ready:
                    self._ignore(child)
            self._unstarted.popleft()
        self._is_up = True
        owner.became_ready(None)

    async def _stop_surely(self) -> None:
        """Stop all children, even if the task is cancelled again or a child cannot be stopped properly.

        This always returns. A child's own timer ends its grace period, and a round that raises has ended one child.

        Raises:
            Exception: stopping a child raised. All children have been stopped, or asked to, all the same.

        """
        faults: list[Exception] = []
        while len(faults) <= len(self.children) and not self._registry.is_broken_off:
            try:
                await self._stop_all()
            except asyncio.CancelledError:
                continue
            except Exception as fault:
                faults.append(fault)
            else:
                break
        if faults:
            raise faults[0]

    def _over(self, task: asyncio.Task[None]) -> None:
        """Notify all that wait for the node that it has ended, however it did."""
        fault = asyncio.CancelledError("cancelled by other code") if task.cancelled() else task.exception()
        owner, self._owner = self._owner, None  # it refers to this node
        assert owner is not None  # noqa: S101  the node was started
        ending = self.ending or Ending(Reason.ABNORMAL, fault)
        try:
            self._finish(ending)
            if fault is not None:
                cause = Ending(Reason.ABNORMAL, fault).cause
                log_safely(logger, logging.ERROR, "the supervisor %s failed: %s", self.shown, cause)
                self._stop_all_at_once()
            self._mailbox.refuse_all()
            for child in self.children.values():
                child.answer_start(self._mailbox.closed_error())
            self._registry.end(self, ending.cause)
            self.scheduler.reporter.supervisor_terminated(self.path, ending.cause)
        finally:
            owner.has_ended(ending)

    # Requests: the functions of OTP's supervisor module

    def which_children(self) -> list[ChildInfo]:
        """Return all children, in start order."""
        return [child.info for child in self.children.values()]

    def count_children(self) -> ChildCounts:
        """Return how many children there are."""
        children = self.children.values()
        active = sum(child.is_alive for child in children)
        supervisors = sum(child.kind == "supervisor" for child in children)
        specs = len(children) if self._pool is None else 1
        return ChildCounts(specs, active, supervisors, len(children) - supervisors)

    def get_childspec(self, name: str) -> ChildSpec:
        """Return the spec of a child; for a pool, and by the template's own name too, the template.

        Raises:
            NotFound: there is no child of that name.

        """
        if self._pool is None:
            return self._find(name).spec
        if name != self._pool.spec.template.name:
            self._find(name)
        return self._pool.spec.template

    async def start_child(self, child: ChildSpec | str | None, args: tuple[object, ...] = ()) -> ChildInfo:
        """Add a child and start it; return when it is ready.

        For a pool, `child` is the new child's key, None for the next number, and `args` follow the template's.

        Raises:
            TreeError, SpecError: as `Supervisor.start_child` says.

        """
        if self._pool is not None:
            if child is not None and not isinstance(child, str):
                raise errors.InvalidChild(f"{self.shown} is a pool: name a key, it has the spec")
            return await self._ask(self._start_keyed, self._pool, child, args)
        if child is None or isinstance(child, str) or args:
            raise errors.InvalidChild(
                f"{self.shown} is not a pool: a child is a WorkerSpec, a SupervisorSpec or a PoolSpec"
            )
        return await self._ask(self._start_new, child)

    async def terminate_child(self, name: str) -> None:
        """Stop a child, its start, or the wait for its restart, for good; return when it has ended or was abandoned.

        Raises:
            NotFound: there is no child of that name when the request is handled.
            SimpleOneForOne: it is the name of a pool's template.

        """
        child = self.children.get(name)
        if child is not None:
            self._interrupt(child)
        await self._mailbox.call(self._terminate_named, name, child)

    async def restart_child(self, name: str) -> ChildInfo:
        """Start a child that does not run; return when it is ready.

        Raises:
            TreeError: as `Supervisor.restart_child` says.

        """
        return await self._ask(self._start_stopped, name)

    async def delete_child(self, name: str) -> None:
        """Forget a child that does not run.

        Raises:
            TreeError: as `Supervisor.delete_child` says.

        """
        await self._mailbox.call(self._delete, name)

    async def _ask(self, handler: Handler, *args: object) -> ChildInfo:
        """Handle a request to start a child when its turn comes; return the child once it is ready.

        While the child has to wait, the node handles other messages.
        """
        started = await self._mailbox.call(handler, *args)
        try:
            return cast("ChildInfo", await started if isinstance(started, asyncio.Future) else started)
        finally:
            del started  # the traceback of the error that it may hold has this frame

    async def _start_new(self, spec: ChildSpec) -> Started:
        check_child(spec, self.spec.auto_shutdown)
        present = self.children.get(spec.name)
        if present is not None:
            if present.status in (ChildStatus.RUNNING, ChildStatus.STARTING):
                raise errors.AlreadyStarted(f"{self.shown} already runs a child {spec.name!r}")
            raise errors.AlreadyPresent(f"{self.shown} already has a child {spec.name!r}, which is {present.status}")
        child = Child(spec, self.path)
        if child.kind == "supervisor":
            rules.check_paths(self.children, (child.name,))
        elif "/" in child.name:
            above = self.children.get(child.name.partition("/")[0])
            rules.check_paths((child.name,), () if above is None or above.kind == "worker" else (above.name,))
        return await self._add(child)

    async def _start_keyed(self, pool: Pool, key: str | None, args: tuple[object, ...]) -> Started:
        name = pool.next_key(self.children) if key is None else key
        rules.check_key(name)
        present = self.children.get(name)
        if present is not None:
            raise errors.AlreadyStarted(f"{self.shown} already has a child {name!r}, which is {present.status}")
        return await self._add(Child(pool.spec.child(name, args), self.path))

    async def _add(self, child: Child) -> Started:
        self.children[child.name] = child
        child.is_added = True
        return await self._start_asked(child)

    async def _start_stopped(self, name: str) -> Started:
        if self._pool is not None:
            raise self._pool.refuse(f"it cannot restart {name!r}; start another child instead")
        child = self._find(name)
        self._check_stopped(child)
        return await self._start_asked(child)

    async def _start_asked(self, child: Child) -> Started:
        """Start a child by request."""
        try:
            is_ready = await self._start_one(child)
        except errors.StartError as error:
            self._drop(child, error)
            raise
        if is_ready:
            return child.info
        if child.current is None:
            return self._ignore(child)
        child.awaits_start = self.scheduler.loop.create_future()
        return child.awaits_start

    async def _delete(self, name: str) -> None:
        if self._pool is not None:
            raise self._pool.refuse(f"it cannot delete {name!r}; terminate the child instead")
        child = self._find(name)
        self._check_stopped(child)
        self._forget(child)

    async def _terminate_named(self, name: str, before: Child | None) -> None:
        """Stop the child that has that name now. `before` is the child that had it when the request was made, if any.

        If `before` was being added, the request has interrupted its start, and nothing is left to stop.
        """
        if before is None or not before.is_added or name in self.children:
            await self._terminate(self._find(name))

    async def _terminate(self, child: Child) -> None:
        """Stop a child for good. It is kept unless it is temporary or of a pool.

        Siblings that were stopped to wait with it are started again. As in OTP, those that were stopped for a restart
        that failed and is tried again without a wait are not. If the child waits with a sibling, it stays down.
        """
        is_waiting = child.is_waiting
        stays_down = child.owed_to is not None and (child.owed_to.is_waiting or self._stop_reason == "person")
        if self._has(child):
            await self._stop_one(child)
            self._drop(child)
        child.is_unwanted = child.is_added = False
        child.stays_down = stays_down
        if is_waiting:
            await self._start_owed(child)
        elif self.spec.strategy != "one_for_one":
            for other in self.children.values():
                if other.owed_to is child:
                    other.owed_to = None

    def _find(self, name: str) -> Child:
        """Return the child of that name.

        Raises:
            NotFound: there is none.
            SimpleOneForOne: it is the name of the pool's template.

        """
        child = self.children.get(name)
        if child is not None:
            return child
        if self._pool is not None and name == self._pool.spec.template.name:
            raise self._pool.refuse(f"{name!r} is its template, not a child")
        raise errors.NotFound(f"{self.shown} has no child {name!r}")

    def _check_stopped(self, child: Child) -> None:
        if child.status is ChildStatus.RESTARTING:
            raise errors.Restarting(f"{child.name!r} below {self.shown} is being restarted; terminate it first")
        if child.status is not ChildStatus.STOPPED:
            raise errors.Running(f"{child.name!r} below {self.shown} is running; terminate it first")

    def _has(self, child: Child) -> bool:
        """Return whether this very child, and not another of its name, is one of the children."""
        return self.children.get(child.name) is child

    # Requests of a person. They are posted: no caller awaits their result

    def cancel_for_person(self, child: Child) -> str:
        """Stop a child for good; return why that is refused, or ""."""
        reason = self._why_refused(child)
        if not reason and not child.is_expected:
            reason = "it has ended"
        if not reason:
            self._interrupt(child)
            self._mailbox.post(self._terminate_for_person, child)
        return reason

    def cancel_all_for_person(self) -> None:
        """Stop all children for good."""
        children = list(self.children.values())
        for child in children:
            self._interrupt(child)
        for child in reversed(children):
            self._mailbox.post(self._terminate_for_person, child)

    def restart_for_person(self, child: Child) -> str:
        """Restart a child, and siblings by the strategy; return why that is refused, or ""."""
        reason = self._why_refused(child)
        if not reason and child.is_unwanted:
            reason = STOPPING_FOR_GOOD
        if not reason:
            self._mailbox.post(self._restart_for_person, child, child.latest)
        return reason

    def restart_all_for_person(self) -> None:
        """Stop all children and start them again, as `one_for_all` does."""
        self._mailbox.post(self._restart_all)

    def _why_refused(self, child: Child) -> str:
        if self.ending is not None:
            return self._registry.why_gone(self.path)
        return "" if self._has(child) else FORGOTTEN

    def _interrupt(self, child: Child) -> None:
        """Prepare for a request to stop this child: no restart starts it, and its start, if under way, is given up.

        The initial start goes on: giving it up would end the node.
        """
        child.is_unwanted = True
        is_initial = self._unstarted and self._unstarted[0] is child
        if not is_initial and self._starting is not None and self._starting.child is child:
            self._starting.stop("person")

    async def _terminate_for_person(self, child: Child) -> None:
        reason, self._stop_reason = self._stop_reason, "person"
        await self._terminate(child)
        if self.ending is None:
            self._stop_reason = reason

    async def _restart_for_person(self, child: Child, latest: Worker | ChildNode | None) -> None:
        """Restart a child, unless it was removed or `latest`, the incarnation that was meant, was replaced."""
        if not child.is_unwanted and self._has(child) and child.latest is latest:
            if not child.is_waiting:
                self._begin_restart()
            child.stop_timer()
            await self._restart(child)
            return
        reason = STOPPING_FOR_GOOD if child.is_unwanted else ""
        if isinstance(latest, Node):
            path = latest.path
            reason = reason or self._registry.why_stale(path, latest.incarnation) or FORGOTTEN
            self.scheduler.reporter.command_refused("RestartBranch", "", 0, f"{shown_path(path)}: {reason}")
        elif isinstance(latest, Worker):
            self.scheduler.refuse_restart(latest, reason)

    async def _restart_all(self) -> None:
        children = list(self.children.values())
        await self._stop_others(children, None)
        children = list(self.children.values())
        # Under one_for_one, a child that fails to start must not keep the others from starting.
        for together in [[child] for child in children] if self.spec.strategy == "one_for_one" else [children]:
            await self._start_in_order(together)

    # One child: started, stopped, forgotten

    async def _start_one(self, child: Child) -> bool:
        """Start a child; return whether it is ready.

        If not, it ignored the start (then it has no incarnation), or has to wait; a message says what becomes of it.

        Raises:
            StartError: it raised, or ended, before it was ready.

        """
        progress = self._launch(child)
        try:
            await progress.started()
        finally:
            self._starting = None
        if progress.is_ready:
            self._note_running(child)
            if progress.ending is not None:
                self.child_ended(progress)
            return True
        if progress.ending is None:
            return False
        child.current, child.status = None, ChildStatus.STOPPED
        if progress.ending.reason is Reason.IGNORED:
            return False
        cause = progress.ending.error or errors.TreeError(_why_no_start(child))
        is_called_off = child.is_unwanted and progress.ending.reason is Reason.SHUTDOWN
        raise errors.StartError(child.path, cause, is_called_off=is_called_off)

    def _launch(self, child: Child) -> Progress:
        """Begin the next incarnation of a child, whose start is awaited, and return its progress.

        Raises:
            StartError: it could not begin.

        """
        child.owed_to, child.stays_down = None, False
        if child.status is not ChildStatus.RESTARTING:
            child.status = ChildStatus.STARTING
        try:
            child.current = self._starting = current = self._new_incarnation(child)
            current.start()
        except BaseException as error:  # a name that is taken, or a defect: nothing of the child runs
            pass_on_interrupt(error)
            child.current, self._starting, child.status = None, None, ChildStatus.STOPPED
            raise errors.StartError(child.path, error) from error
        return current.progress

    def _new_incarnation(self, child: Child) -> Incarnation:
        if isinstance(child.spec, WorkerSpec):
            return WorkerIncarnation(self, child, child.spec)
        if child.below is not None:
            child.below.forget_added()
        child.below = below = Node(child.spec, child.path, self.path, self.scheduler, self._registry)
        return NodeIncarnation(self, child, below)

    def _note_running(self, child: Child) -> None:
        child.status = ChildStatus.RUNNING
        if child.spec.backoff.base:
            child.started_at = self.scheduler.loop.time()
        child.is_added = child.is_looping = False
        if child.awaits_start is not None:
            child.answer_start()

    async def _stop_one(self, child: Child) -> None:
        """Stop a child, or the wait for its restart; return when it has ended."""
        child.stop_timer()
        if child.current is not None:
            child.status = ChildStatus.STOPPING
            try:
                child.current.stop(self._stop_reason, 0.0 if self._is_hurried else None)
            finally:
                await child.current.progress.ended()
            child.current = None
        elif child.worker is not None:
            self.scheduler.drop_restart(child.worker)
        child.status = ChildStatus.STOPPED

    async def _stop_all(self) -> None:
        children = tuple(self.children.values())
        if self._pool is None:
            for child in reversed(children):
                await self._stop_one(child)
            return
        shutdown = self._pool.spec.template.shutdown
        patience = 0.0 if self._is_hurried else self.scheduler.grace if shutdown is None else shutdown
        await self._pool.stop_all(children, self._stop_reason, patience, self.hasten, self._stop_one)

    def _stop_all_at_once(self) -> None:
        """Stop all children with no grace period and wait for none: the supervisor itself has failed."""
        self._is_hurried = True
        for child in self.children.values():
            child.stop_timer()
            try:
                if child.current is not None:
                    child.current.stop(self._stop_reason, 0.0)
                    child.current.hasten()
                elif child.worker is not None:
                    self.scheduler.drop_restart(child.worker)
            except Exception:  # the other children must still end
                text = "%s/%s could not be stopped"
                log_safely(logger, logging.ERROR, text, self.shown, child.name, has_traceback=True)

    def _drop(self, child: Child, error: BaseException | None = None) -> None:
        """Note that a child has ended and is not started again without a request; forget it unless it is kept.

        `error` is why it did not start, if that is how it ended.
        """
        child.current, child.status = None, ChildStatus.STOPPED
        child.owed_to = None
        child.is_looping = False
        self._refuse_start(child, error)
        if child.is_added or self._pool is not None or child.spec.restart == "temporary":
            self._forget(child)

    def _ignore(self, child: Child) -> ChildInfo:
        """Note that a child ignored its start, which is no failure; return how it is."""
        child.current, child.status = None, ChildStatus.STOPPED
        child.is_added = False
        child.answer_start()
        info = child.info
        self._drop(child)
        return info

    def _forget(self, child: Child) -> None:
        """Remove a child that does not run."""
        del self.children[child.name]
        self._forget_workers_of(child)
        self.scheduler.reporter.child_removed(self.path, child.name)

    def forget_added(self) -> None:
        """Forget the children that were added by request: the next incarnation does not have them."""
        names = {spec.name for spec in self._initial()}
        for child in self.children.values():
            if child.name not in names:
                self._forget_workers_of(child)
                self.scheduler.reporter.child_removed(self.path, child.name)
            elif child.below is not None:
                child.below.forget_added()

    def forget_workers(self) -> None:
        """Forget all workers below: the node has ended and was removed."""
        self._registry.forget(self.path)
        for child in self.children.values():
            self._forget_workers_of(child)

    def _forget_workers_of(self, child: Child) -> None:
        self._refuse_start(child, None)
        if child.worker is not None:
            owner = child.worker.owner
            self.scheduler.forget(child.worker.name)
            if owner is not None:
                owner.was_replaced()
        if child.below is not None:
            child.below.forget_workers()

    def _refuse_start(self, child: Child, error: BaseException | None) -> None:
        """Answer the pending request that started the child with an error, if there is one."""
        if child.awaits_start is not None:
            child.answer_start(error or errors.StartError(child.path, errors.TreeError(_why_no_start(child))))

    # Restarts

    def child_started(self, progress: Progress) -> None:
        """Note that a child is ready whose start was not awaited."""
        if self._is_up and self.spec.strategy == "one_for_one":
            self._note_started(progress)
        else:  # others start after it
            self._mailbox.post(self._child_started, progress)

    def child_ended(self, progress: Progress) -> None:
        """Note that a child ended that no request stopped."""
        if not self._is_ending and not self._mailbox.handle_now(self._restart_now, progress):
            self._mailbox.post(self._child_ended, progress)

    def _restart_now(self, progress: Progress) -> bool:
        """Act on the end of a child as `_child_ended` does, if that is a restart that waits for nothing.

        Return whether it was. The end of most services is: it does not wake up the supervisor's task.
        """
        child, ending = progress.child, progress.ending
        if (
            ending is None
            or not self._is_running(progress)
            or not progress.is_ready
            or child.is_unwanted
            or not self._restarts_alone(child)
            or not is_restarted(child.spec.restart, ending.reason)
            or child.spec.backoff.base
        ):
            return False
        (path, window), now = self._limit(child), self.scheduler.loop.time()
        if not window.has_room(now):
            return False
        child.current = None
        self._count(child, path, window, now)
        self._hold(child, 0.0, ending)
        self._start_alone(child)
        return True

    async def _child_started(self, progress: Progress) -> None:
        if self._note_started(progress):
            await self._start_owed(progress.child)

    def _note_started(self, progress: Progress) -> bool:
        """Note that a child is ready; return whether that is so: it may have been stopped in the meantime."""
        child = progress.child
        is_coming = self._is_running(progress) and child.status in COMING
        if is_coming:
            self._note_running(child)
        return is_coming

    @staticmethod
    def _is_running(progress: Progress) -> bool:
        """Return whether this is the present incarnation of its child: it has not been stopped in the meantime."""
        current = progress.child.current
        return current is not None and current.progress is progress

    async def _child_ended(self, progress: Progress) -> None:
        child, ending = progress.child, progress.ending
        if not self._is_running(progress) or ending is None or not self._has(child):
            return
        child.current = None
        if not progress.is_ready:
            await self._start_failed(child, ending)
        elif not is_restarted(child.spec.restart, ending.reason):
            self._drop(child)
            self._shut_down_after(child)
        elif child.is_unwanted:
            self._leave_to_stop(child)
        else:
            self._begin_restart()
            await self._count_restart(child, ending)

    async def _start_failed(self, child: Child, ending: Ending) -> None:
        """Act on the end of a child that had to wait and has not become ready.

        Raises:
            StartError: it is an initial child, and the node has not started.

        """
        error = ending.error or errors.TreeError(NOT_READY)
        failure = errors.StartError(child.path, error)
        if ending.reason is Reason.IGNORED:
            self._ignore(child)
        elif child.awaits_start is not None or (child.is_unwanted and child.status is ChildStatus.STARTING):
            self._drop(child, failure)
        elif child.is_unwanted:
            self._leave_to_stop(child)
        elif child.status is ChildStatus.STARTING:
            raise failure
        elif child.spec.restart == "temporary":
            self._drop(child)
        else:
            await self._count_restart(child, Ending(Reason.ABNORMAL, error))
            return
        await self._start_owed(child)

    def _shut_down_after(self, child: Child) -> None:
        """End the node if `auto_shutdown` says so after the end of this child."""
        match self.spec.auto_shutdown if child.spec.significant else "never":
            case "any_significant":
                self._finish(Ending(Reason.SHUTDOWN))
            case "all_significant" if not self._has_significant():
                self._finish(Ending(Reason.SHUTDOWN))

    def _has_significant(self) -> bool:
        """Return whether a significant child runs, or will again.

        As in OTP, a child does not that was stopped for a sibling's restart which failed and is tried again at once. A
        child does that was stopped for a restart which waits.
        """
        return any(
            child.spec.significant
            and (child.status is not ChildStatus.STOPPED or (child.owed_to is not None and child.owed_to.is_waiting))
            for child in self.children.values()
        )

    def _leave_to_stop(self, child: Child) -> None:
        """Do not restart a child for which a request to stop is pending; until then it is restarting."""
        child.status = ChildStatus.RESTARTING

    def _begin_restart(self) -> None:
        """Let the strategy restart, as in OTP, children that were stopped by request before, but none from now on."""
        if self.spec.strategy != "one_for_one":
            for child in self.children.values():
                child.stays_down = False

    async def _count_restart(self, child: Child, ending: Ending) -> None:
        """Restart a child, now or after its backoff, unless that is one restart too many."""
        if self._is_ending:
            self._leave_to_stop(child)
            return
        (path, window), now = self._limit(child), self.scheduler.loop.time()
        if not self._count(child, path, window, now):
            await self._give_up(child, path, window, ending)
            return
        delay = child.next_delay(now, self.scheduler.luck)
        self._hold(child, delay, ending)
        if not delay:
            await self._restart(child)
            return
        await self._stop_others(self._restarted_with(child), child)
        if self.ending is None:
            child.timer = self.scheduler.loop.call_later(delay, self._mailbox.post, self._backoff_ended, child)

    def _limit(self, child: Child) -> tuple[str, RestartWindow]:
        """Return the path that a child's restarts count for, and the window."""
        return (self.path, self._window) if child.window is None else (child.path, child.window)

    def _count(self, child: Child, path: str, window: RestartWindow, now: float) -> bool:
        """Count and report a restart of a child; return whether it is within the limit."""
        is_within = window.add(now)
        self.scheduler.reporter.restart_counted(path, child.name, window)
        return is_within

    def _hold(self, child: Child, delay: float, ending: Ending) -> None:
        """Note and report that a child that ended is restarted in `delay` seconds."""
        child.status = ChildStatus.RESTARTING
        if child.worker is not None:
            self.scheduler.hold_restart(child.worker, delay, ending.cause)

    async def _give_up(self, child: Child, path: str, window: RestartWindow, ending: Ending) -> None:
        """End the node, or only the child if the limit is its own; then its siblings are started again."""
        # Services that were restarted and not awaited make their first step before: it is scheduled already.
        await asyncio.sleep(0)
        self.scheduler.reporter.restart_limit_reached(path, window)
        self._drop(child)
        if child.window is None or (isinstance(child.spec, WorkerSpec) and child.spec.escalates):
            limit = errors.RestartLimitError(path, window.max_restarts, window.within, ending.error)
            self._finish(Ending(Reason.SHUTDOWN, limit))
        else:
            self._shut_down_after(child)
            await self._start_owed(child)

    async def _backoff_ended(self, child: Child) -> None:
        if child.timer is not None and self._has(child) and not child.is_unwanted:
            child.timer = None
            await self._restart(child)

    def _restarted_with(self, child: Child) -> list[Child]:
        """Return the child and the siblings that the strategy restarts with it, in start order."""
        names = restarted_together(self.spec.strategy, self.children, child.name)
        children = (self.children[name] for name in names)
        return [other for other in children if other is child or not other.stays_down]

    async def _restart(self, child: Child) -> None:
        """Stop the siblings that restart with the child, then start all of them."""
        if self._restarts_alone(child):
            if child.current is not None:
                await self._stop_one(child)
            self._start_alone(child)
            return
        await self._stop_others(self._restarted_with(child), child)
        await self._start_in_order(self._restarted_with(child))

    def _restarts_alone(self, child: Child) -> bool:
        """Return whether the node may go on before the child has restarted.

        It is a worker that is ready at its first wait, no sibling is restarted with it, and no end of a sibling ends
        the node, which would depend on whether this one has started.
        """
        spec, own = child.spec, self.spec
        is_alone = own.strategy == "one_for_one" and own.auto_shutdown == "never"
        return is_alone and isinstance(spec, WorkerSpec) and not spec.announces_ready

    def _start_alone(self, child: Child) -> None:
        """Restart a worker that `_restarts_alone`. A message follows if it ends before its first wait."""
        if self._is_ending:
            return
        if child.is_unwanted:
            self._leave_to_stop(child)
            return
        child.status = ChildStatus.RESTARTING
        try:
            progress = self._launch(child)
        except errors.StartError as error:
            if child.spec.restart == "temporary":
                self._drop(child)
            else:
                self._restart_later(child, Ending(Reason.ABNORMAL, error.error))
            return
        self._starting, progress.is_awaited = None, False
        if progress.ending is not None:
            self.child_ended(progress)

    async def _stop_others(self, children: Sequence[Child], child: Child | None) -> None:
        """Stop `children` in reverse order, and forget temporary ones. `child` keeps its status if it has ended."""
        for other in reversed(children):
            if other is not child or other.current is not None:
                other.owed_to = child if other.is_expected else None
                await self._stop_one(other)
            if other is not child and other.spec.restart == "temporary":
                self._forget(other)

    async def _start_in_order(self, children: Sequence[Child]) -> None:
        """Start `children`. One that fails is tried again by a message, and the next try starts those after it.

        If one has to wait, those after it start when it is ready.
        """
        for number, child in enumerate(children, 1):
            if self._is_ending:
                return
            if child.is_unwanted:
                self._leave_to_stop(child)
                continue
            try:
                is_started = await self._start_one(child)
            except errors.StartError as error:
                if error.is_called_off and not child.is_looping:
                    self._leave_to_stop(child)
                    continue
                if child.spec.restart == "temporary":
                    self._drop(child)
                    continue
                self._restart_later(child, Ending(Reason.ABNORMAL, error.error))
                await self._put_off(children[number:], child)
                return
            if is_started:
                continue
            if child.current is not None:
                child.status = ChildStatus.RESTARTING
                for later in children[number:]:
                    later.owed_to = child
                return
            self._ignore(child)

    async def _start_owed(self, child: Child) -> None:
        """Start the children that the restart of this one stopped: it has become ready, or never will."""
        if self.spec.strategy != "one_for_one":
            await self._start_in_order([other for other in self.children.values() if other.owed_to is child])

    async def _put_off(self, children: Sequence[Child], failed: Child) -> None:
        """Note that the restart of `failed` failed before these were started (supervisor.erl's `del_child`)."""
        for child in children:
            if child.is_expected:
                child.owed_to = failed
            if child.status is ChildStatus.RESTARTING:
                await self._stop_one(child)

    def _restart_later(self, child: Child, ending: Ending) -> None:
        """Let a child that did not start be restarted by a message (supervisor.erl's `try_again_restart`)."""
        if not self._is_ending:
            child.status = ChildStatus.RESTARTING
            child.is_looping = True
            self._mailbox.post(self._try_again, child, ending)

    async def _try_again(self, child: Child, ending: Ending) -> None:
        """Restart a child. As in OTP, also if another restart since then has failed as well."""
        is_waiting = child.status is ChildStatus.RESTARTING and child.timer is None and child.current is None
        if is_waiting and self._has(child) and not child.is_unwanted:
            await self._count_restart(child, ending)


def _why_no_start(child: Child) -> str:
    return CALLED_OFF if child.is_unwanted else NOT_READY
