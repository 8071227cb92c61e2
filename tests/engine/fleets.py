"""Targets and small tools that the engine's tests share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from asyncwatch import Outcome, RetryPolicy, Run, Supervisor, WorkerSpec
from asyncwatch.commands import Command
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import AttemptStarted, Batch, Event

AT_ONCE = RetryPolicy(base=0.0, cap=0.0)


async def sleeper(seconds: float, result: object = None) -> object:
    """Sleep, then return `result`."""
    await asyncio.sleep(seconds)
    return result


async def raiser(error: BaseException, seconds: float = 0.0) -> None:
    """Sleep, then raise `error`."""
    await asyncio.sleep(seconds)
    raise error


async def stubborn(seconds: float = 1e9) -> None:
    """Swallow every cancellation until `seconds` are over."""
    deadline = asyncio.get_running_loop().time() + seconds
    while (left := deadline - asyncio.get_running_loop().time()) > 0:
        try:
            await asyncio.sleep(left)
        except asyncio.CancelledError:
            continue


class Flaky:
    """Raises the given errors, one a call. Then returns "done"."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self) -> str:
        """Raise the next error, or return."""
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def worker(name: str, target: Any, *args: Any, **treatment: Any) -> WorkerSpec:
    """Return a spec whose retries wait for nothing, unless `treatment` says otherwise."""
    return WorkerSpec(name, target, args, **{"retry": AT_ONCE, **treatment})


def drain(queue: asyncio.Queue[Batch]) -> list[Event]:
    """Return all events that are in the queue."""
    events: list[Event] = []
    while not queue.empty():
        events += queue.get_nowait()
    return events


async def completed(batch: Run, timeout: float | None = None) -> AsyncIterator[Outcome]:
    """Yield the outcomes of a whole batch as its workers settle."""
    async with batch.as_completed(timeout=timeout) as outcomes:
        async for outcome in outcomes:
            yield outcome


def later(seconds: float, *calls: Any) -> None:
    """Call each of `calls` after `seconds`."""
    for call in calls:
        asyncio.get_running_loop().call_later(seconds, call)


def states(supervisor: Run | Supervisor) -> dict[str, str]:
    """Return the state of each settled worker."""
    return {outcome.name: outcome.state.value for outcome in supervisor.outcomes()}


def run_batch(
    run: Any, specs: list[Any], *commands: tuple[float, Command], **settings: Any
) -> tuple[list[Event], list[Any]]:
    """Return the events and outcomes of a batch by `gather`, with commands sent at the given times in seconds."""

    async def main() -> tuple[list[Event], list[Any]]:
        batch = Run(specs, **{"seed": 1, **settings})
        queue = batch.subscribe()
        for seconds, command in commands:
            later(seconds, partial(control_of(batch).carry_out, command))
        outcomes = await batch.gather()
        assert batch.statistics().held == 0
        return drain(queue), outcomes

    answer: tuple[list[Event], list[Any]] = run(main)
    return answer


def starts(events: list[Event], *names: str) -> list[float]:
    """Return when attempts started, of the named workers if any are given."""
    started = [event for event in events if isinstance(event, AttemptStarted)]
    return [event.at for event in started if not names or event.worker in names]
