"""Error classes: what an error says about another attempt, and how long it asks to wait. Pure.

Errors of HTTP libraries are read by their attributes, and none of those libraries is imported. An attribute that cannot
be read is as good as none.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import math
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, timedelta
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


class Throttled(Exception):  # noqa: N818  an answer, not an error
    """The other side wants fewer requests. Raise it in a target whose client has no such error of its own.

    Every attempt for the same key waits, and the throttled one is tried again without using up an attempt.

    Args:
        retry_after: seconds after which the other side wants to be asked again, also as the text of a `Retry-After`
            header or as a timedelta; None if it did not say. What cannot be understood counts as None.

    """

    def __init__(self, retry_after: float | str | timedelta | None = None) -> None:
        if isinstance(retry_after, str):
            retry_after = parse_retry_after(retry_after, time.time())
        elif isinstance(retry_after, timedelta):
            retry_after = retry_after.total_seconds()
        try:
            seconds = None if retry_after is None else float(retry_after)
        except (TypeError, ValueError, OverflowError):
            seconds = None
        super().__init__("throttled" if seconds is None else f"throttled for {seconds:g} s")
        self.retry_after = seconds


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

_AWS_THROTTLED = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
"""Codes that botocore's "standard" retry mode takes for throttling. Most come with the status 400."""


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


class AttemptLost(ConnectionError):  # noqa: N818  what happened, no error of the work
    """The process in which an attempt ran has ended, and the attempt with it: no error of the work.

    The worker makes another attempt at once, which its policy neither counts nor limits, until `MOST_LOST` attempts of
    the same incarnation were lost: from then on it may be the work that ends processes, and losses count like errors.
    """


MOST_LOST = 3
"""Attempts of one incarnation that are lost, from which on losses count like errors."""


class LivenessTimeout(TimeoutError):  # noqa: N818  named like AttemptTimeout
    """A service gave no sign of life for too long: it did not call `current_worker().alive()`."""


class Renew(Exception):  # noqa: N818  a request, as StopIteration is
    """Raised by a target to request a new lifespan for its slot: `raise Renew from error`. It is transient.

    Its cause is the error that is shown. Without `lifespan_per = "slot"` nothing is renewed.
    """


def classify(error: BaseException) -> ErrorClass:
    """Return the class of `error`, as `ErrorClass` describes them.

    A group of errors has the class of all its leaves; if they differ, it is permanent if one of them is, else
    transient.
    An error with seconds in its attribute `retry_after`, as `Throttled` has, is throttled. An `OSError`
    with one of `NETWORK_ERRNOS` is transient. One that is about an HTTP answer is classified by its status (see
    `status_of`), or as throttled by a code of AWS for that.
    aiohttp's `ServerDisconnectedError`, `ServerTimeoutError`, `ClientOSError` and `ClientPayloadError` (a truncated
    answer) are connection errors.
    """
    kind = type(error)
    if type(kind) is not type or not _is_bare(error):
        return _classify(error)
    known = _of_bare.get(kind)
    if known is None:
        known = _classify(error)
        if _type_says_all(kind):
            if len(_of_bare) >= _TYPES_KEPT:
                _of_bare.clear()
            _of_bare[kind] = known
    return known


_TYPES_KEPT = 1_000
_of_bare: dict[type[BaseException], ErrorClass] = {}
"""The classes of bare errors, by type: to look one up takes a ninth of the 1.3 us that it takes to find out."""


def _is_bare(error: BaseException) -> bool:
    """Return whether an error has none of the attributes that are read here, as nearly every error."""
    try:
        return (
            getattr(error, "response", None) is None
            and getattr(error, "headers", None) is None
            and getattr(error, "retry_after", None) is None
        )
    except Exception:
        return False


def _type_says_all(kind: type[BaseException]) -> bool:
    """Return whether all bare errors of a type have the same class: neither their leaves, number nor cause matter."""
    if issubclass(kind, (TimeoutError, ConnectionError)):
        return True
    return not issubclass(kind, (BaseExceptionGroup, OSError)) and all(
        each.__module__ != "httpx" for each in kind.__mro__
    )


def _classify(error: BaseException) -> ErrorClass:
    if isinstance(error, DeadlineExceeded):
        return ErrorClass.PERMANENT
    if isinstance(error, Throttled) or _own_retry_after(error, 0.0) is not None:
        return ErrorClass.THROTTLED
    if isinstance(error, (TimeoutError, ConnectionError, Renew)):
        return ErrorClass.TRANSIENT
    if isinstance(error, BaseExceptionGroup):
        return _class_of_group(error, classify)
    if (of_client := _class_of_connection_error(error)) is not None:
        return of_client
    if isinstance(error, OSError) and error.errno in NETWORK_ERRNOS:
        return ErrorClass.TRANSIENT
    if _is_throttled_by_aws(error):
        return ErrorClass.THROTTLED
    status = status_of(error)
    if status is not None:
        if status == 503 and retry_after_of(error, 0.0) is not None:
            return ErrorClass.THROTTLED
        return STATUS_CLASSES.get(status, ErrorClass.PERMANENT)
    aiohttp = sys.modules.get("aiohttp")
    if aiohttp is not None and isinstance(
        error, (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError)
    ):
        return ErrorClass.TRANSIENT
    return ErrorClass.PERMANENT


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of the answer that `error` is about, None if it is about none.

    It is where aiohttp (`error.status`), httpx and requests (`error.response.status_code`) and botocore
    (`error.response["ResponseMetadata"]`) have it. None of them is imported. Without an answer, the status of an error
    (400 to 599) is its attribute `status_code` or `status`. It is its `code` if that is an `http.HTTPStatus`, or if the
    name of its class says that it is about HTTP: codes of the same range mean other things elsewhere.
    """
    response = _read(error, "response")
    status = _status(_in_dicts(response, "ResponseMetadata", "HTTPStatusCode")) or _status(
        _read(response, "status_code")
    )
    if status is None and _read(error, "headers") is not None:
        status = _status(_read(error, "status"))
    if status is not None:
        return status
    for name in ("status_code", "status", "code"):
        value = _read(error, name)
        status = _status(value, lowest=400)
        if status is not None and (name != "code" or type(value).__name__ == "HTTPStatus" or _is_named_http(error)):
            return status
    return None


def _status(value: Any, *, lowest: int = 100) -> int | None:
    """Return the value as an HTTP status, None if it is not one."""
    if not issubclass(type(value), int) or type(value) is bool:
        return None
    number = int.__int__(value)
    return number if lowest <= number < 600 else None


_NAMED_HTTP = re.compile("http|api|response|request|status|throttl|ratelimit|toomany", re.IGNORECASE)


def _is_named_http(error: BaseException) -> bool:
    return any(_NAMED_HTTP.search(kind.__name__) for kind in type(error).__mro__)


def is_outage(error: BaseException) -> bool:
    """Return whether a throttled `error` is that of a service that is down, which says nothing about a quota."""
    return status_of(error) == 503


def is_transient(error: BaseException) -> bool:
    """Return whether `error` may go away if the same work is tried again: its class is not `permanent`."""
    return classify(error) is not ErrorClass.PERMANENT


def is_never_retried(error: BaseException) -> bool:
    """Return whether no policy may retry `error`: a cancellation, the end of the deadline, or a request to exit."""
    return not isinstance(error, Exception) or isinstance(error, DeadlineExceeded)


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


_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")


def parse_retry_after(value: str, now: float) -> float | None:
    """Return the seconds that a `Retry-After` header requests, None if it cannot be understood.

    The header holds whole seconds or an HTTP date (RFC 9110, section 10.2.3). A date in the past requests no wait. A
    fraction of seconds, which some services send, is understood too.
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

    They are in its attribute `retry_after` (a number, a timedelta, or the text of a header), or in the header
    `Retry-After` of the answer, where `status_of` finds it.
    A group of errors requests the longest wait of its leaves. `now` is in seconds since the epoch.
    """
    if isinstance(error, BaseExceptionGroup):
        waits = [retry_after_of(leaf, now) for leaf in leaves_of(error)]
        return max((wait for wait in waits if wait is not None), default=None)
    if _is_bare(error):
        return None
    seconds = _own_retry_after(error, now)
    if seconds is not None:
        return seconds
    value = _header_of(error, "Retry-After")
    return parse_retry_after(value, now) if isinstance(value, str) else None


def _own_retry_after(error: BaseException, now: float) -> float | None:
    seconds = _read(error, "retry_after")
    if type(seconds) is str:
        return parse_retry_after(seconds, now)
    if type(seconds) is timedelta:
        seconds = seconds.total_seconds()
    if type(seconds) not in {int, float} or not seconds >= 0:
        return None
    try:
        return float(seconds)
    except OverflowError:
        return math.inf


def _header_of(error: BaseException, name: str) -> object:
    """Return a header of the answer that `error` is about."""
    response = _read(error, "response")
    value = _in_dicts(response, "ResponseMetadata", "HTTPHeaders", name.lower())
    holders: tuple[Any, ...] = error, response
    for holder in holders:
        if value is None:
            try:
                value = holder.headers.get(name)
            except Exception:  # noqa: S112  as in `_read`
                continue
    return value


def _is_throttled_by_aws(error: BaseException) -> bool:
    """Return whether the code in an error of botocore says that there were too many requests, whatever its status."""
    code = _in_dicts(_read(error, "response"), "Error", "Code")
    return type(code) is str and code in _AWS_THROTTLED


def _read(owner: object, name: str) -> Any:
    """Return an attribute of an error or an answer; None if there is none, or if it cannot be read."""
    try:
        return getattr(owner, name, None)
    except Exception:
        return None


def _in_dicts(value: Any, *keys: str) -> Any:
    """Return what nested dicts have below these keys, None for nothing."""
    for key in keys:
        value = value.get(key) if type(value) is dict else None
    return value
