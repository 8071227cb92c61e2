"""A Textual app that shows a screenful of text, and repaints all of it ten times a second, as the dashboard does.

Every frame makes and shows other text of the same size, since values change between two frames. `--coloured` gives each
row nine colours, as a row of the dashboard has. `--frames FILE` writes what each frame cost.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
from pathlib import Path

from textual.app import App, ComposeResult
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from asyncwatch.process import infrequent_gc
from tests.benchmarks.peers.frame_timer import SETTLING, FrameTimer

_FRAME = 0.1
"""Seconds between two frames."""
_COLOURS = ("red", "green", "blue", "yellow", "magenta", "cyan", "white", "bold", "dim")


class TextScreen(Screen[None]):
    """Screen with one widget, whose frames are timed."""

    def __init__(self, seconds: float, *, is_coloured: bool) -> None:
        super().__init__()
        self.timer = FrameTimer()
        self._seconds = seconds
        self._is_coloured = is_coloured
        self._text = Static(markup=False)

    def compose(self) -> ComposeResult:
        """Yield the text."""
        yield self._text

    def on_mount(self) -> None:
        """Start to repaint, and end the app when its time is over."""
        self._numbers = itertools.count()
        self._text.styles.height = self.app.size.height
        self.set_interval(_FRAME, self._draw)
        self.set_timer(self._seconds + SETTLING, self.app.exit)

    def _draw(self) -> None:
        with self.timer.drawing():
            columns, rows = self.app.size
            text = _screenful(next(self._numbers), columns, rows, is_coloured=self._is_coloured)
            self._text.update(text, layout=False)

    def _on_timer_update(self) -> None:
        with self.timer.painting(is_frame=bool(self._dirty_widgets)):
            super()._on_timer_update()


def _screenful(number: int, columns: int, rows: int, *, is_coloured: bool) -> Content:
    lines = [
        f"  w{row:<8} ↻ backing off  {number + row:>4}/9999  luck 0.{number}{row:02}  0.{number}s  bad luck  ".ljust(
            columns, "─"
        )
        for row in range(rows)
    ]
    text = Content("\n".join(lines))
    if is_coloured:
        width = columns // len(_COLOURS)
        for row, (place, colour) in itertools.product(range(rows), enumerate(_COLOURS)):
            start = row * (columns + 1) + place * width
            text = text.stylize(colour, start, start + width)
    return text


class TextApp(App[None]):
    """The app with a `TextScreen`."""

    def __init__(self, screen: TextScreen) -> None:
        super().__init__()
        self._screen = screen

    def get_default_screen(self) -> Screen[None]:
        """Return the timed screen."""
        return self._screen


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--coloured", action="store_true")
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--frames", type=Path, required=True)
    given = parser.parse_args()
    screen = TextScreen(given.seconds, is_coloured=given.coloured)
    app = TextApp(screen)
    gc.freeze()
    with infrequent_gc():
        app.run()
    given.frames.write_text(json.dumps({"frames": screen.timer.costs()}), encoding="ascii")


if __name__ == "__main__":
    main()
