"""Records a run in its journal: decides whether, makes the file, and says what a launch is."""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from asyncwatch import __version__
from asyncwatch.journal.store import Launch, RunInfo, RunStore
from asyncwatch.journal.writer import JournalWriter, Problem
from asyncwatch.plan.keys import LiveKeys, item_keys
from asyncwatch.plan.plan import Plan
from asyncwatch.text import mask_secrets


class Recorder:
    """The journal of one launch of a run. Nothing of it holds the run up: the file is made in the writer's thread."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._live = LiveKeys(plan)
        self._writer: JournalWriter | None = None

    def start(
        self, run_id: str, on_written: Callable[[int], object], on_problem: Callable[[Problem | None], object]
    ) -> JournalWriter:
        """Begin to record the run with this ID, and return the listener of its events: see `JournalWriter`."""
        plan = self._plan
        open_store = partial(_open_store, journal_folder(plan), plan, run_id, _launch(plan))
        self._writer = JournalWriter(open_store, on_written, on_problem, partial(item_keys, plan))
        os.register_at_fork(after_in_child=self._writer.forget)
        return self._writer

    def add(self, group: str, items: Sequence[Any]) -> None:
        """Take items of a pipe, before the event that their workers are queued."""
        if self._writer is not None:
            for part in self._live(group, items):
                self._writer.add(part)


def journal_folder(plan: Plan) -> Path:
    """Return the folder of the user's journals."""
    return runs_folder(plan.config.journal_dir)


def runs_folder(journal_dir: str | None = None) -> Path:
    """Return the folder of journals: `journal_dir`, if there is one, else the folder of the user's state."""
    import platformdirs  # noqa: PLC0415  only recorded runs need it

    return Path(journal_dir) if journal_dir is not None else platformdirs.user_state_path("asyncwatch") / "runs"


def _open_store(folder: Path, plan: Plan, run_id: str, launch: Launch) -> RunStore:
    store = RunStore.create(folder, RunInfo(run_id, run_id, "", mask_secrets(plan.name)))
    store.begin(launch)
    return store


def _launch(plan: Plan) -> Launch:
    try:
        folder = os.getcwd()  # noqa: PTH109  as a text
    except OSError:  # it was removed
        folder = ""
    return Launch(
        number=0,
        started=time.time(),
        pid=os.getpid(),
        host=socket.gethostname(),
        folder=folder,
        command=[mask_secrets(argument) for argument in sys.argv[1:]],
        seed=plan.seed,
        version=__version__,
    )
