"""Lines at the bottom of a screen: keys with an effect here, and the filter input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

from rich.cells import cell_len
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.suggester import Suggester
from textual.widgets import Input, Label

from asyncwatch.model.view.filter import SYNTAX
from asyncwatch.ui.keys import Key
from asyncwatch.ui.render.spans import Line, Span, crop, join, width_of
from asyncwatch.ui.widgets.lines import Block

NO_HINTS: Mapping[str, str | None] = MappingProxyType({})
_LEAST_TEXT = 12
"""Cells of the count or the problem, at least."""
_BESIDE = 9
"""Cells of the filter bar beside the typed text and the count."""
_HINTED_RANK = 1.5
"""A hinted key gives way only to keys of rank 1."""


def key_line(keys: Sequence[Key], width: int, hints: Mapping[str, str | None] = NO_HINTS) -> Line:
    """Return the most needed keys that fit into `width` cells, in their order.

    `hints` are as in `ui.hints`.
    """
    known = [key._replace(label=hints.get(key.action) or key.label) for key in keys]
    shown: list[Key] = []
    for key in sorted((key for key in known if _rank(key, hints)), key=lambda key: _rank(key, hints)):
        if width_of(_line(known, [*shown, key])) <= width:
            shown.append(key)
    return _line(known, shown)


def _rank(key: Key, hints: Mapping[str, str | None]) -> float:
    """Return the rank of a key: 0 if it is never shown, else lower for a more needed key."""
    if hints.get(key.action, "") is None:
        return 0
    return _HINTED_RANK if key.action in hints and key.footer != 1 else key.footer


def _line(keys: Sequence[Key], shown: Sequence[Key]) -> Line:
    return join([Span(key.cap, "key"), Span(f" {key.label}", "muted")] for key in keys if key in shown)


class KeyLine(Block):
    """The keys of a screen. A click on a key presses it."""

    def __init__(self, keys: Sequence[Key]) -> None:
        super().__init__()
        self._keys = keys
        self._hints: Mapping[str, str | None] = NO_HINTS

    def hint(self, hints: Mapping[str, str | None], width: int = 0) -> None:
        """Show the keys of these actions before others, as in `key_line`.

        Before the widget has a size, `width` is the one that it will get.
        """
        if width or hints != self._hints:
            self._hints = dict(hints)
            self.show([key_line(self._keys, width or self.size.width, self._hints)])

    def on_resize(self) -> None:
        """Show as many keys as fit."""
        self.show([key_line(self._keys, self.size.width, self._hints)])

    async def on_click(self, event: events.Click) -> None:
        """Press the clicked key."""
        offset = event.get_content_offset(self)
        if offset is None or not self.lines:
            return
        left = 0
        for span in self.lines[0]:
            right = left + width_of([span])
            if left <= offset.x < right:
                text = span.text.strip()
                for key in self._keys:
                    if text in (key.cap, key.label, self._hints.get(key.action)):
                        self.app.simulate_key(key.keys.partition(",")[0])
            left = right


class FilterInput(Input):
    """The input. Up and down move the cursor of the fleet."""

    # Actions, not messages: they are done before the next key is handled.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.keep_filter", "keep", show=False),
        Binding("escape", "screen.clear_filter", "clear", show=False),
        Binding("up", "screen.move(-1)", "up", show=False),
        Binding("down", "screen.move(1)", "down", show=False),
        Binding("tab", "cursor_right", "complete", show=False),
    ]


class _Completion(Suggester):
    """Completes the last term of a filter; `right` or `tab` takes it over."""

    def __init__(self, complete: Callable[[str], str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._complete = complete

    async def get_suggestion(self, value: str) -> str | None:
        """Return the completed filter."""
        return self._complete(value) or None


class FilterBar(Horizontal):
    """Visible only while there is a filter, or one is being typed."""

    def __init__(
        self, placeholder: str = SYNTAX, sign: str = "/", complete: Callable[[str], str] | None = None
    ) -> None:
        super().__init__()
        suggester = None if complete is None else _Completion(complete)
        self.input = FilterInput(placeholder=placeholder, select_on_focus=False, suggester=suggester)
        # Like `compact=True`, which would resolve its styles at once: 7 ms before the first frame.
        self.input.set_reactive(Input.compact, value=True)
        self.input.add_class("-textual-compact", update=False)
        self._sign = Label(sign, id="sign", markup=False)
        self._shown = Label("", id="shown", markup=False)

    def compose(self) -> ComposeResult:
        """Yield the sign, the input, and the count."""
        yield self._sign
        yield self.input
        yield self._shown

    def open(self) -> None:
        """Focus the input."""
        self.display = self._sign.display = self.input.display = True
        self.screen.set_focus(self.input)  # at once: it gets the next key

    def show(self, shown: int, total: int, *, only: str, problem: str, noun: str = "") -> None:
        """Show the number of listed workers (of `noun`), the restriction `only`, or the filter's `problem`.

        The input is visible only while it has text or focus.
        """
        # Textual sets `has_focus` some messages later.
        is_typed = bool(self.input.value) or self.screen.focused is self.input
        self._sign.display = self.input.display = is_typed
        self.display = is_typed or bool(only)
        count = f"{shown:,} of {total:,}{f' {noun}' if noun else ''}" if is_typed or shown != total or not only else ""
        text = problem or " · ".join(filter(None, [only, count]))
        # What is typed stays visible.
        text = (
            crop(text, max(_LEAST_TEXT, self.app.size.width - cell_len(self.input.value) - _BESIDE))
            if is_typed
            else text
        )
        label = self._shown
        if label.content != text:
            label.update(text)
            label.set_class(bool(problem), "problem")
