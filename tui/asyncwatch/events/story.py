"""What happened to one worker, picked out of the events of a run. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from asyncwatch.events.base import Batch, Event
from asyncwatch.events.run import WorkersQueued


def story(events: Iterable[Event | Batch], worker: str, incarnation: int | None = None) -> list[Event]:
    """Return the events about a worker, or about one of its incarnations, in order.

    `events` can be the events themselves, or batches of them as they arrive on a listener's queue.
    """
    return [event for event in _flat(events) if _is_about(event, worker, incarnation)]


def _flat(events: Iterable[Event | Batch]) -> Iterator[Event]:
    for event in events:
        if isinstance(event, Event):
            yield event
        else:
            yield from event


def _is_about(event: Event, worker: str, incarnation: int | None) -> bool:
    if isinstance(event, WorkersQueued):
        return worker in event.workers and incarnation in {None, 1}
    is_meant = incarnation in {None, getattr(event, "incarnation", incarnation)}
    return is_meant and getattr(event, "worker", None) == worker
