"""One branch of a run: a supervisor, a pool, or a group of a batch; and the restarts that count for a limit. Pure."""

from __future__ import annotations

import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, NamedTuple

from asyncwatch.events import (
    ChildRemoved,
    Event,
    RestartCounted,
    RestartLimitReached,
    SupervisorStarted,
    SupervisorTerminated,
    WorkerState,
)
from asyncwatch.model.rows import Row

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


__all__ = ["Branch", "Gauge", "Tree", "label_of", "path_of"]


class Tree:
    """The branches of one run, by path, in the order in which they came up."""

    def __init__(self, rows: list[Row]) -> None:
        self._rows = rows
        self._windows: dict[str, Window] = {}
        self.branches: dict[str, Branch] = {}
        self.is_shown = False
        """Whether there is more than one group, or a supervisor. Before that nothing is counted."""
        self.shape = 0
        """Grows with every new branch."""
        self.has_batch = False
        """Whether there is a group that is no supervisor."""
        self.most_attempts = 0
        """The `max_attempts` of the workers who have most of them."""
        self._limited: set[str] = set()  # paths of the workers whose own limit was reached
        self._gone: set[str] = set()  # paths of the children that were forgotten
        self.left = 0
        """Grows with every child that leaves a pool."""
        self.replaced: Counter[str] = Counter()
        """How many children of each pool, by its path, have no row any more."""
        self.newest: Row | None = None
        """The worker of a supervisor that was started for the first time last."""

    def apply(self, event: Event) -> None:
        """Fold an event about a supervisor; any other changes nothing."""
        fold = self._FOLDS.get(type(event))
        if fold is not None:
            fold(self, event)

    def forget(self, row: Row) -> None:
        """Drop what is known of a child that has left its pool, but for its part of all counts."""
        path = path_of(row)
        self._windows.pop(path, None)
        self._limited.discard(path)
        self._gone.discard(path)
        self.replaced[row.group] += 1

    def queued(self, group: str, rows: Sequence[Row]) -> None:
        """Take in workers that were just queued."""
        is_counting = self.is_shown
        branch = self.branches.get(group) or self._grow(group, None)
        self.has_batch |= not branch.is_supervisor
        for row in itertools.islice(rows, 1):
            self.most_attempts = max(self.most_attempts, row.max_attempts)
        if is_counting:
            for row in rows:
                self._join(row, branch)
        if branch.is_supervisor:
            self.newest = rows[-1]

    def restarted(self, row: Row) -> None:
        """Note that the worker is a child of its supervisor, be it again."""
        branch = self.branches.get(row.group)
        if branch is not None and branch.is_supervisor:
            path = path_of(row)
            branch.children.setdefault(branch.child_of(path))
            self._limited.discard(path)
            self._gone.discard(path)

    def moved(self, row: Row, state: WorkerState) -> None:
        """Note that the row's state is about to become `state`."""
        branch = self.branches.get(row.group)
        before = row.state
        while branch is not None:
            counts = branch.counts
            counts[before] = counts.get(before, 0) - 1
            counts[state] = counts.get(state, 0) + 1
            branch.version += 1
            branch = branch.parent

    @property
    def is_supervised(self) -> bool:
        """Whether any branch is a supervisor."""
        return any(branch.is_supervisor for branch in self.branches.values())

    @property
    def ending(self) -> str:
        """Why nothing of the run can be restarted any more: its only supervisors have ended; else empty."""
        if self.has_batch or not self.is_shown:
            return ""
        tops = [branch for branch in self.branches.values() if branch.parent is None]
        if not all(branch.ending for branch in tops):
            return ""
        is_at_limit = any(branch.is_limit_reached for branch in tops)
        return "the restart limit was reached" if is_at_limit else "the supervisor has ended"

    def branch_of(self, row: Row) -> Branch | None:
        """Return what the worker belongs to, None if no branches are shown."""
        return self.branches.get(row.group) if self.is_shown else None

    def gauge(self, branch: Branch, now: float) -> Gauge:
        """Return what is left of the restarts of a supervisor at `now`, in seconds since the run started."""
        window = self._windows.get(branch.path)
        return Gauge(branch.max_restarts, branch.max_restarts, None) if window is None else window.gauge(now)

    def own_gauge(self, row: Row, now: float) -> Gauge | None:
        """Return what is left of a worker's own restarts; None if it has no limit of its own, or never needed it."""
        window = self._windows.get(path_of(row))
        return None if window is None else window.gauge(now)

    def is_at_limit(self, row: Row) -> bool:
        """Return whether the worker stays down because it used up the restarts of its own limit."""
        return bool(self._limited) and path_of(row) in self._limited

    def has_left(self, row: Row) -> bool:
        """Return whether the worker was a child of a pool, and ended and was forgotten as it should."""
        if not self._gone or row.state not in _DONE:
            return False
        branch = self.branches.get(row.group)
        return branch is not None and branch.is_pool and path_of(row) in self._gone

    def why_not_restarted(self, row: Row) -> str:
        """Return why a request to restart the worker can only be refused; empty if it is worth to be asked."""
        branch = self.branches.get(row.group)
        if branch is None or not branch.is_supervisor:
            return ""
        if branch.ending:
            return self.ending or "the supervisor above has ended"
        return "forgotten by the supervisor above" if path_of(row) in self._gone else ""

    def why_branch_not_restarted(self, branch: Branch) -> str:
        """Return why a request to restart a supervisor as a whole can only be refused; empty if it is worth asking."""
        if branch.parent is None:
            return branch.ending and (self.ending or "the supervisor has ended")
        if branch.parent.ending:
            return self.ending or "the supervisor above has ended"
        return "forgotten by the supervisor above" if branch.path in self._gone else ""

    def rows_below(self, branch: Branch) -> list[Row]:
        """Return all workers of a branch, however deep, in queue order."""
        return list(itertools.chain.from_iterable(self._rows[span] for span in self.spans_below(branch)))

    def spans_below(self, branch: Branch) -> list[slice]:
        """Return where in the queue all workers of a branch are, however deep."""
        inside = {path for path, other in self.branches.items() if _is_below(other, branch)}
        spans: list[slice] = []
        start = 0
        while start < len(self._rows):
            block = self._rows[start].block
            end = start + block.size
            if block.group in inside:
                if spans and spans[-1].stop == start:
                    start = spans.pop().start
                spans.append(slice(start, end))
            start = end
        return spans

    def taken_along(self, rows: Iterable[Row]) -> list[Row]:
        """Return the workers beside `rows`, in queue order, that a restart of those takes along.

        With `one_for_all` all siblings, with `rest_for_one` those started later; what is below a sibling goes with it.
        """
        asked = set(rows)
        by_group: dict[str, set[str]] = {}
        for row in asked:
            branch = self.branches.get(row.group)
            if branch is not None:
                by_group.setdefault(row.group, set()).update(_siblings(branch, branch.child_of(path_of(row))))
        taken: list[Row] = []
        for row in self._rows if any(by_group.values()) else ():
            path = path_of(row)
            if row not in asked and any(self._is_taken(path, group, names) for group, names in by_group.items()):
                taken.append(row)
        return taken

    def taken_along_by(self, branch: Branch) -> list[Row]:
        """Return the workers beside those of `branch`, in queue order, that a restart of it as a whole takes along."""
        above = branch.parent
        if above is None:
            return []
        name = above.child_of(branch.path)
        names = set(_siblings(above, name)) - {name}
        return [row for row in self._rows if names and self._is_taken(path_of(row), above.path, names)]

    def without_taken(self, rows: Iterable[Row]) -> list[Row]:
        """Return those of `rows` that have to be asked to restart, so that all of them do: the others go along."""
        chosen: list[Row] = []
        taken: set[Row] = set()
        for row in sorted(rows, key=lambda row: (row.group.count("/"), row.index)):
            if row not in taken:
                chosen.append(row)
                branch = self.branches.get(row.group)
                if branch is not None and branch.strategy in _TAKES_ALONG:
                    taken.update(self.taken_along((row,)))
        return sorted(chosen, key=lambda row: row.index)

    def _is_taken(self, path: str, group: str, names: set[str]) -> bool:
        return path.startswith(f"{group}/") and self.branches[group].child_of(path) in names

    def _grow(self, path: str, parent: Branch | None) -> Branch:
        branch = self.branches[path] = Branch(path, len(self._rows), parent)
        self.shape += 1
        if parent is None and len(self.branches) > 1:
            self._show()
        return branch

    def _show(self) -> None:
        """Count the workers from now on, those that came before as well."""
        if not self.is_shown:
            self.is_shown = True
            for row in self._rows:
                branch = self.branches.get(row.group)
                if branch is not None:
                    self._join(row, branch)

    def _join(self, row: Row, branch: Branch) -> None:
        if branch.is_supervisor:
            branch.children.setdefault(branch.child_of(path_of(row)))
        above: Branch | None = branch
        while above is not None:
            above.counts[row.state] = above.counts.get(row.state, 0) + 1
            above.version += 1
            above = above.parent

    def _started(self, event: SupervisorStarted) -> None:
        parent = self.branches.get(event.parent) if event.parent != event.name else None
        branch = self.branches.get(event.name)
        if branch is None:
            branch = self._grow(event.name, parent)
        branch.strategy = event.strategy or "one_for_one"
        branch.incarnation = event.incarnation
        branch.max_restarts, branch.within = event.max_restarts, event.within
        branch.auto_shutdown = event.auto_shutdown
        branch.ending = ""
        branch.is_limit_reached = False
        branch.version += 1
        # Another incarnation of the supervisor begins with a clean slate.
        self._windows.pop(event.name, None)
        if parent is not None and parent.is_supervisor:
            parent.children.setdefault(parent.child_of(event.name))
        self._show()

    def _terminated(self, event: SupervisorTerminated) -> None:
        branch = self.branches.get(event.name)
        if branch is not None:
            branch.ending = event.reason or "shutdown"
            branch.version += 1

    def _counted(self, event: RestartCounted) -> None:
        self._windows.setdefault(event.supervisor, Window()).add(event)
        branch = self.branches.get(event.supervisor)
        if branch is None and (branch := self.branches.get(event.supervisor.rpartition("/")[0])) is not None:
            branch.is_limited_per_worker = True
        if branch is not None:
            branch.version += 1

    def _limit_reached(self, event: RestartLimitReached) -> None:
        branch = self.branches.get(event.supervisor)
        if branch is not None:
            branch.is_limit_reached = True
            branch.version += 1
        else:
            self._limited.add(event.supervisor)

    def _removed(self, event: ChildRemoved) -> None:
        branch = self.branches.get(event.supervisor)
        if branch is not None:
            branch.children.pop(event.child, None)
            self._gone.add(f"{branch.path}/{event.child}")
            self.left += branch.is_pool
            branch.version += 1

    _FOLDS: ClassVar[dict[type[Event], Callable[[Tree, Any], None]]] = {
        SupervisorStarted: _started,
        SupervisorTerminated: _terminated,
        RestartCounted: _counted,
        RestartLimitReached: _limit_reached,
        ChildRemoved: _removed,
    }


_TAKES_ALONG = frozenset({"one_for_all", "rest_for_one"})
_DONE = frozenset({WorkerState.SUCCEEDED, WorkerState.CANCELLED})


def path_of(row: Row) -> str:
    """Return the path of a worker of a tree: its name is that below the root, its group that of its supervisor."""
    root = row.group.partition("/")[0]
    return f"{root}/{row.name}"


def label_of(row: Row) -> str:
    """Return the name of a worker of a tree as its supervisor knows it."""
    return path_of(row).removeprefix(f"{row.group}/")


def _siblings(branch: Branch, name: str) -> Iterable[str]:
    """Return the names of the children that a restart of the child `name` takes along; it may be among them."""
    match branch.strategy:
        case "one_for_all":
            return branch.children
        case "rest_for_one":
            return itertools.islice(itertools.dropwhile(lambda child: child != name, branch.children), 1, None)
        case _:
            return ()


def _is_below(branch: Branch | None, top: Branch) -> bool:
    while branch is not None:
        if branch is top:
            return True
        branch = branch.parent
    return False
