"""Clusters: the errors of a fleet grouped by kind and place, and its workers by where they wait. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import IN_FLIGHT, Row
from asyncwatch.model.services import Crash, ServiceHistory
from asyncwatch.slices import Work, for_each
from asyncwatch.text import code_place, error_kind

STEP = 256
"""Rows between two looks at the clock."""
_DETAIL = re.compile(r" \([^()]*\)$")
"""What differs from worker to worker in the status of an observed task: `(3 s)` of a sleep."""


class WaitKey(NamedTuple):
    """Where a worker waits: the identity of a cluster of such workers."""

    what: str
    """`client.py:88 fetch · Queue.get`, without the parts that differ from worker to worker."""
    callers: str
    """The lines that led there; empty if they are unknown."""


class Cluster(msgspec.Struct, frozen=True):
    """Workers whose last errors are of the same kind and come from the same place, or which wait in the same place."""

    kind: str
    """`Type: message` without the parts that differ from worker to worker; or `WaitKey.what`."""
    place: str
    """`file:line function` of the innermost frame outside of libraries, else of the innermost frame.

    Empty without a traceback, as for an injected fault, and for errors of asyncwatch's own HTTP target. Or
    `WaitKey.callers`.
    """
    rows: Sequence[Row]
    """In queue order. The first one is the example."""
    states: Mapping[WorkerState, int]
    """Workers by state, without empty states."""
    crashes: int = 0
    """Known crashes of services with this error, also of earlier incarnations."""
    last_at: float | None = None
    """When the last of them was, in seconds since the run started."""
    example: str = ""
    """The error of the example, if the present incarnation does not have it."""

    @property
    def key(self) -> tuple[str, str]:
        """Kind and place: the identity of the cluster."""
        return self.kind, self.place


class _Found:
    """What is known of a cluster so far."""

    __slots__ = ("crashes", "example", "last_at", "rows", "states")

    def __init__(self, example: str) -> None:
        self.rows: list[Row] = []
        self.states: dict[WorkerState, int] = {}
        self.crashes = 0
        self.last_at: float | None = None
        self.example = example

    def add(self, row: Row) -> None:
        if not self.rows or self.rows[-1] is not row:
            self.rows.append(row)
            self.states[row.state] = self.states.get(row.state, 0) + 1


class Clustering:
    """Groups the rows with an error that did not succeed, and the services that have crashed.

    `stack_of` is `Fleet.stack`, and `histories` are the crashes by worker. Without `stack_of`, rows whose attempt in
    flight says what it does are grouped by what it says.
    """

    def __init__(
        self,
        rows: Iterable[Row],
        stack_of: Callable[[str], str] | None,
        histories: Mapping[str, ServiceHistory] | None = None,
    ) -> None:
        self._rows = iter(rows)
        self._key_of = wait_key if stack_of is None else functools.partial(cluster_key, stack_of=stack_of)
        self._histories = histories or {}
        self._found: dict[tuple[str, str], _Found] = {}
        self.work: Work = for_each(self._group(), lambda _: None)
        """Groups rows in time slices."""

    def clusters(self) -> list[Cluster]:
        """Return the clusters found so far, the largest one first."""
        clusters = [
            Cluster(kind, place, found.rows, found.states, found.crashes, found.last_at, found.example)
            for (kind, place), found in self._found.items()
        ]
        return sorted(clusters, key=lambda cluster: (-len(cluster.rows), -cluster.crashes))

    def _group(self) -> Iterator[None]:
        found, key_of, histories = self._found, self._key_of, self._histories
        for number, row in enumerate(self._rows, start=1):
            key = key_of(row)
            if key is not None:
                if key not in found:
                    found[key] = _Found("")
                found[key].add(row)
            if histories and (history := histories.get(row.name)) is not None:
                for crash in history.crashes:
                    crashed = crash_key(crash)
                    if crashed not in found:
                        found[crashed] = _Found(crash.cause)
                    known = found[crashed]
                    known.add(row)
                    known.crashes += 1
                    known.last_at = max(crash.at, known.last_at or 0.0)
            if not number % STEP:
                yield


def cluster_key(row: Row, stack_of: Callable[[str], str]) -> tuple[str, str] | None:
    """Return the `Cluster.key` of the row's error; None without an error, or after a success."""
    if not row.error or row.state is WorkerState.SUCCEEDED:
        return None
    return _kind(row.error), code_place(stack_of(row.name))


def crash_key(crash: Crash) -> tuple[str, str]:
    """Return the `Cluster.key` of a crash."""
    return _kind(crash.cause), crash.place


def is_of_cluster(
    row: Row, key: tuple[str, str], stack_of: Callable[[str], str], histories: Mapping[str, ServiceHistory]
) -> bool:
    """Return whether the worker belongs to the cluster, by its error or by a crash."""
    if cluster_key(row, stack_of) == key:
        return True
    history = histories.get(row.name)
    return history is not None and any(crash_key(crash) == key for crash in history.crashes)


def wait_key(row: Row) -> WaitKey | None:
    """Return where the worker waits, by what its attempt in flight says; None if it says nothing."""
    return _wait(row.status) if row.status and row.state in IN_FLIGHT else None


@functools.lru_cache(maxsize=8192)
def _wait(status: str) -> WaitKey:
    what, _, callers = status.partition(" · from ")
    return WaitKey(_DETAIL.sub("", what), callers)


# A fleet has few different errors, and they are grouped again with every refresh.
_kind = functools.lru_cache(maxsize=8192)(error_kind)
