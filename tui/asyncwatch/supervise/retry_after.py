"""How long a server asks its clients to wait: the `Retry-After` of an error. Pure: the clock is passed in."""

from __future__ import annotations

import math
import re
from datetime import UTC

_SECONDS = re.compile(r"[0-9]+")


def parse_retry_after(value: str, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, None if it says nothing that can be understood.

    It holds whole seconds or an HTTP date (RFC 9110, section 10.2.3); a date that has passed asks for no wait.
    `now` is in seconds of the epoch.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        # More digits than a float can hold are as good as for ever; int() refuses thousands of them.
        return float(value)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  few servers ask by a date

    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - now)


def retry_after_of(error: BaseException, now: float) -> float | None:
    """Return the seconds that `error` asks to wait, None if it does not.

    That is its attribute `retry_after` (a number of seconds), or the header in its `headers`, which aiohttp's
    `ClientResponseError` has. `now` is in seconds of the epoch.
    """
    seconds = getattr(error, "retry_after", None)
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
        return float(seconds) if seconds >= 0 and not math.isnan(seconds) else None
    get = getattr(getattr(error, "headers", None), "get", None)
    value = get("Retry-After") if callable(get) else None
    return parse_retry_after(value, now) if isinstance(value, str) else None
