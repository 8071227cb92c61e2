"""Checks of single values: each takes what TOML gave and returns what the config holds.

Every check raises `ValueError` with a message that reads after `key: `.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any

from asyncwatch.text import mask_secrets, parse_duration, parse_failures, parse_per_second

Check = Callable[[Any], Any]

NONE = "none"
"""How a config says that a key has no value."""

MAX_SEED = 2**63 - 1
TARGETS = ("http", "demo")

MAX_NUMBER = 1e9

_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""RFC 9110, section 5.6.2: what a method or a header's name consists of."""
_BREAKS = re.compile(r"[\r\n\0]")

_TYPES = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "an array",
    dict: "a table",
}


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the one of `words` that `word` was probably meant to be, or an empty text."""
    return next(iter(get_close_matches(word, words, n=1, cutoff=0.5)), "")


def _describe(value: object) -> str:
    kind = _TYPES.get(type(value), "a date or time")
    if isinstance(value, (list, dict)):
        return kind
    # Masked before it is cut, or the end of a password would be missed.
    shown = repr(mask_secrets(value)) if isinstance(value, str) else str(value).lower()
    return f"{kind} ({shown if len(shown) <= 60 else shown[:57] + '...'})"


def _expect(value: object, *types: type) -> None:
    # `type` and not `isinstance`: a bool is no int here.
    if type(value) not in types:
        raise ValueError(f"must be {_TYPES[types[-1]]}, not {_describe(value)}")


def text(value: Any) -> str:
    """Return a text."""
    _expect(value, str)
    return str(value)


def line(value: Any) -> str:
    """Return a text of one line without control characters."""
    text(value)
    if not value.isprintable():
        raise ValueError(f"must be one line of printable text, not {value!r}")
    return str(value)


def node_name(value: Any) -> str:
    """Return what can name a supervisor: a slash separates the names in its path."""
    if not line(value) or "/" in value:
        raise ValueError(f"a supervisor needs a name without a slash, not {value!r}")
    return str(value)


def boolean(value: Any) -> bool:
    """Return true or false."""
    _expect(value, bool)
    return bool(value)


def whole(low: int, high: int) -> Check:
    """Return a check for a whole number from `low` to `high`."""

    def check(value: Any) -> int:
        _expect(value, int)
        if value < low:
            raise ValueError(f"must be {low} or more, not {_number(value)}")
        if value > high:
            raise ValueError(f"must be at most {high}, not {_number(value)}")
        return int(value)

    return check


def _number(value: float) -> str:
    # Python refuses to print a whole number of more than some thousand digits.
    return str(value) if abs(value) < 1e30 else f"a number of {'-' if value < 0 else ''}1e30 or beyond"


def share(value: Any) -> float:
    """Return a number from 0 to 1."""
    _expect(value, int, float)
    if not 0 <= value <= 1:
        raise ValueError(f"must be between 0 and 1, not {_number(value)}")
    return float(value)


def ratio(value: Any) -> float:
    """Return a number above 0, up to 1."""
    if share(value) == 0:
        raise ValueError("must be above 0")
    return float(value)


def number(low: float) -> Check:
    """Return a check for a finite number of `low` or more."""

    def check(value: Any) -> float:
        _expect(value, int, float)
        if not low <= value < math.inf or value > MAX_NUMBER:
            raise ValueError(f"must be {low:g} or more, and no more than {MAX_NUMBER:g}, not {_number(value)}")
        return float(value)

    return check


def duration(value: Any) -> float:
    """Return the seconds of a duration."""
    if type(value) not in (str, int, float):
        raise ValueError(f"must be a duration such as '250ms' or a number of seconds, not {_describe(value)}")
    return parse_duration(value)


def limit(value: Any) -> float:
    """Return the seconds of a duration above 0."""
    seconds = duration(value)
    if not seconds:
        raise ValueError(f"must be above 0; {NONE!r} means no limit")
    return seconds


def period(value: Any) -> float:
    """Return the seconds of a duration above 0, where there has to be one."""
    seconds = duration(value)
    if not seconds:
        raise ValueError("must be above 0")
    return seconds


def patience(value: Any) -> float:
    """Return the seconds of a duration; `inf` for as long as it takes."""
    return math.inf if value in ("inf", math.inf) else duration(value)


def span(value: Any) -> tuple[float, float]:
    """Return the least and the most seconds: of one duration, or of an array of two."""
    if not isinstance(value, list):
        return duration(value), duration(value)
    if len(value) != 2:
        raise ValueError("must be one duration, or an array of two: the least and the most")
    least, most = map(duration, value)
    if most < least:
        raise ValueError("the second duration, the most, must not be below the first one, the least")
    return least, most


def rate(value: Any) -> str:
    """Return the text of a rate."""
    parse_per_second(text(value))
    return str(value)


def halt(value: Any) -> str:
    """Return the text of a halt; a whole number is one too."""
    shown = str(value) if type(value) is int else text(value)
    parse_failures(shown)
    return shown


def error_name(value: str) -> None:
    """Accept an HTTP status of an error, or the dotted name of an exception class."""
    is_status = value.isascii() and value.isdecimal() and 400 <= int(value[:9]) <= 599
    if not is_status and not _DOTTED.fullmatch(value):
        raise ValueError(
            "is no HTTP status from 400 to 599 and no dotted name of an exception, such as builtins.OSError"
        )


def fault_name(names: tuple[str, ...]) -> Callable[[str], None]:
    """Return a check for one of `names`, or what `error_name` accepts."""

    def check(value: str) -> None:
        if value not in names:
            try:
                error_name(value)
            except ValueError as error:
                raise ValueError(f"is none of {', '.join(names)}, {str(error).removeprefix('is ')}") from None

    return check


def optional(check: Check) -> Check:
    """Return a check that takes `none` for None, and else what `check` takes."""
    return lambda value: None if value == NONE else check(value)


def choice(words: tuple[str, ...], *, fold: Callable[[str], str] = str) -> Check:
    """Return a check for one of `words`, after `fold` of it."""

    def check(value: Any) -> str:
        _expect(value, str)
        if fold(value) in words:
            return fold(value)
        close = nearest(fold(value), words)
        hint = f" (nearest: {close})" if close else ""
        raise ValueError(f"must be one of {', '.join(words)}, not {value!r}{hint}")

    return check


def method(value: Any) -> str:
    """Return an HTTP method."""
    _expect(value, str)
    if not _TOKEN.fullmatch(value):
        raise ValueError(f"is no HTTP method: {value!r}")
    return str(value).upper()


def header_name(value: str) -> None:
    """Accept what can name a header."""
    if not _TOKEN.fullmatch(value):
        raise ValueError("is no name of a header")


def header_value(value: Any) -> str:
    """Return what can stand in a header. It may be a secret, so no message repeats it."""
    if type(value) is not str:
        raise ValueError("must be text")
    if _BREAKS.search(value):
        raise ValueError("must not contain a line break")
    return value


def target(value: Any) -> str:
    """Return `http`, `demo` or a `module:function`."""
    _expect(value, str)
    if value in TARGETS or re.fullmatch(r"[^\s:]+:[^\s:]+", value):
        return str(value)
    close = nearest(value, TARGETS)
    hint = f" (nearest: {close})" if close else ""
    raise ValueError(f"must be 'http' or 'module:function', not {value!r}{hint}")


def items(value: Any) -> str | tuple[str, ...] | None:
    """Return a path, `-`, or the items of an array."""
    if isinstance(value, list):
        wrong = next((each for each in value if type(each) is not str), None)
        if wrong is not None:
            raise ValueError(f"must be an array of texts; it holds {_describe(wrong)}")
        if not value:
            raise ValueError("must not be empty")
        return tuple(value)
    if isinstance(value, str):
        return file(value)
    raise ValueError(f"must be a file, '-' or an array of texts, not {_describe(value)}")


def file(value: Any) -> str | None:
    """Return a path; `none` is None."""
    _expect(value, str)
    if not value or "\0" in value:
        raise ValueError(f"is no file: {value!r}")
    return None if value == NONE else str(value)
