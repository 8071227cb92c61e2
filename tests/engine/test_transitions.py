"""Every transition in the scheduler's table happens, and no other: one short scenario for each cause."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from asyncwatch import CircuitPolicy, RetryPolicy, Run, Supervisor, WorkerSpec, WorkerState
from asyncwatch.commands import (
    CancelWorker,
    ChangeSetting,
    CloseCircuit,
    Command,
    GiveUp,
    IsolateCircuit,
    RestartWorker,
)
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.scheduler import TRANSITIONS, Scheduler
from asyncwatch.engine.tree.node import Node
from asyncwatch.engine.worker import Worker
from asyncwatch.otp import Shutdown, StartError
from asyncwatch.policies.restart import RestartBackoff
from tests.clock import run_jumping
from tests.engine.fleets import raiser, sleeper, stubborn, worker

Transition = tuple[WorkerState, WorkerState]
SLOW = RetryPolicy(base=100.0, cap=100.0, max_attempts=2, backoff="equal")
"""One retry, after 50 to 100 s."""


LATER = RestartBackoff(base=1_000.0, cap=1_000.0)
"""A restart that a scenario does not live to see."""


class Restless:
    """Ends in another way at each call: returns, raises either kind of error, ends on purpose. Then runs for ever."""

    def __init__(self) -> None:
        self.errors: list[BaseException | None] = [None, ValueError(), ConnectionError(), ConnectionError(), Shutdown()]

    async def __call__(self) -> None:
        """End in the next way."""
        if not self.errors:
            await asyncio.sleep(1e6)
        error = self.errors.pop(0)
        if error is not None:
            raise error


class ExitingKey:
    """A key function that exits at its last call."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __call__(self, *_args: object) -> str:
        """Return the key, or exit."""
        self.left -= 1
        if not self.left:
            sys.exit(3)
        return "k"


async def stubborn_raiser(seconds: float) -> None:
    """Swallow every cancellation until `seconds` are over, then raise."""
    await stubborn(seconds)
    raise ValueError


def service(name: str, target: Any, *args: Any, **treatment: Any) -> WorkerSpec:
    """Return a service that is restarted a second after it ended, whatever its end."""
    return worker(name, target, *args, **{"restart": "permanent", "backoff": RestartBackoff(base=1.0), **treatment})


async def steps(run: Run, *commands: tuple[float, Command], **options: Any) -> None:
    """Run the batch to its end, with commands sent at the given times in seconds; it stays open for 1,000 s."""
    loop = asyncio.get_running_loop()
    async with run:
        for seconds, command in commands:
            loop.call_later(seconds, control_of(run).carry_out, command)
        with suppress(TimeoutError):
            await run.gather(**options)
        await asyncio.sleep(1_000.0)


async def ends_and_restarts() -> None:
    """Workers of a batch end in every way, and are restarted after it."""
    specs = [
        worker("succeeds", sleeper, 1.0),
        worker("fails", raiser, ValueError()),
        worker("is exhausted", raiser, ConnectionError()),
        worker("is cancelled", sleeper, 9.0),
        worker("hangs", stubborn, 900.0, shutdown=0.0),
    ]
    cancels = [CancelWorker("is cancelled", 1), CancelWorker("is cancelled", 1), CancelWorker("hangs", 1)]
    await steps(
        Run(specs, seed=1),
        *((2.0, cancel) for cancel in cancels),
        *((100.0, RestartWorker(spec.name, 1)) for spec in specs),
    )


async def timeouts() -> None:
    """The runner's time is over while workers run, back off, are parked and queued; one is restarted after it."""
    specs = [
        worker("runs", sleeper, 900.0),
        worker("backs off", raiser, ConnectionError(), retry=SLOW),
        worker("is parked", sleeper, 1.0, key="k"),
        worker("hangs", stubborn, 300.0, shutdown=0.0),
        worker("is queued", sleeper, 1.0),
    ]
    run = Run(specs, concurrency=2, circuit=CircuitPolicy(), seed=1)
    await steps(run, (0.0, IsolateCircuit("k")), (500.0, RestartWorker("runs", 1)), timeout=50.0)


async def waits() -> None:
    """Workers that back off, or are parked for a circuit, are cancelled, restarted, given up and released."""
    retry: dict[str, Any] = {"retry": SLOW}
    specs = [
        *(worker(f"{end} in its backoff", raiser, ConnectionError(), **retry) for end in ("cancelled", "restarted")),
        worker("given up in its backoff", raiser, ConnectionError(), **retry),
        *(
            worker(f"{end} in its park", raiser, ConnectionError(), key="k", **retry)
            for end in ("cancelled", "given up")
        ),
        *(worker(f"restarted in its park {n}", raiser, ConnectionError(), key="k", **retry) for n in range(3)),
    ]
    run = Run(specs, circuit=CircuitPolicy(), seed=1)
    await steps(
        run,
        (1.0, CancelWorker("cancelled in its backoff", 1)),
        (1.0, RestartWorker("restarted in its backoff", 1)),
        (1.0, GiveUp("given up in its backoff", 1)),
        (2.0, IsolateCircuit("k")),
        (200.0, CancelWorker("cancelled in its park", 1)),
        (200.0, GiveUp("given up in its park", 1)),
        (200.0, RestartWorker("restarted in its park 0", 1)),
        (299.0, ChangeSetting("rate", "1/s", key="k")),
        (300.0, CloseCircuit("k")),
    )


async def queue() -> None:
    """A worker is cancelled in the ready queue, and the start of another fails."""
    specs = [worker("runs", sleeper, 9.0), worker("waits", sleeper, 9.0)]
    await steps(Run(specs, concurrency=1, seed=1), (1.0, CancelWorker("waits", 1)))
    await steps(Run([worker("cannot start", sleeper, 9.0, attempt_timeout=Decimal(5))], seed=1))


async def late_ends() -> None:
    """Attempts that were abandoned end in each way."""
    treatment: dict[str, Any] = {"shutdown": 0.0, "retry": RetryPolicy(max_attempts=1)}
    specs = [
        worker("returns", stubborn, 50.0, attempt_timeout=1.0, **treatment),
        worker("raises", stubborn_raiser, 50.0, attempt_timeout=1.0, **treatment),
        worker("was cancelled", stubborn, 50.0, **treatment),
    ]
    await steps(Run(specs, seed=1), (1.0, CancelWorker("was cancelled", 1)))


async def services() -> None:
    """Services end in every way and are restarted, once with a failure between; the last is to be restarted."""
    children = [
        service("restless", Restless(), retry=RetryPolicy(base=0.0, cap=0.0, max_attempts=2)),
        service("hangs", stubborn, attempt_timeout=1.0, shutdown=0.0, restart="transient", backoff=LATER),
        service("waits", sleeper, 1.0, backoff=LATER),
        service("does not start again", sleeper, 1.0),
    ]
    new_incarnation, launches = Node._new_incarnation, 0

    def failing(node: Node, child: Any) -> Any:
        nonlocal launches
        if child.name == "does not start again":
            launches += 1
            if launches == 2:
                raise LookupError
        return new_incarnation(node, child)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Node, "_new_incarnation", failing)
        async with Supervisor(children, max_restarts=1_000, seed=1):
            await asyncio.sleep(100.0)


async def starts_of_services() -> None:
    """The key function of a service exits: before its first attempt, and before its retry."""
    async with Supervisor([], circuit=CircuitPolicy(), seed=1) as supervisor:
        with suppress(StartError):
            await supervisor.start_child(WorkerSpec("first", sleeper, (1.0,), key=ExitingKey(1)))
        retried = WorkerSpec("second", raiser, (ConnectionError(),), key=ExitingKey(2), retry=SLOW)
        await supervisor.start_child(retried)
        await supervisor.start_child(WorkerSpec("third", sleeper, (1.0,)))
        await asyncio.sleep(200.0)


async def pollers() -> None:
    """A poll is given up: in its backoff, and while it is parked."""
    children = [
        worker(name, raiser, ConnectionError(), every=1e4, retry=SLOW, key=key)
        for name, key in (("a", None), ("b", "k"))
    ]
    async with Supervisor(children, circuit=CircuitPolicy(), seed=1) as supervisor:
        control = control_of(supervisor)
        await asyncio.sleep(1.0)
        assert control.carry_out(IsolateCircuit("k"))
        assert control.carry_out(GiveUp("a", 1))
        await asyncio.sleep(200.0)
        assert control.carry_out(GiveUp("b", 1))


async def reports_that_fail() -> None:
    """Stopped services cannot be reported: one runs, the other is to be restarted."""
    children = [service("runs", sleeper, 1e6), service("waits", sleeper, 1.0, backoff=LATER)]

    def failing(*_args: object) -> Any:
        raise LookupError

    with pytest.MonkeyPatch.context() as patch:
        async with Supervisor(children, seed=1):
            await asyncio.sleep(10.0)
            patch.setattr(Reporter, "stopped", failing)


SCENARIOS: list[Callable[[], Awaitable[None]]] = [
    ends_and_restarts,
    timeouts,
    waits,
    queue,
    late_ends,
    services,
    starts_of_services,
    pollers,
    reports_that_fail,
]


def transitions_of(monkeypatch: pytest.MonkeyPatch) -> set[Transition]:
    """Run all scenarios, and return the transitions that happened."""
    happened: set[Transition] = set()
    transition = Scheduler._transition

    def recorded(scheduler: Scheduler, changed: Worker, state: WorkerState) -> None:
        before = changed.state
        transition(scheduler, changed, state)
        happened.add((before, state))

    monkeypatch.setattr(Scheduler, "_transition", recorded)
    for scenario in SCENARIOS:
        run_jumping(scenario)
    return happened


def test_transition_table_is_what_happens_in_the_scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {(before, after) for before, states in TRANSITIONS.items() for after in states}
    assert transitions_of(monkeypatch) == table
