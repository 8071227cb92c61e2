"""The orders of the fleet: what rows are sorted by, and names in natural order. Pure."""

from __future__ import annotations

import functools
import math
import re
import sys
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.model.view.sort import Ordering

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
"""(key, heading) of every order, as a person steps through them. Names are last: they are often in queue order."""

_RANKS = {state: rank for rank, state in enumerate(WorkerState)}
_LAST_TEXT = chr(sys.maxunicode)


def ordering(sort: str, *, is_reversed: bool, now: float) -> Ordering:
    """Return the order by `sort`, one of the keys of `SORTS`.

    Rows without a value come last in both directions. Elapsed times are those at `now`, in seconds since the run
    started.

    Raises:
        ValueError: there is no such order.

    """
    no_number = -math.inf if is_reversed else math.inf
    no_text = "" if is_reversed else _LAST_TEXT
    keys = _keys(no_number, no_text, now)
    if sort not in keys:
        raise ValueError(f"there is no order {sort!r}: {', '.join(keys)}")
    return Ordering(keys[sort], is_reversed, _keys_of_many(no_text).get(sort))


def _keys(no_number: float, no_text: str, now: float) -> dict[str, Callable[[Row], Any]]:
    """Return the key function of each order. All keys of one order are of the same type."""

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
        # The space sorts an empty result before none.
        return no_text if row.result is None else f" {_natural_result(row.result)}"

    def error(row: Row) -> str:
        return row.error.casefold() or no_text

    return {
        QUEUE_ORDER: attrgetter("index"),
        "name": lambda row: natural(row.name),
        "state": lambda row: _RANKS[row.state],
        "retries": attrgetter("retries"),
        "luck": luck,
        "result": result,
        "last": last,
        "elapsed": elapsed,
        "error": error,
    }


def _keys_of_many(no_text: str) -> dict[str, Callable[[Sequence[Row]], list[Any]]]:
    """Return the functions that make the keys of many rows in less time than one by one."""

    def names(rows: Sequence[Row]) -> list[str]:
        return naturals([row.name for row in rows])

    def results(rows: Sequence[Row]) -> list[str]:
        texts = [row.result for row in rows]
        known = iter(naturals([text for text in texts if text is not None]))
        return [no_text if text is None else f" {next(known)}" for text in texts]

    return {"name": names, "result": results}


_DECIMAL = "0123456789"
_DIGITS = re.compile("[0-9]+")


def natural(text: str) -> str:
    """Return a key that sorts numbers inside text by their value, of any length: `w2` before `w10`."""
    start = text.rstrip(_DECIMAL)
    if len(start) == len(text):
        return _natural(text)
    # Most names are one of a few beginnings and a number.
    return f"{_natural_start(start)}{_number(text[len(start) :])}"


def naturals(texts: list[str]) -> list[str]:
    """Return the `natural` key of each text, in half the time if they differ only in a number at the end."""
    if not texts:
        return []
    start = texts[0].rstrip(_DECIMAL)
    numbers = [text.removeprefix(start) for text in texts]
    shortest, together = min(numbers), "".join(numbers)
    has_zeros = not shortest or shortest[0] == "0"
    is_start_of_all = len(together) + len(start) * len(texts) == sum(map(len, texts))
    if has_zeros or not is_start_of_all or together.strip(_DECIMAL) or max(map(len, numbers)) >= len(_LENGTHS):
        return list(map(natural, texts))
    starts = [f"{_natural_start(start)}{length}" for length in _LENGTHS]
    return [starts[len(number)] + number for number in numbers]


def _natural(text: str) -> str:
    return _DIGITS.sub(lambda digits: _number(digits[0]), text.casefold())


_natural_start = functools.lru_cache(maxsize=4096)(_natural)
# Many results are equal.
_natural_result = functools.lru_cache(maxsize=4096)(natural)


def _number(digits: str) -> str:
    # Length, then text, orders numbers of any size. The first character sorts them before all text.
    significant = digits.lstrip("0")
    length = len(significant)
    return f"{_LENGTHS[length] if length < len(_LENGTHS) else _length(length)}{significant}"


def _length(length: int) -> str:
    return f"\0{chr(min(length, sys.maxunicode))}"


_LENGTHS = [_length(length) for length in range(32)]
