"""Standard streams of a headless run: the data, and what happens if they fail, or if a reader is slow or leaves."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import io
import json
import os
import tempfile
import threading
from typing import Any

import msgspec
import pytest

from asyncwatch.cli import headless
from asyncwatch.cli.headless import HeadlessRun, LossyWriter, Spool, StdoutError, StdoutWriter, run_headless
from asyncwatch.commands import StopRun
from asyncwatch.events import Batch, LogRecorded, RunFinished, WorkerState, decode
from asyncwatch.testing import wait_until
from tests.cli.script import HEAD, SUMMARY, TAIL, FakeController, Pipe, log, run


async def test_json_stdout_has_the_events_and_nothing_else() -> None:
    out, err = await run(FakeController(HEAD, [log("look")], TAIL), json=True)
    assert [decode(line) for line in out.splitlines()] == [*HEAD, log("look"), *TAIL]
    assert out.endswith(b"\n")
    assert "WARNING [a] look" in err
    assert err.endswith(SUMMARY)


async def test_json_each_batch_is_written_and_flushed_once() -> None:
    stdout = Pipe()
    await run(FakeController(HEAD, [log("x")], TAIL), json=True, stdout=stdout)
    assert (stdout.flushes, 1_000 - stdout.room) == (3, 3)


async def test_json_lone_surrogate_is_written_as_its_escape() -> None:
    out, _ = await run(FakeController(HEAD, [log("bad \udcff name")], TAIL), json=True)
    assert json.loads(out.splitlines()[3])["message"] == r"bad \udcff name"


async def test_without_json_stdout_has_the_summary() -> None:
    out, err = await run(FakeController(HEAD, TAIL))
    assert out.decode() == SUMMARY
    assert err == "00:00.5  1/1  1 succeeded\n"


async def test_run_headless_returns_the_fleet_and_passes_on_each_batch() -> None:
    controller, batches = FakeController(HEAD, TAIL), list[Batch]()
    fleet = await run_headless(
        controller,
        json=False,
        stdout=io.BytesIO(),
        stderr=io.StringIO(),
        on_batch=batches.append,
        clock=controller.clock,
    )
    assert batches == [HEAD, TAIL]
    assert fleet.counts[WorkerState.SUCCEEDED] == 1
    assert fleet.finished == TAIL[-1]
    assert controller.sent == []


async def test_reader_gone_stops_the_run_silently() -> None:
    controller = FakeController(HEAD, [log("x")])
    _, err = await run(controller, json=True, stdout=Pipe(room=1))
    assert controller.sent == [StopRun()]
    assert err == "00:01.0  0/1  1 running\n"


@pytest.mark.parametrize("json", [True, False])
async def test_reader_that_leaves_is_noticed_although_nothing_is_written(json: bool) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "wb", buffering=0) as stdout:
        controller = FakeController(HEAD, obeys=False)
        following = asyncio.create_task(
            run_headless(controller, json=json, stdout=stdout, stderr=io.StringIO(), clock=controller.clock)
        )
        await wait_until(lambda: not controller.queue.steps)
        assert controller.sent == []
        reader.close()
        controller.queue.put_nowait([])  # as after a second without events
        await wait_until(lambda: controller.sent == [StopRun()])
        controller.queue.put_nowait(TAIL)
        with pytest.raises(StdoutError) as caught:
            await following
    assert caught.value.is_reader_gone


@pytest.mark.parametrize(("error", "is_reader_gone"), [(errno.EPIPE, True), (errno.ENOSPC, False)])
@pytest.mark.parametrize("json", [True, False])
async def test_stdout_that_fails_raises_an_error(error: int, json: bool, is_reader_gone: bool) -> None:
    controller = FakeController(HEAD, TAIL)
    stdout = Pipe(room=0, error=OSError(error, "why"))
    with pytest.raises(StdoutError, match="cannot write to stdout: why") as caught:
        await run_headless(controller, json=json, stdout=stdout, stderr=io.StringIO(), clock=controller.clock)
    assert caught.value.is_reader_gone is is_reader_gone


async def test_stdout_on_a_full_disk_stops_the_run_and_is_reported_once() -> None:
    controller = FakeController(HEAD, [log("x", "INFO")])
    stdout = Pipe(room=0, error=OSError(errno.ENOSPC, "No space left on device"))
    _, err = await run(controller, json=True, stdout=stdout)
    assert controller.sent == [StopRun()]
    assert err.count("asyncwatch: cannot write to stdout: No space left on device\n") == 1


async def test_broken_pipe_leaves_no_data_to_flush_at_exit() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    stdout = os.fdopen(writer, "wb")
    await run(FakeController(HEAD), json=True, stdout=stdout)
    stdout.close()  # would raise again


def flood() -> Batch:
    """Return more events after HEAD than a pipe holds, and the last one."""
    logs = [LogRecorded(3 + number, 0.2, "a", "DEBUG", "x", "y" * 1_000) for number in range(300)]
    return [*logs, RunFinished(303, 0.5, {}, 1, 0.5, interrupted=False)]


@pytest.mark.parametrize("blocks", [True, False])
async def test_slow_reader_gets_every_line(blocks: bool) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, blocks)
    with os.fdopen(reader, "rb") as pipe:
        reading = asyncio.create_task(asyncio.to_thread(pipe.read))
        with os.fdopen(writer, "wb", buffering=0) as stdout:
            await run(FakeController(HEAD, flood()), json=True, stdout=stdout)
        assert [decode(line) for line in (await reading).splitlines()] == [*HEAD, *flood()]


async def test_stopped_reader_does_not_hold_up_the_second_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless, "LAST_WRITE_TIMEOUT", 0.0)
    writers: list[StdoutWriter] = []

    class Recorded(StdoutWriter):
        def __init__(self, stream: io.RawIOBase) -> None:
            super().__init__(stream)  # type: ignore[arg-type]
            writers.append(self)

    monkeypatch.setattr(headless, "StdoutWriter", Recorded)
    reader, writer = os.pipe()
    stdout = os.fdopen(writer, "wb", buffering=0)
    controller = FakeController(HEAD, flood(), obeys=False)
    headless_run = HeadlessRun(controller, json=True, stdout=stdout, stderr=io.StringIO(), clock=controller.clock)
    following = asyncio.create_task(headless_run.follow())
    while controller.queue.steps:  # noqa: ASYNC110  the script has no event to wait for
        await asyncio.sleep(0)
    headless_run.interrupt()
    headless_run.interrupt()
    try:
        async with asyncio.timeout(30):
            await following
    finally:
        os.close(reader)  # frees the writing thread
    with contextlib.suppress(BrokenPipeError):  # of the write that was abandoned
        await writers[0].write(b"")  # comes after it: then the pipe is unused
    stdout.close()
    assert controller.sent == [StopRun(), StopRun(at_once=True)]


async def test_stopped_reader_does_not_hold_up_the_other_listeners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless, "SOON", 0.0)
    monkeypatch.setattr(headless, "SPOOL_MEMORY", 10_000)
    reader, writer = os.pipe()
    batches: list[Batch] = []
    script = [flood()[start : start + 60] for start in range(0, 301, 60)]
    with os.fdopen(writer, "wb", buffering=0) as stdout:
        following = asyncio.create_task(
            run(FakeController(HEAD, *script), json=True, stdout=stdout, on_batch=batches.append)
        )
        async with asyncio.timeout(30):
            while len(batches) < 7:  # noqa: ASYNC110  the script has no event to wait for
                await asyncio.sleep(0)
        with os.fdopen(reader, "rb") as pipe:
            reading = asyncio.create_task(asyncio.to_thread(pipe.read))
            try:
                async with asyncio.timeout(30):
                    await following
            finally:
                stdout.close()
            lines = (await reading).splitlines()
    assert [decode(line) for line in lines] == [*HEAD, *flood()]


async def test_stdout_closed_by_other_code_is_an_error_of_the_run() -> None:
    controller = FakeController(HEAD)
    stdout = io.BytesIO()
    _, err = await run(controller, json=True, stdout=stdout, on_batch=lambda _batch: stdout.close())
    assert controller.sent == [StopRun()]
    assert "asyncwatch: cannot write to stdout: Bad file descriptor\n" in err


async def test_summary_has_the_encoding_of_stdout() -> None:
    stdout = io.BytesIO()
    started = msgspec.structs.replace(HEAD[0], run="größe 東")
    await run(FakeController([started, *HEAD[1:]], TAIL), stdout=stdout, encoding="latin-1")
    assert stdout.getvalue().startswith("größe \\u6771 (wait".encode("latin-1"))


def _full(_file: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("is_full", [False, True])
def test_spool_keeps_the_order_and_empties_its_file(monkeypatch: pytest.MonkeyPatch, is_full: bool) -> None:
    monkeypatch.setattr(headless, "SPOOL_MEMORY", 25)
    monkeypatch.setattr(headless, "_PIECE", 7)
    if is_full:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_options: _full(None))
    spool, added, popped = Spool(), b"", b""
    for number in range(60):
        data = b"%03d;" % number * (number % 5)
        spool.append(data)
        added += data
        if number % 3:
            popped += spool.pop()
    while spool:
        popped += spool.pop()
    assert popped == added
    spool.append(b"again")
    assert spool.pop() == b"again"
    assert not spool
    spool.append(b"y" * 99)
    spool.clear()
    assert not spool


class _Gate(io.BytesIO):
    """A stream that takes its first write only when it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = threading.Event()
        self.is_waiting = threading.Event()

    def write(self, data: Any, /) -> int:
        self.is_waiting.set()
        assert self.is_open.wait(30)
        return super().write(data)


def test_narration_nobody_reads_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless, "NARRATION_MEMORY", 40)
    monkeypatch.setattr(headless, "LAST_WRITE_TIMEOUT", 30.0)
    gate = _Gate()
    writer = LossyWriter(gate, "ascii")
    writer.write("first ü, longer than all that may wait for the reader\n")
    assert gate.is_waiting.wait(30)
    for number in range(9):
        writer.write(f"line {number}, and its end\n")
    gate.is_open.set()
    assert writer.finish()
    assert gate.getvalue().decode().splitlines() == [
        r"first \xfc, longer than all that may wait for the reader",
        "line 0, and its end",
        "line 1, and its end",
        "asyncwatch: 7 lines dropped here: standard error was not read.",
    ]
    writer.write("last\n")
    assert writer.finish()
    assert gate.getvalue().endswith(b"not read.\nlast\n")


def test_narration_leaves_a_stream_that_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless, "LAST_WRITE_TIMEOUT", 0.0)
    gate = _Gate()
    writer = LossyWriter(gate, "utf-8")
    writer.write("one\n")
    assert not writer.finish()
    gate.is_open.set()


def test_narration_that_fails_raises_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(headless, "LAST_WRITE_TIMEOUT", 30.0)
    writer = LossyWriter(Pipe(room=0), "utf-8")
    writer.write("one\n")
    assert writer.finish()
    with pytest.raises(BrokenPipeError):
        writer.write("two\n")
