"""Plain functions as targets, in threads."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

import asyncwatch
from asyncwatch import Run, WorkerSpec, WorkerState, amap, current_worker, in_thread
from asyncwatch.engine import threads
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.spec import Outcome
from asyncwatch.engine.threads import GOES_ON, CallThread
from asyncwatch.events import AttemptFailed, AttemptStarted, ProgressReported, WorkerUnresponsive
from tests.engine.fleets import drain

LIMIT = 30.0
"""Seconds after which a thread of a test gives up, so that a failing test ends."""
request: ContextVar[str] = ContextVar("request", default="")


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if isinstance(thread, CallThread):
            wait_until_free(thread)


def wait_until_free(thread: CallThread) -> None:
    deadline = time.monotonic() + LIMIT
    while thread.loop is not None and thread.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.001)


class Gate:
    """A plain function that says when it has started, and returns when it is released."""

    def __init__(self) -> None:
        self.started, self.released, self.left = (threading.Event() for _ in range(3))

    def __call__(self) -> str:
        self.started.set()
        assert self.released.wait(LIMIT)
        return "done"


async def wait_for(event: threading.Event) -> None:
    assert await asyncio.to_thread(event.wait, LIMIT)


async def outcome_of(function: Callable[..., Any], *args: Any) -> Outcome:
    (outcome,) = await Run([WorkerSpec("a", in_thread(function), args)]).gather()
    return outcome


async def test_function_runs_in_a_daemon_thread_as_the_worker() -> None:
    def function(item: int) -> tuple[int, str, str, bool]:
        me = current_worker()
        thread = threading.current_thread()
        return item, "" if me is None else me.name, thread.name, thread.daemon

    assert (await outcome_of(function, 3)).result == (3, "a", "asyncwatch call a", True)


async def test_thread_has_a_copy_of_the_context() -> None:
    def function() -> str:
        seen = request.get()
        request.set("of the thread")
        return seen

    request.set("of the caller")
    assert (await in_thread(function)(), request.get()) == ("of the caller", "of the caller")


async def test_awaitable_result_is_awaited_in_the_loop() -> None:
    loop = asyncio.get_running_loop()

    async def later() -> bool:
        return asyncio.get_running_loop() is loop

    def function() -> Any:
        return later()

    assert (await outcome_of(function)).result is True


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "RuntimeError: the function raised KeyboardInterrupt"),
        (StopIteration(1), "RuntimeError: coroutine raised StopIteration"),
        (asyncio.CancelledError("by itself"), "CancelledError: cancelled by other code"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_error_of_the_function_fails_its_worker_alone(error: BaseException, line: str) -> None:
    def function() -> None:
        raise error

    run = Run([WorkerSpec("a", in_thread(function)), WorkerSpec("b", in_thread(int))])
    queue = run.subscribe()
    outcomes = await run.gather()
    assert [outcome.state for outcome in outcomes] == [WorkerState.FAILED, WorkerState.SUCCEEDED]
    (failed,) = (event for event in drain(queue) if isinstance(event, AttemptFailed))
    shown = f"{failed.error_type}: {failed.error}" if failed.error else failed.error_type
    assert shown == line
    assert "engine/threads.py" not in failed.stack
    assert "raise error" in failed.stack or isinstance(error, asyncio.CancelledError)


async def test_error_is_collected_without_the_garbage_collector() -> None:
    class Kept:
        alive = 0

        def __init__(self) -> None:
            Kept.alive += 1

        def __del__(self) -> None:
            Kept.alive -= 1

    def function() -> None:
        kept = Kept()
        raise ValueError(str(kept))

    gc.disable()
    try:
        with pytest.raises(ValueError, match="Kept"):
            await in_thread(function)()
        assert Kept.alive == 0
    finally:
        gc.enable()


async def test_as_many_functions_run_at_once_as_have_a_slot() -> None:
    together = threading.Barrier(100)

    def function(_item: int) -> int:
        return together.wait(LIMIT)

    assert sorted(await amap(in_thread(function), range(100), concurrency=100)) == list(range(100))


async def test_thread_that_is_free_is_used_again_under_the_name_of_its_call() -> None:
    def function() -> tuple[str, int]:
        return threading.current_thread().name, threading.get_ident()

    outcomes = await Run([WorkerSpec(name, in_thread(function)) for name in ("a", "b")], concurrency=1).gather()
    names, idents = zip(*(outcome.result for outcome in outcomes if outcome.result), strict=True)
    assert names == ("asyncwatch call a", "asyncwatch call b")
    assert len(set(idents)) == 1


async def test_thread_without_a_call_ends_and_the_next_call_gets_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE_FOR", 0.001)
    first = await in_thread(threading.current_thread)()
    await asyncio.to_thread(first.join, LIMIT)
    assert not first.is_alive()
    assert await in_thread(threading.current_thread)() is not first


@pytest.mark.parametrize("ends_in_time", [True, False])
async def test_cancelled_call_waits_for_its_function_and_says_so(ends_in_time: bool) -> None:
    gate = Gate()
    run = Run([WorkerSpec("a", in_thread(gate))], grace=LIMIT if ends_in_time else 0.05)
    queue = run.subscribe()
    task = asyncio.create_task(run.gather())
    await wait_for(gate.started)
    run.cancel_all()
    try:
        if ends_in_time:
            asyncio.get_running_loop().call_later(0.02, gate.released.set)
        (outcome,) = await task
    finally:
        gate.released.set()
    events = drain(queue)
    assert [event.status for event in events if isinstance(event, ProgressReported)] == [GOES_ON]
    if ends_in_time:
        assert (outcome.state, outcome.result) == (WorkerState.CANCELLED, "done")
    else:
        assert outcome.state is WorkerState.UNRESPONSIVE
        (event,) = (event for event in events if isinstance(event, WorkerUnresponsive))
        assert event.stack.startswith(__file__)
        assert event.stack.endswith("Gate.__call__")


async def test_stack_of_a_worker_goes_on_in_its_thread() -> None:
    gate = Gate()
    run = Run([WorkerSpec("a", in_thread(gate))])
    task = asyncio.create_task(run.gather())
    await wait_for(gate.started)
    try:
        stack = control_of(run).stack_of("a")
    finally:
        gate.released.set()
    await task
    assert stack is not None
    assert stack.frames[0].function == "Gate.__call__"
    assert "released.wait" in stack.frames[0].text or "started.set" in stack.frames[0].text


async def test_attempt_timeout_of_a_function_that_goes_on_frees_its_slot() -> None:
    gate = Gate()
    slow = WorkerSpec("a", in_thread(gate), attempt_timeout=0.01, shutdown=0.01)
    outcomes = await Run([slow, WorkerSpec("b", in_thread(int))], concurrency=1).gather()
    gate.released.set()
    assert [outcome.state for outcome in outcomes] == [WorkerState.UNRESPONSIVE, WorkerState.SUCCEEDED]


async def test_function_that_checks_its_cancellation_ends_by_it() -> None:
    started = threading.Event()

    def function() -> None:
        me = current_worker()
        assert me is not None
        me.check_cancelled()
        started.set()
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            me.check_cancelled()
            time.sleep(0.001)

    run = Run([WorkerSpec("a", in_thread(function))], grace=LIMIT)
    task = asyncio.create_task(run.gather())
    await wait_for(started)
    run.cancel_all()
    (outcome,) = await task
    assert (outcome.state, outcome.result) == (WorkerState.CANCELLED, None)


async def test_abandoned_function_does_not_speak_for_the_next_incarnation() -> None:
    gates = [Gate(), Gate()]
    calls = iter(gates)
    cancelled: list[bool] = []

    def function() -> None:
        gate = next(calls)
        gate()
        me = current_worker()
        assert me is not None
        me.status(f"of call {gates.index(gate) + 1}")
        try:
            me.check_cancelled()
        except asyncio.CancelledError:
            cancelled.append(True)
        else:
            cancelled.append(False)
        gate.left.set()

    run = Run([WorkerSpec("a", in_thread(function))], grace=0.01)
    queue = run.subscribe()
    async with run:
        task = asyncio.create_task(run.gather())
        await wait_for(gates[0].started)
        run.cancel("a")
        await task
        assert run.restart("a")
        await wait_for(gates[1].started)
        gates[0].released.set()
        await wait_for(gates[0].left)
        gates[1].released.set()
        await wait_for(gates[1].left)
    events = drain(queue)
    assert len([event for event in events if isinstance(event, AttemptStarted)]) == 2
    assert cancelled == [True, False]
    assert [event.status for event in events if isinstance(event, ProgressReported)] == [GOES_ON, "of call 2"]


def test_program_ends_although_a_function_goes_on() -> None:
    gate = Gate()

    async def main() -> list[WorkerState]:
        outcomes = await Run([WorkerSpec("a", in_thread(gate), attempt_timeout=0.01, shutdown=0.0)]).gather()
        return [outcome.state for outcome in outcomes]

    assert asyncwatch.run(main()) == [WorkerState.UNRESPONSIVE]
    gate.released.set()  # its loop is closed


async def test_plain_function_that_is_awaited_fails_with_what_to_do() -> None:
    def parse(item: int) -> int:
        return item

    run = Run([WorkerSpec("a", parse, (1,))])  # type: ignore[arg-type]
    queue = run.subscribe()
    await run.gather()
    (failed,) = (event for event in drain(queue) if isinstance(event, AttemptFailed))
    assert failed.error_type == "TypeError"
    assert "parse returned nothing to await" in failed.error
    assert "asyncwatch.in_thread" in failed.error
