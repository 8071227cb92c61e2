"""Rates and halts as people write them: `50/s`, `90/min`, `3/10s`, `50/s burst 10`; `10`, `5%`, `first`."""

from __future__ import annotations

import re

_RATE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*/\s*(\d+(?:\.\d+)?)?\s*(ms|s|m|min|h)(?:\s+burst\s+(\d{1,9}))?\s*", re.ASCII)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_NUMBER = re.compile(r"\s*(\d{1,18})\s*", re.ASCII)
_PERCENT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*%\s*", re.ASCII)


def parse_per_second(text: str) -> tuple[float, int | None]:
    """Return how many a second `text` asks for, and how many at once; None if it does not say.

    Raises:
        ValueError: it is no rate, or a rate or burst of 0.

    """
    match = _RATE.fullmatch(text)
    if match is None:
        raise ValueError(f"a rate reads like 50/s, 90/min, 3/10s or 50/s burst 10, not {text!r}")
    number, length, unit, burst = match.groups()
    seconds = float(length or 1) * _UNITS[unit]
    if not seconds:
        raise ValueError(f"a rate needs a time that is not 0: {text!r}")
    per_second = float(number) / seconds
    if not 0 < per_second < float("inf"):
        raise ValueError(f"a rate must be above 0, not {text!r}")
    if burst is not None and not int(burst):
        raise ValueError(f"the burst of a rate must be at least 1: {text!r}")
    return per_second, None if burst is None else int(burst)


def parse_failures(text: str) -> tuple[int | None, float | None]:
    """Return the number of failures, or else the share of all workers, that `text` names.

    Raises:
        ValueError: it is none of the forms, or out of range.

    """
    if text.strip() == "first":
        return 1, None
    if (match := _NUMBER.fullmatch(text)) and int(match[1]):
        return int(match[1]), None
    if (match := _PERCENT.fullmatch(text)) and 0 < float(match[1]) <= 100:
        return None, float(match[1]) / 100
    raise ValueError(f"a halt reads like 10, 5% or first, not {text!r}")
