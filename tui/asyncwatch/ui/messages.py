"""What widgets and screens ask of the app."""

from __future__ import annotations

from textual.message import Message

from asyncwatch.commands import Command
from asyncwatch.model.fleet import Row


class CommandsRequested(Message):
    """A person asked something of the engine."""

    def __init__(self, *commands: Command) -> None:
        super().__init__()
        self.commands = commands


class DetailsRequested(Message):
    """A person wants to see all about one worker."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row


class SortRequested(Message):
    """A person clicked on the heading of a column."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
