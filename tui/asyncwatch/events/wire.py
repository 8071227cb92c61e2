"""Events as lines of JSON, and batches of them as MessagePack, and back."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Iterator
from typing import Any, Union

import msgspec

from asyncwatch.events.base import Batch, Event

_encoder = msgspec.json.Encoder()
_pack = msgspec.msgpack.Encoder().encode


def encode(event: Event) -> bytes:
    r"""Return `event` as one JSON object without a line ending.

    UTF-8 cannot hold lone surrogates, so they are written as the text of their escape, `\udcff`.
    """
    try:
        return _encoder.encode(event)
    except UnicodeEncodeError:
        return _encoder.encode(without_surrogates(msgspec.to_builtins(event)))


def decode(line: bytes | str) -> Event:
    """Return the event on a line that `encode` wrote.

    Raises:
        msgspec.DecodeError: The line is not an event.

    """
    return _decoder().decode(line)


def pack_batch(batch: Batch) -> bytes:
    """Return a batch as MessagePack, which holds no integers of more than 64 bits: a larger result becomes a text.

    Lone surrogates are written as in `encode`.
    """
    try:
        return _pack(batch)
    except (UnicodeEncodeError, OverflowError):
        return _pack(_without_large_numbers(without_surrogates(msgspec.to_builtins(batch))))


def unpack_batch(data: bytes | memoryview) -> tuple[Event, ...]:
    """Return the events that `pack_batch` wrote.

    Raises:
        msgspec.DecodeError: The data is no batch of events.

    """
    return _unpacker().decode(data)


def inflate(data: bytes, most: int) -> bytes:
    """Return what `zlib.compress` made `data` of, at most `most` bytes: a few can be made of very many.

    Raises:
        zlib.error: The data is damaged, or is larger.

    """
    stream = zlib.decompressobj()
    plain = stream.decompress(data, most + 1)
    if len(plain) > most:
        raise zlib.error(f"it has more than {most:,} bytes")
    if not stream.eof:
        raise zlib.error("it is not whole")
    return plain


def event_types() -> frozenset[type[Event]]:
    """Return the class of every event of this package, without their base classes."""
    kinds = {kind for kind in _subclasses(Event) if kind.__module__.startswith(f"{__package__}.")}
    return frozenset(kinds.difference(*(kind.__bases__ for kind in kinds)))


def _subclasses(kind: type[Event]) -> Iterator[type[Event]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


@functools.cache
def _decoder() -> msgspec.json.Decoder[Event]:
    # Made on first use: it takes 1.6 ms, and a dashboard never reads a line.
    return msgspec.json.Decoder(Union[tuple(event_types())])  # noqa: UP007  the classes are known at run time only


@functools.cache
def _unpacker() -> msgspec.msgpack.Decoder[tuple[Event, ...]]:
    return msgspec.msgpack.Decoder(tuple[Union[tuple(event_types())], ...])  # type: ignore[misc]  # noqa: UP007  as above


def _without_large_numbers(value: Any) -> Any:
    match value:
        case int():
            return value if -(1 << 63) <= value < 1 << 64 else _digits(value)
        case list():
            return [_without_large_numbers(item) for item in value]
        case dict():
            return {_without_large_numbers(key): _without_large_numbers(item) for key, item in value.items()}
        case _:
            return value


def _digits(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # Python converts at most some thousand digits
        return hex(number)


def without_surrogates(value: Any) -> Any:
    r"""Return a copy of built-in values in which every lone surrogate is the text of its escape, `\udcff`."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case list() | tuple():
            return [without_surrogates(item) for item in value]
        case dict():
            return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
        case _:
            return value
