"""Actions on very many workers, in time slices, while the loop serves everything else."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

from asyncwatch.engine.capture import log_safely
from asyncwatch.engine.reporter import logger
from asyncwatch.engine.worker import Worker
from asyncwatch.slices import SlicedWork, for_each


class BulkActions:
    """Runs actions on workers, one after the other in each action, several actions side by side.

    Args:
        on_done: called whenever an action is done, before what was to follow it.

    """

    def __init__(self, on_done: Callable[[], object]) -> None:
        self.freezes = False
        """Whether no worker may get a slot: the next worker to start could be one of the next to be acted on."""
        self._on_done = on_done
        self._running: dict[_Action, SlicedWork] = {}

    def for_each(
        self,
        workers: Iterator[Worker],
        act: Callable[[Worker], object],
        *,
        freezes: bool = False,
        then: Callable[[], object] = lambda: None,
    ) -> bool:
        """Call `act` for each worker in time slices, then `then`; return whether more slices follow the first."""
        action = _Action(act, freezes=freezes)

        def done() -> None:
            del self._running[action]
            self.freezes = any(other.freezes for other in self._running)
            self._on_done()
            then()

        work = self._running[action] = SlicedWork(for_each(workers, action.act_on), done)
        self.freezes = self.freezes or freezes
        return work.start_now()

    def spare(self, worker: Worker) -> None:
        """Leave a worker of the batch out of all actions that have not come to it: it was restarted since."""
        for action in self._running:
            action.spared.add(worker.index)

    def stop(self) -> None:
        """Leave the rest undone."""
        for work in self._running.values():
            work.stop()


class _Action:
    __slots__ = ("_act", "freezes", "spared")

    def __init__(self, act: Callable[[Worker], object], *, freezes: bool) -> None:
        self._act = act
        self.freezes = freezes
        self.spared: set[int] = set()

    def act_on(self, worker: Worker) -> None:
        """Act on a worker that is not spared."""
        if worker.index not in self.spared:
            act_safely(self._act, worker)


def act_safely(act: Callable[[Worker], object], worker: Worker) -> None:
    """Call `act`; an error that concerns one worker must not stop the action on the others."""
    try:
        act(worker)
    except Exception:
        log_safely(logger, logging.ERROR, "an action failed", worker=worker.name, has_traceback=True)
