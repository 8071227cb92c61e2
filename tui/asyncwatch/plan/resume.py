"""A plan that goes on where a run broke off, or repeats what failed: the same plan, with some of its workers."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from itertools import compress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from asyncwatch.events import WorkerSucceeded
from asyncwatch.journal.identity import Keys
from asyncwatch.journal.resume import Comparison, Past, split_keys
from asyncwatch.journal.store import JournalError, RunJournal, RunStore
from asyncwatch.plan.keys import group_keys
from asyncwatch.plan.plan import Plan, PlannedGroup


class Resumption(Struct, frozen=True, kw_only=True):
    """What a launch has to know of the run that it resumes or repeats."""

    command: tuple[str, ...]
    """The arguments of the launch, without secrets."""
    root: str
    """The ID of the first run of the chain."""
    parent: str = ""
    """The ID of the run that is repeated; empty for a resume."""
    store: RunStore | None = None
    """The journal of the run that is resumed, locked; None for a new run."""
    run_again: frozenset[tuple[str, bytes]] = frozenset()
    """Group and key of the items that are done and are run again nevertheless."""
    before: tuple[Path, ...] = ()
    """The journals, the oldest first, whose done items have lines in the output file before all others."""
    done_before: int = 0

    @property
    def run_id(self) -> str:
        """The ID of the run that is resumed; empty for a new run."""
        return "" if self.store is None else self.store.path.stem

    def done_lines(self) -> Iterator[WorkerSucceeded]:
        """Yield the ends of what is done and is not run again. Each has a line in the output file.

        Raises:
            OSError: A journal cannot be read.

        """
        for path in self.before:
            try:
                with RunJournal(path) as journal:
                    yield from Past(journal).successes(self.run_again)
            except (JournalError, sqlite3.Error) as error:
                raise OSError(str(error)) from error


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
