"""Those who wait for one key: its circuit, or its rate. Pure."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from asyncwatch.supervise.worker import Worker


class Aside:
    """Those who wait for one key: first those that have begun, each in the order in which they came."""

    __slots__ = ("_begun", "_new", "reason")

    def __init__(self, reason: str) -> None:
        self.reason = reason
        """What they wait for: `circuit` or `rate`."""
        self._begun: OrderedDict[Worker, None] = OrderedDict()
        self._new: OrderedDict[Worker, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._begun) + len(self._new)

    def __iter__(self) -> Iterator[Worker]:
        yield from self._begun
        yield from self._new

    def add(self, worker: Worker) -> None:
        """Put a worker behind those of its kind."""
        (self._begun if worker.attempt else self._new)[worker] = None

    def put_first(self, worker: Worker) -> None:
        """Put a worker, which may stand there already, before all others."""
        self.remove(worker)
        self._begun[worker] = None
        self._begun.move_to_end(worker, last=False)

    def remove(self, worker: Worker) -> None:
        """Take a worker out, if it is there."""
        self._begun.pop(worker, None)
        self._new.pop(worker, None)

    def is_ahead_of(self, worker: Worker) -> bool:
        """Return whether anybody stands before the place that the worker would get."""
        return bool(self._begun or (self._new and not worker.attempt))
