"""Error classes: what an error says about another attempt, and how long it asks to wait. Pure.

aiohttp is never imported here: its errors can only exist where it was imported already.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from typing import Any


class ErrorClass(enum.StrEnum):
    """What an error says about another attempt. A retry policy can be given for each class."""

    THROTTLED = "throttled"
    """The server wants fewer requests: 429 (RFC 6585), or 503 with `Retry-After`."""
    TRANSIENT = "transient"
    """It may go away by itself: time-outs, connection errors, 408, 502, 504 (RFC 9110), 425 (RFC 8470)."""
    SERVER = "server"
    """The server is in trouble: 500, or 503 without `Retry-After`."""
    PERMANENT = "permanent"
    """Everything else: the same work would fail again."""


Classify = Callable[[BaseException], ErrorClass | str]
"""Returns the class of an error."""

STATUS_CLASSES = {
    408: ErrorClass.TRANSIENT,
    425: ErrorClass.TRANSIENT,
    429: ErrorClass.THROTTLED,
    500: ErrorClass.SERVER,
    502: ErrorClass.TRANSIENT,
    503: ErrorClass.SERVER,
    504: ErrorClass.TRANSIENT,
}
"""Classes of HTTP statuses. Every other status is permanent."""

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
"""Numbers of the network's `OSError`s. Python has no class of its own for some of them."""


class AttemptTimeout(TimeoutError):  # noqa: N818  named like TimeoutError
    """One attempt took longer than its `attempt_timeout`. Transient, unless it is classified otherwise.

    If the target responded to its cancellation with another error, that error is the cause.
    """


class DeadlineExceeded(TimeoutError):  # noqa: N818  named as in other libraries
    """A worker exceeded its `deadline`, counted from the start of its first attempt. Never retried.

    The cause is the error of the last attempt. If that attempt was cut off, it is the error that the target raised in
    response, if any.
    """


def leaves_of(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group of errors and in the groups inside it; for any other error, the error itself."""
    pending = [error]
    while pending:
        each = pending.pop()
        if isinstance(each, BaseExceptionGroup):
            # The attribute of a subclass could be code of its own.
            pending += reversed(BaseExceptionGroup.exceptions.__get__(each))
        else:
            yield each


def _class_of_group(error: BaseExceptionGroup[Any], classify_leaf: Classify) -> ErrorClass:
    """Return the one class of all errors in the group. If they differ, it is permanent if any of them is."""
    classes = {ErrorClass(classify_leaf(leaf)) for leaf in leaves_of(error)}
    if len(classes) == 1:
        return classes.pop()
    return ErrorClass.PERMANENT if ErrorClass.PERMANENT in classes else ErrorClass.TRANSIENT


_HTTPX_TRANSIENT = frozenset({"TimeoutException", "NetworkError", "RemoteProtocolError"})


def _class_of_connection_error(error: BaseException) -> ErrorClass | None:
    """Return the class of a certificate that cannot be verified, or of an error of httpx's transports; else None."""
    ssl = sys.modules.get("ssl")
    if ssl is not None and isinstance(error, ssl.SSLCertVerificationError):
        return ErrorClass.PERMANENT
    if not any(kind.__module__ == "httpx" and kind.__name__ in _HTTPX_TRANSIENT for kind in type(error).__mro__):
        return None
    # httpx wraps the error of httpcore, which wraps that of the connection.
    for _ in range(3):
        if error.__cause__ is None:
            break
        error = error.__cause__
        if ssl is not None and isinstance(error, ssl.SSLCertVerificationError):
            return ErrorClass.PERMANENT
    return ErrorClass.TRANSIENT


def classify(error: BaseException) -> ErrorClass:
    """Return the class of `error`, as `ErrorClass` describes them.

    A group of errors has the class of all its leaves; if they differ, it is permanent if one of them is, else
    transient.
    An `OSError` with one of `NETWORK_ERRNOS` is transient. aiohttp's `ClientResponseError` is classified by its status;
    `ServerDisconnectedError`, `ServerTimeoutError`, `ClientOSError` and `ClientPayloadError` (a truncated answer) are
    connection errors.
    """
    if isinstance(error, DeadlineExceeded):
        return ErrorClass.PERMANENT
    if isinstance(error, (TimeoutError, ConnectionError)):
        return ErrorClass.TRANSIENT
    if isinstance(error, BaseExceptionGroup):
        return _class_of_group(error, classify)
    if (of_client := _class_of_connection_error(error)) is not None:
        return of_client
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
    """Return whether `error` may go away if the same work is tried again: its class is not `permanent`."""
    return classify(error) is not ErrorClass.PERMANENT


def is_never_retried(error: BaseException) -> bool:
    """Return whether no policy may retry `error`: a cancellation, the end of the deadline, or a request to exit."""
    return isinstance(error, (asyncio.CancelledError, DeadlineExceeded)) or is_exit(error)


def is_exit(error: BaseException) -> bool:
    """Return whether `error` is a request to exit, such as `SystemExit` or `KeyboardInterrupt`."""
    return not isinstance(error, (Exception, asyncio.CancelledError))


class ClassifyBy:
    """Classifies by exception class, the most specific one first, and every other error by `otherwise`.

    Raises:
        ValueError: there is no such error class.
        TypeError: a key is not an exception class.

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
        if isinstance(error, BaseExceptionGroup):
            return _class_of_group(error, self)
        return ErrorClass(self._otherwise(error))


_SECONDS = re.compile(r"[0-9]+")


def parse_retry_after(value: str, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header requests, None if it cannot be understood.

    The header holds whole seconds or an HTTP date (RFC 9110, section 10.2.3). A date in the past requests no wait.
    `now` is in seconds since the epoch.
    """
    value = value.strip()
    if _SECONDS.fullmatch(value):
        # float() returns inf for more digits than it can hold. int() refuses thousands of digits.
        return float(value)
    from email.utils import parsedate_to_datetime  # noqa: PLC0415  few servers send a date

    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, date.timestamp() - now)


def retry_after_of(error: BaseException, now: float) -> float | None:
    """Return the seconds that `error` requests to wait, None if it requests none.

    They are in its attribute `retry_after`, or in the header in its `headers`, as aiohttp's `ClientResponseError` has
    them. `now` is in seconds since the epoch.
    """
    seconds = getattr(error, "retry_after", None)
    if isinstance(seconds, (int, float)) and not isinstance(seconds, bool):
        return float(seconds) if seconds >= 0 and not math.isnan(seconds) else None
    get = getattr(getattr(error, "headers", None), "get", None)
    value = get("Retry-After") if callable(get) else None
    return parse_retry_after(value, now) if isinstance(value, str) else None
