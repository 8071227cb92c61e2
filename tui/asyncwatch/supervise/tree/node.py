"""A supervisor of the tree: it starts, watches, restarts and stops its children.

The rules are those of supervisor.erl. A restart that failed is tried again by another message, so that requests come
in between (`try_again_restart`), and no restart waits out its backoff within a message. What OTP cannot do and this
does: a request to stop, of the node or of the very child that is being started, interrupts the start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from asyncwatch.supervise.machine import StopReason
from asyncwatch.supervise.spec import WorkerSpec
from asyncwatch.supervise.tree import errors, rules
from asyncwatch.supervise.tree.child import Child, ChildCounts, ChildInfo, ChildStatus
from asyncwatch.supervise.tree.crew import Crew, TreeWorker
from asyncwatch.supervise.tree.family import Family
from asyncwatch.supervise.tree.life import Ending, Life
from asyncwatch.supervise.tree.restart import Reason, RestartWindow, is_restarted, taken_along
from asyncwatch.supervise.tree.specs import CHILD_KINDS, ChildSpec, NodeSpec


class Above(Protocol):
    """Who is told what becomes of a node: its life in the node above, or the root's keeper."""

    def became_ready(self, value: object) -> None:
        """Note that all children have started."""

    def has_ended(self, ending: Ending) -> None:
        """Note how the node ended; no child of it runs any more."""


class Node(Family):
    """One incarnation of a supervisor."""

    def __init__(self, spec: NodeSpec, path: str, parent: str, crew: Crew) -> None:
        super().__init__(spec, path, crew)
        self.parent = parent
        self._window = RestartWindow(spec.max_restarts, spec.within)
        self._is_up = False
        self._task: asyncio.Task[None] | None = None

    @property
    def strategy(self) -> str:
        """The word for how it restarts."""
        return self.spec.strategy

    def start(self, above: Above) -> None:
        """Start the children; `above` is told when that is done, and of the end."""
        self.crew.nodes[self.path] = self
        self.crew.report.supervisor_started(self)
        loop = self.crew.report.loop
        # Not by the loop's task factory: an eager one would start children inside this very call.
        self._task = asyncio.Task(self._run(above), loop=loop, name=f"supervisor {self.path}")

    def stop(self, reason: StopReason) -> None:
        """Ask the node to end: it stops its children in reverse order. A start or a restart under way is given up."""
        self.stop_reason = reason
        self.finish(Ending(Reason.SHUTDOWN))

    def find(self, name: str) -> Child:
        """Return the child of that name.

        Raises:
            NotFound: there is none.

        """
        child = self.children.get(name)
        if child is None:
            raise errors.NotFound(f"{self.path} has no child {name!r}")
        return child

    def which_children(self) -> list[ChildInfo]:
        """Return all children, in start order."""
        return [child.info for child in self.children.values()]

    def count_children(self) -> ChildCounts:
        """Return how many children there are."""
        children = self.children.values()
        active = sum(child.status is ChildStatus.RUNNING for child in children)
        supervisors = sum(child.kind == "supervisor" for child in children)
        return ChildCounts(len(children), active, supervisors, len(children) - supervisors)

    async def start_child(self, spec: ChildSpec) -> ChildInfo:
        """Add a child and start it; keep it unless that fails, or it is temporary and has nothing to do."""
        rules.check_child(spec, CHILD_KINDS, self.spec.auto_shutdown)
        present = self.children.get(spec.name)
        if present is not None:
            if present.status in (ChildStatus.RUNNING, ChildStatus.STARTING):
                raise errors.AlreadyStarted(f"{self.path} runs a child {spec.name!r} already")
            raise errors.AlreadyPresent(f"{self.path} has a child {spec.name!r} already; it is {present.status}")
        return await self.add(Child(spec, self.path))

    async def add(self, child: Child) -> ChildInfo:
        """Start a new child and return what it is."""
        try:
            await self.start_all((child,))
        except errors.StartError:
            self.discard(child)
            raise
        return child.info

    async def terminate_child(self, child: Child) -> None:
        """Stop a child for good. It can be started by request, unless it is temporary: then it is forgotten."""
        if self.has(child):
            await self.stop_one(child)
            self.drop(child)

    async def restart_child(self, name: str) -> ChildInfo:
        """Start a child that does not run."""
        child = self.find(name)
        self._refuse_unless_stopped(child)
        await self.start_one(child)
        return child.info

    async def delete_child(self, name: str) -> None:
        """Forget a child that does not run."""
        child = self.find(name)
        self._refuse_unless_stopped(child)
        self.forget(child)

    def cancel_for_person(self, child: Child) -> str:
        """Terminate a child; return why that is not possible, or an empty text."""
        reason = self._why_not(child)
        if not reason and child.status is ChildStatus.STOPPED:
            reason = "it has ended"
        if not reason:
            self.interrupt(child)
            self.post(self._terminate_for_person, child)
        return reason

    def restart_for_person(self, child: Child) -> str:
        """Restart a child and whom the strategy takes along; return why that is not possible, or an empty text."""
        reason = self._why_not(child)
        if not reason:
            self.post(self._restart_for_person, child, child.worker)
        return reason

    def interrupt(self, child: Child) -> None:
        """Give up the start of this child, unless the node itself is not up yet: that would end it."""
        if self._is_up:
            super().interrupt(child)

    def child_ended(self, life: Life) -> None:
        """Note that a running child ended by itself."""
        self.post(self._child_ended, life)

    def initial(self) -> Sequence[ChildSpec]:
        """Return the specs of the children that it starts with."""
        return getattr(self.spec, "children", ())

    async def _run(self, above: Above) -> None:
        try:
            await self.start_all(Child(spec, self.path) for spec in self.initial())
            if self.ending is None:
                self._is_up = True
                above.became_ready(None)
            await self.take_messages()
        except errors.StartError as error:
            self.finish(Ending(Reason.ABNORMAL, error))
        except asyncio.CancelledError:
            self.finish(Ending(Reason.ABNORMAL, asyncio.CancelledError("cancelled by somebody else")))
        except Exception as error:  # a fault of ours: who is above treats it as that of any child
            self.finish(Ending(Reason.ABNORMAL, error))
        await self.stop_all()
        self.refuse_messages()
        if self.crew.nodes.get(self.path) is self:
            del self.crew.nodes[self.path]
        assert self.ending is not None  # noqa: S101  each way here sets it
        self.crew.report.supervisor_terminated(self.path, self.ending.cause)
        above.has_ended(self.ending)

    def _refuse_unless_stopped(self, child: Child) -> None:
        if child.status is ChildStatus.RESTARTING:
            raise errors.Restarting(f"{child.name!r} of {self.path} is being restarted")
        if child.status is not ChildStatus.STOPPED:
            raise errors.Running(f"{child.name!r} of {self.path} runs")

    def _why_not(self, child: Child) -> str:
        """Return why nothing can be done about a child, or an empty text."""
        if self.ending is not None:
            return f"its supervisor {self.path} has ended"
        return "" if self.has(child) else "it has ended for good"

    async def _child_ended(self, life: Life) -> None:
        child = life.child
        if child.life is not life or life.ending is None or not self.has(child):
            return  # it was stopped in the meantime
        child.life = None
        if is_restarted(child.spec.restart, life.ending.reason):
            await self._count_restart(child, life.ending)
        else:
            self.drop(child)
            self._shut_down_after(child)

    def _shut_down_after(self, child: Child) -> None:
        """End the node if it was to end with this child."""
        match self.spec.auto_shutdown if child.spec.significant else "never":
            case "any_significant":
                self.finish(Ending(Reason.SHUTDOWN))
            case "all_significant" if not self._has_significant():
                self.finish(Ending(Reason.SHUTDOWN))

    def _has_significant(self) -> bool:
        """Return whether a significant child runs, or will again."""
        stopped = ChildStatus.STOPPED
        return any(child.spec.significant and child.status is not stopped for child in self.children.values())

    async def _count_restart(self, child: Child, ending: Ending) -> None:
        """Restart a child, now or after its backoff, if that is not one restart too many."""
        window = self._window if child.window is None else child.window
        loop = self.crew.report.loop
        child_path = f"{self.path}/{child.name}"
        path = self.path if child.window is None else child_path
        is_within = window.add(loop.time())
        self.crew.report.restart_counted(path, child.name, window)
        if not is_within:
            self._give_up(child, path, window, ending)
            return
        delay = child.next_delay(loop.time(), lambda number: self.crew.jitter(child_path, number))
        child.status = ChildStatus.RESTARTING
        if child.worker is not None:
            self.crew.hold(child.worker, delay, ending.cause)
        if not delay:
            await self._restart(child)
            return
        await self._stop_others(self._taken_along(child), child)
        if self.ending is None:
            child.timer = loop.call_later(delay, self.post, self._backoff_ended, child)

    def _give_up(self, child: Child, path: str, window: RestartWindow, ending: Ending) -> None:
        """End the node, or only the child if it has a limit of its own."""
        self.crew.report.restart_limit_reached(path, window)
        self.drop(child)
        if child.window is None or (isinstance(child.spec, WorkerSpec) and child.spec.escalates):
            limit = errors.RestartLimitError(path, window.max_restarts, window.within, ending.error)
            self.finish(Ending(Reason.SHUTDOWN, limit))
        else:
            self._shut_down_after(child)

    async def _backoff_ended(self, child: Child) -> None:
        if child.timer is not None and self.has(child):
            child.timer = None
            await self._restart(child)

    def _taken_along(self, child: Child) -> list[Child]:
        names = taken_along(self.spec.strategy, self.children, child.name)
        return [self.children[name] for name in names]

    async def _restart(self, child: Child) -> None:
        """Stop whom the strategy takes along, then start them all; one that fails is tried again by a message."""
        await self._stop_others(self._taken_along(child), child)
        for other in self._taken_along(child):
            if self.ending is not None:
                return
            try:
                is_started = await self.start_one(other)
            except errors.StartError as error:
                self._restart_later(other, Ending(Reason.ABNORMAL, error.error))
                return
            if not is_started:
                self.drop(other)

    async def _stop_others(self, children: Sequence[Child], child: Child) -> None:
        """Stop `children`, in reverse; forget those that are temporary. `child` keeps its state if it has ended."""
        for other in reversed(children):
            if other is not child or other.life is not None:
                await self.stop_one(other)
            if other is not child and other.spec.restart == "temporary":
                self.forget(other)

    def _restart_later(self, child: Child, ending: Ending) -> None:
        """Let a child that did not start be restarted by a message of its own."""
        if child.spec.restart == "temporary":
            self.drop(child)
        elif self.ending is None:
            child.status = ChildStatus.RESTARTING
            self.post(self._try_again, child, child.worker, ending)

    async def _try_again(self, child: Child, worker: object, ending: Ending) -> None:
        is_waiting = child.status is ChildStatus.RESTARTING and child.timer is None
        if is_waiting and child.worker is worker and self.has(child):
            await self._count_restart(child, ending)

    async def _terminate_for_person(self, child: Child) -> None:
        reason, self.stop_reason = self.stop_reason, "person"
        await self.terminate_child(child)
        if self.ending is None:
            self.stop_reason = reason

    async def _restart_for_person(self, child: Child, worker: TreeWorker) -> None:
        """Restart a child, unless it was removed or another incarnation took the place of the one that was meant."""
        if self.has(child) and child.worker is worker:
            child.stop_timer()
            await self._restart(child)
        else:
            self.crew.refuse_restart(worker)
