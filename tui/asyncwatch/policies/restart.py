"""Restarts: which children are restarted, when, and together with which others. Pure: the clock is passed in.

The rules and defaults are those of OTP's supervisor (supervisor.erl in stdlib).
"""

from __future__ import annotations

import enum
import itertools
import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Annotated, Final, Literal, get_args

import msgspec

from asyncwatch.policies.settings import (
    Choice,
    Duration,
    Flag,
    Number,
    Setting,
    SettingError,
    Whole,
    check_cap,
    check_settings,
)

RestartType = Literal["permanent", "transient", "temporary"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]

RESTART_RULE: Final = Choice(get_args(RestartType))
WORKER_RESTART: Final[RestartType] = "temporary"
SUPERVISOR_RESTART: Final[RestartType] = "permanent"
STRATEGY_RULE: Final = Choice(get_args(Strategy))
DEFAULT_STRATEGY: Final[Strategy] = "one_for_one"
AUTO_SHUTDOWN_RULE: Final = Choice(get_args(AutoShutdown))
DEFAULT_AUTO_SHUTDOWN: Final[AutoShutdown] = "never"
SHUTDOWN_RULE: Final = Duration(may_be_infinite=True)
SUPERVISOR_SHUTDOWN: Final = math.inf
"""Seconds. OTP's default, infinity: a supervisor waits for all below it."""
MAX_RESTARTS_RULE: Final = Whole(0)
MAX_RESTARTS: Final = 1
WITHIN: Final = 5.0
"""Seconds. OTP's defaults: the second restart within five seconds is one too many."""
PERIOD_RULE: Final = Duration(is_open=True)
"""Of the period of a restart limit, and of the pause between two polls."""
FLAG_RULE: Final = Flag()
"""Of `significant`, `announces_ready` and `escalates`."""


class SpecError(ValueError):
    """Base of the errors in the spec of a supervisor, a pool or a worker."""


class InvalidBackoff(SpecError, SettingError):  # noqa: N818  a word of OTP's manual, as the other errors of specs
    """A restart backoff has a base of 0 or more, a factor of 1 or more, and a cap that is not below the base."""


class Reason(enum.StrEnum):
    """Why a child ended."""

    NORMAL = "normal"
    """It returned."""
    SHUTDOWN = "shutdown"
    """It was stopped by request, raised `Shutdown`, or is a supervisor that gave up or shut down by itself."""
    ABNORMAL = "abnormal"
    """It raised, was cancelled by other code, or ignored the end of its time."""
    IGNORED = "ignored"
    """It raised `Ignore` before it was ready."""


def is_restarted(restart: RestartType, reason: Reason) -> bool:
    """Return whether a child of that restart type is restarted after it ended for `reason`."""
    return restart == "permanent" or (restart == "transient" and reason is Reason.ABNORMAL)


def restarted_together(strategy: Strategy, names: Iterable[str], failed: str) -> Iterable[str]:
    """Return the `names`, in start order, that are restarted together with `failed`, itself included."""
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

        As in supervisor.erl: add now, drop times older than the period, compare the length.
        """
        times = self._times
        times.append(now)
        while times[0] + self.within < now:
            times.popleft()
        return len(times) <= self.max_restarts

    def has_room(self, now: float) -> bool:
        """Return whether one more restart would still be within the limit."""
        times = self._times
        while times and times[0] + self.within < now:
            times.popleft()
        return len(times) < self.max_restarts

    def __len__(self) -> int:
        return len(self._times)


class RestartBackoff(msgspec.Struct, frozen=True, kw_only=True):
    """How long a child waits before it is restarted. OTP restarts at once, and so does the default.

    Raises:
        InvalidBackoff: a ValueError; a setting is out of its range, or `cap` is below `base`.

    """

    base: Annotated[
        float, Setting("Wait before the first restart, with jitter. 0: always restart at once.", Duration())
    ] = 0.0
    factor: Annotated[float, Setting("The wait grows by this factor with each further restart.", Number(1))] = 2.0
    cap: Annotated[float, Setting("Longest wait before any restart.", Duration())] = 30.0
    stable_after: Annotated[
        float, Setting("A child that ran for this long waits only base before its next restart.", Duration())
    ] = 60.0

    def __post_init__(self) -> None:
        check_settings(self, InvalidBackoff)
        check_cap(self.base, self.cap, InvalidBackoff)

    def delay(self, restart: int, jitter: float) -> float:
        """Return the seconds to wait before restart number `restart` (from 1), for a `jitter` in [0, 1).

        At least half of `min(cap, base * factor ** (restart - 1))` and less than all of it: "equal jitter" in Marc
        Brooker's "Exponential Backoff And Jitter". A service that flaps must not come back at once by luck.
        """
        if not self.base:
            return 0.0
        try:
            ceiling = min(self.cap, self.base * self.factor ** (restart - 1))
        except OverflowError:
            ceiling = self.cap
        return ceiling * (0.5 + jitter / 2)


MINUTE: Final = 60.0
TEN_MINUTES: Final = 600.0
MOST_COUNTED: Final = 99
"""Restarts that a limit of flapping can be, at most: the times of a hundred are kept."""


class Flapping(msgspec.Struct, frozen=True, kw_only=True):
    """When a service counts as flapping, and when it counts as up again. It changes how a service is shown, only.

    Raises:
        SettingError: a ValueError; a setting is out of its range.

    """

    per_minute: Annotated[
        int, Setting("A service flaps that was restarted more often in the last minute...", Whole(0, MOST_COUNTED))
    ] = 2
    per_ten_minutes: Annotated[int, Setting("...or more often in the last ten minutes.", Whole(0, MOST_COUNTED))] = 3
    stable: Annotated[
        float, Setting("A service that was restarted counts as up once it has run for this long.", Duration())
    ] = 10.0

    def __post_init__(self) -> None:
        check_settings(self)

    def until(self, restarts: Sequence[float]) -> float:
        """Return until when a service flaps that was restarted at these times, oldest first; -inf if it does not.

        All times are in seconds. Restarts by a person or with a sibling do not count.
        """
        return max(
            restarts[-limit - 1] + period if len(restarts) > limit else -math.inf
            for limit, period in ((self.per_minute, MINUTE), (self.per_ten_minutes, TEN_MINUTES))
        )


DEFAULT_FLAPPING: Final = Flapping()
