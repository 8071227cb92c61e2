"""The file of a journal: what is written is read again, by this version alone, and by one writer at a time."""

import contextlib
import os
import socket
import sqlite3
import stat
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest

from asyncwatch.events import AttemptStarted, WorkersQueued, WorkerSucceeded
from asyncwatch.journal import store as module
from asyncwatch.journal.identity import idempotency_key, keys_of
from asyncwatch.journal.store import (
    FORMAT,
    LARGEST,
    BusyError,
    DamagedError,
    JournalError,
    Launch,
    NewerFormatError,
    RunInfo,
    RunJournal,
    RunStore,
    parts_of,
    store_batch,
    store_batches,
)
from asyncwatch.journal.writer import JournalWriter, Problem

INFO = RunInfo("abcdefgh", "abcdefgh", "", "prices")
BATCH = (
    WorkersQueued(1, 0.0, "http", 3, ("a", "b")),
    AttemptStarted(2, 0.5, "a", 1, 1, 0.25),
    WorkerSucceeded(3, 1.5, "a", 1, 1, 1.0, {"price": 2.5}),
)


def launch(**changes: object) -> Launch:
    values: dict[str, object] = {
        "number": 0,
        "started": time.time(),
        "pid": os.getpid(),
        "host": "here",
        "folder": "/data",
        "command": ["--items", "a.txt"],
        "seed": 1 << 80,
        "version": "1",
    }
    return Launch(**(values | changes))  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    return RunStore.create(tmp_path / "runs", INFO)


def test_journal_gives_back_what_was_written(store: RunStore) -> None:
    first = launch(settings={"rate": "5/s"})
    number = store.begin(first)
    keys = keys_of(["a", "b"])
    store.write(parts_of(0, "http", *keys), [store_batch(BATCH)])
    store.end(5.0, 1, {"workers": 2})
    store.close()
    with RunJournal(store.path) as journal:
        assert journal.info == INFO
        [read] = journal.launches()
        assert (read.number, read.seed, read.command) == (number, 1 << 80, ["--items", "a.txt"])
        assert (read.settings, read.ended, read.status, read.summary) == ({"rate": "5/s"}, 5.0, 1, {"workers": 2})
        [part] = journal.items(number)
        assert (part.first, part.group, part.keys, part.content) == (0, "http", *keys)
        [batch] = journal.batches(number)
        assert (batch.first, batch.events, batch.at) == (1, 3, 1.5)
        assert batch.unpack() == BATCH


def test_second_launch_goes_on_in_the_same_file(store: RunStore) -> None:
    store.begin(launch())
    store.write(batches=[store_batch(BATCH)])
    store.close()
    again = RunStore.reopen(store.path)
    assert again.begin(launch()) == 2
    again.write(batches=[store_batch(BATCH[:1])])
    again.close()
    with RunJournal(store.path) as journal:
        assert [each.ended for each in journal.launches()] == [None, None]
        assert [batch.number for batch in journal.batches(1)] == [1]
        assert [batch.number for batch in journal.batches(2)] == [2]
        assert list(journal.batches(1, after=1)) == []


def test_folder_and_files_belong_to_the_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        store = RunStore.create(tmp_path / "state/runs", INFO)
        store.begin(launch())
        files = list(store.path.parent.iterdir())
        modes = {path.suffix: stat.S_IMODE(path.stat().st_mode) for path in files}
        assert [stat.S_IMODE(path.stat().st_mode) for path in store.path.parents[:2]] == [0o700, 0o700]
        assert set(modes.values()) == {0o600}
        assert len(modes) >= 3
    finally:
        os.umask(before)
        store.close()


def test_journal_of_another_user_is_refused(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.close()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(JournalError, match="belongs to another user"):
        RunJournal(store.path)
    with pytest.raises(JournalError):
        RunStore.reopen(store.path)


def test_second_writer_is_refused_with_the_pid(store: RunStore) -> None:
    with pytest.raises(BusyError, match=str(os.getpid())) as caught:
        RunStore.reopen(store.path)
    assert caught.value.pid == os.getpid()
    store.close()
    RunStore.reopen(store.path).close()


def test_closed_journal_leaves_descriptors_alone_that_are_open_by_then(store: RunStore) -> None:
    store.close()
    files = [os.open(os.devnull, os.O_RDONLY) for _ in range(20)]
    store.forget()
    for file in files:
        os.close(file)  # would raise if it was closed


def test_child_that_is_forked_while_a_journal_is_made_does_not_keep_its_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[int] = []
    here, there = socket.socketpair()
    connect = module._connect

    def fork(path: Path) -> sqlite3.Connection:
        if not children and (pid := os.fork()):
            children.append(pid)
            here.recv(1)  # it runs
        elif not children:
            here.close()
            there.send(b"x")
            there.recv(1)  # until the parent is done with it
            os._exit(0)
        return connect(path)

    monkeypatch.setattr(module, "_connect", fork)
    store = RunStore.create(tmp_path, INFO)
    store.close()
    try:
        RunStore.reopen(store.path).close()
    finally:
        here.close()
        there.close()
        os.waitpid(children[0], 0)


def test_newer_format_is_refused(store: RunStore) -> None:
    store.close()
    with contextlib.closing(sqlite3.connect(store.path)) as connection, connection:
        connection.execute(f"PRAGMA user_version={FORMAT + 1}")
    connection.close()
    with pytest.raises(NewerFormatError, match="Update asyncwatch"):
        RunJournal(store.path)
    with pytest.raises(NewerFormatError):
        RunStore.reopen(store.path)


@pytest.mark.parametrize("content", [b"", b"garbage" * 1000, b"SQLite format 3\0" + bytes(200)])
def test_file_that_is_no_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "abcdefgh.sqlite"
    path.write_bytes(content)
    with pytest.raises(DamagedError):
        RunJournal(path)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE run SET parent = '../x'",
        "UPDATE run SET name = x'00'",
        "UPDATE launch SET started = 9e999",
        "UPDATE launch SET seed = 'x'",
        "UPDATE launch SET command = '{'",
        "UPDATE launch SET command = '[1]'",
        "UPDATE launch SET summary = replace(hex(zeroblob(50000)), '0', '[')",
        "UPDATE items SET first = 'x'",
        "UPDATE items SET keys = 'x'",
        "UPDATE batch SET at = 'x'",
        "UPDATE batch SET data = 'x'",
        "UPDATE batch SET data = x'80'",
        "UPDATE batch SET codec = 0, data = CAST(replace(hex(zeroblob(50000)), '0', char(0x11)) AS BLOB)",
        "INSERT INTO snapshot VALUES(1, 1, 'x')",
        "INSERT INTO snapshot VALUES(1, 'x', x'90')",
        "ALTER TABLE batch RENAME TO other; CREATE VIEW batch AS SELECT * FROM other",
    ],
)
def test_values_that_no_journal_has_are_refused(store: RunStore, statement: str) -> None:
    store.begin(launch())
    store.write(parts_of(0, "http", *keys_of(["a", "b"])), [store_batch(BATCH)])
    store.close()
    with contextlib.closing(sqlite3.connect(store.path)) as connection:
        connection.executescript(statement)
    with pytest.raises(DamagedError):
        read_all(store.path)


def read_all(path: Path) -> None:
    with RunJournal(path) as journal:
        journal.launches()
        list(journal.items(1))
        list(journal.snapshots(1))
        journal.last_moment(1)
        for batch in journal.batches(1):
            batch.unpack()


def test_event_without_a_time_is_refused() -> None:
    with pytest.raises(DamagedError, match="no time"):
        store_batch((*BATCH, WorkerSucceeded(4, float("nan"), "a", 2, 1, 1.0))).unpack()


@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_log_of_sqlite_that_is_deleted_is_noticed(store: RunStore, suffix: str) -> None:
    store.begin(launch())
    store.write(batches=[store_batch(BATCH)])
    Path(f"{store.path}{suffix}").unlink()
    with pytest.raises(FileNotFoundError, match=f"{suffix}.* was deleted or replaced"):
        store.write(batches=[store_batch(BATCH)])
    store.close()


def test_columns_that_were_added_are_ignored(store: RunStore) -> None:
    store.begin(launch())
    store.write(parts_of(0, "http", *keys_of(["a", "b"])), [store_batch(BATCH)])
    store.close()
    with contextlib.closing(sqlite3.connect(store.path)) as connection:
        for table in ("launch", "batch"):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN more TEXT")
    with RunJournal(store.path) as journal:
        assert [each.number for each in journal.launches()] == [1]
        assert [batch.unpack() for batch in journal.batches(1)] == [BATCH]


def test_batch_that_unpacks_to_very_much_is_refused_before_it_is_unpacked() -> None:
    small = store_batch(BATCH)
    data = zlib.compress(bytes(8 * LARGEST))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError, match="more than"):
            small._replace(data=data).unpack()
        assert tracemalloc.get_traced_memory()[1] < 4 * LARGEST
    finally:
        tracemalloc.stop()
    with pytest.raises(DamagedError, match="not whole"):
        small._replace(data=zlib.compress(bytes(100))[:-8], codec=1).unpack()


def test_large_batch_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncwatch.journal.store.LARGEST", 1_000)
    events = tuple(WorkerSucceeded(seq, seq / 4, "a", 1, 1, 1.0, "x" * 300) for seq in range(9))
    huge = WorkerSucceeded(9, 3.0, "a", 1, 1, 1.0, "x" * 5_000)
    batches = store_batches((*events, huge))
    assert sum((batch.unpack() for batch in batches), ()) == (*events, huge)
    assert len(batches) > 3
    assert batches[-1].events == 1
    assert [batch.first + batch.events for batch in batches[:-1]] == [batch.first for batch in batches[1:]]
    assert store_batches(BATCH) == [store_batch(BATCH)]


def test_writer_commits_what_it_is_given_and_says_so(store: RunStore) -> None:
    store.begin(launch())
    written: list[int] = []
    problems: list[Problem | None] = []
    writer = JournalWriter(lambda: store, written.append, problems.append)
    writer.deliver(BATCH, None)
    assert writer.close(9.0, 0, None, timeout=30.0)
    assert written == [3]
    assert problems == []
    with RunJournal(store.path) as journal:
        assert [batch.unpack() for batch in journal.batches(1)] == [BATCH]
        assert journal.launches()[0].status == 0


def test_idempotency_key_depends_on_root_group_and_item() -> None:
    keys = {
        idempotency_key(root, group, item * 16) for root in ("a", "b") for group in ("g", "h") for item in (b"x", b"y")
    }
    assert len(keys) == 8
    assert idempotency_key("a", "g", b"x" * 16) in keys


def test_key_is_that_of_the_content_wherever_it_stands() -> None:
    first, second = keys_of([{"a": 1, "b": 2}, "x"]), keys_of(["x", {"b": 2, "a": 1}])
    assert first.keys[:16] == second.keys[16:]
    assert first.keys[16:] == second.keys[:16]
    assert first.content == b""


def test_keys_of_equal_items_differ_by_their_ordinal() -> None:
    one, two, three = (keys_of(["x"] * number).keys for number in (1, 2, 3))
    assert three[:32] == two
    assert two[:16] == one
    assert len({three[at : at + 16] for at in (0, 16, 32)}) == 3


def test_keys_of_items_that_come_bit_by_bit_are_those_of_all_at_once() -> None:
    items = ["x", "y", "x", "x", {"id": "7"}, "x", {"id": "7"}]
    names = ["", "", "", "", "7", "", "7"]
    seen: dict[bytes, int] = {}
    parts = [keys_of(items[at : at + 2], names[at : at + 2], seen).keys for at in range(0, len(items), 2)]
    assert b"".join(parts) == keys_of(items, names).keys
    assert keys_of(items[:4], names[:4]).keys == keys_of(items[:4]).keys


def test_key_of_a_named_item_ignores_its_content() -> None:
    old, new = keys_of([{"id": "7", "x": 1}], ["7"]), keys_of([{"id": "7", "x": 2}], ["7"])
    assert old.keys == new.keys
    assert old.content != new.content
    assert old.keys != keys_of([{"id": "7", "x": 1}]).keys


@pytest.mark.parametrize(
    "items", [[1, 1.0, "1", True, None, [1], {"a": 1}], ["\udcff", "\ufffd", b"\xff", float("nan")]]
)
def test_different_items_have_different_keys(items: list[object]) -> None:
    keys = keys_of(items).keys
    assert len({keys[at : at + 16] for at in range(0, len(keys), 16)}) == len(items)
