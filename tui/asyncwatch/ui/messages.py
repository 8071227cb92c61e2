"""Messages from widgets and screens to the screen or app that owns them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Sequence

from textual.message import Message

from asyncwatch.commands import Command
from asyncwatch.model.rows import Row
from asyncwatch.model.tree import Branch


class Answer(enum.Enum):
    """The answer to a question."""

    YES = "yes"
    NO = "no"
    LEAVE = "leave"
    """Leave the run and let it go on."""


class CommandsRequested(Message):
    """A person requested commands. An iterator makes them as they are sent."""

    def __init__(self, commands: Iterable[Command]) -> None:
        super().__init__()
        self.commands = commands


class SettingChangeRequested(Message):
    """A person requested a change of a setting. `make` returns the commands once earlier changes are answered."""

    def __init__(self, make: Callable[[], Sequence[Command]]) -> None:
        super().__init__()
        self.make = make


class DetailsRequested(Message):
    """A person opened a worker."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row


class FoldRequested(Message):
    """A person folded or unfolded a branch."""

    def __init__(self, branch: Branch, *, is_folded: bool) -> None:
        super().__init__()
        self.branch = branch
        self.is_folded = is_folded


class SortRequested(Message):
    """A person clicked on the heading of a column."""

    def __init__(self, key: str) -> None:
        super().__init__()
        self.key = key


class CursorMoved(Message):
    """The cursor of the fleet is on another line."""


class HungUp(Message):
    """The terminal has gone: there is nothing to read from any more."""


class LinesReady(Message):
    """The lines of a large fleet are filtered and sorted as requested."""
