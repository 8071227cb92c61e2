"""Retries: how many attempts a worker has, and how long it backs off before each. Pure: no loop, no clock, no state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal, get_args

import msgspec

from asyncwatch.policies.settings import Choice, Duration, Setting, Whole, check_cap, check_settings

BackoffKind = Literal["full", "equal", "decorrelated", "constant", "none"]


class RetryPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How often work is attempted, and how long a worker backs off in between. Times are in seconds.

    Raises:
        SettingError: a ValueError; a setting is out of its range, or `cap` is below `base`.

    """

    max_attempts: Annotated[
        int,
        Setting(
            "Attempts in all, including the first. A service makes one unless its group sets this key: its restart is "
            "its retry.",
            Whole(1),
        ),
    ] = 3
    base: Annotated[
        float, Setting("Longest wait before the first retry. It doubles with each further retry.", Duration())
    ] = 0.1
    cap: Annotated[float, Setting("Longest wait before any retry.", Duration())] = 5.0
    backoff: Annotated[
        BackoffKind,
        Setting(
            "Jitter of the wait. With constant every wait is base; with none there is no wait.",
            Choice(get_args(BackoffKind)),
        ),
    ] = "full"
    """How the wait is made from `base`, `cap` and the jitter; see `delay`."""
    max_retry_after: Annotated[
        float,
        Setting(
            "Longest wait that an error may request by Retry-After, which takes precedence over the backoff.",
            Duration(),
        ),
    ] = 60.0
    transient: Callable[[BaseException], bool] | None = None
    """Decides whether an error is retried, in place of its class. None: every class but `permanent` is."""

    def __post_init__(self) -> None:
        check_settings(self)
        check_cap(self.base, self.cap)

    def delay(self, retry: int, jitter: float, previous: float | None = None) -> float:
        """Return the seconds to wait before retry number `retry` (from 1), for a `jitter` in [0, 1).

        With `ceiling = min(cap, base * 2 ** (retry - 1))`:

        * `full`: `jitter * ceiling`
        * `equal`: `ceiling / 2 + jitter * ceiling / 2`
        * `decorrelated`: `base + jitter * (min(cap, 3 * previous) - base)`, where `previous` is the wait before the
          last retry (`base` before the first one)
        * `constant`: `base`
        * `none`: 0

        The formulas are from Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015, except for
        `decorrelated`. There the draw goes up to `3 * previous` and is cut at the cap afterwards, so most clients that
        have reached the cap wait exactly that long, in step. Here every jitter is drawn after the cap.
        """
        match self.backoff:
            case "constant":
                return self.base
            case "none":
                return 0.0
            case "decorrelated":
                longest = min(self.cap, 3 * max(self.base, self.base if previous is None else previous))
                return self.base + jitter * (longest - self.base)
        # 2.0 ** 1024 overflows. Any base that matters reaches the cap long before.
        ceiling = min(self.cap, self.base * 2.0 ** min(retry - 1, 1000))
        return (ceiling + jitter * ceiling) / 2 if self.backoff == "equal" else jitter * ceiling
