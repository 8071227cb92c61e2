"""What errors have in common, and what of them is said first."""

from __future__ import annotations

import pytest

from asyncwatch.model.error_text import brief_error, error_kind

NOT_FOUND = "ClientResponseError: 404, message='Not Found', url='http://a.example/404'"


@pytest.mark.parametrize(
    ("error", "brief"),
    [
        (NOT_FOUND, "404 Not Found"),
        ("ClientResponseError: 503, message='', url='http://a.example/'", "503"),
        ("ContentTypeError: 200, message=\"isn't JSON\", url='http://a/'", "200 isn't JSON (ContentTypeError)"),
        ("ValueError: 404, or so", "ValueError: 404, or so"),
        ("", ""),
    ],
)
def test_the_status_comes_first(error: str, brief: str) -> None:
    """An HTTP error begins with its status; any other stays as it is."""
    assert brief_error(error) == brief


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NOT_FOUND, "ClientResponseError: 404 Not Found"),
        ("OSError: no file 17 at http://a.example/x?y", "OSError: no file … at …"),
        ("ClientConnectorError: Cannot connect to host a.example:80 ssl:default", None),
        ("KeyError: 'x'", "KeyError: 'x'"),
        ("TimeoutError", "TimeoutError"),
        ("Error404: gone", "Error404: gone"),
    ],
)
def test_what_differs_from_worker_to_worker_is_taken_out(error: str, kind: str | None) -> None:
    """URLs, hosts and numbers leave; the type, the words and the status of a response stay."""
    assert error_kind(error) == (kind or "ClientConnectorError: Cannot connect to host … ssl:default")
