"""The line above the footer in which a filter is typed, and which says how many workers it shows."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Label

from asyncwatch.model.view.filter import SYNTAX


class FilterInput(Input):
    """The input. Up and down move the cursor of the fleet."""

    # Actions, not messages: they are done before the next key is handled.
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "screen.keep_filter", "keep", show=False),
        Binding("escape", "screen.clear_filter", "clear", show=False),
        Binding("up", "screen.move(-1)", "up", show=False),
        Binding("down", "screen.move(1)", "down", show=False),
    ]


class FilterBar(Horizontal):
    """Visible only while there is a filter, or one is being typed."""

    def __init__(self) -> None:
        super().__init__()
        self.input = FilterInput(placeholder=SYNTAX, select_on_focus=False)
        # Like `compact=True`, which would resolve its styles at once: 7 ms before the first frame.
        self.input.set_reactive(Input.compact, value=True)
        self.input.add_class("-textual-compact", update=False)
        self._sign = Label("/", id="sign", markup=False)
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

    def show(self, shown: int, total: int, *, only: str, problem: str) -> None:
        """Show how many workers of how many are listed and what restricts them (`only`), or the filter's `problem`.

        The input is visible only while it has text or focus.
        """
        is_typed = bool(self.input.value) or self.input.has_focus
        self._sign.display = self.input.display = is_typed
        self.display = is_typed or bool(only)
        text = problem or f"{f'{only} · ' if only else ''}{shown:,} of {total:,}"
        label = self._shown
        if label.content != text:
            label.update(text)
            label.set_class(bool(problem), "problem")
