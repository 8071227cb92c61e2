"""What each frame of a Textual screen costs: the time of its thread up to the last byte for the writer thread."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.benchmarks.measure import Cost

SETTLING = 1.0
"""Seconds after the first frame that are not measured."""


class FrameTimer:
    """Records the frames of one screen: what it spends inside `drawing` and then inside `painting`."""

    def __init__(self) -> None:
        self._frames: list[tuple[float, Cost]] = []
        self._spent = Cost(0.0, 0.0)

    def costs(self) -> Sequence[Cost]:
        """Return the cost of each frame after `SETTLING`."""
        first, _ = self._frames[0]
        return [cost for done_at, cost in self._frames if done_at >= first + SETTLING]

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Add the time inside the context to the next frame."""
        start, worked = time.perf_counter(), time.thread_time()
        yield
        processor, wall = self._spent
        self._spent = Cost(processor + time.thread_time() - worked, wall + time.perf_counter() - start)

    @contextmanager
    def painting(self, *, is_frame: bool) -> Iterator[None]:
        """Add the time inside the context, and end a frame if it is one."""
        with self.drawing():
            yield
        if is_frame:
            self._frames.append((time.perf_counter(), self._spent))
            self._spent = Cost(0.0, 0.0)
