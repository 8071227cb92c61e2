"""The tree of one run: its root, its registry of running supervisors, and how it starts and ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence

from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.tree.child import Child, Ending
from asyncwatch.engine.tree.errors import NoSuchSupervisor
from asyncwatch.engine.tree.node import Node
from asyncwatch.engine.tree.scheduling import ServiceScheduler
from asyncwatch.engine.tree.specs import ChildSpec, PoolSpec, SupervisorSpec
from asyncwatch.engine.tree.supervisors import SupervisorRegistry
from asyncwatch.engine.worker import FORGOTTEN, StopReason
from asyncwatch.events.tree import ROOT
from asyncwatch.policies.restart import Reason


class Tree:
    """The supervisors of one run. `launch` it once the run has started, then await `start`."""

    def __init__(self, spec: SupervisorSpec, scheduler: ServiceScheduler) -> None:
        self.ending: Ending | None = None
        """How the root ended, once no worker of the tree runs any more."""
        self._spec = spec
        self._scheduler = scheduler
        self._registry: SupervisorRegistry[Node] = SupervisorRegistry()
        self._root = Node(spec, ROOT, "", scheduler, self._registry)
        self._expects_signals = False
        self._is_launched = False
        self._is_up = False
        self._waiters: list[asyncio.Future[None]] = []
        self.can_start_again = False
        """Whether a person can start the root again once it has ended: the run stays open."""

    def worker_count(self) -> int:
        """Return how many workers the tree has when it is up."""
        return _count_workers(self._spec.children)

    def worker_specs(self) -> Iterator[WorkerSpec]:
        """Yield the specs of all workers, and the templates of pools."""
        return _worker_specs(self._spec.children)

    @property
    def running(self) -> int:
        """How many supervisors run."""
        return len(self._registry.running)

    # Start and end

    def launch(self) -> None:
        """Start the root, which starts its children in the next loop iterations. If this raises, the tree has ended."""
        self._is_launched = True
        try:
            self._root.start(self)
        except BaseException as fault:
            self.has_ended(Ending(Reason.ABNORMAL, fault))
            raise

    async def start(self) -> None:
        """Return when all children are ready, or the tree was stopped.

        Raises:
            StartError: a child did not start; those before it have been stopped.
            RuntimeError: the tree was never launched.

        """
        if not self._is_launched:
            raise RuntimeError("the tree has not been launched")
        while not self._is_up and self.ending is None:
            await self._change()
        if not self._is_up and self.ending is not None and self.ending.error is not None:
            raise self.ending.error

    def start_again(self, incarnation: int) -> str:
        """Start the root again after it has ended, for a person; return why that is refused, or ""."""
        if reason := self._registry.why_stale(ROOT, incarnation):
            return reason
        self._registry.revive(ROOT)
        self._is_up, self.ending = False, None
        self._root = Node(self._spec, ROOT, "", self._scheduler, self._registry)
        try:
            self.launch()
        except Exception as fault:  # its end was noted
            return Ending(Reason.ABNORMAL, fault).cause
        self._notify()
        return ""

    async def started_again(self) -> None:
        """Return when the root, which has ended, was started again."""
        while self.ending is not None:
            await self._change()

    async def over(self) -> Ending:
        """Return how the root ended, when it has."""
        while self.ending is None:
            await self._change()
        return self.ending

    def expect_signals(self) -> None:
        """Restart no child once the tree is to end. Otherwise, as in OTP, each supervisor does until it is stopped."""
        self._expects_signals = True

    def request_stop(self, reason: StopReason) -> None:
        """Request that the whole tree ends."""
        self._registry.is_stopping = self._expects_signals
        self._root.stop(reason)

    def hasten(self) -> None:
        """Request that the whole tree ends, and give its workers no more time to."""
        self._registry.is_stopping = self._expects_signals
        self._root.hasten()

    async def stop(self, reason: StopReason) -> None:
        """End the whole tree, however often the caller is cancelled meanwhile; then pass that on.

        This always returns: the root reports its end however its task ends.
        """
        try:
            self.request_stop(reason)
        finally:
            if not self._is_launched:
                self.has_ended(Ending(Reason.SHUTDOWN))
            await self._end()

    def break_off(self) -> None:
        """End all supervisors without waiting for their children: the run makes no progress."""
        if not self._registry.is_broken_off:
            self._registry.is_broken_off = True
            for node in list(self._registry.running.values()):
                node.break_off()

    async def _end(self) -> None:
        cancellation: asyncio.CancelledError | None = None
        while self.ending is None:
            try:
                await self._change()
            except asyncio.CancelledError as error:
                cancellation = error
        if cancellation is not None:
            raise cancellation

    # Its supervisors

    def find(self, under: str | None) -> Node:
        """Return a running supervisor.

        `under` is its path (`root/a/b` or `a/b`), its name if no other running supervisor has it, or None for the root.

        Raises:
            NoSuchSupervisor: none or several match.

        """
        nodes = self._registry.running
        path = under or ROOT
        node = nodes.get(path) or nodes.get(f"{ROOT}/{path}")
        if node is not None:
            return node
        named = [node for node in nodes.values() if node.spec.name == path]
        if len(named) == 1:
            return named[0]
        if named:
            paths = ", ".join(node.path for node in named)
            raise NoSuchSupervisor(f"several supervisors are named {path!r}: {paths}")
        if self.ending is not None:
            raise NoSuchSupervisor(
                f"no supervisor runs: the tree has ended ({self.ending.cause})"
            ) from self.ending.error
        name = path.rpartition("/")[2]
        above = [node.path for node in nodes.values() if name in node.children and node.children[name].kind == "worker"]
        what = f": that is a worker of {above[0]}" if above else ""
        raise NoSuchSupervisor(f"there is no running supervisor {path!r}{what}")

    def cancel_branch(self, path: str, incarnation: int) -> str | None:
        """Stop a supervisor, or all children of the root, for a person.

        Return "" if that was requested, else why it is refused; None if `path` is not the path of a supervisor.
        """
        found = self._find_child(path, incarnation)
        if found is None or isinstance(found, str):
            return found
        node, child = found
        if child is not None:
            return node.cancel_for_person(child)
        node.cancel_all_for_person()
        return ""

    def restart_branch(self, path: str, incarnation: int) -> str | None:
        """Restart a supervisor, or all children of the root, for a person; return as `cancel_branch` does."""
        found = self._find_child(path, incarnation)
        if found is None or isinstance(found, str):
            return found
        node, child = found
        if child is not None:
            return node.restart_for_person(child)
        node.restart_all_for_person()
        return ""

    def _find_child(self, path: str, incarnation: int) -> tuple[Node, Child | None] | str | None:
        """Return a supervisor as a child of the one above, or the root; else as `cancel_branch` does."""
        if path != ROOT and not path.startswith(f"{ROOT}/"):
            return None
        above, _, name = path.rpartition("/")
        node = self._registry.running.get(above or ROOT)
        if node is None:
            return self._registry.why_gone(above or ROOT)
        child = node.children.get(name) if above else None
        if above and (child is None or child.kind != "supervisor"):
            return FORGOTTEN if self._registry.has_ended(path) else "there is no such supervisor"
        return self._registry.why_stale(path, incarnation) or (node, child)

    # The owner of the root

    def became_ready(self, value: object) -> None:  # noqa: ARG002  the root announces nothing
        """Note that all children have started."""
        self._is_up = True
        self._notify()

    def waits(self) -> None:
        """Note that a worker has to wait before all have started: so does `start`."""

    def has_ended(self, ending: Ending) -> None:
        """Note that the root has ended; the first ending counts."""
        self.ending = self.ending or ending
        self._notify()

    async def _change(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    def _notify(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _count_workers(children: Sequence[ChildSpec]) -> int:
    workers = 0
    for child in children:
        if isinstance(child, WorkerSpec):
            workers += 1
        elif isinstance(child, PoolSpec):
            workers += len(child.initial) * _count_workers((child.template,))
        else:
            workers += _count_workers(child.children)
    return workers


def _worker_specs(children: Iterable[ChildSpec]) -> Iterator[WorkerSpec]:
    for child in children:
        if isinstance(child, WorkerSpec):
            yield child
        else:
            yield from _worker_specs((child.template,) if isinstance(child, PoolSpec) else child.children)
