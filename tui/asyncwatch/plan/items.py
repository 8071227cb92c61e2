"""Items of a group: one worker each, whose name is unique, printable and free of secrets."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal

from asyncwatch.config.values import url_problem
from asyncwatch.text import mask_secrets, printable

Kind = Literal["url", "any"]
"""What items must be: URLs, or anything that a function takes."""

Items = list[tuple[str, Any]]
"""The name and the item of each worker, in the order of the source."""

STDIN = "-"
_SHOWN_PROBLEMS = 5
_DELIMITERS = "\t;|,"
"""The comma comes last: in a file with equally many of both, it is the decimal sign of numbers."""
_SEPARATOR_LINE = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_SAMPLE = 100
"""Lines that decide about the delimiter of a CSV."""
_LONGEST_CELL = 2**31 - 1
"""Characters of a cell. `csv` refuses more than 131,072 by default."""


class ItemsError(Exception):
    """Items that cannot be used. `problems` holds one line of text for each problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class _EntryError(Exception):
    """An entry that cannot be used, with the number of its line, from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def read_items(source: str, kind: Kind, stdin: BinaryIO | None = None) -> Items:
    """Return the items in the file `source`, or in standard input for `-`.

    A `.jsonl` or `.ndjson` file holds one JSON value per line. A `.csv` file holds one row per worker, read as a dict
    by the header; `delimiter_of` says what separates its columns. Any other file is text with one item per line, as it
    is without its line end; blank lines and lines that start with `#` are skipped. A worker is named by its text or by
    the `name` of its dict, else by the number of its line. Among URLs, a dict has a `url`.

    Raises:
        ItemsError: the file cannot be read, has no items, or some are wrong; it lists the first few.

    """
    shown = "standard input" if source == STDIN else source
    try:
        if source == STDIN:
            stream = stdin if stdin is not None else getattr(sys.stdin, "buffer", None)
            if stream is None:
                raise ItemsError(["standard input is closed; name a file of items instead of -"])
            return _read(stream, shown, _read_text, kind)
        reader = _READERS.get(Path(source).suffix.lower(), _read_text)
        with Path(source).open("rb") as file, _cells_of_any_length():
            return _read(file, shown, reader, kind)
    except OSError as error:
        raise ItemsError([f"{shown}: {error.strerror or error}"]) from None


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


_Reader = Callable[[BinaryIO], Iterator["tuple[int, str, Any] | _EntryError"]]
"""Yields the line, the name (may be empty) and the item of each entry, or what is wrong with it."""


def _read(stream: BinaryIO, shown: str, reader: _Reader, kind: Kind) -> Items:
    names: list[str] = []
    items: list[Any] = []
    problems: list[str] = []
    wrong_entries = 0
    for entry in reader(stream):
        wrong = entry if isinstance(entry, _EntryError) else None
        if not isinstance(entry, _EntryError):
            line, name, item = entry
            if kind == "url":
                try:
                    item = _url_of(item, line)
                    name = name or item
                except _EntryError as error:
                    wrong = error
            names.append(_printable(name, line))
            items.append(item)
        if wrong is not None:
            wrong_entries += 1
            if wrong_entries <= _SHOWN_PROBLEMS:
                problems.append(f"{shown}:{wrong.line}: {wrong}")
    more = wrong_entries - len(problems)
    if more:
        problems.append(f"{shown}: and {more} more line{'' if more == 1 else 's'} like these")
    if problems:
        raise ItemsError(problems)
    if not items:
        raise ItemsError([f"no items in {shown}"])
    return list(zip(unique_names(names), items, strict=True))


def _url_of(item: Any, line: int) -> str:
    url = item.get("url") if isinstance(item, dict) else item
    if not isinstance(url, str):
        raise _EntryError(line, "has no url; add one, or give a TARGET")
    url = url.strip()
    problem = url_problem(url)
    if problem:
        raise _EntryError(line, problem)
    return url


def _name_of(item: Any) -> str:
    name = item.get("name") if isinstance(item, dict) else None
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


def _read_text(stream: BinaryIO) -> Iterator[tuple[int, str, Any] | _EntryError]:
    for number, line in _lines(stream):
        if line is None:
            yield _EntryError(number, "is not UTF-8")
            continue
        text = line.strip()
        if text and not text.startswith("#"):
            # White space is part of a line: an indent, or an empty last column.
            yield number, text, line.removesuffix("\n").removesuffix("\r")


def _read_jsonl(stream: BinaryIO) -> Iterator[tuple[int, str, Any] | _EntryError]:
    for number, line in _lines(stream):
        if line is None:
            yield _EntryError(number, "is not UTF-8")
        elif line.strip():
            try:
                item = json.loads(line)
            except json.JSONDecodeError as error:
                yield _EntryError(number, f"is not JSON: {error.msg} (column {error.colno})")
            except (ValueError, RecursionError) as error:
                yield _EntryError(number, f"is not readable JSON: {error}")
            else:
                yield number, _name_of(item), item


def _read_csv(stream: BinaryIO) -> Iterator[tuple[int, str, Any] | _EntryError]:
    line = 1
    header: list[str] | None = None
    try:
        lines = _decoded(stream)
        sample = list(itertools.islice(lines, _SAMPLE))
        if sample and _SEPARATOR_LINE.fullmatch(sample[0]):
            line = 2
        rows = csv.reader(itertools.chain(sample[line - 1 :], lines), delimiter=_sniff(sample), strict=True)
        skipped = line
        for row in rows:
            if header is None and row:
                header = [column.strip() for column in row]
                if "" in header or len(set(header)) < len(header):
                    yield _EntryError(line, "each column of the header needs a name of its own")
                    return
            elif header is not None and row:
                if len(row) != len(header):
                    yield _EntryError(
                        line, f"has {len(row)} cell{'' if len(row) == 1 else 's'}, but the header has {len(header)}"
                    )
                else:
                    item = dict(zip(header, row, strict=True))
                    yield line, _name_of(item), item
            line = rows.line_num + skipped
    except csv.Error as error:
        yield _EntryError(line, f"is not CSV: {error}")
    except _EntryError as error:
        yield error


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


def _decoded(stream: BinaryIO) -> Iterator[str]:
    for number, line in _lines(stream):
        if line is None:
            raise _EntryError(number, "is not UTF-8")
        yield line


_READERS: dict[str, _Reader] = {".jsonl": _read_jsonl, ".ndjson": _read_jsonl, ".csv": _read_csv}
"""By the suffix of a file."""
