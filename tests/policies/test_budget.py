"""Retry budget: what retries cost."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch import RetryBudget, RetryPolicy
from asyncwatch.policies.budget import BudgetMode, Tokens


def test_tokens_of_the_default_budget_pay_and_earn() -> None:
    """A retry costs 5 of 500 tokens, or 10 after a timeout. A success gives 1 back, and each second 50."""
    tokens = Tokens(RetryBudget())
    assert tokens.left(3.0) == 500
    assert tokens.pay(tokens.cost_after(ConnectionError()), 3.0)
    assert tokens.left(3.0) == 495
    assert tokens.pay(tokens.cost_after(TimeoutError()), 3.0)
    assert tokens.left(3.0) == 485
    tokens.put_back(tokens.budget.success_gain)
    assert tokens.left(3.0) == 486
    assert not tokens.is_full
    assert tokens.left(3.1) == pytest.approx(491)
    assert tokens.left(4.0) == 500
    assert tokens.is_full


@given(
    st.sampled_from(["delay", "refuse"]),
    st.lists(st.tuples(st.sampled_from(["error", "timeout", "success"]), st.floats(0, 0.2))),
)
def test_tokens_stay_within_the_budget_and_a_refusal_costs_none(
    mode: BudgetMode, happenings: list[tuple[str, float]]
) -> None:
    tokens, now = Tokens(RetryBudget(tokens=20, mode=mode)), 0.0
    for happening, pause in happenings:
        now += pause
        before = tokens.left(now)
        cost = tokens.cost_after(TimeoutError() if happening == "timeout" else OSError())
        if happening == "success":
            tokens.put_back(tokens.budget.success_gain)
        elif not tokens.pay(cost, now):
            assert tokens.left(now) == before
            if mode == "delay":
                assert tokens.pay(cost, now + tokens.wait(cost, now) + 1e-9)
                now += tokens.wait(cost, now) + 1e-9
        assert 0 <= tokens.left(now) <= 20
        assert tokens.is_full is (tokens.left(now) == 20)


def test_tokens_come_back_with_time_only_if_retries_wait_for_them() -> None:
    tokens = Tokens(RetryBudget(tokens=5, mode="refuse"))
    assert tokens.pay(5, 0.0)
    assert not tokens.pay(5, 1_000.0)


def test_tokens_that_never_suffice_are_not_worth_waiting_for() -> None:
    assert not Tokens(RetryBudget(tokens=4)).can_ever_pay(5)
    assert Tokens(RetryBudget(tokens=4)).wait(5, 0.0) == math.inf
    idle = Tokens(RetryBudget(time_gain=0))
    assert idle.pay(500, 0.0)
    assert idle.wait(5, 1.0) == math.inf


@pytest.mark.parametrize("field", ["tokens", "retry_cost", "timeout_cost", "success_gain", "time_gain"])
def test_budget_number_out_of_range_is_refused(field: str) -> None:
    for value in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=field):
            msgspec.structs.replace(RetryBudget(), **{field: value})


def test_budget_is_not_emptied_by_twenty_workers_that_time_out() -> None:
    """So the luck of a demo worker depends on its seed alone."""
    budget, workers, retries = RetryBudget(), 20, RetryPolicy().max_attempts - 1
    assert workers * retries * budget.timeout_cost <= budget.tokens
