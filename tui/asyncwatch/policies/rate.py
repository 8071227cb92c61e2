"""Rate limits such as `50/s`: how many attempts may start, by a token bucket. Pure: the clock is passed in."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final

import msgspec

from asyncwatch.policies.settings import (
    Number,
    OrNone,
    Parsed,
    Setting,
    Whole,
    check_settings,
    check_value,
    expect_type,
)
from asyncwatch.text import parse_per_second

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_FINEST = 0.01
"""Seconds of a rate that may start at once: timers of a busy event loop are hardly finer."""

Burst = Annotated[
    int | None,
    Setting(
        "Attempts that may start at once after a pause.",
        OrNone(Whole(1), "1, or as many as come in 10 ms"),
    ),
]


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """A number of attempts per second, after a burst.

    Raises:
        SettingError: a ValueError; a rate that is not above 0, or a burst below 1.

    """

    per_second: float
    """Attempts that may start per second."""
    burst: Burst = None

    def __post_init__(self) -> None:
        check_value("per_second", self.per_second, Number(is_open=True))
        check_settings(self)

    @property
    def at_once(self) -> int:
        """The burst in attempts."""
        return max(1, math.ceil(self.per_second * _FINEST)) if self.burst is None else self.burst

    def __str__(self) -> str:
        unit = next((unit for unit in ("s", "min") if self.per_second * _UNITS[unit] >= 1), "h")
        burst = "" if self.burst is None else f" burst {self.burst}"
        return f"{self.per_second * _UNITS[unit]:.12g}/{unit}{burst}"


def parse_rate(text: str, burst: int | None = None) -> RateLimit:
    """Return the limit that `50/s`, `90/min`, `1000/h`, `3/10s` or `50/s burst 10` means.

    Raises:
        ValueError: the text is not a rate, or the rate is 0.

    """
    per_second, own_burst = parse_per_second(text)
    return RateLimit(per_second=per_second, burst=burst if own_burst is None else own_burst)


def _rate_text(value: Any) -> str:
    expect_type(value, str)
    parse_rate(value)
    return str(value)


RATE_RULE: Final = OrNone(Parsed(_rate_text), "no limit")
"""The text of a rate, or None."""


def change_rate(text: str, old: RateLimit | None) -> tuple[RateLimit, str, str | None]:
    """Return the limit that `text` sets in place of `old`, and the texts that set the new and the old limit again.

    The burst stays, unless the text gives one.

    Raises:
        ValueError: the text is not a rate, or the rate is 0.

    """
    given = parse_rate(text)
    if old is None:
        return given, text, None
    if given.burst is None and old.burst is not None:
        return RateLimit(per_second=given.per_second, burst=old.burst), f"{text} burst {old.burst}", str(old)
    is_new_burst = given.burst is not None and old.burst is None
    return given, text, f"{old} burst {old.at_once}" if is_new_burst else str(old)


_ONE = 1.0 - 1e-7
"""Tokens that an attempt needs: a hair less than one, so that rounding never makes a worker wait twice."""
_SHORTEST_WAIT = 0.001
"""Seconds: the event loop's timers are no finer."""


class TokenBucket:
    """Token bucket of a rate limit: holds its burst and refills at its rate. Each attempt takes one token.

    `now` is in seconds of any monotonic clock, the same in all calls. A clock in whole microseconds would make high
    rates drift.
    """

    __slots__ = ("_at", "_tokens", "limit")

    def __init__(self, limit: RateLimit, now: float) -> None:
        self.limit = limit
        self._tokens = float(limit.at_once)
        self._at = now

    def tokens(self, now: float) -> float:
        """Return the tokens in the bucket."""
        if now > self._at:
            self._tokens = min(self.limit.at_once, self._tokens + (now - self._at) * self.limit.per_second)
            self._at = now
        return self._tokens

    def is_free(self, now: float, ahead: int = 0) -> bool:
        """Return whether another attempt may start now, after `ahead` others."""
        return self.tokens(now) >= ahead + _ONE

    def is_full(self, now: float) -> bool:
        """Return whether the bucket is full, as a new one is."""
        return self.tokens(now) >= self.limit.at_once

    def take(self, now: float) -> None:
        """Take the token of an attempt that starts now, as `is_free` allowed."""
        self._tokens = self.tokens(now) - 1.0

    def wait(self, now: float) -> float:
        """Return the seconds until the next attempt may start."""
        return max(_SHORTEST_WAIT, (1.0 - self.tokens(now)) / self.limit.per_second)

    def change(self, limit: RateLimit, now: float) -> None:
        """Adopt another limit. Tokens stay, as far as the new burst allows."""
        self._tokens = min(self.tokens(now), limit.at_once)
        self.limit = limit
