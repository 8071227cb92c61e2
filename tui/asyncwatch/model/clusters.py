"""Errors that are one: the same kind (type and message but for its numbers and URLs), raised in the same place."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import msgspec

from asyncwatch.events import WorkerState
from asyncwatch.model.error_text import error_kind
from asyncwatch.model.row import Row

_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


class Cluster(msgspec.Struct, frozen=True):
    """Workers whose last error is of the same kind and comes from the same place."""

    kind: str
    """`Type: message` without what differs from worker to worker."""
    place: str
    """`file:line function` of the innermost frame; empty where there is none, as for an injected fault."""
    rows: tuple[Row, ...]
    """In the order of the fleet; the first one serves as the example."""

    @property
    def key(self) -> tuple[str, str]:
        """What tells one cluster from another."""
        return self.kind, self.place


def cluster_errors(rows: Iterable[Row], stack_of: Callable[[str], str]) -> list[Cluster]:
    """Group the rows that have an error and did not succeed, the largest cluster first.

    `stack_of` gives the last traceback of a worker by its name, as `Fleet.stack` does.
    """
    members: dict[tuple[str, str], list[Row]] = {}
    places: dict[str, str] = {}
    for row in rows:
        if not row.error or row.state is WorkerState.SUCCEEDED:
            continue
        stack = stack_of(row.name)
        if stack not in places:
            places[stack] = _place(stack)
        members.setdefault((error_kind(row.error), places[stack]), []).append(row)
    clusters = [Cluster(kind, place, tuple(found)) for (kind, place), found in members.items()]
    return sorted(clusters, key=lambda cluster: -len(cluster.rows))


def _place(stack: str) -> str:
    frames = _FRAME.findall(stack)
    if not frames:
        return ""
    file, line, function = frames[-1]
    return f"{file}:{line} {function}"
