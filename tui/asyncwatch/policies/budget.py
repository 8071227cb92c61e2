"""Retry budget of a run: keeps retries from adding to an outage. Pure: no clock, no loop.

A token bucket as in the "standard" retry mode of the AWS SDKs: a retry takes tokens, a success returns some. A few
errors are retried freely; an outage is not. Which retry finds the bucket empty depends on the order in which attempts
end, so only a run that never empties it can be repeated from its seed alone.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from asyncwatch.policies.settings import Number, Setting, check_settings


class RetryBudget(msgspec.Struct, frozen=True, kw_only=True):
    """How many tokens a run has for retries, and what each retry costs.

    Raises:
        SettingError: a ValueError; a number is below 0 or not finite.

    """

    tokens: Annotated[
        float, Setting("Tokens at the start, and at most. A retry that cannot be paid for is not made.", Number())
    ] = 500.0
    retry_cost: Annotated[float, Setting("Cost of a retry.", Number())] = 5.0
    timeout_cost: Annotated[
        float, Setting("Cost of a retry after a time-out, which has held its slot for long.", Number())
    ] = 10.0
    success_gain: Annotated[float, Setting("Tokens that a success returns.", Number())] = 1.0

    def __post_init__(self) -> None:
        check_settings(self)


DEFAULT_RETRY_BUDGET = RetryBudget()
"""The default budget of a run."""


class Tokens:
    """The tokens left in a budget."""

    __slots__ = ("budget", "is_full", "left")

    def __init__(self, budget: RetryBudget) -> None:
        self.budget = budget
        self.left = budget.tokens
        self.is_full = True
        """Whether all tokens are there: a success then needs no call of `give_back`."""

    def cost_after(self, error: BaseException) -> float:
        """Return the cost of a retry after `error`."""
        return self.budget.timeout_cost if isinstance(error, TimeoutError) else self.budget.retry_cost

    def pay_for(self, error: BaseException) -> bool:
        """Take the cost of a retry after `error`; return whether there were enough tokens."""
        cost = self.cost_after(error)
        if cost > self.left:
            return False
        self.left -= cost
        self.is_full = False
        return True

    def give_back(self) -> None:
        """Return the tokens of a success, up to the budget."""
        self._put_back(self.budget.success_gain)

    def refund(self, error: BaseException) -> None:
        """Return the tokens of a retry after `error` that was paid for and is not made."""
        self._put_back(self.cost_after(error))

    def _put_back(self, tokens: float) -> None:
        most = self.budget.tokens
        self.left = min(most, self.left + tokens)
        self.is_full = self.left == most
