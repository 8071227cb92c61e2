"""The children of a supervisor: how each is started, stopped and forgotten."""

from __future__ import annotations

from collections.abc import Iterable

from asyncwatch.supervise.machine import StopReason
from asyncwatch.supervise.spec import WorkerSpec
from asyncwatch.supervise.tree.actor import Actor
from asyncwatch.supervise.tree.child import Child, ChildStatus
from asyncwatch.supervise.tree.crew import Crew
from asyncwatch.supervise.tree.errors import DuplicateName, StartError, TreeError
from asyncwatch.supervise.tree.life import Ending, Life, NodeLife, WorkerLife
from asyncwatch.supervise.tree.restart import Reason
from asyncwatch.supervise.tree.specs import NodeSpec

NOT_READY = "it ended before it was ready"


class Family(Actor):
    """An actor with children. `path` is `root` for the one at the top, `root/a/b` for one below."""

    def __init__(self, spec: NodeSpec, path: str, crew: Crew) -> None:
        super().__init__(path, crew)
        self.spec = spec
        self.children: dict[str, Child] = {}
        """In start order."""
        self.stop_reason: StopReason = "supervisor"
        """What the children are told when they are stopped."""
        self._starting: Life | None = None
        self._is_hurried = False

    def finish(self, ending: Ending) -> None:
        """End; a start that is under way is given up."""
        is_first = self.ending is None
        super().finish(ending)
        if is_first and self._starting is not None:
            self._starting.stop(self.stop_reason)

    def hasten(self) -> None:
        """Give the children no more time to end."""
        self._is_hurried = True
        for child in self.children.values():
            if child.life is not None:
                child.life.hasten()

    def has(self, child: Child) -> bool:
        """Return whether this very child is one of the children, and not another of its name."""
        return self.children.get(child.name) is child

    def forgets(self, child: Child) -> bool:
        """Return whether nothing is kept of the child when it has ended for good."""
        return child.spec.restart == "temporary"

    async def start_all(self, children: Iterable[Child]) -> None:
        """Add children and start them in order, each when the one before is ready; the first that fails raises."""
        for child in children:
            if self.ending is not None:
                return
            self.children[child.name] = child
            if not await self.start_one(child) and self.forgets(child):
                self.discard(child)

    async def start_one(self, child: Child, *, is_waited_for: bool = True) -> bool:
        """Start a child and wait until it is ready; return whether it runs, False if it ignores that.

        One that has to wait before it can start, and is not waited for, has a life all the same and is `restarting`.

        Raises:
            StartError: it raised, or ended, before it was ready.

        """
        child.is_owed = False
        if child.status is not ChildStatus.RESTARTING:
            child.status = ChildStatus.STARTING
        child.life = self._starting = life = self._new_life(child)
        try:
            life.start()
            await life.started(is_waited_for=is_waited_for)
        except DuplicateName as error:
            child.life, child.status = None, ChildStatus.STOPPED
            raise StartError(f"{self.path}/{child.name}", error) from error
        finally:
            self._starting = None
        if life.is_ready:
            self.note_running(child)
            if life.ending is not None:
                self.child_ended(life)
            return True
        if life.ending is None:
            child.status = ChildStatus.RESTARTING
            return False
        child.life, child.status = None, ChildStatus.STOPPED
        if life.ending.reason is Reason.IGNORED:
            return False
        cause = life.ending.error or TreeError(NOT_READY)
        raise StartError(f"{self.path}/{child.name}", cause)

    def note_running(self, child: Child) -> None:
        """Note that a child is ready."""
        child.status = ChildStatus.RUNNING
        child.started_at = self.crew.report.loop.time()

    async def stop_one(self, child: Child) -> None:
        """End a child, or the wait for its restart."""
        child.stop_timer()
        if child.life is not None:
            child.status = ChildStatus.STOPPING
            child.life.stop(self.stop_reason, 0.0 if self._is_hurried else None)
            await child.life.over()
            child.life = None
        elif child.worker is not None:
            self.crew.release(child.worker)
        child.status = ChildStatus.STOPPED

    async def stop_all(self) -> None:
        """End all children, in reverse order."""
        for child in reversed(tuple(self.children.values())):
            await self.stop_one(child)

    def interrupt(self, child: Child) -> None:
        """Give up the start of this child if it is under way, so that the actor turns to the request that follows."""
        if self._starting is not None and self._starting.child is child:
            self._starting.stop("person")

    def drop(self, child: Child) -> None:
        """Note that a child has ended, and will not be started by itself."""
        child.life, child.status = None, ChildStatus.STOPPED
        child.is_owed = False
        if self.forgets(child):
            self.forget(child)

    def forget(self, child: Child) -> None:
        """Remove a child that does not run."""
        self.discard(child)
        self.crew.report.child_removed(self.path, child.name)

    def discard(self, child: Child) -> None:
        """Remove a child of which nobody knew."""
        del self.children[child.name]
        if child.worker is not None:
            self.crew.forget(child.worker.name)

    def child_ended(self, life: Life) -> None:
        """Note that a running child ended by itself."""
        raise NotImplementedError

    def child_started(self, life: Life) -> None:
        """Note that a child is ready, for which nobody waited."""
        raise NotImplementedError

    def waits(self) -> None:
        """Note that the child that is being started has to wait before it is ready."""
        raise NotImplementedError

    def cancel_for_person(self, child: Child) -> str:
        """Stop a child for good; return why that is not possible, or an empty text."""
        raise NotImplementedError

    def restart_for_person(self, child: Child) -> str:
        """Restart a child; return why that is not possible, or an empty text."""
        raise NotImplementedError

    def _new_life(self, child: Child) -> Life:
        if isinstance(child.spec, WorkerSpec):
            return WorkerLife(self, child, announces_ready=child.spec.announces_ready)
        return NodeLife(self, child, self.crew.make_node(child.spec, f"{self.path}/{child.name}", self.path, self.crew))
