"""The output file: its lines, and that a full disk loses and tears none."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwatch.cli.output import FIELDS, OutputFile
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


class FullDisk:
    """An unbuffered file on a disk with `room` bytes."""

    def __init__(self, room: int, *, is_pipe: bool = False) -> None:
        self.data = bytearray()
        self.room = room
        self.is_pipe = is_pipe
        self.is_closed = False

    def write(self, data: bytes, /) -> int:
        """Write as much as there is room for, or raise ENOSPC."""
        taken = data[: self.room - len(self.data)]
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.data += taken
        return len(taken)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Return the size of the file."""
        if self.is_pipe:
            raise OSError(errno.ESPIPE, os.strerror(errno.ESPIPE))
        assert (offset, whence) == (0, os.SEEK_END)
        return len(self.data)

    def truncate(self, size: int | None = None, /) -> int:
        assert size is not None
        del self.data[size:]
        return size

    def close(self) -> None:
        self.is_closed = True


def lines_of(*events: Event, suffix: str = "jsonl") -> bytearray:
    """Return what an output file has after these events."""
    disk = FullDisk(100_000)
    OutputFile(f"x.{suffix}", lambda _: disk).write(events)
    return disk.data


def test_jsonl_has_an_object_for_each_end_of_a_worker(tmp_path: Path) -> None:
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


def test_csv_has_a_header_and_a_row_for_each_end_of_a_worker(tmp_path: Path) -> None:
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


def test_refused_retry_is_shown_with_the_error() -> None:
    failure = {"error_type": "OSError", "error": "down"}
    refused, used_up = (end(WorkerExhausted, **failure, refusal=refusal) for refusal in ("retry budget", ""))
    assert json.loads(lines_of(refused))["error"] == "OSError: down (no retry: retry budget)"
    assert json.loads(lines_of(used_up))["error"] == "OSError: down"


def test_write_is_visible_to_a_reader_at_once(tmp_path: Path) -> None:
    file = OutputFile(tmp_path / "out.jsonl")
    file.write(ENDS[:1])
    assert b'"a"' in (tmp_path / "out.jsonl").read_bytes()
    file.close()


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_existing_file_is_replaced_with_the_first_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out.{suffix}"
    path.write_text("old " * 100)
    path.chmod(0o640)
    file = OutputFile(path)
    file.write(ENDS[1:2])  # no end of a worker
    assert path.read_text() == "old " * 100
    file.write(ENDS[:1])
    assert path.read_bytes() == lines_of(*ENDS[:1], suffix=suffix)
    file.write(ENDS[2:])
    file.close()
    assert path.read_bytes() == lines_of(*ENDS, suffix=suffix)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [*tmp_path.iterdir()] == [path]


def test_file_is_that_of_the_folder_in_which_it_was_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    output = OutputFile("out.jsonl")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir("other")
    output.write(ENDS)
    output.close()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["out.jsonl"]
    assert not list((tmp_path / "other").iterdir())


def test_run_that_wrote_nothing_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("old")
    for name in ("old.csv", "new.jsonl"):
        file = OutputFile(tmp_path / name)
        file.close()
        assert file.problem is None
    assert [*tmp_path.iterdir()] == [tmp_path / "old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"


def test_link_is_written_in_place(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("old")
    (tmp_path / "symbolic.jsonl").symlink_to(real)
    (tmp_path / "hard.jsonl").hardlink_to(real)
    for name in ("symbolic.jsonl", "hard.jsonl"):
        before = real.read_bytes()
        file = OutputFile(tmp_path / name)
        assert real.read_bytes() == before
        file.write(ENDS[:1])
        file.write(ENDS[2:])
        file.close()
        assert real.read_bytes() == lines_of(*ENDS)
    assert (tmp_path / "symbolic.jsonl").is_symlink()


def test_pipe_is_written_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = OutputFile(path)
    file.write(ENDS)
    file.close()
    assert os.read(reader, 100_000) == lines_of(*ENDS)
    os.close(reader)
    assert path.is_fifo()


def test_pipe_or_device_of_any_name_gets_json_lines(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader:
        output = OutputFile(f"/dev/fd/{writing}")
        os.close(writing)
        output.write(ENDS)
        output.close()
        assert [json.loads(line)["name"] for line in reader] == ["a", "b", "c", "c", "d"]
    OutputFile(os.devnull).close()


def test_descriptor_is_written_where_it_is(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(b"kept\n")
    with file.open("ab") as stream:
        output = OutputFile(f"/dev/fd/{stream.fileno()}")
        output.write(ENDS[:1])
        output.close()
        stream.write(b"more\n")
    first, second, third = file.read_text().splitlines()
    assert (first, json.loads(second)["name"], third) == ("kept", "a", "more")
    with pytest.raises(OSError, match="cannot write output file '/dev/fd/999999999': Bad file descriptor"):
        OutputFile("/dev/fd/999999999")


def test_lines_of_a_resumed_run_are_not_held_all_at_once(tmp_path: Path) -> None:
    number, size = 60, 1 << 19
    result = "x" * size
    done = (WorkerSucceeded(seq, 1.0, str(seq), 1, 1, 0.1, result) for seq in range(number))
    output = OutputFile(tmp_path / "out.jsonl", before=lambda: done)
    tracemalloc.start()
    try:
        output.begin()
        assert tracemalloc.get_traced_memory()[1] < 10 * size
    finally:
        tracemalloc.stop()
        output.close()
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == [str(seq) for seq in range(number)]


def test_folder_removed_before_the_first_line_is_reported_and_used_again(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "out.jsonl"
    path.parent.mkdir()
    file = OutputFile(path)
    path.parent.rmdir()
    message = file.write(ENDS[:1])
    assert message is not None
    assert message.endswith("No such file or directory (1 line not written)")
    path.parent.mkdir()
    file.write(ENDS[2:])
    file.close()
    assert file.problem is None
    assert path.read_bytes() == lines_of(*ENDS)


@pytest.mark.parametrize("rest", [0, 4])
@pytest.mark.parametrize("is_link", [False, True])
def test_file_deleted_during_the_run_is_a_problem(tmp_path: Path, rest: int, is_link: bool) -> None:
    path = tmp_path / "out.jsonl"
    if is_link:
        (tmp_path / "link.jsonl").symlink_to(path)
        path.touch()
    file = OutputFile(tmp_path / "link.jsonl" if is_link else path)
    file.write(ENDS[:1])
    path.unlink()
    file.write(ENDS[2:] if rest else [])
    file.close()
    assert file.problem is not None
    assert "it was deleted or replaced during the run" in file.problem
    assert file.unwritten == rest


def test_old_file_is_kept_while_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, data: Any, /) -> int:
            if len(data) < 40:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return super().write(data[:30])

    path = tmp_path / "out.jsonl"
    path.write_text("old")
    file = OutputFile(path)
    with monkeypatch.context() as patch:
        patch.setattr(io, "FileIO", Full)
        message = file.write(ENDS[:1])
    assert message is not None
    assert "No space left on device" in message
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]
    file.close()
    assert path.read_bytes() == lines_of(*ENDS[:1])


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=1+2", "'=1+2"),
        ("+49 30 123", "'+49 30 123"),
        ("-f", "'-f"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        (" =1", "' =1"),
        ("\xa0\u200b@A1", "'\xa0\u200b@A1"),
        ("\ufeff\r\n+A1", "'\ufeff\r\n+A1"),
        ("\uff1dA1", "'\uff1dA1"),
        ("\uff0bA1", "'\uff0bA1"),
        ("\uff0dA1", "'\uff0dA1"),
        ("\uff20A1", "'\uff20A1"),
        (" -5", " -5"),
        (" a=b", " a=b"),
        ("-5", "-5"),
        ("+1.5e3", "+1.5e3"),
        ("a=b", "a=b"),
    ],
)
def test_csv_cell_that_is_a_formula_begins_with_an_apostrophe(text: str, cell: str) -> None:
    event = end(WorkerSucceeded, text, result=text)
    row = list(csv.reader(io.StringIO(lines_of(event, suffix="csv").decode(), newline="")))[1]
    assert (row[0], row[2]) == (cell, cell)
    assert json.loads(lines_of(event))["name"] == text


@given(st.text(), st.text())
def test_any_name_and_error_survives_both_formats(name: str, error: str) -> None:
    event = end(WorkerFailed, name, error_type="E", error=error)
    record = json.loads(lines_of(event))
    assert record["name"] == name
    assert record["error"] == (f"E: {error}" if error else "E")
    rows = list(csv.reader(io.StringIO(lines_of(event, suffix="csv").decode(), newline=""), strict=True))
    assert [len(row) for row in rows] == [6, 6]
    assert rows[1][0] in {name, f"'{name}"}


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_lone_surrogate_is_written_as_its_escape(suffix: str) -> None:
    data = lines_of(end(WorkerSucceeded, "n\udcff", result=["\udcff"]), suffix=suffix)
    assert rb"n\udcff" in data
    data.decode("utf-8")


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_credentials_are_masked(suffix: str) -> None:
    url = "https://user:secret@host/x"
    data = lines_of(end(WorkerSucceeded, url, result={"next": url}), suffix=suffix)
    assert b"secret" not in data
    assert data.count(b"https://***@host/x") == 2


def test_values_without_credentials_are_written_whole() -> None:
    result = {"text": "https://a.example\nme@b.example\thttps://c.example"}
    event = end(WorkerSucceeded, "a", result=result)
    assert json.loads(lines_of(event))["result"] == result
    rows = list(csv.reader(io.StringIO(lines_of(event, suffix="csv").decode(), newline="")))
    assert json.loads(rows[1][2]) == result


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
@pytest.mark.parametrize("extra", [0, 1, 30, 90])
@pytest.mark.parametrize("is_pipe", [False, True])
def test_full_disk_loses_and_tears_no_line(suffix: str, extra: int, is_pipe: bool) -> None:
    whole = lines_of(*ENDS, suffix=suffix)
    header = whole.index(b"\n") + 1 if suffix == "csv" else 0
    disk = FullDisk(header + extra, is_pipe=is_pipe)
    file = OutputFile(f"x.{suffix}", lambda _: disk)
    file.write(ENDS[:2])
    file.write(ENDS[2:])
    assert file.problem is not None
    assert "No space left on device" in file.problem
    assert f"{file.unwritten} line" in file.problem
    assert disk.data == whole[: len(disk.data)]
    if not is_pipe:
        assert not disk.data or disk.data.endswith((b"}\n", b",0.25\n", b',"elapsed"\n'))
    disk.room = 100_000
    file.write([])
    assert not file.problem
    assert not file.unwritten
    assert disk.data == whole


def test_write_reports_a_full_disk_and_its_end_once_each() -> None:
    disk = FullDisk(10)
    file = OutputFile("x.jsonl", lambda _: disk)
    messages = [file.write([]), file.write(ENDS), file.write([])]
    disk.room = 100_000
    messages += [file.write([]), file.write([])]
    problem = f"cannot write output file 'x.jsonl': {os.strerror(errno.ENOSPC)} (5 lines not written)"
    again = "output file 'x.jsonl' is being written again; no line is missing"
    assert messages == [None, problem, None, again, None]


def test_close_writes_pending_lines_if_there_is_room() -> None:
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


def test_close_that_fails_is_a_problem() -> None:

    class Quota(FullDisk):
        def close(self) -> None:
            raise OSError(errno.EDQUOT, "Disk quota exceeded")

    file = OutputFile("x.jsonl", lambda _: Quota(10_000))
    file.close()
    assert file.problem is not None
    assert "Disk quota exceeded" in file.problem


def test_full_disk_for_long_costs_the_same_each_batch() -> None:
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
def test_file_with_another_suffix_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"must end in \.jsonl, \.ndjson or \.csv"):
        OutputFile(name)


def test_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot write output file '.*no/out\.csv': No such file or directory"):
        OutputFile(tmp_path / "no" / "out.csv")
