"""The folder of journals: old ones go, and none that is needed or being written."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from asyncwatch.journal import folder as module
from asyncwatch.journal.folder import (
    NetworkFolderError,
    check_folder,
    file_system,
    note_folder,
    prune,
    remove,
    runs_folder,
    used_folders,
)
from asyncwatch.journal.store import BusyError, Launch, RunInfo, RunJournal, RunStore

DAY = 86_400.0


def journal(
    folder: Path, run_id: str, age: float, *, parent: str = "", is_finished: bool = True, is_open: bool = False
) -> RunStore:
    """Make a journal that was last written so many seconds ago."""
    store = RunStore.create(folder, RunInfo(run_id, run_id, parent, "run"))
    store.begin(Launch(number=0, started=0.0, pid=1, host="", folder="", command=[], seed=1, version=""))
    if is_finished:
        store.end(1.0, 0, {"is_interrupted": False})
    (folder / f"{run_id}.index").write_bytes(b"derived")
    if not is_open:
        store.close()
    for path in folder.glob(f"{run_id}.*"):
        os.utime(path, (time.time() - age,) * 2)
    return store


def runs(folder: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in folder.iterdir()}


def test_oldest_finished_runs_go_first(tmp_path: Path) -> None:
    journal(tmp_path, "old", 3 * DAY)
    journal(tmp_path, "older", 4 * DAY, is_finished=False)
    journal(tmp_path, "new", DAY)
    assert prune(tmp_path, keep=2, size=1 << 40) == ["old"]
    assert runs(tmp_path) == {"older", "new"}


def test_unfinished_runs_go_last_after_a_month(tmp_path: Path) -> None:
    journal(tmp_path, "lost", 40 * DAY, is_finished=False)
    journal(tmp_path, "kept", 20 * DAY, is_finished=False)
    journal(tmp_path, "done", DAY)
    assert prune(tmp_path, keep=1, size=1 << 40) == ["done", "lost"]
    assert runs(tmp_path) == {"kept"}


def test_runs_that_an_unfinished_one_repeats_stay_with_it(tmp_path: Path) -> None:
    journal(tmp_path, "first", 9 * DAY)
    journal(tmp_path, "second", 8 * DAY, parent="first")
    journal(tmp_path, "third", 7 * DAY, parent="second", is_finished=False)
    journal(tmp_path, "other", DAY)
    assert prune(tmp_path, keep=0, size=0) == ["other"]
    assert runs(tmp_path) == {"first", "second", "third"}


def test_run_that_was_stopped_counts_as_unfinished(tmp_path: Path) -> None:
    store = journal(tmp_path, "stopped", DAY, is_finished=False, is_open=True)
    store.end(1.0, 130, {"is_interrupted": True})
    store.close()
    assert prune(tmp_path, keep=0, size=0) == []


def test_size_of_all_journals_is_limited(tmp_path: Path) -> None:
    for number in range(4):
        journal(tmp_path, f"run{number}", (9 - number) * DAY)
    size = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert prune(tmp_path, keep=100, size=size // 2) == ["run0", "run1"]


def test_journal_that_is_being_written_stays(tmp_path: Path) -> None:
    store = journal(tmp_path, "live", 50 * DAY, is_open=True)
    assert prune(tmp_path, keep=0, size=0) == []
    with pytest.raises(BusyError, match=str(os.getpid())):
        remove(store.path)
    assert store.path.exists()
    store.close()
    assert prune(tmp_path, keep=0, size=0) == ["live"]
    assert list(tmp_path.iterdir()) == []


def test_damaged_journal_is_kept_for_a_month(tmp_path: Path) -> None:
    for name, age in (("new", DAY), ("old", 40 * DAY)):
        (tmp_path / f"{name}.sqlite").write_bytes(b"garbage")
        os.utime(tmp_path / f"{name}.sqlite", (time.time() - age,) * 2)
    assert prune(tmp_path, keep=0, size=0) == ["old"]


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /home rw shared:1 - nfs4 server:/home rw
31 30 0:41 / /home/with\\040space rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [("/var/x", "ext4"), ("/home/me", "nfs4"), ("/homes", "ext4"), ("/home/with space/x", "tmpfs"), ("/", "ext4")],
)
def test_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert file_system(Path(path), MOUNTS) == kind


def test_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22 0:9 / {tmp_path.resolve()} rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(module, "_MOUNTS", mounts)
    with pytest.raises(NetworkFolderError, match="nfs4"):
        check_folder(tmp_path / "runs")
    check_folder(tmp_path.parent)


def test_reader_does_not_make_a_journal_newer(tmp_path: Path) -> None:
    journal(tmp_path, "old", 3 * DAY)
    journal(tmp_path, "new", DAY)
    with RunJournal(tmp_path / "old.sqlite") as reader:
        reader.launches()
    assert prune(tmp_path, keep=1, size=1 << 40) == ["old"]


def test_folders_that_were_used_are_known_until_they_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert used_folders() == [runs_folder()]
    first, second = tmp_path / "a b\n", tmp_path / os.fsdecode(b"\xff")
    for folder in (first, second, first, runs_folder()):
        folder.mkdir(parents=True, exist_ok=True)
        note_folder(folder)
    notes = tmp_path / "state" / "asyncwatch" / "folders"
    assert {first, second} == set(used_folders()[1:])
    assert len(list(notes.iterdir())) == 2
    assert {note.stat().st_mode & 0o777 for note in notes.iterdir()} == {0o600}
    assert notes.stat().st_mode & 0o777 == 0o700
    first.rmdir()
    assert used_folders() == [runs_folder(), second]
    assert len(list(notes.iterdir())) == 1


def test_state_that_cannot_be_written_does_not_prevent_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "state").write_text("no folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    note_folder(tmp_path)
    assert used_folders() == [runs_folder()]


def test_garbage_among_the_notes_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    notes = tmp_path / "asyncwatch" / "folders"
    notes.mkdir(parents=True)
    for name, data in (("a", b"relative"), ("b", b"/nowhere"), ("c", b""), ("d", b"/nul\0l")):
        (notes / name).write_bytes(data)
    (notes / "folder").mkdir()
    assert used_folders() == [runs_folder()]
