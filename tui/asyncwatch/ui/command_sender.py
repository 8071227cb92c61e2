"""Sends the commands of key presses to the controller, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from asyncwatch.commands import Command
from asyncwatch.slices import background_work

STEP = 256
"""Commands made between two looks at the clock."""


class CommandSender:
    """Sends commands in order, once it is open.

    Commands of an iterator are made in slices, and sent together when all are made. A change of a setting waits until
    the change before it is answered, since it builds on that answer; other commands do not wait for it.

    Args:
        send: passes commands to the controller.
        answers: returns a value that differs after each answer to a change of a setting.
        is_open: whether commands are sent at once, or wait for `open`.

    """

    def __init__(
        self, send: Callable[[Sequence[Command]], object], answers: Callable[[], object], *, is_open: bool = True
    ) -> None:
        self._send = send
        self._answers = answers
        self._is_open = is_open
        self._waiting: deque[Iterable[Command]] = deque()
        self._source: Iterator[Command] | None = None
        self._made: list[Command] = []
        self._making = background_work(self._make)
        self._changes: deque[Callable[[], Sequence[Command]]] = deque()
        self._unanswered: object = None
        """What `answers` returned when the last change was sent."""

    @property
    def is_waiting(self) -> bool:
        """Whether commands wait to be sent."""
        return bool(self._waiting or self._source)

    def open(self) -> None:
        """Send the waiting commands, and every later one at once."""
        self._is_open = True
        if self._waiting:
            self._making.start()

    def add(self, commands: Iterable[Command]) -> None:
        """Send the commands after all commands added earlier."""
        if isinstance(commands, Sequence) and self._is_open and not self.is_waiting:
            self._send(commands)
            return
        self._waiting.append(commands)
        if self._is_open:
            self._making.start()

    def add_change(self, make: Callable[[], Sequence[Command]]) -> None:
        """Send the change of a setting that `make` returns, once the changes before it are answered."""
        self._changes.append(make)
        self.send_changes()

    def send_changes(self) -> None:
        """Send the next change of a setting if the one before it is answered."""
        while self._changes and (answers := self._answers()) != self._unanswered:
            if commands := self._changes.popleft()():
                self._unanswered = answers
                self.add(commands)

    def clear(self) -> None:
        """Discard all commands that were not sent."""
        self._making.stop()
        self._waiting.clear()
        self._changes.clear()
        self._source = None
        self._made = []

    def _make(self, is_time_up: Callable[[], bool]) -> bool:
        while self._source or self._waiting:
            if self._source is None:
                self._source = iter(self._waiting.popleft())
            for command in self._source:
                self._made.append(command)
                if not len(self._made) % STEP and is_time_up():
                    return True
            made, self._made, self._source = self._made, [], None
            self._send(made)
        return False
