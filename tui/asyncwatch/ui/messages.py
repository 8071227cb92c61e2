"""What widgets and screens ask of the app."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from textual.message import Message

from asyncwatch.commands import Command
from asyncwatch.model.rows import Row
from asyncwatch.model.tree import Branch


class CommandsRequested(Message):
    """A person asked something of the engine. Requests for very many workers are made only when they are sent."""

    def __init__(self, *commands: Command, many: Iterator[Command] | None = None) -> None:
        super().__init__()
        self.commands: Iterable[Command] = commands if many is None else many


class DetailsRequested(Message):
    """A person wants to see all about one worker."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row


class FoldRequested(Message):
    """A person wants to see less or more of a branch."""

    def __init__(self, branch: Branch, *, is_folded: bool) -> None:
        super().__init__()
        self.branch = branch
        self.is_folded = is_folded


class LinesReady(Message):
    """The lines of many workers are in the order that was asked for."""


class SortRequested(Message):
    """A person clicked on the heading of a column."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key
