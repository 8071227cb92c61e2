"""Is an error worth another attempt, and how long to wait for it. Pure: no loop, no clock, no state."""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec

TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
"""HTTP statuses that may go away if tried again: RFC 9110 (408, 500, 502, 503, 504), 6585 (429), 8470 (425)."""


def is_transient(error: BaseException) -> bool:
    """Return whether `error` may go away if the same work is tried again.

    Transient are time-outs, connection errors (of the standard library, and aiohttp's `ServerDisconnectedError`,
    `ServerTimeoutError` and `ClientOSError`) and aiohttp's `ClientResponseError` with one of `TRANSIENT_STATUS`.
    aiohttp is looked up, never imported: an error of its can only exist where it was imported already.
    """
    if isinstance(error, (TimeoutError, ConnectionError)):
        return True
    aiohttp = sys.modules.get("aiohttp")
    if aiohttp is None:
        return False
    if isinstance(error, aiohttp.ClientResponseError):
        return error.status in TRANSIENT_STATUS
    return isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError))


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often work is tried and how long to wait in between.

    Raises:
        ValueError: `max_attempts` below 1, a negative or infinite time, or a cap below the base.

    """

    max_attempts: int = 3
    """Attempts in all, the first one included."""
    base: float = 0.1
    """Seconds: the longest wait before the first retry. It doubles with every further one."""
    cap: float = 5.0
    """Seconds: the longest wait before any retry."""
    transient: Callable[[BaseException], bool] = is_transient
    """Says whether an error is worth another attempt."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, not {self.max_attempts}")
        if not 0 <= self.base < float("inf"):
            raise ValueError(f"base must be 0 seconds or more, not {self.base}")
        if not self.base <= self.cap < float("inf"):
            raise ValueError(f"cap ({self.cap} s) must not be below base ({self.base} s)")

    def backoff(self, retry: int, jitter: float) -> float:
        """Return the seconds to wait before retry number `retry` (from 1), for a `jitter` in [0, 1).

        Exponential backoff with full jitter: `jitter * min(cap, base * 2 ** (retry - 1))`. The jitter is drawn
        after the cap, so that clients that reached it do not fall in step
        (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
        """
        # 2.0 ** 1024 overflows; the cap is reached long before for any base that matters.
        ceiling = min(self.cap, self.base * 2.0 ** min(retry - 1, 1000))
        return jitter * ceiling
