"""Events as lines of JSON, and back."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, Union

import msgspec

from asyncwatch.events.base import Event

_encoder = msgspec.json.Encoder()


def encode(event: Event) -> bytes:
    r"""Return `event` as one JSON object without a line ending.

    UTF-8 cannot hold lone surrogates, so they are written as the text of their escape, `\udcff`.
    """
    try:
        return _encoder.encode(event)
    except UnicodeEncodeError:
        return _encoder.encode(_without_surrogates(msgspec.to_builtins(event)))


def decode(line: bytes | str) -> Event:
    """Return the event on a line that `encode` wrote.

    Raises:
        msgspec.DecodeError: The line is not an event.

    """
    return _decoder().decode(line)


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


def _without_surrogates(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case list() | tuple():
            return [_without_surrogates(item) for item in value]
        case dict():
            return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
        case _:
            return value
