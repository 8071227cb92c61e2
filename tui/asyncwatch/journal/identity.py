"""The identity of an item: a key by which it is the same item in another run, whatever line it stands on. Pure.

The key is a hash of the item's name where it has one (a column or field, `--name`), else of its content, and of its
ordinal among equal ones. Neither the line, nor the attempt, nor the code of the target is part of it. What has a name
has a hash of its content too, which tells a changed item from an equal one.

The content is the item as JSON with sorted keys. 1 and 1.0 are different, as are 1 and "1". What is no JSON counts by
its `repr`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from asyncwatch.journal.store import CONTENT_SIZE, KEY_SIZE

_encode: Callable[[Any, int], Iterable[str]] = json.encoder.c_make_encoder(  # type: ignore[attr-defined]
    None, None, json.encoder.encode_basestring_ascii, None, ":", ",", True, False, True
)
"""As `json.dumps` with sorted keys and without blanks, which makes such an encoder anew for each value: three times as
slow."""


class Keys(NamedTuple):
    """Keys of items, in their order, as `store.ItemKeys` has them."""

    keys: bytes
    content: bytes


class Counts(Protocol):
    """How often each key has occurred: a `dict`, or one on a disk."""

    def get(self, key: bytes, default: int, /) -> int:
        """Return how often a key has occurred."""

    def __setitem__(self, key: bytes, times: int, /) -> None:
        """Note how often a key has occurred."""


_HASHES = {kind: blake2b(digest_size=KEY_SIZE, person=kind) for kind in (b"c", b"n", b"o")}


def keys_of(items: Iterable[Any], names: Sequence[str] | None = None, seen: Counts | None = None) -> Keys:
    """Return the keys of `items`, which have these `names`, if they have any. An empty name is none.

    `seen` is kept for items of the same group that follow later: how often each key has occurred.
    """
    contents = map(_content, items)
    if names is None:
        return Keys(b"".join(_numbered([_key(b"c", content) for content in contents], seen)), b"")
    keys, hashes = [], []
    for name, content in zip(names, contents, strict=True):
        keys.append(_key(b"n", _bytes(name)) if name else _key(b"c", content))
        hashes.append(blake2b(content, digest_size=CONTENT_SIZE).digest())
    return Keys(b"".join(_numbered(keys, seen)), b"".join(hashes))


def idempotency_key(root: str, group: str, key: bytes) -> str:
    """Return a text of 32 hexadecimal digits that is the same for an item over all runs with the same root."""
    return blake2b(json.dumps([root, group]).encode() + key, digest_size=16).hexdigest()


def _content(item: Any) -> bytes:
    if isinstance(item, str):
        return b'"' + _bytes(item)
    try:
        return "".join(_encode(item, 0)).encode("ascii")
    except (TypeError, ValueError, RecursionError):
        return _bytes(repr(item))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _key(kind: bytes, data: bytes) -> bytes:
    # A copy takes half as long as a new hash with a person.
    key = _HASHES[kind].copy()
    key.update(data)
    return key.digest()


def _numbered(keys: list[bytes], seen: Counts | None) -> list[bytes]:
    """Return `keys`, which are unique after the ordinal of each repeated one was added to it."""
    if seen is None:
        if len(set(keys)) == len(keys):
            return keys
        seen = {}
    for at, key in enumerate(keys):
        ordinal = seen[key] = seen.get(key, 0) + 1
        if ordinal > 1:
            keys[at] = _key(b"o", key + ordinal.to_bytes(8, "little"))
    return keys
