"""The line above the footer in which a filter is typed, and which says what it hides."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Label

from asyncwatch.model.view.filter import SYNTAX


class FilterInput(Input):
    """The line that is typed into. Up and down move the cursor of the fleet meanwhile."""

    # Actions, not messages: the keys behind them come after what they do.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.keep_filter", "keep", show=False),
        Binding("escape", "screen.clear_filter", "clear", show=False),
        Binding("up", "screen.move(-1)", "up", show=False),
        Binding("down", "screen.move(1)", "down", show=False),
    ]


class FilterBar(Horizontal):
    """Hidden unless something is filtered or about to be."""

    def __init__(self) -> None:
        super().__init__()
        self.input = FilterInput(placeholder=SYNTAX, select_on_focus=False)
        # As `compact=True`, which would look for its styles at once: 7 ms before the first picture.
        self.input.set_reactive(Input.compact, value=True)
        self.input.add_class("-textual-compact", update=False)
        self._sign = Label("/", id="sign", markup=False)
        self._shown = Label("", id="shown", markup=False)

    def compose(self) -> ComposeResult:
        """Yield the sign, the line to type into, and the count."""
        yield self._sign
        yield self.input
        yield self._shown

    def open(self) -> None:
        """Let a filter be typed."""
        self.display = self._sign.display = self.input.display = True
        self.screen.set_focus(self.input)  # at once: the next key is for it

    def say(self, shown: int, total: int, *, only: str, problem: str) -> None:
        """Say how many workers of how many are shown, and which `only`, or what is wrong with the filter.

        The line to type into is there only while something is, or may be, typed.
        """
        is_typed = bool(self.input.value) or self.input.has_focus
        self._sign.display = self.input.display = is_typed
        self.display = is_typed or bool(only)
        text = problem or f"{f'{only} · ' if only else ''}{shown:,} of {total:,}"
        label = self._shown
        if label.content != text:
            label.update(text)
            label.set_class(bool(problem), "problem")
