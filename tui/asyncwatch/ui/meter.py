"""What the picture itself costs: frames, the time they take, what they draw, what is behind. Pure."""

from __future__ import annotations

from collections import deque

from asyncwatch.model.histogram import Histogram

_WINDOW = 2.0


class Meter:
    """Counts. Times are in seconds; those of a frame are of the processor, from the wish to draw to the screen."""

    def __init__(self) -> None:
        self.frames = 0
        self.frame_times = Histogram()
        self.last_frame = 0.0
        self.lines = 0
        """Lines of the fleet that were rendered, of all frames."""
        self.most_lines = 0
        """Of any frame."""
        self.received = 0
        """Events that came from the engine."""
        self.depth = 0
        """Events that the engine has emitted and no picture shows yet, at the last look."""
        self.highest_depth = 0
        self._lines_before = 0
        self._history: deque[tuple[float, int]] = deque()

    def receive(self, events: int) -> None:
        """Count events that came."""
        self.received += events

    def render_line(self) -> None:
        """Count a line of the fleet that is rendered."""
        self.lines += 1

    def frame(self, seconds: float) -> None:
        """Note that a frame is on the screen, and what it took."""
        self.frames += 1
        self.last_frame = seconds
        self.frame_times.add(seconds)
        self.most_lines = max(self.most_lines, self.lines - self._lines_before)
        self._lines_before = self.lines

    def look(self, now: float, emitted: int, shown: int) -> None:
        """Note how many events the engine has emitted by `now`, and how many of them are in the picture."""
        self.depth = max(0, emitted - shown)
        self.highest_depth = max(self.highest_depth, self.depth)
        self._history.append((now, emitted))
        while len(self._history) > 2 and self._history[1][0] <= now - _WINDOW:
            self._history.popleft()

    @property
    def events_per_second(self) -> float:
        """The mean rate of the last two seconds."""
        if len(self._history) < 2:
            return 0.0
        (began, before), (now, emitted) = self._history[0], self._history[-1]
        return (emitted - before) / max(now - began, 1e-3)
