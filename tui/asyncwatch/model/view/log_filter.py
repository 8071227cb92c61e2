"""The filter language for lines of the log: words and conditions, with `not` and `or`. Pure."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

from asyncwatch.events import LogRecorded

SYNTAX = "text, level:warning, level>=error, worker:web, logger:db, text~regex, not … , … or …"
"""One line that explains the language."""
FILTERS = (
    ("text", "in the message or the worker's name"),
    ("level:warning", "this level; also > >= < <="),
    ("worker:web", "text in the worker's name"),
    ("logger:app.db", "text in the logger's name"),
    ("text~time.*out", "a regular expression in the message"),
    ("not a", "lines that do not match a"),
    ("a b or c", "both a and b, or c"),
)
"""The terms and their meanings, for the help."""

LEVELS = ("debug", "info", "warning", "error", "critical")
Condition = Callable[[LogRecorded], bool]

_TERM = re.compile(r'(?:[^\s"]|"[^"]*"?)+')
_FIELD = re.compile(r"(level|worker|logger|text)(>=|<=|[:=<>~])(.*)", re.DOTALL | re.IGNORECASE)
_NUMBERS = logging.getLevelNamesMapping()


@dataclass(frozen=True, slots=True)
class LogQuery:
    """A parsed filter. Terms that were not understood are ignored; `problem` reports the first."""

    text: str = ""
    choices: tuple[tuple[Condition, ...], ...] = ()
    """A line matches if it meets all conditions of one of them; with none, every line does."""
    problem: str = ""

    def matches(self, log: LogRecorded) -> bool:
        """Return whether the line matches."""
        return not self.choices or any(all(meets(log) for meets in conditions) for conditions in self.choices)


def parse_log_query(text: str) -> LogQuery:
    """Parse a filter (see `SYNTAX`). Never raises.

    Terms are separated by spaces; quotes keep a term with spaces together; case does not matter.
    """
    choices: list[list[Condition]] = [[]]
    problem, is_negated = "", False
    for term in _TERM.findall(text):
        match term.casefold():
            case "or":
                choices.append([])
                is_negated = False
            case "and":
                pass
            case "not":
                is_negated = not is_negated
            case _:
                try:
                    condition = _condition(term)
                except ValueError as error:
                    problem = problem or str(error)
                else:
                    choices[-1].append(_negated(condition) if is_negated else condition)
                is_negated = False
    return LogQuery(text, tuple(tuple(each) for each in choices if each), problem)


def level_number(log: LogRecorded) -> int:
    """Return the number of the record's level; that of INFO for a level without a known name."""
    number = _NUMBERS.get(log.level)
    if number is None:
        digits = log.level.removeprefix("Level ")
        number = int(digits) if digits.isdecimal() else logging.INFO
    return number


def _negated(condition: Condition) -> Condition:
    return lambda log: not condition(log)


def _condition(term: str) -> Condition:
    field = _FIELD.fullmatch(term)
    if field is None:
        text = _unquoted(term).casefold()
        return lambda log: text in log.message.casefold() or text in (log.worker or "").casefold()
    name, sign, value = field[1].lower(), field[2], _unquoted(field[3])
    if not value:
        raise ValueError(f"what follows {name}{sign}?")
    if name == "level":
        return _of_level(sign, value.casefold())
    if sign == "~":
        return _like(name, value)
    if sign not in ":=":
        raise ValueError(f"{name} takes a colon or ~: {name}:{value}")
    value = value.casefold()
    text_of = _TEXTS[name]
    return lambda log: value in text_of(log).casefold()


_TEXTS: dict[str, Callable[[LogRecorded], str]] = {
    "worker": lambda log: log.worker or "",
    "logger": lambda log: log.logger,
    "text": lambda log: log.message,
}


def _of_level(sign: str, value: str) -> Condition:
    level = next((level for level in LEVELS if level.startswith(value)), None)
    if level is None:
        raise ValueError(f"no level begins with {value!r}: {', '.join(LEVELS)}")
    bound = _NUMBERS[level.upper()]
    match sign:
        case ">=":
            return lambda log: level_number(log) >= bound
        case "<=":
            return lambda log: level_number(log) <= bound
        case ">":
            return lambda log: level_number(log) > bound
        case "<":
            return lambda log: level_number(log) < bound
        case ":" | "=":
            return lambda log: level_number(log) == bound
        case _:
            raise ValueError(f"level takes a comparison: level>={level}")


def _like(name: str, value: str) -> Condition:
    try:
        pattern = re.compile(value, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"{value} is no regular expression: {error}") from None
    text_of = _TEXTS[name]
    return lambda log: pattern.search(text_of(log)) is not None


def _unquoted(text: str) -> str:
    return text.replace('"', "")
