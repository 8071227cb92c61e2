"""Throttle: a simulation against servers that limit time, concurrency or nothing, and the rules of patience."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncwatch.policies.throttle import Throttle, ThrottleHistory, ThrottlePolicy, ThrottleTicket

Answer = tuple[int, float | None] | None
"""None for a success, else the status and the `Retry-After`."""


class Server:
    """A server that never refuses."""

    def ask(self, now: float) -> Answer:
        """Return the answer to a request that arrives."""
        return None

    def done(self) -> None:
        """Note that the answer of an accepted request has left."""


class Window(Server):
    """So many requests in each window; `change` gives a moment and the quota from then on."""

    def __init__(
        self,
        quota: int,
        seconds: float,
        retry_after: float | None = None,
        change: tuple[float, int] = (math.inf, 0),
        *,
        tells_rest: bool = False,
    ) -> None:
        self._quota, self._seconds, self._retry_after, self._change = quota, seconds, retry_after, change
        self._tells_rest = tells_rest
        self._began = self._used = 0.0

    def ask(self, now: float) -> Answer:
        if now >= self._began + self._seconds:
            self._began += self._seconds * ((now - self._began) // self._seconds)
            self._used = 0
        if self._used < (self._quota if now < self._change[0] else self._change[1]):
            self._used += 1
            return None
        return 429, math.ceil(self._began + self._seconds - now) if self._tells_rest else self._retry_after


class Bucket(Server):
    """A token bucket."""

    def __init__(self, rate: float, burst: float, retry_after: float | None = None) -> None:
        self._rate, self._burst, self._retry_after = rate, burst, retry_after
        self._tokens, self._at = burst, 0.0

    def ask(self, now: float) -> Answer:
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens >= 1:
            self._tokens -= 1
            return None
        return 429, self._retry_after


class Crowded(Server):
    """So many requests at a time."""

    def __init__(self, most: int, retry_after: float | None = None) -> None:
        self._most, self._retry_after, self._count = most, retry_after, 0

    def ask(self, now: float) -> Answer:
        if self._count >= self._most:
            return 429, self._retry_after
        self._count += 1
        return None

    def done(self) -> None:
        self._count -= 1


class Outage(Server):
    """Answers 503 for a while."""

    def __init__(self, begins: float, ends: float, retry_after: float | None = None) -> None:
        self._begins, self._ends, self._retry_after = begins, ends, retry_after

    def ask(self, now: float) -> Answer:
        return (503, self._retry_after) if self._begins <= now < self._ends else None


class Unfair(Server):
    """Refuses a share of all requests, however few there are."""

    def __init__(self, share: float, retry_after: float | None, status: int, seed: int) -> None:
        self._share, self._answer, self._draw = share, (status, retry_after), random.Random(seed)

    def ask(self, now: float) -> Answer:
        return self._answer if self._draw.random() < self._share else None


class Sliding(Server):
    """So many requests in any window."""

    def __init__(self, quota: int, seconds: float, retry_after: float | None = None) -> None:
        self._quota, self._seconds, self._retry_after = quota, seconds, retry_after
        self._accepted: deque[float] = deque()

    def ask(self, now: float) -> Answer:
        while self._accepted and self._accepted[0] <= now - self._seconds:
            self._accepted.popleft()
        if len(self._accepted) >= self._quota:
            return 429, self._retry_after
        self._accepted.append(now)
        return None


class Each(Server):
    """One server behind the other."""

    def __init__(self, *servers: Server) -> None:
        self._servers = servers

    def ask(self, now: float) -> Answer:
        return next((answer for server in self._servers if (answer := server.ask(now)) is not None), None)


class Slump(Server):
    """100 requests a second, but one a second from 10 s to 40 s."""

    def __init__(self, retry_after: float | None = None) -> None:
        self._usual, self._low = Window(100, 1, retry_after), Window(1, 1, retry_after)

    def ask(self, now: float) -> Answer:
        return (self._low if 10 <= now < 40 else self._usual).ask(now)


class Result(NamedTuple):
    """What a simulated batch came to."""

    succeeded: int
    rejected: int
    seconds: float


def simulate(server: Server, items: int, concurrency: int, rtt: float, seed: int = 0) -> Result:
    """Send `items` requests with a round trip of `rtt` seconds, give or take a fifth, until all have succeeded."""
    draw = random.Random(seed)
    throttle = Throttle(ThrottlePolicy(), concurrency, draw.random)
    numbers = itertools.count()
    agenda: list[tuple[float, int, Callable[[float], None]]] = []
    left, free, succeeded, rejected, ended_at, wakes_at = items, concurrency, 0, 0, 0.0, math.inf

    def later(delay: float, action: Callable[[float], None], now: float) -> None:
        heapq.heappush(agenda, (now + delay, next(numbers), action))

    def trip() -> float:
        return rtt / 2 * (0.8 + 0.4 * draw.random())

    def arrive(ticket: ThrottleTicket, now: float) -> None:
        answer = server.ask(now)
        later(trip(), lambda then: end(ticket, answer, then), now)

    def end(ticket: ThrottleTicket, answer: Answer, now: float) -> None:
        nonlocal left, free, succeeded, rejected, ended_at
        free += 1
        if answer is None:
            server.done()
            throttle.succeeded(ticket, now)
            succeeded += 1
            ended_at = now
        else:
            throttle.throttled(ticket, now, answer[1], is_outage=answer[0] == 503, has_others=left > 0)
            rejected += 1
            left += 1

    def wake(_: float) -> None:
        nonlocal wakes_at
        wakes_at = math.inf

    def send(ticket: ThrottleTicket, now: float) -> None:
        later(trip(), lambda then: arrive(ticket, then), now)

    now = 0.0
    while succeeded < items and now < 100_000:
        while left and free and (wait := throttle.wait(now)) < math.inf:
            if wait:
                if now + wait < wakes_at:
                    wakes_at = now + wait
                    later(wait + 1e-6, wake, now)
                break
            left -= 1
            free -= 1
            send(throttle.start(now), now)
        now, _, action = heapq.heappop(agenda)
        action(now)
    return Result(succeeded, rejected, ended_at)


QUICK, USUAL = 0.005, 0.05
"""Round trips in seconds."""


@pytest.mark.parametrize(
    ("make", "items", "concurrency", "most_rejected", "longest"),
    [
        pytest.param(lambda: Window(10, 2, 2), 60, 10, 12, 13, id="quota"),
        pytest.param(lambda: Window(10, 2, tells_rest=True), 60, 10, 12, 13, id="quota, exact Retry-After"),
        pytest.param(lambda: Window(10, 2), 60, 10, 30, 20, id="quota, no Retry-After"),
        pytest.param(lambda: Window(10, 2, 0), 60, 10, 30, 20, id="quota, Retry-After 0"),
        pytest.param(lambda: Window(10, 2, 2, (4, 5)), 60, 10, 25, 24, id="lowered quota"),
        pytest.param(lambda: Window(5, 2, 2, (6, 50)), 200, 10, 30, 30, id="raised quota"),
        pytest.param(lambda: Window(100, 60, tells_rest=True), 600, 100, 136, 305, id="quota per minute"),
        pytest.param(lambda: Window(60, 60), 300, 20, 40, 300, id="quota per minute, no Retry-After"),
        pytest.param(lambda: Window(10, 2), 600, 10, 80, 140, id="quota for long, no Retry-After"),
        pytest.param(lambda: Window(1, 2), 60, 10, 30, 135, id="quota of 1, no Retry-After"),
        pytest.param(lambda: Sliding(10, 2, 1), 300, 10, 20, 72, id="sliding quota"),
        pytest.param(lambda: Sliding(10, 2), 300, 10, 80, 80, id="sliding quota, no Retry-After"),
        pytest.param(lambda: Slump(1), 3_000, 10, 100, 110, id="slump"),
        pytest.param(Slump, 3_000, 10, 160, 110, id="slump, no Retry-After"),
        pytest.param(lambda: Bucket(50, 1), 1_500, 10, 60, 100, id="leaky bucket, no Retry-After"),
        pytest.param(lambda: Bucket(20, 20, 1), 200, 20, 30, 14, id="token bucket"),
        pytest.param(lambda: Bucket(20, 20), 200, 20, 60, 14, id="token bucket, no Retry-After"),
        pytest.param(lambda: Bucket(200, 200, 1), 5_000, 100, 220, 30, id="quick token bucket"),
        pytest.param(lambda: Bucket(20, 20, 1), 600, 1_000, 1_036, 33, id="more slots than items"),
        pytest.param(lambda: Crowded(1), 200, 10, 50, 20, id="1 at once, no Retry-After"),
        pytest.param(lambda: Crowded(8), 600, 100, 136, 4 * 600 / 8 * USUAL, id="8 at once, no Retry-After"),
        pytest.param(lambda: Crowded(8, 1), 600, 100, 136, 6 * 600 / 8 * USUAL, id="8 at once"),
        pytest.param(lambda: Outage(1, 6), 5_000, 100, 110, 10.5, id="outage, no Retry-After"),
        pytest.param(lambda: Outage(1, 6, 1), 5_000, 100, 110, 10, id="outage"),
        pytest.param(Server, 5_000, 100, 0, 1.1 * 5_000 / 100 * USUAL, id="nothing throttles"),
    ],
)
@pytest.mark.parametrize("rtt", [QUICK, USUAL])
def test_throttle_wastes_few_requests_and_little_time(
    make: Callable[[], Server], items: int, concurrency: int, most_rejected: int, longest: float, rtt: float
) -> None:
    for seed in range(3):
        result = simulate(make(), items, concurrency, rtt, seed)
        assert result.succeeded == items
        assert result.rejected <= most_rejected
        assert result.seconds <= longest


@pytest.mark.parametrize("rtt", [QUICK, USUAL])
@pytest.mark.parametrize(("items", "concurrency"), [(300, 10), (3_000, 50)])
@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize(("share", "longest"), [(0.05, 45), (0.2, 60), (0.5, 180)])
def test_throttle_does_not_slow_down_for_refusals_that_do_not_depend_on_the_rate(
    share: float, longest: float, retry_after: float | None, status: int, items: int, concurrency: int, rtt: float
) -> None:
    for seed in range(3):
        result = simulate(Unfair(share, retry_after, status, seed + 600), items, concurrency, rtt, seed)
        assert result.succeeded == items
        assert result.rejected <= 1.4 * items * share / (1 - share) + 10
        assert result.seconds <= longest


def test_throttle_tells_a_quota_from_refusals_that_do_not_depend_on_the_rate() -> None:
    for seed in range(3):
        server = Each(Unfair(0.2, None, 429, seed), Bucket(20, 20))
        result = simulate(server, 600, 20, USUAL, seed)
        assert result.succeeded == 600
        assert result.rejected <= 600
        assert result.seconds <= 600


def test_throttle_of_a_seldom_used_key_learns_no_low_rate() -> None:
    """Ten requests in an hour say nothing of the quota that the next burst meets."""
    throttle = throttle_of()
    for minute in range(0, 60, 6):
        throttle.succeeded(throttle.start(minute * 60.0), minute * 60.0)
    burst = [throttle.start(3600.0) for _ in range(10)]
    for ticket in burst[:8]:
        throttle.succeeded(ticket, 3600.1)
    for ticket in burst[8:]:
        throttle.throttled(ticket, 3600.1, 1, is_outage=False)
    assert throttle.wait(3601.2) == 0
    throttle.succeeded(throttle.start(3601.2), 3601.3)
    assert 5 < throttle.rate < 8


def test_throttle_that_is_told_when_a_long_period_ends_uses_all_of_the_next_one() -> None:
    """It cannot know whether the quota or its own small need gave the rate of so long a time."""
    throttle = throttle_of(patience=10_000)
    throttle.succeeded(throttle.start(0.0), 0.1)
    assert refuse(throttle, 1.0, 3_600) == 1.0
    assert throttle.wait(3_601.0) == 0
    for second in range(50):
        throttle.succeeded(throttle.start(3_601.0 + second), 3_601.1 + second)
        assert throttle.wait(3_602.0 + second) == 0


def throttle_of(patience: float = 20.0, ceiling: int = 10) -> Throttle:
    """Return a throttle whose backoffs do not vary."""
    return Throttle(ThrottlePolicy(patience=patience, max_retry_after=100.0), ceiling, lambda: 0.5)


def refuse(throttle: Throttle, now: float, retry_after: float | None = None) -> float:
    """Let an attempt start once it may after `now`, and be refused at once; return when."""
    while wait := throttle.wait(now):
        now += wait
    throttle.throttled(throttle.start(now), now, retry_after, is_outage=False)
    return now


def test_throttle_holds_its_key_for_the_retry_after_and_then_lets_one_probe_go_alone() -> None:
    throttle = throttle_of()
    first, second = throttle.start(0.0), throttle.start(0.0)
    throttle.throttled(first, 1.0, 2, is_outage=False)
    assert throttle.wait(1.5) == pytest.approx(1.5)
    throttle.throttled(second, 1.5, 3, is_outage=False)  # a late answer can only extend the hold
    assert throttle.wait(2.0) == pytest.approx(2.5)
    assert throttle.wait(4.5) == 0
    probe = throttle.start(4.5)
    assert throttle.is_probing
    assert throttle.wait(4.5) == 10.0
    throttle.succeeded(probe, 4.6)
    assert not throttle.is_probing
    throttle.start(4.6)
    throttle.start(4.6)
    assert throttle.wait(4.6) == math.inf, "the ramp starts with two"


def test_throttle_asks_another_worker_soon_after_a_refused_probe() -> None:
    throttle = throttle_of(patience=1000.0)
    refuse(throttle, 0.0, 50)
    assert throttle.wait(50.0) == 0
    throttle.throttled(throttle.start(50.0), 50.0, 50, is_outage=False, has_others=True)
    assert throttle.wait(50.0) == pytest.approx(0.1)
    assert throttle.wait(50.2) == 0
    throttle.throttled(throttle.start(50.2), 50.2, 20, is_outage=False, has_others=True)
    assert throttle.wait(50.2) == pytest.approx(49.8), "both were refused: what the first asked for holds"
    assert throttle.wait(100.0) == 0
    throttle.throttled(throttle.start(100.0), 100.0, 50, is_outage=False, has_others=True)
    assert throttle.wait(100.0) == pytest.approx(50.0)


def test_throttle_learns_nothing_of_a_probe_that_is_refused_alone() -> None:
    throttle = throttle_of(patience=1000.0)
    for _ in range(10):
        throttle.succeeded(throttle.start(0.0), 0.1)
    refuse(throttle, 1.0, 50)
    assert throttle.wait(51.0) == 0
    throttle.throttled(throttle.start(51.0), 51.0, 50, is_outage=False, has_others=True)
    assert throttle.wait(51.2) == 0
    throttle.succeeded(throttle.start(51.2), 51.3)
    assert throttle.rate == math.inf


def test_throttle_probe_that_still_runs_after_some_seconds_counts_as_accepted() -> None:
    """A service runs for ever: the others of its key would wait as long."""
    throttle = throttle_of()
    refuse(throttle, 0.0, 1)
    assert throttle.wait(1.0) == 0
    throttle.start(1.0)
    assert throttle.wait(10.0) == pytest.approx(1.0)
    assert not throttle.accept_probe(10.0)
    assert throttle.accept_probe(11.0)
    assert throttle.wait(11.0) == 0
    assert not throttle.is_probing


def test_throttle_retry_after_beyond_the_patience_may_be_rounded_down() -> None:
    throttle = throttle_of(patience=20.0)
    refuse(throttle, 0.0, 90)
    assert refuse(throttle, 1.0, 1) == 90.0
    assert throttle.wait(91.0) == 0
    throttle.succeeded(throttle.start(91.0), 91.1)
    assert throttle.gives_up_at == math.inf


@pytest.mark.parametrize("kind", ["hold", "outage"])
def test_throttle_wait_that_is_not_due_to_a_quota_teaches_no_rate(kind: str) -> None:
    throttle = throttle_of(patience=1000.0)
    for _ in range(10):
        throttle.succeeded(throttle.start(0.0), 0.1)
    if kind == "hold":
        throttle.hold()
        throttle.release(300.0)
    else:
        throttle.throttled(throttle.start(0.2), 0.3, 299.7, is_outage=True)
    assert throttle.wait(300.0) == 0
    throttle.succeeded(throttle.start(300.0), 300.1)
    for _ in range(9):
        throttle.succeeded(throttle.start(300.1), 300.2)
    throttle.throttled(throttle.start(300.2), 300.3, 2, is_outage=False)
    assert throttle.wait(302.3) == 0
    throttle.succeeded(throttle.start(302.3), 302.4)
    assert throttle.rate > 3


@pytest.mark.parametrize("is_known", [False, True])
def test_throttle_time_that_is_skipped_teaches_no_rate(is_known: bool) -> None:
    history, throttle = ThrottleHistory(0.0), throttle_of(patience=1000.0)
    for second in range(100):
        history.successes += 1
        if second >= history.turns_at:
            history.turn(float(second))
    if not is_known:
        history.skip(3_600.0)
    epoch = throttle.begin(history, 1)
    if is_known:
        throttle.skip(3_600.0)
    throttle.throttled(ThrottleTicket(epoch, 3_700.0, 1, is_early=False), 3_700.0, 2, is_outage=False)
    assert throttle.wait(3_702.0) == 0
    throttle.succeeded(throttle.start(3_702.0), 3_702.1)
    assert 0.9 < throttle.rate < 1.1


def test_throttle_probe_that_ends_otherwise_is_sent_again() -> None:
    throttle = throttle_of()
    refuse(throttle, 0.0, 1)
    assert throttle.wait(1.0) == 0
    throttle.ended(throttle.start(1.0), is_answer=False)
    assert throttle.is_probing
    assert throttle.wait(1.0) == 0


def test_throttle_probe_does_not_wait_for_attempts_of_before_the_refusal() -> None:
    throttle = throttle_of()
    throttle.start(0.0)  # takes an hour
    refuse(throttle, 0.0, 1)
    assert throttle.wait(1.0) == 0


def test_throttle_release_starts_a_probe_and_reset_forgets() -> None:
    throttle = throttle_of()
    refuse(throttle, 0.0, 50)
    throttle.release(1.0)
    assert throttle.wait(1.0) == 0
    assert throttle.is_limiting
    throttle.reset()
    assert not throttle.is_limiting
    assert throttle.limit == 10


def test_throttle_gives_up_when_nothing_but_refusals_came_within_the_patience() -> None:
    throttle = throttle_of(patience=20.0)
    throttle.succeeded(throttle.start(0.0), 0.0)
    now = refuse(throttle, 1.0, 2)
    while now < 15:
        now = refuse(throttle, now, 2)
        assert throttle.gives_up_at == 21.0
    throttle.wait(now + 10)
    throttle.ended(throttle.start(now + 10), is_answer=False)
    assert throttle.gives_up_at == 21.0, "a time-out is no answer"
    throttle.ended(throttle.start(now + 10), is_answer=True)
    assert throttle.gives_up_at == math.inf


def test_throttle_waits_once_for_a_retry_after_beyond_the_patience() -> None:
    throttle = throttle_of(patience=20.0)
    refuse(throttle, 0.0, 90)
    assert throttle.gives_up_at == 110.0, "a probe that is not answered is sent again for the usual patience"
    assert refuse(throttle, 1.0, 90) == 90.0
    assert throttle.gives_up_at == 90.0, "the probe was refused"


def test_throttle_extends_its_patience_again_after_a_success() -> None:
    throttle = throttle_of(patience=20.0)
    for start in (0.0, 200.0):
        refuse(throttle, start, 90)
        assert throttle.wait(start + 90) == 0
        throttle.succeeded(throttle.start(start + 90), start + 90)
        assert throttle.gives_up_at == math.inf


def test_throttle_gives_up_at_once_for_a_retry_after_beyond_its_maximum() -> None:
    throttle = throttle_of()
    late = throttle.start(4.0)
    refuse(throttle, 5.0, 101)
    assert throttle.gives_up_at == 5.0
    throttle.succeeded(late, 6.0)
    assert throttle.gives_up_at == 5.0, "the answer to an attempt of before does not end the hold"
    throttle.release(7.0)
    assert throttle.gives_up_at == math.inf


@pytest.mark.parametrize("seconds", [math.inf, 1e300])
def test_throttle_is_not_held_for_ever_by_a_retry_after_of_any_size(seconds: float) -> None:
    throttle = throttle_of()
    refuse(throttle, 5.0, seconds)
    assert throttle.gives_up_at == 5.0
    assert throttle.wait(5.0) < math.inf


def test_throttle_late_refusal_while_a_probe_is_in_flight_holds_and_probes_again() -> None:
    throttle = throttle_of()
    late = throttle.start(0.0)
    refuse(throttle, 0.0, 1)
    assert throttle.wait(1.0) == 0
    probe = throttle.start(1.0)
    throttle.throttled(late, 1.1, 2, is_outage=False)
    throttle.succeeded(probe, 1.2)
    assert throttle.wait(1.2) == pytest.approx(1.9)
    assert throttle.wait(3.1) == 0


def test_throttle_held_by_hand_starts_nothing_and_is_patient_until_it_is_released() -> None:
    throttle = throttle_of()
    late = throttle.start(0.0)
    refuse(throttle, 0.0, 1)
    assert throttle.wait(1.0) == 0
    probe = throttle.start(1.0)
    throttle.hold()
    throttle.succeeded(probe, 1.1)
    throttle.throttled(late, 1.2, 2, is_outage=False)
    assert throttle.wait(1_000.0) == math.inf
    assert throttle.gives_up_at == math.inf
    throttle.release(1_000.0)
    assert throttle.wait(1_000.0) == 0


def test_throttle_is_as_good_as_new_when_it_was_not_used_for_long() -> None:
    throttle = throttle_of()
    assert throttle.is_idle(0.0)
    first, second = throttle.start(0.0), throttle.start(0.0)
    throttle.throttled(first, 0.0, 50, is_outage=False)
    throttle.throttled(second, 0.0, 50, is_outage=False)
    assert not throttle.is_idle(640.0)
    assert not throttle.is_idle(300.0, memory=0.5)
    assert throttle.is_idle(350.0, memory=0.5)
    assert throttle.is_idle(650.0)


def test_throttle_that_was_refused_once_and_alone_is_soon_as_good_as_new() -> None:
    throttle = throttle_of()
    refuse(throttle, 0.0, 50)
    assert not throttle.is_idle(55.0)
    assert throttle.wait(55.0) == 0
    throttle.succeeded(throttle.start(55.0), 55.1)
    assert not throttle.is_idle(60.0)
    assert throttle.is_idle(60.0, memory=0.5)
    assert throttle.is_idle(65.0)


def test_throttle_change_ceiling_raises_a_free_key_and_bounds_a_limited_one() -> None:
    throttle = throttle_of()
    throttle.change_ceiling(20)
    assert throttle.limit == 20
    refuse(throttle, 0.0, 1)
    throttle.wait(1.0)
    throttle.succeeded(throttle.start(1.0), 1.1)
    throttle.change_ceiling(1)
    assert throttle.limit == 1


@settings(max_examples=200)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["start", "ok", "429", "503", "error", "time-out", "hold", "release", "reset", "ceiling"]),
            st.floats(0, 30),
            st.sampled_from([None, 0.0, 1.0, 50.0]),
            st.integers(0, 50),
        ),
        max_size=80,
    )
)
def test_throttle_never_stops_for_ever_and_its_numbers_stay_sane(
    steps: list[tuple[str, float, float | None, int]],
) -> None:
    """Whatever happens, an attempt may start in a bounded time once no other is in flight."""
    throttle, now, tickets = throttle_of(ceiling=8), 0.0, list[ThrottleTicket]()
    for what, pause, retry_after, number in steps:
        now += pause
        if what == "start" and throttle.wait(now) == 0:
            tickets.append(throttle.start(now))
        elif what == "hold":
            throttle.hold()
        elif what == "release":
            throttle.release(now)
        elif what == "reset":
            throttle.reset()
        elif what == "ceiling":
            throttle.change_ceiling(number + 1)
        elif tickets and what != "start":
            ticket = tickets.pop(number % len(tickets))
            if what == "ok":
                throttle.succeeded(ticket, now)
            elif what in {"429", "503"}:
                throttle.throttled(ticket, now, retry_after, is_outage=what == "503", has_others=number % 2 == 0)
            else:
                throttle.ended(ticket, is_answer=what == "error")
        assert throttle.in_flight == len(tickets)
        assert throttle.limit >= 1
        assert throttle.quota >= 1
        assert throttle.rate > 0
    if throttle.hold_until == math.inf:
        throttle.release(now)
    for ticket in tickets:
        throttle.ended(ticket, is_answer=False)
    for _ in range(4):
        wait = throttle.wait(now)
        assert wait < math.inf
        now += wait
    assert throttle.wait(now) == 0
    assert throttle.is_idle(now) or throttle.is_limiting
    assert throttle.is_idle(now + 10_000)
