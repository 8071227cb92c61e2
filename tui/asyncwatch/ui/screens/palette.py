"""Palette of commands: that of Textual, which withstands keys and clicks that come faster than it is drawn."""

from __future__ import annotations

import asyncio
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.await_complete import AwaitComplete
from textual.command import CommandList, CommandPalette
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
        return super().dismiss(result) if self.app.screen is self else AwaitComplete(asyncio.sleep(0))

    def _action_command_list(self, action: str) -> None:
        # A list that was not laid out has no lines, which moving by a page looks up.
        if self.query_one(CommandList).size.height:
            super()._action_command_list(action)
