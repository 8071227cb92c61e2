"""A run in another process, for the actions of `ctl`: its state, and requests whose outcome is waited for.

Workers are selected at this end, from a snapshot. Requests carry incarnations, so that a worker which has changed
meanwhile is refused.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from asyncwatch.cli.answer import Answer, ErrorKind, Failure, refusal_kind
from asyncwatch.cli.progress import terminal_columns
from asyncwatch.commands import ChangeSetting, Command, SnapshotPart, Statistics, StopRun, WatchStack, WorkerStack
from asyncwatch.control import client, protocol
from asyncwatch.control.client import ConnectionRefusedByRunError, RunGoneError
from asyncwatch.control.discovery import (
    AmbiguousRunError,
    DiscoveryError,
    EndedRecord,
    RunRecord,
    UnknownRunError,
    await_end,
    select,
)
from asyncwatch.control.protocol import Kind, ProtocolError, Received
from asyncwatch.control.selectors import NoMatchError, SelectorError, select_workers
from asyncwatch.events import SETTINGS, CommandRefused, Event, SettingChanged, WorkerState
from asyncwatch.events.run import block_sentence
from asyncwatch.events.wire import without_surrogates
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.history import AttemptRecord
from asyncwatch.model.reducer import apply, leave
from asyncwatch.model.rows import Row
from asyncwatch.model.snapshot import SnapshotError, SnapshotReader
from asyncwatch.model.summary import Summary, summarize, summary_lines
from asyncwatch.model.view.operations import CANCEL, GIVE_UP, RESTART, RETRY_NOW
from asyncwatch.text import cells, count, crop, duration, format_duration, pad, printable

OPERATIONS = {"cancel": CANCEL, "restart": RESTART, "retry-now": RETRY_NOW, "give-up": GIVE_UP}
"""The actions on workers, by the words of the command line."""
_STATE, _REQUEST = 1, 2
"""Tokens of commands."""
_RECORD_TIMEOUT = 5.0
"""Seconds that a process gets to end and to leave a record after its connection has ended."""
_LATEST_TIMEOUT = 0.5
"""Seconds to wait for the latest events, if a worker blocks the event loop of the run."""
_STACK_TIMEOUT = 2.0
"""Seconds to wait for a stack, which the event loop of the run has to take."""
_FIGURES_TIMEOUT = 1.0
"""Seconds to wait for the statistics of the engine."""

_E = TypeVar("_E", bound=Event)

# -- the run


class _Remote:
    """A connection to a run, with a time limit for all that is waited for.

    Its methods raise a Failure, or a RunGoneError if the connection ends.
    """

    def __init__(self, record: RunRecord, kind: Kind, timeout: float | None) -> None:
        self.fleet = Fleet()
        self.statistics = Statistics()
        self.is_abreast = False
        """Whether any statistics have come."""
        self._timeout = timeout
        self._deadline = math.inf if timeout is None else time.monotonic() + timeout
        self._reader: SnapshotReader | None = None
        self._connection = client.connect(record.socket_path, kind, timeout=min(5.0, self._left()))

    def close(self) -> None:
        self._connection.close()

    def receive(self, until: float = math.inf) -> Received | None:
        """Return the next message; None at the time `until`."""
        try:
            left = min(self._deadline, until) - time.monotonic()
            received = self._connection.receive(None if left == math.inf else max(0.0, left))
        except ConnectionRefusedByRunError as error:
            raise Failure(refusal_kind(error.kind), str(error)) from None
        except ProtocolError as error:
            text = f"the run sent what this version of asyncwatch does not understand: {error}"
            raise Failure(ErrorKind.PROTOCOL, text) from None
        if received is None and time.monotonic() >= self._deadline:
            raise Failure(ErrorKind.TIMEOUT, self._why_late())
        if isinstance(received, protocol.Figures):
            self.statistics, self.is_abreast = received.statistics, True
        return received

    def read_state(self) -> Fleet:
        """Return the state of the run at this moment."""
        self._reader = SnapshotReader()
        until = math.inf
        while True:
            match self.receive(until):
                case SnapshotPart() as part:
                    is_known = self._read(part)
                case tuple() as batch:
                    apply(self.fleet, batch)
                    is_known = True
                case None | protocol.Carried():
                    return self.fleet
                case protocol.Ended():
                    raise RunGoneError
                case _:
                    is_known = False
            if is_known and until == math.inf:
                # What has happened since the snapshot was taken, or the rest of the first events.
                until = time.monotonic() + _LATEST_TIMEOUT
                self._send(token=_STATE)

    def await_events(self) -> None:
        """Wait for the events so far, without reading the state of the run."""
        until = time.monotonic() + _LATEST_TIMEOUT
        self._send(token=_STATE)
        while True:
            match self.receive(until):
                case None | protocol.Carried():
                    return
                case protocol.Ended():
                    raise RunGoneError

    def carry_out(self, commands: Sequence[Command], kind: type[_E]) -> Iterator[_E]:
        """Send commands, and yield the events of a kind that follow, up to the run's answer."""
        last_seq, size = self.fleet.last_seq, protocol.COMMANDS_A_FRAME
        for start in range(0, len(commands), size):
            is_last = start + size >= len(commands)
            self._send(*commands[start : start + size], token=_REQUEST if is_last else 0)
            while True:
                # What has come is read before more is sent: otherwise the run would have to send a snapshot.
                match self.receive(math.inf if is_last else 0.0):
                    case None:
                        break
                    case tuple() as batch if batch:
                        last_seq = batch[-1].seq
                        yield from (event for event in batch if isinstance(event, kind))
                    case SnapshotPart() as part if self._read(part):
                        kept = (*self.fleet.refusals, *self.fleet.settings.history)
                        yield from (event for event in kept if event.seq > last_seq and isinstance(event, kind))
                        last_seq = self.fleet.last_seq
                    case protocol.Carried(token) if token == _REQUEST:
                        return
                    case protocol.Ended():
                        raise RunGoneError

    def read_stack(self, worker: str) -> WorkerStack | None:
        """Return what a worker awaits; None if the event loop of the run does not get to it."""
        self._send(WatchStack(worker))
        until = time.monotonic() + _STACK_TIMEOUT
        stack = None
        with contextlib.suppress(Failure):  # all else of the worker is known
            while (stack is None or stack.worker != worker) and self.receive(until) is not None:
                stack = self.statistics.stack
        return stack

    def read_statistics(self) -> Statistics:
        """Return the statistics of the engine, as far as they come in time."""
        until = time.monotonic() + _FIGURES_TIMEOUT
        with contextlib.suppress(Failure):
            while not self.is_abreast and self.receive(until) is not None:
                pass
        return self.statistics

    def _left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())

    def _read(self, part: SnapshotPart) -> bool:
        """Read a part of a snapshot, and return whether it was the last one."""
        try:
            if self._reader is not None:
                self.fleet = self._reader.read(part)
        except SnapshotError as error:
            raise Failure(ErrorKind.PROTOCOL, f"the state of the run cannot be read: {error}") from None
        return part.is_last

    def _send(self, *commands: Command, token: int = 0) -> None:
        left = self._left()
        self._connection.socket.settimeout(None if left == math.inf else left)
        self._connection.send_commands(commands, token)
        self._connection.socket.settimeout(None)

    def _why_late(self) -> str:
        text = f"the run did not answer within {format_duration(self._timeout)}"
        blocked = self.statistics.blocked
        return text if blocked is None else f"{text}; so far, {block_sentence(blocked)}"


def _find(text: str | None) -> RunRecord | EndedRecord:
    try:
        return select(text)
    except UnknownRunError as error:
        raise Failure(ErrorKind.NO_RUN, str(error)) from None
    except AmbiguousRunError as error:
        raise Failure(ErrorKind.AMBIGUOUS_RUN, str(error)) from None
    except DiscoveryError as error:
        raise Failure(ErrorKind.UNSUPPORTED, str(error)) from None


def _ask(
    text: str | None,
    kind: Kind,
    timeout: float | None,
    ask: Callable[[RunRecord, _Remote], Answer],
    if_ended: Callable[[EndedRecord], Answer],
) -> Answer:
    """Return the answer of `ask` for the run that `text` means, or that of `if_ended` if it has ended meanwhile."""
    record = _find(text)
    if isinstance(record, RunRecord):
        try:
            with contextlib.closing(_Remote(record, kind, timeout)) as remote:
                return ask(record, remote)
        except RunGoneError as error:
            record = await_record(record, str(error))
    return if_ended(record)


def await_record(record: RunRecord, reason: str = "") -> EndedRecord:
    """Return the record of a run whose connection has ended, for this reason if there is one.

    Raises:
        Failure: There is none in time.

    """
    try:
        ended = await_end(record.id, _RECORD_TIMEOUT)
    except UnknownRunError:
        text = f"the process of the run {record.id} has ended, and its exit status is unknown"
        raise Failure(ErrorKind.DIED, text) from None
    except DiscoveryError as problem:
        raise Failure(ErrorKind.UNREACHABLE, str(problem)) from None
    if ended is None:
        text = f"the run {record.id} is alive (PID {record.pid}), and does not take this connection"
        text += f": {reason}" if reason else ""
        raise Failure(ErrorKind.UNREACHABLE, text)
    return ended


def _refuse_ended(record: EndedRecord) -> Answer:
    text = f"the run {record.id} has ended with status {record.status}: nothing can be changed"
    return Answer({"run": _run_fields(record)}, failure=Failure(ErrorKind.ENDED, text))


# -- the actions


def state_of(record: RunRecord, timeout: float | None) -> Fleet:
    """Return the state of a run that is alive, as if it were left at this moment.

    Raises:
        Failure: It does not answer.
        RunGoneError: It has ended, or cannot be reached.

    """
    with contextlib.closing(_Remote(record, Kind.FOLLOWER, timeout)) as remote:
        fleet = remote.read_state()
    leave(fleet, _now(fleet))
    return fleet


def list_workers(run: str | None, selectors: Sequence[str], timeout: float | None) -> Answer:
    """Return the workers that match, or all of them."""

    def ask(record: RunRecord, remote: _Remote) -> Answer:
        fleet = remote.read_state()
        rows = _selected(fleet, selectors) if selectors else fleet.rows
        now = _now(fleet)
        fields = {"run": _run_fields(record), "workers": [_worker_fields(row, now) for row in rows]}
        return Answer(fields, _table(rows, now))

    def show_end(record: EndedRecord) -> Answer:
        answer = end_of(record)
        return answer._replace(fields={**answer.fields, "workers": None}, status=None)

    return _ask(run, Kind.FOLLOWER, timeout, ask, show_end)


def show(run: str | None, worker: str | None, timeout: float | None) -> Answer:
    """Return all that is known of a worker, or of the run."""

    def ask(record: RunRecord, remote: _Remote) -> Answer:
        fleet = remote.read_state()
        if worker is None:
            return _show_run(record, fleet, remote.read_statistics())
        rows = _selected(fleet, [worker])
        if len(rows) > 1:
            text = f"{worker!r} matches {len(rows):,} workers; asyncwatch ctl list names them"
            raise Failure(ErrorKind.AMBIGUOUS_WORKER, text)
        row = rows[0]
        is_active = not row.is_settled or fleet.abandoned_of(row.name)
        stack = remote.read_stack(row.name) if is_active else None
        return _show_worker(record, fleet, row, stack)

    return _ask(run, Kind.FOLLOWER, timeout, ask, lambda record: end_of(record)._replace(status=None))


def act(run: str | None, action: str, selectors: Sequence[str], timeout: float | None, *, is_dry: bool) -> Answer:
    """Carry out one of the `OPERATIONS` on the workers that match; without selectors, on all to which it applies."""
    operation = OPERATIONS[action]

    def ask(record: RunRecord, remote: _Remote) -> Answer:
        fleet = remote.read_state()
        rows = _selected(fleet, selectors) if selectors else [*filter(operation.applies, fleet.rows)]
        if not rows:
            raise Failure(ErrorKind.NO_MATCH, f"there are no workers that {operation.applies_to}")
        request = _Request(fleet, rows, action)
        fields = {"run": _run_fields(record), "action": action, "dry_run": is_dry}
        failure = None
        if not is_dry:
            try:
                request.note(remote.carry_out(request.commands, CommandRefused))
            except Failure as error:
                failure = error
            except RunGoneError:
                failure = Failure(ErrorKind.ENDED, "the run ended before it answered")
        return request.answer(fields, failure, is_dry=is_dry)

    return _ask(run, Kind.FOLLOWER, timeout, ask, _refuse_ended)


def change_setting(run: str | None, name: str, value: Any, key: str, timeout: float | None) -> Answer:
    """Change one of `events.SETTINGS`."""

    def ask(record: RunRecord, remote: _Remote) -> Answer:
        command = ChangeSetting(name, value, key)
        fields: dict[str, Any] = {"run": _run_fields(record)}
        remote.await_events()
        for event in remote.carry_out([command], Event):
            match event:
                case CommandRefused(command="ChangeSetting", reason=reason):
                    return Answer(fields, failure=Failure(ErrorKind.REFUSED, reason))
                case SettingChanged(name=changed, key=of, value=new, previous=previous) if (changed, of) == (name, key):
                    setting = {"name": name, "key": key, "value": new, "previous": previous}
                    subject = f"{name} of {key}" if key else name
                    line = f"{subject}: {value_words(new)} (was {value_words(previous)})"
                    return Answer({**fields, "setting": setting}, [line])
        return Answer(fields, failure=Failure(ErrorKind.REFUSED, "the run does not take requests any more"))

    return _ask(run, Kind.FOLLOWER, timeout, ask, _refuse_ended)


def stop(run: str | None, timeout: float | None, *, at_once: bool) -> Answer:
    """Stop the run, and return when it has begun to stop."""

    def ask(record: RunRecord, remote: _Remote) -> Answer:
        with contextlib.suppress(RunGoneError):  # it has ended already
            for _ in remote.carry_out([StopRun(at_once)], Event):
                pass
        return Answer({"run": _run_fields(record), "at_once": at_once}, [f"{record.id}: stopping"])

    return _ask(run, Kind.ASKER, timeout, ask, _refuse_ended)


def wait(run: str | None, timeout: float | None) -> Answer:
    """Wait for the end of the run."""

    def ask(record: RunRecord, remote: _Remote) -> Answer:
        while True:
            try:
                received = remote.receive()
            except Failure as failure:
                if failure.kind is not ErrorKind.TIMEOUT:
                    raise
                text = f"the run did not end within {format_duration(timeout)}"
                raise Failure(ErrorKind.TIMEOUT, text) from None
            if isinstance(received, protocol.Ended):
                summary = msgspec.msgpack.decode(received.summary)
                run_fields = {**_run_fields(record), "pid": None, "status": received.status}
                return _end(run_fields, record.name, received.status, summary, received.problems)

    return _ask(run, Kind.ASKER, timeout, ask, end_of)


# -- requests about workers


class _Request:
    """An action on workers, and its outcome for each."""

    def __init__(self, fleet: Fleet, rows: Sequence[Row], action: str) -> None:
        tree = fleet.tree
        self._rows = rows
        self._reasons: dict[Row, str] = {}
        """Why workers were refused."""
        self._leaders: dict[Row, Row] = {}
        """Workers that are restarted together with another one."""
        self._also: list[Row] = []
        self._is_answered = False
        requested = rows
        if action == "restart" and tree.is_supervised:
            self._reasons = {row: reason for row in rows if (reason := tree.why_not_restarted(row))}
            requested = tree.to_request(row for row in rows if row not in self._reasons)
            chosen = set(rows)
            for leader in requested:
                for sibling in tree.restarted_with((leader,)):
                    if sibling in chosen:
                        self._leaders.setdefault(sibling, leader)
            self._also = [row for row in tree.restarted_with(requested) if row not in chosen]
            for leader in requested:
                self._leaders.pop(leader, None)
        self.commands = list(OPERATIONS[action].make(requested))
        keys = (_key(command) for command in self.commands)
        self._by_command = dict(zip(keys, requested, strict=True))

    def note(self, refusals: Iterable[CommandRefused]) -> None:
        """Note the refusals up to the run's answer."""
        for event in refusals:
            row = self._by_command.get((event.command, event.worker, event.incarnation))
            if row is not None:
                self._reasons[row] = event.reason
        self._is_answered = True

    def answer(self, fields: dict[str, Any], failure: Failure | None, *, is_dry: bool) -> Answer:
        """Return the outcome for each worker."""
        outcomes = [(row, *self._outcome(row, is_dry=is_dry)) for row in self._rows]
        workers = [
            {"name": row.name, "incarnation": row.incarnation, "outcome": outcome, "reason": reason}
            for row, outcome, reason in outcomes
        ]
        lines = [f"{row.name}: {outcome}" + (f" ({reason})" if reason else "") for row, outcome, reason in outcomes]
        if self._also:
            lines.append(f"also restarted with them: {', '.join(row.name for row in self._also)}")
        refused = sum(outcome == "refused" for _, outcome, _ in outcomes)
        if refused and failure is None:
            text = f"{refused:,} of {count(len(outcomes), 'worker')} refused"
            failure = Failure(ErrorKind.REFUSED, text)
        also = [row.name for row in self._also]
        return Answer({**fields, "workers": workers, "also_restarted": also}, lines, failure)

    def _outcome(self, row: Row, *, is_dry: bool) -> tuple[str, str]:
        leader = self._leaders.get(row)
        reason = self._reasons.get(row) or (self._reasons.get(leader) if leader is not None else "")
        if reason:
            return "refused", reason
        if is_dry:
            return "planned", ""
        return ("done" if self._is_answered else "unknown"), ""


def _key(command: Any) -> tuple[str, str, int]:
    return type(command).__name__, command.worker, command.incarnation


def _selected(fleet: Fleet, selectors: Sequence[str]) -> list[Row]:
    try:
        return select_workers(fleet, selectors)
    except SelectorError as error:
        raise Failure(ErrorKind.USAGE, str(error)) from None
    except NoMatchError as error:
        raise Failure(ErrorKind.NO_MATCH, str(error)) from None


# -- JSON


def _run_fields(record: RunRecord | EndedRecord) -> dict[str, Any]:
    fields = {
        "id": record.id,
        "name": record.name,
        "folder": record.folder,
        "command": record.command,
        "started": round(record.started, 3),
        "pid": record.pid if isinstance(record, RunRecord) else None,
        "status": record.status if isinstance(record, EndedRecord) else None,
    }
    shown: dict[str, Any] = without_surrogates(fields)
    return shown


def _worker_fields(row: Row, now: float) -> dict[str, Any]:
    return {
        "name": row.name,
        "group": row.group,
        "state": row.state.value,
        "attempt": row.attempt,
        "max_attempts": row.max_attempts,
        "retries": row.retries,
        "bad_luck": row.bad_luck,
        "result": row.result,
        "error": row.error or None,
        "progress": None if row.progress is None else dict(zip(("done", "total", "unit"), row.progress, strict=True)),
        "status": row.status or None,
        "elapsed": None if (seconds := row.elapsed(now)) is None else round(seconds, 6),
        "incarnation": row.incarnation,
    }


def _now(fleet: Fleet) -> float:
    """Return the seconds since the run started."""
    if fleet.run is None or fleet.finished is not None:
        return fleet.end
    return max(fleet.latest, time.time() - fleet.run.started_at)


# -- text


def _table(rows: Sequence[Row], now: float) -> list[str]:
    heads = ("NAME", "GROUP", "STATE", "ATTEMPT", "RETRIES", "LUCK", "ELAPSED", "RESULT OR ERROR")
    table = [heads]
    for row in rows:
        luck, seconds = row.bad_luck, row.elapsed(now)
        table.append(
            (
                printable(row.name),
                printable(row.group),
                row.state,
                str(row.attempt),
                str(row.retries),
                "" if luck is None else f"{luck:.4f}",
                "" if seconds is None else duration(seconds),
                printable(row.report or row.error or row.result or ""),
            )
        )
    widths = [max(map(cells, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(pad(cell, width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in table]
    width = terminal_columns(sys.stdout)
    return lines if width is None else [crop(line, width) for line in lines]


def end_of(record: EndedRecord) -> Answer:
    """Return how a run has ended."""
    return _end(_run_fields(record), record.name, record.status, record.summary, ())


def _end(run: dict[str, Any], name: str, status: int, summary: Any, problems: Sequence[str]) -> Answer:
    """Return how a run has ended. `summary` is that of the run as plain data; another version may have written it."""
    try:
        lines = summary_lines(msgspec.convert(summary, Summary), terminal_columns(sys.stdout))
    except msgspec.ValidationError:
        lines = [f"{name}: ended with status {status}"]
    return Answer(
        {"run": run, "status": status, "problems": list(problems), "summary": summary},
        lines,
        status=status,
        notes=problems,
    )


def _show_run(record: RunRecord, fleet: Fleet, statistics: Statistics) -> Answer:
    leave(fleet, _now(fleet))
    summary = summarize(fleet)
    settings = {name: fleet.settings.value(name) for name in SETTINGS}
    blocked = None if statistics.blocked is None else block_sentence(statistics.blocked)
    now = _now(fleet)
    flapping = [row.name for row in fleet.rows_of(fleet.restarts.flaps_until) if fleet.is_flapping(row, now)]
    fields = {
        "run": _run_fields(record),
        "status": None,
        "problems": [],
        "summary": msgspec.to_builtins(summary),
        "settings": settings,
        "flapping": flapping,
        "clients": statistics.viewers,
        "blocked": blocked,
    }
    lines = [
        f"{record.id}  PID {record.pid}, {count(statistics.viewers, 'dashboard')}",
        *summary_lines(dataclasses.replace(summary, is_interrupted=False), terminal_columns(sys.stdout)),
        "",
        ", ".join(f"{name} {value_words(value)}" for name, value in settings.items()),
        *([f"flapping: {', '.join(map(printable, flapping))}"] if flapping else []),
        *([blocked] if blocked else []),
    ]
    return Answer(fields, lines)


def _show_worker(record: RunRecord, fleet: Fleet, row: Row, stack: WorkerStack | None) -> Answer:
    now, name = _now(fleet), row.name
    attempts, logs, traceback = fleet.history(name), fleet.logs_of(name), fleet.stack(name)
    history = fleet.restarts.by_worker.get(name)
    crashes = [] if history is None else history.crashes
    more: dict[str, Any] = {
        "error_class": row.error_class or None,
        "held_by": fleet.held_by(row) or None,
        "next_attempt_in": max(0.0, row.retry_at - now) if row.retry_at is not None else None,
        "refusal": row.refusal or None,
        "cancelled_by": fleet.cancel_reason(name) or None,
        "host": fleet.hosts.by_worker.get(name),
        "attempts": [msgspec.structs.asdict(attempt) for attempt in attempts],
        "attempts_left_out": fleet.attempts_left_out(name),
        "is_flapping": fleet.is_flapping(row, now),
        "crashes": [msgspec.structs.asdict(crash) for crash in crashes],
        "traceback": traceback or None,
        "logs": [{"at": log.at, "level": log.level, "logger": log.logger, "message": log.message} for log in logs],
        "stack": None if stack is None else [msgspec.structs.asdict(frame) for frame in stack.frames],
        "is_blocking": stack is not None and stack.is_blocking,
    }
    worker = {**_worker_fields(row, now), **more}
    facts = {
        "state": row.state.value,
        "group": row.group,
        "incarnation": str(row.incarnation),
        "attempt": f"{row.attempt} of {row.max_attempts}",
        "elapsed": "" if worker["elapsed"] is None else duration(worker["elapsed"]),
        "host": printable(more["host"] or ""),
        "health": "flapping" if more["is_flapping"] else "",
        "last crash": f"{crashes[-1].cause} ({duration(now - crashes[-1].at)} ago)" if crashes else "",
        "waits for": more["held_by"],
        "next attempt in": "" if more["next_attempt_in"] is None else duration(more["next_attempt_in"]),
        "cancelled by": more["cancelled_by"],
        "progress": row.last_report,
        "result": row.result,
        "error": row.error,
        "no retry": row.refusal,
    }
    lines = [name, *(f"  {label:<16}{text}" for label, text in facts.items() if text)]
    sections = {
        "attempts": [_attempt_line(attempt) for attempt in attempts],
        "traceback": traceback.splitlines(),
        "stack": [f"{frame.file}:{frame.line} {frame.function}: {frame.text}" for frame in stack.frames]
        if stack is not None
        else [],
        "log": [f"{log.at:9.3f}  {log.level:<8}  {part}" for log in logs for part in log.message.splitlines()],
    }
    for title, section in sections.items():
        if section:
            lines += ["", title, *(f"  {line}" for line in section)]
    return Answer({"run": _run_fields(record), "worker": worker}, lines)


def _attempt_line(attempt: AttemptRecord) -> str:
    taken = "" if attempt.duration is None else duration(attempt.duration)
    backoff = "" if attempt.backoff is None else f"; then a wait of {duration(attempt.backoff)}"
    number = f"{attempt.incarnation}.{attempt.attempt}"
    return f"{number:<5}at {attempt.started_at:.3f}  {taken:>8}  {attempt.outcome or WorkerState.RUNNING}{backoff}"


def value_words(value: object) -> str:
    """Return the value of a setting in words."""
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case _:
            return str(value)
