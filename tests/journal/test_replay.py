"""Replays of recorded runs: any moment of one is the fold of the events up to it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import stat
import tempfile
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncwatch.commands import Disconnected, Moment, Problem, SnapshotPart
from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    KeyThrottled,
    WorkerFailed,
    WorkersQueued,
    WorkerSucceeded,
    decode,
)
from asyncwatch.journal import index as index_module
from asyncwatch.journal.index import Index, Marks, build
from asyncwatch.journal.replay import Replay, Tape, UnknownLaunchError
from asyncwatch.journal.store import Launch, RunInfo, RunJournal, RunStore, StoredSnapshot, store_batch
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.snapshot import Snapshot, SnapshotReader
from asyncwatch.testing import wait_until
from tests.model.stream import Stream, ended, failed
from tests.model.test_replay import state_of, streams

RECORDED = [decode(line) for line in (Path(__file__).parents[1] / "events/recorded.jsonl").read_text().splitlines()]


def launch(**fields: Any) -> Launch:
    return Launch(
        **{
            "number": 0,
            "started": 1_000.0,
            "pid": 7,
            "host": "here",
            "folder": "/srv",
            "command": ["jobs:run"],
            "seed": 3,
            "version": "1",
            **fields,
        }
    )


def record(folder: Path, *launches: Sequence[Event], size: int = 3) -> Path:
    """Record launches of a run, in batches of `size` events; return the path of the journal."""
    store = RunStore.create(folder, RunInfo("abcdefgh", "abcdefgh", "", "jobs:run"))
    for events in launches:
        store.begin(launch())
        batches = [events[start : start + size] for start in range(0, len(events), size)]
        store.write(batches=map(store_batch, batches))
    store.close()
    return store.path


def some_run(workers: int = 40) -> list[Event]:
    """Return a run of four seconds a worker, of which every third one fails, after a retry."""
    names = [str(number) for number in range(workers)]
    stream = Stream(*names[: workers // 2])
    stream.add(KeyThrottled, key="h", seconds=2.0, retry_after=2.0, refused=3)
    for number, name in enumerate(names):
        if number == workers // 2:
            stream.add(WorkersQueued, group="late", max_attempts=2, workers=names[number:])
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.5)
        if number % 3:
            stream.add(WorkerSucceeded, name, **ended(result=number))
            continue
        stream.add(AttemptFailed, name, **failed(f"number {number}", stack=f"  File {number % 2}"))
        stream.add(AttemptStarted, name, attempt=2, bad_luck=0.7)
        stream.add(AttemptFailed, name, **failed("again", attempt=2))
        stream.add(WorkerFailed, name, **ended(attempts=2, error_type="OSError", error="again"))
    return stream.events


def prefix(events: Iterable[Event], at: float) -> list[Event]:
    return list(takewhile(lambda event: event.at <= at, events))


def folded(events: Sequence[Event]) -> Fleet:
    fleet = Fleet()
    apply(fleet, events)
    return fleet


class Screen:
    """Folds the updates of a tape, as a dashboard does."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.events = 0
        """How many events it has folded."""
        self._reader = SnapshotReader(keeps_blocks=True)

    def take(self, update: object) -> None:
        """Apply an update."""
        if isinstance(update, SnapshotPart):
            self.fleet = self._reader.read(update)
        else:
            assert isinstance(update, tuple | list)
            self.events += len(update)
            apply(self.fleet, update)


def seen(fleet: Fleet) -> tuple[object, ...]:
    """Return the visible state, without the versions of rows, which a snapshot does not keep."""
    rows, *others = state_of(fleet)
    assert isinstance(rows, list)
    facts = [{name: value for name, value in row.items() if name != "version"} for row in rows]
    details = [(fleet.stack(row.name), fleet.cancel_reason(row.name)) for row in fleet.rows]
    return facts, details, *others


def check_every_jump(folder: Path, events: Sequence[Event], moments: Sequence[float], size: int) -> None:
    path = record(folder, events, size=size)
    with RunJournal(path) as journal, Index(path, 1) as index:
        build(journal, 1, index, lambda _marks, _at: True)
        for tape in (Tape(journal, 1, index), Tape(journal, 1)):
            screen = Screen()
            for at in moments:
                for update in tape.jump(at):
                    screen.take(update)
                assert seen(screen.fleet) == seen(folded(prefix(events, at))), at


@settings(max_examples=60)
@given(streams(), st.lists(st.floats(0.0, 5.0), max_size=4), st.integers(1, 9), st.integers(1, 20))
def test_moment_is_the_fold_of_the_events_up_to_it(
    events: list[Event], moments: list[float], size: int, every: int
) -> None:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(index_module, "EVERY", every)
        patch.setattr(index_module, "BYTES_AN_EVENT", 1 << 30)
        patch.setattr("asyncwatch.journal.replay.FAR", 0)
        check_every_jump(Path(folder), events, moments, size)


@pytest.mark.parametrize("far", [0, 1_000_000])
def test_moment_of_a_run_with_every_event_is_the_fold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, far: int
) -> None:
    monkeypatch.setattr(index_module, "EVERY", 5)
    monkeypatch.setattr(index_module, "BYTES_AN_EVENT", 1 << 30)
    monkeypatch.setattr("asyncwatch.journal.replay.FAR", far)
    numbered = [type(event)(**{**_fields(event), "seq": seq, "at": seq / 10}) for seq, event in enumerate(RECORDED)]
    check_every_jump(tmp_path, numbered, [9.0, 1.0, 3.05, 2.0, 0.0, 5.7], size=4)


def _fields(event: Event) -> dict[str, Any]:
    return {name: getattr(event, name) for name in event.__struct_fields__}


# -- the index


def indexed(path: Path, number: int = 1) -> list[float]:
    """Build the index of a launch, and return how far it was at each step."""
    steps: list[float] = []

    def show(_marks: Marks, at: float) -> bool:
        steps.append(at)
        return True

    with RunJournal(path) as journal, Index(path, number) as index:
        build(journal, number, index, show)
    return steps


@pytest.fixture
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "EVERY", 10)
    monkeypatch.setattr("asyncwatch.journal.replay.FAR", 0)
    monkeypatch.setattr(index_module, "BYTES_AN_EVENT", 1 << 30)


@pytest.mark.usefixtures("_small_steps")
def test_index_belongs_to_the_user_and_is_built_once(tmp_path: Path) -> None:
    path = record(tmp_path, some_run())
    steps = indexed(path)
    assert len(steps) > 5
    assert stat.S_IMODE(path.with_suffix(".index").stat().st_mode) == 0o600
    assert set(indexed(path)) == {steps[-1]}


@pytest.mark.usefixtures("_small_steps")
def test_index_of_a_run_that_goes_on_is_continued(tmp_path: Path) -> None:
    events = some_run()
    path = record(tmp_path, events[:60])
    first = indexed(path)
    store = RunStore.reopen(path)
    store._launch = 1
    store.write(batches=map(store_batch, [tuple(events[60:90]), tuple(events[90:])]))
    store.close()
    second = indexed(path)
    assert second[0] == first[-1]
    with RunJournal(path) as journal, Index(path, 1) as index:
        marks = index.marks()
        assert list(marks.failures) == [event.at for event in events if isinstance(event, WorkerFailed)]
        assert list(marks.throttled) == [event.at for event in events if isinstance(event, KeyThrottled)]
        screen = Screen()
        for update in Tape(journal, 1, index).jump(events[-1].at):
            screen.take(update)
    assert screen.events == 0
    assert seen(screen.fleet) == seen(folded(events))


@pytest.mark.usefixtures("_small_steps")
def test_index_has_only_the_blocks_that_changed(tmp_path: Path) -> None:
    path = record(tmp_path, some_run())
    indexed(path)
    with RunJournal(path) as journal, Index(path, 1) as index:
        firsts = [first for (first,) in index._connection.execute("SELECT first FROM block ORDER BY number")]
        frames = index._connection.execute("SELECT count(*) FROM keyframe").fetchone()[0]
        assert firsts[-1] == 20
        assert len(firsts) < frames * 1.2
        assert journal.last_moment(1) == index.last().at  # type: ignore[union-attr]


@pytest.mark.usefixtures("_small_steps")
@pytest.mark.parametrize("content", [b"garbage" * 1_000, None])
def test_index_that_is_damaged_or_of_another_version_is_built_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    path = record(tmp_path, some_run())
    if content is None:
        with monkeypatch.context() as older:
            older.setattr(index_module, "_VERSION", "0")
            indexed(path)
    else:
        path.with_suffix(".index").write_bytes(content)
    assert len(indexed(path)) > 5


@pytest.mark.usefixtures("_small_steps")
def test_damaged_block_of_the_index_is_passed_by(tmp_path: Path) -> None:
    events = some_run()
    path = record(tmp_path, events)
    indexed(path)
    with RunJournal(path) as journal, Index(path, 1) as index:
        index._connection.execute("UPDATE block SET data = x'78'")
        screen = Screen()
        tape = Tape(journal, 1, index)
        for at in (9.0, 4.0):
            for update in tape.jump(at):
                screen.take(update)
            assert seen(screen.fleet) == seen(folded(prefix(events, at)))


@pytest.mark.usefixtures("_small_steps")
def test_second_builder_adds_nothing_to_what_another_one_added(tmp_path: Path) -> None:
    path = record(tmp_path, some_run())
    with RunJournal(path) as journal, Index(path, 1) as index:
        build(journal, 1, index, lambda _marks, at: indexed(path) == [] or at < 0)
        numbers = [number for (number,) in index._connection.execute("SELECT number FROM keyframe ORDER BY number")]
    assert len(numbers) == len(set(numbers)) > 5


def test_large_keyframes_are_far_between(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "EVERY", 1)
    monkeypatch.setattr(index_module, "BYTES_AN_EVENT", 100)
    events = some_run(200)
    path = record(tmp_path, events)
    assert len(indexed(path)) < len(events) / 5
    assert path.with_suffix(".index").stat().st_size < 200 * len(events) + 100_000


# -- launches, and what is damaged


def test_each_launch_is_shown_by_its_number_and_the_last_one_by_default(tmp_path: Path) -> None:
    path = record(tmp_path, some_run(2), some_run(5))
    ends = [Replay(path, number).recording().end for number in (1, 2, None)]
    assert ends[0] < ends[1] == ends[2]
    with pytest.raises(UnknownLaunchError, match="no launch 3: it has 2"):
        Replay(path, 3)
    for number, workers in ((1, 2), (2, 5)):
        with RunJournal(path) as journal:
            screen = Screen()
            for batch in Tape(journal, number).jump(99.0):
                screen.take(batch)
            assert len(screen.fleet.rows) == workers


def test_damaged_batch_ends_the_recording(tmp_path: Path) -> None:
    events = some_run()
    path = record(tmp_path, events)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE batch SET data = x'78', codec = 1 WHERE number = 9")
    connection.close()
    with RunJournal(path) as journal, Index(path, 1) as one:
        for index in (None, one):
            if index is not None:
                build(journal, 1, index, lambda _marks, _at: True)
            screen, tape = Screen(), Tape(journal, 1, index)
            for at in (99.0, 0.5, 99.0):
                for update in tape.jump(at):
                    screen.take(update)
            assert "batch 9" in tape.damage
            assert seen(screen.fleet) == seen(folded(events[:24]))


# -- the player


async def until_reached(replay: Replay, updates: asyncio.Queue[Any], screen: Screen) -> Moment:
    """Take updates until the requested moment is shown; return it."""
    while True:
        update = await asyncio.wait_for(updates.get(), 30)
        if isinstance(update, Moment):
            if update.is_reached and replay._wanted is None:
                return update
        elif not isinstance(update, Problem):
            assert not isinstance(update, Disconnected)
            screen.take(update)


async def test_player_goes_to_moments_plays_and_stops_at_the_end(tmp_path: Path) -> None:
    events = some_run()
    now = 100.0
    replay = Replay(record(tmp_path, events), clock=lambda: now)
    end = events[-1].at
    screen = Screen()
    try:
        updates = replay.events()
        assert await until_reached(replay, updates, screen) == Moment(end)
        assert seen(screen.fleet) == seen(folded(events))
        replay.seek(3.0)
        assert await until_reached(replay, updates, screen) == Moment(3.0)
        assert seen(screen.fleet) == seen(folded(prefix(events, 3.0)))
        replay.set_speed(4.0)
        assert await until_reached(replay, updates, screen) == Moment(3.0)
        replay.play(is_playing=True)
        assert await until_reached(replay, updates, screen) == Moment(3.0, 4.0)
        now += 0.5
        assert replay.recording().at == 5.0
        screen.take(await asyncio.wait_for(updates.get(), 30))
        while screen.fleet.latest < prefix(events, 5.0)[-1].at:
            screen.take(await asyncio.wait_for(updates.get(), 30))
        assert seen(screen.fleet) == seen(folded(prefix(events, 5.0)))
        now += 1_000.0
        assert await until_reached(replay, updates, screen) == Moment(end)
        assert not replay.recording().is_playing
        replay.play(is_playing=True)  # from the start
        assert await until_reached(replay, updates, screen) == Moment(0.0, 4.0)
        assert seen(screen.fleet) == seen(folded(prefix(events, 0.0)))
    finally:
        replay.close()


async def test_later_request_replaces_an_earlier_one(tmp_path: Path) -> None:
    events = some_run(400)
    replay = Replay(record(tmp_path, events))
    screen = Screen()
    try:
        updates = replay.events()
        for at in (50.0, 2.0, 40.0, 7.0):
            replay.seek(at)
        assert (await until_reached(replay, updates, screen)).at == 7.0
        assert seen(screen.fleet) == seen(folded(prefix(events, 7.0)))
    finally:
        replay.close()


async def test_damage_is_said(tmp_path: Path) -> None:
    path = record(tmp_path, some_run())
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE batch SET data = x'78', codec = 1 WHERE number = 9")
    connection.close()
    replay = Replay(path)
    try:
        updates = replay.events()
        problems: list[Problem] = []
        while not problems:
            update = await asyncio.wait_for(updates.get(), 30)
            problems += [update] if isinstance(update, Problem) else []
        assert "cannot be read any further" in problems[0].text
        replay._threads[1].join(30)
        assert replay.recording().indexed == 1.0
    finally:
        replay.close()


async def test_folder_that_cannot_be_written_has_no_index_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Index, "_open", refuse)
    events = some_run()
    replay = Replay(record(tmp_path, events))
    screen = Screen()
    try:
        updates = replay.events()
        await until_reached(replay, updates, screen)
        replay.seek(2.0)
        await until_reached(replay, updates, screen)
        assert seen(screen.fleet) == seen(folded(prefix(events, 2.0)))
        replay._threads[1].join(30)
        assert "Permission denied" in replay.recording().note
    finally:
        replay.close()


async def test_recording_that_goes_on_gets_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncwatch.journal.replay._LOOK_EVERY", 0.01)
    events = some_run()
    path = record(tmp_path, events[:60])
    replay = Replay(path)
    screen = Screen()
    try:
        updates = replay.events()
        await until_reached(replay, updates, screen)
        store = RunStore.reopen(path)
        store._launch = 1
        store.write(batches=[store_batch(tuple(events[60:]))])
        store.close()
        await wait_until(lambda: replay.recording().end == events[-1].at)
        replay.seek(999.0)
        await until_reached(replay, updates, screen)
        assert seen(screen.fleet) == seen(folded(events))
    finally:
        replay.close()


@pytest.mark.usefixtures("_small_steps")
def test_recording_whose_oldest_batches_were_dropped_begins_with_its_snapshot(tmp_path: Path) -> None:
    events = some_run()
    store = RunStore.create(tmp_path, RunInfo("abcdefgh", "abcdefgh", "", "tree"))
    store.begin(launch())
    store.write(batches=[store_batch(events[start : start + 5]) for start in range(0, len(events), 5)])
    parts = tuple(part.data for part in Snapshot(folded(events[:60])).parts())
    store.write_snapshot(StoredSnapshot(60, parts))
    store.trim(0)
    store.close()
    with RunJournal(store.path) as journal, Index(store.path, 1) as index:
        build(journal, 1, index, lambda _marks, _at: True)
        assert next(journal.batches(1)).first == 60
        for tape in (Tape(journal, 1, index), Tape(journal, 1)):
            screen = Screen()
            for at in (99.0, 8.0, 0.0):
                for update in tape.jump(at):
                    screen.take(update)
                expected = prefix(events, at) if at > events[59].at else events[:60]
                assert seen(screen.fleet) == seen(folded(expected)), at


async def test_player_shows_no_moment_before_the_oldest_batch_that_is_kept(tmp_path: Path) -> None:
    events = some_run()
    store = RunStore.create(tmp_path, RunInfo("abcdefgh", "abcdefgh", "", "tree"))
    store.begin(launch())
    store.write(batches=[store_batch(events[start : start + 5]) for start in range(0, len(events), 5)])
    store.write_snapshot(StoredSnapshot(60, tuple(part.data for part in Snapshot(folded(events[:60])).parts())))
    store.trim(0)
    store.close()
    replay = Replay(store.path, clock=lambda: 100.0)
    screen = Screen()
    first = events[64].at
    try:
        updates = replay.events()
        assert await until_reached(replay, updates, screen) == Moment(events[-1].at)
        replay.seek(0.0)
        assert await until_reached(replay, updates, screen) == Moment(first)
        assert seen(screen.fleet) == seen(folded(prefix(events, first)))
        replay.seek(999.0)
        await until_reached(replay, updates, screen)
        replay.play(is_playing=True)
        assert await until_reached(replay, updates, screen) == Moment(first, 1.0)
    finally:
        replay.close()
