"""The orders in which rows can be shown."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Callable
from typing import Any

from asyncwatch.events import WorkerState
from asyncwatch.model.ordering import Ordering
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

_DIGITS = re.compile("[0-9]+")
_RANKS = {state: rank for rank, state in enumerate(WorkerState)}
_LAST_TEXT = chr(sys.maxunicode)


def natural(text: str) -> str:
    """Return a key that sorts numbers inside text by their value, of any length: `w2` before `w10`."""
    start = text.rstrip("0123456789")
    if len(start) == len(text):
        return _natural(text)
    # As most names are: one of a few beginnings, and a number.
    return f"{_natural_start(start)}{_number(text[len(start) :])}"


def _natural(text: str) -> str:
    return _DIGITS.sub(lambda digits: _number(digits[0]), text.casefold())


_natural_start = functools.lru_cache(maxsize=4096)(_natural)


def _number(digits: str) -> str:
    # Length, then text, orders numbers of any size; what stands in front of them is below all text.
    significant = digits.lstrip("0")
    length = len(significant)
    return f"{_LENGTHS[length] if length < len(_LENGTHS) else _length(length)}{significant}"


def _length(length: int) -> str:
    return f"\0{chr(min(length, sys.maxunicode))}"


_LENGTHS = [_length(length) for length in range(32)]


# Results are as a rule a few that are alike.
_natural_result = functools.lru_cache(maxsize=4096)(natural)


def ordering(sort: str, *, is_reversed: bool, now: float) -> Ordering:
    """Return the order by `sort`, one of the keys of `SORTS`.

    Rows without a value come last in both directions. Elapsed times are those at `now`, in seconds since the run
    started.

    Raises:
        ValueError: there is no such order.

    """
    return Ordering(
        _key(sort, -math.inf if is_reversed else math.inf, "" if is_reversed else _LAST_TEXT, now), is_reversed
    )


def _key(sort: str, no_number: float, no_text: str, now: float) -> Callable[[Row], Any]:
    """Return the function that gives what a row is sorted by: of all rows something of the same type."""

    def luck(row: Row) -> float:
        value = row.bad_luck
        return no_number if value is None else value

    def last(row: Row) -> float:
        value = row.last_duration
        return no_number if value is None else value

    def elapsed(row: Row) -> float:
        value = row.elapsed(now)
        return no_number if value is None else value

    def result(row: Row) -> str:
        # One that is there, but empty, is above none.
        return no_text if row.result is None else f" {_natural_result(row.result)}"

    def error(row: Row) -> str:
        return row.error.casefold() or no_text

    keys: dict[str, Callable[[Row], Any]] = {
        QUEUE_ORDER: lambda row: row.index,
        "name": lambda row: natural(row.name),
        "state": lambda row: _RANKS[row.state],
        "retries": lambda row: row.retries,
        "luck": luck,
        "result": result,
        "last": last,
        "elapsed": elapsed,
        "error": error,
    }
    if sort not in keys:
        raise ValueError(f"there is no order {sort!r}: {', '.join(keys)}")
    return keys[sort]
