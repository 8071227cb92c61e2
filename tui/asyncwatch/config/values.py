"""Checks of values that only a config has: targets, items, URLs, headers, names of errors.

Each takes a TOML value and returns the value that is kept. It raises `ValueError` with a message that reads well after
`key: `.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from asyncwatch.config.engine import parse_engine
from asyncwatch.policies.halt import parse_halt
from asyncwatch.policies.settings import describe_value, expect_type, nearest
from asyncwatch.text import mask_url, printable, split_address

TARGETS: Final = ("http", "demo")
"""Targets with names of their own. Every other one is a `module:function`."""

_ERRORS = "an HTTP status from 400 to 599, or the dotted name of an exception, such as builtins.OSError"
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
"""The characters of a method or a header's name: RFC 9110, section 5.6.2."""
_BREAKS = re.compile(r"[\r\n\0]")
_PLAIN_URL = re.compile(r"https?://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?(?:/[!-~]*)?")
_BLANK = re.compile(r"[\s\x00-\x1f\x7f]")


def text(value: Any) -> str:
    """Return text."""
    expect_type(value, str)
    return str(value)


def line(value: Any) -> str:
    """Return one line of text without control characters."""
    if not text(value).isprintable():
        raise ValueError(f"must be one line of printable text, not {value!r}")
    return str(value)


def function(value: Any) -> str:
    """Return a `module:function`."""
    module, colon, path = text(value).partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *path.split("."))):
        raise ValueError(f"must be a module:function, such as jobs:lifespan, not {mask_url(printable(value))!r}")
    return str(value)


def engine(value: Any) -> str:
    """Return the name or address of an engine."""
    parse_engine(text(value))
    return str(value)


def group_name(value: Any) -> str:
    """Return the name of a group, which names its workers."""
    if not line(value).strip():
        raise ValueError("a group needs a name; leave the key out for the default")
    return str(value)


def node_name(value: Any) -> str:
    """Return the name of a supervisor. A slash separates the names in its path."""
    if not line(value).strip() or "/" in value:
        raise ValueError(f"a supervisor needs a name without a slash, not {value!r}")
    return str(value)


def halt(value: Any) -> str:
    """Return the text of a halt, which may be given as a whole number."""
    shown = str(value) if type(value) is int else text(value)
    parse_halt(shown)
    return shown


def error_name(value: str) -> None:
    """Accept an HTTP status of an error, or the dotted name of an exception class."""
    is_status = value.isascii() and value.isdecimal() and 400 <= int(value[:9]) <= 599
    if not is_status and not _DOTTED.fullmatch(value):
        raise ValueError(f"must be {_ERRORS}")


def fault_name(names: tuple[str, ...]) -> Callable[[str], None]:
    """Return a check for one of `names`, or whatever `error_name` accepts."""

    def check(value: str) -> None:
        if value not in names:
            try:
                error_name(value)
            except ValueError:
                raise ValueError(f"must be one of {', '.join(names)}, {_ERRORS}") from None

    return check


def method(value: Any) -> str:
    """Return an HTTP method."""
    if not _TOKEN.fullmatch(text(value)):
        raise ValueError(f"is not an HTTP method: {value!r}")
    return str(value).upper()


def header_name(value: str) -> None:
    """Accept the name of a header."""
    if not _TOKEN.fullmatch(value):
        raise ValueError("is not the name of a header")


def header_value(value: Any) -> str:
    """Return the value of a header. It may be a secret, so no message repeats it."""
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004  as any wrong value
    if _BREAKS.search(value):
        raise ValueError("must not contain a line break")
    return value


def proxy(value: Any) -> str:
    """Return the URL of a proxy, or `environment`."""
    if text(value) != "environment" and (problem := url_problem(value)):
        raise ValueError(f"must be 'environment' or the URL of a proxy: {problem}")
    return str(value)


def address(value: Any) -> str:
    """Return the address of a port, which may be a number alone."""
    shown = str(value) if type(value) is int else text(value)
    split_address(shown)
    return shown


def target(value: Any) -> str:
    """Return `http`, `demo` or a `module:function`."""
    if text(value) in TARGETS or re.fullmatch(r"[^\s:]+:[^\s:]+", value):
        return str(value)
    close = nearest(value, TARGETS)
    hint = f" (nearest: {close})" if close else ""
    raise ValueError(f"must be 'http' or 'module:function', not {mask_url(value)!r}{hint}")


def items(value: Any) -> str | tuple[str, ...]:
    """Return a path, `-`, or the items of an array."""
    if isinstance(value, (list, tuple)):
        wrong = next((each for each in value if not isinstance(each, str)), None)
        if wrong is not None:
            raise ValueError(f"must be an array of texts; it holds {describe_value(wrong)}")
        if not value:
            raise ValueError("must not be empty")
        return tuple(value)
    if isinstance(value, str):
        return file(value)
    raise ValueError(f"must be a file, '-' or an array of texts, not {describe_value(value)}")


def file(value: Any) -> str:
    """Return a path."""
    if not text(value) or "\0" in value:
        raise ValueError(f"is not a file: {value!r}")
    return str(value)


def url_problem(url: str) -> str | None:
    """Return why `url` cannot be fetched, or None."""
    if _PLAIN_URL.fullmatch(url):
        return None
    try:
        parts = urlsplit(url)
        # `port` raises an error if it is out of range.
        has_host = bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        # A port that is none may be a part of a password.
        return f"{_quote(url)} is not a URL: {str(error).partition(' as ')[0]}"
    if parts.scheme not in {"http", "https"}:
        return f"{_quote(url)} is not an http:// or https:// URL"
    if not has_host:
        return f"{_quote(url)} has no host or a wrong port"
    return f"{_quote(url)} contains a blank" if _BLANK.search(url) else None


def _quote(url: str) -> str:
    shown = printable(mask_url(url))
    return f"'{shown if len(shown) <= 80 else shown[:77] + '...'}'"
