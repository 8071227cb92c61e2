"""`asyncwatch ps`: the runs of this user that are alive, as a table or as JSON."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from asyncwatch.cli.answer import Answer, ErrorKind, Failure, refusal_kind
from asyncwatch.control.client import ConnectionRefusedByRunError, RunGoneError, ask_info
from asyncwatch.control.discovery import RunRecord, Survey, UnsupportedSystemError, alive, survey
from asyncwatch.control.protocol import ProtocolError, RunInfo
from asyncwatch.events import WorkerState
from asyncwatch.events.wire import without_surrogates
from asyncwatch.model.summary import counts_text
from asyncwatch.text import cells, crop, elapsed, pad, printable

TIMEOUT = 1.0
"""Seconds within which a run has to answer."""
_AT_ONCE = 32
"""Runs that are asked at the same time."""

Ask = Callable[[str, float], RunInfo | None]


class Found(NamedTuple):
    """A run that is alive, and what it says about itself."""

    record: RunRecord
    info: RunInfo | None
    """None if the run did not answer."""
    failure: Failure | None = None
    """Why there is no answer."""


def list_runs(columns: int | None = None, ask: Ask = ask_info) -> Answer:
    """Return the runs that are alive.

    `columns` is the width of the terminal in cells; None for no limit.

    Raises:
        Failure: This system has no Unix sockets.

    """
    try:
        seen = survey()
    except UnsupportedSystemError as error:
        raise Failure(ErrorKind.UNSUPPORTED, str(error)) from None
    runs = _ask_all(seen, ask)
    fields = {"runs": [_values(each) for each in runs], "problems": seen.problems}
    lines = table(runs, time.time(), columns) or ["No run is alive."]
    return Answer(without_surrogates(fields), lines, notes=seen.problems)


def _ask_all(seen: Survey, ask: Ask) -> list[Found]:
    if not seen.runs:
        return []

    def found(record: RunRecord) -> Found:
        try:
            info = ask(record.socket_path, TIMEOUT)
        except ConnectionRefusedByRunError as error:
            return Found(record, None, Failure(refusal_kind(error.kind), str(error)))
        except ProtocolError as error:
            return Found(record, None, Failure(ErrorKind.PROTOCOL, str(error)))
        except (RunGoneError, OSError) as error:
            reason = str(error) or "the connection ended"
            return Found(record, None, Failure(ErrorKind.UNREACHABLE, f"the run cannot be reached: {reason}"))
        if info is None:
            return Found(record, None, Failure(ErrorKind.TIMEOUT, "the run does not answer"))
        return Found(record, info)

    # All at once, so that many runs that do not answer take one second.
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        runs = list(pool.map(found, seen.runs))
    if any(each.info is None for each in runs):
        left = {record.id for record in alive()}
        runs = [each for each in runs if each.info is not None or each.record.id in left]
    return runs


def _values(found: Found) -> dict[str, Any]:
    record, info, failure = found
    return {
        "id": record.id,
        "name": record.name,
        "folder": record.folder,
        "command": record.command,
        "pid": record.pid,
        "started": round(record.started, 3),
        "version": record.version,
        "state": _state(info),
        "workers": None if info is None else info.workers,
        "settled": None if info is None else info.settled,
        "counts": None if info is None else info.counts,
        "flapping": None if info is None else info.flapping,
        "clients": None if info is None else info.viewers,
        "is_detached": None if info is None else info.is_detached,
        "not_recorded": None if info is None or not info.not_recorded else info.not_recorded,
        "error": None if failure is None else {"kind": failure.kind, "message": str(failure)},
    }


def _state(info: RunInfo | None) -> str | None:
    if info is None:
        return None
    return "stopping" if info.is_stopping else "running" if info.has_begun else "starting"


# -- the table

HEADINGS = ("ID", "NAME", "PROGRESS", "SINCE", "CLIENTS", "FOLDER")
_NARROWEST = 8
"""Cells that a column keeps if the terminal is too narrow."""
_GAP = "  "


def table(runs: Sequence[Found], now: float, columns: int | None) -> list[str]:
    """Return the lines of a table of runs, none of them wider than `columns`; none if there is no run."""
    return fit_table(HEADINGS, [_cells(each, now) for each in runs], columns)


def fit_table(headings: Sequence[str], cells_of: Sequence[Sequence[str]], columns: int | None) -> list[str]:
    """Return the lines of a table, none of them wider than `columns`; none if it has no row."""
    if not cells_of:
        return []
    rows = [headings, *cells_of]
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    if columns is not None:
        excess = sum(widths) + len(_GAP) * (len(widths) - 1) - columns
        while excess > 0 and max(widths) > _NARROWEST:
            widths[widths.index(max(widths))] -= 1
            excess -= 1
    lines = [_GAP.join(map(_fit, row, widths, headings)).rstrip() for row in rows]
    return [line if columns is None or cells(line) <= columns else crop(line, columns) for line in lines]


def _fit(text: str, width: int, heading: str) -> str:
    """Return a text that fits its column. Of a folder the end is kept, which tells more."""
    if heading == "FOLDER" and cells(text) > width:
        kept = text[-(width - 1) :]
        while cells(kept) > width - 1:
            kept = kept[1:]
        text = f"…{kept}"
    return pad(text, width)


def _cells(found: Found, now: float) -> tuple[str, ...]:
    record, info, failure = found
    return (
        record.id,
        printable(record.name),
        printable(str(failure)) if info is None else _progress(info),
        since(record.started, now),
        "?" if info is None else f"{info.viewers}",
        printable(short_folder(record.folder)),
    )


def _progress(info: RunInfo) -> str:
    state = _state(info)
    counts = counts_text({each: info.counts.get(each.value, 0) for each in WorkerState})
    parts = [
        "" if state == "running" else f"{state}:",
        f"{info.settled:,}/{info.workers:,}" if info.workers else "",
        ", ".join(filter(None, [counts, f"{info.flapping:,} flapping" if info.flapping else ""])),
        "not recorded" if info.not_recorded else "",
    ]
    return " ".join(filter(None, parts)).removesuffix(":")


def since(started: float, now: float) -> str:
    """Return the local time of the start, with its date unless that is today's, and how long ago it was."""
    there, here = time.localtime(started), time.localtime(now)
    form = "%H:%M" if there[:3] == here[:3] else "%Y-%m-%d %H:%M"
    seconds = max(0.0, now - started)
    return f"{time.strftime(form, there)} ({f'{seconds:.0f} s' if seconds < 59.5 else elapsed(seconds)})"


def short_folder(folder: str) -> str:
    """Return a folder, with `~` for the user's own."""
    home = os.path.expanduser("~")  # noqa: PTH111  may be no UTF-8
    if folder == home or folder.startswith(f"{home}/"):
        return f"~{folder[len(home) :]}"
    return folder
