"""Where attempts run: the setting `engine`, and its rule."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

import msgspec

ASYNCIO: Final = "asyncio"
DASK: Final = "dask"
DEFAULT_CLIENT_GRACE: Final = 60.0
"""Seconds."""
_REMEDY = "give asyncio, dask, tls://HOST:PORT, tcp://127.0.0.1:PORT, or the path of a scheduler file"


class EngineAddress(msgspec.Struct, frozen=True):
    """Which cluster runs the attempts."""

    kind: str
    """`asyncio` for none, `dask` for one that is started on this machine, `tls` and `tcp` for the address of a
    scheduler, `file` for a scheduler file."""
    address: str = ""
    file: str = ""

    @property
    def is_open(self) -> bool:
        """Whether the traffic to the scheduler can be read and changed by others on its way."""
        return self.kind == "tcp" and not _is_loopback(urlsplit(self.address).hostname or "")


def parse_engine(text: str) -> EngineAddress:
    """Return the engine that the setting names.

    Raises:
        ValueError: it names none.

    """
    if text in {ASYNCIO, DASK}:
        return EngineAddress(text)
    scheme, separator, _ = text.partition("://")
    if not separator:
        if not text or "\0" in text or ("/" not in text and "." not in text):
            raise ValueError(f"must be an engine, not {text!r}: {_REMEDY}")
        return EngineAddress("file", file=text)
    try:
        parts = urlsplit(text)
        is_whole = scheme in {"tls", "tcp"} and parts.hostname and parts.port and parts.path in {"", "/"}
    except ValueError:
        is_whole = False
    if not is_whole:
        raise ValueError(f"must be the address of a scheduler, not {text!r}: {_REMEDY}")
    return EngineAddress(scheme, address=text.rstrip("/"))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
