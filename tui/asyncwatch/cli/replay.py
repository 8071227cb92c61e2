"""`asyncwatch replay`: the dashboard of a run that was recorded."""

# ruff: noqa: PLC0415  as in `cli.command`

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from asyncwatch.cli import ALL_SUCCEEDED, NOT_ALL_SUCCEEDED
from asyncwatch.cli.messages import report
from asyncwatch.journal.replay import Replay
from asyncwatch.journal.store import SUFFIX, JournalError, RunJournal
from asyncwatch.process import infrequent_gc

_RUN = re.compile(r"(?P<id>[a-z0-9]+)(?:\.(?P<launch>[0-9]{1,9}))?", re.ASCII)
_LISTED = 8
"""Runs that a message lists, at most."""


def open_replay(folder: Path, run: str | None) -> Replay:
    """Return the replay of a recorded run: the beginning of its ID, and the number of a launch after a dot.

    By default it is the last launch of the run that was recorded last.

    Raises:
        JournalError: There is no such run, or it cannot be read.
        OSError: The same.

    """
    match = _RUN.fullmatch("a" if run is None else run)
    if match is None:
        raise JournalError(f"{run!r} is no ID of a run; a launch of a run is named as in abcdefgh.2")
    paths = list(folder.glob(f"*{SUFFIX}"))
    if run is None:
        found = sorted(paths, key=_changed)[-1:]
    else:
        found = [path for path in paths if path.name.startswith(match["id"])]
    if not found:
        raise JournalError(
            "there is no recorded run" + ("" if run is None else f" whose ID begins with {match['id']!r}")
        )
    if len(found) > 1:
        ids = ", ".join(sorted(path.name.removesuffix(SUFFIX) for path in found)[:_LISTED])
        raise JournalError(f"{match['id']!r} is the beginning of {len(found)} IDs: {ids}")
    launch = match["launch"]
    return Replay(found[0], None if launch is None else int(launch))


def run_replay(replay: Replay) -> int:
    """Show a recorded run until a person leaves it. Return the exit status."""
    from asyncwatch.cli.dashboard import shown
    from asyncwatch.ui.app import Ending, run_dashboard
    from asyncwatch.ui.keys import Role

    with contextlib.closing(replay), infrequent_gc():
        outcome = shown(lambda: run_dashboard(replay, role=Role.REPLAY, player=replay))
    if outcome is not None and outcome.ending is Ending.DISCONNECTED:
        report(outcome.reason)
    is_left = outcome is not None and outcome.ending is not Ending.DISCONNECTED
    return ALL_SUCCEEDED if is_left else NOT_ALL_SUCCEEDED


def _changed(path: Path) -> float:
    with contextlib.suppress(OSError, JournalError), RunJournal(path) as journal:
        return max((launch.started for launch in journal.launches()), default=0.0)
    return 0.0
