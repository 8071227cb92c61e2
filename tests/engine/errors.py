"""Errors that the tests share."""

from __future__ import annotations

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL


def response_error(status: int, *, retry_after: str | None = None) -> aiohttp.ClientResponseError:
    """Return the error that `raise_for_status` raises."""
    url = URL("http://localhost/")
    request = aiohttp.RequestInfo(url, "GET", CIMultiDictProxy(CIMultiDict[str]()), url)
    headers = CIMultiDict[str]({} if retry_after is None else {"retry-after": retry_after})
    return aiohttp.ClientResponseError(request, (), status=status, headers=headers)


class RetryAfterError(Exception):
    """An error that requests a wait before the next attempt."""

    def __init__(self, retry_after: object = None, headers: object = None) -> None:
        super().__init__()
        self.retry_after = retry_after
        self.headers = headers
