"""Whether a worker whose attempt failed makes another one: when, or why not."""

from __future__ import annotations

import logging
import time

import msgspec

from asyncwatch.engine.capture import log_safely
from asyncwatch.engine.worker import Worker
from asyncwatch.policies.bad_luck import Luck
from asyncwatch.policies.budget import Tokens
from asyncwatch.policies.classify import (
    MOST_LOST,
    AttemptLost,
    DeadlineExceeded,
    ErrorClass,
    is_never_retried,
    retry_after_of,
)
from asyncwatch.policies.retry import RetryPolicy
from asyncwatch.policies.throttle import ThrottlePolicy

logger = logging.getLogger("asyncwatch.worker")

# Before Python 3.12 each lookup of an enum's member costs 50 ns.
_PERMANENT, _THROTTLED = ErrorClass.PERMANENT, ErrorClass.THROTTLED

OUT_OF_BUDGET = "retry budget"
PAST_DEADLINE = "deadline"
GIVEN_UP = "person"
HALTED = "halt"


class RetryDecision(msgspec.Struct, frozen=True, gc=False):
    """What follows an error."""

    error_class: ErrorClass
    is_retriable: bool
    """Whether the error is worth another attempt at all."""
    max_attempts: int = 0
    """By the policy for this class of errors."""
    delay: float | None = None
    """Seconds until the next attempt; None for no further one, or for one that waits for its key."""
    is_asked_for: bool = False
    """Whether the server set the delay (`Retry-After`)."""
    waits_for_key: bool = False
    """Whether the attempt was throttled: the next one starts when the key allows it, or after `delay` if it goes on."""
    cost: float = 0.0
    """Tokens that the next attempt has to pay for."""
    is_lost: bool = False
    """Whether the attempt was lost with its process, and does not count."""
    refusal: str = ""
    """Why a retriable error gets no further attempt: a reason of `RetryRefused`, or empty."""


class RetryDecider:
    """Decides on retries for all workers of a run.

    Args:
        luck: the draws of the run.
        tokens: of the retry budget of the run; None for no limit.
        throttle: how long a throttled attempt waits; it uses up neither attempts nor tokens. None: it is like others.

    """

    __slots__ = ("_luck", "_throttle", "_tokens")

    def __init__(self, luck: Luck, tokens: Tokens | None, throttle: ThrottlePolicy | None) -> None:
        self._luck = luck
        self._tokens = tokens
        self._throttle = throttle

    def decide(self, worker: Worker, error: BaseException, now: float, *, is_halted: bool) -> RetryDecision:
        """Decide what follows an attempt that ended in `error`, `now` seconds after the start of the run.

        `is_halted`: the batch halted while the attempt ran, so it was the worker's last one.
        """
        if isinstance(error, AttemptLost):
            worker.lost += 1
            if worker.lost < MOST_LOST:
                worker.not_counted += 1
                refusal = _refusal(worker, now, is_halted=is_halted)
                delay = None if refusal else 0.0
                most = worker.spec.retry.max_attempts
                return RetryDecision(
                    ErrorClass.TRANSIENT, True, max_attempts=most, delay=delay, is_lost=True, refusal=refusal
                )
        error_class = _class_of(worker, error)
        policy = _policy_for(worker, error_class)
        if policy is None or is_never_retried(error):
            is_late = error is worker.overdue and isinstance(error, DeadlineExceeded)
            return RetryDecision(error_class, is_retriable=False, refusal=PAST_DEADLINE if is_late else "")
        asked = retry_after_of(error, time.time())
        if error_class is _THROTTLED and self._throttle is not None and not worker.is_struck:
            return self._decide_throttled(worker, policy, now, asked, is_halted=is_halted)
        failed = worker.failed_attempts
        if failed >= policy.max_attempts:
            return RetryDecision(error_class, is_retriable=True, max_attempts=policy.max_attempts)
        if asked is None:
            jitter = self._luck.draw("backoff", worker.name, worker.incarnation, worker.draw_number + 1)
            delay = worker.backoff = round(policy.delay(failed, jitter, worker.backoff), 6)
        else:
            delay = round(min(asked, policy.max_retry_after), 6)
        refusal, cost = _refusal(worker, now + delay, is_halted=is_halted), 0.0
        if not refusal and self._tokens is not None and worker.pays_for_retries:
            cost = self._tokens.cost_after(error)
            if self._tokens.budget.mode == "delay" and self._tokens.can_ever_pay(cost):
                pass  # when it is ready
            elif self._tokens.pay(cost, now):
                worker.paid, cost = cost, 0.0
            else:
                refusal = OUT_OF_BUDGET
        return RetryDecision(
            error_class,
            is_retriable=True,
            max_attempts=policy.max_attempts,
            delay=None if refusal else delay,
            is_asked_for=asked is not None,
            cost=cost,
            refusal=refusal,
        )

    def _decide_throttled(
        self, worker: Worker, policy: RetryPolicy, now: float, asked: float | None, *, is_halted: bool
    ) -> RetryDecision:
        """Decide what follows a throttled attempt: only a policy of its own for that class limits their number."""
        own = None if worker.spec.retry_by_class is None else worker.spec.retry_by_class.get(ErrorClass.THROTTLED)
        if own is not None and worker.throttled + 1 >= own.max_attempts:
            return RetryDecision(ErrorClass.THROTTLED, is_retriable=True, max_attempts=own.max_attempts)
        refusal = _refusal(worker, now + (asked or 0.0), is_halted=is_halted)
        return RetryDecision(
            ErrorClass.THROTTLED,
            is_retriable=True,
            max_attempts=policy.max_attempts,
            is_asked_for=asked is not None,
            waits_for_key=not refusal,
            refusal=refusal,
        )

    def back_off_alone(self, worker: Worker, error: BaseException, decision: RetryDecision) -> RetryDecision:
        """Decide when a throttled worker makes its next attempt while its key goes on."""
        assert self._throttle is not None  # noqa: S101  there is no other reason to be throttled
        if asked := retry_after_of(error, time.time()):
            delay = round(min(asked, self._throttle.max_retry_after), 6)
        else:
            jitter = self._luck.draw("backoff", worker.name, worker.incarnation, worker.draw_number + 1)
            delay = worker.backoff = round(worker.spec.retry.delay(worker.throttled, jitter, worker.backoff), 6)
        return msgspec.structs.replace(decision, delay=delay)


def _refusal(worker: Worker, starts_at: float, *, is_halted: bool) -> str:
    """Return why the worker makes no attempt at that time, in seconds of the run; an empty text if nothing forbids."""
    if is_halted:
        return HALTED
    is_late = worker.deadline_at is not None and starts_at >= worker.deadline_at
    return PAST_DEADLINE if is_late else ""


def _class_of(worker: Worker, error: BaseException) -> ErrorClass:
    """Return the class of `error` by the worker's own functions; permanent if they cannot say."""
    spec = worker.spec
    try:
        error_class = spec.classify(error)
        if type(error_class) is not ErrorClass:
            error_class = ErrorClass(error_class)
        if spec.retry.transient is None:
            return error_class
        if not spec.retry.transient(error):
            return _PERMANENT
    except Exception:
        text = "the retry policy could not classify an error"
        log_safely(logger, logging.ERROR, text, worker=worker.name, has_traceback=True)
        return _PERMANENT
    return ErrorClass.TRANSIENT if error_class is _PERMANENT else error_class


def _policy_for(worker: Worker, error_class: ErrorClass) -> RetryPolicy | None:
    """Return the policy of that class of errors; None if it is not retried, as permanent ones without their own."""
    spec = worker.spec
    own = None if spec.retry_by_class is None else spec.retry_by_class.get(error_class)
    if own is None and error_class is not _PERMANENT:
        return spec.retry
    return own
