"""What of an error line, `Type: message`, tells most, and what of it errors of one kind have in common."""

from __future__ import annotations

import re

# aiohttp's `ClientResponseError.__str__`: the worker's name says the URL already.
_RESPONSE = re.compile(
    r"(?P<type>\w+): (?P<status>\d{3}), message=(?P<q>['\"])(?P<message>.*?)(?P=q), url=.*", re.DOTALL
)
_PLACES = re.compile(
    r"""
      \b[a-z][a-z0-9+.-]*://[^\s'"<>]*            # a URL
    | \b[\w-]+(?:\.[\w-]+)*:\d+\b                 # a host and its port
    | \b0x[0-9a-f]+\b
    | \d+(?:[.,:]\d+)*                            # a number, a time, an address
    """,
    re.VERBOSE | re.IGNORECASE,
)


def brief_error(error: str) -> str:
    """Return an error line with what tells most in front: for an HTTP response its status, `404 Not Found`."""
    response = _RESPONSE.fullmatch(error)
    if response is None:
        return error
    told = f"{response['status']} {response['message']}".rstrip()
    return told if response["type"] == "ClientResponseError" else f"{told} ({response['type']})"


def error_kind(error: str) -> str:
    """Return what error lines of the same kind share: URLs, hosts with ports and numbers are taken out.

    The status of an HTTP response stays: it is a kind of its own.
    """
    response = _RESPONSE.fullmatch(error)
    if response is not None:
        return f"{response['type']}: {response['status']} {response['message']}".rstrip()
    error_type, colon, message = error.partition(": ")
    return error_type + colon + _PLACES.sub("…", message)
