"""What of an error line, `Type: message`, tells most, and what of it errors of one kind have in common."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row

# aiohttp's `ClientResponseError.__str__`: the worker's name says the URL already.
_RESPONSE = re.compile(
    r"(?P<type>\w+): (?P<status>\d{3}), message=(?P<q>['\"])(?P<message>.*?)(?P=q), url=.*", re.DOTALL
)
_PLACES = re.compile(
    r"""
      \b[a-z][a-z0-9+.-]*://[^\s'"<>]*            # a URL
    | \b[\w-]+(?:\.[\w-]+)*:\d+\b                 # a host and its port
    | \b0x[0-9a-f]+\b
    | \d+(?:[.,:]\d+)*                            # a number, a time, an address
    """,
    re.VERBOSE | re.IGNORECASE,
)


def brief_error(error: str) -> str:
    """Return an error line with what tells most in front: for an HTTP response its status, `404 Not Found`."""
    response = _RESPONSE.fullmatch(error)
    if response is None:
        return error
    told = f"{response['status']} {response['message']}".rstrip()
    return told if response["type"] == "ClientResponseError" else f"{told} ({response['type']})"


def error_kind(error: str) -> str:
    """Return what error lines of the same kind share: URLs, hosts with ports and numbers are taken out.

    The status of an HTTP response stays: it is a kind of its own.
    """
    response = _RESPONSE.fullmatch(error)
    if response is not None:
        return f"{response['type']}: {response['status']} {response['message']}".rstrip()
    error_type, colon, message = error.partition(": ")
    return error_type + colon + _PLACES.sub("…", message)


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
