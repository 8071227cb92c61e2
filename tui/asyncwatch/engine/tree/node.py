"""A supervisor of the tree: it starts, watches, restarts and stops its children.

The rules are those of supervisor.erl. What OTP cannot do and this does: a request to stop, of the node or of the very
child that is being started, interrupts the start; but the start of a child with which the node itself starts only the
end of the node does.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Protocol, cast

from asyncwatch.engine.reporter import logger
from asyncwatch.engine.safe_log import log_safely
from asyncwatch.engine.scheduler import StopReason
from asyncwatch.engine.tree import errors, rules
from asyncwatch.engine.tree.actor import Handler
from asyncwatch.engine.tree.branches import FORGOTTEN
from asyncwatch.engine.tree.child import Child, ChildCounts, ChildInfo, ChildStatus
from asyncwatch.engine.tree.company import TreeWorker
from asyncwatch.engine.tree.crew import Crew
from asyncwatch.engine.tree.life import Ending
from asyncwatch.engine.tree.restarts import Restarts
from asyncwatch.engine.tree.specs import CHILD_KINDS, ChildSpec, NodeSpec
from asyncwatch.policies.restart import Reason

LAST_WORDS = 1.0
"""Seconds that a supervisor gets to report its end when the run is broken off."""
Started = ChildInfo | asyncio.Future[ChildInfo]
"""What a child is that was started, or will be when it is ready."""


class Above(Protocol):
    """Who is told what becomes of a node: its life in the node above, or the root's keeper."""

    def became_ready(self, value: object) -> None:
        """Note that all children have started."""

    def waits(self) -> None:
        """Note that a worker below has to wait for its first attempt, or for another one, before all are ready."""

    def has_ended(self, ending: Ending) -> None:
        """Note how the node ended; no child of it runs any more."""


class Node(Restarts):
    """One incarnation of a supervisor."""

    def __init__(self, spec: NodeSpec, path: str, parent: str, crew: Crew) -> None:
        super().__init__(spec, path, crew)
        self.parent = parent
        self.incarnation = 0
        self._is_up = False
        self._unstarted = deque[Child]()
        self._above: Above | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def strategy(self) -> str:
        """The word for how it restarts."""
        return self.spec.strategy

    def start(self, above: Above) -> None:
        """Start the children; `above` is told when that is done, and of the end."""
        self._above = above
        self.incarnation = self.crew.branches.begin(self)
        try:
            self.crew.report.supervisor_started(self)
        except BaseException as fault:
            self.finish(Ending(Reason.ABNORMAL, fault))
            self.crew.branches.end(self, Ending(Reason.ABNORMAL, fault).cause)
            raise
        loop = self.crew.report.loop
        # Not by the loop's task factory: an eager one would start children inside this very call.
        self._task = asyncio.Task(self._run(above), loop=loop, name=f"supervisor {self.path}")
        # Not at the end of `_run`: a task that is cancelled before its first step never gets there.
        self._task.add_done_callback(self._over)

    def stop(self, reason: StopReason) -> None:
        """Ask the node to end: it stops its children in reverse order. A start or a restart under way is given up."""
        self.stop_reason = reason
        self.finish(Ending(Reason.SHUTDOWN))

    def break_off(self) -> None:
        """End without waiting for the children: the run is broken off."""
        if self._task is not None:
            self._task.cancel()
        if self._above is not None:
            ending = Ending(Reason.ABNORMAL, TimeoutError("the run was broken off"))
            self.crew.report.loop.call_later(LAST_WORDS, self._above.has_ended, ending)

    def find(self, name: str) -> Child:
        """Return the child of that name.

        Raises:
            NotFound: there is none.

        """
        child = self.children.get(name)
        if child is None:
            raise errors.NotFound(f"{self.shown} has no child {name!r}")
        return child

    def which_children(self) -> list[ChildInfo]:
        """Return all children, in start order."""
        return [child.info for child in self.children.values()]

    def count_children(self) -> ChildCounts:
        """Return how many children there are."""
        children = self.children.values()
        active = sum(child.is_alive for child in children)
        supervisors = sum(child.kind == "supervisor" for child in children)
        return ChildCounts(len(children), active, supervisors, len(children) - supervisors)

    async def ask(self, handler: Handler, *args: object) -> ChildInfo:
        """Carry out a request to start a child when its turn comes; return what it is when it is ready.

        While the child has to wait before it can be ready, the node turns to other requests.
        """
        started = await self.call(handler, *args)
        try:
            return cast("ChildInfo", await started if isinstance(started, asyncio.Future) else started)
        finally:
            del started  # the traceback of the error that it may hold has this frame

    async def start_child(self, spec: ChildSpec) -> Started:
        """Add a child and start it; keep it unless that fails, or it is temporary and has nothing to do."""
        rules.check_child(spec, CHILD_KINDS, self.spec.auto_shutdown)
        present = self.children.get(spec.name)
        if present is not None:
            if present.status in (ChildStatus.RUNNING, ChildStatus.STARTING):
                raise errors.AlreadyStarted(f"{self.shown} runs a child {spec.name!r} already")
            raise errors.AlreadyPresent(f"{self.shown} has a child {spec.name!r} already; it is {present.status}")
        child = Child(spec, self.path)
        if child.kind == "supervisor":
            rules.check_paths(self.children, (child.name,))
        elif "/" in child.name:
            above = self.children.get(child.name.partition("/")[0])
            rules.check_paths((child.name,), () if above is None or above.kind == "worker" else (above.name,))
        return await self.add(child)

    async def add(self, child: Child) -> Started:
        """Start a new child."""
        self.children[child.name] = child
        child.is_added = True
        return await self._start_asked(child)

    async def terminate_named(self, name: str, before: Child | None) -> None:
        """Stop the child that has that name now; when this was asked for it may have been another (`before`), or none.

        It may have been one that was being added: its start was given up for this request.
        """
        if before is None or not before.is_added or name in self.children:
            await self.terminate_child(self.find(name))

    async def terminate_child(self, child: Child) -> None:
        """Stop a child for good. It can be started by request, unless it is temporary: then it is forgotten.

        Siblings that were stopped to wait with it are started again; as in OTP those are not that were stopped for a
        restart which failed, and is tried again without any wait. If it waits with a sibling itself, it stays down.
        """
        is_waiting = child.is_waiting
        stays_down = child.owed_to is not None and (child.owed_to.is_waiting or self.stop_reason == "person")
        if self.has(child):
            await self.stop_one(child)
            self.drop(child)
        child.is_unwanted = child.is_added = False
        child.stays_down = stays_down
        if is_waiting:
            await self.start_owed(child)
        elif self.spec.strategy != "one_for_one":
            for other in self.children.values():
                if other.owed_to is child:
                    other.owed_to = None

    async def restart_child(self, name: str) -> Started:
        """Start a child that does not run."""
        child = self.find(name)
        self._refuse_unless_stopped(child)
        return await self._start_asked(child)

    async def delete_child(self, name: str) -> None:
        """Forget a child that does not run."""
        child = self.find(name)
        self._refuse_unless_stopped(child)
        self.forget(child)

    def cancel_for_person(self, child: Child) -> str:
        """Terminate a child; return why that is not possible, or an empty text."""
        reason = self._why_not(child)
        if not reason and not child.is_expected:
            reason = "it has ended"
        if not reason:
            self.interrupt(child)
            self.post(self._terminate_for_person, child)
        return reason

    def restart_for_person(self, child: Child) -> str:
        """Restart a child and whom the strategy takes along; return why that is not possible, or an empty text."""
        reason = self._why_not(child)
        if not reason and child.is_unwanted:
            reason = "it is being stopped for good"
        if not reason:
            self.post(self._restart_for_person, child, child.latest)
        return reason

    def restart_all_for_person(self) -> None:
        """Stop all children and start them again, as `one_for_all` does."""
        self.post(self._restart_all)

    def cancel_all_for_person(self) -> None:
        """Stop all children for good."""
        children = list(self.children.values())
        for child in children:
            self.interrupt(child)
        for child in reversed(children):
            self.post(self._terminate_for_person, child)

    def interrupt(self, child: Child) -> None:
        """Make way for a request to stop this child: no restart starts it any more, and its start is given up.

        That is not, while the node itself starts with it: it would end the node.
        """
        child.is_unwanted = True
        if not self._unstarted or self._unstarted[0] is not child:
            super().interrupt(child)

    async def _run(self, above: Above) -> None:
        try:
            self._unstarted.extend(Child(spec, self.path) for spec in self.initial())
            self.children.update((child.name, child) for child in self._unstarted)
            while self.ending is None:
                if not self._is_up:
                    await self._go_on_starting(above)
                if self.ending is None:
                    await self.take_message()
        except errors.StartError as error:
            # Its own traceback has this frame, and so the node that keeps it; its cause tells what happened.
            self.finish(Ending(Reason.ABNORMAL, error.with_traceback(None)))
        except asyncio.CancelledError:
            self.finish(Ending(Reason.ABNORMAL, asyncio.CancelledError("cancelled by somebody else")))
        except Exception as error:  # a fault of ours: who is above treats it as that of any child
            self.finish(Ending(Reason.ABNORMAL, error))
        await self._stop_surely()

    async def _go_on_starting(self, above: Above) -> None:
        """Start the initial children up to the first that has to wait; the node has started when all have.

        Raises:
            StartError: one raised, or ended, before it was ready.

        """
        while self._unstarted:
            child = self._unstarted[0]
            if child.status is ChildStatus.STARTING and self.has(child):
                is_ready = child.life is None and await self.start_one(child)
                if self.ending is not None:
                    return
                if not is_ready and child.life is not None:
                    above.waits()
                    return
                if not is_ready:
                    self.ignore(child)
            self._unstarted.popleft()
        self._is_up = True
        above.became_ready(None)

    async def _start_asked(self, child: Child) -> Started:
        """Start a child by request; return what it is, or, if it has to wait, what it will be."""
        try:
            is_ready = await self.start_one(child)
        except errors.StartError as error:
            self.drop(child, error)
            raise
        if is_ready:
            return child.info
        if child.life is None:
            return self.ignore(child)
        child.asked = self.crew.report.loop.create_future()
        return child.asked

    async def _stop_surely(self) -> None:
        """End all children, even if the node's own task is cancelled again or a child cannot be stopped properly.

        This always returns. A child's own timer ends its grace period, and a round that raises has ended one child.

        Raises:
            Exception: stopping a child raised. All children have been stopped, or asked to, all the same.

        """
        faults: list[Exception] = []
        while len(faults) <= len(self.children) and not self.crew.is_broken_off:
            try:
                await self.stop_all()
            except asyncio.CancelledError:
                continue
            except Exception as fault:
                faults.append(fault)
            else:
                break
        if faults:
            raise faults[0]

    def _over(self, task: asyncio.Task[None]) -> None:
        """Tell who waits for it that the node has ended, in whatever way."""
        fault = asyncio.CancelledError("cancelled by somebody else") if task.cancelled() else task.exception()
        above, self._above = self._above, None  # which holds this node
        assert above is not None  # noqa: S101  it was started
        ending = self.ending or Ending(Reason.ABNORMAL, fault)
        try:
            self.finish(ending)
            if fault is not None:
                log_safely(
                    logger,
                    logging.ERROR,
                    "the supervisor %s failed: %s",
                    self.shown,
                    Ending(Reason.ABNORMAL, fault).cause,
                )
                self.stop_all_at_once()
            self.refuse_messages()
            for child in self.children.values():
                child.tell_asker(self._gone())
            self.crew.branches.end(self, ending.cause)
            self.crew.report.supervisor_terminated(self.path, ending.cause)
        finally:
            above.has_ended(ending)

    def _refuse_unless_stopped(self, child: Child) -> None:
        if child.status is ChildStatus.RESTARTING:
            raise errors.Restarting(f"{child.name!r} of {self.shown} is being restarted")
        if child.status is not ChildStatus.STOPPED:
            raise errors.Running(f"{child.name!r} of {self.shown} runs")

    def _why_not(self, child: Child) -> str:
        """Return why nothing can be done about a child, or an empty text."""
        if self.ending is not None:
            return self.crew.branches.why_gone(self.path)
        return "" if self.has(child) else FORGOTTEN

    async def _terminate_for_person(self, child: Child) -> None:
        reason, self.stop_reason = self.stop_reason, "person"
        await self.terminate_child(child)
        if self.ending is None:
            self.stop_reason = reason

    async def _restart_all(self) -> None:
        children = list(self.children.values())
        await self._stop_others(children, None)
        children = list(self.children.values())
        # One that fails takes nobody along where none takes others along.
        for together in [[child] for child in children] if self.spec.strategy == "one_for_one" else [children]:
            await self._start_in_order(together)

    async def _restart_for_person(self, child: Child, latest: TreeWorker | Node | None) -> None:
        """Restart a child, unless it was removed or another incarnation took the place of the one that was meant."""
        if not child.is_unwanted and self.has(child) and child.latest is latest:
            if not child.is_waiting:
                self._begin_restart()
            child.stop_timer()
            await self._restart(child)
            return
        reason = "it is being stopped for good" if child.is_unwanted else ""
        if isinstance(latest, Node):
            self.crew.refuse_branch("RestartBranch", latest, reason)
        elif latest is not None:
            self.crew.refuse_restart(latest, reason)
