"""Error lines, `Type: message`: the telling part first, and what errors of one kind have in common. Pure."""

from __future__ import annotations

import re

# `ClientResponseError.__str__` of aiohttp. The URL is left out: it is often the worker's name.
_RESPONSE = re.compile(
    r"(?P<type>\w+): (?P<status>\d{3}), message=(?P<q>['\"])(?P<message>.*?)(?P=q), url=.*", re.DOTALL
)
_VARIABLE = re.compile(
    r"""
      \b[a-z][a-z0-9+.-]*://[^\s'"<>]*            # a URL
    | \b[\w-]+(?:\.[\w-]+)*:\d+\b                 # a host and its port
    | \b0x[0-9a-f]+\b
    | \d+(?:[.,:]\d+)*                            # a number, a time, an address
    """,
    re.VERBOSE | re.IGNORECASE,
)


def brief_error(error: str) -> str:
    """Return an error line with the telling part first: the status of an HTTP response, `404 Not Found`."""
    response = _RESPONSE.fullmatch(error)
    if response is None:
        return error
    status = f"{response['status']} {response['message']}".rstrip()
    return status if response["type"] == "ClientResponseError" else f"{status} ({response['type']})"


def error_kind(error: str) -> str:
    """Return an error line without URLs, hosts with ports, and numbers: equal for errors of the same kind.

    The status of an HTTP response stays.
    """
    response = _RESPONSE.fullmatch(error)
    if response is not None:
        return f"{response['type']}: {response['status']} {response['message']}".rstrip()
    error_type, colon, message = error.partition(": ")
    return error_type + colon + _VARIABLE.sub("…", message)
