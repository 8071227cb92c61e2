"""Sees to it that the end of a run is told although something blocks its event loop for good."""

from __future__ import annotations

import threading
from collections.abc import Callable

LOOK = 0.1
"""Seconds between two looks at the loop."""


class Guard:
    """A thread that looks whether an event loop still gets to what it is asked to do; while it does, nothing happens.

    Looks are counted, and not the time between them: a process that was suspended has not been blocked.

    Args:
        ask: lets the loop call something soon, from any thread.
        is_at_work: whether the loop gets on, although it answers late.
        patience: the seconds for which the loop may stand still.
        give_up: called, once, in the guard's thread, when that is over.

    """

    def __init__(
        self,
        ask: Callable[[Callable[[], None]], None],
        *,
        is_at_work: Callable[[], bool],
        patience: Callable[[], float],
        give_up: Callable[[], None],
    ) -> None:
        self._ask = ask
        self._is_at_work = is_at_work
        self._patience = patience
        self._give_up = give_up
        self._is_over = threading.Event()
        self._has_answered = False
        threading.Thread(target=self._watch, name="asyncwatch guard", daemon=True).start()

    def stop(self) -> None:
        """End the watch: the loop has come to its end."""
        self._is_over.set()

    def _answer(self) -> None:
        self._has_answered = True

    def _watch(self) -> None:
        missed = 0
        self._ask(self._answer)
        while not self._is_over.wait(LOOK):
            if self._has_answered or self._is_at_work():
                missed = 0
            else:
                missed += 1
            if missed * LOOK >= self._patience():
                self._give_up()
                return
            self._has_answered = False
            self._ask(self._answer)
