"""The keys of a plan's items: for the journal of the run, and for the idempotency keys of its workers."""

from __future__ import annotations

import bisect
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from asyncwatch.engine.worker import Worker
from asyncwatch.journal.identity import Keys, idempotency_key, keys_of
from asyncwatch.journal.store import KEY_SIZE, ItemKeys, parts_of
from asyncwatch.plan.plan import Plan, PlannedGroup


def group_keys(group: PlannedGroup) -> Keys:
    """Return the keys of the workers of a group. A worker without an item is known by its name."""
    if group.keys is not None:
        return group.keys
    if group.items is None:
        return keys_of([None] * len(group.names), group.names)
    return keys_of(group.items, group.given)


class WorkerKeys:
    """The keys of a plan's workers, by which a later run knows them again. They are made when they are first needed.

    The index of a worker is its position in the order in which workers are queued. Supervised ones have none.
    """

    def __init__(self, plan: Plan) -> None:
        self.root = "" if plan.resumption is None else plan.resumption.root
        """The ID of the run, or of the first one that it repeats. Set it before the run starts."""
        self._groups = [group for group in plan.groups if not group.settings.is_supervised and group.live is None]
        ends = list(itertools.accumulate(len(group.names) for group in self._groups))
        self._firsts = [0, *ends]
        self._known: dict[int, Keys] = {}
        self._lock = threading.Lock()
        self._joined: list[tuple[str, Keys]] = []
        self._seen: dict[str, dict[bytes, int]] = {}

    def planned(self) -> Iterator[ItemKeys]:
        """Yield the keys of the workers that are known before the run starts, from any thread."""
        for place, group in enumerate(self._groups):
            yield from parts_of(self._firsts[place], group.settings.name, *self._of_group(place))

    def join(self, group: str, items: Sequence[Any], given: Sequence[str]) -> list[ItemKeys]:
        """Return the keys of items of a pipe that join the run; see `plan.feed.OnItems`."""
        first = self._firsts[-1]
        keys = keys_of(items, given if any(given) else None, self._seen.setdefault(group, {}))
        self._firsts.append(first + len(items))
        self._joined.append((group, keys))
        return list(parts_of(first, group, *keys))

    def __call__(self, worker: Worker) -> str:
        """Return the idempotency key of a worker."""
        group, index = worker.spec.group, worker.index
        if not 0 <= index < self._firsts[-1]:
            return idempotency_key(self.root, group, keys_of([None], [worker.name]).keys)
        place = bisect.bisect_right(self._firsts, index) - 1
        planned = len(self._groups)
        keys = self._of_group(place).keys if place < planned else self._joined[place - planned][1].keys
        at = (index - self._firsts[place]) * KEY_SIZE
        return idempotency_key(self.root, group, keys[at : at + KEY_SIZE])

    def _of_group(self, place: int) -> Keys:
        with self._lock:
            if place not in self._known:
                self._known[place] = group_keys(self._groups[place])
            return self._known[place]
