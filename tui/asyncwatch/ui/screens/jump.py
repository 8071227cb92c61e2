"""Question for a moment of a recorded run."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from asyncwatch.commands import Recording
from asyncwatch.ui.render.scrubber import parse_moment
from asyncwatch.ui.screens.drawable import Drawable


class JumpScreen(Drawable, ModalScreen[float]):
    """Dialog with an input. Its result is the moment, in seconds since the run started; None if it was closed."""

    CSS_PATH = "../dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "close", show=False),
        Binding("enter", "go", "go", show=False, priority=True),
    ]

    def __init__(self, recording: Recording) -> None:
        super().__init__()
        self._recording = recording
        self._input = Input(placeholder="90, 1:30, 14:03:20, start, end", compact=True)
        self._problem = Label("", id="consequence", classes="problem", markup=False)

    def compose(self) -> ComposeResult:
        """Yield the question, the input, and what is wrong with it."""
        with Vertical(id="question"):
            yield Label("Go to which time?", id="ask", markup=False)
            yield self._input
            yield self._problem

    def on_mount(self) -> None:
        """Focus the input."""
        self.set_focus(self._input)  # at once: it gets the next key

    async def action_go(self) -> None:
        """Close with the moment, or say what is wrong."""
        try:
            moment = parse_moment(self._input.value, self._recording)
        except ValueError as error:
            self._problem.update(str(error))
            return
        await self.action_dismiss(moment)
