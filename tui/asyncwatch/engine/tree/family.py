"""The children of a supervisor: how each is started, stopped and forgotten."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from asyncwatch.engine.reporter import logger
from asyncwatch.engine.safe_log import log_safely
from asyncwatch.engine.scheduler import StopReason
from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.tree.actor import Actor
from asyncwatch.engine.tree.child import Child, ChildInfo, ChildStatus
from asyncwatch.engine.tree.crew import Crew
from asyncwatch.engine.tree.errors import StartError, TreeError
from asyncwatch.engine.tree.life import Ending, Life, NodeLife, WorkerLife
from asyncwatch.engine.tree.specs import ChildSpec, NodeSpec
from asyncwatch.policies.restart import Reason

NOT_READY = "it ended before it was ready"
CALLED_OFF = "it was stopped by request before it was ready"


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
        """Give the children no more time to end; nor is any of them started again, asked to end or not so far."""
        self.finish(Ending(Reason.SHUTDOWN))
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

    async def start_one(self, child: Child) -> bool:
        """Start a child; return whether it is ready, False if it ignores that, or has to wait before it can be ready.

        Then it has a life all the same, and a message tells what becomes of it.

        Raises:
            StartError: it raised, or ended, before it was ready.

        """
        child.owed_to, child.stays_down = None, False
        if child.status is not ChildStatus.RESTARTING:
            child.status = ChildStatus.STARTING
        try:
            child.life = self._starting = life = self._new_life(child)
            life.start()
        except BaseException as error:  # a name that is taken, or a defect: nothing of the child runs
            child.life, self._starting, child.status = None, None, ChildStatus.STOPPED
            raise StartError(f"{self.path}/{child.name}", error) from error
        try:
            await life.started()
        finally:
            self._starting = None
        if life.is_ready:
            self.note_running(child)
            if life.ending is not None:
                self.child_ended(life)
            return True
        if life.ending is None:
            return False
        child.life, child.status = None, ChildStatus.STOPPED
        if life.ending.reason is Reason.IGNORED:
            return False
        cause = life.ending.error or TreeError(_why_no_start(child))
        is_called_off = child.is_unwanted and life.ending.reason is Reason.SHUTDOWN
        raise StartError(f"{self.path}/{child.name}", cause, is_called_off=is_called_off)

    def note_running(self, child: Child) -> None:
        """Note that a child is ready."""
        child.status = ChildStatus.RUNNING
        child.started_at = self.crew.report.loop.time()
        child.is_added = child.is_looping = False
        child.tell_asker()

    async def stop_one(self, child: Child) -> None:
        """End a child, or the wait for its restart."""
        child.stop_timer()
        if child.life is not None:
            child.status = ChildStatus.STOPPING
            try:
                child.life.stop(self.stop_reason, 0.0 if self._is_hurried else None)
            finally:
                await child.life.over()
            child.life = None
        elif child.worker is not None:
            self.crew.release(child.worker)
        child.status = ChildStatus.STOPPED

    async def stop_all(self) -> None:
        """End all children, in reverse order."""
        for child in reversed(tuple(self.children.values())):
            await self.stop_one(child)

    def stop_all_at_once(self) -> None:
        """Ask all children to end with no grace period, and wait for none: the supervisor itself has failed."""
        self._is_hurried = True
        for child in self.children.values():
            child.stop_timer()
            try:
                if child.life is not None:
                    child.life.stop(self.stop_reason, 0.0)
                    child.life.hasten()
                elif child.worker is not None:
                    self.crew.release(child.worker)
            except Exception:  # the other children must end nevertheless
                text = "%s/%s could not be stopped"
                log_safely(logger, logging.ERROR, text, self.shown, child.name, has_traceback=True)

    def interrupt(self, child: Child) -> None:
        """Give up the start of this child if it is under way, so that the actor turns to the request that follows."""
        if self._starting is not None and self._starting.child is child:
            self._starting.stop("person")

    def drop(self, child: Child, error: BaseException | None = None) -> None:
        """Note that a child has ended, by `error` if that was its start, and will not be started by itself."""
        child.life, child.status = None, ChildStatus.STOPPED
        child.owed_to = None
        child.is_looping = False
        self._refuse_asker(child, error)
        if child.is_added or self.forgets(child):
            self.forget(child)

    def ignore(self, child: Child) -> ChildInfo:
        """Note that a child has nothing to do: that is no error. Return what is known of it."""
        child.life, child.status = None, ChildStatus.STOPPED
        child.is_added = False
        child.tell_asker()
        info = child.info
        self.drop(child)
        return info

    def forget(self, child: Child) -> None:
        """Remove a child that does not run."""
        del self.children[child.name]
        self._lose(child)
        self.crew.report.child_removed(self.path, child.name)

    def initial(self) -> Sequence[ChildSpec]:
        """Return the specs of the children that it starts with."""
        return getattr(self.spec, "children", ())

    def lose_added(self) -> None:
        """Forget the children that were added by request: the next incarnation, which is to start, has them not."""
        names = {spec.name for spec in self.initial()}
        for child in self.children.values():
            if child.name not in names:
                self._lose(child)
                self.crew.report.child_removed(self.path, child.name)
            elif child.below is not None:
                child.below.lose_added()

    def _lose(self, child: Child) -> None:
        """Let nothing be known any more of the workers of a child that has ended."""
        self._refuse_asker(child, None)
        if child.worker is not None:
            self.crew.forget(child.worker.name)
            child.worker.owner.was_replaced()
        if child.below is not None:
            self.crew.branches.forget(child.below.path)
            for each in child.below.children.values():
                self._lose(each)

    def _refuse_asker(self, child: Child, error: BaseException | None) -> None:
        if child.asked is not None:
            child.tell_asker(error or StartError(f"{self.path}/{child.name}", TreeError(_why_no_start(child))))

    def child_ended(self, life: Life) -> None:
        """Note that a running child ended by itself."""
        raise NotImplementedError

    def child_started(self, life: Life) -> None:
        """Note that a child is ready, for which nobody waited."""
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
        if child.below is not None:
            child.below.lose_added()
        child.below = self.crew.make_node(child.spec, f"{self.path}/{child.name}", self.path, self.crew)
        return NodeLife(self, child, child.below)


def _why_no_start(child: Child) -> str:
    return CALLED_OFF if child.is_unwanted else NOT_READY
