"""What C code and child processes write becomes lines of the log."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from asyncwatch.cli import stray
from asyncwatch.cli.stray import StrayOutput


class Written:
    """A descriptor that leads to the file, and what was recorded of it."""

    def __init__(self) -> None:
        self.descriptor = os.open(os.devnull, os.O_WRONLY)
        self.output = StrayOutput([self.descriptor])
        self.records: list[tuple[str, str]] = []

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.descriptor, data) :]

    def record(self, worker: str | None, level: str, source: str, message: str) -> None:
        assert (worker, source) == (None, "output")
        self.records.append((level, message))

    def read(self) -> list[str]:
        """Read once, and return the new lines."""
        self.records.clear()
        self.output.read(self.record)
        return [message for _, message in self.records]

    def finish(self) -> list[str]:
        self.records.clear()
        self.output.finish(self.record)
        return [message for _, message in self.records]

    @property
    def size(self) -> int:
        return os.fstat(self.descriptor).st_size


@pytest.fixture
def written() -> Iterator[Written]:
    each = Written()
    yield each
    os.close(each.descriptor)
    each.output._file.close()


def test_lines_are_recorded_when_they_are_whole(written: Written) -> None:
    written.write(b"one\ntw")
    assert written.read() == ["one"]
    written.write(b"o\r\n\n\xff\nrest")
    assert written.read() == ["two", "\ufffd"]
    assert written.finish() == ["rest"]


def test_line_that_is_rewritten_counts_once(written: Written) -> None:
    written.write(b"1 %\r2 %\r")
    assert written.read() == []
    written.write(b"3 %\r100 %\nnext\n")
    assert written.read() == ["100 %", "next"]


def test_end_of_a_line_may_come_in_two_parts(written: Written) -> None:
    written.write(b"one\r")
    assert written.read() == []
    written.write(b"\ntwo\r\n")
    assert written.read() == ["one", "two"]


def test_line_without_an_end_is_cut(written: Written) -> None:
    written.write(b"x" * 3 * stray.LONGEST_LINE)
    assert sum(map(len, written.read() + written.finish())) == 3 * stray.LONGEST_LINE


def test_file_is_emptied_once_it_is_read(written: Written) -> None:
    written.write(b"x" * (1 << 20) + b"\n")
    written.read()
    assert written.size == 0
    written.write(b"next\n")
    assert written.read() == ["next"]


def test_many_lines_are_read_in_several_looks(written: Written) -> None:
    lines = [f"{number:07}" for number in range(3 * stray.LINES_A_LOOK)]
    written.write("".join(f"{line}\n" for line in lines).encode())
    first = written.read()
    assert stray.LINES_A_LOOK <= len(first) < 3 * stray.LINES_A_LOOK
    assert first + written.read() + written.read() == lines


def test_output_that_comes_too_fast_is_dropped_and_counted(written: Written) -> None:
    written.write(b"y\n" * stray.MOST_BEHIND)
    *lines, last = written.read()
    assert set(lines) == {"y"}
    assert len(lines) < 10 * stray.LINES_A_LOOK
    dropped = 2 * (stray.MOST_BEHIND - len(lines))
    assert last == f"{dropped:,} bytes of output dropped: they came faster than they can be shown"
    assert written.records[-1][0] == "WARNING"
    assert written.size == 0


def test_end_of_very_many_lines_is_dropped(written: Written) -> None:
    written.write(b"y\n" * 10 * stray.LINES_AT_END)
    *lines, last = written.finish()
    assert stray.LINES_AT_END <= len(lines) < 2 * stray.LINES_AT_END
    assert "dropped" in last
