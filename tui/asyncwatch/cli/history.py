"""Recorded runs for `asyncwatch runs`: a table of them, all of one, and their removal."""

from __future__ import annotations

import dataclasses
import sqlite3
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from asyncwatch.cli.answer import Answer, ErrorKind, Failure
from asyncwatch.cli.progress import terminal_columns
from asyncwatch.cli.ps import fit_table, short_folder, since
from asyncwatch.cli.recorder import lost_words
from asyncwatch.cli.remote import state_of, value_words
from asyncwatch.cli.reports import Report, ReportFiles
from asyncwatch.control import discovery
from asyncwatch.control.client import RunGoneError
from asyncwatch.control.discovery import DiscoveryError, RunRecord, select
from asyncwatch.events import WorkerState
from asyncwatch.events.wire import without_surrogates
from asyncwatch.journal.history import AmbiguousRunError, Entry, RunState, UnknownRunError, entries, find, remove
from asyncwatch.journal.index import state_at_end
from asyncwatch.journal.resume import earlier
from asyncwatch.journal.store import BusyError, JournalError, Launch, RunJournal
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import leave
from asyncwatch.model.summary import Summary, counts_text, summarize, summary_lines
from asyncwatch.text import count, elapsed, mask_secrets, one_line, printable, short_rate, size_text

SHOWN = 20
"""Runs that are listed unless all are wanted."""
TIMEOUT = 10.0
"""Seconds within which a run that is alive has to answer."""
HEADINGS = ("ID", "NAME", "RESULT", "STARTED", "TOOK", "RATE", "FOLDER")
_LONGEST_SETTING = 200
"""Characters of a setting."""


# -- the list


def list_recorded(folders: Sequence[Path], *, is_all: bool) -> Answer:
    """Return the recorded runs, the newest first; only the first `SHOWN` unless `is_all`."""
    found = entries(*folders)
    shown = found if is_all else found[:SHOWN]
    lines = fit_table(HEADINGS, [_cells(each, time.time()) for each in shown], terminal_columns(sys.stdout))
    if more := len(found) - len(shown):
        lines.append(f"and {count(more, 'older run')}: asyncwatch runs --all")
    fields = {"total": len(found), "runs": [values_of(each) for each in shown]}
    return Answer(without_surrogates(fields), lines or ["No run is recorded."])


def values_of(entry: Entry) -> dict[str, Any]:
    """Return what the JSON says of a recorded run."""
    is_known = entry.launches > 0
    return {
        "id": entry.id,
        "name": entry.name or None,
        "root": entry.root or None,
        "parent": entry.parent or None,
        "state": entry.state.value,
        "folder": entry.folder if is_known else None,
        "command": list(entry.command) if is_known else None,
        "pid": entry.pid,
        "version": entry.version or None,
        "launches": entry.launches if entry.is_readable else None,
        "started": _rounded(entry.started),
        "ended": _rounded(entry.ended),
        "status": entry.status,
        "workers": entry.workers,
        "settled": entry.settled,
        "counts": entry.counts,
        "done_before": entry.done_before if is_known else None,
        "not_started": entry.not_started if is_known else None,
        "attempts": entry.attempts,
        "lost_results": entry.lost_results if is_known else None,
        "elapsed": _rounded(entry.elapsed),
        "rate": _rounded(entry.rate),
        "size": entry.size,
        "journal": str(entry.path.absolute()),
        "problem": entry.problem or None,
    }


def _rounded(number: float | None) -> float | None:
    return None if number is None else round(number, 3)


def _cells(entry: Entry, now: float) -> tuple[str, ...]:
    return (
        entry.id,
        printable(entry.name) or "?",
        _result(entry),
        "?" if entry.started is None else since(entry.started, now),
        "?" if (took := _took(entry, now)) is None else elapsed(took),
        "" if entry.rate is None else short_rate(entry.rate),
        printable(short_folder(entry.folder)),
    )


def _took(entry: Entry, now: float) -> float | None:
    if entry.state is RunState.RUNNING and entry.started is not None:
        return now - entry.started
    return entry.elapsed


def _result(entry: Entry) -> str:
    counts = {} if entry.counts is None else entry.counts
    number = counts_text({state: counts.get(state.value, 0) for state in WorkerState})
    before = f"{entry.done_before:,} done before" if entry.done_before else ""
    lost = f"{count(entry.lost_results, 'result')} not recorded" if entry.lost_results else ""
    early = f"{entry.not_started:,} not started" if entry.not_started else ""
    details = ", ".join(filter(None, [number, early, before, lost]))
    if entry.state is RunState.SUCCEEDED and not lost and number == f"{counts.get('succeeded', 0):,} succeeded":
        return details
    return f"{entry.state}: {details}" if details else entry.state


# -- one run


def show_recorded(
    folders: Sequence[Path], text: str, summary_json: str | None = None, junit: str | None = None
) -> Answer:
    """Return all that is known of the run that `text` means, and write the files of the two options.

    Raises:
        Failure: There is no such run, it cannot be read, or a file cannot be written.

    """
    entry, fleet, launches, settings = _read_run(folders, text)
    is_alive = entry.state is RunState.RUNNING
    _write_files(entry, fleet, summary_json, junit)
    summary = summarize(fleet)
    fields = {
        "run": values_of(entry),
        "is_alive": is_alive,
        "launches": [_launch_values(each) for each in launches],
        "settings": settings,
        "summary": msgspec.to_builtins(summary),
    }
    return Answer(without_surrogates(fields), _lines(entry, summary, launches, settings))


def _read_run(folders: Sequence[Path], text: str) -> tuple[Entry, Fleet, list[Launch], dict[str, Any]]:
    """Return the run that `text` means: its state at the end of its last launch, or the present state if it is alive.

    Raises:
        Failure: There is no such run, or it cannot be read.

    """
    record = _alive(text)
    entry = _found(folders, text if record is None else record.id, record)
    if not entry.is_readable:
        raise Failure(ErrorKind.DAMAGED, entry.problem)
    if record is not None and not entry.size:
        return entry, _state_of(record), [], {}
    try:
        with RunJournal(entry.path) as journal:
            launches = journal.launches()
            is_alive = record is not None and entry.state is RunState.RUNNING
            fleet = _state_of(record) if record is not None and is_alive else _read_journal(journal, launches)
    except (JournalError, OSError, sqlite3.Error) as error:
        raise Failure(ErrorKind.DAMAGED, str(error)) from None
    return entry, fleet, launches, launches[-1].settings if launches else {}


def _write_files(entry: Entry, fleet: Fleet, summary_json: str | None, junit: str | None) -> None:
    try:
        files = ReportFiles(summary_json, junit)
    except (OSError, ValueError) as error:
        raise Failure(ErrorKind.FILE, str(error)) from None
    report = Report(
        id=entry.id,
        name=entry.name,
        folder=entry.folder,
        command=list(entry.command),
        pid=entry.pid,
        version=entry.version,
        started=_rounded(entry.started if fleet.run is None else fleet.run.started_at),
        ended=_rounded(entry.ended),
        is_alive=entry.state is RunState.RUNNING,
        status=entry.status,
    )
    has_earlier = entry.launches > 1
    files.write(report, fleet, lambda: earlier(entry.path, None) if has_earlier else None)
    if files.problems:
        raise Failure(ErrorKind.FILE, "; ".join(files.problems))


def _read_journal(journal: RunJournal, launches: Sequence[Launch]) -> Fleet:
    fleet = state_at_end(journal, launches[-1].number) if launches else Fleet()
    if fleet.finished is None:
        leave(fleet, fleet.latest)
    return fleet


def _alive(text: str) -> RunRecord | None:
    """Return the run that is alive with this ID, the beginning of it, or this name; None if there is none.

    Raises:
        Failure: There are several.

    """
    try:
        record = select(text)
    except discovery.AmbiguousRunError as error:
        if any(isinstance(each, RunRecord) for each in error.candidates):
            raise Failure(ErrorKind.AMBIGUOUS_RUN, str(error)) from None
        return None
    except DiscoveryError:
        return None
    return record if isinstance(record, RunRecord) else None


def _state_of(record: RunRecord) -> Fleet:
    try:
        return state_of(record, TIMEOUT)
    except (RunGoneError, OSError) as error:
        raise Failure(ErrorKind.UNREACHABLE, f"the run {record.id} cannot be reached: {error}") from None


def _unrecorded(record: RunRecord) -> Entry:
    """Return an entry of a run that is alive and has no journal."""
    return Entry(
        path=Path(),
        id=record.id,
        size=0,
        changed=record.started,
        state=RunState.RUNNING,
        name=record.name,
        root=record.id,
        launches=1,
        folder=record.folder,
        command=(record.command,),
        pid=record.pid,
        version=record.version,
        started=record.started,
    )


def _launch_values(launch: Launch) -> dict[str, Any]:
    return {
        "number": launch.number,
        "started": _rounded(launch.started),
        "ended": _rounded(launch.ended),
        "pid": launch.pid,
        "command": launch.command,
        "version": launch.version,
        "done_before": launch.done_before,
        "status": launch.status,
    }


def _lines(entry: Entry, summary: Summary, launches: Sequence[Launch], settings: dict[str, Any]) -> list[str]:
    columns, now = terminal_columns(sys.stdout), time.time()
    where = f" in {short_folder(entry.folder)}" if entry.folder else ""
    title = f"{entry.id}  {entry.state}{where}"
    if entry.state is not RunState.RUNNING and entry.status is not None:
        title += f", status {entry.status}"
    if entry.parent:
        title += f", repeats {entry.parent}"
    if entry.size:
        title += f", {size_text(entry.size)}"
    is_cut = entry.state is RunState.INTERRUPTED
    lines = [title, *summary_lines(dataclasses.replace(summary, is_interrupted=is_cut), columns)]
    if entry.lost_results:
        lines += ["", f"{lost_words(entry.lost_results)}: asyncwatch resume {entry.id}"]
    if settings:
        lines += ["", "settings"]
        lines += [f"  {key} {one_line(value_words(value), _LONGEST_SETTING)}" for key, value in settings.items()]
    if launches:
        lines += ["", "launches"]
    for launch in launches:
        how = "no end was recorded" if launch.ended is None else f"status {launch.status}"
        if launch is launches[-1] and entry.state is RunState.RUNNING:
            how = "running"
        words = launch.command if launch.is_of_program else ["asyncwatch", *launch.command]
        command = one_line(" ".join(words), _LONGEST_SETTING)
        lines.append(f"  {launch.number}  {since(launch.started, now)}  {how}  {command}")
    return lines


# -- removal


def remove_recorded(
    folders: Sequence[Path], ids: Sequence[str], older_than: float | None, confirm: Callable[[str], bool]
) -> Answer:
    """Remove the runs that `ids` mean; without any, those that ended more than `older_than` seconds ago, or all.

    Runs that are being recorded stay. `confirm` is asked before.

    Raises:
        Failure: An ID means no run, or several.

    """
    if ids:
        chosen = [_found(folders, text) for text in dict.fromkeys(ids)]
        chosen = list({each.path: each for each in chosen}.values())
    else:
        oldest = time.time() - (0.0 if older_than is None else older_than)
        chosen = [each for each in entries(*folders) if each.state is not RunState.RUNNING]
        chosen = [each for each in chosen if older_than is None or (each.ended or each.changed) < oldest]
    if not chosen:
        return _removed([], "There is no such run.")
    if not confirm(_question(chosen)):
        return _removed([], "Nothing was removed.")
    removed: list[Entry] = []
    problems = []
    for each in chosen:
        try:
            remove(each)
        except (BusyError, OSError) as error:
            problems.append(f"{each.id} was not removed: {mask_secrets(str(error))}")
        else:
            removed.append(each)
    failure = Failure(ErrorKind.REFUSED, "; ".join(problems)) if problems else None
    return _removed(removed, "Nothing was removed.", failure)


def _found(folders: Sequence[Path], text: str, record: RunRecord | None = None) -> Entry:
    """Return the recorded run that `text` means, or an entry of `record`, which is alive, if it has no journal."""
    try:
        return find(folders, text)
    except AmbiguousRunError as error:
        raise Failure(ErrorKind.AMBIGUOUS_RUN, str(error)) from None
    except UnknownRunError as error:
        if record is None:
            raise Failure(ErrorKind.NO_RUN, str(error)) from None
        return _unrecorded(record)


def _question(chosen: Sequence[Entry]) -> str:
    unfinished = sum(each.state in {RunState.INTERRUPTED, RunState.KILLED} for each in chosen)
    which = f"the run {chosen[0].id} ({one_line(chosen[0].name, 40)})" if len(chosen) == 1 else f"{len(chosen):,} runs"
    if unfinished:
        can = "which was not finished" if len(chosen) == 1 else f"{unfinished:,} of which were not finished"
        which += f", {can}"
    return f"Remove {printable(which)} ({size_text(sum(each.size for each in chosen))})?"


def _removed(removed: Sequence[Entry], if_none: str, failure: Failure | None = None) -> Answer:
    size = sum(each.size for each in removed)
    line = f"{count(len(removed), 'run')} removed, {size_text(size)}." if removed else if_none
    return Answer({"removed": [each.id for each in removed], "size": size}, [line], failure)
