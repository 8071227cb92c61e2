"""The journal of a call of `amap`: which recorded run the call goes on with, what is done of it, and its recording.

A call is known by the name of its journal, its function and the current folder. If the latest run of such a call did
not return, the next one is another launch of the same run: what succeeded comes from the journal. Otherwise the call is
a new run.

What is done is kept in a temporary database, which SQLite holds in memory up to some megabytes and in a file beyond
that. So calls of any number of items take bounded memory.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sqlite3
import sys
import time
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from asyncwatch import __version__
from asyncwatch.engine.run_control import RunControl
from asyncwatch.engine.worker import Worker
from asyncwatch.events import (
    Batch,
    RunFinished,
    RunHalted,
    RunStarted,
    WorkerEnded,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
)
from asyncwatch.events.wire import pack_batch, unpack_batch
from asyncwatch.journal.folder import NetworkFolderError, check_folder, create_run, journals, runs_folder
from asyncwatch.journal.identity import idempotency_key, keys_of
from asyncwatch.journal.resume import split_keys, whole_batches
from asyncwatch.journal.salvage import launches_of, mend
from asyncwatch.journal.store import (
    FUNCTION,
    BusyError,
    DamagedError,
    JournalError,
    Launch,
    RunInfo,
    RunJournal,
    RunStore,
    make_folder,
    parts_of,
)
from asyncwatch.journal.writer import JournalWriter, Problem
from asyncwatch.policies.limits import JOURNALS_KEPT, JOURNALS_SIZE
from asyncwatch.text import count, mask_secrets

_RETURNED = "is_returned"
"""What the summary of a launch says beside that of other runs."""
_CACHE = 32_000
"""Kilobytes of the temporary database that are held in memory."""
_ENDED_KEPT = 200_000
"""Workers that have ended and can still be restarted, at most: as many as a long batch keeps."""
_LAST_WRITES = 5.0
"""Seconds that the journal gets for its last writes."""
_INTERRUPTED = 130
_UNKNOWN = (b"", b"")
"""Key and content of an item that cannot be known, because the journal was damaged."""


class Call(NamedTuple):
    """What a call is known by."""

    name: str
    """Of the journal."""
    function: str
    folder: str

    def matches(self, info: RunInfo, launch: Launch) -> bool:
        """Return whether a launch was one of the same call."""
        known = info.name, launch.settings.get(FUNCTION), launch.folder
        return known == (self.name, self.function, self.folder)


def call_of(name: str, function: str) -> Call:
    """Return what a call of a function is known by, whose journal has that name, in the current folder."""
    return Call(mask_secrets(name), function, _current_folder())


class DoneItems:
    """The items of a run that are done, by their keys; and how often each key has occurred in the present call.

    Made in one thread and used in another.
    """

    def __init__(self) -> None:
        # The name "" is that of a temporary database, whose file has no name either.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for statement in (
            f"PRAGMA cache_size=-{_CACHE}",
            "PRAGMA journal_mode=OFF",
            "PRAGMA synchronous=OFF",
            "CREATE TABLE done(key BLOB, launch INTEGER, content BLOB, event BLOB, PRIMARY KEY(key, launch))",
            "CREATE TABLE seen(key BLOB PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID",
            "BEGIN",  # and never commit: a transaction for each key takes three times as long
        ):
            self._database.execute(statement)

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(DISTINCT key) FROM done").fetchone()[0])

    def read(self, journal: RunJournal) -> None:
        """Take what is done from all launches of a run: an item whose worker's last end is that it succeeded."""
        for launch in journal.launches():
            self._read(journal, launch.number)

    def _read(self, journal: RunJournal, launch: int) -> None:
        keys = _keys_by_index(journal, launch)
        active: dict[str, tuple[bytes, bytes]] = {}
        ended: OrderedDict[str, tuple[tuple[bytes, bytes], int]] = OrderedDict()
        has_unique_names = False
        for batch, is_whole in whole_batches(journal, launch):
            for event in batch.unpack():
                if type(event) is RunStarted:
                    has_unique_names = event.rows_kept is None
                elif type(event) is WorkersQueued:
                    for name in event.workers:
                        ended.pop(name, None)  # a name is used again once its worker is forgotten
                        active[name] = next(keys) if is_whole else _UNKNOWN
                elif isinstance(event, WorkerEnded) and (is_whole or has_unique_names):
                    if event.worker in active:
                        pair, before = active.pop(event.worker), 0
                    else:
                        pair, before = ended.get(event.worker, (_UNKNOWN, 0))
                    if event.incarnation > before and pair is not _UNKNOWN:  # not one that ends late
                        ended[event.worker] = pair, event.incarnation
                        self._note(launch, *pair, event)
                        if len(ended) > _ENDED_KEPT:
                            ended.popitem(last=False)

    def _note(self, launch: int, key: bytes, content: bytes, event: WorkerEnded) -> None:
        if type(event) is WorkerSucceeded and event.is_repr is not True:
            row = key, launch, content, pack_batch((event,))
            self._database.execute("INSERT OR REPLACE INTO done VALUES(?, ?, ?, ?)", row)
        else:  # it may have been restarted after a success
            self._database.execute("DELETE FROM done WHERE key = ? AND launch = ?", (key, launch))

    def find(self, key: bytes, content: bytes) -> WorkerSucceeded | None:
        """Return how an item was done; None if it was not, or had another content."""
        query = "SELECT content, event FROM done WHERE key = ? ORDER BY launch DESC LIMIT 1"
        row = self._database.execute(query, (key,)).fetchone()
        if row is None or (row[0] and content and row[0] != content):
            return None
        (event,) = unpack_batch(row[1])
        return event if type(event) is WorkerSucceeded else None

    # How often a key has occurred: what `keys_of` needs.

    def get(self, key: bytes, default: int, /) -> int:
        """Return how often a key has occurred."""
        row = self._database.execute("SELECT times FROM seen WHERE key = ?", (key,)).fetchone()
        return default if row is None else int(row[0])

    def __setitem__(self, key: bytes, times: int) -> None:
        self._database.execute("INSERT OR REPLACE INTO seen VALUES(?, ?)", (key, times))

    def close(self) -> None:
        """Drop all that is known."""
        with suppress(sqlite3.Error):
            self._database.execute("COMMIT")  # else it is rolled back, which takes seconds after many look-ups
        self._database.close()


def _keys_by_index(journal: RunJournal, launch: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield key and hash of the content of each worker's item, in the order of the workers; without an end."""
    at = 0
    for part in journal.items(launch):
        for _ in range(part.first - at):  # they are lost
            yield _UNKNOWN
        pairs = split_keys(part)
        yield from pairs
        at = part.first + len(pairs)
    while True:
        yield _UNKNOWN


class CallJournal:
    """The journal of one call, which is written until `close`. Made by `open_call`.

    All methods belong to the thread of the event loop.
    """

    def __init__(self, call: Call, root: str, store: RunStore, done: DoneItems, done_before: int, note: str) -> None:
        self.path = store.path.absolute()
        self._note = note
        self._call = call
        self._root = root
        self._store = store
        self._done = done
        self._done_before = done_before
        self._writer: JournalWriter | None = None
        self._control: RunControl | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keys: dict[int, bytes] = {}
        """By index, of workers that can ask for their idempotency key."""
        self._ended: deque[int] = deque()
        self._lost = 0
        self._finished: RunFinished | None = None
        self._is_halted = False

    @property
    def run_id(self) -> str:
        """The ID of the run."""
        return self.path.stem

    def start(self, control: RunControl) -> None:
        """Record a run, which has not started."""
        self._control, self._loop = control, asyncio.get_running_loop()
        self._writer = JournalWriter(lambda: self._store, lambda _seq: None, self._note_problem)
        control.add_listener(self)
        control.resume_after(self._done_before)
        control.identify_by(self._identify)
        control.keep_exact_results()
        if self._note:
            self._warn(self._note)

    def deliver(self, batch: Batch, running: asyncio.AbstractEventLoop | None) -> None:
        """Record a batch of events; as a listener of the outbox."""
        assert self._writer is not None  # noqa: S101  it was started
        self._writer.deliver(batch, running)
        for event in batch:
            if type(event) is RunFinished:
                self._finished = event
            elif type(event) is RunHalted:
                self._is_halted = True

    def admit(self, items: Sequence[Any], names: Sequence[str] | None) -> list[WorkerSucceeded | None]:
        """Return how each of the next items was done. Workers of the others have to join at once, in their order.

        With `names`, items are known by them.
        """
        assert self._writer is not None  # noqa: S101  it was started
        assert self._control is not None  # noqa: S101  as above
        keys = keys_of(items, names, self._done)
        pairs = split_keys(keys)
        found = [self._done.find(*pair) if self._done_before else None for pair in pairs]
        left = [pair for pair, event in zip(pairs, found, strict=True) if event is None]
        first = self._control.workers
        for part in parts_of(first, "", b"".join(key for key, _ in left), b"".join(content for _, content in left)):
            self._writer.add(part)
        self._keys.update(enumerate((key for key, _ in left), first))
        return found

    def note_end(self, index: int, event: WorkerEnded) -> None:
        """Note that the worker at that index has ended."""
        self._ended.append(index)
        if len(self._ended) > _ENDED_KEPT:
            self._keys.pop(self._ended.popleft(), None)
        if type(event) is WorkerSucceeded and event.is_repr is True:
            self._lost += 1
            if self._lost == 1 and self._loop is not None:
                text = f"worker {event.worker!r} returned a value that JSON does not give back as it was"
                self._loop.call_soon(self._warn, f"{text}: such results are not kept, and their items run again")

    async def close(self, *, is_returned: bool) -> None:
        """Write how the call ended: whether it returned, so that the next one starts anew."""
        status = 1
        summary: dict[str, Any] = {_RETURNED: False}
        if (finished := self._finished) is not None:
            is_success = is_returned and finished.states.keys() <= {WorkerState.SUCCEEDED.value}
            status = _INTERRUPTED if finished.interrupted else 0 if is_success else 1
            summary = {
                "counts": finished.states,
                "attempts": finished.attempts,
                "elapsed": finished.elapsed,
                "is_interrupted": finished.interrupted,
                "lost_results": self._lost,
                _RETURNED: is_returned and not finished.interrupted and not self._is_halted,
            }
        await asyncio.to_thread(self._close, status, summary)

    def _close(self, status: int, summary: dict[str, Any]) -> None:
        if self._writer is None:
            self._store.close()
        else:
            self._writer.close(time.time(), status, summary, _LAST_WRITES)
        self._done.close()

    def _identify(self, worker: Worker) -> str:
        key = self._keys.get(worker.index)
        if key is None:
            key = keys_of([None], [worker.name]).keys
        return idempotency_key(self._root, "", key)

    def _note_problem(self, problem: Problem | None) -> None:
        """Report that the journal cannot be written, or can be again. Called in the writer's thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._report, problem)

    def _report(self, problem: Problem | None) -> None:
        if self._control is not None:
            self._control.report_recording(*(problem or (0.0, "")))
        if problem is not None:
            self._warn(f"it cannot be written: {problem.reason}")

    def _warn(self, text: str) -> None:
        warnings.warn(f"journal {self._call.name!r}: {text}", RuntimeWarning, stacklevel=2)


def open_call(call: Call, new_id: Callable[[], str], seed: int) -> CallJournal:
    """Open the journal of a call: that of the run which it goes on with, or a new one. It may take seconds.

    Raises:
        BusyError: another process, or another call of this one, writes it.
        JournalError: it cannot be used.
        OSError: it cannot be made or opened.

    """
    folder = runs_folder()
    try:
        check_folder(folder)
    except NetworkFolderError as error:
        raise NetworkFolderError(f"{str(error).partition(';')[0]}; set XDG_STATE_HOME to one of this machine") from None
    make_folder(folder)
    try:
        try:
            return _open(folder, call, new_id, seed)
        except DamagedError:
            if (path := _unfinished(folder, call)) is None:
                raise
        batches, lost, damaged = mend(path)
        read = f"{count(batches, 'batch', 'batches')} of events could be read, {lost:,} could not"
        note = f"it was damaged: {read}. Items whose end is lost run again; the damaged file is {damaged}"
        return _open(folder, call, new_id, seed, note)
    except sqlite3.Error as error:
        raise JournalError(f"the journal {call.name!r} cannot be used: {error}") from error


def _open(folder: Path, call: Call, new_id: Callable[[], str], seed: int, note: str = "") -> CallJournal:
    launch = Launch(
        number=0,
        started=time.time(),
        pid=os.getpid(),
        host=socket.gethostname(),
        folder=call.folder,
        command=[mask_secrets(argument) for argument in sys.argv],
        settings={FUNCTION: call.function},
        seed=seed,
        version=__version__,
    )
    done = DoneItems()
    try:
        with _choosing(folder):
            path = _unfinished(folder, call)
            if path is None:
                run_id = new_id()
                info = RunInfo(run_id, run_id, "", call.name)
                store = create_run(folder, info, launch, keep=JOURNALS_KEPT, size=JOURNALS_SIZE)
                return CallJournal(call, run_id, store, done, 0, note)
            store = _reopened(path, call)
        try:
            with RunJournal(path) as journal:
                root = journal.info.root
                done.read(journal)
            done_before = len(done)
            store.begin(replace(launch, done_before=done_before))
        except BaseException:
            store.close()
            raise
    except BaseException:
        done.close()
        raise
    return CallJournal(call, root, store, done, done_before, note)


def _reopened(path: Path, call: Call) -> RunStore:
    try:
        return RunStore.reopen(path)
    except BusyError as error:
        who = f"process {error.pid or 'unknown'}"
        if error.pid == os.getpid():
            who = f"another call of this process ({error.pid})"
        raise BusyError(f"the journal {call.name!r} is being written by {who}", error.pid) from None


def _unfinished(folder: Path, call: Call) -> Path | None:
    """Return the journal of the latest run of a call, unless that call returned."""
    found: list[tuple[float, Path, bool]] = []
    for stored in journals(folder):
        with suppress(JournalError, OSError, sqlite3.Error):
            info, launches = _launches(stored.path)
            if launches and call.matches(info, launches[-1]):
                found.append((launches[-1].started, stored.path, _has_returned(launches[-1])))
    _, path, has_returned = max(found, default=(0.0, None, True))
    return None if has_returned else path


def _launches(path: Path) -> tuple[RunInfo, list[Launch]]:
    try:
        with RunJournal(path) as journal:
            return journal.info, journal.launches()
    except DamagedError:
        return launches_of(path)


def _has_returned(launch: Launch) -> bool:
    summary = launch.summary if isinstance(launch.summary, dict) else {}
    return launch.is_finished and bool(summary.get(_RETURNED))


@contextmanager
def _choosing(folder: Path) -> Iterator[None]:
    """Let no other call choose its run meanwhile: both would take the same one for a new one."""
    lock = os.open(folder / "calls.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _current_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109  as a text
    except OSError:  # it was removed
        return ""
