"""Errors that are one: the same kind (type and message but for its numbers and URLs), raised in the same place."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from asyncwatch.events import WorkerState
from asyncwatch.model.error_text import error_kind
from asyncwatch.model.row import Row

STEP = 256
"""Rows between two looks at the time."""
_LIBRARY = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python3[.]\d+|Lib)[/\\]|^<frozen ")
_OWN_TARGET = re.compile(r"[/\\]asyncwatch[/\\]targets[/\\]")
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


class Cluster(msgspec.Struct, frozen=True):
    """Workers whose last error is of the same kind and comes from the same place."""

    kind: str
    """`Type: message` without what differs from worker to worker."""
    place: str
    """`file:line function` of the innermost frame that is of no library, else of the innermost one at all.

    Empty where there is none, as for an injected fault, and for what a request of asyncwatch's own raised.
    """
    rows: Sequence[Row]
    """In the order of the fleet; the first one serves as the example."""
    states: Mapping[WorkerState, int]
    """How many of them are in each state, without those that none is in."""

    @property
    def key(self) -> tuple[str, str]:
        """What tells one cluster from another."""
        return self.kind, self.place


class Clustering:
    """Groups the rows that have an error and did not succeed, in steps: there may be very many.

    `stack_of` gives the last traceback of a worker by its name, as `Fleet.stack` does.
    """

    def __init__(self, rows: Iterable[Row], stack_of: Callable[[str], str]) -> None:
        self._rows = iter(rows)
        self._stack_of = stack_of
        self._found: dict[tuple[str, str], tuple[list[Row], dict[WorkerState, int]]] = {}

    def go_on(self, is_time_up: Callable[[], bool]) -> bool:
        """Take in rows until time is up; return whether there may be more."""
        found, stack_of = self._found, self._stack_of
        while some := tuple(itertools.islice(self._rows, STEP)):
            for row in some:
                key = cluster_key(row, stack_of)
                if key is None:
                    continue
                if key not in found:
                    found[key] = [], {}
                rows, states = found[key]
                rows.append(row)
                states[row.state] = states.get(row.state, 0) + 1
            if is_time_up():
                return True
        return False

    def clusters(self) -> list[Cluster]:
        """Return what was found, the largest cluster first."""
        clusters = [Cluster(kind, place, rows, states) for (kind, place), (rows, states) in self._found.items()]
        return sorted(clusters, key=lambda cluster: -len(cluster.rows))


def cluster_key(row: Row, stack_of: Callable[[str], str]) -> tuple[str, str] | None:
    """Return the `Cluster.key` of the row's error; None if it has none, or succeeded."""
    if not row.error or row.state is WorkerState.SUCCEEDED:
        return None
    return _kind(row.error), _place(stack_of(row.name))


# The errors of a fleet are few texts, asked for again with every picture.
_kind = functools.lru_cache(maxsize=8192)(error_kind)


@functools.lru_cache(maxsize=1024)
def _place(stack: str) -> str:
    frames = _FRAME.findall(stack)
    if not frames:
        return ""
    others = [frame for frame in frames if not _LIBRARY.search(frame[0]) and not _OWN_TARGET.search(frame[0])]
    if not others and any(_OWN_TARGET.search(file) for file, _, _ in frames):
        return ""
    file, line, function = (others or frames)[-1]
    return f"{file}:{line} {function}"
