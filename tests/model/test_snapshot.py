"""Snapshots: a Fleet that is read from the parts equals the one that they were taken of, at that moment."""

from __future__ import annotations

import contextlib
import gc
import itertools
import math
import struct
import zlib
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncwatch.commands import SnapshotPart
from asyncwatch.events import (
    SETTINGS,
    AttemptFailed,
    AttemptHeld,
    AttemptPlaced,
    AttemptStarted,
    CancelRequested,
    ChildRemoved,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    CircuitProbed,
    CommandRefused,
    Event,
    HostFigures,
    HostJoined,
    HostLost,
    HostsReported,
    ItemsRead,
    KeyLimitChanged,
    KeyThrottled,
    LineHeld,
    LogRecorded,
    LoopBlocked,
    NestedRetriesFound,
    PollFailed,
    PollFinished,
    ProgressReported,
    RecordingFailed,
    RestartCounted,
    RestartLimitReached,
    RestartScheduled,
    RetryRefused,
    RetryScheduled,
    RunCancelRequested,
    RunFinished,
    RunHalted,
    RunStarted,
    RunTimedOut,
    SettingChanged,
    SupervisorStarted,
    SupervisorTerminated,
    WorkerCancelled,
    WorkerExhausted,
    WorkerFailed,
    WorkerReady,
    WorkerRestarted,
    WorkersQueued,
    WorkerSucceeded,
    WorkerUnresponsive,
)
from asyncwatch.events.wire import event_types
from asyncwatch.model import snapshot
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.limits import Keys, hold_ups
from asyncwatch.model.reducer import apply, leave
from asyncwatch.model.rows import BLOCK, Block, Row
from asyncwatch.model.snapshot import Snapshot, SnapshotError, SnapshotReader
from asyncwatch.model.summary import summarize
from asyncwatch.model.tree import Branch
from asyncwatch.model.view.filter import parse_query
from asyncwatch.model.view.selection import View
from asyncwatch.policies.restart import Flapping
from tests.engine.test_scheduler_properties import Step, fleets, run_fleet, steps
from tests.model.stream import Stream, ended, failed

UNORDERED = {"by_name", "stacks", "cancel_reasons", "cancel_requested_at", "attempt_history._records"}
"""Mappings that are only looked up by worker."""
UNTAKEN = {"departed.keepers"}
"""State of this process."""


def fields_of(value: Any) -> dict[str, Any]:
    """Return all attributes of an object, by name."""
    names = list(getattr(value, "__struct_fields__", ()))
    names += [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    return {name: getattr(value, name) for name in names} | dict(getattr(value, "__dict__", {}))


class Comparison:
    """Compares two objects by all that they hold, and by which of their objects are the same one."""

    def __init__(self) -> None:
        self._pairs: dict[int, int] = {}
        self._alive: list[Any] = []

    def same(self, left: Any, right: Any, path: str = "") -> None:
        assert type(left) is type(right), path
        if isinstance(left, float):
            assert left == right or (math.isnan(left) and math.isnan(right)), (path, left, right)
        elif isinstance(left, (set, str, int, bytes, bytearray, type(None), array)):
            assert left == right, (path, left, right)
        elif isinstance(left, dict) and path in UNORDERED:
            assert left.keys() == right.keys(), path
            for key in left:
                self.same(left[key], right[key], f"{path}[{key!r}]")
        elif isinstance(left, dict):
            self.same(list(left.items()), list(right.items()), path)
        elif isinstance(left, (list, deque, tuple)):
            assert len(left) == len(right), (path, left, right)
            assert getattr(left, "maxlen", None) == getattr(right, "maxlen", None), path
            for number, pair in enumerate(zip(left, right, strict=True)):
                self.same(*pair, f"{path}[{number}]")
        else:
            self._same_object(left, right, path)

    def _same_object(self, left: Any, right: Any, path: str) -> None:
        config = getattr(left, "__struct_config__", None)
        if config is None or not config.frozen:
            assert self._pairs.get(id(left), id(right)) == id(right), f"{path} is another object"
            if id(left) in self._pairs:
                return
            self._pairs[id(left)] = id(right)
            self._alive += [left, right]
        ours, theirs = self._fields(left), self._fields(right)
        assert ours.keys() == theirs.keys(), path
        for name in ours:
            below = f"{path}.{name}".lstrip(".")
            if below not in UNTAKEN:
                self.same(ours[name], theirs[name], below)

    def _fields(self, value: Any) -> dict[str, Any]:
        fields = fields_of(value)
        if isinstance(value, Row):
            del fields["version"]
        elif isinstance(value, Block):
            # An empty column is one without a known number.
            fields |= {name: list(fields[name] or value.column()) for name in ("lucks", "started", "ended")}
            del fields["has_extras"]  # whether it had one is not taken
        elif isinstance(value, Branch):
            # Both depend on how the events came in batches.
            del fields["version"]
            fields["counts"] = sorted((state, number) for state, number in value.counts.items() if number)
        elif isinstance(value, Keys):
            fields["_waiting"] = {reason: keys for reason, keys in value._waiting.items() if keys}
        return fields


def assert_same(left: Fleet, right: Fleet) -> None:
    """Check that two Fleets answer every question alike. Versions of rows are of one process."""
    Comparison().same(left, right)
    assert summarize(left) == summarize(right)
    assert {row.name for row in right.rows if row.extra} <= {row.name for row in right.notable()}


def read(parts: Iterator[SnapshotPart]) -> Fleet:
    """Return the Fleet of all parts."""
    reader, fleet = SnapshotReader(), Fleet()
    for part in parts:
        fleet = reader.read(part)
    return fleet


def copied(fleet: Fleet) -> Fleet:
    """Return the Fleet as another process reads it."""
    return read(Snapshot(fleet).parts())


def smallest_parts() -> Any:
    """Let every record be a part, with one or two items."""
    return patch.multiple(snapshot, PART_SIZE=1, _ITEMS=2, _ITEMS_WITH_RINGS=1)


# -- random events of all kinds

WORKERS = ("a", "b", "c", "pool/0", "pool/1", "pool/2", "pool/3")
BRANCHES = ("root", "root/pool", "root/sub")
FIELDS: dict[str, Sequence[Any]] = {
    "host": ("h:1", "h:2"),
    "hosts": ((), (HostFigures("h:1", 3, 9.5, 1_000, 0.25, 0.5),)),
    "slots": (1, 4),
    "pid": (11,),
    "attempt": (1, 1, 2, 3),
    "attempts": (0, 1, 4),
    "auto_shutdown": ("never", "any_significant"),
    "bad_luck": (0.25, 0.5),
    "began": (0.0, 0.3, 1.5),
    "call": ("sleep",),
    "cancels": (1,),
    "cause": ("OSError: x", "worker"),
    "child": ("0", "1", "2", "sub", "pool", "a"),
    "command": ("CancelWorker",),
    "concurrency": (5,),
    "delay": (0.5, 0.0),
    "done": (None, 3, 0.5),
    "duration": (0.2, 0.1, 0.7),
    "elapsed": (0.0, 0.3, 20.0),
    "error": ("boom", "", "no such host"),
    "error_class": ("", "server", "throttled"),
    "error_type": ("OSError", "ValueError"),
    "failures": (0, 1, 2),
    "file": ("jobs.py",),
    "flapping": (None, Flapping(per_minute=0)),
    "free": (0, 1),
    "function": ("fetch",),
    "group": ("", "late"),
    "in_flight": (1, 4),
    "incarnation": (1, 1, 1, 1, 2, 3),
    "injected": (False, False, True),
    "interrupted": (False, True),
    "is_asked_for": (False, True),
    "is_throttled": (False, True),
    "is_undo": (False, True),
    "key": ("", "h", "i"),
    "latency": (0.0, 0.0, 0.5),
    "level": ("INFO",),
    "library": ("tenacity",),
    "limit": (None, 2),
    "line": (0, 3),
    "logger": ("jobs",),
    "max_attempts": (0, 3),
    "max_restarts": (1, 3),
    "message": ("hello", "x" * 300),
    "mode": ("soon",),
    "name": BRANCHES,
    "paused": (False, True),
    "parent": ("root",),
    "pending": (3,),
    "previous": (None, 5, "7/s"),
    "probes": (2,),
    "rate": (None, 7.0),
    "rate_per_key": (None,),
    "reads_items": (False, True),
    "done_before": (0, 81_204),
    "reason": ("place", "rate", "circuit", "throttled", "paused", "person"),
    "refusal": ("", "deadline"),
    "refused": (1, 2, 5),
    "restarts": (1, 2),
    "result": (None, 200, "text", {"a": [1, "b"]}),
    "retry_after": (None, 2.0),
    "rows_kept": (None, 1),
    "run": ("demo",),
    "runner": ("gather",),
    "seconds": (None, 2.0),
    "seed": (7,),
    "stack": ("", "  File x", "  File y"),
    "started_at": (0.0,),
    "states": ({"succeeded": 1},),
    "stopped": (1,),
    "strategy": ("one_for_one", "simple_one_for_one", "rest_for_one"),
    "supervisor": BRANCHES,
    "target": ("fetch",),
    "timeout": (None, 3.0),
    "tolerated": (None, 0.25),
    "is_repr": (msgspec.UNSET, True),
    "since": (2.5,),
    "transient": (True, False),
    "under_way": (0, 1),
    "total": (None, 10),
    "unit": ("", "page"),
    "status": ("", "waiting"),
    "value": (None, 5, "7/s"),
    "within": (5.0,),
    "worker": WORKERS,
    "workers": (8,),
}
"""Values of the fields of all events."""
OWN: dict[tuple[type[Event], str], Sequence[Any]] = {
    (RunStarted, "rate"): (None, "7/s"),
    (RunStarted, "timeout"): (None, 9.0),
    (RunStarted, "bad_luck"): (None, 0.5),
    (RunTimedOut, "timeout"): (3.0,),
    (CircuitOpened, "seconds"): (2.0,),
    (LogRecorded, "worker"): (None, "a"),
    (SettingChanged, "name"): tuple(SETTINGS),
}
ERROR: dict[str, Any] = {"error_type": "OSError", "error": "boom"}
COMMON = (WorkersQueued, ChildRemoved, AttemptStarted, AttemptFailed, WorkerSucceeded, WorkerFailed, WorkerCancelled)
"""Drawn as often as all others together."""


choices = st.randoms(use_true_random=False)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Events of any kind about any worker, mostly in an order that no run would emit."""
    stream = Stream(*WORKERS[:2])
    if draw(st.booleans()):
        for name in BRANCHES:
            strategy = "simple_one_for_one" if name == "root/pool" else "one_for_one"
            tree: dict[str, Any] = {"parent": "root", "max_restarts": 3, "within": 5.0, "auto_shutdown": "never"}
            stream.add(SupervisorStarted, name=name, strategy=strategy, **tree)
    kinds = sorted(event_types(), key=str)
    drawn: st.SearchStrategy[type[Event]] = st.one_of(st.sampled_from(kinds), st.sampled_from(COMMON))
    for kind, choice in draw(st.lists(st.tuples(drawn, choices), min_size=20, max_size=50)):
        if kind is WorkersQueued and choice.random() < 0.2:
            stream.add(kind, group="late", max_attempts=3, workers=WORKERS[:3])
            continue
        if kind is WorkersQueued:
            number = choice.randrange(8)
            stream.add(kind, group="root/pool", max_attempts=3, workers=(f"pool/{number}",))
            if choice.random() < 0.5:
                # A child that comes and goes.
                if choice.random() < 0.5:
                    stream.add(AttemptStarted, f"pool/{number}", attempt=1, bad_luck=0.5)
                    stream.add(AttemptFailed, f"pool/{number}", **failed())
                stream.add(choice.choice((WorkerFailed, WorkerCancelled)), f"pool/{number}", **ended(**ERROR))
                stream.add(ChildRemoved, supervisor="root/pool", child=str(number))
            continue
        names = [name for name in kind.__struct_fields__ if name not in {"seq", "at"}]
        values = {name: choice.choice(OWN.get((kind, name), FIELDS.get(name, ()))) for name in names}
        stream.events.append(kind(seq=len(stream.events), at=stream.now, **values))
    return stream.events


@settings(max_examples=100)
@given(histories(), choices)
def test_snapshot_of_any_run_is_its_state_at_one_moment_while_the_run_goes_on(
    events: list[Event], choice: Random
) -> None:
    moment = choice.randint(0, len(events) * 2 // 3)
    expected, fleet = (Fleet(departed_kept=1, troubled_departed_kept=2) for _ in range(2))
    apply(expected, events[:moment])
    apply(fleet, events[:moment])
    rest = events[moment:]
    reader, other = SnapshotReader(), Fleet()
    with smallest_parts():
        taken = Snapshot(fleet)
        for part in taken.parts():
            assert not taken.is_complete or part.is_last
            other = reader.read(part)
            batch = [rest.pop(0) for _ in range(min(choice.choice((0, 0, 0, 1, 3)), len(rest)))]
            taken.before(batch)
            apply(fleet, batch)
    assert taken.is_complete
    assert_same(expected, other)
    apply(fleet, rest)
    apply(other, events)
    assert_same(fleet, other)


@settings(max_examples=50)
@given(histories(), choices)
def test_snapshots_of_several_moments_are_taken_at_the_same_time(events: list[Event], choice: Random) -> None:
    fleet = Fleet(departed_kept=1, troubled_departed_kept=2)
    moments = [choice.randint(0, len(events)) for _ in range(3)]
    taken: list[tuple[int, Snapshot, Iterator[SnapshotPart], list[SnapshotPart]]] = []
    with smallest_parts():
        for number in range(len(events) + 1):
            for _ in range(moments.count(number)):
                each = Snapshot(fleet)
                taken.append((number, each, each.parts(), []))
            for _, each, left, parts in taken:
                parts.extend(itertools.islice(left, choice.randint(0, 9)))
                each.before(events[number : number + 1])
            apply(fleet, events[number : number + 1])
        for moment, _, left, parts in taken:
            expected = Fleet(departed_kept=1, troubled_departed_kept=2)
            apply(expected, events[:moment])
            assert_same(expected, read(itertools.chain(parts, left)))
    assert not fleet.departed.keepers


@given(fleets, st.lists(steps, min_size=8, max_size=25), choices)
@settings(max_examples=20)
def test_snapshot_of_a_real_run_is_its_state_at_one_moment(
    fleet: dict[str, Any], script: list[Step], choice: Random
) -> None:
    _, events = run_fleet(fleet, script)
    moment = choice.randint(0, len(events))
    original = Fleet()
    apply(original, events[:moment])
    other = copied(original)
    assert_same(original, other)
    apply(original, events[moment:])
    apply(other, events)
    assert_same(original, other)


# -- all that there is


def rich_run() -> Stream:
    """A run in which everything has happened."""
    stream = Stream("a", "b", "c", "d", "e", "f", group="batch")
    add = stream.add
    stream.events[0] = msgspec.structs.replace(stream.events[0], rate="7/s", bad_luck=0.5)

    # A worker that exhausts its attempts, and more of them than are kept.
    for attempt in range(1, 130):
        add(AttemptStarted, "a", attempt=attempt, bad_luck=attempt / 1_000, latency=0.25 * (attempt == 2))
        add(
            AttemptFailed,
            "a",
            **failed(f"e{attempt % 7}", attempt=attempt, error_class="server", injected=attempt == 3),
        )
        add(RetryScheduled, "a", attempt=attempt + 1, delay=0.5, is_asked_for=attempt == 4, max_attempts=9)
    add(RetryRefused, "a", attempt=130, reason="deadline")
    add(WorkerExhausted, "a", **ended(129, error_type="OSError", error="e3", refusal="deadline"))

    # Processes of a cluster, one of which is lost.
    add(HostJoined, host="h:1", slots=1, pid=11)
    add(HostJoined, host="h:2", slots=2, pid=12)
    add(
        HostsReported, hosts=(HostFigures("h:1", 3, 9.5, 1_000, 0.25, 0.5), HostFigures("h:2", 1, 1.5, 2_000, 0.0, 0.0))
    )
    add(HostLost, host="h:2", reason="ended", attempts=1)

    # A worker that is throttled, and one whose last attempt is.
    for name in ("b", "c"):
        add(AttemptStarted, name, attempt=1, bad_luck=0.25)
        add(AttemptFailed, name, **failed("429", error_class="throttled", injected=name == "c"))
        add(AttemptHeld, name, attempt=2, key="h", reason="throttled")
        add(AttemptHeld, name, attempt=2, key="c", reason="circuit")
    for key in "hijklmno":
        add(AttemptHeld, "f", attempt=1, key=key, reason="rate")
    add(AttemptStarted, "f", attempt=1, bad_luck=0.25)
    add(AttemptPlaced, "f", attempt=1, host="h:1")
    add(ProgressReported, "f", attempt=1, done=3, total=10.5, unit="page", status="waits for export")
    add(KeyThrottled, key="h", seconds=None, retry_after=2.0, refused=3)
    add(KeyThrottled, key="i", seconds=5.0, retry_after=None, refused=1)
    add(KeyLimitChanged, key="h", limit=4, rate=7.5, in_flight=2, refused=5, tolerated=0.25)
    add(CircuitClosed, key="x")
    for key in ("y", "z", "w", "v"):
        add(CircuitOpened, key=key, attempts=5, failures=4, seconds=3.0)
    add(CircuitClosed, key="y")
    add(CircuitHalfOpened, key="z", probes=2)
    add(CircuitProbed, key="z", under_way=1, free=1)
    add(CircuitIsolated, key="w")
    add(SettingChanged, name="concurrency", value=20, previous=10)
    add(SettingChanged, name="rate", key="h", value="9/s", previous=None)
    add(SettingChanged, name="paused", value=True, previous=False)
    add(LineHeld, reason="paused")

    # A poller, a worker that is abandoned, one that is cancelled.
    add(AttemptStarted, "d", attempt=1, bad_luck=0.25)
    add(PollFinished, "d", result=1, elapsed=0.1, delay=1.0)
    add(PollFailed, "d", error_type="OSError", error="p", elapsed=0.2, delay=1.0, failures=2)
    add(AttemptStarted, "e", attempt=1, bad_luck=0.25)
    add(CancelRequested, "e", reason="person")
    add(WorkerUnresponsive, "e", **ended(stack="jobs.py:1 f", cancels=2))
    add(WorkerRestarted, "e", 2)
    add(AttemptStarted, "e", 2, attempt=1, bad_luck=0.5, latency=0.25)
    add(CancelRequested, "e", 2, reason="person")

    # A tree with a pool, of which children were replaced.
    for name, strategy in (("", "one_for_all"), ("/pool", "simple_one_for_one"), ("/sub", "one_for_one")):
        started = ("root" + name, "root", strategy, 3, 5.0, "any_significant", 2)
        stream.events.append(SupervisorStarted(len(stream.events), stream.now, *started))
    for name in ("s", "t"):
        add(WorkersQueued, group="root/sub", max_attempts=7, workers=(f"sub/{name}",))
        add(AttemptStarted, f"sub/{name}", attempt=1, bad_luck=0.25)
        add(WorkerReady, f"sub/{name}")
    for number in range(12):
        name = f"pool/{number}"
        add(WorkersQueued, group="root/pool", max_attempts=1, workers=(name,))
        add(AttemptStarted, name, attempt=1, bad_luck=0.25)
        if number % 3 == 0:
            add(WorkerSucceeded, name, **ended(result=number, **({"is_repr": True} if number == 9 else {})))
        elif number % 3 == 1:
            add(AttemptFailed, name, **failed("q"))
            add(RetryRefused, name, attempt=2, reason="deadline")
            add(WorkerExhausted, name, **ended(error_type="OSError", error="q"))
        else:
            add(WorkerCancelled, name, **ended(reason="person"))
        add(ChildRemoved, supervisor="root/pool", child=str(number))
    for restarts, name in ((1, "root/sub"), (2, "root/sub"), (1, "root/sub/s")):
        add(RestartCounted, supervisor=name, child="s", restarts=restarts, max_restarts=3, within=5.0)
    add(RestartScheduled, "sub/s", delay=0.5, cause="OSError: x")
    add(WorkerRestarted, "sub/s", 2)
    for incarnation in (2, 3, 4):
        add(AttemptStarted, "sub/s", incarnation, attempt=1, bad_luck=0.25)
        stack = '  File "jobs.py", line 3, in f'
        add(AttemptFailed, "sub/s", incarnation, **failed("z", stack=stack))
        add(WorkerFailed, "sub/s", incarnation, **ended(error_type="OSError", error="z"))
        add(RestartScheduled, "sub/s", incarnation, delay=0.5, cause="OSError: z")
        add(WorkerRestarted, "sub/s", incarnation + 1)
    add(RestartScheduled, "sub/t", delay=0.5, cause="OSError: y")
    add(RestartLimitReached, supervisor="root/sub/s", restarts=4, within=5.0)
    add(RestartLimitReached, supervisor="root/pool", restarts=4, within=5.0)
    add(SupervisorTerminated, name="root/pool", reason="shutdown")
    add(ChildRemoved, supervisor="root", child="pool")

    # The run.
    for began in (1.0, 2.0):
        block: dict[str, Any] = {
            "cause": "worker",
            "attempt": 1,
            "file": "j.py",
            "line": 3,
            "function": "f",
            "call": "g",
            "stack": "s",
        }
        add(LoopBlocked, "b", began=began, duration=0.3, **block)
    add(NestedRetriesFound, target="fetch", library="tenacity")
    add(RecordingFailed, since=2.5, reason="database or disk is full")
    add(CommandRefused, "b", command="CancelWorker", reason="it has ended")
    stream.events.append(LogRecorded(len(stream.events), stream.now, "b", "INFO", "jobs", "hello"))
    add(RunTimedOut, timeout=9.0, pending=2)
    add(ItemsRead, workers=9)
    add(RunCancelRequested, reason="person")
    add(RunHalted, failures=2, mode="soon", stopped=1)
    add(RunFinished, states={"failed": 1}, attempts=9, elapsed=9.0, interrupted=True)
    return stream


def rich_fleet() -> Fleet:
    """The Fleet of `rich_run`."""
    fleet = rich_run().fold(Fleet(departed_kept=1, troubled_departed_kept=2))
    leave(fleet, 99.0)
    return fleet


@pytest.mark.parametrize("batch_size", [1, 9])
def test_what_changes_between_two_parts_is_taken_as_it_was(batch_size: int) -> None:
    events = rich_run().events
    for moment in range(0, len(events), 7):
        fleet, expected = (Fleet(departed_kept=1, troubled_departed_kept=2) for _ in range(2))
        apply(fleet, events[:moment])
        apply(expected, events[:moment])
        batches = iter([events[start : start + batch_size] for start in range(moment, len(events), batch_size)])
        parts = []
        with smallest_parts():
            taken = Snapshot(fleet)
            for part in taken.parts():
                parts.append(part)
                batch = next(batches, [])
                taken.before(batch)
                apply(fleet, batch)
        assert_same(expected, read(iter(parts)))
        assert not taken._kept
        assert not taken._replaced


def is_holder(value: Any) -> bool:
    return type(value).__module__.startswith("asyncwatch.model.") and not isinstance(value, (msgspec.Struct, tuple))


def leaves(holder: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all attributes that are no holders of others, by their path from the Fleet."""
    for name, value in fields_of(holder).items():
        below = f"{path}.{name}".lstrip(".")
        yield from leaves(value, below) if is_holder(value) else [(below, value)]


SAME_IN_EVERY_FLEET = {"circuits._closed_kept", "circuits._opened_kept", "keys._kept"}
EMPTY = {"rows_to_come", "tree._moves", "departed.keepers"}
"""Empty while no events are applied and no snapshot is taken or read."""


def test_everything_of_a_fleet_is_taken() -> None:
    """The run in which everything has happened is to be extended together with the model."""
    fleet, new = rich_fleet(), dict(leaves(Fleet()))
    unchanged = {path for path, value in leaves(fleet) if value == new[path]}
    assert unchanged == SAME_IN_EVERY_FLEET | EMPTY
    assert_same(fleet, copied(fleet))


def test_every_field_of_what_a_fleet_holds_is_taken() -> None:
    usual: set[tuple[type, str]] = set()
    other: set[tuple[type, str]] = set()
    todo, seen = [rich_fleet()], set[int]()
    while todo:
        value: Any = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            todo += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, deque)):
            todo += value
        elif type(value).__module__.startswith("asyncwatch.model."):
            todo += fields_of(value).values()
            if isinstance(value, msgspec.Struct):
                for field in msgspec.structs.fields(value):
                    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
                    where = usual if getattr(value, field.name) == default else other
                    where.add((type(value), field.name))
    assert usual - other == set()


# -- parts


def parts_of(fleet: Fleet) -> list[SnapshotPart]:
    return list(Snapshot(fleet).parts())


def large_fleet() -> Fleet:
    """Some thousand workers that succeeded or failed, and a few more."""
    stream = rich_run()
    names = [f"https://example.org/{number}" for number in range(5_000)]
    stream.add(WorkersQueued, group="batch", max_attempts=3, workers=tuple(names))
    for number, name in enumerate(names[:4_000]):
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.5)
        if number % 3:
            stream.add(AttemptFailed, name, **failed(f"no {number}", stack=f"  File {number % 5}"))
        else:
            stream.add(WorkerSucceeded, name, **ended(result=number))
    return stream.fold()


def test_parts_are_small_and_say_which_is_the_first_and_the_last() -> None:
    fleet = large_fleet()
    parts = parts_of(fleet)
    assert len(parts) > 4
    assert [part.is_first for part in parts] == [True, *[False] * (len(parts) - 1)]
    assert [part.is_last for part in parts] == [*[False] * (len(parts) - 1), True]
    assert all(len(part.data) < 2 * snapshot.PART_SIZE for part in parts)
    assert_same(fleet, read(iter(parts)))


def test_first_part_has_all_totals_and_the_first_rows() -> None:
    fleet = large_fleet()
    part = parts_of(fleet)[0]
    other = SnapshotReader().read(part)
    assert 0 < len(other.rows) < len(fleet.rows)
    for path in ("counts", "workers", "attempts", "settled", "latest", "run", "finished", "abandoned"):
        assert getattr(other, path) == getattr(fleet, path), path
    assert other.services() == fleet.services()
    assert other.tree.ending == fleet.tree.ending
    assert hold_ups(other.keys, 9.0) == hold_ups(fleet.keys, 9.0)
    assert not other.is_settled


def test_fleet_with_rows_to_come_is_settled_only_if_they_are() -> None:
    stream = Stream(*map(str, range(2 * BLOCK)))
    for name in range(BLOCK):
        stream.add(AttemptStarted, str(name), attempt=1, bad_luck=0.5)
        stream.add(WorkerSucceeded, str(name), **ended())
    with patch.multiple(snapshot, PART_SIZE=1):
        reader = SnapshotReader()
        fleets = [(len(fleet.rows), fleet.is_settled) for fleet in map(reader.read, parts_of(stream.fold()))]
    assert (BLOCK, False) in fleets


def test_long_record_is_cut() -> None:
    stream = Stream("a")
    for length in (900_000, 100, 0, 1_000_000):
        stream.events.append(LogRecorded(len(stream.events), 0.0, "a", "INFO", "x", "y" * length))
    fleet = stream.fold()
    parts = parts_of(fleet)
    assert max(len(part.data) for part in parts) == snapshot.MAX_PART_SIZE
    assert_same(fleet, read(iter(parts)))


def test_thousands_of_equal_tracebacks_are_written_once() -> None:
    stream = Stream(*map(str, range(1_000)))
    for name in range(1_000):
        stream.add(AttemptStarted, str(name), attempt=1, bad_luck=0.5)
        stream.add(AttemptFailed, str(name), **failed(stack=f"  File {name % 2}" * 100))
    fleet = stream.fold()
    assert sum(len(part.data) for part in parts_of(fleet)) < 200_000
    other = copied(fleet)
    assert_same(fleet, other)
    assert len({id(stack) for stack in other.stacks.values()}) == 2


def test_texts_that_rows_share_are_shared_when_read() -> None:
    fleet = copied(rich_fleet())
    shared = [record.outcome for record in fleet.history("a") if record.outcome == fleet.rows[0].error]
    assert len(shared) > 1
    assert {id(text) for text in shared} == {id(fleet.rows[0].error)}


def test_fleet_without_events_can_be_taken() -> None:
    (part,) = parts_of(Fleet())
    assert_same(Fleet(), SnapshotReader().read(part))


def test_lone_surrogates_are_read_as_the_text_of_their_escape() -> None:
    def run(text: str) -> Fleet:
        stream = Stream(text)
        stream.add(AttemptStarted, text, attempt=1, bad_luck=0.5)
        stream.add(AttemptFailed, text, **failed(text, stack=text))
        stream.add(AttemptHeld, text, attempt=2, key=text, reason="throttled")
        stream.events.append(LogRecorded(len(stream.events), 0.0, text, "INFO", "x", text))
        stream.add(SettingChanged, name="rate", value=text, previous=None, key=text)
        return stream.fold()

    other = copied(run("a\udcff"))
    other.log_size, expected = 0, run("a\\udcff")
    expected.log_size = 0
    assert_same(expected, other)


def test_numbers_that_are_not_finite_are_kept() -> None:
    stream = Stream("a", "b")
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=math.nan)
    stream.add(AttemptFailed, "a", **failed(elapsed=math.inf))
    stream.add(RetryScheduled, "a", attempt=2, delay=math.nan)
    fleet = stream.fold()
    other = copied(fleet)
    assert_same(fleet, other)
    stream.add(AttemptStarted, "b", attempt=1, bad_luck=0.5)
    assert_same(stream.fold(fleet), stream.fold(other))


def test_snapshot_that_is_dropped_leaves_nothing_in_the_fleet() -> None:
    fleet = rich_fleet()
    taken = Snapshot(fleet)
    parts = taken.parts()
    with patch.multiple(snapshot, PART_SIZE=1):
        next(parts)
    assert list(fleet.departed.keepers) == [taken]
    gc.disable()
    try:
        del taken, parts
        assert not fleet.departed.keepers
    finally:
        gc.enable()


def test_complete_snapshot_holds_no_rows() -> None:
    stream = Stream("a")
    fleet = stream.fold()
    taken = Snapshot(fleet)
    read(taken.parts())
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.5)
    taken.before(stream.events)
    assert not taken._kept


# -- a Fleet of which rows are to come


@pytest.mark.parametrize("make", [rich_fleet, large_fleet])
def test_fleet_that_is_read_can_be_shown_at_any_time(make: Callable[[], Fleet]) -> None:
    fleet = make()
    reader, views = SnapshotReader(), dict[tuple[str, str], View]()
    with patch.multiple(snapshot, PART_SIZE=8_000, _ITEMS=100):
        parts = parts_of(fleet)
    for part in parts:
        other = reader.read(part)
        summarize(other)
        assert other.workers == fleet.workers
        for order, query in itertools.product(("queue", "error", "elapsed"), ("", "boom")):
            view = views.setdefault((order, query), View(other))
            view.sort, view.query = order, parse_query(query)
            for line in view.lines()[:20]:
                assert view.place(line) is not None
            view.resort()
            while view.work(lambda: True):
                pass
        for row in other.rows[:20]:
            other.history(row.name)
            other.tree.own_gauge(row, 9.0)
    for (order, query), view in views.items():
        expected = View(fleet)
        expected.sort, expected.query = order, parse_query(query)
        for each in (view, expected):
            while each.lines() is None or each.work(lambda: False):
                pass
        assert list(map(str_of, view.lines())) == list(map(str_of, expected.lines())), (order, query)


def str_of(line: Row | Branch) -> str:
    return line.name if isinstance(line, Row) else line.path


# -- what cannot be read


def whole(data: bytes, checksum: int = 0) -> bytes:
    """Return the data of a part with the right checksum, after a part with the other one."""
    return struct.pack("<I", zlib.crc32(data[4:], checksum)) + data[4:]


def test_part_that_does_not_follow_is_refused() -> None:
    first, second, *rest = parts_of(large_fleet())
    reader = SnapshotReader()
    for part in (second, rest[-1]):
        with pytest.raises(SnapshotError, match="not the next"):
            reader.read(part)
    reader.read(first)
    with pytest.raises(SnapshotError, match="not the next"):
        reader.read(rest[0])
    with pytest.raises(SnapshotError, match="not the next"):
        reader.read(second)  # nothing but a first part is read after an error
    assert len(reader.read(first).rows) > 0
    other = parts_of(rich_fleet())[0]
    with pytest.raises(SnapshotError, match="not the next"):
        reader.read(SnapshotPart(other.data))


def test_part_after_the_last_is_refused() -> None:
    (part,) = parts_of(Fleet())
    reader = SnapshotReader()
    reader.read(part)
    with pytest.raises(SnapshotError, match="not the next"):
        reader.read(SnapshotPart(part.data))


def test_snapshot_that_ends_early_or_late_is_refused() -> None:
    (part,) = parts_of(rich_fleet())
    with pytest.raises(SnapshotError, match="not whole"):
        SnapshotReader().read(SnapshotPart(part.data, is_first=True, is_last=False))
    for data in (part.data[:-9], part.data + b"x"):
        with pytest.raises(SnapshotError, match="not whole"):
            SnapshotReader().read(SnapshotPart(whole(data), is_first=True, is_last=True))


def test_history_with_missing_attempts_is_refused() -> None:
    fleet = rich_fleet()
    fleet.attempt_history._records["a"].count = 9
    with pytest.raises(SnapshotError, match="Attempts of a snapshot are missing"):
        copied(fleet)


def test_other_format_is_refused() -> None:
    with patch.multiple(snapshot, FORMAT=7):
        (part,) = parts_of(Fleet())
    with pytest.raises(SnapshotError, match=f"has format 7, and this version reads format {snapshot.FORMAT}"):
        SnapshotReader().read(part)


@pytest.mark.parametrize("data", [b"", b"x", b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\xff" * 70_000])
@pytest.mark.parametrize("has_checksum", [False, True])
def test_something_else_is_refused(data: bytes, has_checksum: bool) -> None:
    with pytest.raises(SnapshotError):
        SnapshotReader().read(SnapshotPart(whole(data) if has_checksum else data, is_first=True, is_last=True))


RECORDED = Path(__file__).parent / f"snapshot_{snapshot.FORMAT}.bin"
"""The data of the only part of `rich_fleet`, as `record` has written it."""


def record() -> None:
    """Write `RECORDED` anew, because `rich_run` has changed or FORMAT was raised."""
    (part,) = parts_of(rich_fleet())
    RECORDED.write_bytes(part.data)


def test_recorded_snapshot_is_read() -> None:
    """A snapshot may be read by another version, so a change of what is written raises FORMAT."""
    part = SnapshotPart(RECORDED.read_bytes(), is_first=True, is_last=True)
    assert_same(rich_fleet(), SnapshotReader().read(part))


PARTS = parts_of(rich_fleet())


@given(st.data())
def test_damaged_part_is_refused(data: st.DataObject) -> None:
    (part,) = PARTS
    at = data.draw(st.integers(0, len(part.data) - 1))
    bad = bytearray(part.data)
    bad[at] ^= data.draw(st.integers(1, 255))
    for damaged in (bytes(bad), part.data[:at]):
        with pytest.raises(SnapshotError):
            SnapshotReader().read(SnapshotPart(damaged, is_first=True, is_last=True))


@settings(max_examples=300)
@given(st.data())
def test_forged_part_raises_no_other_error(data: st.DataObject) -> None:
    """Its checksum is right."""
    (part,) = PARTS
    forged = bytearray(part.data)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(forged) - 1))
        forged[at : at + data.draw(st.integers(0, 9))] = data.draw(st.binary(max_size=9))
    with contextlib.suppress(SnapshotError):
        SnapshotReader().read(SnapshotPart(whole(bytes(forged)), is_first=True, is_last=True))
