"""Records a run in its journal: decides whether, makes the file, and says what a launch is."""

from __future__ import annotations

import os
import shlex
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from asyncwatch import __version__
from asyncwatch.config.load import written_settings
from asyncwatch.config.schema import Config
from asyncwatch.events import RecordingFailed
from asyncwatch.events.run import recording_sentence
from asyncwatch.journal.folder import create_run, note_folder, runs_folder
from asyncwatch.journal.store import SUFFIX, Launch, RunInfo, RunStore, make_folder
from asyncwatch.journal.writer import JournalWriter, Problem
from asyncwatch.plan.keys import WorkerKeys
from asyncwatch.plan.plan import Plan
from asyncwatch.text import count, mask_secrets


class Recorder:
    """The journal of one launch of a run. Nothing of it holds the run up: the file is made in the writer's thread."""

    def __init__(self, plan: Plan, keys: WorkerKeys) -> None:
        self._plan = plan
        self._keys = keys
        self._past = plan.resumption
        self._store = None if self._past is None else self._past.store
        self.folder = runs_folder(plan.config.journal_dir) if self._store is None else self._store.path.parent
        self.run_id = ""
        self._writer: JournalWriter | None = None

    @property
    def problem(self) -> str | None:
        """Why the run is not recorded, as a sentence; None if it is."""
        if self._writer is None or (problem := self._writer.problem) is None:
            return None
        return recording_sentence(RecordingFailed(0, 0.0, *problem))

    @property
    def how_to_resume(self) -> str:
        """The command that goes on with the run, as a sentence; empty if there is none."""
        return f"To go on: {self.resume_command}" if self.resume_command else ""

    @property
    def resume_command(self) -> str:
        """The command that goes on with the run; empty for a tree."""
        return resume_command(self.run_id, self._plan.config)

    def lost_sentence(self, lost: int) -> str:
        """Say how many results JSON could not hold; empty if there are none, or no resume makes them anew."""
        command = resume_command(self.run_id, self._plan.config)
        return f"{lost_words(lost)}: {command} runs {'it' if lost == 1 else 'them'} again" if lost and command else ""

    def make_folder(self) -> str | None:
        """Make the folder of journals, and return what a person should know of it if it is new."""
        if self.folder.exists():
            return None
        try:
            make_folder(self.folder)
        except OSError:
            return None  # the writer finds the same, and says so
        text = f"runs are recorded in {mask_secrets(str(self.folder))}, so that one that breaks off can be resumed"
        return f"{text}; --no-journal or journal = false turns that off"

    def start(
        self, run_id: str, on_written: Callable[[int], object], on_problem: Callable[[Problem | None], object]
    ) -> JournalWriter:
        """Begin to record the run with this ID, and return the listener of its events: see `JournalWriter`."""
        plan = self._plan
        ring = plan.config.journal_size if plan.config.is_tree else None
        self.run_id = run_id
        launch = launch_of(plan)
        open_store = partial(_open_store, self.folder, plan, run_id, launch)
        if self._store is not None:
            open_store = partial(_begin, self._store, launch)
        self._writer = JournalWriter(open_store, on_written, on_problem, self._keys.planned, ring)
        return self._writer

    def path(self, run_id: str) -> Path:
        """Return the path of the journal of the run with this ID."""
        return self.folder.absolute() / f"{run_id}{SUFFIX}"

    def add(self, group: str, items: Sequence[Any], given: Sequence[str]) -> None:
        """Take items of a pipe, before the event that their workers are queued; see `plan.feed.OnItems`."""
        if self._writer is not None:
            for part in self._keys.join(group, items, given):
                self._writer.add(part)


def lost_words(lost: int) -> str:
    """Return `3 results could not be recorded, because JSON cannot hold them`."""
    return f"{count(lost, 'result')} could not be recorded, because JSON cannot hold {'it' if lost == 1 else 'them'}"


def resume_command(run_id: str, config: Config) -> str:
    """Return the command that resumes a run, which has to find its journal; empty for a tree and the demo."""
    if config.is_tree or any(group.target == "demo" for group in config.groups):
        return ""
    given = "" if config.journal_dir is None else f" --config {shlex.quote(str(config.path))}"
    return f"asyncwatch resume {run_id}{given}"


def _begin(store: RunStore, launch: Launch) -> RunStore:
    store.begin(launch)
    note_folder(store.path.parent)
    return store


def _open_store(folder: Path, plan: Plan, run_id: str, launch: Launch) -> RunStore:
    past, config = plan.resumption, plan.config
    root, parent = (run_id, "") if past is None else (past.root, past.parent)
    info = RunInfo(run_id, root, parent, mask_secrets(plan.name))
    return create_run(folder, info, launch, keep=config.journal_keep, size=config.journal_size)


def launch_of(plan: Plan) -> Launch:
    """Return what is recorded of a launch when it starts."""
    past = plan.resumption
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
        command=[mask_secrets(argument) for argument in (sys.argv[1:] if past is None else past.command)],
        settings=written_settings(plan.config),
        seed=plan.seed,
        version=__version__,
        done_before=0 if past is None else past.done_before,
    )
