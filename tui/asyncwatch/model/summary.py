"""What is worth saying of a run when it is over."""

from __future__ import annotations

import heapq
import re
import textwrap
from collections import Counter
from dataclasses import dataclass

from asyncwatch.events import WorkerState
from asyncwatch.model.reducer import Fleet
from asyncwatch.model.rows import Row
from asyncwatch.model.view.groups import cluster_key, error_kind
from asyncwatch.text import cells, count, crop, duration, pad, printable

_LEAST_WIDTH = 20
_LEAST_NAME = 12
_STOPPED = frozenset({WorkerState.CANCELLED, WorkerState.TIMED_OUT, WorkerState.UNRESPONSIVE})
"""How long these took tells when they were stopped, and nothing of their work."""
_BROKEN = frozenset({WorkerState.FAILED, WorkerState.EXHAUSTED})


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """The workers that failed or were exhausted with one kind of error, and the first of them as an example."""

    kind: str
    workers: int
    example_worker: str
    example_error: str
    example_place: str
    """`jobs.py:3 fetch`, where that error was raised; empty where that is not known."""
    refused: int
    """Of how many a retry was refused that the policy had."""
    refusals: str
    """Why: `retry budget, deadline`."""


@dataclass(frozen=True, slots=True)
class SlowWorker:
    """One of the workers that took longest; `elapsed` is in seconds."""

    name: str
    state: WorkerState
    elapsed: float
    attempts: int


@dataclass(frozen=True, slots=True)
class TroubledService:
    """A worker that was restarted, or whose polls failed, `times` times, the last time because of `cause`."""

    name: str
    state: WorkerState
    times: int
    cause: str


_LEFT_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in a few figures. `counts` holds only the states that occur.

    `restarts` counts those of all workers. `restarts_asked_for` are those of them that a person asked
    for, or that a sibling or a supervisor took along; `restarted` holds the workers with the most of the others.
    `slowest` holds none of those that have a supervisor, which is to run them for ever.

    `elapsed` is in seconds, up to the end of the last worker; while one is active, to the end of the picture.
    A run that was left before its last event counts as interrupted. `is_hurried`: its workers got no more time to end.
    """

    run: str
    runner: str
    seed: int | None
    workers: int
    counts: dict[WorkerState, int]
    attempts: int
    elapsed: float
    is_interrupted: bool
    is_hurried: bool
    slowest: tuple[SlowWorker, ...]
    left_behind: tuple[str, ...]
    """Of what swallowed its cancellation and runs on: `worker: place`, also of incarnations that others followed."""
    restarts: int
    restarts_asked_for: int
    restarted: tuple[TroubledService, ...]
    failed_polls: int
    polling: tuple[TroubledService, ...]
    """The pollers with the most polls that failed."""
    errors: tuple[ErrorGroup, ...]


def summarize(fleet: Fleet, slowest: int = 5, restarted: int = 20) -> Summary:
    """Return the summary of the run so far, with so many of the slowest and of the most often restarted workers."""
    run, finished = fleet.run, fleet.finished
    return Summary(
        run=run.run if run else "",
        runner=run.runner if run else "",
        seed=run.seed if run else None,
        workers=fleet.workers,
        counts={state: count for state, count in fleet.counts.items() if count},
        attempts=fleet.attempts,
        elapsed=fleet.end,
        is_interrupted=finished is None or finished.interrupted,
        is_hurried=fleet.cancel_requested is not None and fleet.cancel_requested.reason == "at once",
        slowest=_slowest(fleet, slowest),
        left_behind=tuple(
            f"{left.event.worker}: {left.event.stack or 'an unknown place'}" for left in fleet.all_left_behind()
        ),
        restarts=fleet.restarts.total,
        restarts_asked_for=fleet.restarts.asked_for,
        restarted=_restarted(fleet, restarted),
        failed_polls=fleet.polls.failed,
        polling=_polling(fleet, restarted),
        errors=_errors(fleet),
    )


def _slowest(fleet: Fleet, number: int) -> tuple[SlowWorker, ...]:
    def elapsed(row: Row) -> float:
        return row.elapsed(fleet.end) or 0.0

    branches = fleet.tree.branches
    services = {path for path, branch in branches.items() if branch.is_supervisor}
    timed = (
        row
        for row in fleet.rows
        if row.first_started_at is not None and row.state not in _STOPPED and row.group not in services
    )
    rows = heapq.nlargest(number, timed, key=elapsed)
    return tuple(SlowWorker(row.name, row.state, elapsed(row), row.attempt) for row in rows)


def _restarted(fleet: Fleet, number: int) -> tuple[TroubledService, ...]:
    known = heapq.nlargest(number, fleet.restarts.by_worker.items(), key=lambda item: item[1].times)
    rows = ((fleet.get(name), restarted) for name, restarted in known)
    return tuple(
        TroubledService(row.name, row.state, restarted.times, restarted.cause)
        for row, restarted in rows
        if row is not None
    )


def _polling(fleet: Fleet, number: int) -> tuple[TroubledService, ...]:
    known = heapq.nlargest(number, fleet.polls.by_worker.items(), key=lambda item: item[1].times)
    rows = ((fleet.get(name), failed) for name, failed in known)
    return tuple(TroubledService(row.name, row.state, failed.times, failed.error) for row, failed in rows if row)


def _errors(fleet: Fleet) -> tuple[ErrorGroup, ...]:
    workers: Counter[str] = Counter()
    refusals: dict[str, Counter[str]] = {}
    examples: dict[str, Row] = {}
    for row in fleet.rows:
        if row.state in _BROKEN:
            workers[row.error] += 1
            examples.setdefault(row.error, row)
            if row.refusal:
                refusals.setdefault(row.error, Counter())[row.refusal] += 1
    for replaced in fleet.replaced_errors.values():
        error = replaced.example.error
        workers[error] += replaced.workers
        examples.setdefault(error, replaced.example)
        refusals[error] = refusals.get(error, Counter()) + replaced.refusals
    kinds: dict[str, list[str]] = {}
    for error in workers:
        kinds.setdefault(error_kind(error), []).append(error)

    def group_of(kind: str, errors: list[str]) -> ErrorGroup:
        example = examples[errors[0]]
        refused = sum((refusals.get(error, Counter()) for error in errors), Counter[str]())
        return ErrorGroup(
            kind=kind,
            workers=sum(workers[error] for error in errors),
            example_worker=example.name,
            example_error=errors[0],
            example_place=_short(cluster_key(example, fleet.stack)),
            refused=refused.total(),
            refusals=", ".join(sorted(refused)),
        )

    groups = (group_of(kind, errors) for kind, errors in kinds.items())
    return tuple(sorted(groups, key=lambda group: (-group.workers, group.kind)))


def _short(cluster: tuple[str, str] | None) -> str:
    """Return the place of a cluster's key with the name of its file alone."""
    return "" if cluster is None else cluster[1].rpartition("/")[2]


def counts_text(counts: dict[WorkerState, int]) -> str:
    """Return `12 succeeded, 1 failed`: the states that occur, in their order."""
    return ", ".join(f"{counts[state]:,} {state}" for state in WorkerState if counts.get(state))


def summary_lines(summary: Summary, width: int | None = None) -> list[str]:
    """Return the summary as lines of plain, printable text without line endings.

    With a `width`, that of a terminal, no line is longer; without one nothing is cut.
    """
    attempts = count(summary.attempts, "attempt")
    if summary.restarts:
        attempts += f", {count(summary.restarts, 'restart')}"
    if summary.failed_polls:
        attempts += f", {count(summary.failed_polls, 'failed poll')}"
    title = _line(summary.run) or "run"
    if summary.seed is not None:
        title += f" ({summary.runner}, seed {summary.seed})"
    title += " interrupted twice: " if summary.is_hurried else " interrupted: " if summary.is_interrupted else ": "
    title += f"{counts_text(summary.counts) or 'no workers'}; {attempts} in {duration(summary.elapsed)}"
    lines = [title] if width is None else _wrapped(title, width)
    if number := len(summary.left_behind):
        why = "the end was not waited for" if summary.is_hurried else "asked to stop, still running"
        lines += ["", f"{number:,} left behind: {why}"]
        lines += [f"  {_line(left)}" for left in summary.left_behind[:_LEFT_SHOWN]]
        lines += [f"  and {number - _LEFT_SHOWN:,} more"] if number > _LEFT_SHOWN else []
    if summary.slowest:
        lines += ["", "slowest", *_slowest_lines(summary.slowest, width)]
    if summary.restarted:
        lines += ["", "restarts", *_troubled_lines(summary.restarted, "last after")]
        left = summary.restarts - summary.restarts_asked_for - sum(worker.times for worker in summary.restarted)
        lines += [f"  and {left:,} of other workers"] if left else []
        asked_for = summary.restarts_asked_for
        lines += [f"  and {asked_for:,} by hand, with another worker or with a supervisor"] if asked_for else []
    if summary.polling:
        lines += ["", "failed polls", *_troubled_lines(summary.polling, "last with")]
        left = summary.failed_polls - sum(worker.times for worker in summary.polling)
        lines += [f"  and {left:,} of other workers"] if left else []
    if summary.errors:
        lines += ["", "errors"]
        column = max(len(f"{group.workers:,}") for group in summary.errors)
        for group in summary.errors:
            lines += _error_lines(group, column, width)
    return lines if width is None else [crop(line, width) for line in lines]


def _wrapped(text: str, width: int) -> list[str]:
    """Return the text in lines that break nowhere between a number and its word."""
    tied = re.sub(r"(?<=\d) (?=[a-z])", "\xa0", text)
    lines = textwrap.wrap(tied, max(width, _LEAST_WIDTH), subsequent_indent="  ")
    return [line.replace("\xa0", " ") for line in lines]


def _slowest_lines(slowest: tuple[SlowWorker, ...], width: int | None) -> list[str]:
    times = [duration(slow.elapsed) for slow in slowest]
    ends = [f"{slow.state}" + (f" after {slow.attempts} attempts" if slow.attempts > 1 else "") for slow in slowest]
    times = [time.rjust(max(map(len, times))) for time in times]
    names = [_line(slow.name) for slow in slowest]
    if width is not None:
        room = max(_LEAST_NAME, width - len(times[0]) - max(map(len, ends)) - 6)
        names = [crop(name, room) for name in names]
    column = max(map(cells, names))
    return [f"  {time}  {pad(name, column)}  {end}" for time, name, end in zip(times, names, ends, strict=True)]


def _troubled_lines(workers: tuple[TroubledService, ...], last: str) -> list[str]:
    number = max(len(f"{worker.times:,}") for worker in workers)
    name = max(cells(_line(worker.name)) for worker in workers)
    state = max(len(worker.state) for worker in workers)
    return [
        f"  {worker.times:>{number},} × {pad(_line(worker.name), name)}  {worker.state:<{state}}"
        f"  {last} {_line(error_kind(worker.cause))}"
        for worker in workers
    ]


def _error_lines(group: ErrorGroup, column: int, width: int | None) -> list[str]:
    """Return the kind with its example, on a line of its own where one line would not hold both."""
    kind = f"  {group.workers:>{column},} × {_line(group.kind)}"
    example = f"{'' if group.workers == 1 else 'e.g. '}worker {_line(group.example_worker)}"
    if group.kind != group.example_error:
        example += f": {_line(group.example_error)}"
    if group.example_place:
        example += f", at {_line(group.example_place)}"
    if group.refused:
        whom = "" if group.workers == 1 else f" to {group.refused:,}"
        example += f"; a retry was refused{whom}: {group.refusals}"
    whole = f"{kind}  ({example})"
    if width is None or cells(whole) <= width:
        return [whole]
    return [kind, f"{' ' * (column + 5)}{example}"]


def _line(text: str) -> str:
    return printable(" ".join(text.split()))
