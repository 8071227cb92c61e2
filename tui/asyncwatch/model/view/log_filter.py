"""The filter of the log: the language of `filter`, with the fields that log lines have. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from asyncwatch.events import LogRecorded
from asyncwatch.model.view.filter import (
    FIELD,
    FIELDS,
    NO_VALUE,
    Check,
    Parser,
    completed,
    folded,
    matching,
    nfc,
    regular_expression,
    unquoted,
)

SYNTAX = "text, level:warning, level>=error, name:web, logger:db, text~regex, not … , … or …"
"""One line that explains the language."""
FILTERS = (
    ("text", "in the message or the worker's name"),
    ("level:warning", "this level; also > >= < <="),
    ("name:web", "text in the worker's name; also worker:"),
    ("logger:app.db", "text in the logger's name"),
    ("text~time.*out", "a regular expression in the message"),
    ("~ab+c", "the same in the message or the name"),
    ("not a", "lines that do not match a"),
    ("a (b or c)", "a, and b or c"),
)
"""The terms and their meanings, for the help."""

LEVELS = ("debug", "info", "warning", "error", "critical")
_NUMBERS = logging.getLevelNamesMapping()


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A parsed filter. Terms that were not understood are ignored; `problem` reports the first."""

    text: str = ""
    conditions: tuple[Check[LogRecorded], ...] = ()
    problem: str = ""

    def matches(self, log: LogRecorded) -> bool:
        """Return whether the line meets every condition."""
        return bool(matching((0,), (log,), self.conditions))


def parse_log_query(text: str) -> LogQuery:
    """Parse a filter (see `SYNTAX`). Never raises. Terms are as in `filter.parse_query`."""
    parser = Parser(text, _condition)
    return LogQuery(text, parser.parse(), parser.problem)


def completion(text: str) -> str:
    """Return `text` with its last term completed: a field, or a level; empty for none."""
    return completed(text, ("level:", *(f"{name}:" for name in _TEXTS)), {"level": lambda: LEVELS})


def level_number(log: LogRecorded) -> int:
    """Return the number of the record's level; that of INFO for a level without a known name."""
    number = _NUMBERS.get(log.level)
    if number is None:
        digits = log.level.removeprefix("Level ")
        number = int(digits) if digits.isdecimal() else logging.INFO
    return number


def _condition(term: str) -> Check[LogRecorded]:
    field = FIELD.fullmatch(term)
    if field is None:
        return _has_text(unquoted(term))
    name, sign, value = field[1].lower(), field[2], unquoted(field[3])
    if sign == "~" and (not name or name in _TEXTS):
        search = regular_expression(name, field[3].replace('"', ""))
        if name:
            text_of = _TEXTS[name]
            return lambda logs: [search(nfc(text_of(log))) is not None for log in logs]
        return lambda logs: [any(map(search, (nfc(log.message), nfc(log.worker or "")))) for log in logs]
    if name == "level":
        if not value:
            raise ValueError(f"what follows level{sign}?")
        return _of_level(sign, value)
    if name not in _TEXTS:
        # Messages are full of `key=value`. Only fields of the other filter are a mistake.
        if name not in FIELDS or (sign == ":" and NO_VALUE.fullmatch(value)):
            return _has_text(unquoted(term))
        raise ValueError(f"no field {name} in the log: level, {', '.join(_TEXTS)}; quotes make it text")
    if not value:
        raise ValueError(f"what follows {name}{sign}?")
    if sign not in ":=":
        raise ValueError(f"{name} takes a colon or ~: {name}:{value}")
    text_of = _TEXTS[name]
    return lambda logs: [value in folded(text_of(log)) for log in logs]


def _has_text(text: str) -> Check[LogRecorded]:
    return lambda logs: [text in folded(log.message) or text in folded(log.worker or "") for log in logs]


_TEXTS: dict[str, Callable[[LogRecorded], str]] = {
    "name": lambda log: log.worker or "",
    "worker": lambda log: log.worker or "",
    "logger": lambda log: log.logger,
    "text": lambda log: log.message,
}


def _of_level(sign: str, value: str) -> Check[LogRecorded]:
    level = next((level for level in LEVELS if level.startswith(value)), None)
    if level is None:
        raise ValueError(f"no level begins with {value!r}: {', '.join(LEVELS)}")
    bound = _NUMBERS[level.upper()]
    match sign:
        case ">=":
            return lambda logs: [level_number(log) >= bound for log in logs]
        case "<=":
            return lambda logs: [level_number(log) <= bound for log in logs]
        case ">":
            return lambda logs: [level_number(log) > bound for log in logs]
        case "<":
            return lambda logs: [level_number(log) < bound for log in logs]
        case ":" | "=":
            return lambda logs: [level_number(log) == bound for log in logs]
        case _:
            raise ValueError(f"level takes a comparison: level>={level}")
