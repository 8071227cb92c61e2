"""A Textual app without work: one line of text, in which the arrow keys move a cursor between two names."""

from __future__ import annotations

from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import BindingType
from textual.widgets import Static


class KeyApp(App[None]):
    """The app."""

    BINDINGS: ClassVar[list[BindingType]] = [("up", "move(0)", "up"), ("down", "move(1)", "down")]

    def compose(self) -> ComposeResult:
        """Yield the line."""
        self._line = Static(" › w0 ", markup=False)
        yield self._line

    def action_move(self, place: int) -> None:
        """Put the cursor on a name."""
        self._line.update(f" › w{place} ", layout=False)


if __name__ == "__main__":
    KeyApp().run()
