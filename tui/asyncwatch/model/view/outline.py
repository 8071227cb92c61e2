"""Lines of a tree: each branch, then its workers and branches below it. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Sequence

from asyncwatch.model.rows import Row
from asyncwatch.model.tree import Branch, Tree
from asyncwatch.model.view.sort import STEP, Steps

Line = Row | Branch


def grouped(rows: Sequence[Row]) -> Steps[dict[str, list[Row]]]:
    """Return the rows by the path of their branch, in the given order."""
    own: dict[str, list[Row]] = {}
    for start in range(0, len(rows), STEP):
        for row in rows[start : start + STEP]:
            own.setdefault(row.group, []).append(row)
        yield
    return own


def outline(
    tree: Tree, own: dict[str, list[Row]], folded: Container[str], *, is_filtered: bool, in_start_order: bool
) -> tuple[list[Row], list[Line]]:
    """Return the rows in the order of the branches, and the lines to show. `own` are the rows of each branch.

    Rows keep their order within their branch. In start order a branch is shown where it was started among its
    sibling workers; otherwise below them. If filtered, branches without a row are left out. Nothing below a folded
    branch is a line.
    """
    below: dict[Branch | None, list[Branch]] = {}
    for branch in _needed(tree, own) if is_filtered else tree.branches.values():
        below.setdefault(branch.parent, []).append(branch)
    order: list[Row] = []
    lines: list[Line] = []
    # No recursion: a tree may be deeper than Python's stack.
    levels: list[tuple[Iterator[Line], bool]] = [(iter(below.get(None, ())), False)]
    while levels:
        items, is_hidden = levels[-1]
        for item in items:
            if isinstance(item, Row):
                order.append(item)
                if not is_hidden:
                    lines.append(item)
                continue
            if not is_hidden:
                lines.append(item)
            is_folded = is_hidden or item.path in folded
            inside, workers = below.get(item, []), own.get(item.path, [])
            if inside:
                levels.append((_merged(inside, workers, in_start_order=in_start_order), is_folded))
                break
            order.extend(workers)
            if not is_folded:
                lines.extend(workers)
        else:
            levels.pop()
    return order, lines


def _merged(branches: list[Branch], rows: list[Row], *, in_start_order: bool) -> Iterator[Line]:
    if in_start_order:
        # A worker with the same index was queued after the branch had started.
        return heapq.merge(branches, rows, key=lambda line: line.index)
    return iter([*rows, *branches])


def _needed(tree: Tree, groups: Iterable[str]) -> list[Branch]:
    """Return the branches of the groups and all branches above them, in start order."""
    needed: set[Branch] = set()
    for group in groups:
        branch = tree.branches.get(group)
        while branch is not None and branch not in needed:
            needed.add(branch)
            branch = branch.parent
    return [branch for branch in tree.branches.values() if branch in needed]
