"""The kind of an error line, and its brief form."""

from __future__ import annotations

import pytest

from asyncwatch.text import brief_error, error_kind

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
def test_brief_error_of_a_response_starts_with_its_status(error: str, brief: str) -> None:
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
        ("OSError: no answer for item-17 at 0x7fA0 in 1.5 s", "OSError: no answer for item-… at … in … s"),
        ("OSError: 0x1fz is no address, a0x1 neither", "OSError: …x…fz is no address, a…x… neither"),
    ],
)
def test_error_kind_leaves_out_urls_hosts_and_numbers(error: str, kind: str | None) -> None:
    assert error_kind(error) == (kind or "ClientConnectorError: Cannot connect to host … ssl:default")
