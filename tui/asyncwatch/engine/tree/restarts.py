"""How a supervisor restarts its children: the part of supervisor.erl that is about ends.

A restart that failed is tried again by another message, so that requests come in between (`try_again_restart`), and
nothing waits within a message: neither for a backoff, nor for a worker that may not make its first attempt yet (the run
is paused, its circuit is open, a rate limit holds it) or backs off from one.
"""

from __future__ import annotations

from collections.abc import Sequence

from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.tree import errors
from asyncwatch.engine.tree.child import COMING, Child, ChildStatus
from asyncwatch.engine.tree.crew import Crew
from asyncwatch.engine.tree.family import NOT_READY, Family
from asyncwatch.engine.tree.life import Ending, Life
from asyncwatch.engine.tree.specs import NodeSpec
from asyncwatch.policies.restart import Reason, RestartWindow, is_restarted, restarted_together


class Restarts(Family):
    """A family whose members are restarted when they end, by its strategy and within its limit."""

    def __init__(self, spec: NodeSpec, path: str, crew: Crew) -> None:
        super().__init__(spec, path, crew)
        self._window = RestartWindow(spec.max_restarts, spec.within)

    def child_ended(self, life: Life) -> None:
        """Note that a child ended by itself, or that its start did of which nobody waited for the end."""
        self.post(self._child_ended, life)

    def child_started(self, life: Life) -> None:
        """Note that a child is ready, for which nobody waited."""
        self.post(self._child_started, life)

    async def _child_started(self, life: Life) -> None:
        child = life.child
        if child.life is life and child.status in COMING:
            self.note_running(child)
            await self.start_owed(child)

    async def _child_ended(self, life: Life) -> None:
        child = life.child
        if child.life is not life or life.ending is None or not self.has(child):
            return  # it was stopped in the meantime
        child.life = None
        ending = life.ending
        if not life.is_ready:
            await self._start_failed(child, ending)
        elif not is_restarted(child.spec.restart, ending.reason):
            self.drop(child)
            self._shut_down_after(child)
        elif child.is_unwanted:
            self._leave_to_stop(child)
        else:
            self._begin_restart()
            await self._count_restart(child, ending)

    def _leave_to_stop(self, child: Child) -> None:
        """Do not restart a child for which a request to stop waits, but let it be one that is restarted until then."""
        child.status = ChildStatus.RESTARTING

    def _begin_restart(self) -> None:
        """Let the strategy take along, as in OTP, who was stopped by request before; not who is from now on."""
        if self.spec.strategy != "one_for_one":
            for child in self.children.values():
                child.stays_down = False

    async def _start_failed(self, child: Child, ending: Ending) -> None:
        """Act on the end of a child that had to wait and did not come to be ready.

        Raises:
            StartError: the node was to start with it.

        """
        error = ending.error or errors.TreeError(NOT_READY)
        failure = errors.StartError(f"{self.path}/{child.name}", error)
        if ending.reason is Reason.IGNORED:
            self.ignore(child)
        elif child.is_unwanted or child.asked is not None:
            self.drop(child, failure)
        elif child.status is ChildStatus.STARTING:
            raise failure
        elif child.spec.restart == "temporary":
            self.drop(child)
        else:
            await self._count_restart(child, Ending(Reason.ABNORMAL, error))
            return
        await self.start_owed(child)

    def _shut_down_after(self, child: Child) -> None:
        """End the node if it was to end with this child."""
        match self.spec.auto_shutdown if child.spec.significant else "never":
            case "any_significant":
                self.finish(Ending(Reason.SHUTDOWN))
            case "all_significant" if not self._has_significant():
                self.finish(Ending(Reason.SHUTDOWN))

    def _has_significant(self) -> bool:
        """Return whether a significant child runs, or will again.

        As in OTP one does not that was stopped for the restart of a sibling which failed and is tried again at once;
        one does that was stopped for a restart which waits.
        """
        return any(
            child.spec.significant
            and (child.status is not ChildStatus.STOPPED or (child.owed_to is not None and child.owed_to.is_waiting))
            for child in self.children.values()
        )

    async def _count_restart(self, child: Child, ending: Ending) -> None:
        """Restart a child, now or after its backoff, if that is not one restart too many."""
        window = self._window if child.window is None else child.window
        loop = self.crew.report.loop
        child_path = f"{self.path}/{child.name}"
        path = self.path if child.window is None else child_path
        is_within = window.add(loop.time())
        self.crew.report.restart_counted(path, child.name, window)
        if not is_within:
            await self._give_up(child, path, window, ending)
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

    async def _give_up(self, child: Child, path: str, window: RestartWindow, ending: Ending) -> None:
        """End the node, or only the child if it has a limit of its own; its siblings are started again then."""
        self.crew.report.restart_limit_reached(path, window)
        self.drop(child)
        if child.window is None or (isinstance(child.spec, WorkerSpec) and child.spec.escalates):
            limit = errors.RestartLimitError(path, window.max_restarts, window.within, ending.error)
            self.finish(Ending(Reason.SHUTDOWN, limit))
        else:
            self._shut_down_after(child)
            await self.start_owed(child)

    async def _backoff_ended(self, child: Child) -> None:
        if child.timer is not None and self.has(child) and not child.is_unwanted:
            child.timer = None
            await self._restart(child)

    def _taken_along(self, child: Child) -> list[Child]:
        names = restarted_together(self.spec.strategy, self.children, child.name)
        children = (self.children[name] for name in names)
        return [other for other in children if other is child or not other.stays_down]

    async def _restart(self, child: Child) -> None:
        """Stop whom the strategy takes along, then start them all."""
        await self._stop_others(self._taken_along(child), child)
        await self._start_in_order(self._taken_along(child))

    async def _stop_others(self, children: Sequence[Child], child: Child | None) -> None:
        """Stop `children`, in reverse; forget those that are temporary. `child` keeps its state if it has ended."""
        for other in reversed(children):
            if other is not child or other.life is not None:
                other.owed_to = child if other.is_expected else None
                await self.stop_one(other)
            if other is not child and other.spec.restart == "temporary":
                self.forget(other)

    async def _start_in_order(self, children: Sequence[Child]) -> None:
        """Start `children`; one that fails is tried again by a message, and so do those follow that come after a wait.

        Of a failure those that come after it are not started: the next try starts them.
        """
        for number, child in enumerate(children, 1):
            if self.ending is not None:
                return
            if child.is_unwanted:
                self._leave_to_stop(child)
                continue
            try:
                is_started = await self.start_one(child)
            except errors.StartError as error:
                if error.is_called_off and not child.is_looping:
                    self._leave_to_stop(child)
                    continue
                if child.spec.restart == "temporary":
                    self.drop(child)
                    continue
                self._restart_later(child, Ending(Reason.ABNORMAL, error.error))
                await self._put_off(children[number:], child)
                return
            if is_started:
                continue
            if child.life is not None:
                child.status = ChildStatus.RESTARTING
                for later in children[number:]:
                    later.owed_to = child
                return
            self.ignore(child)

    async def start_owed(self, child: Child) -> None:
        """Start the children that the restart of this one stopped: it has come to them, or now never will."""
        if self.spec.strategy != "one_for_one":
            await self._start_in_order([other for other in self.children.values() if other.owed_to is child])

    async def _put_off(self, children: Sequence[Child], failed: Child) -> None:
        """Note that the restart of these failed before it came to them (supervisor.erl's `del_child` of who ended)."""
        for child in children:
            if child.is_expected:
                child.owed_to = failed
            if child.status is ChildStatus.RESTARTING:
                await self.stop_one(child)

    def _restart_later(self, child: Child, ending: Ending) -> None:
        """Let a child that did not start be restarted by a message of its own."""
        if self.ending is None:
            child.status = ChildStatus.RESTARTING
            child.is_looping = True
            self.post(self._try_again, child, ending)

    async def _try_again(self, child: Child, ending: Ending) -> None:
        """Restart a child, as in OTP also if it was restarted since, and that has failed as well."""
        is_waiting = child.status is ChildStatus.RESTARTING and child.timer is None and child.life is None
        if is_waiting and self.has(child) and not child.is_unwanted:
            await self._count_restart(child, ending)
