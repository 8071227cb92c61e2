"""Files about a run for other programs: its summary as JSON, and its workers as test cases in the format of JUnit.

Each file is written as a whole: who reads it has the one before or the new one, unless it is a pipe or a device.
"""

from __future__ import annotations

import dataclasses
import heapq
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec

from asyncwatch.cli.output import OpenedFile
from asyncwatch.events import FAILURES, SETTLED, WorkerState
from asyncwatch.journal.resume import Earlier
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.rows import Row, blocks_of
from asyncwatch.model.summary import SLOWEST, SlowWorker, Summary, summarize
from asyncwatch.text import count, error_kind, mask_secrets, mask_values

VERSION = 1
"""The version of the JSON. Fields may be added without a new one."""
_CASES_A_CHUNK = 1_000
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold, not even as a reference."""
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
_IN_ATTRIBUTES = re.compile('[&<>"\t\n\r]')
_IN_TEXT = re.compile("[&<>\r]")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a run beside its state."""

    id: str
    name: str
    folder: str
    command: list[str]
    """Its arguments."""
    pid: int | None
    version: str
    """That of asyncwatch."""
    started: float | None
    """Seconds since the epoch, as `ended`."""
    ended: float | None
    is_alive: bool
    status: int | None
    """The exit status; None if it is alive or was killed."""
    problems: list[str] = []
    """What went wrong beside the work."""


class ReportFiles:
    """The files of the options `--summary-json` and `--junit`. Opened at once, so that a wrong path is known early.

    Raises:
        OSError: A file cannot be written. The message has its name and the reason.

    """

    def __init__(self, summary_json: str | None, junit: str | None) -> None:
        self.problems: list[str] = []
        """Why files were not written, a sentence each."""
        self._files = [
            (what, _open(what, path), render)
            for what, path, render in (
                ("summary", summary_json, _summary),
                ("JUnit", junit, junit_chunks),
            )
            if path is not None
        ]

    def write(self, report: Report, fleet: Fleet, earlier: Callable[[], Earlier | None] = lambda: None) -> None:
        """Write the files. Never raises an OSError: see `problems`.

        `earlier` returns what earlier launches of the run have done. It may raise an OSError. The files are then those
        of the last launch alone.
        """
        before = None
        try:
            before = earlier()
        except OSError as error:
            self.problems.append(f"the files of the end lack what was done before: {error}")
        for what, file, render in self._files:
            try:
                file.write_whole(render(report, fleet, before))
            except OSError as error:
                self.problems.append(_message(what, str(file.path), error))


def _open(what: str, path: str) -> OpenedFile:
    try:
        return OpenedFile(Path(path))
    except OSError as error:
        raise OSError(_message(what, path, error)) from error


def _message(what: str, path: str, error: OSError) -> str:
    return f"cannot write {what} file {path!r}: {error.strerror or error}"


# -- the summary


def summary_values(report: Report, fleet: Fleet, before: Earlier | None = None) -> dict[str, Any]:
    """Return the fields of the summary's JSON, without secrets."""
    summary = summarize(fleet)
    if before is not None:
        summary = _whole(summary, before)
    return {
        "version": VERSION,
        "run": {
            "id": report.id,
            "name": mask_secrets(report.name),
            "folder": report.folder,
            "command": [mask_secrets(argument) for argument in report.command],
            "pid": report.pid,
            "version": report.version,
            "started": report.started,
            "ended": report.ended,
        },
        "is_alive": report.is_alive,
        "status": report.status,
        "problems": mask_values(report.problems),
        "summary": mask_values(msgspec.to_builtins(summary)),
    }


def _whole(summary: Summary, before: Earlier) -> Summary:
    """Return the summary of a last launch with what was done in earlier ones."""
    items = [item for group in before.done.values() for item in group]
    slow = [SlowWorker(item.name, WorkerState.SUCCEEDED, item.elapsed, item.attempts) for item in items]
    counts = dict(summary.counts)
    if items:
        counts[WorkerState.SUCCEEDED] = counts.get(WorkerState.SUCCEEDED, 0) + len(items)
    return dataclasses.replace(
        summary,
        workers=summary.workers + len(items),
        counts={state: counts[state] for state in WorkerState if state in counts},
        attempts=summary.attempts + before.attempts,
        elapsed=round(summary.elapsed + before.elapsed, 6),
        slowest=tuple(heapq.nlargest(SLOWEST, [*summary.slowest, *slow], key=lambda worker: worker.elapsed)),
    )


def _summary(report: Report, fleet: Fleet, before: Earlier | None = None) -> Iterator[bytes]:
    yield json.dumps(summary_values(report, fleet, before), indent=2).encode("ascii") + b"\n"


# -- JUnit


def junit_chunks(report: Report, fleet: Fleet, before: Earlier | None = None) -> Iterator[bytes]:
    """Yield a document with a test suite for each group, and a test case for each worker and each item done before.

    `failed` and `exhausted` are failures; `timed out` and `unresponsive` are errors; `cancelled`, and what has not
    ended or not started, is skipped.
    """
    groups: dict[str, list[slice]] = {}
    for block, place in blocks_of(fleet.rows):
        groups.setdefault(block.group, []).append(place)
    before = before or Earlier()
    for group in before.done:
        groups.setdefault(group, [])
    suites = {group: _totals(fleet, places) for group, places in groups.items()}
    for group, items in before.done.items():
        suites[group]["tests"] += len(items)
    seconds = fleet.end + before.elapsed
    total: Counter[str] = Counter()
    for each in suites.values():
        total.update(each)
    yield b'<?xml version="1.0" encoding="UTF-8"?>\n'
    yield f"<testsuites name={_quoted(report.name)}{_counts(total, seconds)}>\n".encode()
    when = ""
    if report.started is not None:
        when = f" timestamp={_quoted(time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(report.started)))}"
    for group, places in groups.items():
        yield f"<testsuite name={_quoted(group)}{_counts(suites[group], seconds)}{when}>\n".encode()
        yield from _properties(report, fleet)
        rows = chain.from_iterable(fleet.rows[place] for place in places)
        done = (_start_of_case(group, item.name, item.elapsed) + "/>\n" for item in before.done.get(group, ()))
        cases = chain(done, (_case(fleet, group, row) for row in rows))
        while chunk := "".join(islice(cases, _CASES_A_CHUNK)):
            yield chunk.encode()
        yield b"</testsuite>\n"
    yield b"</testsuites>\n"


def _totals(fleet: Fleet, places: Iterable[slice]) -> Counter[str]:
    totals = Counter(_outcome(row) for place in places for row in fleet.rows[place])
    totals["tests"] = totals.total()
    return totals


def _outcome(row: Row) -> str:
    state = row.state
    if state is WorkerState.SUCCEEDED:
        return ""
    if state in FAILURES:
        return "failure"
    return "skipped" if state is WorkerState.CANCELLED or state not in SETTLED or row.has_never_started else "error"


def _counts(totals: Counter[str], seconds: float) -> str:
    numbers = f' tests="{totals["tests"]}" failures="{totals["failure"]}" errors="{totals["error"]}"'
    return f'{numbers} skipped="{totals["skipped"]}" time="{seconds:.3f}"'


def _properties(report: Report, fleet: Fleet) -> Iterator[bytes]:
    values = {
        "id": report.id,
        "seed": None if fleet.run is None else fleet.run.seed,
        "status": report.status,
        "done_before": fleet.run.done_before if fleet.run is not None and fleet.run.done_before else None,
    }
    yield b"<properties>\n"
    for name, value in values.items():
        if value is not None:
            yield f"<property name={_quoted(name)} value={_quoted(str(value))}/>\n".encode()
    yield b"</properties>\n"


def _case(fleet: Fleet, group: str, row: Row) -> str:
    start = _start_of_case(group, row.name, row.elapsed(fleet.end) or 0.0)
    if not (outcome := _outcome(row)):
        return f"{start}/>\n"
    if outcome == "skipped":
        why = "not started" if row.has_never_started else row.state.value
        return f"{start}><skipped message={_quoted(why)}/></testcase>\n"
    error = row.error or row.state.value
    kind = row.state.value if outcome == "error" else error_kind(error).partition(":")[0]
    text = "\n".join(filter(None, [fleet.stack(row.name), error, f"{row.state} after {count(row.attempt, 'attempt')}"]))
    details = f"message={_quoted(error)} type={_quoted(kind)}>{_escaped(text)}"
    return f"{start}><{outcome} {details}</{outcome}></testcase>\n"


def _start_of_case(group: str, name: str, seconds: float) -> str:
    return f'<testcase classname={_quoted(group)} name={_quoted(name)} time="{seconds:.6f}"'


def _quoted(text: str) -> str:
    """Return a text as the value of an attribute."""
    return f'"{_escaped(text, _IN_ATTRIBUTES)}"'


def _escaped(text: str, special: re.Pattern[str] = _IN_TEXT) -> str:
    """Return a text for XML: without secrets, and with a backslash sequence for each character that XML cannot hold."""
    text = _ILLEGAL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), mask_secrets(text))
    return special.sub(lambda match: _ESCAPES[match[0]], text)
