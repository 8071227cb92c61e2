"""Error classes."""

from __future__ import annotations

import asyncio
import errno
import http
import math
import ssl
from datetime import timedelta
from typing import Any, NoReturn, cast

import aiohttp
import pytest

from asyncwatch import ClassifyBy, DeadlineExceeded, ErrorClass, Throttled, classify
from asyncwatch.policies.classify import is_never_retried, is_outage, leaves_of, retry_after_of, status_of
from asyncwatch.targets.names import classify_by
from tests.engine.errors import RetryAfterError, response_error


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        (TimeoutError(), "transient"),
        (ConnectionResetError(), "transient"),
        (aiohttp.ServerDisconnectedError(), "transient"),
        (aiohttp.ServerTimeoutError(), "transient"),
        (aiohttp.ClientPayloadError(), "transient"),
        *((OSError(number, ""), "transient") for number in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)),
        (OSError(errno.ENOSPC, ""), "permanent"),
        (OSError(), "permanent"),
        (response_error(408), "transient"),
        (response_error(425), "transient"),
        (response_error(502), "transient"),
        (response_error(504), "transient"),
        (response_error(429), "throttled"),
        (response_error(429, retry_after="3"), "throttled"),
        (response_error(503, retry_after="3"), "throttled"),
        (response_error(503, retry_after="whenever"), "server"),
        (response_error(503), "server"),
        (response_error(500), "server"),
        (response_error(404, retry_after="3"), "permanent"),
        (response_error(501), "permanent"),
        (DeadlineExceeded(), "permanent"),
        (ValueError(), "permanent"),
        (asyncio.CancelledError(), "permanent"),
    ],
)
def test_classify_returns_the_class_of_an_error(error: BaseException, error_class: str) -> None:
    """Timeouts, connection errors and HTTP statuses have one each, and all else is permanent."""
    assert classify(error) == error_class


def test_errors_of_one_type_are_classified_one_by_one() -> None:
    """What is remembered of a type must not hold for errors that say more than their type."""

    class ServiceError(Exception):
        response: Any = None
        retry_after: float | None = None

    bare, refused, asked = ServiceError(), ServiceError(), ServiceError()
    refused.response = {"ResponseMetadata": {"HTTPStatusCode": 500}}
    asked.retry_after = 3
    assert [classify(error) for error in (bare, refused, asked, bare)] == [
        "permanent",
        "server",
        "throttled",
        "permanent",
    ]
    unreachable, full = OSError(errno.ENETUNREACH, ""), OSError(errno.ENOSPC, "")
    assert [classify(error) for error in (full, unreachable, full)] == ["permanent", "transient", "permanent"]
    groups = [ExceptionGroup("", [leaf]) for leaf in (ValueError(), TimeoutError(), ValueError())]
    assert [classify(group) for group in groups] == ["permanent", "transient", "permanent"]


def test_classify_by_uses_the_most_specific_class_or_another_function() -> None:
    by = ClassifyBy({OSError: "server", ConnectionError: ErrorClass.THROTTLED, ValueError: "transient"})
    assert by(ConnectionResetError()) is ErrorClass.THROTTLED
    assert by(FileNotFoundError()) is ErrorClass.SERVER
    assert by(UnicodeDecodeError("utf-8", b"", 0, 0, "")) is ErrorClass.TRANSIENT
    assert by(KeyError()) is ErrorClass.PERMANENT
    assert ClassifyBy({}, otherwise=lambda error: "server")(KeyError()) is ErrorClass.SERVER


def test_classify_by_with_an_unknown_class_is_refused() -> None:
    with pytest.raises(ValueError, match="weird"):
        ClassifyBy({OSError: "weird"})
    with pytest.raises(TypeError, match="int"):
        ClassifyBy({int: "server"})  # type: ignore[dict-item]  # on purpose


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(), KeyboardInterrupt(), DeadlineExceeded()])
def test_cancellation_exit_and_deadline_are_never_retried(error: BaseException) -> None:
    assert is_never_retried(error)
    assert not is_never_retried(TimeoutError())


class Answer:
    """An answer as httpx and requests give it to their errors. It is false when its status is an error, as there."""

    def __init__(self, status_code: object, headers: object = None) -> None:
        self.status_code = status_code
        self.headers = headers

    def __bool__(self) -> bool:
        return False


class AnswerError(Exception):
    """An error about an answer, as httpx, requests and botocore raise it."""

    def __init__(self, response: object) -> None:
        super().__init__()
        self.response = response


def aws_error(status: int, code: str = "InternalError", **headers: str) -> AnswerError:
    """Return an error as botocore raises it."""
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return AnswerError({"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": metadata})


class StatusError(Exception):
    """A user's own error with a status, which may be of anything."""

    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


class HostileError(Exception):
    """An error whose attributes cannot be read."""

    def __getattr__(self, name: str) -> Any:
        raise LookupError(name)


class SlowDownError(ConnectionError):
    """A user's own error."""

    retry_after = 4


@pytest.mark.parametrize(
    ("error", "error_class", "seconds"),
    [
        (AnswerError(Answer(429, {"Retry-After": "2"})), "throttled", 2),
        (AnswerError(Answer(http.HTTPStatus.TOO_MANY_REQUESTS, {})), "throttled", None),
        (AnswerError(Answer(503, {"Retry-After": "2"})), "throttled", 2),
        (AnswerError(Answer(503)), "server", None),
        (AnswerError(Answer(404, {})), "permanent", None),
        (AnswerError(Answer("429", {})), "permanent", None),
        (AnswerError(None), "permanent", None),
        (aws_error(429, **{"retry-after": "7"}), "throttled", 7),
        (aws_error(400, "ThrottlingException"), "throttled", None),
        (aws_error(503, "SlowDown"), "throttled", None),
        (aws_error(500), "server", None),
        (AnswerError({"ResponseMetadata": None, "Error": []}), "permanent", None),
        (Throttled(), "throttled", None),
        (Throttled(0.5), "throttled", 0.5),
        (SlowDownError(), "throttled", 4),
        (RetryAfterError(retry_after="3"), "throttled", 3),
        (RetryAfterError(retry_after=timedelta(minutes=1)), "throttled", 60),
        (RetryAfterError(retry_after=10**400), "throttled", math.inf),
        (RetryAfterError(retry_after="soon"), "permanent", None),
    ],
)
def test_classify_reads_the_errors_of_other_libraries(
    error: Exception, error_class: str, seconds: float | None
) -> None:
    assert (classify(error), retry_after_of(error, 0.0)) == (error_class, seconds)


@pytest.mark.parametrize(
    "error",
    [
        HostileError(),
        AnswerError(HostileError()),
        AnswerError(Answer(429, HostileError())),
        AnswerError({"ResponseMetadata": HostileError(), "Error": {"Code": []}}),
    ],
    ids=["error", "answer", "headers", "tables"],
)
def test_classify_takes_an_attribute_that_cannot_be_read_for_none(error: Exception) -> None:
    assert classify(error) in {"permanent", "throttled"}
    assert retry_after_of(error, 0.0) is None
    assert not is_outage(error)


def test_status_of_an_error_is_that_of_its_answer() -> None:
    assert status_of(response_error(429)) == 429
    error = AnswerError(Answer(404))
    error.status_code = 500  # type: ignore[attr-defined]
    assert status_of(error) == 404


def own_error(name: str, **attributes: object) -> Exception:
    """Return an error of a class of that name, with attributes and without an answer."""
    error: Exception = type(name, (Exception,), {})()
    for attribute, value in attributes.items():
        setattr(error, attribute, value)
    return error


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        (StatusError(429), "throttled"),
        (own_error("OddError", status_code=429), "throttled"),
        (own_error("OddError", status_code=404, status=500), "permanent"),
        (own_error("OddError", status="failed", code=http.HTTPStatus.TOO_MANY_REQUESTS), "throttled"),
        (own_error("HTTPError", code=429), "throttled"),
        (own_error("HTTPError", code=502), "transient"),
        (own_error("HTTPError", code=200), "permanent"),
        (own_error("ApiException", code=503, headers={"Retry-After": "1"}), "throttled"),
        (own_error("OperationFailure", code=429), "permanent"),
        (own_error("ConnectionClosed", code=500), "permanent"),
        (own_error("HTTPError", code="429"), "permanent"),
        (own_error("HTTPError", code=True), "permanent"),
        (own_error("ExitError", status=1), "permanent"),
        (own_error("RpcError", code=lambda: 429), "permanent"),
    ],
)
def test_status_of_an_error_without_an_answer_is_that_of_its_own(error: Exception, error_class: str) -> None:
    assert classify(error) == error_class


def test_classify_by_status_has_the_status_of_any_library_or_of_an_own_error() -> None:
    by = classify_by({"420": "throttled", "404": "transient"}, {})
    assert by(StatusError(420)) == by(response_error(420)) == by(AnswerError(Answer(420))) == "throttled"
    assert by(aws_error(404)) == "transient"
    assert by(aws_error(403)) == "permanent"


def _error_of_httpx(name: str, *bases: type[Exception]) -> Exception:
    kind = type(name, bases or (Exception,), {"__module__": "httpx"})
    return cast("Exception", kind("gone"))


@pytest.mark.parametrize("name", ["TimeoutException", "NetworkError", "RemoteProtocolError"])
def test_transport_error_of_httpx_is_transient_with_its_subclasses(name: str) -> None:
    error = _error_of_httpx(name)
    assert classify(error) is ErrorClass.TRANSIENT
    assert classify(_error_of_httpx("Own", type(error))) is ErrorClass.TRANSIENT


@pytest.mark.parametrize("name", ["InvalidURL", "UnsupportedProtocol", "LocalProtocolError", "DecodingError"])
def test_other_error_of_httpx_is_permanent(name: str) -> None:
    assert classify(_error_of_httpx(name)) is ErrorClass.PERMANENT


def test_certificate_that_httpx_could_not_verify_is_permanent() -> None:
    error, of_transport = _error_of_httpx("NetworkError"), Exception("wrapped")
    of_transport.__cause__ = ssl.SSLCertVerificationError(1, "expired")
    error.__cause__ = of_transport
    assert classify(error) is ErrorClass.PERMANENT


LOST, WRONG = ConnectionResetError(), ValueError()


@pytest.mark.parametrize(
    ("group", "error_class"),
    [
        (ExceptionGroup("", [LOST]), "transient"),
        (ExceptionGroup("", [LOST, ExceptionGroup("", [TimeoutError(), LOST])]), "transient"),
        (ExceptionGroup("", [response_error(429), response_error(429)]), "throttled"),
        (ExceptionGroup("", [response_error(500), LOST]), "transient"),
        (ExceptionGroup("", [LOST, WRONG]), "permanent"),
        (ExceptionGroup("", [LOST, ExceptionGroup("", [WRONG])]), "permanent"),
        (ExceptionGroup("", [DeadlineExceeded(), LOST]), "permanent"),
        (BaseExceptionGroup("", [asyncio.CancelledError(), LOST]), "permanent"),
    ],
)
def test_group_of_errors_has_the_class_of_its_leaves(group: BaseException, error_class: str) -> None:
    assert classify(group) == error_class


def test_group_of_errors_requests_the_longest_wait_of_its_leaves() -> None:
    nested = ExceptionGroup("", [Throttled(7), LOST])
    assert retry_after_of(ExceptionGroup("", [Throttled(2), nested, Throttled(3)]), 0.0) == 7
    assert retry_after_of(ExceptionGroup("", [LOST, Throttled()]), 0.0) is None


def test_own_classes_hold_for_the_leaves_of_a_group() -> None:
    by = ClassifyBy({ValueError: "transient", KeyError: "permanent"})
    assert by(ExceptionGroup("", [LOST, WRONG])) is ErrorClass.TRANSIENT
    assert by(ExceptionGroup("", [LOST, KeyError()])) is ErrorClass.PERMANENT
    assert ClassifyBy({ExceptionGroup: "server"})(ExceptionGroup("", [WRONG])) is ErrorClass.SERVER


def test_leaves_of_a_group_are_its_own_whatever_its_attribute_says() -> None:
    class Hidden(ExceptionGroup[Exception]):
        @property
        def exceptions(self) -> NoReturn:
            raise SystemExit

    nested = ExceptionGroup("", [WRONG, LOST])
    assert list(leaves_of(Hidden("", [LOST, nested, WRONG]))) == [LOST, WRONG, LOST, WRONG]
    assert list(leaves_of(WRONG)) == [WRONG]
