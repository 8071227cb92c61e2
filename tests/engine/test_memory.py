"""A long run does not grow: what an attempt leaves is freed without the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import Awaitable, Callable, Iterator
from copy import deepcopy
from typing import Any

import msgspec
import pytest

from asyncwatch import (
    CircuitPolicy,
    PoolSpec,
    RateLimit,
    RestartBackoff,
    RetryPolicy,
    Supervisor,
    SupervisorSpec,
    WorkerSpec,
    ready,
)
from asyncwatch.commands import RestartBranch, RestartWorker
from asyncwatch.engine import admission, registry
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import Event, WorkerCancelled, WorkerRestarted, WorkerUnresponsive
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.limits import Circuits
from asyncwatch.model.reducer import apply
from tests.engine.fleets import drain, sleeper, worker

Run = Callable[[Callable[[], Awaitable[Any]]], Any]
FOR_EVER: dict[str, Any] = {"max_restarts": 1_000_000, "within": 1.0}
TIMES = 200
SPARE = TIMES // 2
"""Objects that the interpreter and asyncio may keep for reuse: fewer than one a restart."""


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    """Turn the garbage collector and the log of the supervisor off."""
    logger = logging.getLogger("asyncwatch.supervisor")
    logger.disabled = True
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    logger.disabled = False


async def growth(supervisor: Supervisor, again: Callable[[], Awaitable[object]], fleet: Fleet | None = None) -> int:
    """Return how many more objects exist after many calls of `again` than after half of them.

    If there is a `fleet`, the events are folded into it.
    """
    queue = supervisor.subscribe()
    serving = asyncio.ensure_future(supervisor.serve())
    before = 0
    for number in range(2 * TIMES):
        await again()
        events = drain(queue)
        if fleet is not None:
            apply(fleet, events)
        if number == TIMES:
            before = len(gc.get_objects())
    after = len(gc.get_objects())
    assert not serving.done()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    return after - before


async def a_while() -> None:
    """Let each service end at least once."""
    await asyncio.sleep(0.05)


async def fails() -> None:
    """Fail after a moment."""
    await asyncio.sleep(0.01)
    raise OSError("boom")


async def exits() -> None:
    """Raise `SystemExit` after a moment."""
    await asyncio.sleep(0.01)
    raise SystemExit(3)


async def hangs() -> None:
    """Outlast the timeout, and then the shutdown time."""
    try:
        await asyncio.sleep(0.2)
    except asyncio.CancelledError:
        await asyncio.sleep(0.02)


async def never_ready() -> None:
    """Fail before `ready`."""
    await fails()
    await ready()


class Alternating:
    """Fails before it is ready in every second call, and after that in the others."""

    calls = 0

    async def __call__(self) -> None:
        self.calls += 1
        await asyncio.sleep(0.01)
        if self.calls % 2:
            await ready()
            await asyncio.sleep(0.01)
        raise OSError("boom")


SHORT = RetryPolicy(base=0.01, cap=0.01, max_attempts=2, transient=lambda error: isinstance(error, OSError))
SERVICES: dict[str, Any] = {
    "returns": worker("a", sleeper, 0.01, restart="permanent"),
    "fails": worker("a", fails, restart="permanent"),
    "exits": worker("a", exits, restart="permanent"),
    "times out": worker("a", sleeper, 0.2, restart="permanent", attempt_timeout=0.01),
    "hangs": worker("a", hangs, restart="permanent", attempt_timeout=0.01, shutdown=0.01),
    "retries": worker("a", fails, restart="permanent", retry=SHORT),
    "backs off": worker("a", fails, restart="permanent", backoff=RestartBackoff(base=0.01, cap=0.01)),
    "polls": worker("a", sleeper, 0.0, restart="permanent", every=0.01),
    "polls and retries": worker("a", Alternating(), restart="permanent", every=0.01, retry=SHORT),
    "restarts its siblings": SupervisorSpec(
        "s",
        (worker("a", sleeper, 10, restart="permanent"), worker("b", fails, restart="permanent")),
        strategy="one_for_all",
        **FOR_EVER,
    ),
    "of a supervisor that gives up": SupervisorSpec(
        "s", (worker("a", sleeper, 10, restart="permanent"), worker("b", fails, restart="permanent")), max_restarts=0
    ),
    "of a supervisor that does not start": SupervisorSpec(
        "s", (WorkerSpec("a", Alternating(), restart="permanent", announces_ready=True),), max_restarts=0
    ),
}


@pytest.mark.parametrize("kind", SERVICES)
def test_restarted_service_leaves_no_garbage(run: Run, kind: str) -> None:
    async def main() -> int:
        service = deepcopy(SERVICES[kind])  # a target may count its calls
        return await growth(Supervisor([service], grace=0.01, retry_budget=None, **FOR_EVER), a_while)

    assert run(main) < SPARE


def test_restarted_service_with_limits_leaves_no_garbage(run: Run) -> None:
    async def main() -> int:
        service = worker("a", fails, restart="permanent", key="k")
        limits: dict[str, Any] = {"circuit": CircuitPolicy(open_for=0.05), "rate_per_key": RateLimit(per_second=100.0)}
        return await growth(Supervisor([service], retry_budget=None, **limits, **FOR_EVER), a_while)

    assert run(main) < SPARE


TEMPLATES: dict[str, WorkerSpec | SupervisorSpec] = {
    "returns": worker("t", sleeper, 0.01),
    "fails": worker("t", fails),
    "does not start": WorkerSpec("t", never_ready, announces_ready=True),
    "supervisor": SupervisorSpec(
        "t",
        (worker("a", sleeper, 0.01, restart="transient", significant=True),),
        restart="temporary",
        auto_shutdown="any_significant",
    ),
}


@pytest.mark.parametrize("kind", TEMPLATES)
def test_pool_child_that_ended_or_did_not_start_leaves_no_garbage(run: Run, kind: str) -> None:
    async def main() -> int:
        supervisor = Supervisor([PoolSpec("p", TEMPLATES[kind])])
        # A pool remembers a limited number of recent names, so the names repeat.
        keys = iter(range(10 * TIMES))

        async def start() -> None:
            with contextlib.suppress(Exception):
                await supervisor.start_child(f"c{next(keys) % 10}", under="p")
            await a_while()

        return await growth(supervisor, start)

    assert run(main) < SPARE


KEPT = 10
"""Removed children, their names, and keys that are kept in these tests."""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Return a Fleet that keeps little of the past; the engine does the same."""
    monkeypatch.setattr(registry, "REMEMBERED", KEPT // 2)
    monkeypatch.setattr(admission, "KEYS_KEPT", KEPT)
    fleet = Fleet(departed_kept=KEPT, troubled_departed_kept=KEPT)
    fleet.circuits = Circuits(closed_kept=KEPT, opened_kept=KEPT)
    return fleet


def kept(fleet: Fleet) -> int:
    """Return how many rows, branches, circuits and other items by name a fleet has."""
    parts = map(vars, (fleet, fleet.tree, fleet.circuits, fleet.restarts, fleet.polls, fleet.loop, fleet.departed))
    return sum(len(value) for part in parts for value in part.values() if isinstance(value, (dict, set, list)))


@pytest.mark.parametrize("kind", TEMPLATES)
def test_pool_child_with_a_new_name_leaves_nothing(run: Run, small: Fleet, kind: str) -> None:
    async def main() -> int:
        supervisor = Supervisor([PoolSpec("p", TEMPLATES[kind])])
        names = map(str, range(10 * TIMES))

        async def start() -> None:
            with contextlib.suppress(Exception):
                await supervisor.start_child(next(names), under="p")
            await a_while()

        return await growth(supervisor, start, small)

    assert run(main) < SPARE
    assert small.workers > TIMES
    assert kept(small) < 20 * KEPT


ADDED: dict[str, Any] = {
    "worker": WorkerSpec("c", sleeper, (0.01,)),
    "failing worker": worker("c", fails),
    "supervisor": SupervisorSpec("c", (worker("a", sleeper, 10), SupervisorSpec("deep", (worker("b", sleeper, 10),)))),
}


@pytest.mark.parametrize("how", ["deleted", "lost"])
@pytest.mark.parametrize("kind", ADDED)
def test_child_added_under_a_new_name_leaves_nothing(run: Run, small: Fleet, kind: str, how: str) -> None:
    """A temporary child ends, a person deletes one, or it is lost when its supervisor is started again."""

    async def main() -> int:
        supervisor = Supervisor([SupervisorSpec("s")], **FOR_EVER)
        names, incarnations = map(str, range(10 * TIMES)), iter(range(1, 10 * TIMES))

        async def start() -> None:
            await asyncio.sleep(0)
            spec = msgspec.structs.replace(ADDED[kind], name=next(names))
            await supervisor.start_child(spec, under="s")
            await a_while()
            if how == "lost":
                assert control_of(supervisor).carry_out(RestartBranch("root/s", next(incarnations)))
                await a_while()
            elif kind == "supervisor":
                await supervisor.terminate_child(spec.name, under="s")
                await supervisor.delete_child(spec.name, under="s")

        return await growth(supervisor, start, small)

    assert run(main) < SPARE
    assert small.workers > TIMES
    assert kept(small) < 20 * KEPT


async def calls(key: str) -> str:
    """Return the key after a moment."""
    await asyncio.sleep(0.01)
    return key


async def is_refused(key: str) -> None:
    """Fail after a moment."""
    await calls(key)
    raise OSError("boom")


@pytest.mark.parametrize("target", [calls, is_refused])
def test_key_that_is_not_used_again_leaves_nothing(run: Run, small: Fleet, target: Any) -> None:
    async def main() -> int:
        once = worker("t", target, key=lambda key: key, retry=RetryPolicy(max_attempts=1))
        limits: dict[str, Any] = {"circuit": CircuitPolicy(window=0.2), "rate_per_key": RateLimit(per_second=20.0)}
        supervisor = Supervisor([PoolSpec("p", once)], retry_budget=None, **limits)
        names = map(str, range(10 * TIMES))

        async def start() -> None:
            name = next(names)
            # The second and third wait for the limit of the key.
            for number in range(3):
                await supervisor.start_child(f"{name} {number}", name, under="p")
            await asyncio.sleep(0.02)

        return await growth(supervisor, start, small)

    assert run(main) < SPARE
    assert kept(small) < 20 * KEPT


def test_worker_restarted_by_a_person_leaves_no_garbage(run: Run) -> None:
    async def main() -> int:
        supervisor = Supervisor([worker("service", sleeper, 10, restart="permanent")], batch=[worker("a", sleeper, 10)])
        incarnations = iter(range(1, 10 * TIMES))

        async def restart() -> None:
            await asyncio.sleep(0.01)
            assert control_of(supervisor).carry_out(RestartWorker("a", next(incarnations)))

        return await growth(supervisor, restart)

    assert run(main) < SPARE


@pytest.mark.parametrize("delay", [0.0, 1.0])
def test_late_end_of_an_abandoned_incarnation_is_reported_after_its_restart(run: Run, delay: float) -> None:
    """The incarnation ends before the next one starts, or after."""

    async def main() -> list[Event]:
        backoff = RestartBackoff(base=delay, cap=delay)
        service = worker("a", hangs, restart="permanent", attempt_timeout=0.01, shutdown=0.01, backoff=backoff)
        supervisor = Supervisor([service], max_restarts=10, seed=1)  # the jitter decides when incarnation 2 starts
        queue = supervisor.subscribe()
        async with supervisor:
            await asyncio.sleep(delay + 0.035)
        return drain(queue)

    events = [
        (type(event), event.incarnation)
        for event in run(main)
        if isinstance(event, (WorkerUnresponsive, WorkerCancelled, WorkerRestarted))
    ]
    assert events[:3] == [(WorkerUnresponsive, 1), (WorkerRestarted, 2), (WorkerCancelled, 1)]
