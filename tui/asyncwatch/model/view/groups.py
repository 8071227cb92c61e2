"""Clusters: the errors of a fleet grouped by kind and place. Pure."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.slices import Work, for_each
from asyncwatch.text import error_kind

STEP = 256
"""Rows between two looks at the clock."""
_LIBRARY = re.compile(r"[/\\](site-packages|dist-packages|lib[/\\]python3[.]\d+|Lib)[/\\]|^<frozen ")
_OWN_TARGET = re.compile(r"[/\\]asyncwatch[/\\]targets[/\\]")
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in (.+)$', re.MULTILINE)


class Cluster(msgspec.Struct, frozen=True):
    """Workers whose last errors are of the same kind and come from the same place."""

    kind: str
    """`Type: message` without the parts that differ from worker to worker."""
    place: str
    """`file:line function` of the innermost frame outside of libraries, else of the innermost frame.

    Empty without a traceback, as for an injected fault, and for errors of asyncwatch's own HTTP target.
    """
    rows: Sequence[Row]
    """In queue order. The first one is the example."""
    states: Mapping[WorkerState, int]
    """Workers by state, without empty states."""

    @property
    def key(self) -> tuple[str, str]:
        """Kind and place: the identity of the cluster."""
        return self.kind, self.place


class Clustering:
    """Groups the rows with an error that did not succeed. `stack_of` is `Fleet.stack`."""

    def __init__(self, rows: Iterable[Row], stack_of: Callable[[str], str]) -> None:
        self._rows = iter(rows)
        self._stack_of = stack_of
        self._found: dict[tuple[str, str], tuple[list[Row], dict[WorkerState, int]]] = {}
        self.work: Work = for_each(self._group(), lambda _: None)
        """Groups rows in time slices."""

    def clusters(self) -> list[Cluster]:
        """Return the clusters found so far, the largest one first."""
        clusters = [Cluster(kind, place, rows, states) for (kind, place), (rows, states) in self._found.items()]
        return sorted(clusters, key=lambda cluster: -len(cluster.rows))

    def _group(self) -> Iterator[None]:
        found, stack_of = self._found, self._stack_of
        for number, row in enumerate(self._rows, start=1):
            key = cluster_key(row, stack_of)
            if key is not None:
                if key not in found:
                    found[key] = [], {}
                rows, states = found[key]
                rows.append(row)
                states[row.state] = states.get(row.state, 0) + 1
            if not number % STEP:
                yield


def cluster_key(row: Row, stack_of: Callable[[str], str]) -> tuple[str, str] | None:
    """Return the `Cluster.key` of the row's error; None without an error, or after a success."""
    if not row.error or row.state is WorkerState.SUCCEEDED:
        return None
    return _kind(row.error), _place(stack_of(row.name))


# A fleet has few different errors, and they are grouped again with every refresh.
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
