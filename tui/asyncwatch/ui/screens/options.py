"""The settings that can be changed during a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Label

from asyncwatch.commands import ChangeSetting, Command
from asyncwatch.events import SETTINGS
from asyncwatch.model.fleet import Fleet
from asyncwatch.policies.settings import read_typed
from asyncwatch.ui.actions import concurrency_of
from asyncwatch.ui.screens.drawable import Drawable

_FIELDS = (
    ("concurrency", "concurrency", "attempts at a time"),
    ("rate", "rate", "50/s or 9/min; none: no limit"),
    ("rate per key", "rate per key", "of each host; none: no limit"),
    ("bad luck", "bad luck above", "0 to 1; none: each worker's own"),
)
"""Name, label and hint of each setting. A terminal of 80 columns has room for hints of 31 cells."""


def changes(before: dict[str, str], typed: dict[str, str]) -> list[Command]:
    """Return the commands for the settings that differ from `before`.

    Raises:
        ValueError: a value is not valid for its setting.

    """
    commands: list[Command] = []
    for name, text in typed.items():
        if text.strip() in {"", before[name]}:
            continue
        try:
            commands.append(ChangeSetting(name, read_typed(text.strip(), SETTINGS[name])))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return commands


def _present(fleet: Fleet) -> dict[str, str]:
    """Return the present settings as a person would type them."""
    settings, concurrency = fleet.settings, concurrency_of(fleet)
    present = {} if concurrency is None else {"concurrency": str(concurrency)}
    for name in ("rate", "rate per key", "bad luck"):
        value = settings.value(name)
        present[name] = "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
    return present


class _Field(Input):
    """An input. Enter applies the whole dialog."""

    # An action, not a message: it is done before the next key is handled.
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "screen.apply", "apply", show=False)]


class OptionsScreen(Drawable, ModalScreen[Sequence[Command] | None]):
    """A dialog with the settings. Its result is the commands for the changed ones."""

    CSS_PATH = "../dialogs.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close", show=False),
        Binding("down", "app.focus_next", "next", show=False, priority=True),
        Binding("up", "app.focus_previous", "previous", show=False, priority=True),
    ]

    def __init__(self, fleet: Fleet) -> None:
        super().__init__()
        self._before = _present(fleet)
        self._inputs = {
            name: _Field(self._before[name], compact=True, select_on_focus=False)
            for name, _label, _hint in _FIELDS
            if name in self._before
        }
        self._problem = Label("enter applies · esc closes · u undoes later", id="consequence", markup=False)

    def compose(self) -> ComposeResult:
        """Yield a line for each setting."""
        with Vertical(id="question", classes="options"):
            yield Label("Settings of the run", id="ask", markup=False)
            for name, label, hint in _FIELDS:
                if name not in self._inputs:
                    continue
                with Horizontal():
                    yield Label(label, classes="name", markup=False)
                    yield self._inputs[name]
                    yield Label(hint, classes="hint", markup=False)
            yield self._problem

    def on_mount(self) -> None:
        """Focus the first input. All text is selected, so that typing replaces it."""
        for field in self._inputs.values():
            field.select_all()
        self.set_focus(next(iter(self._inputs.values())))  # at once: it gets the next key

    async def action_apply(self) -> None:
        """Close with the changed settings, or show the first problem."""
        try:
            commands = changes(self._before, {name: field.value for name, field in self._inputs.items()})
        except ValueError as error:
            self._problem.update(str(error))
            self._problem.add_class("problem")
            return
        await self.action_dismiss(commands)
