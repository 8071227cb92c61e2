"""Who is restarted, when, and who is taken along: the rules of supervisor.erl. Pure: the clock is passed in."""

from __future__ import annotations

import enum
import itertools
from collections import deque
from collections.abc import Iterable
from typing import Literal

import msgspec

from asyncwatch.engine.tree.errors import InvalidBackoff

RestartType = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]


class Reason(enum.StrEnum):
    """Why a child ended."""

    NORMAL = "normal"
    """It returned."""
    SHUTDOWN = "shutdown"
    """It was asked to, or raised `Shutdown`, or is a supervisor that gave up or shut down by itself."""
    ABNORMAL = "abnormal"
    """It raised, or somebody else cancelled it, or it ignored the end of its time."""
    IGNORED = "ignored"
    """It raised `Ignore` before it was ready."""


def is_number(value: object) -> bool:
    """Return whether `value` is an int or a float, and no flag."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_restarted(restart: RestartType, reason: Reason) -> bool:
    """Return whether a child of that restart type is restarted after it ended so."""
    return restart == "permanent" or (restart == "transient" and reason is Reason.ABNORMAL)


def taken_along(strategy: Strategy, names: Iterable[str], failed: str) -> Iterable[str]:
    """Return those of `names` (in start order) that are restarted when `failed`, one of them, is; it included."""
    match strategy:
        case "one_for_one":
            return (failed,)
        case "one_for_all":
            return names
        case "rest_for_one":
            return itertools.dropwhile(lambda name: name != failed, names)


class RestartWindow:
    """Counts restarts: more than `max_restarts` within `within` seconds are too many. Times are monotonic seconds."""

    __slots__ = ("_times", "max_restarts", "within")

    def __init__(self, max_restarts: int, within: float) -> None:
        self.max_restarts = max_restarts
        self.within = within
        self._times: deque[float] = deque()

    def add(self, now: float) -> bool:
        """Count one restart; return whether that is still within the limit.

        As in supervisor.erl: put now in, drop what is older than the period, compare the length.
        """
        times = self._times
        times.append(now)
        while times[0] + self.within < now:
            times.popleft()
        return len(times) <= self.max_restarts

    def __len__(self) -> int:
        return len(self._times)


class RestartBackoff(msgspec.Struct, frozen=True, kw_only=True):
    """How long a child waits before it is restarted. OTP restarts at once, and so does the default.

    Raises:
        InvalidBackoff: a base or stable time below 0, a factor below 1, a cap below the base, or one not finite.

    """

    base: float = 0.0
    """Seconds before the first restart; 0: at once, always."""
    factor: float = 2.0
    """The wait grows by this with every further restart."""
    cap: float = 30.0
    """Seconds: the longest wait."""
    stable_after: float = 60.0
    """Seconds that a child must have run for its next wait to be the first one again."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value: object = getattr(self, field)  # whatever somebody gave
            if not is_number(value):
                raise InvalidBackoff(f"the {field} of a restart backoff must be a number, not {value!r}")
        if not 0 <= self.base < float("inf"):
            raise InvalidBackoff(f"the base of a restart backoff must be 0 seconds or more, not {self.base}")
        if not 1 <= self.factor < float("inf"):
            raise InvalidBackoff(f"the factor of a restart backoff must be 1 or more, not {self.factor}")
        if not self.base <= self.cap < float("inf"):
            raise InvalidBackoff(f"cap ({self.cap} s) must not be below base ({self.base} s)")
        if not 0 <= self.stable_after < float("inf"):
            raise InvalidBackoff(f"stable_after must be 0 seconds or more, not {self.stable_after}")

    def delay(self, restart: int, jitter: float) -> float:
        """Return the seconds to wait before restart number `restart` (from 1), for a `jitter` in [0, 1).

        At least half of `min(cap, base * factor ** (restart - 1))` and less than all of it ("equal jitter" in Marc
        Brooker's "Exponential Backoff And Jitter"): a service that flaps must not come back at once by luck.
        """
        try:
            ceiling = min(self.cap, self.base * self.factor ** (restart - 1))
        except OverflowError:
            ceiling = self.cap
        return ceiling * (0.5 + jitter / 2)
