"""What a worker waits for: reported at each change, and not again while nothing changes."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from typing import Any

import pytest

from asyncwatch import CircuitPolicy, RetryPolicy, WorkerState, parse_rate
from asyncwatch.commands import (
    ChangeSetting,
    CloseCircuit,
    Command,
    GiveUpAll,
    IsolateCircuit,
    ProbeCircuit,
    RestartWorker,
    RetryAllNow,
    RetryNow,
)
from asyncwatch.events import (
    AttemptHeld,
    AttemptStarted,
    CircuitClosed,
    CircuitEvent,
    CircuitProbed,
    CommandRefused,
    Event,
    LineHeld,
    RetryRefused,
    WorkerEnded,
    WorkerRestarted,
)
from asyncwatch.events.story import story
from tests.engine.fleets import Flaky, raiser, run_batch, sleeper, starts, worker

IN_TEN = RetryPolicy(backoff="constant", base=10.0, cap=10.0)


def waits(events: list[Event], name: str) -> list[tuple[float, str, str]]:
    """Return the time, reason and key of each wait of a worker."""
    return [(e.at, e.reason, e.key) for e in events if isinstance(e, AttemptHeld) and e.worker == name]


def queue_waits(events: list[Event]) -> list[tuple[float, str]]:
    """Return the time and reason of each change of what the ready queue waits for."""
    return [(event.at, event.reason) for event in events if isinstance(event, LineHeld)]


def test_retry_that_finds_no_slot_reports_its_wait(run: Any) -> None:
    specs = [worker("a", Flaky(ConnectionError()), retry=IN_TEN), worker("b", sleeper, 12.0), worker("c", sleeper, 1.0)]
    events, _ = run_batch(run, specs, concurrency=1)
    assert waits(events, "a") == [(10.0, "place", "")]
    assert story(events, "c") == ["AttemptStarted", "WorkerSucceeded"]
    assert not queue_waits(events)
    events, _ = run_batch(run, specs, concurrency=2)
    assert not waits(events, "a")


def test_retry_now_that_cannot_start_reports_what_it_waits_for(run: Any) -> None:
    """A slot, a pause or a circuit."""
    specs = [
        worker("a", Flaky(ConnectionError()), retry=IN_TEN),
        worker("b", sleeper, 5.0),
        worker("c", sleeper, 5.0),
    ]
    events, _ = run_batch(run, specs, (2.0, RetryNow("a", 1)), (3.0, RetryNow("a", 1)), concurrency=1)
    assert waits(events, "a") == [(2.0, "place", "")]
    assert [event.at for event in events if isinstance(event, AttemptStarted) and event.worker == "a"] == [0.0, 5.0]
    later = [(1.0, ChangeSetting("paused", True)), (2.0, RetryNow("a", 1)), (20.0, ChangeSetting("paused", False))]
    again = worker("a", Flaky(ConnectionError()), retry=IN_TEN)
    events, _ = run_batch(run, [again], *later)
    assert waits(events, "a") == [(2.0, "paused", "")]
    assert queue_waits(events) == [(1.0, "paused"), (20.0, "place")]
    later = [(1.0, IsolateCircuit("a")), (2.0, RetryAllNow()), (20.0, CloseCircuit("a"))]
    keyed = worker("a", Flaky(ConnectionError()), retry=IN_TEN, key="a")
    events, _ = run_batch(run, [keyed], *later, circuit=CircuitPolicy())
    assert waits(events, "a") == [(2.0, "circuit", "a")]


def test_pause_and_rate_of_the_run_are_reported_once_for_the_ready_queue(run: Any) -> None:
    specs = [worker(str(n), sleeper, 0.0) for n in range(100)]
    later = [
        (10.25, ChangeSetting("paused", True)),
        (20.25, ChangeSetting("paused", False)),
        (20.5, ChangeSetting("rate", None)),
    ]
    events, _ = run_batch(run, specs, *later, rate=parse_rate("1/s"), concurrency=1)
    assert queue_waits(events) == [(0.0, "rate"), (10.25, "paused"), (20.25, "rate"), (20.5, "place")]
    assert not [event for event in events if isinstance(event, AttemptHeld)]


def test_isolated_circuit_of_a_rate_limited_key_is_reported_for_its_workers(run: Any) -> None:
    specs = [worker(str(n), sleeper, 0.0, key="k") for n in range(4)]
    later = [(0.25, IsolateCircuit("k")), (5.5, CloseCircuit("k"))]
    events, _ = run_batch(run, specs, *later, circuit=CircuitPolicy(), rate_per_key=parse_rate("1/2s"))
    assert waits(events, "3") == [(0.0, "rate", "k"), (0.25, "circuit", "k"), (5.5, "rate", "k")]
    started = [(event.worker, event.at) for event in events if isinstance(event, AttemptStarted)]
    assert started == [("0", 0.0), ("1", 5.5), ("2", 7.5), ("3", 9.5)]


def test_removed_rate_of_a_key_releases_its_workers(run: Any) -> None:
    specs = [worker(str(n), sleeper, 1.0, key="k") for n in range(4)]
    change = ChangeSetting("rate", None, key="k")
    events, _ = run_batch(run, specs, (0.5, change), rate_per_key=parse_rate("1/h"), concurrency=2)
    assert starts(events) == [0.0, 0.5, 1.0, 1.5]
    assert waits(events, "1") == [(0.0, "rate", "k")]
    assert waits(events, "3") == [(0.0, "rate", "k"), (0.5, "place", "")]


def test_command_for_all_waiting_workers_is_refused_once_if_none_waits(run: Any) -> None:
    specs = [worker(str(n), Flaky(ConnectionError()), retry=IN_TEN) for n in range(20)]
    later = [(1.0, RetryAllNow()), (2.0, RetryAllNow()), (3.0, GiveUpAll()), (3.0, RetryNow("0", 1))]
    events, _ = run_batch(run, [*specs, worker("long", sleeper, 9.0)], *later, concurrency=30)
    refused = [(event.command, event.reason) for event in events if isinstance(event, CommandRefused)]
    none_waits = "no worker is waiting for another attempt"
    ended = ("RetryNow", "it is not waiting for another attempt: succeeded")
    assert refused == [("RetryAllNow", none_waits), ("GiveUpAll", none_waits), ended]


@pytest.mark.parametrize(
    ("commands", "settings"),
    [
        ([(1.0, ChangeSetting("paused", True))], {}),
        ([(1.0, IsolateCircuit("k"))], {"circuit": CircuitPolicy()}),
        ([], {"rate_per_key": parse_rate("1/h")}),
        ([], {"rate": parse_rate("1/h burst 2")}),
        ([(1.0, ChangeSetting("concurrency", 1))], {}),
    ],
    ids=["pause", "circuit", "rate of the key", "rate of the run", "no slot"],
)
def test_held_worker_is_exhausted_at_its_deadline(
    run: Any, commands: list[tuple[float, Command]], settings: dict[str, Any]
) -> None:
    specs = [worker("a", raiser, ConnectionError(), key="k", retry=IN_TEN, deadline=15.0)]
    specs.append(worker("long", sleeper, 50.0))
    events, outcomes = run_batch(run, specs, *commands, **settings)
    assert (outcomes[0].state, outcomes[0].elapsed) == (WorkerState.EXHAUSTED, 15.0)
    assert [event.reason for event in events if isinstance(event, RetryRefused)] == ["deadline"]
    assert len(waits(events, "a")) == 1


@pytest.mark.parametrize("seed", range(4))
def test_workers_under_random_commands_end_and_wait_for_what_is_reported(run: Any, seed: int) -> None:
    chance = random.Random(seed)
    keys = ("a", "b", "c")

    async def target(key: str) -> None:
        await asyncio.sleep(chance.random())
        if chance.random() < 0.4:
            raise ConnectionError(key)

    specs = [worker(str(n), target, keys[n % 3], key=keys[n % 3], retry=IN_TEN, deadline=500.0) for n in range(150)]

    def request() -> Command:
        key, name = chance.choice(keys), str(chance.randrange(150))
        return chance.choice(
            [
                ChangeSetting("concurrency", chance.choice([1, 5, 50])),
                ChangeSetting("paused", chance.random() < 0.5),
                ChangeSetting("rate", chance.choice(["2/s", "50/s", None])),
                ChangeSetting("rate", chance.choice(["1/s", "20/s", None]), key=key),
                *(IsolateCircuit(key), CloseCircuit(key), ProbeCircuit(key)),
                *(RetryAllNow(), RetryNow(name, 1), RestartWorker(name, 1)),
            ]
        )

    later = [(n / 3, request()) for n in range(200)]
    later += [(100.0, ChangeSetting("paused", False)), (100.0, ChangeSetting("concurrency", 50))]
    later += [(100.0, CloseCircuit(key)) for key in keys]
    hurried = {command.worker for _, command in later if isinstance(command, RetryNow)}  # they pass any circuit
    limits: dict[str, Any] = {"rate": parse_rate("30/s"), "rate_per_key": parse_rate("8/s burst 3")}
    circuit = CircuitPolicy(min_throughput=5, open_for=2.0)
    limits |= {"circuit": circuit, "retry_budget": None, "throttle": None}
    events, outcomes = run_batch(run, specs, *later, **limits)
    assert len(outcomes) == 150
    waiting: dict[str, AttemptHeld] = {}
    is_closed = dict.fromkeys(keys, True)
    reasons = [event.reason for event in events if isinstance(event, LineHeld)]
    assert all(reason != following for reason, following in pairwise(reasons))
    at = 0.0
    for event in events:
        if event.at - at > 1e-3:  # all events of one moment are handled
            for held in waiting.values():
                if held.key:
                    is_rate = held.reason == "rate"
                    assert is_rate is is_closed[held.key] or (is_rate and held.worker in hurried), (at, held)
        at = event.at
        match event:
            case AttemptHeld():
                before = waiting.get(event.worker)
                reported = None if before is None else (before.incarnation, before.key, before.key and before.reason)
                assert reported != (event.incarnation, event.key, event.key and event.reason)
                waiting[event.worker] = event
            case AttemptStarted() | WorkerEnded() | WorkerRestarted():
                waiting.pop(event.worker, None)
            case CircuitProbed():
                assert not is_closed[event.key]
            case CircuitEvent():
                is_closed[event.key] = isinstance(event, CircuitClosed)
            case _:
                pass
    assert not waiting
