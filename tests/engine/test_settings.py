"""Settings that a person changes during a run, and commands about waiting workers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import BadLuck, CircuitPolicy, RetryPolicy, Supervisor, WorkerState, parse_rate
from asyncwatch.commands import ChangeSetting, Command, GiveUp, GiveUpAll, IsolateCircuit, RetryAllNow, RetryNow
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import AttemptFailed, AttemptStarted, CommandRefused, Event, RetryRefused, SettingChanged
from asyncwatch.events.story import story
from tests.engine.fleets import Flaky, drain, raiser, run_batch, sleeper, starts, worker

PATIENT = RetryPolicy(backoff="constant", base=100.0, cap=100.0)


def changes(events: list[Event]) -> list[tuple[str, object, object, str]]:
    """Return the settings that were changed."""
    return [(e.name, e.value, e.previous, e.key) for e in events if isinstance(e, SettingChanged)]


def test_concurrency_change_starts_more_or_lets_running_workers_finish(run: Any) -> None:
    specs = [worker(str(n), sleeper, 10.0) for n in range(8)]
    later = [(1.0, ChangeSetting("concurrency", 4)), (2.0, ChangeSetting("concurrency", 1))]
    events, _ = run_batch(run, specs, *later, concurrency=2)
    assert starts(events) == [0.0, 0.0, 1.0, 1.0, 11.0, 21.0, 31.0, 41.0]
    assert changes(events) == [("concurrency", 4, 2, ""), ("concurrency", 1, 4, "")]


def test_pause_holds_first_attempts_and_retries_and_lets_running_ones_finish(run: Any) -> None:
    policy = RetryPolicy(backoff="constant", base=3.0, cap=3.0)
    specs = [worker("c", Flaky(ConnectionError()), retry=policy), *[worker(name, sleeper, 2.0) for name in "ab"]]
    later = [(1.0, ChangeSetting("paused", True)), (50.0, ChangeSetting("paused", False))]
    events, outcomes = run_batch(run, specs, *later, concurrency=1)
    assert starts(events) == [0.0, 0.0, 50.0, 50.0]
    assert all(outcome.is_success for outcome in outcomes)
    assert changes(events) == [("paused", True, False, ""), ("paused", False, True, "")]


def test_setting_change_is_reported_before_the_attempts_it_starts(run: Any) -> None:
    specs = [worker(str(n), sleeper, 1.0) for n in range(3)]
    later = [
        (0.1, ChangeSetting("paused", True)),
        (1.5, ChangeSetting("paused", False)),
        (1.6, ChangeSetting("concurrency", 2)),
    ]
    events, _ = run_batch(run, specs, *later, concurrency=1)
    order = [type(event).__name__ for event in events if isinstance(event, AttemptStarted | SettingChanged)]
    assert order == ["AttemptStarted", *["SettingChanged"] * 2, "AttemptStarted", "SettingChanged", "AttemptStarted"]


def test_bad_luck_threshold_replaces_that_of_all_workers_until_it_is_removed(run: Any) -> None:
    unlucky = BadLuck(threshold=0.0, faults=(ConnectionError,))
    specs = [worker(str(n), sleeper, 1.0, bad_luck=unlucky) for n in range(3)]
    later = [(0.5, ChangeSetting("bad luck", 1)), (1.5, ChangeSetting("bad luck", None))]
    first = worker("first", sleeper, 1.0)
    events, outcomes = run_batch(run, [first, *specs], *later, concurrency=1)
    assert [outcome.state.value for outcome in outcomes] == ["succeeded", "succeeded", "exhausted", "exhausted"]
    assert all(event.injected for event in events if isinstance(event, AttemptFailed))
    assert changes(events) == [("bad luck", 1, None, ""), ("bad luck", None, 1.0, "")]


def test_rate_of_the_run_and_of_a_key_can_be_added_changed_and_removed(run: Any) -> None:
    specs = [worker(str(n), sleeper, 1.0, key="host") for n in range(9)]
    later = [
        (0.5, ChangeSetting("rate", "1/10s")),
        (15.0, ChangeSetting("rate", "1/2s")),
        (18.5, ChangeSetting("rate", None)),
        (18.6, ChangeSetting("rate", "1/s burst 3", key="host")),
    ]
    events, _ = run_batch(run, specs, *later, concurrency=1)
    assert changes(events) == [
        ("rate", "1/10s", None, ""),
        ("rate", "1/2s", "6/min", ""),
        ("rate", None, "30/min", ""),
        ("rate", "1/s burst 3", None, "host"),
    ]
    # At the second change, 0.6 of an attempt of the first limit are still used.
    assert starts(events) == pytest.approx([0.0, 1.0, 11.0, 16.2, 18.2, 19.2, 20.2, 21.2, 22.2])


def test_rate_per_key_changes_known_and_new_keys_but_not_one_with_its_own_rate(run: Any) -> None:
    specs = [worker(f"{key}{n}", sleeper, 1.0, key=key) for n in range(3) for key in "ab"]
    later = [
        (0.5, ChangeSetting("rate", "1/8s", key="b")),
        (1.5, ChangeSetting("rate per key", "1/2s")),
        (9.5, ChangeSetting("rate per key", None)),
    ]
    events, _ = run_batch(
        run, [*specs, *[worker(f"c{n}", sleeper, 1.0, key="c") for n in range(6)]], *later, concurrency=2
    )
    assert changes(events) == [
        ("rate", "1/8s", None, "b"),
        ("rate per key", "1/2s", None, ""),
        ("rate per key", None, "30/min", ""),
    ]
    started = [(event.worker, event.at) for event in events if isinstance(event, AttemptStarted)]
    assert [at for name, at in started if name.startswith("b")] == [0.0, 1.0, 9.0]
    assert [at for name, at in started if name.startswith("c")] == [2.0, 4.0, 6.0, 8.0, 9.5, 10.0]


def test_key_reset_to_the_rate_of_all_keys_follows_its_changes(run: Any) -> None:
    specs = [worker(str(n), sleeper, 0.0, key="k") for n in range(4)]
    later = [
        (0.5, ChangeSetting("rate", "1/5s", key="k")),
        (0.6, ChangeSetting("rate", "1/h", key="k")),
        (1.0, ChangeSetting("rate per key", None)),
    ]
    events, _ = run_batch(run, specs, *later, rate_per_key=parse_rate("1/h"))
    assert starts(events) == [0.0, 1.0, 1.0, 1.0]


def test_rate_changed_often_does_not_refill_its_tokens(run: Any) -> None:
    specs = [worker(str(n), sleeper, 0.0) for n in range(40)]
    later = [(n / 10, ChangeSetting("rate", f"1/s burst {10 + n % 2}")) for n in range(1, 10)]
    events, _ = run_batch(run, specs, *later, rate=parse_rate("1/s burst 10"))
    assert len([at for at in starts(events) if at <= 1.05]) == 11


def test_rate_changed_without_a_burst_keeps_its_burst_and_can_be_undone(run: Any) -> None:
    specs = [worker(str(n), sleeper, 0.0) for n in range(90)]
    texts = ["20/s", "20/s burst 3", "30/s"]
    later = [(1.0 + n, ChangeSetting("rate", text)) for n, text in enumerate(texts)]
    events, _ = run_batch(run, specs, *later, rate=parse_rate("1/s burst 20"))
    assert changes(events) == [
        ("rate", "20/s burst 20", "1/s burst 20", ""),
        ("rate", "20/s burst 3", "20/s burst 20", ""),
        ("rate", "30/s burst 3", "20/s burst 3", ""),
    ]
    events, _ = run_batch(run, specs, (1.0, ChangeSetting("rate", "2/s burst 4")), rate=parse_rate("1/s"))
    assert changes(events) == [("rate", "2/s burst 4", "1/s burst 1", "")]


@pytest.mark.parametrize(
    ("name", "value", "key", "word"),
    [
        ("concurrency", 0, "", "concurrency: must be 1 or more, not 0"),
        ("concurrency", True, "", "concurrency: must be a whole number, not true or false (true)"),
        ("concurrency", "4", "", "concurrency: must be a whole number, not text ('4')"),
        ("concurrency", None, "", "concurrency: must be a whole number"),
        ("paused", 1, "", "paused: must be true or false, not a whole number (1)"),
        ("bad luck", 1.5, "", "bad luck: must be between 0 and 1, not 1.5"),
        ("bad luck", "1", "", "bad luck: must be a number, not text ('1')"),
        ("rate", "fast", "", "rate: a rate reads like"),
        ("rate", 5, "", "rate: must be text, not a whole number (5)"),
        ("rate per key", "fast", "", "rate per key: a rate reads like"),
        ("rate per key", "5/s", "host", "key"),
        ("concurrency", 4, "host", "key"),
        ("colour", 4, "", "no setting"),
    ],
)
def test_invalid_setting_is_refused_with_a_reason(run: Any, name: str, value: Any, key: str, word: str) -> None:
    events, _ = run_batch(run, [worker("a", sleeper, 1.0)], (0.5, ChangeSetting(name, value, key)))
    (refused,) = [event for event in events if isinstance(event, CommandRefused)]
    assert refused.command == "ChangeSetting"
    assert word in refused.reason
    assert not changes(events)


def test_retry_now_ends_a_backoff_and_is_refused_for_other_workers_and_incarnations(run: Any) -> None:
    specs = [worker("a", Flaky(ConnectionError()), retry=PATIENT), worker("b", sleeper, 50.0)]
    later = [(5.0, RetryNow("a", 1)), (6.0, RetryNow("b", 1)), (6.0, RetryNow("b", 2)), (6.0, RetryNow("x", 1))]
    events, outcomes = run_batch(run, specs, *later)
    assert (outcomes[0].attempts, outcomes[0].elapsed) == (2, 5.0)
    assert len([event for event in events if isinstance(event, CommandRefused)]) == 3


def test_give_up_exhausts_a_worker_in_backoff_with_its_last_error(run: Any) -> None:
    error = ConnectionError()
    events, (outcome,) = run_batch(run, [worker("a", raiser, error, retry=PATIENT)], (5.0, GiveUp("a", 1)))
    assert (outcome.state, outcome.error, outcome.elapsed) == (WorkerState.EXHAUSTED, error, 5.0)
    assert [event.reason for event in events if isinstance(event, RetryRefused)] == ["person"]
    assert events[-1].at == 5.0


def test_retry_all_now_and_give_up_all_reach_every_worker_in_backoff(run: Any) -> None:
    specs = [worker(str(n), Flaky(*[ConnectionError()] * 2), retry=PATIENT) for n in range(4)]
    events, outcomes = run_batch(run, specs, (5.0, RetryAllNow()), (9.0, GiveUpAll()), concurrency=2)
    assert [event.worker for event in events if isinstance(event, AttemptStarted)] == list("01230123")
    assert {(o.state, o.attempts, o.elapsed) for o in outcomes} == {(WorkerState.EXHAUSTED, 2, 9.0)}


def test_retry_now_passes_an_isolated_circuit_and_give_up_cancels_a_held_worker(run: Any) -> None:
    specs = [worker(str(n), sleeper, 1.0, key="host") for n in range(4)]
    later = [(0.5, IsolateCircuit("host")), (5.0, RetryNow("1", 1)), (7.0, GiveUp("2", 1)), (8.0, GiveUpAll())]
    events, outcomes = run_batch(run, specs, *later, concurrency=1, circuit=CircuitPolicy())
    assert starts(events) == [0.0, 5.0]
    assert [outcome.state.value for outcome in outcomes] == ["succeeded", "succeeded", "cancelled", "cancelled"]
    assert story(events, "2") == ["AttemptHeld", "WorkerCancelled"]


def test_retry_now_of_a_rate_limited_worker_makes_it_the_next_within_the_rate(run: Any) -> None:
    specs = [worker(str(n), sleeper, 0.0) for n in range(5)]
    later = [(1.0, RetryAllNow()), (2.0, RetryNow("4", 1)), (3.0, RetryNow("3", 1))]
    events, _ = run_batch(run, specs, *later, rate=parse_rate("1/10s"))
    assert starts(events) == [0.0, 10.0, 20.0, 30.0, 40.0]
    assert [event.worker for event in events if isinstance(event, AttemptStarted)] == list("03412")


def test_retry_now_of_a_backoff_is_first_in_the_queue_of_the_rate(run: Any) -> None:
    once = RetryPolicy(backoff="constant", base=15.0, cap=15.0)
    specs = [worker(str(n), Flaky(ConnectionError()), retry=once) for n in range(2)]
    specs += [worker(f"new{n}", sleeper, 0.0) for n in range(3)]
    events, _ = run_batch(run, specs, (11.0, RetryNow("1", 1)), rate=parse_rate("1/10s"))
    started = [(event.worker, event.at) for event in events if isinstance(event, AttemptStarted)]
    assert started[:4] == [("0", 0.0), ("1", 10.0), ("1", 20.0), ("0", 30.0)]
    assert started[4:] == [("new0", 40.0), ("new1", 50.0), ("new2", 60.0)]


def test_retry_now_probes_an_open_circuit_and_retry_all_now_does_not(run: Any) -> None:
    def begin(*later: tuple[float, Command]) -> list[float]:
        specs = [worker(str(n), Flaky(ConnectionError()), key="host", retry=PATIENT) for n in range(2)]
        specs += [worker(f"new{n}", sleeper, 1.0, key="host") for n in range(2)]
        circuit = CircuitPolicy(min_throughput=2, open_for=50.0)
        return starts(run_batch(run, specs, *later, concurrency=1, circuit=circuit)[0])

    assert begin((1.0, RetryAllNow()), (2.0, RetryNow("1", 1))) == [0.0, 0.0, 2.0, 2.0, 2.0, 3.0]
    assert begin((1.0, RetryAllNow())) == [0.0, 0.0, 50.0, 50.0, 50.0, 51.0]


def test_concurrency_change_in_a_tree_is_refused(run: Any) -> None:
    async def main() -> None:
        service = worker("a", sleeper, 1e6, restart="permanent")
        async with Supervisor([service], seed=1) as supervisor:
            queue = supervisor.subscribe()
            assert not control_of(supervisor).carry_out(ChangeSetting("concurrency", 1))
            await asyncio.sleep(1.0)
            (refused,) = [event for event in drain(queue) if isinstance(event, CommandRefused)]
            assert "no slots" in refused.reason

    run(main)
