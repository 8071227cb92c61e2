"""Rate limits in a run: no more attempts start than they allow."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from asyncwatch import CircuitPolicy, RetryPolicy, Run, parse_rate
from asyncwatch.commands import ChangeSetting
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import AttemptHeld, AttemptStarted, Event, LineHeld
from asyncwatch.events.story import story
from tests.engine.fleets import Flaky, drain, run_batch, sleeper, worker


def events_of(run: Any, *specs: Any, **settings: Any) -> list[Event]:
    """Return the events of a run by `gather`."""
    return run_batch(run, list(specs), **settings)[0]


def times(events: list[Event], *names: str) -> list[float]:
    """Return when attempts started, of the named workers if any are given."""
    return [e.at for e in events if isinstance(e, AttemptStarted) and (not names or e.worker in names)]


def test_rate_spaces_attempts_evenly_in_order_and_is_reported_once(run: Any) -> None:
    events = events_of(run, *[worker(str(n), sleeper, 0.0) for n in range(5)], rate=parse_rate("4/s"), concurrency=1)
    assert times(events) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [e.worker for e in events if isinstance(e, AttemptStarted)] == list("01234")
    assert story(events, "0") == ["AttemptStarted", "WorkerSucceeded"]
    assert story(events, "1") == ["AttemptStarted", "WorkerSucceeded"]
    assert [(e.reason, e.at) for e in events if isinstance(e, LineHeld)] == [("rate", 0.0)]


@pytest.mark.parametrize("rate", ["3/s", "7/s", "50/s", "999/min"])
def test_rate_whose_interval_is_no_binary_fraction_is_kept(run: Any, rate: str) -> None:
    limit = parse_rate(rate)
    events = events_of(run, *[worker(str(n), sleeper, 0.0) for n in range(20)], rate=limit)
    for number, at in enumerate(times(events)):
        assert at == pytest.approx(number / limit.per_second, abs=2e-6)


def test_burst_starts_at_once_before_the_rate(run: Any) -> None:
    events = events_of(run, *[worker(str(n), sleeper, 0.0) for n in range(6)], rate=parse_rate("2/s", burst=4))
    assert times(events) == [0.0, 0.0, 0.0, 0.0, 0.5, 1.0]


def test_rate_per_key_holds_no_other_key_and_no_worker_without_a_key(run: Any) -> None:
    specs = [worker(f"a{n}", sleeper, 0.0, key="a") for n in range(3)]
    specs += [worker(f"b{n}", sleeper, 0.0, key="b") for n in range(2)]
    events = events_of(run, *specs, worker("free", sleeper, 0.0), rate_per_key=parse_rate("1/s"))
    assert times(events, "a0", "a1", "a2") == [0.0, 1.0, 2.0]
    assert times(events, "b0", "b1", "free") == [0.0, 0.0, 1.0]
    assert story(events, "a2") == ["AttemptHeld", "AttemptStarted", "WorkerSucceeded"]
    assert {(e.key, e.reason) for e in events if isinstance(e, AttemptHeld)} == {("a", "rate"), ("b", "rate")}


def test_key_that_has_to_wait_is_passed_by_other_keys_in_order(run: Any) -> None:
    specs = [worker(f"{key}{n}", sleeper, 0.0, key=key) for key in "ab" for n in range(1000 if key == "b" else 20)]

    async def main() -> list[Event]:
        batch = Run(specs, seed=1, rate=parse_rate("1000/s"), concurrency=5)
        queue = batch.subscribe()
        loop = asyncio.get_running_loop()
        loop.call_soon(control_of(batch).carry_out, ChangeSetting("rate", "1/s", key="a"))
        await batch.gather()
        return drain(queue)

    events: list[Event] = run(main)
    fast = times(events, *[f"b{n}" for n in range(1000)])
    assert fast[-1] < 1.02
    assert all(later - earlier < 0.012 for earlier, later in pairwise(fast))
    for key in "ab":
        own = [e.worker for e in events if isinstance(e, AttemptStarted) and e.worker.startswith(key)]
        assert own == sorted(own, key=lambda name: int(name[1:]))


def test_rate_of_the_run_and_of_the_key_both_hold(run: Any) -> None:
    specs = [worker(f"{key}{n}", sleeper, 0.0, key=key) for n in range(3) for key in "abcd"]
    events = events_of(run, *specs, rate_per_key=parse_rate("1/s"), rate=parse_rate("2/s"))
    assert times(events) == [n / 2 for n in range(12)]
    for key in "abcd":
        own = times(events, *[f"{key}{n}" for n in range(3)])
        assert all(later - earlier >= 1.0 for earlier, later in pairwise(own))


def test_rate_is_kept_after_a_time_without_a_free_slot(run: Any) -> None:
    specs = [worker("long", sleeper, 100.0), *[worker(str(n), sleeper, 0.0) for n in range(5)]]
    events = events_of(run, *specs, rate=parse_rate("4/s"), concurrency=1)
    assert times(events)[1:] == [100.0, 100.25, 100.5, 100.75, 101.0]


def test_cancelled_worker_in_the_queue_of_a_rate_delays_no_other(run: Any) -> None:
    async def main() -> list[float]:
        batch = Run([worker(str(n), sleeper, 0.0) for n in range(6)], seed=1, rate=parse_rate("1/s"))
        queue = batch.subscribe()
        loop = asyncio.get_running_loop()
        loop.call_later(0.5, batch.cancel, "1")
        loop.call_later(3.5, batch.cancel_all)
        await batch.gather()
        return times(drain(queue))

    assert run(main) == [0.0, 1.0, 2.0, 3.0]


def test_worker_released_by_its_rate_is_held_by_its_circuit(run: Any) -> None:
    once = RetryPolicy(max_attempts=1)

    async def refuse() -> None:
        raise ConnectionError

    specs = [worker(str(n), refuse, key="host", retry=once) for n in range(4)]
    circuit = CircuitPolicy(min_throughput=2, open_for=10.0)
    events = events_of(run, *specs, rate_per_key=parse_rate("1/s"), circuit=circuit)
    assert times(events) == [0.0, 1.0, 11.0, 21.0]


def test_retry_passes_a_rate_before_new_workers(run: Any) -> None:
    flaky = Flaky(ConnectionError())
    specs = [worker("a", flaky, deadline=5.0), *[worker(str(n), sleeper, 0.0) for n in range(50)]]
    events = events_of(run, *specs, rate=parse_rate("1/s"))
    assert times(events, "a") == [0.0, 1.0]
