"""Goes through very many workers without keeping the event loop: some of them in each of its turns."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

from asyncwatch.engine.worker import Worker

SLICE = 2_000
"""Workers at the most in one turn of the loop: some 20 ms."""


class Slices:
    """Calls `act` for each of `workers`, in order, but for those of whose places in the roster `spared` has come to be.

    `workers` is asked for the next one only when its turn comes. With `holds_line` nobody takes a place meanwhile.
    `then` is called after the last one.
    """

    def __init__(
        self,
        workers: Iterator[Worker],
        act: Callable[[Worker], object],
        *,
        holds_line: bool = False,
        then: Callable[[], object] = lambda: None,
    ) -> None:
        self.spared: set[int] = set()
        self.act = act
        self.holds_line = holds_line
        self.then = then
        self._workers = workers

    def go_on(self) -> bool:
        """Go through the next slice; return whether there may be more."""
        seen = 0
        for worker in itertools.islice(self._workers, SLICE):
            seen += 1
            if worker.index not in self.spared:
                self.act(worker)
        return seen == SLICE
