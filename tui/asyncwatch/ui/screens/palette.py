"""Palette of commands: that of Textual, which withstands keys and clicks that come faster than it is drawn."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.command import CommandList, CommandPalette
from textual.css.query import NoMatches
from textual.errors import NoWidget
from textual.message import Message
from textual.worker import Worker


class _Commands(CommandList):
    """The list of commands."""

    def on_click(self, event: events.Click) -> None:
        """Ignore a click on a line that is not there any more, which Textual would look up."""
        if event.style.meta.get("option", 0) >= self.option_count:
            event.prevent_default()


class Palette(CommandPalette):
    """Textual's palette, in which a key that comes too early or too late does nothing."""

    def compose(self) -> ComposeResult:
        """Yield the parts of Textual's palette, with a list of its own."""
        for widget in super().compose():
            yield _Commands() if type(widget) is CommandList else widget

    def run_worker(self, *args: Any, **options: Any) -> Worker[Any]:
        """Run a worker whose errors do not end the app: Textual's fails if the palette is closed while it searches."""
        return super().run_worker(*args, **{**options, "exit_on_error": False})

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Close, unless it is closed or covered: Textual would close another screen, and break off without one."""
        return super().dismiss(result) if self.app.screen is self else AwaitComplete()

    def _action_cursor_down(self) -> None:
        if self._has_lines:
            super()._action_cursor_down()

    def _action_command_list(self, action: str) -> None:
        if self._has_lines:
            super()._action_command_list(action)

    async def _dispatch_message(self, message: Message) -> None:
        # Its parts are not there before it is drawn, nor the screen below when it has closed, perhaps before that.
        with suppress(NoMatches, NoWidget, IndexError):
            await super()._dispatch_message(message)

    @property
    def _has_lines(self) -> bool:
        """Whether there is a list, with a height: until it is laid out it has no lines, which are looked up."""
        return any(commands.size.height for commands in self.query(CommandList))
