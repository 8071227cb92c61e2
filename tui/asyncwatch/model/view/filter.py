"""The filter language: words and conditions, joined by and, or, not and parentheses. Pure.

`log_filter` has the conditions of log lines.

    expression = group { "or" group }
    group = term { ["and"] term }
    term = "not" term | "(" expression ")" | condition | word

A condition is a field, a sign and a value. Texts are compared by Unicode's NFC without case, so that the two forms of
an accented letter are equal.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Generic, TypeVar
from unicodedata import normalize

from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.model.view import columns
from asyncwatch.text import parse_duration

SYNTAX = "text or state, state:failed, retries>0, elapsed>2s, luck>0.9, error:Timeout, name~^w1, not …, … or …"
"""One line that explains the language."""

T = TypeVar("T")
Check = Callable[[Sequence[T]], list[bool]]
"""Returns for each of some rows or log lines whether it meets a condition."""
Condition = Check[Row]
"""A check of rows in queue order: a call for each row costs more than most conditions."""

_TERM = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_TIMES = ("elapsed", "last")
_TEXTS = ("name", "error", "group")
FIELDS = ("state", *_TEXTS, "retries", "throttled", "luck", *_TIMES)
FIELD = re.compile(r"([A-Za-z_]*)(>=|<=|[:=<>~])(.*)", re.DOTALL)
_QUICK = re.compile(r"(state|retries|throttled|luck|elapsed|last)[:=<>]", re.IGNORECASE)
"""Terms that look at no text. They come first: fewer rows are left for the others."""
_LEAST_OF_STATE = 3
"""Characters from which a plain word matches the states that begin with it."""
_VALUED = re.compile(r"([A-Za-z_]*)(?::|>=|<=|[=<>])")
"""The start of a term whose value can be completed."""
NO_VALUE = re.compile(r"//.*|[0-9]{2,5}(/.*)?|", re.DOTALL)
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
    is_timed: bool = False
    """Whether rows may meet it, or no longer meet it, only because time passes."""

    def matches(self, row: Row) -> bool:
        """Return whether the row meets every condition."""
        return bool(matching((0,), (row,), self.conditions))


EVERYTHING = Query("")
"""The query that every row matches."""


def parse_query(text: str, now: Callable[[], float] = lambda: 0.0) -> Query:
    """Parse a filter (see `SYNTAX`). Never raises.

    Terms are separated by spaces; quotes keep a term with spaces together; case does not matter. A term that is not
    understood (yet) is ignored and reported in `Query.problem`. `now` returns the seconds since the run started, with
    which elapsed times are compared.
    """
    is_timed = False

    def condition(term: str) -> Condition:
        nonlocal is_timed
        field = FIELD.fullmatch(term)
        if field is not None and field[1].lower() in _TIMES and field[2] != "~":
            is_timed = True
            return _compares_times(field[1].lower(), field[2], unquoted(field[3]), now)
        return _condition(term)

    parser = Parser(text, condition, _QUICK)
    return Query(text, parser.parse(), parser.problem, is_timed)


def has_field(text: str) -> bool:
    """Return whether a filter has a condition on a field, so that it is no plain text."""
    fields = map(FIELD.fullmatch, _tokens(text))
    return any(field is not None and field[1].lower() in FIELDS for field in fields)


def completion(text: str, groups: Callable[[], Iterable[str]] = tuple) -> str:
    """Return `text` with its last term completed: a field, or a value of `state:` or `group:`; empty for none.

    `groups` returns the names of the groups. It is called only for a value of `group:`.
    """
    fields = [f"{name}{':' if name in {'state', *_TEXTS} else '>'}" for name in FIELDS]
    return completed(text, fields, {"state": lambda: WorkerState, "group": groups})


def completed(text: str, fields: Iterable[str], values_of: Mapping[str, Callable[[], Iterable[str]]]) -> str:
    """Return `text` with its last term completed, to one of the `fields` with their signs or to one of its values."""
    start = len(text) - len(terms[-1]) if (terms := _TERM.findall(text)) and text.endswith(terms[-1]) else len(text)
    term = text[start:].lstrip("(")
    field = _VALUED.match(term)
    if field is None:
        known = [field for field in fields if field.startswith(term.lower()) and field != term.lower()]
        return text + known[0][len(term) :] if len(term) > 1 and known else ""
    value = term[field.end() :]
    values = values_of.get(field[1].lower(), tuple)()
    bare = value.removeprefix('"')
    for choice in values:
        if bare and choice.casefold().startswith(bare.casefold()) and len(choice) > len(bare):
            rest = choice[len(bare) :]
            if " " not in choice:
                return text + rest
            return f'{text[: len(text) - len(value)]}"{bare}{rest}"'
    return ""


_OPEN, _CLOSE, _AND, _OR, _NOT = "(", ")", "and", "or", "not"


def _tokens(text: str) -> list[str]:
    """Return the terms, and parentheses as terms of their own; those inside a term, as in `f(x)`, belong to it."""
    tokens: list[str] = []
    depth = 0
    for term in _TERM.findall(text):
        inner, closing = term, 0
        while inner.startswith(_OPEN):
            tokens.append(_OPEN)
            depth += 1
            inner = inner[1:]
        while inner.endswith(_CLOSE) and closing < depth and inner.count(_CLOSE) > inner.count(_OPEN):
            closing += 1
            inner = inner[:-1]
        depth -= closing
        tokens += [*([inner] if inner else []), *[_CLOSE] * closing]
    return tokens


class Parser(Generic[T]):
    """Makes checks of a filter's terms. What is still incomplete while a person types is left out.

    `condition` makes one of a word or a condition, or raises `ValueError`. Terms that match `quick` come first.
    """

    def __init__(self, text: str, condition: Callable[[str], Check[T]], quick: re.Pattern[str] | None = None) -> None:
        self._tokens = _tokens(text)
        self._place = 0
        self._condition = condition
        self._quick = quick
        self.problem = ""
        """Why the first term that was not understood was not."""

    def parse(self) -> tuple[Check[T], ...]:
        """Return the checks, all of which must be met."""
        return self._expression()

    def _expression(self) -> tuple[Check[T], ...]:
        groups = [self._group()]
        while self._peek() == _OR:
            self._place += 1
            groups.append(self._group())
        # `a or` is not complete yet: it is `a`.
        groups = [group for group in groups if group]
        return (_any(groups),) if len(groups) > 1 else groups[0] if groups else ()

    def _group(self) -> tuple[Check[T], ...]:
        quick: list[Check[T]] = []
        slow: list[Check[T]] = []
        while (token := self._peek()) not in {"", _OR, _CLOSE}:
            (quick if self._quick and self._quick.match(token) else slow).extend(self._term())
        return (*quick, *slow)

    def _term(self) -> tuple[Check[T], ...]:
        token = self._tokens[self._place]
        self._place += 1
        if token.lower() == _AND:
            return ()
        if token.lower() == _NOT:
            conditions = self._term() if self._peek() not in {"", _OR, _CLOSE} else ()
            return (_not(conditions),) if conditions else ()
        if token == _OPEN:
            conditions = self._expression()
            if self._peek() == _CLOSE:
                self._place += 1
            return conditions
        try:
            return (self._condition(token),)
        except ValueError as error:
            self.problem = self.problem or str(error)
            return ()

    def _peek(self) -> str:
        """Return the next term, `or` in lower case; empty at the end."""
        token = self._tokens[self._place] if self._place < len(self._tokens) else ""
        return token.lower() if token.lower() == _OR else token


def _any(groups: Sequence[Sequence[Check[T]]]) -> Check[T]:
    def condition(rows: Sequence[T]) -> list[bool]:
        met = bytearray(len(rows))
        for group in groups:
            for place in matching(range(len(rows)), rows, group):
                met[place] = True
        return [*map(bool, met)]

    return condition


def _not(conditions: Sequence[Check[T]]) -> Check[T]:
    def condition(rows: Sequence[T]) -> list[bool]:
        met = bytearray(len(rows))
        for place in matching(range(len(rows)), rows, conditions):
            met[place] = True
        return [not is_met for is_met in met]

    return condition


def matching(indexes: Sequence[int], rows: Sequence[T], conditions: Iterable[Check[T]]) -> list[int]:
    """Return the indexes of the rows that meet every condition. `indexes` are those of the rows, in queue order."""
    met: list[bool] | None = None
    for condition in conditions:
        if met is not None:
            rows = list(compress(rows, met))
        met = condition(rows)
        indexes = list(compress(indexes, met))
    return indexes if isinstance(indexes, list) else list(indexes)


def _condition(term: str) -> Condition:
    field = FIELD.fullmatch(term)
    if field is None:
        return _has_text(unquoted(term))
    name, sign, value = field[1].lower(), field[2], unquoted(field[3])
    if sign == "~" and (not name or name in _TEXTS):
        return _matches(name, field[3].replace('"', ""))
    if not name:
        return _has_text(unquoted(term))
    if name not in FIELDS:
        if sign == ":" and NO_VALUE.fullmatch(value):
            return _has_text(unquoted(term))
        raise ValueError(f"no field {name}: {', '.join(FIELDS)}; quotes make it text")
    if name in _NUMBERS:
        return _compares(name, sign, value)
    if sign not in ":=":
        raise ValueError(f"{name} takes a colon: {name}:{value}")
    if not value:
        raise ValueError(f"what follows {name}{sign}?")
    if name == "state":
        return _is_in_state(value)
    if name == "group":
        return lambda rows: [value in folded(row.block.group) for row in rows]
    if name == "name":
        return lambda rows: [
            value in (text.casefold() if (text := row.name).isascii() else folded(text)) for row in rows
        ]
    return lambda rows: [(extra := row.extra) is not None and value in folded(extra.error) for row in rows]


def folded(text: str) -> str:
    """Return a text as texts are compared: without case, in NFC."""
    return text.casefold() if text.isascii() else normalize("NFC", normalize("NFC", text).casefold())


def unquoted(text: str) -> str:
    """Return the value of a term, as texts are compared."""
    return folded(text.replace('"', ""))


def _has_text(text: str) -> Condition:
    states = frozenset(state for state in WorkerState if len(text) >= _LEAST_OF_STATE and state.startswith(text))
    # Most rows have no `extra`: their `error` need not be looked up.
    return lambda rows: [
        text in (name.casefold() if (name := row.name).isascii() else folded(name))
        or row.state in states
        or ((extra := row.extra) is not None and (text in folded(extra.error) or text in folded(extra.status)))
        for row in rows
    ]


def regular_expression(name: str, pattern: str) -> Callable[[str], object]:
    """Return the search of the pattern after `name~`; raise `ValueError` if it is none."""
    if not pattern:
        raise ValueError(f"what follows {name}~?")
    try:
        return re.compile(normalize("NFC", pattern), re.IGNORECASE).search
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"no regular expression: {error}") from None


def nfc(text: str) -> str:
    """Return a text in NFC, in which regular expressions search."""
    return text if text.isascii() else normalize("NFC", text)


def _matches(name: str, pattern: str) -> Condition:
    """Return whether a name, error or group matches a regular expression; without a field, whether one of the first."""
    search = regular_expression(name, pattern)

    if name == "group":
        return lambda rows: [search(nfc(row.block.group)) is not None for row in rows]
    if name == "error":
        return lambda rows: [(extra := row.extra) is not None and search(nfc(extra.error)) is not None for row in rows]
    if name == "name":
        return lambda rows: [search(nfc(row.name)) is not None for row in rows]
    return lambda rows: [search(nfc(row.name)) is not None or search(nfc(row.error)) is not None for row in rows]


def _compares_times(name: str, sign: str, value: str, now: Callable[[], float]) -> Condition:
    try:
        bound = parse_duration(value)
    except ValueError:
        raise ValueError(f"{name}{sign} takes a time such as 2s or 500ms, not {value!r}") from None
    comparison = _COMPARISONS[sign]
    if name == "last":
        return lambda rows: comparison(columns.last_duration(rows, math.nan), bound)
    return lambda rows: comparison(columns.elapsed(rows, now(), math.nan), bound)


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
