"""Circuit breaker: after too many failures no attempt starts for a while, then a few probes decide.

Pure: the clock is passed in. The rules are those of Hystrix (a sliding window in buckets, a failure ratio and a minimum
throughput) and of Polly's advanced circuit breaker (isolation by hand; any outcome but a failure is a success). As in
Sony's gobreaker, an attempt that started before the circuit changed its state does not count in the new state, and
several probes may pass while the circuit is half open.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import Annotated

import msgspec

from asyncwatch.policies.settings import Duration, Number, Setting, Whole, check_settings


class CircuitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a circuit opens, and for how long. Times are in seconds.

    Raises:
        SettingError: a ValueError; a setting is out of its range.

    """

    failure_ratio: Annotated[
        float,
        Setting(
            "Ratio of failed attempts in the window that opens the circuit. Permanent errors and throttled attempts "
            "do not count as failed.",
            Number(0, 1, is_open=True),
        ),
    ] = 0.5
    min_throughput: Annotated[
        int, Setting("Attempts that must have ended in the window before the circuit can open.", Whole(1))
    ] = 20
    window: Annotated[
        float,
        Setting(
            'How far back attempts count. Successes in the window keep the circuit closed: use "1s" for thousands '
            "of requests a second.",
            Duration(is_open=True),
        ),
    ] = 10.0
    buckets: Annotated[
        int, Setting("Parts of the window. Old attempts leave the window one part at a time.", Whole(1, 1000))
    ] = 10
    open_for: Annotated[
        float, Setting("How long an open circuit waits for its first probe.", Duration(is_open=True))
    ] = 5.0
    probes: Annotated[
        int,
        Setting("Probes that may start then. If all succeed the circuit closes; one failure opens it again.", Whole(1)),
    ] = 1

    def __post_init__(self) -> None:
        check_settings(self)


class CircuitState(enum.StrEnum):
    """Which attempts a circuit lets pass."""

    CLOSED = "closed"
    """All."""
    OPEN = "open"
    """None, until `open_for` has passed."""
    HALF_OPEN = "half open"
    """A few probes."""
    ISOLATED = "isolated"
    """None, until a person closes or probes it."""


class Circuit:
    """The circuit of one key. `now` is in seconds of any monotonic clock, the same in all calls."""

    __slots__ = ("_buckets", "_era", "_in_flight", "_passed", "_probed", "open_until", "opened_by", "policy", "state")

    def __init__(self, policy: CircuitPolicy) -> None:
        self.policy = policy
        self.open_until = 0.0
        """When an open circuit becomes half open; inf for an isolated one."""
        self.opened_by = 0, 0
        """Attempts that had ended, and failures among them, when the circuit last opened."""
        self._era = 0
        self._in_flight = 0  # of all eras
        self._enter_state(CircuitState.CLOSED)

    def is_passable(self, now: float) -> bool:
        """Return whether an attempt may pass now. An open circuit becomes half open once `open_for` has passed."""
        if self.state is CircuitState.OPEN and now >= self.open_until:
            self._enter_state(CircuitState.HALF_OPEN)
        if self.state is CircuitState.HALF_OPEN:
            return self._passed < self.policy.probes
        return self.state is CircuitState.CLOSED

    def enter(self) -> int:
        """Count an attempt that `is_passable` allowed; return its ticket for `leave`."""
        self._passed += 1
        self._in_flight += 1
        return self._era

    def leave(self, ticket: int, *, is_failure: bool | None, now: float) -> None:
        """Record how an attempt ended, None for a stopped one, which counts neither way. The state may change."""
        self._in_flight -= 1
        if ticket != self._era:
            return
        if self.state is CircuitState.HALF_OPEN:
            self._note_probe(is_failure=is_failure, now=now)
        elif is_failure is not None:
            self._note(is_failure=is_failure, now=now)

    def isolate(self) -> None:
        """Let no attempt pass."""
        self._enter_state(CircuitState.ISOLATED)
        self.open_until = math.inf

    def close(self) -> None:
        """Let every attempt pass, with an empty window."""
        self._enter_state(CircuitState.CLOSED)

    def probe(self) -> None:
        """Let probes pass now. Probes in flight still count."""
        if self.state is not CircuitState.HALF_OPEN:
            self._enter_state(CircuitState.HALF_OPEN)

    def counts(self, now: float) -> tuple[int, int]:
        """Return the attempts that ended within the window, and the failures among them."""
        self._forget(now)
        return sum(ended for _, ended, _ in self._buckets), sum(failed for _, _, failed in self._buckets)

    def is_idle(self, now: float) -> bool:
        """Return whether a new circuit may take its place: nothing that it knows is younger than the window.

        It has no attempt in flight, and is closed with none in the window, or has waited for a probe for a window. One
        that a person isolated and then probed waits for as long as it takes.
        """
        if self._in_flight:
            return False
        if self.state is CircuitState.HALF_OPEN:
            return now >= self.open_until + self.policy.window
        self._forget(now)
        return self.state is CircuitState.CLOSED and not self._buckets

    @property
    def free_probes(self) -> int:
        """How many more probes may pass; 0 unless the circuit is half open."""
        return self.policy.probes - self._passed if self.state is CircuitState.HALF_OPEN else 0

    @property
    def probes_under_way(self) -> int:
        """How many probes are in flight; 0 unless the circuit is half open."""
        return self._passed - self._probed if self.state is CircuitState.HALF_OPEN else 0

    def _enter_state(self, state: CircuitState) -> None:
        """Start a new era. Attempts of earlier eras no longer count."""
        self.state = state
        self._era += 1
        self._passed = self._probed = 0
        self._buckets: deque[tuple[int, int, int]] = deque()

    def _note_probe(self, *, is_failure: bool | None, now: float) -> None:
        if is_failure is None:
            self._passed -= 1
        elif is_failure:
            self._open(now, self._probed + 1, 1)
        else:
            self._probed += 1
            if self._probed >= self.policy.probes:
                self.close()

    def _note(self, *, is_failure: bool, now: float) -> None:
        number = self._bucket(now)
        ended = failed = 0
        if self._buckets and self._buckets[-1][0] == number:
            _, ended, failed = self._buckets.pop()
        self._buckets.append((number, ended + 1, failed + is_failure))
        if is_failure:
            ended, failed = self.counts(now)
            if ended >= self.policy.min_throughput and failed >= self.policy.failure_ratio * ended:
                self._open(now, ended, failed)

    def _open(self, now: float, ended: int, failed: int) -> None:
        self._enter_state(CircuitState.OPEN)
        self.opened_by = ended, failed
        self.open_until = now + self.policy.open_for

    def _bucket(self, now: float) -> int:
        return int(now / self.policy.window * self.policy.buckets)

    def _forget(self, now: float) -> None:
        oldest = self._bucket(now) - self.policy.buckets + 1
        while self._buckets and self._buckets[0][0] < oldest:
            self._buckets.popleft()
