"""`asyncwatch replay`: the dashboard of a run that was recorded."""

# ruff: noqa: PLC0415  as in `cli.command`

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

from asyncwatch.cli import ALL_SUCCEEDED, NOT_ALL_SUCCEEDED
from asyncwatch.cli.messages import report
from asyncwatch.journal.history import HistoryError, entries, find
from asyncwatch.journal.replay import Replay
from asyncwatch.journal.store import JournalError
from asyncwatch.process import infrequent_gc

_LAUNCH = re.compile(r"(?P<run>.+)\.(?P<launch>[0-9]{1,9})", re.ASCII | re.DOTALL)


def open_replay(folders: Sequence[Path], run: str | None) -> Replay:
    """Return the replay of a recorded run: its ID or the beginning of it, or its name, and a launch after a dot.

    By default it is the last launch of the run that was recorded last.

    Raises:
        JournalError: There is no such run, or it cannot be read.
        OSError: The same.

    """
    match = _LAUNCH.fullmatch(run or "")
    try:
        if run is None:
            entry = next((each for each in entries(*folders) if each.is_readable), None)
        else:
            entry = find(folders, run if match is None else match["run"])
    except HistoryError as error:
        raise JournalError(str(error)) from None
    if entry is None:
        raise JournalError("there is no recorded run")
    return Replay(entry.path, None if match is None else int(match["launch"]))


def run_replay(replay: Replay) -> int:
    """Show a recorded run until a person leaves it. Return the exit status."""
    from asyncwatch.cli.dashboard import shown
    from asyncwatch.ui.app import Ending, run_dashboard
    from asyncwatch.ui.keys import Role

    with contextlib.closing(replay), infrequent_gc():
        outcome = shown(lambda: run_dashboard(replay, role=Role.REPLAY, player=replay, run_id=lambda: replay.run_id))
    if outcome is not None and outcome.ending is Ending.DISCONNECTED:
        report(outcome.reason)
    is_left = outcome is not None and outcome.ending is not Ending.DISCONNECTED
    return ALL_SUCCEEDED if is_left else NOT_ALL_SUCCEEDED
