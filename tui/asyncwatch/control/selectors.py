"""Selectors: the workers that a command line names. Pure."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.model.view.filter import has_field, matching, parse_query


class SelectorError(ValueError):
    """A selector is a filter that cannot be understood. The message says why."""


class NoMatchError(LookupError):
    """A selector matches no worker. The message names it."""


def select_workers(fleet: Fleet, selectors: Sequence[str]) -> list[Row]:
    """Return the workers that match any of the selectors, in queue order.

    A selector is the name of a worker, also as it is shown: `web` for `web/web`, which is alone in its group. If
    there is no worker of that name, it is a filter as in the dashboard if it has a condition on a field
    (`state:failed`, `"retries>0 fetch"`), else a pattern for names if it has one of `*?[`.

    Raises:
        SelectorError: A filter has a term that cannot be understood.
        NoMatchError: A selector matches no worker.

    """
    chosen: dict[Row, None] = {}
    for selector in selectors:
        found = _matches(fleet, selector)
        if not found:
            raise NoMatchError(f"no worker matches {selector!r}")
        chosen.update(dict.fromkeys(found))
    return sorted(chosen, key=lambda row: row.index) if len(selectors) > 1 else list(chosen)


def _matches(fleet: Fleet, selector: str) -> Sequence[Row]:
    last = selector.rpartition("/")[2]
    row = fleet.get(selector) or fleet.get(f"{selector}/{last}")
    if row is not None:
        return (row,)
    rows = fleet.rows
    if has_field(selector):
        query = parse_query(selector, lambda: fleet.latest)
        if query.problem:
            raise SelectorError(f"{selector!r}: {query.problem}")
        return [rows[index] for index in matching(range(len(rows)), rows, query.conditions)]
    if any(sign in selector for sign in "*?["):
        is_match = re.compile(fnmatch.translate(selector)).match
        return [row for row in rows if is_match(row.name)]
    return ()
