"""How many attempts may start in a time: `50/s`, kept by aiolimiter's leaky bucket."""

from __future__ import annotations

import math

import msgspec
from aiolimiter import AsyncLimiter

from asyncwatch.text import parse_per_second

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0}
_FINEST = 0.01
"""Seconds of a limit that may pass at once: timers are not much finer than that."""
_HALVINGS = 32
"""Of a range, down to what is beyond any timer."""


class RateLimit(msgspec.Struct, frozen=True, kw_only=True):
    """So many attempts a second, after a burst.

    Raises:
        ValueError: a rate that is not above 0, or a burst below 1.

    """

    per_second: float
    burst: int | None = None
    """Attempts that may start at once after a pause. None: 1, or what comes in 10 ms if that is more."""

    def __post_init__(self) -> None:
        if not 0 < self.per_second < float("inf"):
            raise ValueError(f"a rate must be above 0, not {self.per_second}")
        if self.burst is not None and self.burst < 1:
            raise ValueError(f"burst must be at least 1, not {self.burst}")

    @property
    def at_once(self) -> int:
        """The burst in attempts."""
        return max(1, math.ceil(self.per_second * _FINEST)) if self.burst is None else self.burst

    def __str__(self) -> str:
        unit = next((unit for unit in ("s", "min") if self.per_second * _UNITS[unit] >= 1), "h")
        burst = "" if self.burst is None else f" burst {self.burst}"
        return f"{self.per_second * _UNITS[unit]:.12g}/{unit}{burst}"


def parse_rate(text: str, burst: int | None = None) -> RateLimit:
    """Return the limit that `50/s`, `90/min`, `1000/h`, `3/10s` or `50/s burst 10` asks for.

    Raises:
        ValueError: the text is no rate, or the rate is 0.

    """
    per_second, own_burst = parse_per_second(text)
    return RateLimit(per_second=per_second, burst=burst if own_burst is None else own_burst)


def change_rate(text: str, old: RateLimit | None) -> tuple[RateLimit, str, str | None]:
    """Return the limit that `text` makes of `old`, and both as texts that bring each back in place of the other.

    The burst stays unless the text gives one.

    Raises:
        ValueError: the text is no rate, or the rate is 0.

    """
    given = parse_rate(text)
    if old is None:
        return given, text, None
    if given.burst is None and old.burst is not None:
        return RateLimit(per_second=given.per_second, burst=old.burst), f"{text} burst {old.burst}", str(old)
    is_new_burst = given.burst is not None and old.burst is None
    return given, text, f"{old} burst {old.at_once}" if is_new_burst else str(old)


_ONE = 1.0 - 1e-7
"""What of a limit must be free for an attempt: a hair less than one, so that rounding makes nobody wait once more."""
_SHORTEST_WAIT = 0.001
"""Seconds: the loop's timers are no finer."""


class Gate:
    """Says whether a limit lets an attempt start, and counts those that do. Belongs to the thread of a running loop."""

    __slots__ = ("_limiter", "limit")

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self._limiter = _new_limiter(limit)

    def is_free(self, ahead: int = 0) -> bool:
        """Return whether another attempt may start now, after `ahead` others."""
        return self._limiter.has_capacity(ahead + _ONE)

    def take(self) -> None:
        """Count an attempt that starts now, as `is_free` allowed."""
        _acquire(self._limiter, 1.0 if self._limiter.has_capacity() else _ONE)

    def wait(self) -> float:
        """Return the seconds until the next attempt may start."""
        return max(_SHORTEST_WAIT, (1.0 - _capacity(self._limiter, 1.0)) / self.limit.per_second)

    def change(self, limit: RateLimit) -> None:
        """Keep another limit from now on, of which as much is free as was of the old one."""
        free = _capacity(self._limiter, self.limit.at_once)
        self.limit, self._limiter = limit, _new_limiter(limit)
        _acquire(self._limiter, max(0.0, limit.at_once - free))


def _new_limiter(limit: RateLimit) -> AsyncLimiter:
    return AsyncLimiter(limit.at_once, limit.at_once / limit.per_second)


def _acquire(limiter: AsyncLimiter, amount: float) -> None:
    """Take an amount that is there: then `acquire` comes to its end without a wait."""
    try:
        limiter.acquire(amount).send(None)
    except StopIteration:
        return
    raise RuntimeError("a limit was passed that had nothing left")


def _capacity(limiter: AsyncLimiter, most: float) -> float:
    """Return how much is free now, up to `most`. A limiter says of an amount only whether it is: so it is halved."""
    low, high = 0.0, most
    if limiter.has_capacity(high):
        return high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if limiter.has_capacity(middle):
            low = middle
        else:
            high = middle
    return low
