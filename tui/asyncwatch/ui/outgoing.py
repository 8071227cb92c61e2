"""Requests on their way to the engine. Those for very many workers are made in slices, and sent when all are there."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from asyncwatch.commands import Command
from asyncwatch.ui.slices import Slices

_STEP = 256


class Outgoing:
    """Sends what it is given, in order."""

    def __init__(self, send: Callable[[Sequence[Command]], object]) -> None:
        self._send = send
        self._waiting: deque[Iterator[Command]] = deque()
        self._made: list[Command] = []
        self._slices = Slices(self._make, lambda: None)

    def add(self, commands: Iterable[Command]) -> None:
        """Send the requests: at once if they are there, and not still to be made."""
        if isinstance(commands, Sequence) and not self._waiting:
            self._send(commands)
            return
        self._waiting.append(iter(commands))
        self._slices.start()

    def clear(self) -> None:
        """Forget what was not sent."""
        self._waiting.clear()
        self._made = []

    def _make(self, is_time_up: Callable[[], bool]) -> bool:
        while self._waiting:
            for command in self._waiting[0]:
                self._made.append(command)
                if not len(self._made) % _STEP and is_time_up():
                    return True
            self._waiting.popleft()
            made, self._made = self._made, []
            self._send(made)
        return False
