"""Items of a pipe: they are read as they come, and their workers start at once."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from asyncwatch import Run, WorkerSpec
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import WorkerState
from asyncwatch.plan import feed as feeding
from asyncwatch.plan.feed import ItemFeeder
from asyncwatch.plan.items import ItemSource

PATIENCE = 30.0
"""Seconds, for slow machines."""


async def give_back(item: Any) -> Any:
    """Return the item."""
    return item


class Pipe:
    """A named pipe whose items a run reads."""

    def __init__(self, path: Path, **settings: Any) -> None:
        os.mkfifo(path)
        self.items = ItemSource(str(path), "any", **settings)
        assert self.items.open_live()
        self.said: list[str] = []
        self.writer = path.open("wb", buffering=0)
        self.run = Run[Any]([], concurrency=5)
        feeder = ItemFeeder(self.items, WorkerSpec("template", give_back), self.said.append)
        control_of(self.run).open_feed(feeder)

    def write(self, text: str) -> None:
        """Write to the pipe."""
        self.writer.write(text.encode())


@pytest.fixture
async def pipes(tmp_path: Path) -> AsyncIterator[Any]:
    """Return what makes pipes, and close them at the end."""
    made: list[Pipe] = []

    def make(name: str = "items.txt", **settings: Any) -> Pipe:
        made.append(Pipe(tmp_path / name, **settings))
        return made[-1]

    yield make
    for pipe in made:
        pipe.writer.close()
        pipe.items.stop()


async def test_worker_of_a_line_ends_before_the_next_line_comes(pipes: Any) -> None:
    pipe = pipes()
    names: list[str] = []
    pipe.write("one\n")
    async with asyncio.timeout(PATIENCE), pipe.run.as_completed() as outcomes:
        async for outcome in outcomes:
            names.append(outcome.name)
            if len(names) < 3:
                pipe.write("tw" if len(names) == 1 else "\n# no item\n\n  one\n")
                pipe.write("o\n" if len(names) == 1 else "one")
            else:
                pipe.writer.close()
    assert names == ["one", "two", "one#2", "one#3"]
    assert pipe.said == []


async def test_bad_line_of_a_pipe_is_a_failed_worker(pipes: Any) -> None:
    pipe = pipes("items.jsonl", name_column="id")
    pipe.write('{"id": "x"}\nnonsense\n{"id": "x"}\n')
    pipe.writer.close()
    async with asyncio.timeout(PATIENCE):
        outcomes = await pipe.run.gather()
    assert [(outcome.name, outcome.state) for outcome in outcomes] == [
        ("x", WorkerState.SUCCEEDED),
        ("2", WorkerState.FAILED),
        ("x#2", WorkerState.SUCCEEDED),
    ]
    assert f"{pipe.items.shown}:2: is not JSON" in str(outcomes[1].error)


async def test_bad_lines_of_a_pipe_are_skipped_and_counted_on_request(pipes: Any) -> None:
    pipe = pipes("items.csv", skips_bad=True)
    pipe.write("a;b\n1;2\n3\n4;5\n")
    pipe.writer.close()
    async with asyncio.timeout(PATIENCE):
        outcomes = await pipe.run.gather()
    assert [outcome.result for outcome in outcomes] == [{"a": "1", "b": "2"}, {"a": "4", "b": "5"}]
    (note,) = pipe.said
    assert note.startswith(f"{pipe.items.shown}: 1 line skipped (--skip-bad), the first: {pipe.items.shown}:3: has 1")


async def test_header_of_a_pipe_that_is_wrong_is_a_failed_worker(pipes: Any) -> None:
    pipe = pipes("items.csv", name_column="no")
    pipe.write("a;b\n1;2\n")
    pipe.writer.close()
    async with asyncio.timeout(PATIENCE):
        (outcome,) = await pipe.run.gather()
    assert "has no column 'no'; its columns are a, b" in str(outcome.error)


async def test_pipe_without_items_is_said(pipes: Any) -> None:
    pipe = pipes()
    pipe.writer.close()
    async with asyncio.timeout(PATIENCE):
        assert await pipe.run.gather() == []
    assert pipe.said == [f"no items in {pipe.items.shown}: there is nothing to run"]


async def test_run_that_is_stopped_does_not_wait_for_the_pipe(pipes: Any) -> None:
    pipe = pipes()
    pipe.write("one\n")
    async with asyncio.timeout(PATIENCE), pipe.run.as_completed() as outcomes:
        async for _ in outcomes:
            pipe.run.cancel_all()
    assert pipe.run.is_finished


async def test_pipe_is_read_a_limited_number_of_items_ahead(pipes: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feeding, "AHEAD", 20)
    monkeypatch.setattr(feeding, "_LOOK_AGAIN", 0.001)
    pipe = pipes()
    highest = 0
    pipe.write("".join(f"{n}\n" for n in range(1_000)))
    pipe.writer.close()
    async with asyncio.timeout(PATIENCE), pipe.run.as_completed() as outcomes:
        async for _ in outcomes:
            highest = max(highest, pipe.run.statistics().queued)
    assert len(pipe.run.outcomes()) == 1_000
    assert 0 < highest <= 20


@pytest.mark.parametrize("source_name", ["-", "/dev/stdin"])
def test_standard_input_that_is_a_pipe_is_read_by_no_other_code(
    monkeypatch: pytest.MonkeyPatch, source_name: str
) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"a\nb\n")
    os.close(writing)
    with os.fdopen(reading) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        source = ItemSource(source_name, "any")
        assert source.open_live()
        assert os.read(reading, 10) == b""
        assert [entry.item for entry in source.entries()] == ["a", "b"]


def test_terminal_is_read_as_it_is_typed_if_nothing_else_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    keyboard, terminal = os.openpty()
    with os.fdopen(keyboard, "wb", buffering=0) as keys, os.fdopen(terminal) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not ItemSource("-", "any").open_live()
        source = ItemSource("-", "any")
        assert source.open_live(has_terminal=True)
        entries = source.entries()
        keys.write(b"a\n")
        assert next(entries).item == "a"
        keys.write(b"b\n\x04")
        assert [entry.item for entry in entries] == ["b"]


def test_file_and_other_streams_are_not_read_as_they_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "items.txt"
    file.write_text("a\n")
    assert not ItemSource(str(file), "any").open_live()
    assert not ItemSource(str(tmp_path / "none"), "any").open_live()
    assert not ItemSource("-", "any", io.BytesIO()).open_live()
    monkeypatch.setattr(sys, "stdin", None)
    assert not ItemSource("-", "any").open_live()
    with file.open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert not ItemSource("-", "any").open_live()
