"""The line at the bottom that says which keys do something here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from textual import events

from asyncwatch.ui.keys import Key
from asyncwatch.ui.render.spans import Line, Span, join, width_of
from asyncwatch.ui.widgets.lines_widget import Block

NOTHING: Mapping[str, str | None] = MappingProxyType({})
_HINTED = 1.5
"""What matters now gives way only to what is always needed."""


def key_line(keys: Sequence[Key], width: int, hints: Mapping[str, str | None] = NOTHING) -> Line:
    """Return the keys that fit into `width` cells, the most needed ones, in their order.

    `hints` are the actions that matter at this moment, each with what it is called then (empty: as always); None for
    one that can do nothing, whose key is left out.
    """
    known = [key._replace(label=hints.get(key.action) or key.label) for key in keys]
    shown: list[Key] = []
    for key in sorted((key for key in known if _rank(key, hints)), key=lambda key: _rank(key, hints)):
        if width_of(_line(known, [*shown, key])) <= width:
            shown.append(key)
    return _line(known, shown)


def _rank(key: Key, hints: Mapping[str, str | None]) -> float:
    """Return 0 for a key that is not to be shown, else the less, the more it is needed."""
    if hints.get(key.action, "") is None:
        return 0
    return _HINTED if key.action in hints and key.footer != 1 else key.footer


def _line(keys: Sequence[Key], shown: Sequence[Key]) -> Line:
    return join(_part(key) for key in keys if key in shown)


def _part(key: Key) -> Line:
    return [Span(key.cap, "key"), Span(f" {key.label}", "muted")]


class KeyLine(Block):
    """The keys of a screen. A click on one does what it says."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__()
        self._keys = keys
        self._hints: dict[str, str | None] = {}

    def hint(self, hints: Mapping[str, str | None], width: int = 0) -> None:
        """Show the keys of these actions, which matter now, before others; leave out those that can do nothing.

        Before there is a size, `width` says which will come.
        """
        if width or hints != self._hints:
            self._hints = dict(hints)
            self.show([key_line(self._keys, width or self.size.width, self._hints)])

    def on_resize(self) -> None:
        """Show as many keys as fit."""
        self.show([key_line(self._keys, self.size.width, self._hints)])

    async def on_click(self, event: events.Click) -> None:
        """Do what the clicked key does."""
        offset = event.get_content_offset(self)
        left = 0
        for span in self.lines[0] if offset is not None and self.lines else ():
            right = left + width_of([span])
            if offset is not None and left <= offset.x < right:
                text = span.text.strip()
                for key in self._keys:
                    if text in (key.cap, key.label, self._hints.get(key.action)):
                        self.app.simulate_key(key.keys.partition(",")[0])
            left = right
