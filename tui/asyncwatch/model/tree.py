"""The branches of a run: its supervisors, pools and groups, and the restarts that count towards their limits. Pure."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec

from asyncwatch.events import (
    SETTLED,
    TROUBLE,
    ChildRemoved,
    RestartCounted,
    RestartLimitReached,
    SupervisorStarted,
    SupervisorTerminated,
    WorkerState,
)
from asyncwatch.model.rows import Row, blocks_of

_POOL = "simple_one_for_one"
_RESTARTS_SIBLINGS = frozenset({"one_for_all", "rest_for_one"})
_ENDED_WELL = SETTLED - TROUBLE


class Gauge(NamedTuple):
    """Restarts that are left (`left` of `of`), and seconds until the oldest one stops counting (None: none counts)."""

    left: int
    of: int
    expires_in: float | None


class RestartWindow(msgspec.Struct, gc=False):
    """The times of the restarts that count, as the supervisor reported them."""

    times: list[float] = msgspec.field(default_factory=list)
    max_restarts: int = 0
    within: float = 0.0

    def __copy__(self) -> RestartWindow:
        return RestartWindow(self.times[:], self.max_restarts, self.within)

    def add(self, event: RestartCounted) -> None:
        """Add a restart."""
        self.max_restarts, self.within = event.max_restarts, event.within
        self.times.append(event.at)
        # The supervisor decides by its own clock which of the earlier ones are too old.
        del self.times[: -max(1, event.restarts)]

    def gauge(self, now: float) -> Gauge:
        """Return the restarts that are left at `now`, in seconds since the run started."""
        times = [time for time in self.times if time + self.within >= now]
        oldest = times[0] + self.within - now if times else None
        return Gauge(max(0, self.max_restarts - len(times)), self.max_restarts, oldest)


class Branch(msgspec.Struct, eq=False, gc=False):
    """A supervisor, a pool, or a group of a batch. Compared by identity; only its Tree writes it."""

    path: str
    """`root/a/b`, or the name of a group."""
    index: int
    """How many workers were queued before it: its place among the rows."""
    parent: Branch | None
    depth: int = 0
    strategy: str = ""
    """Empty for a group of a batch."""
    incarnation: int = 0
    """Of a supervisor, from 1; 0 for a group of a batch."""
    max_restarts: int = 0
    within: float = 0.0
    auto_shutdown: str = "never"
    ending: str = ""
    """Why it ended; empty while it is running."""
    is_limit_reached: bool = False
    is_limited_per_worker: bool = False
    """Whether its workers have restart limits of their own. Known once a restart counted towards one."""
    is_removed: bool = False
    """Whether the supervisor above has forgotten it. It is dropped with the last row below it."""
    size: int = 0
    """How many rows and branches are directly below, including those of removed children."""
    children: dict[str, None] = msgspec.field(default_factory=dict)
    """The names of its children, in start order."""
    counts: dict[WorkerState, int] = msgspec.field(default_factory=dict)
    """All workers below, however deep, by state; states without a worker may be missing."""
    version: int = 0
    """Grows with every change that is shown."""

    def __post_init__(self) -> None:
        if self.parent is not None:
            self.depth = self.parent.depth + 1

    @property
    def name(self) -> str:
        """The last part of a supervisor's path; the whole name of a group."""
        return self.path.rpartition("/")[2] if self.is_supervisor else self.path

    @property
    def is_supervisor(self) -> bool:
        """Whether it is a supervisor or a pool, and so has a strategy."""
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
        """Return the name of the child at `path`, or of the child that `path` is below."""
        return path[len(self.path) + 1 :].partition("/")[0]


class Tree:
    """The branches of one run, by path, in start order. `rows` are all workers in queue order, a live list."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._windows: dict[str, RestartWindow] = {}
        self._limited: set[str] = set()  # paths of workers that reached their own restart limit
        self._removed: set[str] = set()  # paths of workers that their supervisors have forgotten
        self._moves: dict[Row, WorkerState] = {}
        """Rows that changed their state since `count_moves`, and the state that they are counted in."""
        self.branches: dict[str, Branch] = {}
        self.is_shown = False
        """Whether there is a supervisor, or more than one group. Until then workers are not counted by branch."""
        self.shape = 0
        """Grows with every branch that is new or dropped."""
        self.has_batch = False
        """Whether there is a group of a batch."""
        self.most_attempts = 0
        """The highest `max_attempts` of any worker."""
        self.left = 0
        """Grows with every child that leaves a pool, and every row that is dropped."""
        self.replaced: Counter[str] = Counter()
        """Number of children of each supervisor, by its path, whose row or branch was dropped."""
        self.newest: Row | None = None
        """The last worker of a supervisor that was started for the first time."""

    # -- questions

    @property
    def is_supervised(self) -> bool:
        """Whether any branch is a supervisor."""
        return any(branch.is_supervisor for branch in self.branches.values())

    @property
    def ending(self) -> str:
        """Why nothing can be restarted, if all supervisors have ended; else empty."""
        if self.has_batch or not self.is_shown:
            return ""
        tops = [branch for branch in self.branches.values() if branch.parent is None]
        if not all(branch.ending for branch in tops):
            return ""
        is_at_limit = any(branch.is_limit_reached for branch in tops)
        return "the restart limit was reached" if is_at_limit else "the supervisor has ended"

    def branch_of(self, row: Row) -> Branch | None:
        """Return the worker's branch, None if no branches are shown."""
        return self.branches.get(row.group) if self.is_shown else None

    def is_service(self, row: Row) -> bool:
        """Return whether the worker is a child of a supervisor."""
        branch = self.branches.get(row.group)
        return branch is not None and branch.is_supervisor

    def gauge(self, branch: Branch, now: float) -> Gauge:
        """Return the restarts that a supervisor has left at `now`, in seconds since the run started."""
        window = self._windows.get(branch.path)
        return Gauge(branch.max_restarts, branch.max_restarts, None) if window is None else window.gauge(now)

    def own_gauge(self, row: Row, now: float) -> Gauge | None:
        """Return the restarts left of a worker's own limit; None if it has no own limit, or none counted yet."""
        window = self._windows.get(path_of(row))
        return None if window is None else window.gauge(now)

    def is_at_limit(self, row: Row) -> bool:
        """Return whether the worker stays down because it reached its own restart limit."""
        return bool(self._limited) and path_of(row) in self._limited

    def has_left(self, row: Row) -> bool:
        """Return whether the worker was a child of a pool, ended without trouble, and was removed."""
        if not self._removed or row.state not in _ENDED_WELL:
            return False
        branch = self.branches.get(row.group)
        return branch is not None and branch.is_pool and path_of(row) in self._removed

    def why_not_restarted(self, row: Row) -> str:
        """Return why a request to restart the worker would be refused; empty if it may be accepted."""
        branch = self.branches.get(row.group)
        if branch is None or not branch.is_supervisor:
            return ""
        if branch.ending:
            ending = self.ending
            return f"{ending}; r on root starts all again" if ending else "the supervisor above has ended"
        return "forgotten by the supervisor above" if path_of(row) in self._removed else ""

    def why_branch_not_restarted(self, branch: Branch) -> str:
        """Return why a request to restart a supervisor as a whole would be refused; empty if it may be accepted."""
        if branch.parent is None:
            return ""  # the root can be started again, after its end too
        if branch.parent.ending:
            return self.ending or "the supervisor above has ended"
        return "forgotten by the supervisor above" if branch.is_removed else ""

    def rows_below(self, branch: Branch) -> list[Row]:
        """Return all workers of a branch, however deep, in queue order."""
        return list(itertools.chain.from_iterable(self._rows[span] for span in self.spans_below(branch)))

    def spans_below(self, branch: Branch) -> list[slice]:
        """Return where in queue order all workers of a branch are, however deep."""
        inside = {path for path, other in self.branches.items() if _is_below(other, branch)}
        spans: list[slice] = []
        for block, span in blocks_of(self._rows):
            if block.group in inside:
                is_next = spans and spans[-1].stop == span.start
                spans.append(slice(spans.pop().start if is_next else span.start, span.stop))
        return spans

    def restarted_with(self, rows: Iterable[Row]) -> list[Row]:
        """Return the other workers, in queue order, that are restarted together with `rows`.

        With `one_for_all` these are all siblings, with `rest_for_one` the siblings started later, each with everything
        below it.
        """
        chosen = set(rows)
        by_group: dict[str, set[str]] = {}
        for row in chosen:
            branch = self.branches.get(row.group)
            if branch is not None:
                by_group.setdefault(row.group, set()).update(_siblings(branch, branch.child_of(path_of(row))))
        others: list[Row] = []
        for row in self._rows if any(by_group.values()) else ():
            path = path_of(row)
            if row not in chosen and any(self._is_within(path, group, names) for group, names in by_group.items()):
                others.append(row)
        return others

    def restarted_with_branch(self, branch: Branch) -> list[Row]:
        """Return the workers outside `branch`, in queue order, that are restarted together with it."""
        above = branch.parent
        if above is None:
            return []
        name = above.child_of(branch.path)
        names = set(_siblings(above, name)) - {name}
        return [row for row in self._rows if names and self._is_within(path_of(row), above.path, names)]

    def to_request(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows, in queue order, to request a restart for: the others of `rows` are restarted with them."""
        chosen: list[Row] = []
        others: set[Row] = set()
        for row in sorted(rows, key=lambda row: (row.group.count("/"), row.index)):
            if row not in others:
                chosen.append(row)
                branch = self.branches.get(row.group)
                if branch is not None and branch.strategy in _RESTARTS_SIBLINGS:
                    others.update(self.restarted_with((row,)))
        return sorted(chosen, key=lambda row: row.index)

    def _is_within(self, path: str, group: str, names: set[str]) -> bool:
        return path.startswith(f"{group}/") and self.branches[group].child_of(path) in names

    # -- events

    def queued(self, group: str, rows: Sequence[Row]) -> None:
        """Add workers that were just queued."""
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
        """Note that the worker is a child of its supervisor, perhaps again."""
        if not (self._limited or self._removed):
            return
        branch = self.branches.get(row.group)
        if branch is not None and branch.is_supervisor:
            path = path_of(row)
            branch.children.setdefault(branch.child_of(path))
            self._limited.discard(path)
            self._removed.discard(path)

    def leaves(self, row: Row) -> None:
        """Note that the row is about to leave its state, and is to be counted by branch in its next one."""
        self._moves.setdefault(row, row.state)

    def count_moves(self) -> None:
        """Count by branch the rows that changed their state.

        A service that was restarted within a batch has changed it four times, and not at all.
        """
        for row, before in self._moves.items():
            state = row.state
            branch = self.branches.get(row.group) if state is not before else None
            while branch is not None:
                counts = branch.counts
                counts[before] = counts.get(before, 0) - 1
                counts[state] = counts.get(state, 0) + 1
                branch.version += 1
                branch = branch.parent
        self._moves.clear()

    def forget(self, row: Row) -> None:
        """Drop a removed child that has no row any more; it stays in all counts."""
        self.count_moves()
        path = path_of(row)
        self._windows.pop(path, None)
        self._limited.discard(path)
        self._removed.discard(path)
        self.replaced[row.group] += 1
        self.left += 1
        branch = self.branches.get(row.group)
        if branch is not None:
            branch.size -= 1
            self._drop_if_empty(branch)

    def supervisor_started(self, event: SupervisorStarted) -> None:
        """Fold a supervisor's start, the first one or another incarnation's."""
        parent = self.branches.get(event.parent) if event.parent != event.name else None
        branch = self.branches.get(event.name)
        if branch is None:
            branch = self._grow(event.name, parent)
        branch.strategy = event.strategy or "one_for_one"
        branch.incarnation = event.incarnation
        branch.max_restarts, branch.within = event.max_restarts, event.within
        branch.auto_shutdown = event.auto_shutdown
        branch.ending = ""
        branch.is_limit_reached = branch.is_removed = False
        branch.version += 1
        # Each incarnation counts its restarts from zero.
        self._windows.pop(event.name, None)
        if parent is not None and parent.is_supervisor:
            parent.children.setdefault(parent.child_of(event.name))
        self._show()

    def supervisor_terminated(self, event: SupervisorTerminated) -> None:
        """Fold a supervisor's end."""
        branch = self.branches.get(event.name)
        if branch is not None:
            branch.ending = event.reason or "shutdown"
            branch.version += 1

    def restart_counted(self, event: RestartCounted) -> None:
        """Fold a restart that counts towards a limit."""
        window = self._windows.get(event.supervisor)
        if window is None:
            window = self._windows[event.supervisor] = RestartWindow()
        window.add(event)
        branch = self.branches.get(event.supervisor)
        if branch is None and (branch := self.branches.get(event.supervisor.rpartition("/")[0])) is not None:
            branch.is_limited_per_worker = True
        if branch is not None:
            branch.version += 1

    def limit_reached(self, event: RestartLimitReached) -> None:
        """Fold a restart limit that was reached, a supervisor's or a worker's own."""
        branch = self.branches.get(event.supervisor)
        if branch is not None:
            branch.is_limit_reached = True
            branch.version += 1
        else:
            self._limited.add(event.supervisor)

    def child_removed(self, event: ChildRemoved) -> list[str]:
        """Fold a child that its supervisor has forgotten; return its path, and those of all children below it."""
        branch = self.branches.get(event.supervisor)
        if branch is None:
            return []
        self.count_moves()
        branch.children.pop(event.child, None)
        self.left += branch.is_pool
        branch.version += 1
        paths = [f"{branch.path}/{event.child}"]
        if paths[0] not in self.branches:
            return paths
        for path in paths:  # it grows; no recursion, since a tree may be deeper than Python's stack
            below = self.branches.get(path)
            if below is not None:
                below.is_removed = True
                below.version += 1
                paths += [f"{path}/{name}" for name in below.children]
                below.children.clear()
        for path in paths:
            below = self.branches.get(path)
            if below is not None:
                self._drop_if_empty(below)
        return paths

    def worker_removed(self, path: str) -> None:
        """Note that the supervisor of the worker at `path` has forgotten it."""
        self._removed.add(path)

    def _drop_if_empty(self, branch: Branch) -> None:
        """Drop a removed branch without rows, then each removed branch above that is left without rows."""
        empty: Branch | None = branch
        while empty is not None and empty.is_removed and not empty.size:
            del self.branches[empty.path]
            self._windows.pop(empty.path, None)
            self.replaced.pop(empty.path, None)
            self.shape += 1
            empty = empty.parent
            if empty is not None:
                empty.size -= 1
                self.replaced[empty.path] += 1

    def _grow(self, path: str, parent: Branch | None) -> Branch:
        branch = self.branches[path] = Branch(path, len(self._rows), parent)
        if parent is not None:
            parent.size += 1
        self.shape += 1
        if parent is None and len(self.branches) > 1:
            self._show()
        return branch

    def _show(self) -> None:
        """Count workers by branch from now on, starting with those that are there."""
        if not self.is_shown:
            self.is_shown = True
            for row in self._rows:
                branch = self.branches.get(row.group)
                if branch is not None:
                    self._join(row, branch)

    def _join(self, row: Row, branch: Branch) -> None:
        branch.size += 1
        if branch.is_supervisor:
            branch.children.setdefault(branch.child_of(path_of(row)))
        above: Branch | None = branch
        while above is not None:
            above.counts[row.state] = above.counts.get(row.state, 0) + 1
            above.version += 1
            above = above.parent


def path_of(row: Row) -> str:
    """Return the path of a worker of a tree. Its name is the path below the root, its group its supervisor's path."""
    root = row.group.partition("/")[0]
    return f"{root}/{row.name}"


def label_of(row: Row) -> str:
    """Return the name of a worker of a tree within its supervisor."""
    return path_of(row).removeprefix(f"{row.group}/")


def _siblings(branch: Branch, name: str) -> Iterable[str]:
    """Return the names of the children that are restarted with the child `name`; it may be among them."""
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
