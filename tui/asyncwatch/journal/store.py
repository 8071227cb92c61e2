"""The file of a run's journal: one SQLite database, what is in it, and how it is written and read.

A run is launched once, and again by each resume. All launches stand in the same file, each with its items and its
batches of events, which are numbered through the whole file. A batch is MessagePack (`events.wire`), plain or
compressed. The items of a launch stand in the order in which their workers are queued, some thousand in a row: the key
of each (`journal.identity`), and a hash of its content where the key is made of a name.

Folder and file belong to the user alone (0700, 0600). Who writes holds a lock on `<id>.lock` beside the file, in which
its process ID stands. The lock ends with the process. Readers need no lock, and should read for a short time: while
they do, the log of SQLite grows.

`PRAGMA user_version` is the number of the FORMAT. A newer one is refused. Format 1 had no checksums. They tell a row
that was overwritten from a true one, which SQLite does not: such a row could make an item done that is not.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import sqlite3
import threading
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NamedTuple, Self, TypeVar
from urllib.parse import quote

import msgspec

from asyncwatch.events import Batch, Event
from asyncwatch.events.wire import inflate, pack_batch, unpack_batch
from asyncwatch.text import printable

FORMAT = 2
"""The number of the format. A change that older readers cannot read raises it."""
SUFFIX = ".sqlite"
FUNCTION = "amap.function"
"""The setting of a launch by `amap` that names the function which it calls."""
SPARE = ".launch"
"""The suffix of a file with the values of the run and its last launch, as JSON."""
KEY_SIZE = 16
"""Bytes of a key of an item."""
CONTENT_SIZE = 8
"""Bytes of the hash of an item's content."""
APPLICATION = 0x61737977
"""`PRAGMA application_id` of the files: `asyw`."""
_WAL_LIMIT = 4 << 20
"""Bytes to which the log of SQLite is cut after a checkpoint."""
_BUSY = 5.0
"""Seconds for which one connection waits for another one."""
_PLAIN, _ZLIB, _DAMAGED = 0, 1, -1
_COMPRESSED_FROM = 64
"""Bytes of the smallest batch that is compressed."""
LARGEST = 16 << 20
"""Bytes of a batch, beyond which it is divided. SQLite takes no more than 1 GB in one value. A single event that is
larger is not compressed, so that no reader has to unpack more than this from a few bytes."""

_Seconds = Annotated[float, msgspec.Meta(ge=-1e11, le=1e11)]
"""Neither a date that no calendar has, nor infinite."""
_T = TypeVar("_T")
_FileName = Annotated[str, msgspec.Meta(pattern=r"^[^/\x00]*$")]

SCHEMA = """
CREATE TABLE run(id TEXT NOT NULL, root TEXT NOT NULL, parent TEXT NOT NULL, name TEXT NOT NULL);
CREATE TABLE launch(
    number INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, pid INTEGER NOT NULL, host TEXT NOT NULL,
    folder TEXT NOT NULL, command TEXT NOT NULL, settings TEXT NOT NULL, seed TEXT NOT NULL, version TEXT NOT NULL,
    done_before INTEGER NOT NULL, status INTEGER, summary TEXT, checksum INTEGER
);
CREATE TABLE items(
    launch INTEGER, first INTEGER, size INTEGER NOT NULL, "group" TEXT NOT NULL, keys BLOB NOT NULL,
    content BLOB NOT NULL, checksum INTEGER, PRIMARY KEY(launch, first)
);
CREATE TABLE batch(
    number INTEGER PRIMARY KEY, launch INTEGER NOT NULL, first INTEGER NOT NULL, events INTEGER NOT NULL,
    at REAL NOT NULL, codec INTEGER NOT NULL, data BLOB NOT NULL, checksum INTEGER
);
CREATE TABLE snapshot(launch INTEGER, seq INTEGER, data BLOB NOT NULL, PRIMARY KEY(launch, seq));
CREATE INDEX batch_at ON batch(launch, at);
"""
_SELECT_LAUNCH = (
    "SELECT number, started, ended, pid, host, folder, command, settings, seed, version, done_before, status, summary, "
    "checksum FROM launch "
)
_INSERT_LAUNCH = "INSERT OR REPLACE INTO launch VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_CHECKED = ("launch", "items", "batch")
"""Tables whose rows have a checksum."""


class JournalError(Exception):
    """A journal that cannot be used. The message is a sentence or two for a person."""


class NewerFormatError(JournalError):
    """The file was written by a newer version of asyncwatch."""


class DamagedError(JournalError):
    """The file is no journal, or is damaged."""


class BusyError(JournalError):
    """Another process writes the journal. `pid` is its process ID, 0 if that is unknown."""

    def __init__(self, message: str, pid: int) -> None:
        super().__init__(message)
        self.pid = pid


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One launch of a run: the first one, or a resume."""

    number: int
    """From 1."""
    started: _Seconds
    """Seconds since the epoch."""
    ended: _Seconds | None = None
    """The same; None while it runs, and for ever if its process was killed."""
    pid: int
    host: str
    folder: str
    """The current directory when it started."""
    command: list[str]
    """The arguments after the name of the command, without secrets."""
    settings: dict[str, Any] = {}
    """The settings of the config as they were written there, by dotted key, without secrets."""
    seed: int
    version: str
    """The version of asyncwatch."""
    done_before: int = 0
    """Items that had succeeded in earlier launches."""
    status: int | None = None
    """The exit status; None as for `ended`."""
    summary: Any = None
    """The summary at the end (`model.summary`), as a value of JSON."""

    @property
    def is_finished(self) -> bool:
        """Whether the run came to its own end: it was neither killed nor stopped, so nothing is left to do."""
        is_interrupted = isinstance(self.summary, dict) and bool(self.summary.get("is_interrupted"))
        return self.ended is not None and not is_interrupted

    @property
    def is_of_program(self) -> bool:
        """Whether a program has launched it by `amap`. Then `command` is that of the program."""
        return FUNCTION in self.settings


class RunInfo(NamedTuple):
    """What a journal says of its run as a whole."""

    id: _FileName
    root: str
    """The ID of the first run of a chain of repeats (`again`); the run's own ID if it repeats none."""
    parent: _FileName
    """The ID of the run that it repeats, or an empty text."""
    name: str


class ItemKeys(NamedTuple):
    """Items of one group, in the order in which their workers are queued."""

    first: int
    """The index of the first one among all workers of the launch, from 0."""
    group: str
    keys: bytes
    """KEY_SIZE bytes for each."""
    content: bytes
    """CONTENT_SIZE bytes for each, or nothing if the keys are made of the content."""


class StoredBatch(NamedTuple):
    """A batch of events as it is in the file."""

    number: int
    """From 1, through the whole file, in the order of time."""
    launch: int
    first: int
    """The `seq` of the first event."""
    events: int
    """How many there are."""
    at: _Seconds
    """The `at` of the last event, in seconds since the launch started."""
    codec: int
    data: bytes

    def unpack(self) -> tuple[Event, ...]:
        """Return the events.

        Raises:
            DamagedError: The data is no batch.

        """
        if self.codec == _DAMAGED:
            raise DamagedError(f"batch {self.number} of the journal has a wrong checksum")
        try:
            events = unpack_batch(inflate(self.data, LARGEST) if self.codec == _ZLIB else self.data)
            if not math.isfinite(sum(event.at for event in events)):
                raise msgspec.DecodeError("an event has no time")  # noqa: TRY301  as others that no writer makes
        except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise DamagedError(f"batch {self.number} of the journal cannot be read: {error}") from None
        return events


class StoredSnapshot(NamedTuple):
    """The state of a run before one of its events."""

    seq: int
    """Of that event."""
    parts: tuple[bytes, ...]
    """The `data` of each `SnapshotPart`."""


# -- writing


class RunStore:
    """Writes the journal of a run. At most one exists for a run, on this machine. Not safe for threads.

    Errors of SQLite (`sqlite3.Error`) are raised as they are. A failed transaction leaves nothing of it in the file.
    """

    def __init__(self, path: Path, info: RunInfo, lock: int, connection: sqlite3.Connection) -> None:
        self.path = path
        self._info = info
        self._lock: int | None = lock
        self._connection = connection
        self._launch = 0
        self._files = {name: _identity(name) for name in (path, path.with_suffix(".lock"))}

    @classmethod
    def create(cls, folder: Path, info: RunInfo) -> Self:
        """Make the journal of a new run in `folder`, which is made if it does not exist.

        Raises:
            OSError: The folder or the file cannot be made.
            sqlite3.Error: The same.

        """
        make_folder(folder)
        path = folder / f"{info.id}{SUFFIX}"
        lock = _lock(path)
        try:
            # Without umask, and before SQLite: `-wal` and `-shm` get the permissions of the file.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
            connection = _connect(path)
            connection.execute(f"PRAGMA application_id={APPLICATION}")
            with _transaction(connection):
                for statement in filter(str.strip, SCHEMA.split(";")):
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version={FORMAT}")
                connection.execute("INSERT INTO run VALUES(?, ?, ?, ?)", info)
            return cls(path, info, lock, connection)
        except FileExistsError:
            _unlock(lock)
            raise
        except BaseException:
            for name in (path, f"{path}-wal", f"{path}-shm", path.with_suffix(".lock")):  # the next attempt begins anew
                with contextlib.suppress(OSError):
                    Path(name).unlink()
            _unlock(lock)
            raise

    @classmethod
    def reopen(cls, path: Path) -> Self:
        """Open a journal for another launch of its run.

        Raises:
            BusyError: Another process writes it.
            JournalError: It cannot be used.
            OSError: It cannot be opened.

        """
        lock = _lock(path)
        try:
            with RunJournal(path) as journal:
                journal.check()
                info = journal.info
            connection = _connect(path)
            try:
                _raise_format(connection)
            except BaseException:
                connection.close()
                raise
            return cls(path, info, lock, connection)
        except BaseException:
            _unlock(lock)
            raise

    def begin(self, launch: Launch) -> int:
        """Write that a launch started, and return its number, which need not be that of `launch`."""
        with _transaction(self._connection):
            row = self._connection.execute("SELECT coalesce(max(number), 0) + 1 FROM launch").fetchone()
            self._launch = int(row[0])
            row = (
                self._launch,
                launch.started,
                launch.ended,
                launch.pid,
                launch.host,
                launch.folder,
                _json(launch.command),
                _json(launch.settings),
                str(launch.seed),  # it may have more than 64 bits
                launch.version,
                launch.done_before,
                launch.status,
                None,
            )
            self._connection.execute(_INSERT_LAUNCH, self._checked(row))
        self._write_spare(self._checked(row))
        # SQLite has made them by now, and goes on writing to a deleted one: a crash would lose what is in it.
        self._files |= {name: _identity(name) for name in (Path(f"{self.path}-wal"), Path(f"{self.path}-shm"))}
        return self._launch

    def write(self, items: Iterable[ItemKeys] = (), batches: Iterable[StoredBatch] = ()) -> None:
        """Write items and batches of the launch in one transaction. The numbers of the batches are given here.

        Raises:
            FileNotFoundError: The file was deleted or replaced since it was opened: what is written would be lost.

        """
        self._check_files()
        with _transaction(self._connection):
            self._connection.executemany(
                'INSERT OR IGNORE INTO items(launch, first, size, "group", keys, content, checksum) '
                "VALUES(?, ?, ?, ?, ?, ?, ?)",
                (
                    self._checked(
                        (self._launch, part.first, len(part.keys) // KEY_SIZE, part.group, part.keys, part.content)
                    )
                    for part in items
                ),
            )
            last = self._connection.execute("SELECT coalesce(max(number), 0) FROM batch").fetchone()[0]
            self._connection.executemany(
                "INSERT INTO batch(number, launch, first, events, at, codec, data, checksum) "
                "VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
                (self._checked((number, self._launch, *batch[2:])) for number, batch in enumerate(batches, last + 1)),
            )

    def write_snapshot(self, snapshot: StoredSnapshot) -> None:
        """Write a state from which a reader can go on once older batches are dropped. Raises the errors of `write`."""
        self._check_files()
        with _transaction(self._connection):
            data = msgspec.msgpack.encode(snapshot.parts)
            self._connection.execute(
                "INSERT OR REPLACE INTO snapshot VALUES(?, ?, ?)", (self._launch, snapshot.seq, data)
            )

    def trim(self, size: int) -> None:
        """Drop the oldest batches up to a snapshot, as long as those of the launch have more than `size` bytes."""
        query = "SELECT seq FROM snapshot WHERE launch = ? ORDER BY seq"
        with _transaction(self._connection):
            for (seq,) in self._connection.execute(query, (self._launch,)).fetchall():
                total = "SELECT total(length(data)) FROM batch WHERE launch = ?"
                if self._connection.execute(total, (self._launch,)).fetchone()[0] <= size:
                    break
                at = (self._launch, seq)
                self._connection.execute("DELETE FROM batch WHERE launch = ? AND first + events <= ?", at)
                self._connection.execute("DELETE FROM snapshot WHERE launch = ? AND seq < ?", at)

    def end(self, ended: float, status: int, summary: Any) -> None:
        """Write how the launch ended. Raises the same errors as `write`."""
        self._check_files()
        with _transaction(self._connection):
            query = f"{_SELECT_LAUNCH} WHERE number = ?"
            number, started, _, *middle, _, _, _ = self._connection.execute(query, (self._launch,)).fetchone()
            row = (number, started, ended, *middle, status, _json(summary))
            self._connection.execute(_INSERT_LAUNCH, self._checked(row))

    def close(self) -> None:
        """Close the file and give the lock back."""
        with contextlib.suppress(sqlite3.Error):
            self._connection.close()
        lock, self._lock = self._lock, None
        if lock is not None:
            _unlock(lock)

    def forget(self) -> None:
        """Give up the journal in a forked child. Do nothing if it is closed."""
        lock, self._lock = self._lock, None
        if lock is not None:
            _forgotten.append(self._connection)
            _unlock(lock)

    def _write_spare(self, row: tuple[Any, ...]) -> None:
        """Write the launch to a file of its own, by which the run can go on if the journal is damaged where that is."""
        spare = self.path.with_suffix(SPARE)
        temporary = spare.with_suffix(".new")
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with open(os.open(temporary, flags, 0o600), "wb") as file:  # noqa: PTH123  of a descriptor
                file.write(_json([*self._info, *row]).encode())
            temporary.replace(spare)

    def _checked(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return a row with its checksum."""
        return (*row, checksum(self._info.id, row))

    def _check_files(self) -> None:
        for name, known in self._files.items():
            if _identity(name) != known:
                raise FileNotFoundError(errno.ENOENT, f"{printable(str(name))} was deleted or replaced during the run")


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, which belong to the user alone, as far as they do not exist.

    Who could replace one of them could have another run resumed.

    Raises:
        OSError: It cannot be made.

    """
    for each in reversed((folder, *folder.parents)):
        with contextlib.suppress(FileExistsError):
            if not each.is_dir():
                each.mkdir(mode=0o700)
    folder.mkdir(mode=0o700, exist_ok=True)  # an error if it is no folder


_forgotten: list[sqlite3.Connection] = []
"""Connections of a forked child. SQLite must not close what it has not opened in the same process."""


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def store_batch(batch: Batch) -> StoredBatch:
    """Return a batch, which has at least one event, as it is written to the file."""
    return _stored(batch, pack_batch(batch))


def store_batches(batch: Batch) -> list[StoredBatch]:
    """Return a batch, which has at least one event, as it is written to the file: divided if it is large."""
    data = pack_batch(batch)
    if len(data) > LARGEST and len(batch) > 1:
        half = len(batch) // 2
        return [*store_batches(batch[:half]), *store_batches(batch[half:])]
    return [_stored(batch, data)]


def _stored(batch: Batch, data: bytes) -> StoredBatch:
    codec = _PLAIN
    if _COMPRESSED_FROM <= len(data) <= LARGEST:
        data, codec = zlib.compress(data, 1), _ZLIB
    return StoredBatch(0, 0, batch[0].seq, len(batch), batch[-1].at, codec, data)


def checksum(run_id: str, row: Sequence[Any]) -> int:
    """Return the checksum of a row of a run's journal. A row of another run has another one."""
    return zlib.crc32(msgspec.msgpack.encode(row), zlib.crc32(run_id.encode()))


def launch_of_row(row: Sequence[Any]) -> Launch:
    """Return the launch of a row, of which a checksum may be left.

    Raises:
        DamagedError: The row is none.

    """
    names = (field.name for field in msgspec.structs.fields(Launch))
    values = dict(zip(names, row, strict=False))
    try:
        values |= {name: msgspec.json.decode(values[name] or "null") for name in ("command", "settings", "summary")}
        values["seed"] = int(values["seed"])
        return msgspec.convert(values, Launch)
    except (TypeError, ValueError, RecursionError) as error:  # of msgspec, too
        raise DamagedError(f"a launch in the journal cannot be read: {error}") from None


# -- reading


class RunJournal:
    """Reads the journal of a run, also while it is written. A context manager; not safe for threads.

    Raises:
        FileNotFoundError: There is none at `path`.
        JournalError: It belongs to another user.
        NewerFormatError: A newer version of asyncwatch wrote it.
        DamagedError: It is no journal, or is damaged. The methods raise it as well.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if not path.is_file():
            raise FileNotFoundError(f"there is no journal {printable(str(path))!r}")
        if (owner := path.stat().st_uid) != os.geteuid():  # it names the command that a resume runs
            raise JournalError(f"{self._shown} belongs to another user (uid {owner})")
        if not path.stat().st_size and path.exists():
            raise DamagedError(f"{self._shown} is empty")  # SQLite would delete its log
        self._connection = sqlite3.connect(
            f"file:{quote(os.fsencode(path.absolute()))}?mode=ro", uri=True, timeout=_BUSY, isolation_level=None
        )
        try:
            with self._reading():
                self._check_format()
                row = self._connection.execute("SELECT id, root, parent, name FROM run").fetchone()
            if row is None:
                raise DamagedError(f"{self._shown} is empty")  # noqa: TRY301  it closes the file as the others do
            self.info = self._typed(row, RunInfo)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def check(self) -> None:
        """Look at how the file is made, but not at the batches.

        Raises:
            DamagedError: Another launch could not be written to it without more damage.

        """
        with self._reading():
            [found] = self._connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            raise DamagedError(f"{self._shown} is damaged: {found}")
        self.launches()

    def launches(self) -> list[Launch]:
        """Return all launches, the first one first."""
        rows = self._checked_rows("launch", f"{_SELECT_LAUNCH} ORDER BY number")
        return [launch_of_row(row) for row in rows]

    def items(self, launch: int) -> Iterator[ItemKeys]:
        """Yield the items of a launch, in the order of their workers."""
        query = (
            'SELECT launch, first, size, "group", keys, content, checksum FROM items WHERE launch = ? ORDER BY first'
        )
        for _, first, _, *rest in self._checked_rows("a part of launch", query, launch):
            yield self._typed((first, *rest), ItemKeys)

    def batches(self, launch: int, after: int = 0) -> Iterator[StoredBatch]:
        """Yield the batches of a launch, those with a higher number than `after`, in the order of time."""
        query = (
            "SELECT number, launch, first, events, at, codec, data, checksum FROM batch "
            "WHERE launch = ? AND number > ? ORDER BY number"
        )
        for *row, known in self._rows(query, launch, after):
            batch = self._typed(row, StoredBatch)
            is_true = known is None or known == self._checksum_of(row)
            yield batch if is_true else batch._replace(codec=_DAMAGED)  # its reader is told

    def snapshots(self, launch: int) -> Iterator[StoredSnapshot]:
        """Yield the stored states of a launch, in the order of time. There are none unless old batches are dropped."""
        for seq, data in self._rows("SELECT seq, data FROM snapshot WHERE launch = ? ORDER BY seq", launch):
            try:
                parts = msgspec.msgpack.decode(data, type=tuple[bytes, ...])
            except (msgspec.DecodeError, TypeError) as error:
                raise DamagedError(f"a snapshot of {self._shown} cannot be read: {error}") from None
            yield self._typed((seq, parts), StoredSnapshot)

    def first_moment(self, launch: int) -> float:
        """Return the moment from which on the state of a launch is known: 0 unless its oldest batches were dropped."""
        query = "SELECT first, at FROM batch WHERE launch = ? ORDER BY number LIMIT 1"
        return next((at for first, at in self._rows(query, launch) if first > 0), 0.0)

    def last_moment(self, launch: int) -> float:
        """Return the `at` of the last event of a launch; 0 if there is none."""
        with self._reading():
            row = self._connection.execute("SELECT max(at) FROM batch WHERE launch = ?", (launch,)).fetchone()
        moment: float | None = self._typed(row, tuple[_Seconds | None])[0]
        return moment or 0.0

    def _rows(self, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        if not self._has_checksums:
            query = query.replace(", checksum", ", NULL")
        with self._reading():
            cursor = self._connection.execute(query, values)
            while rows := cursor.fetchmany(64):
                yield from rows

    def _checked_rows(self, what: str, query: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query without the checksums at their end."""
        for *row, known in self._rows(query, *values):
            if known is not None and known != self._checksum_of(row):
                raise DamagedError(f"{self._shown} is damaged: {what} {row[0]} has a wrong checksum")
            yield tuple(row)

    def _checksum_of(self, row: list[Any]) -> int | None:
        with contextlib.suppress(TypeError, ValueError, UnicodeEncodeError):
            return checksum(self.info.id, row)
        return None

    def _typed(self, row: object, kind: type[_T]) -> _T:
        """Return a row as `kind`: SQLite takes values of any type in any column."""
        try:
            return msgspec.convert(row, kind)
        except msgspec.ValidationError as error:
            raise DamagedError(f"{self._shown} cannot be read: {error}") from None

    def _check_format(self) -> None:
        application, version = (
            int(self._connection.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("application_id", "user_version")
        )
        if application != APPLICATION:
            raise DamagedError(f"{self._shown} is no journal of asyncwatch")
        if version > FORMAT:
            text = f"{self._shown} was written by a newer version of asyncwatch (format {version}, this one reads"
            raise NewerFormatError(f"{text} {FORMAT}). Update asyncwatch to read it.")
        self._has_checksums = version > 1
        if self._connection.execute("SELECT 1 FROM sqlite_master WHERE type NOT IN ('table', 'index')").fetchone():
            raise DamagedError(f"{self._shown} has views or triggers, which a journal has not")  # they may never end

    @property
    def _shown(self) -> str:
        return f"the journal {printable(str(self.path))!r}"

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise DamagedError(f"{self._shown} cannot be read: {error}") from None


# -- both


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"PRAGMA journal_size_limit={_WAL_LIMIT}")
    except BaseException:
        connection.close()
        raise
    return connection


def _raise_format(connection: sqlite3.Connection) -> None:
    """Make a file of an older format one of this."""
    if connection.execute("PRAGMA user_version").fetchone()[0] < FORMAT:
        with _transaction(connection):
            for table in _CHECKED:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN checksum INTEGER")
            connection.execute(f"PRAGMA user_version={FORMAT}")


@contextlib.contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):  # a full disk has rolled it back already
            connection.execute("ROLLBACK")
        raise


_locks: set[int] = set()
"""Descriptors of the locks of this process. A forked child would keep them: it may be forked at any moment."""
_locks_change = threading.Lock()
"""Held while a lock is opened or closed, and while the process is forked."""


def _close_locks_of_parent() -> None:
    for lock in _locks:
        with contextlib.suppress(OSError):
            os.close(lock)
    _locks.clear()
    _locks_change.release()


os.register_at_fork(
    before=_locks_change.acquire, after_in_parent=_locks_change.release, after_in_child=_close_locks_of_parent
)


def _lock(path: Path) -> int:
    """Lock the journal for this process. Return the descriptor that holds the lock."""
    import fcntl  # noqa: PLC0415  for Unix systems; the errors above are public everywhere

    # `lockf` would lose the lock when anything in this process closes that file.
    with _locks_change:
        lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        _locks.add(lock)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        number = _pid_in(lock)
        _unlock(lock)
        text = f"run {path.stem} is being recorded by process {number or 'unknown'}, which still runs"
        raise BusyError(text, number) from None
    except BaseException:
        _unlock(lock)
        raise
    os.ftruncate(lock, 0)
    os.pwrite(lock, str(os.getpid()).encode(), 0)
    return lock


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a journal inside the context.

    Raises:
        BusyError: Another process writes it.
        OSError: The lock cannot be made.

    """
    lock = _lock(path)
    try:
        yield
    finally:
        _unlock(lock)


def writer_of(path: Path) -> int | None:
    """Return the ID of the process that writes a journal: 0 if it is unknown, None if there is no such process."""
    import fcntl  # noqa: PLC0415  as in `_lock`

    try:
        lock = os.open(path.with_suffix(".lock"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _pid_in(lock)
    else:
        return None
    finally:
        os.close(lock)


def _pid_in(lock: int) -> int:
    pid = os.pread(lock, 20, 0)
    return int(pid) if pid.isdigit() else 0


def _unlock(lock: int) -> None:
    with _locks_change:
        if lock in _locks:  # else it was closed in a forked child, and the number may be that of another file
            _locks.discard(lock)
            with contextlib.suppress(OSError):
                os.close(lock)


def _json(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
        import json  # noqa: PLC0415  for values that msgspec refuses

        return json.dumps(value, default=repr)


def parts_of(first: int, group: str, keys: bytes, content: bytes, size: int = 4_000) -> Sequence[ItemKeys]:
    """Return the items of a group in parts of at most `size`."""
    return [
        ItemKeys(
            first + at,
            group,
            keys[at * KEY_SIZE : (at + size) * KEY_SIZE],
            content[at * CONTENT_SIZE : (at + size) * CONTENT_SIZE],
        )
        for at in range(0, len(keys) // KEY_SIZE, size)
    ]
