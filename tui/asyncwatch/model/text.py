"""Foreign text made safe to show: one line, bounded, and without anything a terminal would obey."""

from __future__ import annotations

import sys
from typing import Any
from unicodedata import combining, east_asian_width

import msgspec

from asyncwatch.redact import mask_secrets

_JOINERS = "\u200c\u200d"
"""Format characters that belong to words and emoji; every other one can reorder or hide text."""


def printable(text: str) -> str:
    r"""Return `text` with control, format and lone surrogate characters escaped, as in `\x1b`."""
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(char: str) -> str:
    if char.isprintable() or char in _JOINERS:
        return char
    if char.isspace() and ord(char) >= 0xA0 and char not in "\u2028\u2029":
        return " "
    return char.encode("unicode_escape").decode("ascii")


def one_line(text: str, limit: int) -> str:
    """Return `text` printable, on one line of at most `limit` characters; runs of white space become one."""
    if len(text) <= limit and text.isprintable():
        return text
    # Enough for the result whatever is collapsed in ordinary text, and little work for a text of megabytes.
    line = printable(" ".join(text[: limit * 4].split()))
    if len(line) > limit or len(text) > limit * 4:
        return line[: limit - 1] + "…"
    return line


def cells(text: str) -> int:
    """Return how many cells of a terminal the text takes: wide characters two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, width: int) -> str:
    """Return `text` in at most `width` cells; a cut is marked by an ellipsis."""
    if cells(text) <= width:
        return text
    while text and cells(text) >= width:
        text = text[: min(len(text) - 1, width - 1)]
    return f"{text.rstrip()}…" if width > 0 else ""


def value_text(value: Any) -> str:
    """Return a result as text: a string as it is, anything else as JSON (its repr if JSON cannot hold it)."""
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        return repr(value)


_TEXTS_SHARED = 4_096
_texts: dict[str, str] = {}


def share(text: str) -> str:
    """Return `text`, or an equal string that was shared before, so that many rows hold one.

    `sys.intern` would do the same, but the first releases of Python 3.12 never free an interned string (gh-113993).
    """
    shared = _texts.get(text)
    if shared is None:
        if len(_texts) >= _TEXTS_SHARED:
            _texts.clear()
        shared = _texts[text] = text
    return shared


def error_line(error_type: str, error: str) -> str:
    """Return `Type: message` as a printable line of at most 300 characters. Equal lines are one string."""
    return share(one_line(f"{error_type}: {error}" if error else error_type, 300))


_SHARED = {number: sys.intern(str(number)) for number in range(600)}
"""What most workers return: a status of HTTP, or a small number."""


def result_line(result: Any) -> str | None:
    """Return a result without credentials on a printable line of at most 200 characters; None for None."""
    if result is None:
        return None
    if type(result) is int and -1_000_000 < result < 1_000_000:
        # A status is shared by most workers; other results are as a rule their own.
        return _SHARED.get(result) or share(str(result))
    return one_line(mask_secrets(value_text(result)), 200)


def clock_text(seconds: float) -> str:
    """Return a time since the start of the run: `00:03.2`, `1:02:03.4`."""
    tenths = int(max(0.0, seconds) * 10)
    minutes, tenths = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    clock = f"{minutes:02}:{tenths // 10:02}.{tenths % 10}"
    return f"{hours}:{clock}" if hours else clock


def duration_text(seconds: float) -> str:
    """Return a length of time to three digits or so: `212 ms`, `1.04 s`, `2 m 03 s`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.00995 else f"{seconds * 1000:.1f} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {rest:02} s"
