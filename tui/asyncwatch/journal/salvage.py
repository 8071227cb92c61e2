"""Reads what is left of a damaged journal: a file that was cut, or of which parts were overwritten.

SQLite gives up where its tree of pages is broken. Here the pages of the file and of its log are read one by one, as
https://www.sqlite.org/fileformat2.html describes them. Each row of items and each batch that is whole is taken,
wherever it stands: such rows never change, so an old copy of a page is as good as a new one. Rows have a checksum. The
launches, which name a command, are only read from their own table, and the last one from its file beside the journal.

What was read is written to a new file. What was not is unknown, so that a resume runs its items again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from asyncwatch.journal.store import (
    APPLICATION,
    FORMAT,
    SCHEMA,
    SPARE,
    DamagedError,
    JournalError,
    Launch,
    RunInfo,
    StoredBatch,
    checksum,
    launch_of_row,
    locked,
)
from asyncwatch.text import printable

_RUN_ROOT, _LAUNCH_ROOT = 2, 3
"""The first pages of these tables: SCHEMA makes them first, and SQLite never moves them."""
_PAGE_SIZE = 4_096
"""Bytes of a page, unless the file says otherwise."""
_LOG_HEADER, _FRAME_HEADER = 32, 24
_INTERIOR, _LEAF = 5, 13
"""Types of pages of a table."""
_RUN_COLUMNS = 4
_LAUNCH_COLUMNS, _BATCH_COLUMNS, _ITEMS_COLUMNS = 13, 7, 6
"""Without the checksum, which rows of format 1 have not."""
_DEEPEST = 20
_INTEGERS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 8}
"""Bytes of an integer by its type in a record."""


class Salvaged(NamedTuple):
    """What could be read of a damaged journal."""

    batches: int
    lost: int
    """Batches that are missing before the last one that was read. What is missing after that is unknown."""
    kept: Path
    """The damaged file, under its new name."""


def mend(path: Path) -> Salvaged:
    """Replace a damaged journal by one with all that can be read of it. The damaged files are kept beside it.

    Raises:
        BusyError: A process writes it.
        DamagedError: Not even the command of a launch can be read.
        OSError: The files cannot be written.
        sqlite3.Error: The same.

    """
    with locked(path):
        new = path.with_suffix(".mending")
        try:
            batches, lost = copy_readable(path, new)
            kept = next(each for n in count(1) if not (each := path.with_suffix(f".damaged{n}")).exists())
            os.link(path, kept)
            log = Path(f"{path}-wal")
            if log.exists():
                log.replace(f"{kept}-wal")  # else SQLite would add it to the new file
            Path(f"{path}-shm").unlink(missing_ok=True)
            new.replace(path)
            path.with_suffix(".index").unlink(missing_ok=True)
        finally:
            new.unlink(missing_ok=True)
    return Salvaged(batches, lost, kept)


def launches_of(path: Path) -> tuple[RunInfo, list[Launch]]:
    """Return what can be read of the run and its launches, in their order. There may be none."""
    with _Pages(path) as pages:
        info, rows = _run(pages, path)
        return info, [launch_of_row(rows[number]) for number in sorted(rows)]


def copy_readable(path: Path, target: Path) -> tuple[int, int]:
    """Write all that can be read of a journal to a new one. Return how many batches that is, and how many are missing.

    Raises:
        DamagedError: Not even the command of a launch can be read.
        OSError: The new file cannot be written.
        sqlite3.Error: The same.

    """
    target.unlink(missing_ok=True)
    with _Pages(path) as pages:
        info, launches = _run(pages, path)
        if not launches:
            text = f"the journal {printable(str(path))!r} is damaged, and the command of its run cannot be read"
            raise DamagedError(f"{text}: start it again")
        os.close(os.open(target, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as new:
            new.execute("PRAGMA synchronous=FULL")
            new.execute(f"PRAGMA application_id={APPLICATION}")
            new.execute("BEGIN")
            for statement in filter(str.strip, SCHEMA.split(";")):
                new.execute(statement)
            new.execute(f"PRAGMA user_version={FORMAT}")
            new.execute("INSERT INTO run VALUES(?, ?, ?, ?)", info)
            for number, row in _rows(pages):
                if len(row) - _ITEMS_COLUMNS in {0, 1} and row[0] is not None:
                    if _is_items(row, info.id):
                        new.execute(f"INSERT OR IGNORE INTO items VALUES({_marks(7)})", _with_checksum(row, 7))
                elif len(row) - _BATCH_COLUMNS in {0, 1} and row[0] is None:
                    row[0] = number
                    if _is_batch(row, info.id):
                        new.execute(f"INSERT OR IGNORE INTO batch VALUES({_marks(8)})", _with_checksum(row, 8))
            known = {number for (number,) in new.execute("SELECT launch FROM items UNION SELECT launch FROM batch")}
            for number in sorted(known | launches.keys()):
                if number not in launches:  # its batches are known, and the command is that of another launch
                    other = launches[max((each for each in launches if each < number), default=min(launches))]
                    row = [number, other[1], None, *other[3:11], None, None]
                    launches[number] = [*row, checksum(info.id, row)]
                row = launches[number]
                new.execute(f"INSERT INTO launch VALUES({_marks(14)})", _with_checksum(row, 14))
            new.execute("COMMIT")
            read, last = new.execute("SELECT count(*), coalesce(max(number), 0) FROM batch").fetchone()
    return read, last - read


def _marks(columns: int) -> str:
    return ", ".join("?" * columns)


def _with_checksum(row: list[Any], columns: int) -> list[Any]:
    return row if len(row) == columns else [*row, None]


# -- rows


def _run(pages: _Pages, path: Path) -> tuple[RunInfo, dict[int, list[Any]]]:
    """Return what is known of the run and its launches; none if they cannot be read."""
    info = RunInfo(path.stem, path.stem, "", "")
    launches: dict[int, list[Any]] = {}
    for _, row in _table(pages, _RUN_ROOT):
        with suppress(msgspec.ValidationError):
            found = msgspec.convert(row, RunInfo)
            if own := _launch_rows(pages, found.id):
                info, launches = found, own
    launches = launches or _launch_rows(pages, info.id)
    with suppress(OSError, ValueError, TypeError, JournalError):
        spare: list[Any] = msgspec.json.decode(path.with_suffix(SPARE).read_bytes(), type=list[Any])
        known, row = msgspec.convert(spare[:_RUN_COLUMNS], RunInfo), spare[_RUN_COLUMNS:]
        if len(row) == _LAUNCH_COLUMNS + 1 and _is_true(row, _LAUNCH_COLUMNS, known.id):
            number = launch_of_row(row).number
            if not launches:
                info = known
            launches.setdefault(number, row)
    return info, launches


def _launch_rows(pages: _Pages, run_id: str) -> dict[int, list[Any]]:
    """Return the last form of each launch, by number."""
    found: dict[int, list[Any]] = {}
    for number, row in _table(pages, _LAUNCH_ROOT):
        if len(row) - _LAUNCH_COLUMNS not in {0, 1} or row[0] is not None:
            continue
        row[0] = number
        row[1:3] = (float(each) if isinstance(each, int) else each for each in row[1:3])  # SQLite stores 1.0 as 1
        if _is_true(row, _LAUNCH_COLUMNS, run_id) and not (number in found and row[2] is None):
            with suppress(JournalError):
                launch_of_row(row)
                found[number] = row
    return found


def _is_items(row: list[Any], run_id: str) -> bool:
    launch, first, size, group, keys, content = row[:_ITEMS_COLUMNS]
    is_typed = isinstance(group, str) and isinstance(keys, bytes) and isinstance(content, bytes)
    is_typed = is_typed and all(isinstance(each, int) and each >= 0 for each in (launch, first, size))
    return is_typed and _is_true(row, _ITEMS_COLUMNS, run_id)


def _is_batch(row: list[Any], run_id: str) -> bool:
    try:
        batch = msgspec.convert(row[:_BATCH_COLUMNS], StoredBatch)
    except msgspec.ValidationError:
        return False
    row[4] = batch.at  # as a float
    if not _is_true(row, _BATCH_COLUMNS, run_id):
        return False
    with suppress(DamagedError):
        events = batch.unpack()
        return len(events) == batch.events > 0 and events[0].seq == batch.first and 0 < batch.number < 1 << 63
    return False


def _is_true(row: list[Any], columns: int, run_id: str) -> bool:
    """Return whether a row has the right checksum, or none."""
    return len(row) == columns or row[columns] in {None, checksum(run_id, row[:columns])}


# -- pages


class _Pages:
    """The pages of a file and of its log, by number. A page that was written several times has several forms."""

    def __init__(self, path: Path) -> None:
        self._stack = contextlib.ExitStack()
        self._file = self._stack.enter_context(path.open("rb")).fileno()
        self._log = -1
        header = os.pread(self._file, 100, 0)
        log = Path(f"{path}-wal")
        log_header = b""
        if log.is_file():
            self._log = self._stack.enter_context(log.open("rb")).fileno()
            log_header = os.pread(self._log, _LOG_HEADER, 0)
        sizes = [int.from_bytes(header[16:18], "big"), int.from_bytes(log_header[8:12], "big")]
        self.size = next((size for size in sizes if 512 <= size <= 65_536 and size & (size - 1) == 0), _PAGE_SIZE)
        self.number = -(-os.fstat(self._file).st_size // self.size)
        self.total = os.fstat(self._file).st_size
        self._frames: dict[int, list[int]] = {}
        """The places of the forms of each page in the log: old ones, which SQLite left there, first."""
        if self._log >= 0:
            self._find_frames(log_header[16:24])

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the files."""
        self._stack.close()

    def _find_frames(self, salt: bytes) -> None:
        old: dict[int, list[int]] = {}
        step = _FRAME_HEADER + self.size
        self.total += os.fstat(self._log).st_size
        for at in range(_LOG_HEADER, os.fstat(self._log).st_size, step):
            frame = os.pread(self._log, _FRAME_HEADER, at)
            number = int.from_bytes(frame[:4], "big")
            kind = self._frames if frame[8:16] == salt else old
            kind.setdefault(number, []).append(at + _FRAME_HEADER)
        for number, places in old.items():
            self._frames[number] = [*places, *self._frames.get(number, ())]

    def forms(self, number: int) -> Iterator[bytes]:
        """Yield all forms of a page, the last one at the end. The last page of a file may be cut."""
        if number > 0 and (page := os.pread(self._file, self.size, (number - 1) * self.size)):
            yield page
        for at in self._frames.get(number, ()):
            if page := os.pread(self._log, self.size, at):
                yield page

    def last_form(self, number: int) -> bytes:
        """Return the last form of a page; nothing if there is none."""
        if places := self._frames.get(number):
            return os.pread(self._log, self.size, places[-1])
        return os.pread(self._file, self.size, (number - 1) * self.size) if number > 0 else b""

    def numbers(self) -> list[int]:
        """Return the numbers of all pages, in order."""
        return sorted({*range(1, self.number + 1), *self._frames} - {0})


_Row = tuple[int, list[Any]]
"""The number of a row, and its values."""


def _rows(pages: _Pages) -> Iterator[_Row]:
    """Yield all rows of all tables."""
    for number in pages.numbers():
        for page in pages.forms(number):
            yield from _leaf_rows(pages, page, 100 if number == 1 else 0)


def _table(pages: _Pages, root: int, depth: int = 0) -> Iterator[_Row]:
    """Yield the rows of one table, in all their forms."""
    for page in pages.forms(root):
        yield from _leaf_rows(pages, page, 0)
        if page[:1] == bytes((_INTERIOR,)) and depth < _DEEPEST:
            with suppress(_BrokenError):
                children = [int.from_bytes(page[at : at + 4], "big") for at in _cells(page, 0)]
                for child in (*children, int.from_bytes(page[8:12], "big")):
                    yield from _table(pages, child, depth + 1)


def _leaf_rows(pages: _Pages, page: bytes, start: int) -> Iterator[_Row]:
    if page[start : start + 1] != bytes((_LEAF,)):
        return
    with suppress(_BrokenError):
        for at in _cells(page, start):
            with suppress(_BrokenError):
                size, at_number = _varint(page, at)
                number, at_payload = _varint(page, at_number)
                yield number, _values(_payload(pages, page, at_payload, size))


class _BrokenError(Exception):
    """Something is not as it would be in a whole file."""


def _cells(page: bytes, start: int) -> list[int]:
    """Return the places of the cells of a page, those that are in it."""
    number = int.from_bytes(page[start + 3 : start + 5], "big")
    at = start + (8 if page[start] == _LEAF else 12)
    if number > len(page) // 4:
        raise _BrokenError
    places = struct.unpack_from(f">{number}H", page, at) if len(page) >= at + 2 * number else ()
    return [place for place in places if place < len(page)]


def _payload(pages: _Pages, page: bytes, at: int, size: int) -> bytes:
    """Return the record of a cell, which goes on in other pages if it is large."""
    if size > pages.total:
        raise _BrokenError
    usable = pages.size
    local = size
    if size > usable - 35:
        least = (usable - 12) * 32 // 255 - 23
        local = least + (size - least) % (usable - 4)
        local = local if local <= usable - 35 else least
    data = bytearray(page[at : at + local])
    if len(data) < local:
        raise _BrokenError
    following = page[at + local : at + local + 4]
    while len(data) < size:
        further = pages.last_form(int.from_bytes(following, "big"))
        if len(further) <= 4:
            raise _BrokenError
        following = further[:4]
        data += further[4 : 4 + size - len(data)]
    return bytes(data)


def _values(record: bytes) -> list[Any]:
    """Return the values of a record."""
    end, at = _varint(record, 0)
    kinds = []
    while at < end:
        kind, at = _varint(record, at)
        kinds.append(kind)
    if at != end or len(kinds) > _LAUNCH_COLUMNS + 1:
        raise _BrokenError
    values: list[Any] = []
    for kind in kinds:
        size = (kind - 12) // 2 if kind >= 12 else _INTEGERS.get(kind, 8 if kind == 7 else 0)
        data = record[at : at + size]
        if len(data) < size or kind in {10, 11}:
            raise _BrokenError
        at += size
        if kind >= 12 and kind % 2:
            values.append(_text(data))
        elif kind >= 12:
            values.append(data)
        elif kind == 7:
            values.append(struct.unpack(">d", data)[0])
        else:
            constant = {0: None, 8: 0, 9: 1}
            values.append(constant[kind] if kind in constant else int.from_bytes(data, "big", signed=True))
    return values


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise _BrokenError from None


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return an integer of 1 to 9 bytes, and the place after it."""
    value = 0
    for place in range(at, at + 8):
        if place >= len(data):
            raise _BrokenError
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    if at + 8 >= len(data):
        raise _BrokenError
    return value << 8 | data[at + 8], at + 9
