"""One branch of a run: a supervisor, a pool, or a group of a batch; and the restarts that count for a limit. Pure."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from asyncwatch.events import RestartCounted, WorkerState

_POOL = "simple_one_for_one"


class Gauge(NamedTuple):
    """How many restarts are `left` of how many, and after how many seconds the oldest counts no more (None: none)."""

    left: int
    of: int
    expires_in: float | None


class Window:
    """The restarts that count, by their times, as the supervisor told them."""

    __slots__ = ("max_restarts", "times", "within")

    def __init__(self) -> None:
        self.times: deque[float] = deque()
        self.max_restarts = 0
        self.within = 0.0

    def add(self, event: RestartCounted) -> None:
        """Take in one more restart."""
        self.max_restarts, self.within = event.max_restarts, event.within
        self.times.append(event.at)
        # The supervisor knows which of the earlier ones are too old by its own clock.
        while len(self.times) > max(1, event.restarts):
            self.times.popleft()

    def gauge(self, now: float) -> Gauge:
        """Return what is left at `now`, in seconds since the run started."""
        times = [time for time in self.times if time + self.within >= now]
        oldest = times[0] + self.within - now if times else None
        return Gauge(max(0, self.max_restarts - len(times)), self.max_restarts, oldest)


class Branch:
    """A supervisor, a pool, or a group of a batch. Compared by identity; only its Tree writes it."""

    __slots__ = (
        *("auto_shutdown", "children", "counts", "depth", "ending", "incarnation", "index"),
        *(
            "is_limit_reached",
            "is_limited_per_worker",
            "max_restarts",
            "parent",
            "path",
            "strategy",
            "version",
            "within",
        ),
    )

    def __init__(self, path: str, index: int, parent: Branch | None) -> None:
        self.path = path
        """`root/a/b`, or the name of a group."""
        self.index = index
        """How many workers were queued before it: its place among the rows."""
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent is not None else 0
        self.strategy = ""
        """Empty for a group of a batch."""
        self.incarnation = 0
        """Of the supervisor, from 1; 0 for a group of a batch."""
        self.max_restarts = 0
        self.within = 0.0
        self.auto_shutdown = "never"
        self.ending = ""
        """Why it ended; empty while it runs."""
        self.is_limit_reached = False
        self.is_limited_per_worker = False
        """Whether its workers have limits of their own, as far as one was counted against: its own counts for none."""
        self.children: dict[str, None] = {}
        """The names of its children, in start order."""
        self.counts: dict[WorkerState, int] = {}
        """Of all workers below, however deep; states that nobody is in may be missing."""
        self.version = 0
        """Grows with every change of what is shown of it."""

    @property
    def name(self) -> str:
        """The last part of the path of a supervisor; the whole name of a group."""
        return self.path.rpartition("/")[2] if self.is_supervisor else self.path

    @property
    def is_supervisor(self) -> bool:
        """Whether it restarts its children, so that it has a strategy."""
        return bool(self.strategy)

    @property
    def is_pool(self) -> bool:
        """Whether its children come and go."""
        return self.strategy == _POOL

    @property
    def workers(self) -> int:
        """How many workers are below."""
        return sum(self.counts.values())

    def child_of(self, path: str) -> str:
        """Return the name of the child that is, or leads to, what lies at `path` below."""
        return path[len(self.path) + 1 :].partition("/")[0]
