"""The summary of a run: its figures (`summarize`), and their text (`summary_lines`). Pure."""

from __future__ import annotations

import heapq
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from operator import itemgetter

from asyncwatch.events import FAILURES, STOPPED, WorkerState
from asyncwatch.events.run import recording_sentence
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.history import FailedWorkers
from asyncwatch.model.limits import learned_rates
from asyncwatch.model.rows import Row, blocks_of
from asyncwatch.model.view import columns
from asyncwatch.model.view.groups import cluster_key
from asyncwatch.text import cells, count, crop, duration, error_kind, pad, printable


@dataclass(frozen=True, slots=True)
class ErrorGroup:
    """The workers that failed or were exhausted with one kind of error, and the first of them as an example."""

    kind: str
    workers: int
    example_worker: str
    example_error: str
    example_place: str
    """`jobs.py:3 fetch`, where that error was raised; empty if unknown."""
    refused: int
    """Workers that were refused a retry although attempts were left."""
    refusals: str
    """The reasons: `retry budget, deadline`."""


@dataclass(frozen=True, slots=True)
class SlowWorker:
    """One of the slowest workers; `elapsed` is in seconds."""

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


@dataclass(frozen=True, slots=True)
class ThrottledKey:
    """A key that asked for fewer attempts, how many it refused, and what was learned.

    `rate` is in starts per second, `tolerated` the share that is refused at any rate; None for none.
    """

    key: str
    refused: int
    rate: float | None
    tolerated: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """A run in figures."""

    run: str
    runner: str
    seed: int | None
    workers: int
    counts: dict[WorkerState, int]
    """Workers by state, without empty states."""
    attempts: int
    elapsed: float
    """Seconds until the last worker settled; if one is still active, until the last event, or until the client left."""
    is_interrupted: bool
    """Whether the run was stopped, or left before its last event."""
    is_hurried: bool
    """Whether its workers were stopped without a grace period."""
    slowest: tuple[SlowWorker, ...]
    """Without services, which are meant to run forever, and without workers that were stopped."""
    abandoned: tuple[str, ...]
    """`worker: place` of each incarnation that swallowed its cancellation and is still running."""
    timed_out: tuple[str, ...]
    """The names of the workers that had started and not ended when their time was over."""
    restarts: int
    """All restarts."""
    restarts_asked_for: int
    """Restarts by a person, with a sibling or with a supervisor."""
    restarted: tuple[TroubledService, ...]
    """The workers with the most other restarts."""
    throttled: int
    """Attempts that were throttled, and waited for their key."""
    throttled_keys: tuple[ThrottledKey, ...]
    """The keys with the most of them."""
    failed_polls: int
    polling: tuple[TroubledService, ...]
    """The pollers with the most failed polls."""
    errors: tuple[ErrorGroup, ...]
    """The largest group first."""
    done_before: int = 0
    """Items that had succeeded before, in a run that was resumed."""
    not_recorded: str = ""
    """Since when and why the run is not recorded; empty if it is, or was not meant to be."""
    not_started: int = 0
    """Workers that were cancelled or timed out before their first attempt."""
    lost_results: int = 0
    """Workers that succeeded with a result that JSON cannot hold. A resume runs them again."""

    @property
    def failed(self) -> int:
        """Workers that ended without success by themselves, or by the time limit of the run."""
        return sum(self.counts.get(state, 0) for state in (*FAILURES, WorkerState.TIMED_OUT))


SLOWEST = 5
"""Slow workers of a summary."""


def summarize(fleet: Fleet, slowest: int = SLOWEST, restarted: int = 20) -> Summary:
    """Return the summary of the run so far, with at most `slowest` slow workers and `restarted` restarted ones."""
    run, finished = fleet.run, fleet.finished
    restarts = ((name, known.times, known.cause) for name, known in fleet.restarts.by_worker.items() if known.times)
    polls = ((name, failed.times, failed.error) for name, failed in fleet.polls.by_worker.items())
    return Summary(
        run=run.run if run else "",
        runner=run.runner if run else "",
        seed=run.seed if run and not fleet.is_observed else None,
        workers=fleet.workers,
        counts={state: number for state, number in fleet.counts.items() if number},
        attempts=fleet.attempts,
        elapsed=fleet.end,
        is_interrupted=finished is None or finished.interrupted,
        is_hurried=fleet.cancel_requested is not None and fleet.cancel_requested.reason == "at once",
        slowest=_slowest(fleet, slowest),
        abandoned=tuple(
            f"{each.event.worker}: {each.event.stack or 'an unknown place'}"
            for each in fleet.abandoned_incarnations.values()
        ),
        timed_out=tuple(row.name for row in _rows_in(fleet, {WorkerState.TIMED_OUT}) if not row.has_never_started),
        restarts=fleet.restarts.total,
        restarts_asked_for=fleet.restarts.asked_for,
        restarted=_most_troubled(fleet, restarts, restarted),
        throttled=fleet.keys.refused,
        throttled_keys=_most_throttled(fleet),
        failed_polls=fleet.polls.failed,
        polling=_most_troubled(fleet, polls, restarted),
        errors=_errors(fleet),
        done_before=run.done_before if run else 0,
        not_recorded="" if fleet.not_recorded is None else recording_sentence(fleet.not_recorded),
        not_started=sum(
            row.has_never_started for row in _rows_in(fleet, {WorkerState.TIMED_OUT, WorkerState.CANCELLED})
        ),
        lost_results=fleet.lost_results,
    )


def _slowest(fleet: Fleet, number: int) -> tuple[SlowWorker, ...]:
    services = {path for path, branch in fleet.tree.branches.items() if branch.is_supervisor}
    slowest = heapq.nlargest(number, _timed(fleet, services), key=itemgetter(0))
    return tuple(SlowWorker(row.name, row.state, seconds, row.attempt) for seconds, row in slowest)


def _timed(fleet: Fleet, services: set[str]) -> Iterator[tuple[float, Row]]:
    """Yield the elapsed seconds of each worker that has started, without stopped ones and services."""
    for block, place in blocks_of(fleet.rows):
        if block.started and block.group not in services:
            rows = fleet.rows[place]
            for seconds, row in zip(columns.elapsed(rows, fleet.end, _NOT_STARTED), rows, strict=True):
                if seconds >= 0 and row.state not in STOPPED:
                    yield seconds, row


def _rows_in(fleet: Fleet, states: Collection[WorkerState]) -> Iterator[Row]:
    """Yield the rows in one of these states; most runs have none, and many rows."""
    if any(fleet.counts[state] for state in states):
        yield from (row for row in fleet.rows if row.state in states)


def _most_troubled(fleet: Fleet, known: Iterable[tuple[str, int, str]], number: int) -> tuple[TroubledService, ...]:
    """Return the `number` workers with the most `times` in `known`, which has (name, times, cause)."""
    most = heapq.nlargest(number, known, key=lambda item: item[1])
    rows = ((fleet.get(name), times, cause) for name, times, cause in most)
    return tuple(TroubledService(row.name, row.state, times, cause) for row, times, cause in rows if row is not None)


def _most_throttled(fleet: Fleet) -> tuple[ThrottledKey, ...]:
    throttled = (known for known in fleet.keys.by_key.values() if known.refused)
    most = heapq.nlargest(_KEYS_SHOWN, throttled, key=lambda known: known.refused)
    return tuple(ThrottledKey(known.key, known.refused, known.rate, known.tolerated) for known in most)


def _errors(fleet: Fleet) -> tuple[ErrorGroup, ...]:
    by_kind: dict[str, FailedWorkers] = {}
    kinds: dict[str, str] = {}
    for row in _rows_in(fleet, FAILURES):
        error = row.error
        kind = kinds.get(error)
        if kind is None:
            kind = kinds[error] = error_kind(error)
        failed = by_kind.get(kind)
        if failed is None:
            failed = by_kind[kind] = FailedWorkers(row, Counter())
        failed.workers += 1
        if row.refusal:
            failed.refusals[row.refusal] += 1
    for kind, replaced in fleet.departed.errors.items():
        failed = by_kind.setdefault(kind, FailedWorkers(replaced.example, Counter()))
        failed.workers += replaced.workers
        failed.refusals += replaced.refusals
    groups = (
        ErrorGroup(
            kind=kind,
            workers=failed.workers,
            example_worker=failed.example.name,
            example_error=failed.example.error,
            example_place=_place(failed.example, fleet.stack),
            refused=failed.refusals.total(),
            refusals=", ".join(sorted(_REFUSALS.get(reason, reason) for reason in failed.refusals)),
        )
        for kind, failed in by_kind.items()
    )
    return tuple(sorted(groups, key=lambda group: (-group.workers, group.kind)))


def _place(row: Row, stack_of: Callable[[str], str]) -> str:
    """Return where the row's error was raised, with the bare name of the file."""
    key = cluster_key(row, stack_of)
    return "" if key is None else key[1].rpartition("/")[2]


# -- text

_NOT_STARTED = -1.0
_LEAST_WIDTH = 20
_LEAST_NAME = 12
_ABANDONED_SHOWN = 20
_TIMED_OUT_SHOWN = 50
_KEYS_SHOWN = 5
_ERROR_LINES = 12
"""Lines of an error that is wrapped, at most."""
_REFUSALS = {"patience": "throttled for too long"}
"""Reasons of a refused retry that need other words."""


def counts_text(counts: dict[WorkerState, int]) -> str:
    """Return `12 succeeded, 1 failed`: the states that occur, in the order of `WorkerState`."""
    return ", ".join(f"{counts[state]:,} {state}" for state in WorkerState if counts.get(state))


def summary_lines(summary: Summary, width: int | None = None) -> list[str]:
    """Return the summary as lines of printable text without line endings.

    No line is longer than `width`, if it is given (the cells of a terminal).
    """
    attempts = count(summary.attempts, "attempt")
    if summary.restarts:
        attempts += f", {count(summary.restarts, 'restart')}"
    if summary.failed_polls:
        attempts += f", {count(summary.failed_polls, 'failed poll')}"
    title = _line(summary.run) or "run"
    if summary.seed is not None:
        title += f" ({summary.runner}, seed {summary.seed})"
    if summary.is_interrupted and not summary.attempts:
        title += " stopped before its first attempt: "
    else:
        title += " interrupted twice: " if summary.is_hurried else " interrupted: " if summary.is_interrupted else ": "
    before = f", {summary.done_before:,} done before" if summary.done_before else ""
    early = f" ({summary.not_started:,} not started)" if summary.not_started else ""
    title += f"{counts_text(summary.counts) or 'no workers'}{early}{before}; {attempts} in {duration(summary.elapsed)}"
    lines = [title] if width is None else _wrapped(title, width)
    if summary.not_recorded:
        lines += [summary.not_recorded] if width is None else _wrapped(summary.not_recorded, width)
    if summary.throttled:
        lines += ["", *_throttled_lines(summary, width)]
    if number := len(summary.abandoned):
        why = "the run was stopped at once" if summary.is_hurried else "cancelled, still running"
        lines += ["", f"{number:,} abandoned: {why}"]
        lines += [f"  {_line(each)}" for each in summary.abandoned[:_ABANDONED_SHOWN]]
        lines += [f"  and {number - _ABANDONED_SHOWN:,} more"] if number > _ABANDONED_SHOWN else []
    if summary.timed_out:
        lines += ["", "timed out", *_name_lines(summary.timed_out, width)]
    if summary.slowest:
        lines += ["", "slowest", *_slowest_lines(summary.slowest, width)]
    if summary.restarted:
        lines += ["", "restarts", *_troubled_lines(summary.restarted, "last after")]
        others = summary.restarts - summary.restarts_asked_for - sum(worker.times for worker in summary.restarted)
        lines += [f"  and {others:,} of other workers"] if others else []
        asked_for = summary.restarts_asked_for
        lines += [f"  and {asked_for:,} by hand, with another worker or with a supervisor"] if asked_for else []
    if summary.polling:
        lines += ["", "failed polls", *_troubled_lines(summary.polling, "last with")]
        others = summary.failed_polls - sum(worker.times for worker in summary.polling)
        lines += [f"  and {others:,} of other workers"] if others else []
    if summary.errors:
        lines += ["", "errors"]
        column = max(len(f"{group.workers:,}") for group in summary.errors)
        for group in summary.errors:
            lines += _error_lines(group, column, width)
    return lines if width is None else [crop(line, width) for line in lines]


def _throttled_lines(summary: Summary, width: int | None) -> list[str]:
    """Return `340 attempts were throttled: a.example 300 (7/s learned), b.example 40`."""
    keys = []
    for known in summary.throttled_keys:
        facts = ", ".join(filter(None, learned_rates(known.rate, known.tolerated)))
        keys.append(f"{_line(known.key)} {known.refused:,}" + (f" ({facts})" if facts else ""))
    others = summary.throttled - sum(known.refused for known in summary.throttled_keys)
    keys += [f"others {others:,}"] if others else []
    was = "was" if summary.throttled == 1 else "were"
    text = f"{count(summary.throttled, 'attempt')} {was} throttled: {', '.join(keys)}"
    return [text] if width is None else _wrapped(text, width)


def _wrapped(text: str, width: int) -> list[str]:
    """Wrap the text, but never between a number and its word."""
    tied = re.sub(r"(?<=\d) (?=[a-z])", "\xa0", text)
    lines = textwrap.wrap(tied, max(width, _LEAST_WIDTH), subsequent_indent="  ")
    return [line.replace("\xa0", " ") for line in lines]


def _name_lines(names: tuple[str, ...], width: int | None) -> list[str]:
    """Return the names, separated by commas, and how many more there are."""
    more = len(names) - _TIMED_OUT_SHOWN
    text = ", ".join(map(_line, names[:_TIMED_OUT_SHOWN])) + (f" and {more:,} more" if more > 0 else "")
    if width is None:
        return [f"  {text}"]
    return textwrap.wrap(text, max(width, _LEAST_WIDTH), initial_indent="  ", subsequent_indent="  ")


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
    indent = " " * (column + 5)
    return [*_folded(kind, width, indent), *_folded(indent + example, width, indent)]


def _folded(text: str, width: int, indent: str) -> list[str]:
    """Wrap an error, which can be longer than a terminal is wide, so that it is read whole in scrollback."""
    lines = textwrap.wrap(
        text.lstrip(), max(width, _LEAST_WIDTH), initial_indent=_margin(text), subsequent_indent=indent
    )
    return lines if len(lines) <= _ERROR_LINES else [*lines[: _ERROR_LINES - 1], f"{indent}…"]


def _margin(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def _line(text: str) -> str:
    return printable(" ".join(text.split()))
