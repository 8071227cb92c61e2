"""Yes-or-no question before an irreversible action."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label

from asyncwatch.ui.screens.drawable import Drawable


class ConfirmScreen(Drawable, ModalScreen[bool]):
    """Dialog with a yes-or-no question. Its result is the answer.

    Args:
        question: its text.
        yes: the label of yes.
        consequence: further effect of a yes.
        again: the key that opened it; pressed again, it says yes.
        side: where to show it; in the middle if empty.

    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "dismiss(True)", "yes", show=False),
        Binding("n,escape", "dismiss(False)", "no", show=False),
        Binding("left,right", "app.focus_next", "other", show=False),
    ]

    def __init__(
        self, question: str, yes: str, *, consequence: str = "", again: str = "", side: Literal["", "low", "high"] = ""
    ) -> None:
        super().__init__(classes=f"-{side}" if side else None)
        self._question = question
        self._consequence = consequence
        self._yes = yes
        self.again = again

    def compose(self) -> ComposeResult:
        """Yield the question and the two answers."""
        with Vertical(id="question"):
            yield Label(self._question, id="ask", markup=False)
            if self._consequence:
                yield Label(self._consequence, id="consequence", markup=False)
            with Horizontal():
                yield Button(f"y  {self._yes}", id="yes", compact=True)
                yield Button("n  no", id="no", compact=True)

    def on_mount(self) -> None:
        """Bind the key `again`, and focus yes."""
        if self.again:
            self._bindings.bind(self.again, "dismiss(True)", show=False)
        self.query_one("#yes").focus()

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer with the mouse or enter."""
        await self.action_dismiss(event.button.id == "yes")
