"""A journal that was cut or overwritten anywhere: what can be read is used, and nothing is done that is not."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncwatch.events import Event, RunStarted, WorkerFailed, WorkersQueued, WorkerSucceeded
from asyncwatch.journal.history import RunState, entries, unfinished
from asyncwatch.journal.identity import keys_of
from asyncwatch.journal.resume import Past, split_keys
from asyncwatch.journal.salvage import Salvaged, launches_of, mend
from asyncwatch.journal.store import (
    FORMAT,
    BusyError,
    DamagedError,
    Launch,
    RunInfo,
    RunJournal,
    RunStore,
    parts_of,
    store_batch,
)

ITEMS = [f"item-{number}" for number in range(1_500)]
KEYS = keys_of(ITEMS)
INFO = RunInfo("abcdefgh", "rootroot", "", "jobs:job")
SEEDS = range(int(os.environ.get("ASYNCWATCH_DAMAGES", "4")))
"""For each of them a file is damaged at another place."""


def launch(**changes: object) -> Launch:
    values: dict[str, object] = {"number": 0, "started": 3.0, "pid": 1, "host": "", "folder": "/here", "seed": 1}
    return Launch(**{**values, "command": ["jobs:job"], "version": "1", **changes})  # type: ignore[arg-type]


def write_launch(store: RunStore, start: int, stop: int) -> set[str]:
    """Record a launch of the items from `start` on, of which those up to `stop` end; return those that succeed."""
    chance, done = random.Random(start), set[str]()
    store.begin(launch())
    names = ITEMS[start:]
    keys = keys_of(names)
    seq = 2
    started = RunStarted(0, 0.0, "jobs:job", len(names), "gather", 7, 10, None, 100.0)
    store.write(parts_of(0, "g", *keys), [store_batch((started, WorkersQueued(1, 0.0, "g", 3, tuple(names))))])
    at = 0
    while start + at < stop:
        events: list[Event] = []
        for name in names[at : at + chance.choice((1, 2, 40))]:
            is_good = chance.random() < 0.9
            result = chance.randbytes(chance.choice((2, 2, 2, 3_000))).hex()
            end = (name, 1, 1, 1.0)
            events.append(
                WorkerSucceeded(seq, 1.0, *end, result) if is_good else WorkerFailed(seq, 1.0, *end, "OSError", "x")
            )
            done |= {name} if is_good else set()
            seq += 1
        at += len(events)
        store.write(batches=[store_batch(tuple(events))])
    return done


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, set[str]]:
    """Return the folder of the journal of a run whose second launch is killed, with a log; and the items done."""
    folder = tmp_path_factory.mktemp("recorded")
    store = RunStore.create(folder / "live", INFO)
    done = write_launch(store, 0, 800)
    store.end(9.0, 130, {"is_interrupted": True})
    done |= write_launch(store, 800, 1_300)
    shutil.copytree(folder / "live", folder / "dead")
    store.close()
    return folder / "dead", done


def copy_of(recorded: tuple[Path, set[str]], target: Path, *, has_log: bool = True) -> Path:
    path = Path(shutil.copytree(recorded[0], target / "copy")) / "abcdefgh.sqlite"
    if not has_log:
        RunStore.reopen(path).close()  # takes the log into the file
    Path(f"{path}-shm").unlink(missing_ok=True)
    return path


def done_in(path: Path) -> set[str]:
    """Return the items that are done, as a resume finds them."""
    names = {key: name for (key, _), name in zip(split_keys(KEYS), ITEMS, strict=True)}
    with RunJournal(path) as journal:
        journal.check()
        past = Past(journal)
        found = {names[key] for group in past.groups.values() for key in group.done}
        ends = [(group, event.worker) for group, event in past.successes(frozenset())]
    assert sorted(ends) == sorted(("g", name) for name in found)
    return found


def done_after(path: Path) -> tuple[set[str], Salvaged | None]:
    """Return the items that are done, after the journal was mended if it was damaged."""
    try:
        return done_in(path), None
    except DamagedError:
        salvaged = mend(path)
    done = done_in(path)
    store = RunStore.reopen(path)  # and it can be written
    store.begin(launch())
    store.write(batches=[store_batch((WorkersQueued(0, 0.0, "g", 3, ("a",)),))])
    store.close()
    assert done_in(path) == done
    return done, salvaged


def cut(data: bytearray, at: int, _chance: random.Random) -> None:
    del data[at:]


def garble(data: bytearray, at: int, chance: random.Random) -> None:
    data[at : at + 300] = chance.randbytes(len(data[at : at + 300]))


def garble_end(data: bytearray, at: int, chance: random.Random) -> None:
    data[at:] = chance.randbytes(len(data) - at)


def flip(data: bytearray, at: int, chance: random.Random) -> None:
    data[at] ^= 1 << chance.randrange(8)


@pytest.mark.parametrize("damage", [cut, garble, garble_end, flip])
@pytest.mark.parametrize("which", ["file", "file with a log", "log"])
@pytest.mark.parametrize("seed", SEEDS)
def test_damage_anywhere_loses_no_item_and_makes_none_done(
    recorded: tuple[Path, set[str]],
    tmp_path: Path,
    damage: Callable[[bytearray, int, random.Random], None],
    which: str,
    seed: int,
) -> None:
    path = copy_of(recorded, tmp_path, has_log=which != "file")
    target = Path(f"{path}-wal") if which == "log" else path
    data = bytearray(target.read_bytes())
    chance = random.Random(f"{seed} {which} {damage.__name__}")
    damage(data, chance.randrange(len(data)), chance)
    target.write_bytes(data)
    done, salvaged = done_after(path)
    assert done <= recorded[1]
    assert salvaged is None or salvaged.kept.exists()


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
def test_cut_of_the_end_costs_only_the_end(tmp_path: Path, share: float) -> None:
    store = RunStore.create(tmp_path, INFO)
    done = write_launch(store, 0, 1_000)
    store.close()
    data = store.path.read_bytes()
    store.path.write_bytes(data[: int(len(data) * share)])
    found, salvaged = done_after(store.path)
    assert salvaged is not None
    assert share - 0.2 < len(found) / len(done) <= 1.0


@pytest.mark.parametrize("kept", [0, 50, 5_000, 9_000])
def test_command_is_known_when_its_page_is_lost(recorded: tuple[Path, set[str]], tmp_path: Path, kept: int) -> None:
    path = copy_of(recorded, tmp_path, has_log=False)
    path.write_bytes(path.read_bytes()[:kept])
    info, [known] = launches_of(path)
    assert (info, known.command, known.folder) == (INFO, ["jobs:job"], "/here")
    assert done_after(path)[0] == set()
    path.with_suffix(".launch").write_bytes(b"[1, 2]")
    path.write_bytes(b"")
    with pytest.raises(DamagedError, match="start it again"):
        done_after(path)


def test_file_that_was_emptied_is_made_anew_of_its_log(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path / "live", INFO)
    done = write_launch(store, 1_400, 1_500)
    folder = Path(shutil.copytree(tmp_path / "live", tmp_path / "dead"))
    store.close()
    path = folder / store.path.name
    path.write_bytes(b"")
    assert done_after(path)[0] == done
    assert not list(folder.glob("*.mending"))
    names = sorted(each.name for each in folder.glob("*.damaged*"))
    assert names == ["abcdefgh.damaged1", "abcdefgh.damaged1-wal"]


def test_what_is_found_of_the_run_is_what_was_written(recorded: tuple[Path, set[str]], tmp_path: Path) -> None:
    path = copy_of(recorded, tmp_path)
    before = launches_of(path)
    with RunJournal(path) as journal:
        assert before == (journal.info, journal.launches())
    whole = done_in(path)
    mend(path)
    with RunJournal(path) as journal:
        assert before == (journal.info, journal.launches())
    assert done_in(path) == whole


def test_names_after_a_gap_belong_to_no_item(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, INFO)
    store.begin(launch())
    names = ITEMS[:4]
    queued = [WorkersQueued(seq, 0.0, "g", 3, (name,)) for seq, name in enumerate(names)]
    ended = WorkerSucceeded(4, 1.0, names[3], 1, 1, 1.0)
    store.write(parts_of(0, "g", *keys_of(names)), [store_batch((event,)) for event in (*queued, ended)])
    store.close()
    with contextlib.closing(sqlite3.connect(store.path)) as connection:
        connection.execute("DELETE FROM batch WHERE number = 2")
        connection.commit()
    assert done_in(store.path) == set()


def test_journal_of_format_1_is_read_resumed_and_mended(recorded: tuple[Path, set[str]], tmp_path: Path) -> None:
    path = copy_of(recorded, tmp_path, has_log=False)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for table in ("launch", "items", "batch"):
            connection.execute(f"ALTER TABLE {table} DROP COLUMN checksum")
        connection.execute("PRAGMA user_version=1")
    assert done_in(path) == recorded[1]
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) * 2 // 3])
    done, salvaged = done_after(path)
    assert salvaged is not None
    assert 0 < len(done) < len(recorded[1])
    path.write_bytes(data)
    store = RunStore.reopen(path)
    store.begin(launch())
    store.end(1.0, 0, {})
    store.close()
    assert done_in(path) == recorded[1]
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        assert connection.execute("SELECT count(checksum), count(*) FROM launch").fetchone() == (1, 3)


def test_damaged_run_is_among_those_that_are_unfinished(recorded: tuple[Path, set[str]], tmp_path: Path) -> None:
    path = copy_of(recorded, tmp_path, has_log=False)
    path.write_bytes(path.read_bytes()[:20_000])
    [entry] = entries(path.parent)
    assert (entry.state, entry.name, entry.folder, entry.launches) == (RunState.DAMAGED, "jobs:job", "/here", 2)
    assert "asyncwatch resume abcdefgh goes on with what can be read" in entry.problem
    assert [each.id for each in unfinished([path.parent], "/here")] == ["abcdefgh"]
    path.with_suffix(".launch").unlink()
    path.write_bytes(path.read_bytes()[:5_000])
    assert list(unfinished([path.parent], "/here")) == []


def test_journal_that_is_being_written_is_not_mended(tmp_path: Path) -> None:
    store = RunStore.create(tmp_path, INFO)
    with pytest.raises(BusyError):
        mend(store.path)
    store.close()


@pytest.mark.parametrize("content", [b"", b"garbage" * 3_000, b"SQLite format 3\0" + bytes(20_000), b"\r" * 50_000])
def test_file_in_which_nothing_can_be_read_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "abcdefgh.sqlite"
    path.write_bytes(content)
    with pytest.raises(DamagedError, match="start it again"):
        mend(path)
    assert path.read_bytes() == content
    assert [each.suffix for each in tmp_path.iterdir() if each.suffix != ".lock"] == [".sqlite"]
