"""The filter language: words and conditions, all of which a row must meet. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row

SYNTAX = "text in name or error, state:failed, retries>0, luck>0.9, error:Timeout, group:name"
"""One line that explains the language."""

Condition = Callable[[Row], bool]

_TERM = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_FIELDS = ("state", "error", "group", "retries", "luck")
_FIELD = re.compile(r"([A-Za-z_]+)(>=|<=|[:=<>])(.*)", re.DOTALL)
_NO_VALUE = re.compile(r"//.*|[0-9]{2,5}(/.*)?|", re.DOTALL)
"""The text after the colon of a URL, of `host:port`, or of an unfinished word (`OSError:`)."""
_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=": operator.eq,
    ":": operator.eq,
}
_NUMBERS: dict[str, Callable[[Row], float | None]] = {
    "retries": operator.attrgetter("retries"),
    "luck": operator.attrgetter("bad_luck"),
}


@dataclass(frozen=True, slots=True)
class Query:
    """A parsed filter. Terms that were not understood are ignored; `problem` reports the first."""

    text: str
    conditions: tuple[Condition, ...] = ()
    problem: str = ""

    @property
    def matcher(self) -> Condition:
        """The same as `matches`, in half the calls if there is only one condition."""
        return self.conditions[0] if len(self.conditions) == 1 else self.matches

    def matches(self, row: Row) -> bool:
        """Return whether the row meets every condition."""
        # all() over a generator takes three times as long, for every row.
        for condition in self.conditions:  # noqa: SIM110
            if not condition(row):
                return False
        return True


EVERYTHING = Query("")
"""The query that every row matches."""


def parse_query(text: str) -> Query:
    """Parse a filter (see `SYNTAX`). Never raises.

    Terms are separated by spaces; quotes keep a term with spaces together; case does not matter. A term that is not
    understood (yet) is ignored and reported in `Query.problem`.
    """
    conditions: list[Condition] = []
    problem = ""
    for term in _TERM.findall(text):
        try:
            conditions.append(_condition(term))
        except ValueError as error:
            problem = problem or str(error)
    return Query(text, tuple(conditions), problem)


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
        return lambda row: value in row.group.casefold()
    return lambda row: value in row.error.casefold()


def _unquoted(text: str) -> str:
    return text.replace('"', "").casefold()


def _has_text(text: str) -> Condition:
    # Most rows have no `extra`: their `error` need not be looked up.
    return lambda row: text in row.name.casefold() or (row.extra is not None and text in row.extra.error.casefold())


def _is_in_state(prefix: str) -> Condition:
    states = frozenset(state for state in WorkerState if state.startswith(prefix))
    if not states:
        raise ValueError(f"no state begins with {prefix!r}: {', '.join(WorkerState)}")
    return lambda row: row.state in states


def _compares(name: str, sign: str, value: str) -> Condition:
    try:
        bound = float(value)
    except ValueError:
        raise ValueError(f"{name}{sign} takes a number, not {value!r}") from None
    number, comparison = _NUMBERS[name], _COMPARISONS[sign]

    def is_met(row: Row) -> bool:
        own = number(row)
        return own is not None and comparison(own, bound)

    return is_met
