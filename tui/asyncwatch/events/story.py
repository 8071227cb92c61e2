"""The story of one worker: what happened to it, in order. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from asyncwatch.events.base import Event


def story(events: Iterable[Event], worker: str) -> list[str]:
    """Return the class names of the events about a worker, in order.

    `WorkersQueued`, which is about many workers, is not among them.
    """
    return [type(event).__name__ for event in events if getattr(event, "worker", None) == worker]
