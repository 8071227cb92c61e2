"""Recorded runs: what a list of them says of each, which of them a person means, and how one is removed.

An entry is made of the launches of a run alone. No event is decoded, so a list of many runs is quick. A run whose
process was killed has left no figures: its counts are unknown here.
"""

from __future__ import annotations

import enum
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from msgspec import Struct

from asyncwatch.events import SETTLED
from asyncwatch.journal import folder as files
from asyncwatch.journal.store import DamagedError, JournalError, Launch, NewerFormatError, RunJournal, writer_of
from asyncwatch.text import count, mask_secrets, one_line, printable

_LISTED = 8
"""Candidates that the message of an error lists."""


class RunState(enum.StrEnum):
    """How a recorded run stands."""

    RUNNING = "running"
    """A process writes the journal."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """It came to its end, and its exit status is not 0."""
    INTERRUPTED = "interrupted"
    """It was stopped before its end."""
    KILLED = "killed"
    """No end was recorded, and no process writes the journal."""
    DAMAGED = "damaged"
    NEWER = "newer format"
    """A newer version of asyncwatch wrote the journal."""


class Entry(Struct, frozen=True, kw_only=True):
    """A recorded run. What a journal that cannot be read does not tell has its default."""

    path: Path
    id: str
    size: int
    """Bytes of all its files."""
    changed: float
    """When the files were last written, in seconds since the epoch."""
    state: RunState
    problem: str = ""
    """Why the journal cannot be read."""
    name: str = ""
    root: str = ""
    """The ID of the first run of a chain of repeats."""
    parent: str = ""
    """The ID of the run that it repeats; empty if it repeats none."""
    launches: int = 0
    folder: str = ""
    """The current directory of the last launch, as `pid` and all below are its own."""
    command: tuple[str, ...] = ()
    pid: int | None = None
    version: str = ""
    started: float | None = None
    """Seconds since the epoch, as `ended`."""
    ended: float | None = None
    """None while the run goes on. If it was killed, the time of the last event."""
    status: int | None = None
    """The exit status; None if there is none."""
    done_before: int = 0
    """Items that had succeeded in earlier launches."""
    counts: dict[str, int] | None = None
    """Workers by state; None if they are unknown."""
    not_started: int = 0
    """Workers of the last launch that were stopped before their first attempt."""
    attempts: int | None = None
    lost_results: int = 0
    """Workers of the last launch that succeeded with a result that JSON cannot hold. They are not done for a resume."""
    elapsed: float | None = None
    """Seconds from the start to the end of the work, or to the last event."""

    @property
    def is_readable(self) -> bool:
        """Whether the journal can be read."""
        return self.state not in {RunState.DAMAGED, RunState.NEWER}

    @property
    def workers(self) -> int | None:
        """The number of workers; None if it is unknown."""
        return None if self.counts is None else sum(self.counts.values())

    @property
    def settled(self) -> int | None:
        """The number of workers that have ended; None if it is unknown."""
        return None if self.counts is None else sum(self.counts.get(state, 0) for state in SETTLED)

    @property
    def rate(self) -> float | None:
        """Workers that ended in a second; None if that is unknown, or if none did."""
        return self.settled / self.elapsed if self.settled and self.elapsed else None


class HistoryError(Exception):
    """The run that is meant cannot be told. The message is a sentence or two for a person."""


class UnknownRunError(HistoryError):
    """No recorded run is meant."""


class AmbiguousRunError(HistoryError):
    """Several recorded runs could be meant. `candidates` are these."""

    def __init__(self, message: str, candidates: Sequence[Entry]) -> None:
        super().__init__(message)
        self.candidates = candidates


def entries(*folders: Path) -> list[Entry]:
    """Return the runs that are recorded in these folders, the newest first. A folder that does not exist has none."""
    found: dict[str, Entry] = {}
    for folder in folders:
        for stored in files.journals(folder):
            with suppress(FileNotFoundError):  # removed meanwhile
                found.setdefault(stored.path.stem, _entry(stored))
    return sorted(found.values(), key=lambda each: (-_time_of(each), each.id))


def find(folders: Iterable[Path], text: str) -> Entry:
    """Return the run that `text` means: its ID, the beginning of it, or its name. Of one name, the newest is meant.

    Raises:
        UnknownRunError: There is no such run.
        AmbiguousRunError: The text is the beginning of several IDs.

    """
    known = entries(*folders)
    start = text.lower()
    found = [each for each in known if each.id == start] if text else []
    if text and not found:
        found = [each for each in known if each.id.startswith(start) or each.name == text]
        if found and all(each.name == text for each in found):
            found = found[:1]
    if len(found) == 1:
        return found[0]
    quoted = repr(one_line(printable(mask_secrets(text)), 80))
    if found:
        raise AmbiguousRunError(f"{quoted} could be {_list(found)}. Give more of the ID.", found)
    those = f"Recorded: {_list(known)}." if known else "No run is recorded."
    raise UnknownRunError(f"There is no recorded run {quoted}. {those}")


def unfinished(folders: Iterable[Path], of: str) -> Iterator[Entry]:
    """Yield the runs of the folder `of` in which something is left to do, the newest first. They may be running."""
    states = {RunState.RUNNING, RunState.FAILED, RunState.INTERRUPTED, RunState.KILLED}
    for each in entries(*folders):
        is_lost = each.state is RunState.DAMAGED and each.status != 0
        if each.folder == of and (each.state in states or each.lost_results or is_lost):
            yield each


def remove(entry: Entry) -> None:
    """Remove a recorded run with all its files.

    Raises:
        BusyError: It is being recorded.
        OSError: A file cannot be removed.

    """
    files.remove(entry.path)


def _entry(stored: files.Stored) -> Entry:
    path = stored.path
    own: dict[str, Any] = {"path": path, "id": path.stem, "size": stored.size, "changed": stored.used}
    try:
        with RunJournal(path) as journal:
            pid = writer_of(path)  # before the launches, so that a run that ends meanwhile was not killed
            info, launches = journal.info, journal.launches()
            last = launches[-1] if launches else None
            moment = None if last is None or last.ended is not None else journal.last_moment(last.number)
            pid = writer_of(path) if pid is None and moment is not None else pid  # it may have begun meanwhile
    except NewerFormatError as error:
        return Entry(**own, state=RunState.NEWER, problem=str(error))
    except DamagedError as error:
        return _damaged(own, str(error))
    except (JournalError, sqlite3.Error, PermissionError) as error:
        return Entry(**own, state=RunState.DAMAGED, problem=str(error))
    run = {**own, "name": info.name, "root": info.root, "parent": info.parent, "launches": len(launches)}
    if last is None:
        return Entry(**run, state=RunState.KILLED if pid is None else RunState.RUNNING, pid=pid)
    return Entry(**run, **_of_launch(last, pid, moment))


def _damaged(own: dict[str, Any], problem: str) -> Entry:
    """Return an entry with what can be read of a damaged journal."""
    from asyncwatch.journal.salvage import launches_of  # noqa: PLC0415  rarely needed

    launches: list[Launch] = []
    with suppress(OSError):
        info, launches = launches_of(own["path"])
    if not launches:
        return Entry(**own, state=RunState.DAMAGED, problem=problem)
    how = f"The same call of {info.name!r}" if launches[-1].is_of_program else f"asyncwatch resume {info.id}"
    problem += f". {how} goes on with what can be read of it"
    facts = {**_of_launch(launches[-1], None, None), "state": RunState.DAMAGED, "problem": problem}
    return Entry(**own, name=info.name, root=info.root, parent=info.parent, launches=len(launches), **facts)


def _of_launch(launch: Launch, writer: int | None, moment: float | None) -> dict[str, Any]:
    """Return what an entry says of a launch, which the process `writer` writes, and whose last event is at `moment`."""
    summary = launch.summary if isinstance(launch.summary, dict) else {}
    ended, elapsed = launch.ended, summary.get("elapsed")
    if ended is not None:
        if not launch.is_finished:
            state = RunState.INTERRUPTED
        else:
            state = RunState.SUCCEEDED if launch.status == 0 else RunState.FAILED
    else:
        state = RunState.KILLED if writer is None else RunState.RUNNING
        elapsed = moment
        ended = launch.started + (moment or 0.0) if writer is None else None
    return {
        "state": state,
        "folder": launch.folder,
        "command": tuple(launch.command),
        "pid": writer or launch.pid,
        "version": launch.version,
        "started": launch.started,
        "ended": ended,
        "status": launch.status,
        "done_before": launch.done_before,
        "counts": summary.get("counts"),
        "attempts": summary.get("attempts"),
        "not_started": summary.get("not_started", 0),
        "lost_results": summary.get("lost_results", 0),
        "elapsed": elapsed,
    }


def _time_of(entry: Entry) -> float:
    return entry.changed if entry.started is None else entry.started


def _list(found: Sequence[Entry]) -> str:
    shown = [
        f"{each.id} ({one_line(printable(each.name), 40) if each.is_readable else each.state})"
        for each in found[:_LISTED]
    ]
    more = len(found) - len(shown)
    return ", ".join([*shown, f"and {count(more, 'other run')}"] if more else shown)
