"""Retry policy: the backoff, and which errors are transient."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from asyncwatch import RetryPolicy, is_transient
from asyncwatch.policies.retry import BackoffKind
from tests.engine.errors import response_error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TimeoutError(), True),
        (aiohttp.ServerDisconnectedError(), True),
        (aiohttp.ServerTimeoutError(), True),
        (aiohttp.ClientOSError(), True),
        (ConnectionRefusedError(), True),
        (aiohttp.InvalidURL("x"), False),
        (aiohttp.ClientPayloadError(), True),
        (RuntimeError(), False),
        (OSError(), False),
        (KeyboardInterrupt(), False),
        *((response_error(status), True) for status in (408, 425, 429, 500, 502, 503, 504)),
        *((response_error(status), False) for status in (400, 401, 403, 404, 410, 501, 505, 511)),
    ],
)
def test_is_transient_holds_for_errors_that_may_go_away(error: BaseException, expected: bool) -> None:
    assert is_transient(error) is expected


def test_is_transient_does_not_import_aiohttp() -> None:
    code = (
        "import sys; from asyncwatch import is_transient; assert is_transient(TimeoutError());"
        "assert not is_transient(ValueError()); assert 'aiohttp' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


policies = st.builds(
    lambda base, more: RetryPolicy(base=base, cap=base + more),
    st.floats(1e-6, 100, allow_nan=False),
    st.floats(0, 1000, allow_nan=False),
)
jitters = st.floats(0, 1, exclude_max=True)


@given(policies, st.integers(1, 5000), jitters)
def test_backoff_is_full_jitter_under_the_cap(policy: RetryPolicy, retry: int, jitter: float) -> None:
    """The wait is the drawn share of the capped exponential, for any number of retries."""
    ceiling = min(policy.cap, policy.base * 2 ** min(retry - 1, 900))
    assert policy.delay(retry, jitter) == pytest.approx(jitter * ceiling)


@pytest.mark.parametrize(("kind", "waits"), [("full", [0.5, 1.5]), ("decorrelated", [1.25, 1.75])])
def test_backoff_at_the_cap_still_has_jitter(kind: BackoffKind, waits: list[float]) -> None:
    policy = RetryPolicy(base=1.0, cap=2.0, backoff=kind)
    assert [policy.delay(10, jitter, previous=2.0) for jitter in (0.25, 0.75)] == waits


def test_retry_policy_by_default_makes_three_attempts_from_100_ms_to_5_s() -> None:
    policy = RetryPolicy()
    assert policy.max_attempts == 3
    assert [policy.delay(retry, 1.0) for retry in (1, 2, 3, 7)] == [0.1, 0.2, 0.4, 5.0]


@given(policies, st.integers(1, 5000), jitters)
def test_backoff_with_equal_jitter_draws_only_half(policy: RetryPolicy, retry: int, jitter: float) -> None:
    equal = replace(policy, backoff="equal")
    ceiling = min(policy.cap, policy.base * 2 ** min(retry - 1, 900))
    assert equal.delay(retry, jitter) == pytest.approx((1 + jitter) * ceiling / 2)


@given(policies, st.lists(jitters, min_size=1, max_size=30))
def test_decorrelated_backoff_stays_between_base_and_three_times_the_last_up_to_the_cap(
    policy: RetryPolicy, draws: list[float]
) -> None:
    decorrelated = replace(policy, backoff="decorrelated")
    previous: float | None = None
    for retry, jitter in enumerate(draws, 1):
        wait = decorrelated.delay(retry, jitter, previous)
        longest = min(policy.cap, 3 * (policy.base if previous is None else previous))
        assert wait == pytest.approx(policy.base + jitter * (longest - policy.base))
        assert policy.base <= wait <= policy.cap * (1 + 1e-12)
        previous = wait


@given(policies, st.integers(1, 5000), jitters)
def test_backoff_constant_or_none_has_no_jitter(policy: RetryPolicy, retry: int, jitter: float) -> None:
    assert replace(policy, backoff="constant").delay(retry, jitter) == policy.base
    assert replace(policy, backoff="none").delay(retry, jitter) == 0.0


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"backoff": "fibonacci"}, "backoff: must be one of full, equal"),
        ({"max_retry_after": -1.0}, "max_retry_after"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"base": -1.0}, "base"),
        ({"base": float("nan")}, "base"),
        ({"base": 2.0, "cap": 1.0}, "cap"),
        ({"cap": float("inf")}, "cap"),
    ],
)
def test_retry_setting_out_of_range_is_refused(settings: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        RetryPolicy(**settings)
