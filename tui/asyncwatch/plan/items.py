"""Items of a group: one worker each, whose name is unique, printable and free of secrets."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import os
import re
import select
import stat
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, NamedTuple

import msgspec

from asyncwatch.config.values import url_problem
from asyncwatch.text import count, mask_secrets, one_line, printable

Kind = Literal["url", "any"]
"""What items must be: URLs, or anything that a function takes."""

Items = list[tuple[str, Any]]
"""The name and the item of each worker, in the order of the source."""

STDIN = "-"
_LISTED_PROBLEMS = 20
_SHOWN_PROBLEMS = 5
"""Problems that are shown if there are more than `_LISTED_PROBLEMS`; a file lists all of them then."""
_LONGEST_PROBLEM = 1_000
"""Characters."""
_DELIMITERS = "\t;|,"
"""The comma comes last: in a file with equally many of both, it is the decimal sign of numbers."""
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_SAMPLE = 100
"""Lines that decide about the delimiter of a CSV."""
_LONGEST_CELL = 2**31 - 1
"""Characters of a cell. `csv` refuses more than 131,072 by default."""
_READ_AT_ONCE = 1 << 16


class ItemsError(Exception):
    """Items that cannot be used. `problems` holds one line of text for each problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Entry(NamedTuple):
    """An item and the name of its worker, which is not unique yet; or what is wrong with a line."""

    name: str
    item: Any
    problem: str = ""
    given: str = ""
    """The name as it stands in the source; empty for an item without one."""


class _EntryError(Exception):
    """An entry that cannot be used, with the number of its line, from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


class ItemSource:
    """A file of items, or standard input for `-`.

    A `.jsonl` or `.ndjson` file holds one JSON value per line. A `.csv` file holds one row per worker, read as a dict
    by the header; `delimiter_of` says what separates its columns. Any other file is text with one item per line, as it
    is without its line end; blank lines and lines that start with `#` are skipped. A worker is named by its text or by
    the `name_column` of its dict, else by the number of its line. Among URLs, a dict has a `url`.

    Args:
        source: the file.
        kind: what the items must be.
        stdin: read for `-`, in place of standard input.
        name_column: the column, or key, whose values name the workers; None for `name`, if there is one.
        skips_bad: whether lines that cannot be used are left out.

    """

    def __init__(
        self,
        source: str,
        kind: Kind,
        stdin: BinaryIO | None = None,
        *,
        name_column: str | None = None,
        skips_bad: bool = False,
    ) -> None:
        self.shown = "standard input" if source == STDIN else source
        self.skips_bad = skips_bad
        self.skipped = 0
        """Lines that were left out."""
        self.first_skipped = ""
        self.given: list[str] | None = None
        """The names of the items that `read` has returned, as they stand in the source; None if no item has one."""
        self._source = STDIN if source == "/dev/stdin" else source
        self._kind = kind
        self._stdin = stdin
        self._name_column = name_column
        self._live: _Live | None = None

    def open_live(self, *, has_terminal: bool = False) -> bool:
        """Open a pipe, so that `entries` yields items as they come; return False for a source that is no pipe.

        With `has_terminal`, a terminal that is standard input is one: nothing else reads keys from it. Other code
        finds standard input empty from then on: processes that workers start would take lines from it.
        """
        try:
            if self._source != STDIN:
                if not stat.S_ISFIFO(os.stat(self._source).st_mode):  # noqa: PTH116  a name of any length
                    return False
                self._live = _Live(os.open(self._source, os.O_RDONLY | os.O_NONBLOCK))
            elif self._stdin is None and sys.stdin is not None:
                number = sys.stdin.fileno()
                mode = os.fstat(number).st_mode
                is_pipe = stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
                if not (is_pipe or (has_terminal and os.isatty(number))):
                    return False
                self._live = _Live(os.dup(number))
                nothing = os.open(os.devnull, os.O_RDONLY)
                os.dup2(nothing, number)
                os.close(nothing)
        except (OSError, ValueError):  # `read` reports it
            return False
        return self._live is not None

    def stop(self) -> None:
        """End `entries` of a pipe as if its data ended, from any thread."""
        if self._live is not None:
            self._live.stop()

    def entries(self) -> Iterator[Entry]:
        """Yield the entries. Those that are skipped are counted.

        Raises:
            ItemsError: the file cannot be read.

        """
        if not self._source:
            raise ItemsError(["the name of the file of items is empty"])
        reader = _READERS.get(Path(self._source).suffix.lower(), _read_text)
        if reader is _read_text and self._name_column is not None:
            raise ItemsError([f"{self.shown}: lines of text have no {self._name_column!r}; --name is for rows"])
        try:
            with self._open() as stream, _cells_of_any_length():
                for entry in reader(stream, self._name_column, _SAMPLE if self._live is None else 1):
                    read = self._checked(entry)
                    if not read.problem or not self.skips_bad:
                        yield read
                        continue
                    self.skipped += 1
                    self.first_skipped = self.first_skipped or read.problem
        except OSError as error:
            raise ItemsError([f"{self.shown}: {error.strerror or error}"]) from None
        except _EntryError as error:
            raise ItemsError([self._checked(error).problem]) from None

    def read(self) -> Items:
        """Return all items, with unique names.

        Raises:
            ItemsError: the file cannot be read, or some lines are wrong. It lists all of them, or names the file that
                does.

        """
        names: list[str] = []
        items: list[Any] = []
        given: list[str] = []
        problems = _Problems(self.shown)
        for name, item, problem, own in self.entries():
            if problem:
                problems.add(problem)
            else:
                names.append(name)
                items.append(item)
                given.append(own)
        problems.raise_if_any()
        self.given = given if any(given) else None
        return list(zip(unique_names(names), items, strict=True))

    def notes(self, items: int) -> Iterator[str]:
        """Yield what a person should know of the source, from which `items` were read."""
        if self.skipped:
            yield f"{self.shown}: {count(self.skipped, 'line')} skipped (--skip-bad), the first: {self.first_skipped}"
        if not items:
            yield f"no items in {self.shown}: there is nothing to run"

    def _open(self) -> contextlib.AbstractContextManager[BinaryIO]:
        if self._live is not None:
            return io.BufferedReader(self._live, _READ_AT_ONCE)
        if self._source != STDIN:
            return Path(self._source).open("rb")
        stream = self._stdin if self._stdin is not None else getattr(sys.stdin, "buffer", None)
        if stream is None:
            raise ItemsError(["standard input is closed; name a file of items instead of -"])
        return contextlib.nullcontext(stream)

    def _checked(self, entry: tuple[int, str, Any] | _EntryError) -> Entry:
        try:
            if isinstance(entry, _EntryError):
                raise entry
            line, name, item = entry
            given = name if isinstance(item, dict) else ""  # else it is made of the content
            if self._kind == "url":
                item = _url_of(item, line)
                name = name or item
            return Entry(_printable(name, line), item, "", given)
        except _EntryError as error:
            problem = mask_secrets(f"{self.shown}:{error.line}: {error}")
            return Entry(str(error.line), None, one_line(printable(problem), _LONGEST_PROBLEM))


class _Live(io.RawIOBase):
    """A pipe that is read as data comes. A read that waits can be ended, as if the data had ended."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._stopping, self._stop = os.pipe()
        self._poll = select.poll()
        self._poll.register(number, select.POLLIN)
        self._poll.register(self._stopping, select.POLLIN)

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read what is there, or wait for data. Return the number of bytes, 0 at the end."""
        while True:
            if any(number == self._stopping for number, _ in self._poll.poll()):
                return 0
            with contextlib.suppress(BlockingIOError):  # another process has read it
                return os.readv(self._number, [buffer])

    def stop(self) -> None:
        """End the data."""
        with contextlib.suppress(OSError):  # it was closed
            os.write(self._stop, b".")

    def close(self) -> None:
        """Close the pipe."""
        if not self.closed:
            for number in (self._number, self._stopping, self._stop):
                os.close(number)
        super().close()


class _Problems:
    """Problems of one source: a few are kept, and a file lists all of them if there are many."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._kept: list[str] = []
        self._number = 0
        self._path = ""
        self._file: IO[str] | None = None

    def add(self, problem: str) -> None:
        self._number += 1
        if self._number <= _LISTED_PROBLEMS:
            self._kept.append(problem)
            return
        with contextlib.suppress(OSError):
            if self._number == _LISTED_PROBLEMS + 1:
                number, path = tempfile.mkstemp(".txt", "asyncwatch-bad-lines-")
                self._path, self._file = path, os.fdopen(number, "w", encoding="utf-8")
                self._file.writelines(f"{kept}\n" for kept in self._kept)
                del self._kept[_SHOWN_PROBLEMS:]
            if self._file is not None:
                self._file.write(f"{problem}\n")

    def raise_if_any(self) -> None:
        """Raise an `ItemsError` if there are any."""
        if not self._number:
            return
        if more := self._number - len(self._kept):
            listed = f"{self._shown}: and {count(more, 'more line')} like these"
            with contextlib.suppress(OSError):
                if self._file is not None:
                    self._file.close()
                    listed += f"; {self._path} lists all {self._number:,}"
            self._kept.append(f"{listed} (--skip-bad runs the others)")
        raise ItemsError(self._kept)


def delimiter_of(source: str) -> str | None:
    """Return what separates the columns of the `.csv` file `source`; None for any other source."""
    if Path(source).suffix.lower() != ".csv":
        return None
    try:
        with Path(source).open("rb") as file, _cells_of_any_length():
            return _sniff([line for _, line in itertools.islice(_lines(file), _SAMPLE) if line is not None])
    except OSError:
        return None


def name_items(values: Iterable[str]) -> Items:
    """Return texts with the names of their workers."""
    texts = list(values)
    return list(zip(unique_names([_printable(text, n) for n, text in enumerate(texts, 1)]), texts, strict=True))


def unique_names(names: list[str]) -> list[str]:
    """Return `names` with `#2`, `#3`, ... after each repeated one, skipping names that exist already."""
    taken = set(names)
    if len(taken) == len(names):
        return names
    seen: set[str] = set()
    following: dict[str, int] = {}
    unique = []
    for name in names:
        if name not in seen:
            seen.add(name)
            unique.append(name)
            continue
        number = following.get(name, 2)
        while f"{name}#{number}" in taken:
            number += 1
        following[name] = number + 1
        taken.add(f"{name}#{number}")
        unique.append(f"{name}#{number}")
    return unique


def _printable(name: str, line: int) -> str:
    return printable(mask_secrets(name.strip())) or str(line)


_Reader = Callable[["BinaryIO", "str | None", int], Iterator["tuple[int, str, Any] | _EntryError"]]
"""Yields the line, the name (may be empty) and the item of each entry, or what is wrong with it; raises what is wrong
with all of them. It gets the column of the name, and how many lines may be read before the first entry."""


def _url_of(item: Any, line: int) -> str:
    url = item.get("url") if isinstance(item, dict) else item
    if not isinstance(url, str):
        raise _EntryError(line, "has no url; add one, or give a TARGET")
    url = url.strip()
    problem = url_problem(url)
    if problem:
        raise _EntryError(line, problem)
    return url


def _name_of(item: Any, column: str | None) -> str:
    name = item.get(column or "name") if isinstance(item, dict) else None
    return str(name) if isinstance(name, (str, int, float)) and not isinstance(name, bool) else ""


def _lines(stream: BinaryIO) -> Iterator[tuple[int, str | None]]:
    """Yield the number and the text of each line, including its ending; None for a line that is not UTF-8."""
    for number, raw in enumerate(stream, start=1):
        try:
            # "utf-8-sig" would slow down every line for the sake of the first.
            text = raw.decode()
        except UnicodeDecodeError:
            yield number, None
        else:
            yield number, text.removeprefix("\ufeff") if number == 1 else text


def _read_text(stream: BinaryIO, _column: str | None, _ahead: int) -> Iterator[tuple[int, str, Any] | _EntryError]:
    for number, line in _lines(stream):
        if line is None:
            yield _EntryError(number, "is not UTF-8")
            continue
        text = line.strip()
        if text and not text.startswith("#"):
            # White space is part of a line: an indent, or an empty last column.
            yield number, text, line.removesuffix("\n").removesuffix("\r")


def _read_jsonl(stream: BinaryIO, column: str | None, _ahead: int) -> Iterator[tuple[int, str, Any] | _EntryError]:
    for number, line in _lines(stream):
        if line is None:
            yield _EntryError(number, "is not UTF-8")
        elif line.strip():
            try:
                item = _decoded_json(line)
            except json.JSONDecodeError as error:
                yield _EntryError(number, f"is not JSON: {error.msg} (column {error.colno})")
            except (ValueError, RecursionError) as error:
                yield _EntryError(number, f"is not readable JSON: {error}")
            else:
                yield number, _name_of(item, column), item


def _decoded_json(line: str) -> Any:
    """Return the value of a line. msgspec is several times as fast, but refuses NaN and lone surrogates."""
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return json.loads(line)


_OPEN_QUOTE = "unexpected end of data"
"""What the reader of the standard library says at the end of a file within a quoted cell."""


def _read_csv(stream: BinaryIO, column: str | None, ahead: int) -> Iterator[tuple[int, str, Any] | _EntryError]:
    broken = deque[int]()
    lines = _decoded(stream, broken)
    sample = list(itertools.islice(lines, ahead))
    skipped = 1 if sample and _SEPARATOR_LINE.fullmatch(sample[0]) else 0
    rows = csv.reader(itertools.chain(sample[skipped:], lines), delimiter=_sniff(sample), strict=True)
    header: list[str] | None = None
    while True:
        line = rows.line_num + skipped + 1
        problem, row = "", list[str]()
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if str(error) == _OPEN_QUOTE:
                raise _EntryError(line, "opens a quote that is never closed, so the lines after it are lost") from None
            last = rows.line_num + skipped
            problem = f"is not CSV: {error}" + (f" (up to line {last})" if last > line else "")
        while broken and broken[0] <= rows.line_num + skipped:
            line, problem = broken.popleft(), "is not UTF-8"
        if not row and not problem:
            continue
        if header is None:
            header = [name.strip() for name in row]
            if not problem and ("" in header or len(set(header)) < len(header)):
                problem = "each column of the header needs a name of its own"
            if not problem and column is not None and column not in header:
                problem = f"has no column {column!r}; its columns are {', '.join(header)}"
            if problem:
                raise _EntryError(line, problem)
        elif not problem and len(row) != len(header):
            problem = f"has {count(len(row), 'cell')}, but the header has {len(header)}"
        elif not problem:
            item = dict(zip(header, row, strict=True))
            yield line, _name_of(item, column), item
        if problem:
            yield _EntryError(line, problem)


@contextlib.contextmanager
def _cells_of_any_length() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _sniff(sample: list[str]) -> str:
    """Return the delimiter by which the lines have equally many cells, more than by any other; else a comma.

    A first line such as `sep=;`, which Excel reads and writes, decides.
    """
    if sample and (separator := _SEPARATOR_LINE.fullmatch(sample[0])):
        return separator[1]
    best, most = ",", 1
    for delimiter in _DELIMITERS:
        try:
            rows = [row for row in csv.reader(sample, delimiter=delimiter) if row]
        except csv.Error:
            continue
        if len(sample) == _SAMPLE:
            del rows[-1:]  # a cell may go on after the sample
        counts = {len(row) for row in rows}
        if len(counts) == 1 and (cells := counts.pop()) > most:
            best, most = delimiter, cells
    if most > 1 or not sample:
        return best
    # No delimiter fits every row. The header says which one is meant, and the rows that do not fit are reported.
    most_frequent = max(_DELIMITERS, key=sample[0].count)
    return most_frequent if most_frequent in sample[0] else ","


def _decoded(stream: BinaryIO, broken: deque[int]) -> Iterator[str]:
    """Yield the lines. The numbers of those that are not UTF-8 are added to `broken`."""
    for number, line in _lines(stream):
        if line is None:
            broken.append(number)
        yield "\ufffd\n" if line is None else line


_READERS: dict[str, _Reader] = {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".csv": _read_csv}
"""By the suffix of a file."""
