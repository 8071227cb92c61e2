"""The output file: what stands in it, and that nothing is lost or torn when the disk is full."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.cli.output import FIELDS, OutputFile, _fields
from asyncwatch.events import (
    AttemptStarted,
    Event,
    WorkerCancelled,
    WorkerEnded,
    WorkerExhausted,
    WorkerFailed,
    WorkerSucceeded,
    WorkerUnresponsive,
)


def end(kind: type[WorkerEnded], worker: str = "a", **fields: Any) -> WorkerEnded:
    """Return an end of `worker` after one attempt and a quarter of a second."""
    return kind(seq=0, at=1.0, worker=worker, incarnation=1, attempts=1, elapsed=0.25, **fields)


ENDS: list[Event] = [
    end(WorkerSucceeded, "a", result=200),
    AttemptStarted(seq=0, at=0.0, worker="a", incarnation=1, attempt=1, bad_luck=0.5),
    end(WorkerFailed, "b", error_type="OSError", error="no such\nfile"),
    end(WorkerUnresponsive, "c", stack="x.py:3 f", cancels=2),
    end(WorkerCancelled, "c"),
    end(WorkerSucceeded, "d", result={"k": [1, None]}),
]


def test_a_refused_retry_is_told_with_the_error() -> None:
    """Who has made fewer attempts than its policy has says why."""
    refused = end(WorkerExhausted, error_type="OSError", error="down", refusal="retry budget")
    assert _fields(refused)[4] == "OSError: down (no retry: retry budget)"
    assert _fields(end(WorkerExhausted, error_type="OSError", error="down"))[4] == "OSError: down"


class FullDisk:
    """An unbuffered file on a disk of `room` bytes, which takes what fits of a write and fails at the next."""

    def __init__(self, room: int, *, is_pipe: bool = False) -> None:
        self.data = bytearray()
        self.room = room
        self.is_pipe = is_pipe
        self.is_closed = False

    def write(self, data: bytes, /) -> int:
        """Take what fits, or raise ENOSPC."""
        taken = data[: self.room - len(self.data)]
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.data += taken
        return len(taken)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Return the end of the file, the only place that is asked for."""
        if self.is_pipe:
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
        assert (offset, whence) == (0, os.SEEK_END)
        return len(self.data)

    def truncate(self, size: int | None = None, /) -> int:
        """Cut the file."""
        assert size is not None
        del self.data[size:]
        return size

    def close(self) -> None:
        """Close the file."""
        self.is_closed = True


def test_json_lines(tmp_path: Path) -> None:
    """Each end of a worker is one object with the fields of the manual, and nothing else is written."""
    file = OutputFile(tmp_path / "out.jsonl")
    file.write(ENDS)
    file.close()
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [tuple(record) for record in records] == [FIELDS] * 5
    assert [tuple(record.values()) for record in records] == [
        ("a", "succeeded", 200, 1, None, 0.25),
        ("b", "failed", None, 1, "OSError: no such\nfile", 0.25),
        ("c", "unresponsive", None, 1, "stuck at x.py:3 f, cancelled 2 times", 0.25),
        ("c", "cancelled", None, 1, None, 0.25),
        ("d", "succeeded", {"k": [1, None]}, 1, None, 0.25),
    ]
    assert (file.problem, file.unwritten) == (None, 0)


def test_csv(tmp_path: Path) -> None:
    """The same as a table with a header; a result that is no scalar is JSON text, a line ends in a newline."""
    file = OutputFile(tmp_path / "out.csv")
    file.write(ENDS)
    file.close()
    text = (tmp_path / "out.csv").read_bytes().decode("utf-8")
    assert "\r" not in text
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows == [
        list(FIELDS),
        ["a", "succeeded", "200", "1", "", "0.25"],
        ["b", "failed", "", "1", "OSError: no such\nfile", "0.25"],
        ["c", "unresponsive", "", "1", "stuck at x.py:3 f, cancelled 2 times", "0.25"],
        ["c", "cancelled", "", "1", "", "0.25"],
        ["d", "succeeded", '{"k":[1,null]}', "1", "", "0.25"],
    ]


def test_lines_are_there_after_each_batch(tmp_path: Path) -> None:
    """A reader sees the lines of a batch as soon as it is written, not at the end of the run."""
    file = OutputFile(tmp_path / "out.jsonl")
    file.write(ENDS[:1])
    assert b'"a"' in (tmp_path / "out.jsonl").read_bytes()
    file.close()


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    """What an earlier run wrote does not stay behind."""
    (tmp_path / "out.csv").write_text("old " * 100)
    OutputFile(str(tmp_path / "out.csv")).close()
    assert (tmp_path / "out.csv").read_text() == '"name","state","result","attempts","error","elapsed"\n'


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+2", "'=1+2"),
        ("+49 30 123", "'+49 30 123"),
        ("-f", "'-f"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("-5", "-5"),
        ("+1.5e3", "+1.5e3"),
        ("a=b", "a=b"),
    ],
)
def test_cells_are_no_formulas(text: str, cell: str) -> None:
    """A CSV cell that a spreadsheet would calculate stands behind an apostrophe; numbers and JSON do not."""
    disk = FullDisk(10_000)
    OutputFile("x.csv", lambda _: disk).write([end(WorkerSucceeded, text, result=text)])
    row = list(csv.reader(io.StringIO(disk.data.decode(), newline="")))[1]
    assert (row[0], row[2]) == (cell, cell)
    disk = FullDisk(10_000)
    OutputFile("x.jsonl", lambda _: disk).write([end(WorkerSucceeded, text, result=text)])
    assert json.loads(disk.data)["name"] == text


@given(st.text(), st.text())
def test_any_name_and_error_comes_back(name: str, error: str) -> None:
    """Whatever characters there are, JSON gives them back exactly, and CSV stays two rows of six cells."""
    event = end(WorkerFailed, name, error_type="E", error=error)
    disk = FullDisk(10_000)
    OutputFile("x.jsonl", lambda _: disk).write([event])
    record = json.loads(disk.data)
    assert record["name"] == name
    assert record["error"] == (f"E: {error}" if error else "E")
    disk = FullDisk(10_000)
    OutputFile("x.csv", lambda _: disk).write([event])
    rows = list(csv.reader(io.StringIO(disk.data.decode(), newline=""), strict=True))
    assert [len(row) for row in rows] == [6, 6]
    assert rows[1][0] in {name, f"'{name}"}


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_text_that_utf8_cannot_hold(suffix: str) -> None:
    """A lone surrogate, as in a file name that is no UTF-8, is written as its escape."""
    disk = FullDisk(10_000)
    OutputFile(f"x.{suffix}", lambda _: disk).write([end(WorkerSucceeded, "n\udcff", result=["\udcff"])])
    assert rb"n\udcff" in disk.data
    disk.data.decode("utf-8")


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_secrets_are_masked(suffix: str) -> None:
    """Credentials in a URL are written neither from a name nor from inside a result."""
    disk = FullDisk(10_000)
    url = "https://user:geheim@host/x"
    OutputFile(f"x.{suffix}", lambda _: disk).write([end(WorkerSucceeded, url, result={"next": url})])
    assert b"geheim" not in disk.data
    assert disk.data.count(b"https://***@host/x") == 2


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
@pytest.mark.parametrize("extra", [0, 1, 30, 90])
@pytest.mark.parametrize("is_pipe", [False, True])
def test_full_disk_loses_and_tears_nothing(suffix: str, extra: int, is_pipe: bool) -> None:
    """Lines wait while there is no room, no half line stays, and with room again the file is as it should be."""
    plenty = FullDisk(100_000)
    OutputFile(f"x.{suffix}", lambda _: plenty).write(ENDS)
    header = plenty.data.index(b"\n") + 1 if suffix == "csv" else 0
    disk = FullDisk(header + extra, is_pipe=is_pipe)
    file = OutputFile(f"x.{suffix}", lambda _: disk)
    file.write(ENDS[:2])
    file.write(ENDS[2:])
    assert file.problem is not None
    assert "No space left on device" in file.problem
    assert f"{file.unwritten} line" in file.problem
    assert disk.data + b"".join(file._waiting) == plenty.data
    if not is_pipe:
        assert not disk.data or disk.data.endswith((b"}\n", b",0.25\n", b',"elapsed"\n'))
    disk.room = 100_000
    file.write([])
    assert not file.problem
    assert not file.unwritten
    assert disk.data == plenty.data


def test_a_shortage_and_its_end_are_told_once_each() -> None:
    """The batch that cannot be written says so, later ones do not, and the one that can be again says that."""
    disk = FullDisk(10)
    file = OutputFile("x.jsonl", lambda _: disk)
    told = [file.write([]), file.write(ENDS), file.write([])]
    disk.room = 100_000
    told += [file.write([]), file.write([])]
    problem = f"cannot write output file 'x.jsonl': {os.strerror(errno.ENOSPC)} (5 lines are not written)"
    again = "output file 'x.jsonl' is being written again; no line is missing"
    assert told == [None, problem, None, again, None]


def test_close_tries_one_last_time() -> None:
    """What waits is written at the end if it can be; if not, the count says how much is lost."""
    for room, unwritten in ((10, 5), (100_000, 0)):
        disk = FullDisk(10)
        file = OutputFile("x.jsonl", lambda _, disk=disk: disk)  # type: ignore[misc]  # mypy infers no default's type
        file.write(ENDS)
        disk.room = room
        file.close()
        file.close()
        assert disk.is_closed
        assert file.unwritten == unwritten
        assert (file.problem is None) == (unwritten == 0)


def test_an_error_at_closing_is_told() -> None:
    """A network disk may say only at the end that it stored nothing."""

    class Quota(FullDisk):
        def close(self) -> None:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    file = OutputFile("x.jsonl", lambda _: Quota(10_000))
    file.close()
    assert file.problem is not None
    assert "Disk quota exceeded" in file.problem


def test_a_long_shortage_is_tried_in_bounded_pieces() -> None:
    """While nothing can be written, a batch costs the same however many lines wait already."""
    sizes: list[int] = []

    class Counting(FullDisk):
        def write(self, data: bytes, /) -> int:
            sizes.append(len(data))
            return super().write(data)

    file = OutputFile("x.jsonl", lambda _: Counting(0))
    for _ in range(20):
        file.write([end(WorkerSucceeded, result=1)] * 500)
    assert file.unwritten == 10_000
    assert max(sizes) == sizes[2] == sizes[-1]
    assert len(sizes) == 20


@pytest.mark.parametrize("name", ["out.json", "out", "out.txt"])
def test_other_endings_are_refused(name: str) -> None:
    """The ending says the format; one that says none is an error that names the two."""
    with pytest.raises(ValueError, match=r"must end in \.jsonl or \.csv"):
        OutputFile(name)


def test_what_cannot_be_opened_is_told_at_once(tmp_path: Path) -> None:
    """The error comes before anything runs, and says which file and why."""
    with pytest.raises(OSError, match=r"cannot write output file '.*no/out\.csv': No such file or directory"):
        OutputFile(tmp_path / "no" / "out.csv")


def test_a_disk_that_is_full_already_is_told_at_once() -> None:
    """A CSV file that has no room for its header is an error before the run."""
    with pytest.raises(OSError, match="No space left on device"):
        OutputFile("x.csv", lambda _: FullDisk(5))
