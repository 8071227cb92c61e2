"""What kind of error ended an attempt: the class decides whether and how it is retried. Pure."""

from __future__ import annotations

import asyncio
import enum
import errno
import math
import re
import sys
from collections.abc import Callable, Mapping
from datetime import UTC


class ErrorClass(enum.StrEnum):
    """What an error says about another attempt."""

    THROTTLED = "throttled"
    """The server wants fewer requests: 429 (RFC 6585), or 503 with `Retry-After`."""
    TRANSIENT = "transient"
    """It may go away by itself: time-outs, connection errors, 408, 502, 504 (RFC 9110), 425 (RFC 8470)."""
    SERVER = "server"
    """The server is in trouble: 500, or 503 without `Retry-After`."""
    PERMANENT = "permanent"
    """Everything else: the same work would fail again."""


Classify = Callable[[BaseException], ErrorClass | str]
"""Says of which class an error is."""

STATUS_CLASSES = {
    408: ErrorClass.TRANSIENT,
    425: ErrorClass.TRANSIENT,
    429: ErrorClass.THROTTLED,
    500: ErrorClass.SERVER,
    502: ErrorClass.TRANSIENT,
    503: ErrorClass.SERVER,
    504: ErrorClass.TRANSIENT,
}
"""Classes of HTTP statuses; those that are not here are permanent."""


NETWORK_ERRNOS = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETRESET,
        errno.ENETUNREACH,
        errno.EPIPE,
        errno.ETIMEDOUT,
    }
)
"""What an `OSError` of the network is numbered, also where Python has no class of its own for it."""


class AttemptTimeout(TimeoutError):  # noqa: N818  as below
    """One attempt took longer than its `attempt_timeout`. Transient, unless somebody classifies it otherwise.

    A target that answers its cancellation with another error has that one as the cause of this.
    """


class DeadlineExceeded(TimeoutError):  # noqa: N818  named as in other libraries: it says what happened
    """The time that a worker may take in all, from the start of its first attempt, was over. Never retried.

    Its cause is what the last attempt failed with; of one that was cut off, what it answered its cancellation with, if
    that was an error.
    """


def classify(error: BaseException) -> ErrorClass:
    """Return the class of `error`, as `ErrorClass` describes them.

    An `OSError` is transient by its number, if it is one of the network. aiohttp's `ClientResponseError` is classified
    by its status; `ServerDisconnectedError`, `ServerTimeoutError`, `ClientOSError` and `ClientPayloadError` (an answer
    that broke off) are connection errors. aiohttp is looked up, never imported: an error of its can only exist where
    it was imported already.
    """
    if isinstance(error, DeadlineExceeded):
        return ErrorClass.PERMANENT
    if isinstance(error, (TimeoutError, ConnectionError)):
        return ErrorClass.TRANSIENT
    if isinstance(error, OSError) and error.errno in NETWORK_ERRNOS:
        return ErrorClass.TRANSIENT
    aiohttp = sys.modules.get("aiohttp")
    if aiohttp is None:
        return ErrorClass.PERMANENT
    if isinstance(error, aiohttp.ClientResponseError):
        if error.status == 503 and retry_after_of(error, 0.0) is not None:
            return ErrorClass.THROTTLED
        return STATUS_CLASSES.get(error.status, ErrorClass.PERMANENT)
    if isinstance(error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError)):
        return ErrorClass.TRANSIENT
    return ErrorClass.PERMANENT


def is_transient(error: BaseException) -> bool:
    """Return whether `error` may go away if the same work is tried again: its class is any but `permanent`."""
    return classify(error) is not ErrorClass.PERMANENT


def is_never_retried(error: BaseException) -> bool:
    """Return whether no policy may retry `error`: cancellations, the end of the deadline, requests to exit."""
    return isinstance(error, (asyncio.CancelledError, DeadlineExceeded)) or is_exit(error)


def is_exit(error: BaseException) -> bool:
    """Return whether `error` is a request to exit: `SystemExit`, `KeyboardInterrupt`, or the like."""
    return not isinstance(error, (Exception, asyncio.CancelledError))


class ClassifyBy:
    """Classifies by exception class, most specific class first, and everything else by another function.

    Raises:
        ValueError: a class of errors that does not exist.
        TypeError: a key that is no exception class.

    """

    def __init__(self, classes: Mapping[type[BaseException], ErrorClass | str], otherwise: Classify = classify) -> None:
        for kind in classes:
            if BaseException not in getattr(kind, "__mro__", ()):
                raise TypeError(f"errors are classified by exception class, not by {kind!r}")
        self._classes = {kind: ErrorClass(name) for kind, name in classes.items()}
        self._otherwise = otherwise

    def __call__(self, error: BaseException) -> ErrorClass:
        """Return the class of `error`."""
        for kind in type(error).__mro__:
            found = self._classes.get(kind)
            if found is not None:
                return found
        return ErrorClass(self._otherwise(error))


_SECONDS = re.compile(r"[0-9]+")


def parse_retry_after(value: str, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, None if it says nothing that can be understood.

    It holds whole seconds or an HTTP date (RFC 9110, section 10.2.3); a date that has passed asks for no wait.
    `now` is in seconds of the epoch.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        # More digits than a float can hold are as good as for ever; int() refuses thousands of them.
        return float(value)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  few servers ask by a date

    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - now)


def retry_after_of(error: BaseException, now: float) -> float | None:
    """Return the seconds that `error` asks to wait, None if it does not.

    That is its attribute `retry_after` (a number of seconds), or the header in its `headers`, which aiohttp's
    `ClientResponseError` has. `now` is in seconds of the epoch.
    """
    seconds = getattr(error, "retry_after", None)
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
        return float(seconds) if seconds >= 0 and not math.isnan(seconds) else None
    get = getattr(getattr(error, "headers", None), "get", None)
    value = get("Retry-After") if callable(get) else None
    return parse_retry_after(value, now) if isinstance(value, str) else None
