"""A stdout that fails, whose reader leaves, or whose reader is slow."""

from __future__ import annotations

import asyncio
import errno
import io
import os

import pytest

from asyncwatch.cli import headless
from asyncwatch.cli.headless import Follower, StdoutError, run_headless
from asyncwatch.commands import StopRun
from asyncwatch.events import Batch, LogRecorded, RunFinished, decode
from tests.headless.script import HEAD, TAIL, FakeController, Pipe, log, run


async def test_reader_that_leaves_stops_the_run() -> None:
    """When nobody reads stdout any more the run is stopped, its end awaited, and nothing complains."""
    controller = FakeController(HEAD, [log("x")])
    _, err = await run(controller, json=True, stdout=Pipe(room=1))
    assert controller.sent == [StopRun()]
    assert err == "00:01.0  0/1  1 running\n"


@pytest.mark.parametrize(("error", "is_reader_gone"), [(errno.EPIPE, True), (errno.ENOSPC, False)])
@pytest.mark.parametrize("json", [True, False])
async def test_a_lost_stdout_is_told_to_the_caller(error: int, json: bool, is_reader_gone: bool) -> None:
    """Who waits for the run learns that stdout is not whole, and whether that is a fault."""
    controller = FakeController(HEAD, TAIL)
    stdout = Pipe(room=0, error=OSError(error, "why"))
    with pytest.raises(StdoutError, match="cannot write to stdout: why") as caught:
        await run_headless(controller, json=json, stdout=stdout, stderr=io.StringIO(), clock=controller.clock)
    assert caught.value.is_reader_gone is is_reader_gone


async def test_stdout_that_fails_is_told_and_stops_the_run() -> None:
    """A disk that is full under stdout is an error that one is told, once."""
    controller = FakeController(HEAD, [log("x", "INFO")])
    stdout = Pipe(room=0, error=OSError(errno.ENOSPC, "No space left on device"))
    _, err = await run(controller, json=True, stdout=stdout)
    assert controller.sent == [StopRun()]
    assert err.count("asyncwatch: cannot write to stdout: No space left on device\n") == 1


async def test_broken_pipe_leaves_nothing_for_the_interpreter_to_flush() -> None:
    """What a real, buffered stdout still holds does not raise again when it is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    stdout = os.fdopen(writer, "wb")
    await run(FakeController(HEAD), json=True, stdout=stdout)
    stdout.close()


def flood() -> Batch:
    """Return more events between HEAD and TAIL than a pipe holds, and the last one."""
    logs = [LogRecorded(3 + number, 0.2, "a", "DEBUG", "x", "y" * 1_000) for number in range(300)]
    return [*logs, RunFinished(303, 0.5, {}, 1, 0.5, interrupted=False)]


@pytest.mark.parametrize("blocks", [True, False])
async def test_a_slow_reader_gets_every_line(blocks: bool) -> None:
    """Whether a full pipe blocks or takes no more, each event comes out of it whole and in order."""
    reader, writer = os.pipe()
    os.set_blocking(writer, blocks)
    with os.fdopen(reader, "rb") as pipe:
        reading = asyncio.create_task(asyncio.to_thread(pipe.read))
        with os.fdopen(writer, "wb", buffering=0) as stdout:
            await run(FakeController(HEAD, flood()), json=True, stdout=stdout)
        assert [decode(line) for line in (await reading).splitlines()] == [*HEAD, *flood()]


async def test_a_reader_that_stopped_holds_up_no_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody reads, so that the pipe is full: from the second signal on nothing waits for it."""
    monkeypatch.setattr(headless, "_LAST_WORDS", 0.0)
    reader, writer = os.pipe()
    stdout = os.fdopen(writer, "wb", buffering=0)
    controller = FakeController(HEAD, flood(), obeys=False)
    follower = Follower(controller, json=True, stdout=stdout, stderr=io.StringIO(), clock=controller.clock)
    following = asyncio.create_task(follower.follow())
    while controller.queue.steps:  # noqa: ASYNC110 - a script that is told has no event to wait for
        await asyncio.sleep(0)
    follower.interrupt()
    follower.interrupt()
    try:
        async with asyncio.timeout(30):
            await following
    finally:
        os.close(reader)  # frees the thread that writes
    # Its turn comes when that thread has given up what it was at; nobody uses the pipe after it.
    await follower._writer.write(b"")
    stdout.close()
    assert controller.sent == [StopRun(), StopRun(at_once=True)]
