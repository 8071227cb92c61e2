"""The keys of a plan's items, in the order in which their workers are queued, for the journal of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from asyncwatch.journal.identity import keys_of
from asyncwatch.journal.store import ItemKeys, parts_of
from asyncwatch.plan.plan import Plan


def item_keys(plan: Plan) -> Iterator[ItemKeys]:
    """Yield the keys of the items that are known before the run starts. Workers without items have none."""
    first = 0
    for group in plan.groups:
        if group.settings.is_supervised or group.live is not None:
            continue
        if group.items is not None:
            yield from parts_of(first, group.settings.name, *keys_of(group.items))
        first += len(group.names)


class LiveKeys:
    """Makes the keys of items that are read from a pipe while the run goes on.

    Call it with the items that join a group, in the order in which their workers are queued.
    """

    def __init__(self, plan: Plan) -> None:
        batch = [group for group in plan.groups if not group.settings.is_supervised and group.live is None]
        self._next = sum(len(group.names) for group in batch)

    def __call__(self, group: str, items: Sequence[Any]) -> list[ItemKeys]:
        """Return the keys of `items`."""
        first = self._next
        self._next += len(items)
        return list(parts_of(first, group, *keys_of(items)))
