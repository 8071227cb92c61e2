"""The orders in which rows can be shown."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from asyncwatch.events import WorkerState
from asyncwatch.model.row import Row

QUEUE_ORDER = "queue"

SORTS: tuple[tuple[str, str], ...] = (
    (QUEUE_ORDER, "queue order"),
    ("state", "state"),
    ("retries", "retries"),
    ("luck", "bad luck"),
    ("result", "result"),
    ("last", "last"),
    ("elapsed", "elapsed"),
    ("error", "error"),
    ("name", "name"),
)
"""(key, heading) of every order, in which a person goes through them: names, often in queue order anyway, last."""

_DIGITS = re.compile(r"([0-9]+)")
_STATE_RANK = {state: rank for rank, state in enumerate(WorkerState)}


def natural(text: str) -> tuple[Any, ...]:
    """Return a key that sorts numbers inside text by their value, of any length: `w2` before `w10`."""
    if text.isascii() and text.isdigit():
        return ("", *_number(text))
    parts: list[Any] = _DIGITS.split(text.casefold())
    # Text and numbers alternate, so two keys never compare one with the other.
    key: list[Any] = [parts[0]]
    for digits, rest in zip(parts[1::2], parts[2::2], strict=True):
        key += (*_number(digits), rest)
    return tuple(key)


def _number(digits: str) -> tuple[int, str]:
    # int() refuses more than some thousand digits; length, then text, orders numbers of any size.
    significant = digits.lstrip("0")
    return len(significant), significant


def _key(sort: str, now: float) -> Callable[[Row], Any]:
    """Return the function that gives what a row is sorted by; None goes last in both directions."""
    match sort:
        case "queue":
            return lambda row: row.index
        case "name":
            return lambda row: natural(row.name)
        case "state":
            return lambda row: _STATE_RANK[row.state]
        case "retries":
            return lambda row: row.retries
        case "luck":
            return lambda row: row.bad_luck
        case "result":
            return lambda row: natural(row.result) if row.result is not None else None
        case "last":
            return lambda row: row.last_duration
        case "elapsed":
            return lambda row: row.elapsed(now)
        case "error":
            return lambda row: row.error.casefold() or None
        case _:
            raise ValueError(f"there is no order {sort!r}: {', '.join(key for key, _ in SORTS)}")


def in_order(rows: Iterable[Row], sort: str, *, reverse: bool, now: float) -> list[Row]:
    """Return `rows`, which come in queue order, sorted by `sort`, one of the keys of `SORTS`.

    Rows that are equal stay in queue order, and rows without a value come last, in both directions. Elapsed
    times are those at `now`, in seconds since the run started.

    Raises:
        ValueError: there is no such order.

    """
    key = _key(sort, now)
    valued: list[tuple[Any, Row]] = []
    without: list[Row] = []
    for row in rows:
        value = key(row)
        if value is None:
            without.append(row)
        else:
            valued.append((value, row))
    valued.sort(key=lambda pair: pair[0], reverse=reverse)
    return [row for _, row in valued] + without
