"""The retry budget of a run: retries may not become the outage. Pure: no clock, no loop.

A token bucket as in the "standard" retry mode of the AWS SDKs: retries take tokens out, successes put some back, so
that a few errors are retried freely and an outage is not. Which retry finds the bucket empty depends on the order in
which attempts end: only a run that never empties it can be repeated from its seed alone.
"""

from __future__ import annotations

import msgspec


class RetryBudget(msgspec.Struct, frozen=True, kw_only=True):
    """How many tokens there are, and what costs how many.

    Raises:
        ValueError: a number below 0, or that is not finite.

    """

    capacity: float = 500.0
    """Tokens at the start, and at the most."""
    retry_cost: float = 5.0
    timeout_cost: float = 10.0
    """What a retry costs after a time-out, which held its place for long."""
    success_gain: float = 1.0

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            value = getattr(self, field)
            if not 0 <= value < float("inf"):
                raise ValueError(f"{field} of a retry budget must be 0 or more, not {value}")


class Tokens:
    """What is left of a budget."""

    __slots__ = ("budget", "is_full", "left")

    def __init__(self, budget: RetryBudget) -> None:
        self.budget = budget
        self.left = budget.capacity
        self.is_full = True
        """Whether a success has nothing to give back; spares the happy case a call."""

    def cost_after(self, error: BaseException) -> float:
        """Return the tokens that a retry after `error` costs."""
        return self.budget.timeout_cost if isinstance(error, TimeoutError) else self.budget.retry_cost

    def pay_for(self, error: BaseException) -> bool:
        """Take the tokens that a retry after `error` costs; return whether there were enough."""
        cost = self.cost_after(error)
        if cost > self.left:
            return False
        self.left -= cost
        self.is_full = False
        return True

    def give_back(self) -> None:
        """Put back what a success brings, up to the capacity."""
        self._put_back(self.budget.success_gain)

    def refund(self, error: BaseException) -> None:
        """Put back what was paid for a retry after `error` that is not made after all."""
        self._put_back(self.cost_after(error))

    def _put_back(self, tokens: float) -> None:
        capacity = self.budget.capacity
        self.left = min(capacity, self.left + tokens)
        self.is_full = self.left == capacity
