"""Masks credentials in text that is shown or written."""

from __future__ import annotations

import re

# A path turns `http://` into `http:/`.
_USERINFO = re.compile(
    r"(?:(?<=://)|(?<=\bhttp:/)|(?<=\bhttps:/))[^/?#\s\"<>]*@|(?<=\w:/)[^/?#\s\"<>:]*:[^/?#\s\"<>]*@"
)

MASK = "***@"


def mask_secrets(text: str) -> str:
    """Return `text` with the `user:password@` of every URL in it replaced by `***@`."""
    if "@" not in text or ":/" not in text:
        return text
    return _USERINFO.sub(MASK, text)
