"""Workers that join the batch while it runs: one for each item of a source that is read as its items come."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from asyncwatch.engine.spec import WorkerSpec


class WorkerSource(Protocol):
    """Where the items come from."""

    @property
    def template(self) -> WorkerSpec:
        """How the workers are treated; its name is not used."""

    def start(self, feed: Feed) -> None:
        """Begin to add workers to `feed`. Called on the event loop when the batch starts."""

    def stop(self) -> None:
        """Add no more workers: the batch is being stopped. Called on the event loop, perhaps before `start`."""


class Feed:
    """The way of new workers into the batch. All methods belong to the thread of the event loop.

    An open feed is work that the run waits for.
    """

    def __init__(
        self,
        source: WorkerSource,
        add: Callable[[Feed, Sequence[str], Sequence[Any]], list[str]],
        end: Callable[[Feed], None],
        backlog: Callable[[], int],
    ) -> None:
        self.source = source
        self.is_open = True
        self.backlog = backlog
        """Returns how many workers of the batch have not begun. From any thread."""
        self._add = add
        self._end = end

    def add(self, names: Sequence[str], items: Sequence[Any]) -> list[str]:
        """Add a worker for each item; return their names, made unique. None if the feed was closed.

        A `BadItem` stands for an item that cannot be read, an `OwnSpec` for a worker unlike the template.
        """
        return self._add(self, names, items) if self.is_open and names else []

    def end(self) -> None:
        """Note that no more workers come."""
        if self.is_open:
            self.is_open = False
            self._end(self)

    def close(self) -> None:
        """Stop the source, and drop the workers that it still adds."""
        if self.is_open:
            self.source.stop()
            self.end()
