"""A pool: OTP's simple_one_for_one."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence

import msgspec

from asyncwatch.engine.tree import errors, rules
from asyncwatch.engine.tree.child import Child, ChildCounts, ChildStatus
from asyncwatch.engine.tree.crew import Crew
from asyncwatch.engine.tree.node import Node, Started
from asyncwatch.engine.tree.specs import ChildSpec, NodeSpec, PoolSpec


class Pool(Node):
    """A supervisor of any number of children of one template, told apart by keys, and stopped all at once.

    A child has no spec of its own that could be kept: whoever ends for good is forgotten.
    """

    spec: PoolSpec

    def __init__(self, spec: PoolSpec, path: str, parent: str, crew: Crew) -> None:
        super().__init__(spec, path, parent, crew)
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def strategy(self) -> str:
        """OTP's word for it."""
        return "simple_one_for_one"

    def initial(self) -> Sequence[ChildSpec]:
        """Return the specs of the children that it starts with."""
        return [self.spec.child(key, args) for key, args in self.spec.initial]

    def forgets(self, child: Child) -> bool:  # noqa: ARG002  it is the same for all
        """Return True: nothing is kept of any child."""
        return True

    def find(self, name: str) -> Child:
        """Return the child of that key.

        Raises:
            NotFound: there is none.
            SimpleOneForOne: it is the template's name.

        """
        if name not in self.children and name == self.spec.template.name:
            raise errors.SimpleOneForOne(f"{self.shown} is a pool: {name!r} is its template, and no child of it")
        return super().find(name)

    def count_children(self) -> ChildCounts:
        """Return one spec, and how many children there are of it."""
        counts = super().count_children()
        return msgspec.structs.replace(counts, specs=1)

    async def start_keyed(self, key: str | None, args: tuple[object, ...]) -> Started:
        """Start a child of the template under `key` (None: the next number), with `args` after the template's."""
        name = self._next_number() if key is None else key
        rules.check_key(name)
        present = self.children.get(name)
        if present is not None:
            raise errors.AlreadyStarted(f"{self.shown} has a child {name!r} already; it is {present.status}")
        return await self.add(Child(self.spec.child(name, args), self.path))

    async def restart_child(self, name: str) -> Started:
        """Refuse that."""
        raise errors.SimpleOneForOne(f"{self.shown} is a pool: it restarts no child ({name!r}) by request")

    async def delete_child(self, name: str) -> None:
        """Refuse that."""
        raise errors.SimpleOneForOne(f"{self.shown} is a pool: it has no spec of a child ({name!r}) to delete")

    async def stop_all(self) -> None:
        """End all children at once, under one timer: it takes as long as the slowest, and never longer than that."""
        children = list(self.children.values())
        loop = self.crew.report.loop
        patience = self._patience()
        for child in children:
            child.stop_timer()
            if child.life is None:
                await self.stop_one(child)
                continue
            child.status = ChildStatus.STOPPING
            child.life.stop(self.stop_reason, patience if patience == 0 else math.inf)
        if 0 < patience < math.inf and self._timer is None:
            self._timer = loop.call_later(patience, self.hasten)
        for child in children:
            if child.life is not None:
                await child.life.over()
                child.life = None
                child.status = ChildStatus.STOPPED
        if self._timer is not None:
            self._timer.cancel()

    def _patience(self) -> float:
        shutdown = self.spec.template.shutdown
        return 0.0 if self._is_hurried else self.crew.grace if shutdown is None else shutdown

    def _next_number(self) -> str:
        return next(key for key in map(str, self._numbers) if key not in self.children)


def make_node(spec: NodeSpec, path: str, parent: str, crew: Crew) -> Node:
    """Return the node for a spec; it is not started."""
    return Pool(spec, path, parent, crew) if isinstance(spec, PoolSpec) else Node(spec, path, parent, crew)
