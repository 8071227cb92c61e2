"""The keys of a plan's items, in the order in which their workers are queued, for the journal of the run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from asyncwatch.journal.identity import Keys, keys_of
from asyncwatch.journal.store import ItemKeys, parts_of
from asyncwatch.plan.plan import Plan, PlannedGroup


def group_keys(group: PlannedGroup) -> Keys:
    """Return the keys of the workers of a group. A worker without an item is known by its name."""
    if group.keys is not None:
        return group.keys
    if group.items is None:
        return keys_of([None] * len(group.names), group.names)
    return keys_of(group.items, group.given)


def item_keys(plan: Plan) -> Iterator[ItemKeys]:
    """Yield the keys of the workers that are known before the run starts, except supervised ones."""
    first = 0
    for group in plan.groups:
        if group.settings.is_supervised or group.live is not None:
            continue
        yield from parts_of(first, group.settings.name, *group_keys(group))
        first += len(group.names)


class LiveKeys:
    """Makes the keys of items that are read from a pipe while the run goes on.

    Call it with the items that join a group, in the order in which their workers are queued.
    """

    def __init__(self, plan: Plan) -> None:
        batch = [group for group in plan.groups if not group.settings.is_supervised and group.live is None]
        self._next = sum(len(group.names) for group in batch)
        self._seen: dict[str, dict[bytes, int]] = {}

    def __call__(self, group: str, items: Sequence[Any], given: Sequence[str]) -> list[ItemKeys]:
        """Return the keys of `items`, which have these names in their source."""
        first = self._next
        self._next += len(items)
        keys = keys_of(items, given if any(given) else None, self._seen.setdefault(group, {}))
        return list(parts_of(first, group, *keys))
