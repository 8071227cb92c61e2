"""Signals: the first stops a run without a dashboard, the second gives nobody more time, the third leaves it."""

from __future__ import annotations

import asyncio
import io
import re
import signal

import pytest

from asyncwatch.cli.headless import Follower
from asyncwatch.commands import StopRun
from asyncwatch.events import RunCancelRequested, RunFinished, WorkerState, WorkerUnresponsive
from tests.headless.script import HEAD, TAIL, FakeController, run


async def test_first_signal_stops_the_run_and_waits() -> None:
    """A signal asks for a stop; the events go on up to the last one."""
    controller = FakeController(HEAD)
    task = asyncio.create_task(run(controller, stop_signals=[signal.SIGUSR1]))
    await asyncio.sleep(0)
    signal.raise_signal(signal.SIGUSR1)
    out, err = await task
    assert controller.sent == [StopRun()]
    assert "stopping" in err
    assert b"interrupted" in out


async def test_second_signal_ends_the_run_at_once() -> None:
    """It gives nobody more time; the progress says how many are still to end, and the summary that it was so."""
    controller = FakeController(HEAD, obeys=False)
    stdout, stderr = io.BytesIO(), io.StringIO()
    follower = Follower(controller, json=False, stdout=stdout, stderr=stderr, clock=controller.clock)
    task = asyncio.create_task(follower.follow())
    await asyncio.sleep(0)
    follower.interrupt()
    controller.clock.now += 1.5
    controller.queue.put_nowait([])
    await asyncio.sleep(0)
    follower.interrupt()
    hurried = RunCancelRequested(3, 0.3, "at once")
    behind = WorkerUnresponsive(4, 0.3, "a", 1, 1, 0.2, "nap.py:3 in nap", 2)
    controller.queue.put_nowait([hurried, behind, RunFinished(5, 0.3, {"unresponsive": 1}, 1, 0.3, interrupted=True)])
    await task
    assert controller.sent == [StopRun(), StopRun(at_once=True)]
    assert "stopping: 1 of 1 have not ended  1 running" in stderr.getvalue()
    assert "interrupted twice: 1 unresponsive;" in stdout.getvalue().decode()
    assert "1 left behind: the end was not waited for" in stdout.getvalue().decode()


async def test_third_signal_ends_the_wait_at_once() -> None:
    """When the run does not end, a third signal leaves it; the Fleet says that it has not finished."""
    controller = FakeController(HEAD, obeys=False)
    stderr = io.StringIO()
    follower = Follower(controller, json=False, stdout=io.BytesIO(), stderr=stderr, clock=controller.clock)
    task = asyncio.create_task(follower.follow())
    await asyncio.sleep(0)
    controller.clock.now += 7.05
    for _ in range(3):
        follower.interrupt()
    fleet = await task
    assert fleet.finished is None
    assert re.search(r"00:07\.1 .*1 running", stderr.getvalue())
    assert fleet.end == pytest.approx(7.15)
    assert fleet.counts[WorkerState.RUNNING] == 1
    assert controller.sent == [StopRun(), StopRun(at_once=True)]


async def test_signal_handlers_are_taken_away() -> None:
    """After the run the signals mean what they meant before."""
    await run(FakeController(HEAD, TAIL), stop_signals=[signal.SIGUSR1])
    assert not asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
