"""What distinguishes a pool, OTP's simple_one_for_one, from other supervisors."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Collection, Container

from asyncwatch.engine.tree.child import Child, ChildStatus
from asyncwatch.engine.tree.errors import SimpleOneForOne
from asyncwatch.engine.tree.specs import ChildSpec, PoolSpec
from asyncwatch.engine.worker import StopReason

STRATEGY = "simple_one_for_one"
"""OTP's word for how a pool restarts."""


class Pool:
    """The part of a node that has a pool's rules: all children have one spec, and nothing is kept of ended ones.

    `shown` is what the pool is called in errors.
    """

    def __init__(self, spec: PoolSpec, shown: str) -> None:
        self.spec = spec
        self._shown = shown
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None

    def initial(self) -> list[ChildSpec]:
        """Return the specs of the initial children."""
        return [self.spec.child(key, args) for key, args in self.spec.initial]

    def next_key(self, taken: Container[str]) -> str:
        """Return the next number that is no child's key."""
        return next(key for key in map(str, self._numbers) if key not in taken)

    def refuse(self, action: str) -> SimpleOneForOne:
        """Return the error of a request about a child that only another supervisor can fulfil."""
        return SimpleOneForOne(f"{self._shown} is a pool: {action}")

    async def stop_all(
        self,
        children: Collection[Child],
        reason: StopReason,
        patience: float,
        hasten: Callable[[], None],
        stop_one: Callable[[Child], Awaitable[None]],
    ) -> None:
        """Stop all children at once, under one timer.

        It takes as long as the slowest child, and at most `patience` seconds; then `hasten` is called. `stop_one` stops
        a child that has no incarnation.
        """
        for child in children:
            child.stop_timer()
            if child.current is None:
                await stop_one(child)
                continue
            child.status = ChildStatus.STOPPING
            child.current.stop(reason, patience if patience == 0 else math.inf)
        if 0 < patience < math.inf and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(patience, hasten)
        for child in children:
            if child.current is not None:
                await child.current.progress.ended()
                child.current = None
                child.status = ChildStatus.STOPPED
        if self._timer is not None:
            self._timer.cancel()
