"""The line at the bottom that says which keys do something here."""

from __future__ import annotations

from collections.abc import Sequence

from textual import events

from asyncwatch.ui.keys import Key
from asyncwatch.ui.lines import Line, Span, join, width_of
from asyncwatch.ui.widgets.lines_widget import Block


def key_line(keys: Sequence[Key], width: int) -> Line:
    """Return the keys that fit into `width` cells, the most needed ones, in their order."""
    shown: list[Key] = []
    for key in sorted((key for key in keys if key.footer), key=lambda key: key.footer):
        if width_of(_line(keys, [*shown, key])) <= width:
            shown.append(key)
    return _line(keys, shown)


def _line(keys: Sequence[Key], shown: Sequence[Key]) -> Line:
    return join(_part(key) for key in keys if key in shown)


def _part(key: Key) -> Line:
    return [Span(key.cap, "key"), Span(f" {key.label}", "muted")]


class KeyLine(Block):
    """The keys of a screen. A click on one does what it says."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__()
        self._keys = keys

    def on_resize(self) -> None:
        """Show as many keys as fit."""
        self.show([key_line(self._keys, self.size.width)])

    async def on_click(self, event: events.Click) -> None:
        """Do what the clicked key does."""
        offset = event.get_content_offset(self)
        left = 0
        for span in self.lines[0] if offset is not None and self.lines else ():
            right = left + width_of([span])
            if offset is not None and left <= offset.x < right:
                text = span.text.strip()
                for key in self._keys:
                    if text in (key.cap, key.label):
                        self.app.simulate_key(key.keys.partition(",")[0])
            left = right
