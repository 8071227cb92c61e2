"""Long work beside a dashboard that stays responsive."""

from __future__ import annotations

from collections.abc import Callable

from asyncwatch.slices import SlicedWork, Work

SLICE = 0.01
"""Seconds of a slice. Beside a busy engine thread each slice first waits about 5 ms for the interpreter."""
PAUSE = 0.001
"""Seconds between two slices at least."""
ITERATIONS = 4
"""Loop iterations between two slices: about as many as Textual needs from a key to its action."""
SHORT_SLICE = 0.004
"""Seconds of a slice while a person waits for a frame."""
FRAME_WAIT = 0.025
"""Seconds from an action to its frame: Textual paints 60 times a second."""


def background_work(work: Work, done: Callable[[], object] = lambda: None) -> SlicedWork:
    """Return `work` in slices that leave keys, events and frames their turn."""
    return SlicedWork(work, done, seconds=SLICE, pause=PAUSE, iterations=ITERATIONS)


def give_way_to_frame(work: SlicedWork) -> None:
    """Take short slices until the next frame: a person waits for it."""
    work.shorten(SHORT_SLICE, FRAME_WAIT)
