"""Retry budget of a run: keeps retries from adding to an outage. Pure: the clock is passed in.

A token bucket as in the "standard" retry mode of the AWS SDKs: a retry takes tokens, a success returns some. A few
errors are retried freely; an outage is not. Tokens come back with time as well, so that an empty budget delays retries
and loses no work. Which retry finds the bucket empty depends on the order in which attempts end, so only a run that
never empties it can be repeated from its seed alone.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec

from asyncwatch.policies.settings import Choice, Number, Setting, check_settings

BudgetMode = Literal["delay", "refuse"]
_SHORTEST_WAIT = 0.001
"""Seconds: the event loop's timers are no finer."""


class RetryBudget(msgspec.Struct, frozen=True, kw_only=True):
    """How many tokens a run has for retries, and what each retry costs.

    Raises:
        SettingError: a ValueError; a number is below 0 or not finite.

    """

    tokens: Annotated[float, Setting("Tokens at the start, and at most.", Number())] = 500.0
    retry_cost: Annotated[float, Setting("Cost of a retry.", Number())] = 5.0
    timeout_cost: Annotated[
        float, Setting("Cost of a retry after a time-out, which has held its slot for long.", Number())
    ] = 10.0
    success_gain: Annotated[float, Setting("Tokens that a success returns.", Number())] = 1.0
    time_gain: Annotated[float, Setting("Tokens that return each second.", Number())] = 50.0
    mode: Annotated[
        BudgetMode,
        Setting(
            "With delay, a retry that cannot be paid for waits for tokens; with refuse it is not made.",
            Choice(get_args(BudgetMode)),
        ),
    ] = "delay"
    patience: float | None = None
    """Seconds that a retry waits for tokens while the budget pays for no other, at most; None for as long as the run
    waits for a throttled key."""

    def __post_init__(self) -> None:
        check_settings(self)


DEFAULT_RETRY_BUDGET = RetryBudget()
"""The default budget of a run."""


class Tokens:
    """The tokens left in a budget. `now` is in seconds of any monotonic clock, the same in all calls."""

    __slots__ = ("_at", "_left", "budget", "is_full")

    def __init__(self, budget: RetryBudget) -> None:
        self.budget = budget
        self._left = budget.tokens
        self._at = 0.0
        self.is_full = True
        """Whether all tokens are there: a success then needs no call of `put_back`."""

    def left(self, now: float) -> float:
        """Return the tokens that are left."""
        if now > self._at:
            if self.budget.mode == "delay":
                self.put_back((now - self._at) * self.budget.time_gain)
            self._at = now
        return self._left

    def can_ever_pay(self, cost: float) -> bool:
        """Return whether a full budget pays for a retry of that cost."""
        return cost <= self.budget.tokens

    def cost_after(self, error: BaseException) -> float:
        """Return the cost of a retry after `error`."""
        return self.budget.timeout_cost if isinstance(error, TimeoutError) else self.budget.retry_cost

    def pay(self, cost: float, now: float) -> bool:
        """Take the cost of a retry; return whether there were enough tokens."""
        if cost > self.left(now):
            return False
        self._left -= cost
        self.is_full = False
        return True

    def wait(self, cost: float, now: float) -> float:
        """Return the seconds until a retry of that cost can be paid for by time alone; infinity for never."""
        missing = cost - self.left(now)
        if not self.can_ever_pay(cost) or not self.budget.time_gain:
            return 0.0 if missing <= 0 else float("inf")
        return max(_SHORTEST_WAIT, missing / self.budget.time_gain)

    def put_back(self, tokens: float) -> None:
        """Return tokens, of a success or of a retry that is not made, up to the budget."""
        most = self.budget.tokens
        self._left = min(most, self._left + tokens)
        self.is_full = self._left == most
