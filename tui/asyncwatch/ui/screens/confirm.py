"""Question before an irreversible action."""

from __future__ import annotations

from typing import ClassVar, Literal

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Button, Label

from asyncwatch.ui.messages import Answer
from asyncwatch.ui.screens.drawable import Drawable


class ConfirmScreen(Drawable, ModalScreen[Answer]):
    """Dialog with a yes-or-no question. Its result is the answer.

    Args:
        question: its text.
        yes: the label of yes.
        no: the label of no.
        leave: the label of a third answer, to leave the run; empty for none.
        consequence: further effect of a yes.
        again: the key that opened it; pressed again, it says yes.
        side: where to show it; in the middle if empty.

    """

    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-narrow"), (72, "-snug"), (100, "-wide")]  # noqa: RUF012  as in Screen
    CSS_PATH = "../dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer('yes')", "yes", show=False),
        Binding("n,escape", "answer('no')", "no", show=False),
        Binding("right,down", "app.focus_next", "next", show=False),
        Binding("left,up", "app.focus_previous", "previous", show=False),
    ]

    def __init__(
        self,
        question: str,
        yes: str,
        *,
        no: str = "no",
        leave: str = "",
        consequence: str = "",
        again: str = "",
        side: Literal["", "low", "high"] = "",
    ) -> None:
        super().__init__(classes=f"-{side}" if side else None)
        self._question = question
        self._consequence = consequence
        self._yes = Button(f"y  {yes}", id="yes", compact=True)
        self._no, self._leave = no, leave
        self.again = again

    def compose(self) -> ComposeResult:
        """Yield the question and the answers."""
        with Vertical(id="question"):
            yield Label(self._question, id="ask", markup=False)
            if self._consequence:
                yield Label(self._consequence, id="consequence", markup=False)
            with Horizontal(classes="-three" if self._leave else None):
                yield self._yes
                if self._leave:
                    yield Button(f"D  {self._leave}", id="leave", compact=True)
                yield Button(f"n  {self._no}", id="no", compact=True)

    def on_mount(self) -> None:
        """Bind the keys of this question, and focus yes."""
        if self.again:
            self._bindings.bind(self.again, "answer('yes')", show=False)
        if self._leave:
            self._bindings.bind("D", "answer('leave')", show=False)
        self.set_focus(self._yes)  # at once: the next key may move it

    async def action_answer(self, answer: str) -> None:
        """Close with an answer."""
        await self.action_dismiss(Answer(answer))

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer with the mouse or enter."""
        await self.action_answer(event.button.id or "no")
