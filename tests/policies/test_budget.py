"""Retry budget: what retries cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch import RetryBudget, RetryPolicy
from asyncwatch.policies.budget import Tokens


def test_tokens_default_budget_pays_and_earns() -> None:
    """500 tokens; a retry costs 5, one after a time-out 10; a success gives 1 back."""
    tokens = Tokens(RetryBudget())
    assert tokens.left == 500
    assert tokens.pay_for(ConnectionError())
    assert tokens.left == 495
    assert tokens.pay_for(TimeoutError())
    assert tokens.left == 485
    tokens.give_back()
    assert tokens.left == 486


@given(st.lists(st.sampled_from(["error", "timeout", "success"])))
def test_tokens_any_sequence_stays_within_the_budget(happenings: list[str]) -> None:
    """Nothing overdraws a budget or fills it above its capacity, and what is refused costs nothing."""
    tokens = Tokens(RetryBudget(tokens=20))
    for happening in happenings:
        before = tokens.left
        if happening == "success":
            tokens.give_back()
        elif not tokens.pay_for(TimeoutError() if happening == "timeout" else OSError()):
            assert tokens.left == before
        assert 0 <= tokens.left <= 20


@pytest.mark.parametrize("field", ["tokens", "retry_cost", "timeout_cost", "success_gain"])
def test_budget_number_out_of_range_is_refused(field: str) -> None:
    """Every number below 0 or without an end is a ValueError that names it."""
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=field):
            RetryBudget(**{field: value})


def test_budget_twenty_workers_that_time_out_never_empty_it() -> None:
    """Every worker of the demo can be exhausted by time-outs alone: its luck depends on its seed only."""
    budget, workers, retries = RetryBudget(), 20, RetryPolicy().max_attempts - 1
    assert workers * retries * budget.timeout_cost <= budget.tokens
