"""Ctrl+C: asyncio's second one raises `KeyboardInterrupt` in any code of the main thread, which must not keep it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import asyncwatch
from asyncwatch import BadLuck, CircuitPolicy, RetryPolicy, Run, Supervisor, WorkerSpec, WorkerState
from asyncwatch.engine.describe import safe_repr
from asyncwatch.engine.tree.node import Node
from asyncwatch.testing import JumpingLoop
from tests.engine.fleets import raiser, sleeper

LONG = 1_000.0
"""Seconds on the jumping clock: the run is interrupted long before."""


def _run_by_asyncio(main: Coroutine[Any, Any, object]) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(main)


def _run_by_asyncwatch(main: Coroutine[Any, Any, object]) -> None:
    asyncwatch.run(main, loop_factory=JumpingLoop)


def _interrupted(*_args: object) -> Any:
    raise KeyboardInterrupt


class _InterruptedError(Exception):
    """Is interrupted when it is shown for the first time."""

    is_first = True

    def __str__(self) -> str:
        if self.is_first:
            self.is_first = False
            raise KeyboardInterrupt
        return "shown"


async def _show_interrupted() -> None:
    raise _InterruptedError


def _failing(**treatment: Any) -> WorkerSpec:
    return WorkerSpec("bad", raiser, (ValueError("broken"),), **treatment)


SPECS: dict[str, WorkerSpec] = {
    "classify": _failing(classify=_interrupted),
    "retry policy": _failing(retry=RetryPolicy(transient=_interrupted)),
    "key": WorkerSpec("bad", sleeper, (LONG,), key=_interrupted),
    "bad luck": WorkerSpec("bad", sleeper, (LONG,), bad_luck=BadLuck(threshold=0.0, faults=(_interrupted,))),
    "message": WorkerSpec("bad", _show_interrupted),
}


@pytest.mark.parametrize("runner", [_run_by_asyncio, _run_by_asyncwatch])
@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_interrupt_in_a_function_of_the_user_ends_the_batch(spec: WorkerSpec, runner: Callable[[Any], None]) -> None:
    batch = Run([spec, WorkerSpec("other", sleeper, (LONG,))], circuit=CircuitPolicy(), seed=1)
    with pytest.raises(KeyboardInterrupt):
        runner(batch.gather())
    batch._scheduler.validate_state()
    assert batch.is_finished
    # The runner cancels each remaining task: a worker's own may be the first.
    assert {outcome.state for outcome in batch.outcomes()} <= {WorkerState.FAILED, WorkerState.CANCELLED}
    assert len(batch.outcomes()) == 2


@pytest.mark.parametrize("runner", [_run_by_asyncio, _run_by_asyncwatch])
def test_interrupt_in_a_log_handler_ends_the_batch(runner: Callable[[Any], None]) -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise KeyboardInterrupt

    batch = Run([_failing(), WorkerSpec("other", sleeper, (LONG,))])
    logger, handler = logging.getLogger("asyncwatch"), Handler()
    logger.addHandler(handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            runner(batch.gather())
    finally:
        logger.removeHandler(handler)
    assert batch.is_finished
    assert batch.outcomes()[0].state is WorkerState.FAILED


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_interrupt_in_a_function_of_the_user_ends_the_supervisor(spec: WorkerSpec) -> None:
    supervisor = Supervisor([WorkerSpec("other", sleeper, (LONG,)), spec], circuit=CircuitPolicy(), seed=1)
    with pytest.raises(KeyboardInterrupt):
        _run_by_asyncio(supervisor.serve())
    supervisor._scheduler.validate_state()
    assert supervisor.is_finished
    assert not supervisor.statistics().tasks


def test_interrupt_in_the_start_of_a_child_ends_the_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Node, "_new_incarnation", _interrupted)
    supervisor = Supervisor([WorkerSpec("a", sleeper, (LONG,))])
    with pytest.raises(KeyboardInterrupt):
        _run_by_asyncio(supervisor.serve())
    assert supervisor.is_finished


def test_interrupt_in_a_step_of_a_command_leaves_the_run_open_to_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = Run([WorkerSpec(name, sleeper, (LONG,)) for name in "ab"], concurrency=1)
    stopped = batch._scheduler.reporter.stopped

    def interrupted_once(*facts: Any) -> Any:
        monkeypatch.setattr(batch._scheduler.reporter, "stopped", stopped)
        raise KeyboardInterrupt

    async def main() -> None:
        running = asyncio.create_task(batch.gather())
        await asyncio.sleep(0)
        monkeypatch.setattr(batch._scheduler.reporter, "stopped", interrupted_once)
        batch.cancel("b")
        await running

    with pytest.raises(KeyboardInterrupt):
        _run_by_asyncio(main())
    assert batch.is_finished
    assert batch.outcomes()[1].state is WorkerState.CANCELLED


def test_interrupt_outside_any_event_loop_comes_out_of_the_caller() -> None:
    class Interrupted:
        def __repr__(self) -> str:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        safe_repr(Interrupted())
