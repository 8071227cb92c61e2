"""The supervisors of one tree by path: those that run, and what is still known of those that ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from asyncwatch.events.tree import ROOT, shown_path

if TYPE_CHECKING:
    from asyncwatch.engine.tree.child import Child
    from asyncwatch.engine.tree.node import Node

FORGOTTEN = "its supervisor has forgotten it: what is temporary, or of a pool, is not kept when it has ended"
"""Why nothing can be done about a child that was removed."""


class Branches:
    """Each supervisor by its path; incarnations count from 1 at each."""

    def __init__(self) -> None:
        self.running: dict[str, Node] = {}
        self._incarnations: dict[str, int] = {}
        self._endings: dict[str, str] = {}

    def begin(self, node: Node) -> int:
        """Take in a supervisor that starts, and return its incarnation."""
        self.running[node.path] = node
        incarnation = self._incarnations[node.path] = self._incarnations.get(node.path, 0) + 1
        return incarnation

    def end(self, node: Node, cause: str) -> None:
        """Note why a supervisor has ended."""
        if self.running.get(node.path) is node:
            del self.running[node.path]
        self._endings[node.path] = cause

    def forget(self, path: str) -> None:
        """Drop what is known of a supervisor that ended and was removed."""
        self._incarnations.pop(path, None)
        self._endings.pop(path, None)

    def find(self, path: str, incarnation: int) -> tuple[Node, Child | None] | str | None:
        """Return a supervisor as the child of the one above, or the root; why there is none; None if it is a group."""
        above, _, name = path.rpartition("/")
        if path != ROOT and not path.startswith(f"{ROOT}/"):
            return None
        node = self.running.get(above or ROOT)
        if node is None:
            return self.why_gone(above or ROOT)
        child = node.children.get(name) if above else None
        if above and (child is None or child.kind != "supervisor"):
            return FORGOTTEN if path in self._endings else "there is no such supervisor"
        return self.why_other(path, incarnation) or (node, child)

    def why_other(self, path: str, incarnation: int) -> str:
        """Return that another incarnation of a supervisor than the one meant is there now, or an empty text."""
        now = self._incarnations.get(path, incarnation)
        return "" if now == incarnation else f"that was incarnation {incarnation}, it is {now} now"

    def why_gone(self, path: str) -> str:
        """Return why nothing can be done about a child of that supervisor, which has ended."""
        if ROOT in self._endings:
            return f"the tree has ended ({self._endings[ROOT]}): only another run starts it again"
        return f"its supervisor {shown_path(path)} has ended ({self._endings.get(path, 'it never started')})"
