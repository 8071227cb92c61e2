"""Palette of commands: that of Textual, which withstands keys that come faster than it is drawn."""

from __future__ import annotations

import asyncio
from typing import Any

from textual.await_complete import AwaitComplete
from textual.command import CommandList, CommandPalette


class Palette(CommandPalette):
    """Textual's palette, in which a key that comes too early or too late does nothing."""

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Close, unless it is closed or covered: Textual would close another screen, and break off without one."""
        return super().dismiss(result) if self.app.screen is self else AwaitComplete(asyncio.sleep(0))

    def _action_command_list(self, action: str) -> None:
        # A list that was not laid out has no lines, which moving by a page looks up.
        if self.query_one(CommandList).size.height:
            super()._action_command_list(action)
