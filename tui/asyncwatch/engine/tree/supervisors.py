"""The supervisors of one tree by path: which run, and what is known of those that ended."""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar

from asyncwatch.events.tree import ROOT, shown_path


class _HasPath(Protocol):
    path: str


N = TypeVar("N", bound=_HasPath)


class SupervisorRegistry(Generic[N]):
    """Running supervisors by path. Incarnations count from 1 at each path."""

    def __init__(self) -> None:
        self.running: dict[str, N] = {}
        self.is_broken_off = False
        """Whether the run is broken off: no supervisor waits for its children any more."""
        self.is_stopping = False
        """Whether no supervisor restarts a child any more, since the whole tree is to end."""
        self._incarnations: dict[str, int] = {}
        self._causes: dict[str, str] = {}
        """Why each supervisor that ended did."""

    def begin(self, node: N) -> int:
        """Add a supervisor that starts, and return the number of its incarnation."""
        self.running[node.path] = node
        incarnation = self._incarnations[node.path] = self._incarnations.get(node.path, 0) + 1
        return incarnation

    def end(self, node: N, cause: str) -> None:
        """Remove a supervisor that has ended, and keep the cause."""
        if self.running.get(node.path) is node:
            del self.running[node.path]
        self._causes[node.path] = cause

    def revive(self, path: str) -> None:
        """Forget that the supervisor at `path` has ended: it is about to start again."""
        self._causes.pop(path, None)

    def forget(self, path: str) -> None:
        """Drop all that is known of a supervisor that was removed."""
        self._incarnations.pop(path, None)
        self._causes.pop(path, None)

    def has_ended(self, path: str) -> bool:
        """Return whether a supervisor at that path has ended, if it was not forgotten since."""
        return path in self._causes

    def why_stale(self, path: str, incarnation: int) -> str:
        """Return why a command for that incarnation is refused, or "" if it is the latest."""
        latest = self._incarnations.get(path, incarnation)
        return "" if latest == incarnation else f"that was incarnation {incarnation}, it is {latest} now"

    def why_gone(self, path: str) -> str:
        """Return why a command for a child of the ended supervisor at `path` is refused."""
        if ROOT in self._causes:
            how = "restart root while the run is open, or start another run"
            return f"the tree has ended ({self._causes[ROOT]}): {how}"
        return f"its supervisor {shown_path(path)} has ended ({self._causes.get(path, 'it never started')})"
