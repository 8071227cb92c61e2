"""A plan that goes on where a run broke off, or repeats what failed: the same plan, with some of its workers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from msgspec.structs import replace

from asyncwatch.journal.identity import Keys
from asyncwatch.journal.resume import Comparison, Past, Resumption, split_keys
from asyncwatch.plan.keys import group_keys
from asyncwatch.plan.plan import Plan, PlannedGroup


def batch_of(plan: Plan) -> list[PlannedGroup]:
    """Return the groups whose workers are the items of the run."""
    return [group for group in plan.groups if not group.settings.is_supervised]


def compare(plan: Plan, past: Past) -> tuple[Comparison, list[Keys]]:
    """Return how the workers of a plan compare with the past of a run, and the keys of each group of the batch."""
    groups = batch_of(plan)
    keys = [group_keys(group) for group in groups]
    names = [group.settings.name for group in groups]
    return Comparison(past, list(zip(names, keys, strict=True))), keys


def narrowed(plan: Plan, keys: list[Keys], chosen: list[list[bool]], resumption: Resumption) -> Plan:
    """Return the plan with the chosen workers of each group of the batch, whose keys are given."""
    groups = []
    of_batch = iter(zip(keys, chosen, strict=True))
    for group in plan.groups:
        if group.settings.is_supervised:
            groups.append(group)
            continue
        all_keys, choice = next(of_batch)
        groups.append(_chosen(group, all_keys, choice))
    return replace(plan, groups=tuple(groups), resumption=resumption)


def _chosen(group: PlannedGroup, keys: Keys, choice: Sequence[bool]) -> PlannedGroup:
    left = list(compress(split_keys(keys), choice))
    return replace(
        group,
        names=list(compress(group.names, choice)),
        items=None if group.items is None else list(compress(group.items, choice)),
        given=None if group.given is None else list(compress(group.given, choice)),
        keys=Keys(b"".join(key for key, _ in left), b"".join(content for _, content in left)),
    )
