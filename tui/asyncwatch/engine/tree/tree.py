"""A whole tree: its root, how one finds a supervisor in it, and how it starts and ends with a run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator

from asyncwatch.engine.scheduler import StopReason
from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.tree.crew import Crew
from asyncwatch.engine.tree.errors import NoSuchSupervisor
from asyncwatch.engine.tree.life import Ending
from asyncwatch.engine.tree.node import Node
from asyncwatch.engine.tree.specs import ChildSpec, PoolSpec, SupervisorSpec
from asyncwatch.events.tree import ROOT
from asyncwatch.policies.restart import Reason


class Tree:
    """The supervisors of one run. It is told by the root what becomes of it."""

    def __init__(self, spec: SupervisorSpec, crew: Crew) -> None:
        self.ending: Ending | None = None
        """How the root ended, once no worker of the tree runs any more."""
        self._crew = crew
        self._root = Node(spec, ROOT, "", crew)
        self._is_up = False
        self._changes: list[asyncio.Future[None]] = []

    async def start(self, run: str) -> None:
        """Start the run called `run` and the children in order; return when all are ready, or the tree was stopped.

        Raises:
            StartError: a child did not start; those before it have been stopped.

        """
        crew = self._crew
        if not crew.report.is_started and self.ending is None:
            try:
                children = self._root.initial()
                crew.begin(run, _count_workers(children), time.time(), _worker_specs(children))
                self._root.start(self)
            except BaseException as fault:
                self.has_ended(Ending(Reason.ABNORMAL, fault))
                raise
            crew.announce_batch()  # below the tree
        while not self._is_up and self.ending is None:
            await self._change()
        if not self._is_up and self.ending is not None and self.ending.error is not None:
            raise self.ending.error

    async def over(self) -> Ending:
        """Return how the root ended, when it has."""
        while self.ending is None:
            await self._change()
        return self.ending

    def request_stop(self, reason: StopReason) -> None:
        """Ask the whole tree to end."""
        self._root.stop(reason)

    def hasten(self) -> None:
        """Ask the whole tree to end, with no more time for anybody."""
        self._root.hasten()

    async def stop(self, reason: StopReason) -> None:
        """End the whole tree, however often the caller is cancelled meanwhile; then pass that on.

        This always ends: the root reports its end however its task ends.
        """
        try:
            self.request_stop(reason)
        finally:
            await self._end()

    async def _end(self) -> None:
        cancellation: asyncio.CancelledError | None = None
        while self.ending is None:
            try:
                await self._change()
            except asyncio.CancelledError as error:
                cancellation = error
        if cancellation is not None:
            raise cancellation

    def find(self, under: str | None) -> Node:
        """Return a running supervisor: by its path (`root/a/b` or `a/b`) or a name only one has; None: the root.

        Raises:
            NoSuchSupervisor: there is none, or there are several of that name.

        """
        nodes = self._crew.branches.running
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
        name = path.rpartition("/")[2]
        above = [node.path for node in nodes.values() if name in node.children and node.children[name].kind == "worker"]
        what = f": that is a worker of {above[0]}" if above else ""
        raise NoSuchSupervisor(f"no supervisor {path!r} runs{what}")

    def became_ready(self, value: object) -> None:  # noqa: ARG002  the root has nothing to say
        """Note that all children have started."""
        self._is_up = True
        self._tell()

    def waits(self) -> None:
        """Note that a worker has to wait before all have started: so does `start`."""

    def has_ended(self, ending: Ending) -> None:
        """Note that the root has ended; the first ending counts."""
        self.ending = self.ending or ending
        self._tell()

    async def _change(self) -> None:
        change = self._crew.report.loop.create_future()
        self._changes.append(change)
        await change

    def _tell(self) -> None:
        changes, self._changes = self._changes, []
        for change in changes:
            if not change.done():
                change.set_result(None)


def _count_workers(children: Iterable[ChildSpec]) -> int:
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
    """Yield the specs of all workers, and those of which pools make theirs."""
    for child in children:
        if isinstance(child, WorkerSpec):
            yield child
        else:
            yield from _worker_specs((child.template,) if isinstance(child, PoolSpec) else child.children)
