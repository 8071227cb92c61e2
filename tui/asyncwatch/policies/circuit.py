"""A circuit breaker: after too many failures nothing passes for a while, then a few probes say whether it may again.

Pure: the clock is passed in. The rules are those of Hystrix (a sliding window in buckets, a share of failures and a
least number of attempts) and of Polly's advanced circuit breaker (isolation by hand, an outcome that is no failure is
a success). As in Sony's gobreaker, an attempt that began before the circuit changed its state says nothing about the
new one, and several probes may pass when half open.
"""

from __future__ import annotations

import enum
from collections import deque

import msgspec


class CircuitPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """When a circuit opens, and for how long.

    Raises:
        ValueError: a number that is out of its range.

    """

    failure_ratio: float = 0.5
    """The share of failures within the window that opens it, above 0 and up to 1."""
    min_throughput: int = 20
    """Attempts that must have ended within the window before it can open."""
    window: float = 10.0
    """Seconds that count."""
    buckets: int = 10
    """Parts of the window: what is older falls out of it part by part."""
    open_for: float = 5.0
    """Seconds until it is half open."""
    probes: int = 1
    """Attempts that pass when it is half open. If all succeed it closes; one failure opens it again."""

    def __post_init__(self) -> None:
        if not 0 < self.failure_ratio <= 1:
            raise ValueError(f"failure_ratio must be above 0 and at most 1, not {self.failure_ratio}")
        for field in ("min_throughput", "buckets", "probes"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} must be at least 1, not {getattr(self, field)}")
        for field in ("window", "open_for"):
            if not 0 < getattr(self, field) < float("inf"):
                raise ValueError(f"{field} must be above 0 seconds, not {getattr(self, field)}")


class CircuitState(enum.StrEnum):
    """What a circuit lets pass."""

    CLOSED = "closed"
    """Everything."""
    OPEN = "open"
    """Nothing, until its time is over."""
    HALF_OPEN = "half open"
    """A few probes."""
    ISOLATED = "isolated"
    """Nothing, until a person closes it or lets it be probed."""


class Circuit:
    """The circuit of one key. `now` is in seconds of any monotonic clock, the same for all calls."""

    __slots__ = ("_buckets", "_era", "_passed", "_probed", "open_until", "opened_by", "policy", "state")

    def __init__(self, policy: CircuitPolicy) -> None:
        self.policy = policy
        self.open_until = 0.0
        """When it will be half open, if it is open."""
        self.opened_by = 0, 0
        """How many attempts had ended, and how many of them failed, when it opened last."""
        self._era = 0
        self._enter_state(CircuitState.CLOSED)

    def is_passable(self, now: float) -> bool:
        """Return whether an attempt may pass now. An open circuit whose time is over becomes half open."""
        if self.state is CircuitState.OPEN and now >= self.open_until:
            self._enter_state(CircuitState.HALF_OPEN)
        if self.state is CircuitState.HALF_OPEN:
            return self._passed < self.policy.probes
        return self.state is CircuitState.CLOSED

    def enter(self) -> int:
        """Let an attempt pass, as `is_passable` allowed; return its ticket, for `leave`."""
        self._passed += 1
        return self._era

    def leave(self, ticket: int, *, is_failure: bool | None, now: float) -> None:
        """Note how an attempt ended: None if it was stopped and says nothing. The state may change by that."""
        if ticket != self._era:
            return
        if self.state is CircuitState.HALF_OPEN:
            self._note_probe(is_failure=is_failure, now=now)
        elif is_failure is not None:
            self._note(is_failure=is_failure, now=now)

    def isolate(self) -> None:
        """Let nothing pass any more."""
        self._enter_state(CircuitState.ISOLATED)

    def close(self) -> None:
        """Let everything pass, and forget what was."""
        self._enter_state(CircuitState.CLOSED)

    def probe(self) -> None:
        """Let probes pass now. Probes that are under way already go on, and still decide."""
        if self.state is not CircuitState.HALF_OPEN:
            self._enter_state(CircuitState.HALF_OPEN)

    def counts(self, now: float) -> tuple[int, int]:
        """Return how many attempts ended within the window, and how many of them failed."""
        self._forget(now)
        return sum(ended for _, ended, _ in self._buckets), sum(failed for _, _, failed in self._buckets)

    @property
    def free_probes(self) -> int:
        """How many more probes may pass; 0 unless it is half open."""
        return self.policy.probes - self._passed if self.state is CircuitState.HALF_OPEN else 0

    @property
    def probes_under_way(self) -> int:
        """How many probes have passed and not ended; 0 unless it is half open."""
        return self._passed - self._probed if self.state is CircuitState.HALF_OPEN else 0

    def has_room(self, coming: int) -> bool:
        """Return whether one more attempt may pass when `coming` others have."""
        return self.state is CircuitState.CLOSED or self.free_probes > coming

    def _enter_state(self, state: CircuitState) -> None:
        """Begin a new era: attempts of earlier ones count no more."""
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
