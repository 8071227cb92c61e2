"""Whether a worker whose attempt failed makes another one: when, or why not."""

from __future__ import annotations

import logging
import time

import msgspec

from asyncwatch.engine.capture import log_safely
from asyncwatch.engine.worker import Worker
from asyncwatch.policies.bad_luck import Luck
from asyncwatch.policies.budget import RetryBudget, Tokens
from asyncwatch.policies.classify import DeadlineExceeded, ErrorClass, is_never_retried, retry_after_of
from asyncwatch.policies.retry import RetryPolicy

logger = logging.getLogger("asyncwatch.worker")

# Before Python 3.12 each lookup of an enum's member costs 50 ns.
_PERMANENT = ErrorClass.PERMANENT

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
    """Seconds until the next attempt; None for no further one."""
    is_asked_for: bool = False
    """Whether the server set the delay (`Retry-After`)."""
    refusal: str = ""
    """Why a retriable error gets no further attempt: a reason of `RetryRefused`, or empty."""


class RetryDecider:
    """Decides on retries for all workers of a run. Pays for them from the run's budget, if there is one."""

    __slots__ = ("_luck", "tokens")

    def __init__(self, luck: Luck, budget: RetryBudget | None) -> None:
        self._luck = luck
        self.tokens = None if budget is None else Tokens(budget)

    def decide(self, worker: Worker, error: BaseException, now: float, *, is_halted: bool) -> RetryDecision:
        """Decide what follows an attempt that ended in `error`, `now` seconds after the start of the run.

        `is_halted`: the batch halted while the attempt ran, so it was the worker's last one.
        """
        error_class = _class_of(worker, error)
        policy = _policy_for(worker, error_class)
        if policy is None or is_never_retried(error):
            is_late = error is worker.overdue and isinstance(error, DeadlineExceeded)
            return RetryDecision(error_class, is_retriable=False, refusal=PAST_DEADLINE if is_late else "")
        if worker.attempt >= policy.max_attempts:
            return RetryDecision(error_class, is_retriable=True, max_attempts=policy.max_attempts)
        asked = retry_after_of(error, time.time())
        if asked is None:
            jitter = self._luck.draw("backoff", worker.name, worker.incarnation, worker.draw_number + 1)
            delay = worker.backoff = round(policy.delay(worker.attempt, jitter, worker.backoff), 6)
        else:
            delay = round(min(asked, policy.max_retry_after), 6)
        refusal = ""
        if is_halted:
            refusal = HALTED
        elif worker.deadline_at is not None and now + delay >= worker.deadline_at:
            refusal = PAST_DEADLINE
        elif self.tokens is not None and worker.pays_for_retries and not self.tokens.pay_for(error):
            refusal = OUT_OF_BUDGET
        return RetryDecision(
            error_class,
            is_retriable=True,
            max_attempts=policy.max_attempts,
            delay=None if refusal else delay,
            is_asked_for=asked is not None,
            refusal=refusal,
        )


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
