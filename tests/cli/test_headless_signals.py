"""Signals in a headless run: the first stops it, the second stops it at once, the third ends the wait for its end."""

from __future__ import annotations

import asyncio
import io
import re
import signal

import pytest

from asyncwatch.cli.headless import HeadlessRun
from asyncwatch.commands import StopRun
from asyncwatch.events import Batch, RunCancelRequested, RunFinished, SupervisorStarted, WorkerState, WorkerUnresponsive
from tests.cli.script import HEAD, TAIL, FakeController, log, run


async def test_first_signal_stops_the_run_and_waits_for_its_end() -> None:
    controller = FakeController(HEAD)
    task = asyncio.create_task(run(controller, stop_signals=[signal.SIGUSR1]))
    await asyncio.sleep(0)
    signal.raise_signal(signal.SIGUSR1)
    out, err = await task
    assert controller.sent == [StopRun()]
    assert "asyncwatch: Stopping. Workers have their grace period to exit. Press Ctrl+C again" in err
    assert b"interrupted" in out


async def test_first_signal_in_a_tree_says_how_services_stop() -> None:
    controller = FakeController([HEAD[0], SupervisorStarted(1, 0.0, "root", "", "one_for_one", 1, 5.0, "never")])
    task = asyncio.create_task(run(controller, stop_signals=[signal.SIGUSR1]))
    for _ in range(3):
        await asyncio.sleep(0)
    signal.raise_signal(signal.SIGUSR1)
    assert "in reverse order of their start" in (await task)[1]


async def test_second_signal_stops_the_run_at_once() -> None:
    controller = FakeController(HEAD, obeys=False)
    stdout, stderr = io.BytesIO(), io.StringIO()
    headless_run = HeadlessRun(controller, json=False, stdout=stdout, stderr=stderr, clock=controller.clock)
    task = asyncio.create_task(headless_run.follow())
    await asyncio.sleep(0)
    headless_run.interrupt()
    controller.clock.now += 1.5
    controller.queue.put_nowait([])
    await asyncio.sleep(0)
    headless_run.interrupt()
    hurried = RunCancelRequested(3, 0.3, "at once")
    abandoned = WorkerUnresponsive(4, 0.3, "a", 1, 1, 0.2, "nap.py:3 in nap", 2)
    finished = RunFinished(5, 0.3, {"unresponsive": 1}, 1, 0.3, interrupted=True)
    controller.queue.put_nowait([hurried, abandoned, finished])
    await task
    assert controller.sent == [StopRun(), StopRun(at_once=True)]
    assert "stopping: 1 of 1 have not ended  1 running" in stderr.getvalue()
    assert "Workers that do not exit are abandoned. Press Ctrl+C again to quit.\n" in stderr.getvalue()
    assert "interrupted twice: 1 unresponsive;" in stdout.getvalue().decode()


async def test_third_signal_ends_the_wait() -> None:
    controller = FakeController(HEAD, obeys=False)
    stderr = io.StringIO()
    headless_run = HeadlessRun(controller, json=False, stdout=io.BytesIO(), stderr=stderr, clock=controller.clock)
    task = asyncio.create_task(headless_run.follow())
    await asyncio.sleep(0)
    controller.clock.now += 7.05
    for _ in range(3):
        headless_run.interrupt()
    fleet = await task
    assert fleet.finished is None
    assert re.search(r"00:07\.1 .*1 running", stderr.getvalue())
    assert fleet.end == pytest.approx(7.15)
    assert fleet.counts[WorkerState.RUNNING] == 1
    assert controller.sent == [StopRun(), StopRun(at_once=True)]


async def test_signal_handlers_are_removed_after_the_run() -> None:
    await run(FakeController(HEAD, TAIL), stop_signals=[signal.SIGUSR1])
    assert not asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)


async def test_signal_is_seen_between_two_batches_of_many() -> None:
    controller = FakeController(HEAD, *([log("line")] for _ in range(100)), TAIL, obeys=False)
    batches, stopped_after = 0, 0

    def count(_batch: Batch) -> None:
        nonlocal batches, stopped_after
        batches += 1
        if batches == 3:
            signal.raise_signal(signal.SIGUSR1)
        if controller.sent and not stopped_after:
            stopped_after = batches

    await run(controller, on_batch=count, stop_signals=[signal.SIGUSR1])
    assert controller.sent[0] == StopRun()
    assert 3 <= stopped_after < 10
