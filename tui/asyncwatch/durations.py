"""Durations as people write them: `250ms`, `1.5s`, `2m`, `1h`, or a plain number of seconds."""

from __future__ import annotations

import re

from asyncwatch.redact import mask_secrets

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+) ?(ms|s|m|h)?")

MAX_DURATION = 366 * 24 * 3600.0
"""Seconds: a year. Whoever writes more means no limit at all, or mistook the unit."""


def parse_duration(value: str | float) -> float:
    """Return the seconds that `value` says.

    Raises:
        ValueError: it is no duration, is negative or not finite, or exceeds `MAX_DURATION`.

    """
    if isinstance(value, str):
        seconds = _parse_text(value)
    elif isinstance(value, bool):
        # As for every other value that is wrong.
        raise ValueError(f"a duration is text or a number of seconds, not {value}")  # noqa: TRY004
    else:
        seconds = value
    # Written so that nan fails too.
    if not seconds >= 0:
        raise ValueError(f"a duration is 0 or more seconds, not {value!r}")
    if seconds > MAX_DURATION:
        raise ValueError(f"a duration is at most {format_duration(MAX_DURATION)}, not {_shorten(value)}")
    return float(seconds)


def _parse_text(text: str) -> float:
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        if text.strip().startswith("-"):
            raise ValueError(f"a duration is 0 or more seconds, not {_shorten(text)}")
        raise ValueError(f"a duration reads like '250ms', '1.5s', '2m' or '1h', not {_shorten(text)}")
    number, unit = match.groups()
    # Divided rather than multiplied, so that '100ms' is exactly 0.1.
    return float(number) / 1000 if unit == "ms" else float(number) * _SECONDS[unit or "s"]


def _shorten(value: object) -> str:
    # Masked before it is cut, or the end of a password would be missed.
    text = repr(mask_secrets(value)) if isinstance(value, str) else "that many"
    shown = f"{value:g}" if isinstance(value, float) else text
    return shown if len(shown) <= 40 else f"{shown[:37]}..."


def format_duration(seconds: float | None) -> str:
    """Return `seconds` as `parse_duration` reads it, to the nanosecond; None is `none`."""
    if seconds is None:
        return "none"
    if 0 < seconds < 1:
        return f"{_trim(seconds * 1000, 6)}ms"
    for unit in ("h", "m"):
        whole, rest = divmod(seconds, _SECONDS[unit])
        if whole and not rest:
            return f"{whole:.0f}{unit}"
    return f"{_trim(seconds, 9)}s"


def _trim(number: float, digits: int) -> str:
    return f"{number:.{digits}f}".rstrip("0").rstrip(".")
