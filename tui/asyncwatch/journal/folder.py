"""The folder of journals: where it is, whether it can hold them, and which of them may go.

A config can name another folder than that of the user's state (`journal_dir`). Each folder that was used is noted in a
file of its own in the state, so that its runs are found whichever config named it.
"""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from asyncwatch.journal.store import (
    SUFFIX,
    BusyError,
    JournalError,
    Launch,
    RunInfo,
    RunJournal,
    RunStore,
    locked,
    make_folder,
)

UNFINISHED_KEPT = 31 * 86_400.0
"""Seconds for which a run that can be resumed is kept, whatever the limits."""
_NOTES = "folders"
"""The folder in the state that has a file for each folder of journals."""
_NETWORK = re.compile(
    r"nfs4?|cifs|smb3|smbfs|afs|ncpfs|ceph|lustre|gpfs|beegfs|glusterfs|fuse\.(sshfs|glusterfs|ceph.*)"
)
"""Types of file systems on which processes of several machines may meet: SQLite's log needs shared memory."""
_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")


class NetworkFolderError(OSError):
    """The folder is on a network file system, where SQLite cannot keep a log."""


def runs_folder(journal_dir: str | None = None) -> Path:
    """Return the folder of journals: `journal_dir`, if there is one, else that of the user's state."""
    return Path(journal_dir) if journal_dir is not None else _state_folder() / "runs"


def used_folders() -> list[Path]:
    """Return the folders of journals: that of the user's state, and others that were used.

    What was noted of folders that have gone is removed.
    """
    found = [runs_folder()]
    notes: list[Path] = []
    with suppress(OSError):
        notes = sorted((_state_folder() / _NOTES).iterdir())
    for note in notes:
        with suppress(OSError, ValueError):
            if note.stat().st_uid != os.geteuid():  # a resume runs what a journal says
                continue
            folder = Path(os.fsdecode(note.read_bytes()))
            if folder.is_absolute() and folder.is_dir():
                found.append(folder)
            else:
                note.unlink()
    return found


def note_folder(folder: Path) -> None:
    """Note that a folder holds journals. A state that cannot be written is left as it is."""
    folder = folder.absolute()
    if folder == runs_folder().absolute():
        return
    data = os.fsencode(folder)
    notes = _state_folder() / _NOTES
    note = notes / blake2b(data, digest_size=8).hexdigest()
    with suppress(OSError):
        if not note.exists():
            make_folder(notes)
            temporary = note.with_name(f"{note.name}.{os.getpid()}")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with open(os.open(temporary, flags, 0o600), "wb") as file:  # noqa: PTH123  of a descriptor
                file.write(data)
            temporary.replace(note)


def _state_folder() -> Path:
    import platformdirs  # noqa: PLC0415  only recorded runs need it

    return platformdirs.user_state_path("asyncwatch")


def check_folder(folder: Path) -> None:
    """Raise a `NetworkFolderError` if journals in `folder` would not be safe."""
    kind = ""
    with suppress(OSError):
        kind = file_system(folder.resolve(), _MOUNTS.read_text(errors="surrogateescape"))
    if _NETWORK.fullmatch(kind):
        raise NetworkFolderError(
            f"{folder} is on a network file system ({kind}); set journal_dir to a folder of this machine"
        )


def file_system(path: Path, mounts: str) -> str:
    """Return the type of the file system of a resolved path, by the lines of `mountinfo`; empty if that is unknown."""
    found, longest = "", -1
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        if len(parts := fields.split()) < 5 or not rest:
            continue
        point = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), parts[4]))
        depth = len(point.parts)
        if depth >= longest and path.is_relative_to(point):  # a later mount hides an earlier one
            found, longest = rest.split()[0], depth
    return found


def create_run(folder: Path, info: RunInfo, launch: Launch, *, keep: int, size: int) -> RunStore:
    """Make the journal of a new run, begin its first launch, and remove old journals as `prune` does.

    Raises:
        OSError: The folder or the file cannot be made.
        sqlite3.Error: The same.

    """
    check_folder(folder)
    store = RunStore.create(folder, info)
    try:
        store.begin(launch)
    except BaseException:
        store.close()
        remove(store.path)  # the next attempt begins anew
        raise
    note_folder(folder)
    prune(folder, keep=keep, size=size)
    return store


class Stored(NamedTuple):
    """A journal in the folder."""

    path: Path
    size: int
    """Bytes of all its files."""
    used: float
    """When it was last written, in seconds since the epoch."""


def prune(folder: Path, *, keep: int, size: int) -> list[str]:
    """Remove old journals until there are at most `keep`, of `size` bytes in all. Return the IDs of the runs.

    The oldest go first, and those of finished runs before others, which are kept for a month, with the runs that they
    repeat: an output file may hold the items of all of them. A journal that is being written stays.
    """
    found = sorted(journals(folder), key=lambda each: each.used)
    number, total = len(found), sum(each.size for each in found)
    if number <= keep and total <= size:
        return []
    old = time.time() - UNFINISHED_KEPT
    states = {each.path: _state(each.path) for each in found}
    kept: set[Path] = set()
    for each in found:
        path, is_kept = each.path, not states[each.path].is_finished and each.used >= old
        while is_kept and path in states and path not in kept:
            kept.add(path)
            path = path.with_name(f"{states[path].parent}{SUFFIX}")
    candidates = sorted(
        (each for each in found if each.path not in kept), key=lambda each: not states[each.path].is_finished
    )
    removed = []
    for each in candidates:
        if number <= keep and total <= size:
            break
        with suppress(BusyError, OSError):
            remove(each.path)
            removed.append(each.path.stem)
            number, total = number - 1, total - each.size
    return removed


class _State(NamedTuple):
    is_finished: bool
    """Whether nothing is left to resume."""
    parent: str
    """The ID of the run that it repeats; empty if there is none."""


def _state(path: Path) -> _State:
    """Return the state of a journal, which may be damaged."""
    try:
        with RunJournal(path) as journal:
            launches = journal.launches()
            return _State(bool(launches) and launches[-1].is_finished, journal.info.parent)
    except (JournalError, OSError, sqlite3.Error):
        return _State(is_finished=False, parent="")


def remove(path: Path) -> None:
    """Remove a journal with all files that belong to it.

    Raises:
        BusyError: Its run is being recorded.
        OSError: A file cannot be removed.

    """
    lock = path.with_suffix(".lock")
    with locked(path):
        for file in _files_of(path):
            if file != lock:
                file.unlink(missing_ok=True)
        lock.unlink(missing_ok=True)


def journals(folder: Path) -> Iterator[Stored]:
    """Yield the journals of a folder, in any order. A folder that cannot be read has none."""
    paths: list[Path] = []
    with suppress(OSError):
        paths = list(folder.iterdir())
    by_run: dict[str, list[Path]] = {}
    for path in paths:
        by_run.setdefault(path.name.partition(".")[0], []).append(path)
    for path in paths:
        if path.suffix == SUFFIX:
            with suppress(OSError):
                own = {file.name: file.stat() for file in by_run[path.name.partition(".")[0]]}
                # What readers make is left out: SQLite's shared memory, an empty log, an index.
                log = own.get(f"{path.name}-wal")
                used = own[path.name].st_mtime
                used = max(used, log.st_mtime) if log is not None and log.st_size else used
                yield Stored(path, sum(status.st_size for status in own.values()), used)


def _files_of(path: Path) -> list[Path]:
    return [file for file in path.parent.iterdir() if file.name.partition(".")[0] == path.stem]
