"""How often work is tried and how long a retry waits. Pure: no loop, no clock, no state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import msgspec

BackoffKind = Literal["full", "equal", "decorrelated", "constant", "none"]
BACKOFF_KINDS: Final = ("full", "equal", "decorrelated", "constant", "none")


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often work is tried and how long to wait in between.

    Raises:
        ValueError: `max_attempts` below 1, a negative or infinite time, a cap below the base, or an unknown kind.

    """

    max_attempts: int = 3
    """Attempts in all, the first one included."""
    base: float = 0.1
    """Seconds: the longest wait before the first retry. It doubles with every further one."""
    cap: float = 5.0
    """Seconds: the longest wait before any retry."""
    kind: BackoffKind = "full"
    """How the wait is made of `base`, `cap` and the jitter; see `backoff`."""
    max_retry_after: float = 60.0
    """Seconds: the longest wait that an error may ask for by `Retry-After`, which beats the backoff."""
    transient: Callable[[BaseException], bool] | None = None
    """Says whether an error is worth another attempt, in place of its class. None: any but a permanent one is."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ValueError(f"max_attempts must be at least 1, not {self.max_attempts}")
        if not 0 <= self.base < float("inf"):
            raise ValueError(f"base must be 0 seconds or more, not {self.base}")
        if not self.base <= self.cap < float("inf"):
            raise ValueError(f"cap ({self.cap} s) must not be below base ({self.base} s)")
        if self.kind not in BACKOFF_KINDS:
            raise ValueError(f"kind must be one of {', '.join(BACKOFF_KINDS)}, not {self.kind!r}")
        if not 0 <= self.max_retry_after < float("inf"):
            raise ValueError(f"max_retry_after must be 0 seconds or more, not {self.max_retry_after}")

    def backoff(self, retry: int, jitter: float, previous: float | None = None) -> float:
        """Return the seconds to wait before retry number `retry` (from 1), for a `jitter` in [0, 1).

        With `ceiling = min(cap, base * 2 ** (retry - 1))`:

        * `full`: `jitter * ceiling`
        * `equal`: `ceiling / 2 + jitter * ceiling / 2`
        * `decorrelated`: `base + jitter * (min(cap, 3 * previous) - base)`, where `previous` is the wait before the
          last retry (`base` before the first one)
        * `constant`: `base`
        * `none`: 0

        They are those of Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, but for
        `decorrelated`: there the draw goes up to `3 * previous` and is cut at the cap after that, which makes most
        clients that have reached it wait exactly the cap, all in step. Here every jitter is drawn after the cap.
        """
        match self.kind:
            case "constant":
                return self.base
            case "none":
                return 0.0
            case "decorrelated":
                longest = min(self.cap, 3 * max(self.base, self.base if previous is None else previous))
                return self.base + jitter * (longest - self.base)
        # 2.0 ** 1024 overflows; the cap is reached long before for any base that matters.
        ceiling = min(self.cap, self.base * 2.0 ** min(retry - 1, 1000))
        return (ceiling + jitter * ceiling) / 2 if self.kind == "equal" else jitter * ceiling
