"""Throttled attempts in a run: what holds their key, what is lost, and what a person can do about it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from asyncwatch import (
    BadLuck,
    CircuitPolicy,
    Halt,
    RetryBudget,
    RetryPolicy,
    Run,
    Supervisor,
    Throttled,
    ThrottlePolicy,
    WorkerSpec,
    WorkerSpecs,
    WorkerState,
    parse_rate,
)
from asyncwatch.commands import (
    CancelWorker,
    ChangeSetting,
    Command,
    GiveUp,
    HoldKey,
    ReleaseKey,
    ResetKey,
    RestartWorker,
    RetryAllNow,
    RetryNow,
    StopRun,
)
from asyncwatch.engine.admission import ENDED_AT_ONCE, KEYS_KEPT, PARKED_AHEAD
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    AttemptStarted,
    CircuitOpened,
    CommandRefused,
    Event,
    KeyLimitChanged,
    KeyReleased,
    KeyThrottled,
    PollFailed,
    RetryRefused,
    RetryScheduled,
    RunCancelRequested,
    WorkerEnded,
    WorkerRestarted,
)
from asyncwatch.testing import JumpingLoop, run_on
from asyncwatch.text import elapsed
from tests.engine.errors import RetryAfterError, response_error
from tests.engine.fleets import AT_ONCE, Flaky, drain, later, run_batch, sleeper, starts, stubborn, worker


def clock() -> float:
    """Return the seconds on the clock of the loop."""
    return asyncio.get_running_loop().time()


class Server:
    """Answers each call after `seconds`; a subclass refuses some."""

    def __init__(self, seconds: float = 0.05) -> None:
        self.seconds = seconds
        self.accepted, self.rejected, self.at_once, self.most_at_once = 0, 0, 0, 0
        self.calls: list[float] = []

    async def __call__(self, *_args: object) -> str:
        """Answer a request."""
        self.calls.append(clock())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        refusal = self.refusal(clock())
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.at_once -= 1
        if refusal is not None:
            self.rejected += 1
            raise refusal
        self.accepted += 1
        return "done"

    def refusal(self, now: float) -> Exception | None:
        """Return the error of a request that arrives, None to accept it."""
        return None


class Quota(Server):
    """Accepts so many requests in each window."""

    def __init__(self, quota: int, window: float, retry_after: float | None = None) -> None:
        super().__init__()
        self.quota, self.window, self.retry_after = quota, window, retry_after
        self.began, self.used = -math.inf, 0

    def refusal(self, now: float) -> Exception | None:
        if now >= self.began + self.window:
            is_first = self.began == -math.inf
            self.began = now if is_first else self.began + self.window * ((now - self.began) // self.window)
            self.used = 0
        self.used += 1
        return None if self.used <= self.quota else Throttled(self.retry_after)


class UnevenQuota(Quota):
    """A quota whose answers take turns in taking long."""

    def refusal(self, now: float) -> Exception | None:
        self.seconds = 0.05 * (1 + len(self.calls) % 3)
        return super().refusal(now)


class Refusing(Server):
    """Refuses every request until `ends` seconds after the first one."""

    def __init__(self, error: Callable[[], Exception], ends: float = math.inf) -> None:
        super().__init__()
        self.error, self.ends = error, ends

    def refusal(self, now: float) -> Exception | None:
        return self.error() if now < self.calls[0] + self.ends else None


def fleet(target: Any, count: int, **treatment: Any) -> list[WorkerSpec]:
    """Return `count` workers that call the target."""
    return [worker(str(n), target, **{"key": "k", **treatment}) for n in range(count)]


def reasons(events: list[Event], name: str) -> list[tuple[str, str]]:
    """Return what a worker was reported to wait for."""
    return [(event.key, event.reason) for event in events if isinstance(event, AttemptHeld) and event.worker == name]


def refusals(events: list[Event]) -> set[str]:
    """Return why retries were refused."""
    return {event.reason for event in events if isinstance(event, RetryRefused)}


def states_of(run: Run[Any] | Supervisor) -> dict[str, int]:
    """Return how many workers are in each state."""
    return run._scheduler.registry.states()


def held_by_hand(events: list[Event]) -> list[KeyThrottled]:
    """Return the holds that have no end."""
    return [event for event in events if isinstance(event, KeyThrottled) and event.seconds is None]


# -- what a quota costs


@pytest.mark.parametrize("key", ["k", None], ids=["key", "target"])
@pytest.mark.parametrize(
    ("retry_after", "most_rejected", "longest"), [(2.0, 12, 13.0), (None, 30, 20.0), (0.0, 30, 20.0)]
)
def test_quota_is_learned_and_no_work_is_lost(
    run: Any, key: str | None, retry_after: float | None, most_rejected: int, longest: float
) -> None:
    server = Quota(10, 2.0, retry_after)
    events, outcomes = run_batch(run, fleet(server, 60, key=key), concurrency=10)
    assert all(outcome.is_success for outcome in outcomes)
    assert server.rejected <= most_rejected
    assert max(event.at for event in events) <= longest
    assert not [event for event in events if isinstance(event, RetryScheduled)]
    learned = [event.rate for event in events if isinstance(event, KeyLimitChanged) and event.rate is not None]
    assert learned
    assert 3 < learned[-1] < 8


class Unfair(Server):
    """Refuses a share of all requests, however few there are."""

    def __init__(self, share: float, retry_after: float | None = None) -> None:
        super().__init__()
        self.share, self.retry_after, self.draw = share, retry_after, random.Random(1)

    def refusal(self, now: float) -> Exception | None:
        return Throttled(self.retry_after) if self.draw.random() < self.share else None


@pytest.mark.parametrize("key", ["k", None], ids=["key", "target"])
@pytest.mark.parametrize("retry_after", [None, 1.0])
def test_server_that_refuses_a_share_at_any_rate_slows_nothing_down(
    run: Any, key: str | None, retry_after: float | None
) -> None:
    server = Unfair(0.2, retry_after)
    events, outcomes = run_batch(run, fleet(server, 300, key=key), concurrency=10)
    assert all(outcome.is_success for outcome in outcomes)
    assert max(event.at for event in events) < 40
    assert any(event.tolerated for event in events if isinstance(event, KeyLimitChanged))
    alone = [event for event in events if isinstance(event, RetryScheduled)]
    assert len(alone) > 20
    for event in alone:
        assert event.is_throttled
        (begun,) = [
            later.at
            for later in events
            if isinstance(later, AttemptStarted) and (later.worker, later.attempt) == (event.worker, event.attempt)
        ]
        assert begun >= event.at + (retry_after or 0.0) - 1e-6


def test_quota_of_one_key_holds_no_other_key(run: Any) -> None:
    slow, free = Quota(5, 10.0, 10.0), Server()
    specs = [*fleet(slow, 20), *(worker(f"free{n}", free, key="free") for n in range(100))]
    events, outcomes = run_batch(run, specs, concurrency=10)
    assert all(outcome.is_success for outcome in outcomes)
    assert max(starts(events, *(f"free{n}" for n in range(100)))) < 2.0


def test_hold_that_ends_between_two_looks_at_the_clock_releases_its_workers() -> None:
    """The clock goes on with every look at it, as a real one does, and holds of many lengths end at any look."""

    class TickingLoop(JumpingLoop):
        def time(self) -> float:
            self._jumping.now += 1e-3
            return super().time()

    async def main() -> list[float]:
        errors = [Throttled(n * 0.5e-3) for n in range(1, 120)]
        specs = [worker(str(n), Flaky(error), key=str(n)) for n, error in enumerate(errors)]
        outcomes = [(await Run([spec], seed=1).gather())[0] for spec in specs]
        assert all(outcome.is_success for outcome in outcomes)
        return [outcome.elapsed for outcome in outcomes]

    assert max(run_on(TickingLoop(), main)) < 1


def test_throttled_attempts_use_up_neither_attempts_nor_the_budget(run: Any) -> None:
    errors = [response_error(429) for _ in range(5)]
    target = Flaky(*errors[:3], ConnectionError(), *errors[3:], ConnectionError(), ConnectionError())
    spec = worker("a", target, key="k", retry=RetryPolicy(max_attempts=3, backoff="none"))
    events, (outcome,) = run_batch(run, [spec], retry_budget=RetryBudget(tokens=10, mode="refuse"))
    assert (outcome.state, outcome.attempts) == (WorkerState.EXHAUSTED, 8)
    assert [event.error_class for event in events if isinstance(event, AttemptFailed)].count("throttled") == 5
    assert [event.attempt for event in events if isinstance(event, AttemptStarted)] == list(range(1, 9))
    assert not refusals(events)


def test_throttled_attempts_are_limited_by_a_policy_of_their_own(run: Any) -> None:
    own = {"throttled": RetryPolicy(max_attempts=3)}
    server = Refusing(lambda: Throttled(1))
    _, outcomes = run_batch(run, fleet(server, 2, retry_by_class=own), concurrency=2)
    assert [(outcome.state, outcome.attempts) for outcome in outcomes] == [(WorkerState.EXHAUSTED, 3)] * 2


def test_worker_with_one_attempt_waits_for_its_key_all_the_same(run: Any) -> None:
    events, (outcome,) = run_batch(run, [worker("a", Flaky(RetryAfterError(2)), retry=RetryPolicy(max_attempts=1))])
    assert outcome.is_success
    assert starts(events) == pytest.approx([0, 2], abs=0.01)
    assert reasons(events, "a") == [("Flaky", "throttled")]


def test_throttle_none_retries_a_throttled_attempt_as_any_other(run: Any) -> None:
    target = Refusing(lambda: response_error(429, retry_after="2"))
    events, (outcome,) = run_batch(run, [worker("a", target, key="k")], throttle=None)
    assert (outcome.state, outcome.attempts) == (WorkerState.EXHAUSTED, 3)
    assert [event.delay for event in events if isinstance(event, RetryScheduled)] == [2, 2]
    assert not [event for event in events if isinstance(event, KeyThrottled)]


def test_injected_429_holds_no_key_and_counts_as_a_failed_attempt(run: Any) -> None:
    luck = BadLuck(threshold=0.0, faults=(lambda: response_error(429, retry_after="5"),))
    specs = [worker("a", sleeper, 0.0, key="k", bad_luck=luck), worker("b", sleeper, 1.0, key="k")]
    events, outcomes = run_batch(run, specs)
    assert [(outcome.state.value, outcome.attempts) for outcome in outcomes] == [("exhausted", 3), ("succeeded", 1)]
    assert not [event for event in events if isinstance(event, KeyThrottled)]


def test_throttled_answers_do_not_open_a_circuit(run: Any) -> None:
    server = Quota(2, 1.0, 1.0)
    circuit = CircuitPolicy(min_throughput=2, failure_ratio=0.1)
    events, outcomes = run_batch(run, fleet(server, 10), circuit=circuit, concurrency=10)
    assert all(outcome.is_success for outcome in outcomes)
    assert not [event for event in events if isinstance(event, CircuitOpened)]


def test_outage_that_asks_to_wait_is_over_when_the_server_is_back(run: Any) -> None:
    server = Refusing(lambda: response_error(503, retry_after="1"), ends=5.0)
    events, outcomes = run_batch(run, fleet(server, 100), concurrency=20)
    assert all(outcome.is_success for outcome in outcomes)
    assert server.rejected <= 30
    assert max(starts(events)) <= 7.5


@pytest.mark.parametrize("limits", [{"rate": parse_rate("20/s")}, {"rate_per_key": parse_rate("20/s burst 5")}])
def test_quota_is_met_beside_other_limits(run: Any, limits: dict[str, Any]) -> None:
    server = Quota(5, 1.0, 1.0)
    _, outcomes = run_batch(run, fleet(server, 40), concurrency=10, **limits)
    assert all(outcome.is_success for outcome in outcomes)
    assert server.rejected <= 20


def test_parked_workers_hold_no_slot_and_are_reported_once(run: Any) -> None:
    specs = [*fleet(Quota(1, 5.0, 5.0), 4), worker("other", sleeper, 1.0, key="o"), worker("last", sleeper, 1.0)]
    events, _ = run_batch(run, specs, concurrency=2)
    assert max(starts(events, "other", "last")) < 2.0
    for n in range(1, 4):
        changes = reasons(events, str(n))
        assert all(change != following for change, following in pairwise(changes))
        assert ("k", "throttled") in changes


# -- keys that are not answering for long


def test_key_that_only_refuses_is_given_up_after_the_patience(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server = Refusing(lambda: Throttled(2))
    events, outcomes = run_batch(run, fleet(server, 50), concurrency=10, throttle=ThrottlePolicy(patience=20.0))
    assert "k asked to wait: no attempt starts for 2.0 s" in caplog.text
    assert {outcome.state for outcome in outcomes} == {WorkerState.EXHAUSTED}
    assert refusals(events) == {"patience"}
    assert 20 <= max(event.at for event in events) <= 20 + 30
    assert server.rejected <= 10 + 30
    ended = max(event.at for event in events)
    why = f"k refused every attempt for {elapsed(ended - 0.05)}"
    assert f"{why}: workers that wait for it make no further attempt" in caplog.text
    fresh = outcomes[-1]
    assert (fresh.attempts, str(fresh.error)) == (0, why)


def test_patience_of_one_key_ends_the_work_of_no_other(run: Any) -> None:
    specs = [*fleet(Refusing(lambda: Throttled(2)), 5), *(worker(f"b{n}", sleeper, 30.0, key="b") for n in range(5))]
    _, outcomes = run_batch(run, specs, concurrency=4, throttle=ThrottlePolicy(patience=20.0))
    assert [outcome.is_success for outcome in outcomes] == [False] * 5 + [True] * 5


class Picky(Server):
    """Refuses some items for ever, and accepts all others."""

    def __init__(self, refused: set[str], retry_after: float | None = None) -> None:
        super().__init__()
        self.refused, self.retry_after = refused, retry_after

    async def __call__(self, item: str) -> str:  # type: ignore[override]
        """Answer a request for an item."""
        await asyncio.sleep(self.seconds)
        if item in self.refused:
            self.rejected += 1
            raise Throttled(self.retry_after)
        return item


@pytest.mark.parametrize("retry_after", [None, 2.0, 60.0])
def test_item_that_is_always_refused_ends_no_other(run: Any, retry_after: float | None) -> None:
    """It would be every probe of its key, and all would be given up with it."""
    server = Picky({"0", "100"}, retry_after)
    specs = [worker(str(n), server, str(n), key="k") for n in range(200)]
    events, outcomes = run_batch(run, specs, concurrency=10)
    lost = [outcome.name for outcome in outcomes if not outcome.is_success]
    assert lost == ["0", "100"]
    assert max(starts(events, *(outcome.name for outcome in outcomes if outcome.is_success))) < 200
    assert server.rejected < 60


def test_worker_whose_first_attempt_is_a_refused_probe_lets_another_try(run: Any) -> None:
    server = Picky({"1"}, 60.0)
    specs = [worker(str(n), server, str(n), key="k") for n in range(20)]
    steps = (0.01, HoldKey("k")), (1.0, ReleaseKey("k"))
    events, outcomes = run_batch(run, specs, *steps, concurrency=1)
    assert starts(events, "1")[0] == 1.0, "it is the probe"
    assert [outcome.name for outcome in outcomes if not outcome.is_success] == ["1"]
    assert max(starts(events, *(str(n) for n in range(2, 20)))) < 10


@pytest.mark.parametrize("every", [None, 1.0], ids=["service", "poller"])
def test_service_that_is_always_refused_ends_no_worker_of_its_key(run: Any, every: float | None) -> None:
    async def main() -> tuple[int, int]:
        server = Picky({"service"}, 2.0)
        service = worker("s", server, "service", key="k", restart="permanent", every=every)
        batch = [worker(str(n), server, str(n), key="k") for n in range(100)]
        async with Supervisor([service], batch=batch, seed=1, concurrency=10) as tree:
            await asyncio.sleep(500)
            return states_of(tree)["succeeded"], server.rejected

    succeeded, rejected = run(main)
    assert succeeded == 100
    assert rejected > 5, "the service goes on trying"


def test_service_that_was_refused_again_lets_others_pass_for_a_minute_at_most(run: Any) -> None:
    server = Refusing(lambda: Throttled(2), ends=6.0)
    server.seconds = 3.0

    async def serve() -> None:
        await server()
        await asyncio.Event().wait()

    async def main() -> list[Event]:
        service = worker("service", serve, key="k", restart="permanent")
        batch = [worker(str(n), server, key="k") for n in range(200)]
        async with Supervisor([service], batch=batch, seed=1, concurrency=2) as tree:
            queue = tree.subscribe()
            await asyncio.sleep(250)
            return drain(queue)

    events = run(main)
    assert starts(events, "service") == pytest.approx([0.0, 5.0, 69.0], abs=3.0)
    assert sum(event.at < 60 for event in events if isinstance(event, WorkerEnded)) > 10, "the others passed"


def test_retry_after_beyond_the_patience_is_waited_for_once(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = Quota(5, 3600.0, 3600.0)
    events, outcomes = run_batch(run, fleet(server, 12), concurrency=5)
    assert all(outcome.is_success for outcome in outcomes)
    assert server.rejected <= 12
    assert 7200 <= max(event.at for event in events) < 7300
    refusing = Refusing(lambda: Throttled(3600))
    events, outcomes = run_batch(run, fleet(refusing, 12), concurrency=5)
    assert refusals(events) == {"patience"}
    assert 3600 <= max(event.at for event in events) < 3601
    assert refusing.rejected == 6
    assert "k refused every attempt for 1h 00m: workers" in caplog.text


def test_retry_after_beyond_its_maximum_ends_the_workers_at_once(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    server = Refusing(lambda: Throttled(7201))
    events, outcomes = run_batch(run, fleet(server, 12), concurrency=5)
    assert {outcome.state for outcome in outcomes} == {WorkerState.EXHAUSTED}
    assert max(event.at for event in events) < 0.1
    assert server.rejected == 5
    assert "k asked to wait 7201s, longer than max_retry_after = 2h" in caplog.text
    run_batch(run, fleet(Refusing(lambda: Throttled(math.inf)), 1))
    assert "k asked to wait over a year, longer than max_retry_after = 2h" in caplog.text


def test_many_workers_of_a_key_that_is_given_up_end_in_steps(run: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, JumpingLoop)
        template = WorkerSpec("template", Refusing(lambda: Throttled(2)), key="k")
        specs = WorkerSpecs(template, [str(n) for n in range(2_000)])
        batch = Run([specs], seed=1, throttle=ThrottlePolicy(patience=20.0))
        gathering = asyncio.create_task(batch.gather())
        ended = [0]
        while not gathering.done():
            await loop.next_iteration()
            ended.append(states_of(batch).get("exhausted", 0))
        assert ended[-1] == 2_000
        assert max(after - before for before, after in pairwise(ended)) <= ENDED_AT_ONCE

    run(main)


def test_halt_by_the_workers_of_a_key_that_is_given_up_ends_each_once(run: Any) -> None:
    server = Refusing(lambda: Throttled(2))
    settings: dict[str, Any] = {"throttle": ThrottlePolicy(patience=20.0), "halt": Halt(failures=2, mode="now")}
    events, outcomes = run_batch(run, fleet(server, 9), concurrency=3, **settings)
    ends = [event.worker for event in events if isinstance(event, WorkerEnded)]
    assert sorted(ends) == [str(n) for n in range(9)]
    assert {outcome.state.value for outcome in outcomes} == {"exhausted", "cancelled"}


def test_worker_that_a_person_restarts_after_the_patience_waits_again(run: Any) -> None:
    server = Refusing(lambda: Throttled(2), ends=30.0)
    commands = [(28.0, RestartWorker(str(n), 1)) for n in range(3)]

    async def main() -> list[str]:
        async with Run(fleet(server, 3), seed=1, throttle=ThrottlePolicy(patience=20.0)) as batch:
            assert {outcome.state.value for outcome in await batch.gather()} == {"exhausted"}
            for _, command in commands:
                assert control_of(batch).carry_out(command)
            await control_of(batch).wait_settled()
            return [outcome.state.value for outcome in batch.outcomes()]

    assert run(main) == ["succeeded"] * 3


def test_patience_does_not_end_in_a_pause(run: Any) -> None:
    server = Refusing(lambda: Throttled(2), ends=90.0)
    pause = (10.0, ChangeSetting("paused", True)), (90.0, ChangeSetting("paused", False))
    _, outcomes = run_batch(run, fleet(server, 5), *pause, throttle=ThrottlePolicy(patience=20.0))
    assert all(outcome.is_success for outcome in outcomes)


@pytest.mark.parametrize("key", ["k", None], ids=["key", "target"])
@pytest.mark.parametrize("paused_at", [0.3, 5.0], ids=["before the first refusal", "during the first hold"])
def test_pause_does_not_count_for_the_rate_that_is_learned(run: Any, key: str | None, paused_at: float) -> None:
    server = Quota(20, 10.0, 10.0)
    pause = (paused_at, ChangeSetting("paused", True)), (50.0, ChangeSetting("paused", False))
    events, outcomes = run_batch(run, fleet(server, 100, key=key), *pause, concurrency=2)
    assert all(outcome.is_success for outcome in outcomes)
    learned = [event.rate for event in events if isinstance(event, KeyLimitChanged) and event.rate is not None]
    assert learned
    assert 1.5 < learned[0] < 4


def test_parked_worker_is_exhausted_at_its_deadline(run: Any) -> None:
    server = Refusing(lambda: Throttled(6))
    events, outcomes = run_batch(run, fleet(server, 2, deadline=10.0), concurrency=2)
    assert [(outcome.state, outcome.elapsed) for outcome in outcomes] == [
        (WorkerState.EXHAUSTED, pytest.approx(10, abs=4)),
        (WorkerState.EXHAUSTED, pytest.approx(10, abs=4)),
    ]
    assert refusals(events) == {"deadline"}


def test_throttled_worker_whose_wait_misses_its_deadline_is_exhausted_at_once(run: Any) -> None:
    events, (outcome,) = run_batch(run, fleet(Refusing(lambda: Throttled(60)), 1, deadline=10.0))
    assert (outcome.state, refusals(events)) == (WorkerState.EXHAUSTED, {"deadline"})
    assert outcome.elapsed < 1


# -- commands


def test_retry_now_of_a_throttled_worker_is_a_probe_that_releases_its_key(run: Any) -> None:
    server = Refusing(lambda: Throttled(100), ends=5.0)
    events, _ = run_batch(run, fleet(server, 4), (10.0, RetryNow("2", 1)), (10.0, RetryNow("3", 1)), concurrency=2)
    assert starts(events, "2")[0] == 10.0
    assert starts(events, "3")[0] == 10.0
    assert min(starts(events, "0")[1:]) == pytest.approx(100, abs=0.1)


def test_retry_now_of_a_throttled_worker_waits_for_the_rate_of_its_key(run: Any) -> None:
    server = Refusing(lambda: Throttled(100), ends=1.0)
    commands = [(1.0, RetryNow("1", 1)), (1.0, RetryNow("2", 1))]
    events, _ = run_batch(run, fleet(server, 4), *commands, rate_per_key=parse_rate("3/min"))
    assert (starts(events, "2"), starts(events, "1")) == ([20.0], [40.0])


def test_give_up_and_cancel_of_throttled_workers_end_them(run: Any) -> None:
    server = Refusing(lambda: Throttled(10), ends=5.0)
    commands: list[tuple[float, Command]] = [(1.0, GiveUp("0", 1)), (1.0, GiveUp("3", 1)), (1.0, CancelWorker("1", 1))]
    events, outcomes = run_batch(run, fleet(server, 5), *commands, concurrency=2)
    states = [outcome.state.value for outcome in outcomes]
    assert states == ["exhausted", "cancelled", "succeeded", "cancelled", "succeeded"]
    assert refusals(events) == {"person"}


def test_retry_all_now_leaves_throttled_workers_to_their_key(run: Any) -> None:
    server = Refusing(lambda: Throttled(10), ends=5.0)
    events, outcomes = run_batch(run, fleet(server, 5), (1.0, RetryAllNow()), concurrency=2)
    assert all(outcome.is_success for outcome in outcomes)
    assert [event for event in events if 0.5 < event.at < 9] == [], "none of them moves"


def test_restart_of_a_throttled_worker_is_another_incarnation(run: Any) -> None:
    server = Refusing(lambda: Throttled(10), ends=5.0)
    events, outcomes = run_batch(run, fleet(server, 3), (1.0, RestartWorker("0", 1)), concurrency=3)
    assert [(outcome.incarnation, outcome.attempts) for outcome in outcomes] == [(2, 1), (1, 2), (1, 2)]
    assert all(outcome.is_success for outcome in outcomes)
    assert [event.worker for event in events if isinstance(event, WorkerRestarted)] == ["0"]


def test_release_of_a_key_probes_at_once_and_lets_the_others_follow(run: Any) -> None:
    server = Refusing(lambda: Throttled(100), ends=5.0)
    events, outcomes = run_batch(run, fleet(server, 6), (10.0, ReleaseKey("k")), concurrency=2)
    assert all(outcome.is_success for outcome in outcomes)
    assert next(at for at in starts(events) if at >= 5) == 10.0
    assert max(starts(events)) < 11


def test_key_held_by_hand_starts_nothing_until_it_is_released(run: Any) -> None:
    server = Server(1.0)
    commands = [(1.5, HoldKey("k")), (2_000.0, ReleaseKey("k"))]
    events, outcomes = run_batch(run, fleet(server, 8), *commands, concurrency=2)
    assert all(outcome.is_success for outcome in outcomes)
    assert [at for at in starts(events) if 1.5 < at < 2_000] == []
    (held,) = held_by_hand(events)
    assert (held.key, held.retry_after, held.at) == ("k", None, 1.5)
    assert next(event.at for event in events if isinstance(event, KeyReleased)) == 2_000


def test_reset_of_a_key_forgets_its_limits(run: Any) -> None:
    server = Refusing(lambda: Throttled(100), ends=5.0)
    events, outcomes = run_batch(run, fleet(server, 8), (10.0, ResetKey("k")), concurrency=4)
    assert all(outcome.is_success for outcome in outcomes)
    assert starts(events)[4:8] == [10.0] * 4


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({}, "nobody: there is no such key"), ({"throttle": None}, "nobody: this run does not throttle by key")],
)
def test_command_for_an_unknown_key_is_refused(run: Any, settings: dict[str, Any], reason: str) -> None:
    events, _ = run_batch(run, fleet(Server(1.0), 1), (0.5, HoldKey("nobody")), **settings)
    assert [event.reason for event in events if isinstance(event, CommandRefused)] == [reason]


def test_change_of_concurrency_reaches_a_throttled_key(run: Any) -> None:
    server = Quota(40, 1.0, 1.0)
    commands = [(0.5, ChangeSetting("concurrency", 1)), (5.0, ChangeSetting("concurrency", 30))]
    _, outcomes = run_batch(run, fleet(server, 300), *commands, concurrency=20)
    assert all(outcome.is_success for outcome in outcomes)


def test_run_that_is_cancelled_or_times_out_ends_its_parked_workers(run: Any) -> None:
    async def main() -> None:
        batch = Run(fleet(Refusing(lambda: Throttled(100)), 10), seed=1, concurrency=3)
        with pytest.raises(TimeoutError):
            await batch.gather(timeout=5.0)
        assert {outcome.state.value for outcome in batch.outcomes()} == {"timed out"}
        assert batch.statistics().held == 0

    run(main)


# -- attempts of every kind


def test_abandoned_attempts_are_no_longer_in_flight_at_their_key(run: Any) -> None:
    specs = [
        *fleet(stubborn, 2, attempt_timeout=1.0),
        worker("2", Quota(1, 5.0, 5.0), key="k"),
        worker("3", Server(), key="k"),
    ]
    _, outcomes = run_batch(run, specs, grace=1.0, max_per_key=2, concurrency=4)
    assert [outcome.state.value for outcome in outcomes] == ["unresponsive", "unresponsive", "succeeded", "succeeded"]


def test_attempts_that_started_before_their_target_was_throttled_are_counted(run: Any) -> None:
    """A target without a key has a gate from its first refusal on."""
    events, outcomes = run_batch(run, fleet(UnevenQuota(10, 2.0, 2.0), 40, key=None), concurrency=10)
    assert all(outcome.is_success for outcome in outcomes)
    throttled = [event for event in events if isinstance(event, KeyThrottled)]
    assert {event.key for event in throttled} == {"UnevenQuota"}


def test_targets_of_the_same_name_are_throttled_apart(run: Any) -> None:
    slow, free = Refusing(lambda: Throttled(50), ends=10.0), Refusing(lambda: Throttled(1), ends=0.5)
    specs = [*fleet(slow, 3, key=None), *(worker(f"f{n}", free) for n in range(3))]
    events, outcomes = run_batch(run, specs)
    assert all(outcome.is_success for outcome in outcomes)
    assert {event.key for event in events if isinstance(event, KeyThrottled)} == {"Refusing", "Refusing (2)"}
    assert max(starts(events, "f0", "f1", "f2")) < 3


def test_error_of_a_hostile_class_ends_its_worker_and_not_the_run(run: Any) -> None:
    class HostileError(Exception):
        def __getattribute__(self, name: str) -> Any:
            if name in {"retry_after", "response", "headers", "status"}:
                raise RuntimeError(name)
            return super().__getattribute__(name)

    _, outcomes = run_batch(run, [worker("a", Flaky(HostileError())), worker("b", sleeper, 1.0)])
    assert [outcome.state.value for outcome in outcomes] == ["failed", "succeeded"]


def test_key_function_that_raises_leaves_a_throttled_worker_to_its_target(run: Any) -> None:
    def broken(*_args: object) -> str:
        raise LookupError

    _, (outcome,) = run_batch(run, [worker("a", Flaky(Throttled(1)), key=broken)])
    assert outcome.is_success


# -- services


def test_throttled_service_waits_and_has_not_crashed(run: Any) -> None:
    async def main() -> None:
        server = Refusing(lambda: Throttled(50), ends=2_000.0)
        specs = [worker(name, server, key="k", restart="transient", retry=AT_ONCE) for name in "ab"]
        async with Supervisor(specs, seed=1, max_restarts=0, within=1e6) as tree:
            queue = tree.subscribe()
            await asyncio.sleep(3_000)
            states = states_of(tree)
        events = drain(queue)
        assert states == {"succeeded": 2}
        assert not [event for event in events if isinstance(event, WorkerRestarted)]
        assert not refusals(events)

    run(main)


def test_service_that_probes_its_key_holds_no_other_service_back_for_long(run: Any) -> None:
    """It runs for ever, so its success cannot be waited for."""
    refused = 0

    async def serve() -> None:
        nonlocal refused
        await asyncio.sleep(0.1)
        if refused < 4:
            refused += 1
            raise Throttled(1)
        await asyncio.Event().wait()

    async def main() -> tuple[list[Event], dict[str, int]]:
        services = [WorkerSpec(str(n), serve, key="k", restart="permanent") for n in range(4)]
        async with Supervisor(services, seed=1) as supervisor:
            queue = supervisor.subscribe()
            await asyncio.sleep(30)
            return drain(queue), states_of(supervisor)

    events, states = run(main)
    assert states == {"running": 4}
    assert [event.key for event in events if isinstance(event, KeyReleased)] == ["k"]


@pytest.mark.parametrize("holder", ["key", "poll"])
def test_no_attempt_starts_once_the_run_is_stopping(run: Any, holder: str) -> None:
    """The services of a tree end one after the other, and the end of a probe lets the next one start."""

    class Slow(Server):
        async def __call__(self, number: int) -> str:  # type: ignore[override]
            self.calls.append(clock())
            await asyncio.sleep(0.1 * (4 - number))
            if len(self.calls) <= 4 and holder == "key":
                raise Throttled(1)
            if holder == "key" or number == 3:
                try:
                    await asyncio.sleep(1e6)
                finally:
                    await asyncio.sleep(3.0)
            return "done"

    async def main() -> list[Event]:
        kept: dict[str, Any] = {"key": "k"} if holder == "key" else {"every": 1.0}
        target = Slow()
        services = [WorkerSpec(str(n), target, (n,), restart="permanent", **kept) for n in range(4)]
        supervisor = Supervisor(services, seed=1, grace=5.0)
        queue = supervisor.subscribe()
        later(6.0, lambda: control_of(supervisor).carry_out(StopRun()))
        await supervisor.serve()
        return drain(queue)

    events = run(main)
    stopped_at = next(event.at for event in events if isinstance(event, RunCancelRequested))
    assert max(event.at for event in events) > stopped_at + 2
    assert max(event.at for event in events if isinstance(event, AttemptStarted)) <= stopped_at


@pytest.mark.parametrize("text", ["7", timedelta(seconds=7), 7])
def test_throttled_takes_the_text_of_a_header_and_a_timedelta(text: Any) -> None:
    assert (Throttled(text).retry_after, str(Throttled(text))) == (7.0, "throttled for 7 s")


@pytest.mark.parametrize("text", [None, "soon", object(), 10**400])
def test_throttled_without_seconds_that_can_be_understood_has_none(text: Any) -> None:
    assert (Throttled(text).retry_after, str(Throttled(text))) == (None, "throttled")


def test_logged_retry_counts_failures_alone(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([Throttled(1), Throttled(1), ConnectionError()])

    async def target() -> None:
        if (error := next(answers, None)) is not None:
            raise error

    run_batch(run, [worker("a", target, retry=AT_ONCE, key="k")])
    assert "a: retry 1 of 2 in" in caplog.text


def test_throttled_poll_waits_and_counts_as_failed_only_after_the_patience(run: Any) -> None:
    async def main() -> list[Event]:
        server = Refusing(lambda: Throttled(5), ends=70.0)
        spec = worker("p", server, key="k", restart="permanent", every=10.0)
        async with Supervisor([spec], seed=1, max_restarts=0, throttle=ThrottlePolicy(patience=30.0)) as tree:
            queue = tree.subscribe()
            await asyncio.sleep(200)
            assert states_of(tree) in ({"backing off": 1}, {"running": 1})
        return drain(queue)

    events = run(main)
    polls = [type(event).__name__ for event in events if type(event).__name__.startswith("Poll")]
    assert polls[0] == "PollFailed"
    assert polls.count("PollFinished") >= 10
    assert polls.count("PollFailed") <= 5


def test_poller_of_a_key_that_asks_for_too_long_waits_for_the_next_poll_after_that(run: Any) -> None:
    answers = iter([None, Throttled(10_000), Throttled(10_000)])
    calls = list[float]()

    async def poll() -> None:
        calls.append(clock())
        if (error := next(answers, None)) is not None:
            raise error

    async def main() -> tuple[list[Event], list[str]]:
        async with Supervisor([WorkerSpec("p", poll, key="k", every=0.5, restart="permanent")], seed=1) as supervisor:
            queue = supervisor.subscribe()
            held = list[str]()
            later(5_000.0, lambda: held.extend(states_of(supervisor)))
            await asyncio.sleep(20_010)
            return drain(queue), held

    events, held = run(main)
    assert [call - calls[0] for call in calls[:4]] == pytest.approx([0.0, 0.5, 10_000.5, 20_000.5], abs=0.1)
    assert len(calls) > 10, "it polls again"
    assert sum(isinstance(event, PollFailed) for event in events) == 2
    assert reasons(events, "p") == [("k", "throttled")] * 4
    assert held == ["waiting"]


# -- shares of the slots


def test_key_takes_half_of_the_slots_while_another_has_work_and_then_all(run: Any) -> None:
    slow, quick = Server(10.0), Server(0.1)
    specs = [
        *(worker(f"s{n}", slow, key="s") for n in range(40)),
        *(worker(f"q{n}", quick, key="q") for n in range(40)),
    ]
    events, outcomes = run_batch(run, specs, concurrency=10)
    assert all(outcome.is_success for outcome in outcomes)
    assert max(starts(events, *(f"q{n}" for n in range(40)))) < 2, "the slow key comes first in the list"
    assert slow.most_at_once == 10
    assert max(event.at for event in events) <= 45, "no slot is left unused"
    assert {reason for n in range(40) for _, reason in reasons(events, f"s{n}")} <= {"share", "place"}


@pytest.mark.parametrize("slow_keys", [2, 3, 6])
@pytest.mark.parametrize("is_mixed", [False, True], ids=["one key after the other", "keys in turn"])
def test_slow_keys_leave_slots_for_the_next_key(run: Any, slow_keys: int, is_mixed: bool) -> None:
    slow, quick = Server(1_000.0), Server(0.1)
    numbers = [(key, n) for key in range(slow_keys) for n in range(50)]
    if is_mixed:
        numbers.sort(key=lambda pair: pair[1])
    specs = [worker(f"s{key}-{n}", slow, key=f"s{key}") for key, n in numbers]
    specs += [worker(f"q{n}", quick, key="q") for n in range(20)]
    events, _ = run_batch(run, specs, concurrency=20)
    assert max(starts(events, *(f"q{n}" for n in range(20)))) < 3
    assert slow.most_at_once == 20, "no slot is left unused"


def test_single_key_takes_all_slots_at_once(run: Any) -> None:
    server = Server(1.0)
    events, _ = run_batch(run, fleet(server, 30), concurrency=10)
    assert starts(events) == [0.0] * 10 + [1.0] * 10 + [2.0] * 10
    assert not [event for event in events if isinstance(event, AttemptHeld)]


def test_share_also_leaves_no_slot_unused_with_a_rate_by_key(run: Any) -> None:
    server = Server(10.0)
    specs = [*fleet(server, 20), worker("other", sleeper, 1.0, key="o")]
    run_batch(run, specs, concurrency=10, rate_per_key=parse_rate("100/s"))
    assert server.most_at_once == 10


def test_throttled_key_uses_all_slots_again_when_it_is_free(run: Any) -> None:
    slow = Refusing(lambda: Throttled(5), ends=1.0)
    slow.seconds = 3.0
    specs = [*fleet(slow, 60), *(worker(f"q{n}", Server(0.1), key=f"q{n % 3}") for n in range(20))]
    _, outcomes = run_batch(run, specs, concurrency=10)
    assert all(outcome.is_success for outcome in outcomes)
    assert slow.most_at_once == 10


@pytest.mark.parametrize("settings", [{}, {"throttle": None}])
def test_max_per_key_is_never_exceeded(run: Any, settings: dict[str, Any]) -> None:
    servers = [Server(1.0) for _ in range(3)]
    specs = [worker(f"{key}{n}", servers[key], key=str(key)) for n in range(10) for key in range(3)]
    events, outcomes = run_batch(run, specs, concurrency=20, max_per_key=2, **settings)
    assert all(outcome.is_success for outcome in outcomes)
    assert [server.most_at_once for server in servers] == [2, 2, 2]
    assert max(event.at for event in events) == pytest.approx(5, abs=0.1)


def test_retry_that_waited_for_the_budget_takes_no_more_than_the_share_of_its_key(run: Any) -> None:
    late = RetryPolicy(backoff="constant", base=0.5, cap=0.5)
    specs = [
        worker("pays", Flaky(ConnectionError()), key="o"),
        worker("a", Flaky(ConnectionError()), key="k", retry=late),
        worker("b", sleeper, 10.0, key="k"),
    ]
    budget = RetryBudget(tokens=5, time_gain=5.0, success_gain=0.0)
    events, _ = run_batch(run, specs, retry_budget=budget, max_per_key=1)
    assert reasons(events, "a") == [("", "budget"), ("k", "share")]
    assert starts(events, "a") == [0.0, 10.0]


def test_services_take_nothing_of_the_share_of_a_batch(run: Any) -> None:
    async def main() -> None:
        service = worker("service", sleeper, 1e6, key="k", restart="permanent")
        batch = [worker(str(n), sleeper, 1.0, key="k") for n in range(4)]
        async with Supervisor([service], batch=batch, seed=1, concurrency=2, max_per_key=1) as tree:
            await asyncio.sleep(4.5)
            assert states_of(tree) == {"running": 1, "succeeded": 4}

    run(main)


# -- what is kept


def test_keys_that_were_throttled_once_are_soon_forgotten(run: Any) -> None:
    """Ten are seen each second, for much longer than a key without limits is remembered."""

    async def main() -> int:
        specs = [
            worker(str(n), Flaky(Throttled(0.1)), key=str(n), retry=RetryPolicy(max_attempts=1)) for n in range(3_000)
        ]
        batch = Run(specs, seed=1, concurrency=10, rate=parse_rate("60/s"))
        kept = list[int]()
        for n in range(10, 100):
            later(float(n), lambda: kept.append(len(batch._scheduler.admission._gates)))
        assert all(outcome.is_success for outcome in await batch.gather())
        return max(kept)

    assert run(main) <= KEYS_KEPT + 10


def test_throttled_keys_that_are_not_used_are_dropped_and_reported_as_free(run: Any) -> None:
    async def main() -> tuple[set[str], list[Event]]:
        count = 3 * KEYS_KEPT
        specs = [worker(str(n), Flaky(Throttled(0.1)), key=str(n)) for n in range(count // 2)]
        specs += [worker(str(n), Server(), key=str(n)) for n in range(count // 2, count)]
        batch = Run(specs, seed=1, concurrency=10)
        queue = batch.subscribe()
        later(1.0, lambda: control_of(batch).carry_out(ChangeSetting("paused", True)))
        later(5_000.0, lambda: control_of(batch).carry_out(ChangeSetting("paused", False)))
        assert all(outcome.is_success for outcome in await batch.gather())
        return set(batch._scheduler.admission._gates), drain(queue)

    kept, events = run(main)
    assert len(kept) <= 2 * KEYS_KEPT
    last = {event.key: event for event in events if isinstance(event, KeyLimitChanged)}
    dropped = [event for key, event in last.items() if key not in kept]
    assert dropped
    assert {(event.limit, event.rate, event.in_flight) for event in dropped} == {(None, None, 0)}


def test_most_workers_behind_a_throttled_key_stay_in_the_queue(monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    assert PARKED_AHEAD >= 10_000
    monkeypatch.setattr("asyncwatch.engine.admission.PARKED_AHEAD", 20)
    server = Refusing(lambda: Throttled(5), ends=4.0)
    most = 0

    async def main() -> list[Any]:
        batch = Run(fleet(server, 200), seed=1, concurrency=5)

        def look() -> None:
            nonlocal most
            most = max(most, batch.statistics().held)

        for n in range(100):
            later(n / 10, look)
        outcomes: list[Any] = await batch.gather()
        return outcomes

    assert all(outcome.is_success for outcome in run(main))
    assert 0 < most <= 20 + 5
