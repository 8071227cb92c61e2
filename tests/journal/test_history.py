"""A list of recorded runs says how each stands, also of those that cannot be read."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

from asyncwatch.journal import history
from asyncwatch.journal import store as stores
from asyncwatch.journal.history import AmbiguousRunError, Entry, RunState, UnknownRunError, entries, find, remove
from asyncwatch.journal.store import BusyError, Launch, RunInfo, RunStore
from tests.journal.recorded import SUMMARY, record


def states(folder: Path) -> dict[str, str]:
    return {each.id: each.state.value for each in entries(folder)}


def test_entries_tell_how_each_run_stands(tmp_path: Path) -> None:
    record(tmp_path, "good")
    record(tmp_path, "bad", status=1)
    record(tmp_path, "stopped", status=130, is_interrupted=True)
    record(tmp_path, "stopok", status=0, is_interrupted=True)
    record(tmp_path, "killed", status=None)
    live = record(tmp_path, "live", status=None, is_open=True)
    record(tmp_path, "newer")
    with contextlib.closing(sqlite3.connect(tmp_path / "newer.sqlite")) as connection, connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    (tmp_path / "broken.sqlite").write_bytes(b"garbage" * 1_000)
    (tmp_path / "empty.sqlite").write_bytes(b"")
    assert states(tmp_path) == {
        "good": "succeeded",
        "bad": "failed",
        "stopped": "interrupted",
        "stopok": "interrupted",
        "killed": "killed",
        "live": "running",
        "newer": "newer format",
        "broken": "damaged",
        "empty": "damaged",
    }
    live.close()
    assert states(tmp_path)["live"] == "killed"


def test_run_that_has_not_begun_is_running_while_it_is_locked(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, RunInfo("early", "early", "", "early"))
    [entry] = entries(tmp_path)
    assert (entry.state, entry.pid, entry.launches) == (RunState.RUNNING, os.getpid(), 0)
    store.close()
    assert states(tmp_path) == {"early": "killed"}


def test_entry_has_the_figures_of_the_last_launch(tmp_path: Path) -> None:
    record(tmp_path, "run")
    store = RunStore.reopen(tmp_path / "run.sqlite")
    launch = {"number": 0, "pid": 9, "host": "", "folder": "/there", "command": ["resume"], "seed": 1, "version": "1"}
    store.begin(Launch(started=200.0, done_before=3, **launch))  # type: ignore[arg-type]
    store.end(206.0, 1, {**SUMMARY, "is_interrupted": False})
    store.close()
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    [entry] = entries(tmp_path)
    assert (entry.launches, entry.pid, entry.folder, entry.done_before) == (2, 9, "/there", 3)
    assert (entry.started, entry.ended, entry.status, entry.elapsed) == (200.0, 206.0, 1, 4.0)
    assert (entry.workers, entry.settled, entry.attempts, entry.rate) == (15, 10, 12, 2.5)
    assert entry.size == size


def test_killed_run_ends_with_its_last_event_and_has_no_counts(tmp_path: Path) -> None:
    record(tmp_path, "killed", status=None)
    [entry] = entries(tmp_path)
    assert (entry.ended, entry.elapsed, entry.counts, entry.rate) == (102.5, 2.5, None, None)


def test_run_that_ends_while_it_is_read_was_not_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = record(tmp_path, "live", status=None, is_open=True)
    known = stores.writer_of

    def end_after(path: Path) -> int | None:
        pid = known(path)
        store.end(150.0, 0, SUMMARY)
        store.close()
        return pid

    monkeypatch.setattr(history, "writer_of", end_after)
    assert states(tmp_path) == {"live": "succeeded"}


def test_newest_run_comes_first_and_a_folder_that_does_not_exist_is_empty(tmp_path: Path) -> None:
    record(tmp_path / "a", "old", started=1.0)
    record(tmp_path / "b", "new", started=3.0)
    record(tmp_path / "a", "middle", started=2.0)
    assert [each.id for each in entries(tmp_path / "a", tmp_path / "b", tmp_path / "c")] == ["new", "middle", "old"]


def test_find_takes_the_beginning_of_an_id_or_a_name(tmp_path: Path) -> None:
    record(tmp_path, "abcd", name="one", started=1.0)
    record(tmp_path, "abef", name="two", started=2.0)
    record(tmp_path, "zzzz", name="two", started=3.0)
    assert [find([tmp_path], text).id for text in ("abc", "ABEF", "one", "two")] == ["abcd", "abef", "abcd", "zzzz"]
    with pytest.raises(AmbiguousRunError, match=r"could be abef \(two\), abcd \(one\)") as found:
        find([tmp_path], "ab")
    assert [each.id for each in found.value.candidates] == ["abef", "abcd"]
    for text in ("x", ""):
        with pytest.raises(UnknownRunError, match=r"Recorded: zzzz \(two\)"):
            find([tmp_path], text)
    with pytest.raises(UnknownRunError, match="No run is recorded"):
        find([tmp_path / "none"], "x")


def test_unfinished_runs_are_those_of_the_folder_newest_first(tmp_path: Path) -> None:
    record(tmp_path, "first", started=1.0, status=1)
    record(tmp_path, "second", started=2.0, status=None)
    record(tmp_path, "third", started=3.0)
    record(tmp_path, "other", started=4.0, status=1, where="/elsewhere")
    found = next(history.unfinished([tmp_path], "/data"), None)
    assert found is not None
    assert found.id == "second"
    live = record(tmp_path, "live", started=5.0, status=None, is_open=True)
    found = next(history.unfinished([tmp_path], "/data"), None)
    live.close()
    assert found is not None
    assert found.id == "live"
    assert not list(history.unfinished([tmp_path], "/nowhere"))


def test_remove_refuses_a_run_that_is_recorded(tmp_path: Path) -> None:
    store = record(tmp_path, "live", status=None, is_open=True)
    [entry] = entries(tmp_path)
    with pytest.raises(BusyError):
        remove(entry)
    store.close()
    remove(entry)
    assert list(tmp_path.iterdir()) == []


def test_list_of_many_runs_decodes_no_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(50):
        record(tmp_path, f"run{number:05}", status=None if number % 2 else 0)
    monkeypatch.setattr("asyncwatch.journal.store.unpack_batch", None)
    before = time.process_time()
    found: list[Entry] = entries(tmp_path)
    assert len(found) == 50
    assert time.process_time() - before < 1.0


def test_run_that_cannot_be_read_is_listed_as_damaged(tmp_path: Path) -> None:
    (tmp_path / "broken.sqlite").touch(mode=0o600)
    with pytest.raises(UnknownRunError, match=r"Recorded: broken \(damaged\)"):
        find([tmp_path], "zz")
