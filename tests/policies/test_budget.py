"""Retry budget: what retries cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch import RetryBudget, RetryPolicy
from asyncwatch.policies.budget import Tokens


def test_tokens_of_the_default_budget_pay_and_earn() -> None:
    """A retry costs 5 of 500 tokens, or 10 after a timeout. A success gives 1 back."""
    tokens = Tokens(RetryBudget())
    assert tokens.left == 500
    assert tokens.pay_for(ConnectionError())
    assert tokens.left == 495
    assert tokens.pay_for(TimeoutError())
    assert tokens.left == 485
    tokens.give_back()
    assert tokens.left == 486


@given(st.lists(st.sampled_from(["error", "timeout", "success"])))
def test_tokens_stay_within_the_budget_and_a_refusal_costs_none(happenings: list[str]) -> None:
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
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=field):
            RetryBudget(**{field: value})


def test_budget_is_not_emptied_by_twenty_workers_that_time_out() -> None:
    """So the luck of a demo worker depends on its seed alone."""
    budget, workers, retries = RetryBudget(), 20, RetryPolicy().max_attempts - 1
    assert workers * retries * budget.timeout_cost <= budget.tokens
