"""The filter language: words and conditions, all of which a row must meet. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.model.view import columns

SYNTAX = "text in name, error or status, state:failed, retries>0, throttled>0, luck>0.9, error:Timeout, group:name"
"""One line that explains the language."""

Condition = Callable[[Sequence[Row]], list[bool]]
"""Returns for each of some rows in queue order whether it meets the condition: a call for each row costs more than most
conditions."""

_TERM = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_FIELDS = ("state", "error", "group", "retries", "throttled", "luck")
_FIELD = re.compile(r"([A-Za-z_]+)(>=|<=|[:=<>])(.*)", re.DOTALL)
_QUICK = re.compile(r"(state|retries|throttled|luck)[:=<>]", re.IGNORECASE)
"""Terms that look at no text. They come first: fewer rows are left for the others."""
_NO_VALUE = re.compile(r"//.*|[0-9]{2,5}(/.*)?|", re.DOTALL)
"""The text after the colon of a URL, of `host:port`, or of an unfinished word (`OSError:`)."""
_COMPARISONS: dict[str, Callable[[Iterable[float], float], list[bool]]] = {
    ">": lambda numbers, bound: [number > bound for number in numbers],
    ">=": lambda numbers, bound: [number >= bound for number in numbers],
    "<": lambda numbers, bound: [number < bound for number in numbers],
    "<=": lambda numbers, bound: [number <= bound for number in numbers],
    "=": lambda numbers, bound: [number == bound for number in numbers],
    ":": lambda numbers, bound: [number == bound for number in numbers],
}
_NUMBERS: dict[str, Callable[[Sequence[Row]], Iterable[float]]] = {
    "retries": columns.retries,
    "throttled": columns.throttled,
    "luck": columns.bad_luck,
}


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed filter. Terms that were not understood are ignored; `problem` reports the first."""

    text: str
    conditions: tuple[Condition, ...] = ()
    problem: str = ""

    def matches(self, row: Row) -> bool:
        """Return whether the row meets every condition."""
        return bool(matching((0,), (row,), self.conditions))


EVERYTHING = Query("")
"""The query that every row matches."""


def parse_query(text: str) -> Query:
    """Parse a filter (see `SYNTAX`). Never raises.

    Terms are separated by spaces; quotes keep a term with spaces together; case does not matter. A term that is not
    understood (yet) is ignored and reported in `Query.problem`.
    """
    quick: list[Condition] = []
    slow: list[Condition] = []
    problem = ""
    for term in _TERM.findall(text):
        try:
            (quick if _QUICK.match(term) else slow).append(_condition(term))
        except ValueError as error:
            problem = problem or str(error)
    return Query(text, (*quick, *slow), problem)


def has_field(text: str) -> bool:
    """Return whether a filter has a condition on a field, so that it is no plain text."""
    fields = map(_FIELD.fullmatch, _TERM.findall(text))
    return any(field is not None and field[1].lower() in _FIELDS for field in fields)


def matching(indexes: Sequence[int], rows: Sequence[Row], conditions: Iterable[Condition]) -> list[int]:
    """Return the indexes of the rows that meet every condition. `indexes` are those of the rows, in queue order."""
    met: list[bool] | None = None
    for condition in conditions:
        if met is not None:
            rows = list(compress(rows, met))
        met = condition(rows)
        indexes = list(compress(indexes, met))
    return indexes if isinstance(indexes, list) else list(indexes)


def _condition(term: str) -> Condition:
    field = _FIELD.fullmatch(term)
    if field is None:
        return _has_text(_unquoted(term))
    name, sign, value = field[1].lower(), field[2], _unquoted(field[3])
    if name not in _FIELDS:
        if sign == ":" and _NO_VALUE.fullmatch(value):
            return _has_text(_unquoted(term))
        raise ValueError(f"no field {name}: {', '.join(_FIELDS)}; quotes make it text")
    if name in _NUMBERS:
        return _compares(name, sign, value)
    if sign not in ":=":
        raise ValueError(f"{name} takes a colon: {name}:{value}")
    if not value:
        raise ValueError(f"what follows {name}{sign}?")
    if name == "state":
        return _is_in_state(value)
    if name == "group":
        return lambda rows: [value in row.block.group.casefold() for row in rows]
    return lambda rows: [(extra := row.extra) is not None and value in extra.error.casefold() for row in rows]


def _unquoted(text: str) -> str:
    return text.replace('"', "").casefold()


def _has_text(text: str) -> Condition:
    # Most rows have no `extra`: their `error` need not be looked up.
    return lambda rows: [
        text in row.name.casefold()
        or ((extra := row.extra) is not None and (text in extra.error.casefold() or text in extra.status.casefold()))
        for row in rows
    ]


def _is_in_state(prefix: str) -> Condition:
    states = frozenset(state for state in WorkerState if state.startswith(prefix))
    if not states:
        raise ValueError(f"no state begins with {prefix!r}: {', '.join(WorkerState)}")
    return lambda rows: [row.state in states for row in rows]


def _compares(name: str, sign: str, value: str) -> Condition:
    try:
        bound = float(value)
    except ValueError:
        raise ValueError(f"{name}{sign} takes a number, not {value!r}") from None
    numbers_of, comparison = _NUMBERS[name], _COMPARISONS[sign]
    # Comparisons with nan are false.
    return lambda rows: comparison(numbers_of(rows), bound)
