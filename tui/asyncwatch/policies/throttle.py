"""Throttle: how attempts for one key slow down when its other side asks for it, and speed up again. Pure.

The clock and the source of randomness are passed in. After a refusal nothing starts until the other side wants to be
asked again (`Retry-After`, or a backoff of our own). Then a single probe goes alone; its success opens a ramp that
doubles the attempts in flight each round trip, as slow start in TCP (RFC 5681) does. Two limits are learned apart:

- attempts in flight: lowered to three quarters by a refusal, raised by one after a round of successes (additive
  increase, multiplicative decrease), for servers that limit concurrency;
- starts in time: at most `quota` starts in any `period`, from the successes of a whole cycle between two probes, the
  hold included. After clean periods a quarter more is tried, by few attempts at first, so that a wrong guess costs
  few refusals; then the rate falls back to the one that worked.

Some servers refuse a share of all requests, however few there are. Lowering the rate for these would never end. So
after some congestions with little between them all limits are lifted for a trial. If the refused share stays what it
was, it is tolerated from then on, and only a rise of it counts as a congestion. Otherwise the limits come back.

Before the first refusal nothing is limited, so that a server that never throttles is never slowed down.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable
from typing import Annotated, Final, Literal, get_args

import msgspec

from asyncwatch.policies.settings import Choice, Duration, Setting, check_settings

_FIRST_BACKOFF: Final = 0.5
"""Seconds of the first hold without a `Retry-After`, while nothing is known of the server."""
_KNOWN_BACKOFF: Final = 0.1
"""Seconds of the first hold without a `Retry-After`, when a limit has been learned."""
_LONGEST_BACKOFF: Final = 25.0
"""Seconds, before a jitter of a fifth: a key that is given up has refused its last probe 30 s before, at most."""
_HONOURED: Final = 4
"""Refused probes in a row after which a `Retry-After` is extended by a backoff of our own."""
_SILENT: Final = 4
"""Refusals without a `Retry-After` after which the limit is taken for one of time."""
_MARGIN: Final = 1.02
"""The learned rate stays this much below what was measured."""
_STEP: Final = 1.25
"""Factor of a try at a higher rate."""
_SHORT: Final = 0.05
"""Seconds of a period in which attempts are spread evenly enough."""
_DOUBTED: Final = 0.8
"""Share of a rate that has worked, below which one refusal without such a try does not lower it."""
_LONGEST_CONFIDENCE: Final = 60.0
"""Seconds of clean periods after which a higher rate is tried, at most."""
_LOOK_BACK: Final = 30.0
"""Seconds of each half of the time before a refusal that is looked back upon."""
_GRACE: Final = 5.0
"""Seconds for which a `Retry-After` beyond the patience may prove too short: it is often rounded down, or a date."""
_ACCEPTED_AFTER: Final = 10.0
"""Seconds after which a probe that still runs counts as accepted: refusals come at once."""
_SOON: Final = 0.001
"""Seconds: the event loop's timers are no finer."""
_ALL: Final = 1 << 30
_LONGEST_ASKED: Final = 1e9
"""Seconds: a longer `Retry-After` is as good as this."""
_KEPT_FOR: Final = 600.0
"""Seconds for which the learned limits of a key without attempts are worth knowing."""
_HELD_FOR: Final = 10.0
"""Seconds after the hold of a key without attempts for which a slow start is worth it."""
_LONGEST_PERIOD: Final = 300.0
"""Seconds: a quota of a longer period is not kept to if the other side says when the next one begins. A refusal then
costs less than attempts that are not made because too low a rate was learned."""
_FORGET: Final = 4
"""Periods in a row that do not use the quota up, at full concurrency, after which it is forgotten."""


_SUSPICIOUS: Final = 5
"""Congestions after which the limits may be lifted for a trial; twice as many after each trial that failed."""
_LEAST_SHARE: Final = 0.03
"""Share of refusals that a learned limit is not expected to leave."""
_FALLEN: Final = 1.3
"""A rate that is lower by this factor than the highest since the last trial is suspicious, with that share. So is any
rate after twice as many congestions.
"""
_FALLEN_FAR: Final = 3.0
"""The same, whatever the share."""
_COLLAPSED: Final = 10.0
"""A rate that is lower by this factor than it has ever been has not lowered the share of refusals: that is tolerated
even if a trial shows that there is a limit as well."""
_MOST_TOLERATED: Final = 0.8
"""Highest share of refusals that is tolerated."""
_ODDS: Final = 4.0
"""Ratio of the odds of a refusal in a congestion to those of a tolerated one."""
_ALARM: Final = 6.0
"""Logarithm of the likelihood ratio of the two at which a congestion is assumed (CUSUM; Page, 1954)."""
_TRIAL_ALARM: Final = 4.5
"""The same during a trial, where a wrong guess costs refusals and a wrong alarm only time."""
_CONFIRMED: Final = 20
"""Expected refusals after which a trial has shown that they do not depend on the rate."""
_ENOUGH: Final = 20
"""Answers that give a better estimate of the tolerated share than the cycles before the trial."""
_CLEAN: Final = 10
"""Expected refusals that have to be missing for the end of tolerance."""
_TOLERATED: Final = 5_000
"""Refusals that are tolerated until the next look, whether lower limits help."""
_TRIED: Final = 4
"""Attempts in flight at the start of a trial, at least."""
_FULL: Final = 0.8
"""Share of the ceiling in flight at which an answer counts for a trial."""


ThrottleMode = Literal["adaptive", "none"]
ThrottleSetting = Annotated[
    ThrottleMode,
    Setting(
        "With adaptive, a throttled attempt (429, or 503 with Retry-After) holds back all of its key, does not count "
        "for max_attempts, and what the other side accepts is learned. With none it is retried like any other error.",
        Choice(get_args(ThrottleMode)),
        heading="Quotas: what follows when the other side asks for fewer requests. The key is the host, for http; see "
        "the key of a group.",
    ),
]
Patience = Annotated[
    float,
    Setting(
        "How long workers wait for a key that refuses every attempt, from its last answer that was not throttled, and "
        "retries for a retry budget that pays for none. Then they are exhausted.",
        Duration(is_open=True),
    ),
]
MaxRetryAfter = Annotated[
    float,
    Setting(
        "Longest Retry-After that a key is waited for, even beyond throttle_patience. When a longer one arrives, the "
        "workers of its key are exhausted at once.",
        Duration(),
    ),
]


class ThrottlePolicy(msgspec.Struct, frozen=True, kw_only=True):
    """How long a key that asks for fewer attempts is waited for. Times are in seconds.

    Raises:
        SettingError: a ValueError; a setting is out of its range.

    """

    patience: Patience = 600.0
    """From its last answer that was not throttled."""
    max_retry_after: MaxRetryAfter = 7200.0
    """Longest `Retry-After` that is waited for, even beyond the patience."""

    def __post_init__(self) -> None:
        check_settings(self)


DEFAULT_THROTTLE = ThrottlePolicy()
"""The policy of a run that does not say otherwise."""


class ThrottleTicket(msgspec.Struct, frozen=True, gc=False):
    """What a `Throttle` needs to know of an attempt when it has ended."""

    epoch: int
    """Refusals that had been acted upon when it started."""
    started_at: float
    in_flight: int
    """Attempts in flight, this one included, when it started."""
    is_early: bool
    """Whether it tried a higher rate: the rate that is known to work would not have allowed it yet."""


class ThrottleHistory:
    """The successes of a key that has refused nothing yet, those of the last half minute or whole minute apart."""

    __slots__ = ("older", "recent", "since", "successes", "turns_at")

    def __init__(self, now: float, successes: int = 0) -> None:
        self.since = now
        """When the first attempt started."""
        self.successes = successes
        """To be raised for each success, before `turn`."""
        self.older = self.recent = now, successes
        self.turns_at = now + _LOOK_BACK
        """When `turn` has to be called with the start of an attempt that has succeeded."""

    def skip(self, seconds: float) -> None:
        """Leave out so much time: no attempt could start."""
        self.since += seconds
        self.turns_at += seconds
        is_first = self.older is self.recent
        self.older = self.older[0] + seconds, self.older[1]
        self.recent = self.older if is_first else (self.recent[0] + seconds, self.recent[1])

    def turn(self, now: float) -> None:
        """Begin another half minute."""
        before = self.successes - 1
        self.older = (now, before) if now >= self.recent[0] + 2 * _LOOK_BACK else self.recent
        self.recent = now, before
        if self.older[0] == now:
            self.older = self.recent
        self.turns_at = now + _LOOK_BACK


class Throttle:
    """The throttle of one key. `now` is in seconds of any monotonic clock, the same in all calls.

    Args:
        policy: how long the key is waited for.
        ceiling: attempts in flight at which the caller starts no other one; only a lower limit is kept here.
        spread: draws from [0, 1), so that backoffs of many keys and programs do not end together.

    """

    __slots__ = (
        "_asked_until",
        "_base",
        "_bound",
        "_ceiling",
        "_clean",
        "_confidence",
        "_cycle",
        "_early",
        "_early_limit",
        "_epoch",
        "_extended_until",
        "_fails",
        "_flight_confidence",
        "_flight_level",
        "_has_asked",
        "_has_probe",
        "_has_proved_base",
        "_is_beyond",
        "_is_extended",
        "_is_held",
        "_is_timed",
        "_log",
        "_older",
        "_period_at",
        "_policy",
        "_probed_at",
        "_proved_period",
        "_raised",
        "_recent",
        "_silent",
        "_spread",
        "_started_at",
        "_step",
        "_tolerance",
        "_top",
        "_unused",
        "gives_up_at",
        "hold_until",
        "in_flight",
        "is_doubted",
        "is_probing",
        "limit",
        "period",
        "quota",
        "refused_since",
    )

    def __init__(self, policy: ThrottlePolicy, ceiling: int, spread: Callable[[], float]) -> None:
        self._policy = policy
        self._ceiling = ceiling
        self._spread = spread
        self.in_flight = 0
        """Attempts in flight."""
        self._epoch = 0
        self._cycle: _Count | None
        self._step: _Count | None
        self.reset()

    def begin(self, history: ThrottleHistory, in_flight: int) -> int:
        """Take over a key at its first refusal, with its attempts in flight; return the epoch of their tickets.

        Until then the throttle is not asked: a key that never refuses costs nothing but its history.
        """
        self.in_flight = in_flight
        self._cycle = _Count(history.since, history.successes)
        (older_at, older), (recent_at, recent) = history.older, history.recent
        self._older = self._recent = _Count(recent_at, history.successes - recent)
        if history.older is not history.recent:
            self._older = _Count(older_at, recent - older)
        return self._epoch

    def reset(self) -> None:
        """Forget everything that was learned. Attempts in flight stay counted, and teach nothing."""
        self._epoch += 1
        self.limit = self._ceiling
        """Attempts that may be in flight."""
        self._top = self._ceiling  # the ramp after a hold ends here
        self._raised = 0  # successes towards one more attempt in flight
        self.quota: float = math.inf
        """Starts in any `period`; infinite while no rate is known."""
        self.period = 0.0
        """Seconds."""
        self._log: deque[float] = deque()  # times of the last `quota` starts
        self.hold_until = -math.inf
        """When the next attempt may start at the earliest."""
        self.gives_up_at = math.inf
        """When nothing is worth waiting for any longer; infinite unless the last answer was a refusal."""
        self.refused_since = 0.0
        """When the first refusal since the last other answer came."""
        self.is_probing = False
        """Whether a single attempt is to find out if the other side answers again."""
        self._is_held = self._has_probe = self._is_timed = False
        self.is_doubted = False
        """Whether the last probe may have been refused for a reason of its own: another worker is to try."""
        self._is_extended = False  # whether a `Retry-After` beyond the patience is waited for
        self._is_beyond = False  # whether the key is held by a `Retry-After` that is too long to wait for
        self._started_at = -math.inf  # the last start
        self._probed_at = self._extended_until = -math.inf
        self._fails = self._silent = 0
        self._has_asked = False  # whether the last refusal had a `Retry-After`
        self._cycle = None  # from one successful probe to the next
        self._older = self._recent = _Count(-math.inf)  # the last 30 to 60 s before a refusal
        self._step = None  # since a higher rate was tried
        self._proved_period = 0.0
        self._early, self._early_limit = 0, 1.0  # attempts in flight that try a higher rate
        self._base = 0.0  # the rate learned last
        self._has_proved_base = False
        self._confidence = self._clean = self._unused = 0
        self._bound, self._period_at = False, 0.0
        self._flight_level, self._flight_confidence = 1, 0
        self._tolerance = _Tolerance()
        self._asked_until = -math.inf  # what current refusals asked for

    def is_idle(self, now: float, memory: float = 1.0) -> bool:
        """Return whether a new throttle would do the same, or knows nothing that is still worth knowing.

        `memory` is the share of the usual time for which limits are worth knowing, 0 for not at all.
        """
        if self.in_flight:
            return False
        unused = now - max(self.hold_until, self._started_at)
        if self.quota < math.inf or self._top < self._ceiling or self._tolerance.share:
            return unused >= memory * max(_KEPT_FOR, 2 * self.period)
        return not self.is_limiting or unused >= memory * _HELD_FOR

    @property
    def is_limiting(self) -> bool:
        """Return whether anything is held back, or has been learned."""
        return self._is_held or self.is_probing or self.limit < self._ceiling or self.quota < math.inf

    @property
    def rate(self) -> float:
        """The learned rate in starts per second; infinite while none is known."""
        return self.quota / self.period if self.quota < math.inf else math.inf

    @property
    def tolerated(self) -> float:
        """The share of attempts that the other side refuses at any rate; 0 while none is known."""
        return self._tolerance.share

    def change_ceiling(self, ceiling: int) -> None:
        """Set how many attempts may be in flight at most."""
        is_free = self._top == self._ceiling
        self._top = ceiling if is_free else min(self._top, ceiling)
        self.limit = self._top if self.limit == self._ceiling else min(self.limit, self._top)
        self._ceiling = ceiling

    def wait(self, now: float) -> float:
        """Return the seconds until an attempt may start: 0 for now, infinity for the end of another attempt."""
        if now < self.hold_until:
            return self.hold_until - now
        if self._is_held:
            self._is_held, self.is_probing, self.limit = False, True, 1
            self._is_beyond = False
        if self.is_probing:  # it does not wait for attempts of before the refusal
            return max(_SOON, self._probed_at + _ACCEPTED_AFTER - now) if self._has_probe else 0.0
        if self.in_flight >= self.limit < self._ceiling:
            return math.inf
        if len(self._log) >= self.quota:
            free_at = self._log[0] + self.period
            if now < free_at:
                self._bound = True
                return free_at - now
            if self._is_early(now) and self._early >= self._early_limit:
                return self._log[0] + self._proved_period - now
        return 0.0

    def accept_probe(self, now: float) -> bool:
        """Count a probe that has run for some seconds as accepted; return whether there was one.

        A service runs for ever, and a long job for an hour: it would have been refused at once. Successes, which raise
        the number of attempts in flight, may be as far away, so that number is not limited then.
        """
        if not self._has_probe or now < self._probed_at + _ACCEPTED_AFTER:
            return False
        self.is_probing = self._has_probe = self.is_doubted = False
        self._fails = 0
        self.limit = self._top = self._ceiling
        return True

    def room(self, now: float) -> int:
        """Return how many attempts may start now, at least 1 if `wait` returns 0."""
        if self.wait(now):
            return 0
        if self.is_probing:
            return 1
        room = self.limit - self.in_flight if self.limit < self._ceiling else _ALL
        if self.quota == math.inf:
            return room
        allowed = int(self.quota) - len(self._log)
        for started_at in itertools.islice(self._log, room):
            if allowed >= room or started_at + self.period > now:
                break
            allowed += 1
        if self._is_early(now):
            room = min(room, math.ceil(self._early_limit) - self._early)
        return max(1, min(room, allowed))

    def start(self, now: float) -> ThrottleTicket:
        """Count an attempt that `wait` allowed; return its ticket for `succeeded`, `throttled` or `ended`."""
        self.in_flight += 1
        self._started_at = now
        if self._cycle is None:
            self._cycle = _Count(now)
        if self.is_probing:
            self._has_probe, self._probed_at = True, now
        if now - self._recent.since >= _LOOK_BACK and not self.is_probing:
            self._look_back(now)
        is_early = self._step is not None and self._is_early(now)
        self._early += is_early
        if self.quota < math.inf:
            self._log.append(now)
            while len(self._log) > self.quota:
                self._log.popleft()
        return ThrottleTicket(self._epoch, now, self.in_flight, is_early)

    def ended(self, ticket: ThrottleTicket, *, is_answer: bool) -> None:
        """Note an attempt that neither succeeded nor was refused. A probe that ends so is sent again.

        `is_answer` tells an answer of the other side, such as an error 500, from none, such as a time-out.
        """
        self.in_flight -= 1
        if ticket.epoch == self._epoch:
            self._early -= ticket.is_early
            self._has_probe = False
        if is_answer:
            self._regain_patience()

    def throttled(
        self,
        ticket: ThrottleTicket,
        now: float,
        retry_after: float | None,
        *,
        is_outage: bool,
        has_others: bool = False,
    ) -> bool:
        """Note a refusal; return whether it is tolerated: it says something of the attempt, and nothing of the key.

        `retry_after` is in seconds, 0 counts as none. An outage (503) teaches no rate. `has_others` tells that another
        worker can make the next attempt: after a refused probe it is soon, since the first may be refused for a reason
        of its own.
        """
        self.in_flight -= 1
        asked = min(retry_after or 0.0, _LONGEST_ASKED)
        is_current = ticket.epoch == self._epoch
        if self._tolerates(ticket, now, asked, is_outage=is_outage):
            return True
        if is_current:
            self._note_congestion(ticket, now, asked, is_outage=is_outage, has_others=has_others)
        else:
            self.hold_until = max(self.hold_until, now + asked)
        self._lose_patience(now, asked, is_current=is_current)
        self._is_held, self.is_probing = True, False
        self._has_asked = asked > 0
        return False

    def succeeded(self, ticket: ThrottleTicket, now: float) -> None:
        """Note a success, which may raise a limit."""
        self.in_flight -= 1
        self._regain_patience()
        is_current = ticket.epoch == self._epoch
        if is_current:
            self._has_probe = False
        was_probe = is_current and self.is_probing
        if was_probe:
            is_exact = self._has_asked and self._fails < _HONOURED
            self.is_probing, self._fails = False, 0
            if self.is_doubted:
                self.is_doubted = False
                self._tolerance.has_doubts = True
                self._forget_cycle()
            self._learn(ticket.started_at)
            if is_exact and self.period > _LONGEST_PERIOD:
                self._forget_quota()
        if not is_current or was_probe:
            self._tolerance.after_accepted += 1
        if is_current:
            self._tolerance.accepted(is_full=ticket.in_flight >= _FULL * self._ceiling)
        self._recent.successes += 1
        if self._cycle is not None:
            self._cycle.successes += 1
        if self._step is not None:
            self._step.successes += 1
        if not is_current:
            return
        if ticket.is_early:
            self._early -= 1
            self._early_limit += 1 / self._early_limit
        if self.limit < self._top:
            self.limit += 1
        elif self._top < self._ceiling and ticket.in_flight >= self.limit:
            self._raise_in_flight()
        if self.quota < math.inf and now >= self._period_at + self.period:
            self._end_period(now)

    def hold(self) -> None:
        """Let nothing start until `release`, however long that takes. Attempts in flight teach nothing."""
        self._epoch += 1
        self._early, self._early_limit = 0, 1.0
        self._forget_cycle()
        self.hold_until, self._is_held, self.is_probing, self._has_probe = math.inf, True, False, False
        self.renew_patience()

    def release(self, now: float) -> None:
        """Let a probe start at once, whatever the other side asked for, and be patient as at first."""
        self.hold_until = now
        self.renew_patience()

    def renew_patience(self) -> None:
        """Count the patience from the next refusal on."""
        self.gives_up_at, self._is_extended, self._is_beyond = math.inf, False, False

    def skip(self, seconds: float) -> None:
        """Leave out so much time: no attempt could start. It counts neither for the patience nor for any rate."""
        self.gives_up_at += seconds
        self.refused_since += seconds
        self._period_at += seconds
        counts = self._cycle, self._step, self._older, self._recent
        for count in {count for count in counts if count is not None}:  # two may be the same
            count.since += seconds

    def _is_early(self, now: float) -> bool:
        """Return whether a start tries a higher rate than the one that is known to work."""
        is_trying = self._step is not None and len(self._log) >= self.quota
        return is_trying and now < self._log[0] + self._proved_period / _MARGIN

    def _look_back(self, now: float) -> None:
        """Begin another half of the time that is looked back upon. A long pause empties both halves."""
        self._older = _Count(now) if now - self._recent.since >= 2 * _LOOK_BACK else self._recent
        self._recent = _Count(now)

    def _regain_patience(self) -> None:
        if not self._is_beyond:  # the end of an attempt of before the refusal does not shorten its `Retry-After`
            self.renew_patience()

    def _lose_patience(self, now: float, asked: float, *, is_current: bool) -> None:
        """Decide how long the key is worth waiting for. One `Retry-After` may go beyond that.

        It is probed once, and again for a moment.
        """
        policy = self._policy
        if self.hold_until == math.inf:
            return  # a person holds the key
        if self._is_extended and is_current and now + asked > self._extended_until:
            self.gives_up_at = now
        elif self.gives_up_at == math.inf:
            self.gives_up_at = now + policy.patience
            self.refused_since = now
        if asked > policy.max_retry_after:
            self.gives_up_at, self._is_beyond = now, True
        elif now < self.gives_up_at < now + asked:
            # A probe that is not answered at all is sent again, but not for ever.
            self.gives_up_at, self._is_extended = now + asked + policy.patience, True
            self._extended_until = now + asked + _GRACE

    def _tolerates(self, ticket: ThrottleTicket, now: float, asked: float, *, is_outage: bool) -> bool:
        """Count a refusal; return whether as many are to be expected at any rate."""
        tolerance = self._tolerance
        if ticket.epoch != self._epoch:
            tolerance.after_refused += 1
            return tolerance.share > 0 and not (self._is_held or self.is_probing)
        self._asked_until = max(self._asked_until, now + asked)
        if self.is_probing:
            tolerance.probe_refused()
            return False
        if not tolerance.refused(is_full=ticket.in_flight >= _FULL * self._ceiling):
            if tolerance.before is not None:
                self._end_trial(tolerance.before)
            if not tolerance.note_congestion(None if is_outage else self.rate):
                return False
            self._begin_trial()
        self._early -= ticket.is_early
        return True

    def _begin_trial(self) -> None:
        """Lift all limits, to see whether more attempts are refused."""
        self._tolerance.begin_trial((self.quota, self.period, self._top))
        self._forget_quota()
        self._asked_until = -math.inf
        self.limit, self._top, self._raised = min(max(2 * self.limit, _TRIED), self._ceiling), self._ceiling, 0

    def _end_trial(self, before: tuple[float, float, int]) -> None:
        """Put back the limits after a trial in which more attempts were refused."""
        self._tolerance.end_trial()
        self.quota, self.period, top = before
        self._top = min(top, self._ceiling)
        self.limit = min(self.limit, self._top)
        self.hold_until = max(self.hold_until, self._asked_until)
        self._forget_cycle()

    def _note_congestion(
        self, ticket: ThrottleTicket, now: float, asked: float, *, is_outage: bool, has_others: bool
    ) -> None:
        self._epoch += 1
        self._has_probe = False
        self._early, self._early_limit = 0, 1.0
        self._clean = self._raised = 0
        if self.is_probing:
            self._fails += 1
            self._is_timed |= not is_outage  # refused alone: not a limit of concurrency
        elif self._tolerance.is_first_alarm:
            self._fails = 0
            self._forget_cycle()
        elif ticket.in_flight == 1 and not self.in_flight:
            self._fails = 0
            self._is_timed |= not is_outage
        else:
            self._fails = 0
            self._lower_in_flight(ticket.in_flight, is_outage=is_outage)
            if not is_outage:
                self._silent += not asked
                self._is_timed |= asked > 0 or self._silent >= _SILENT
        if is_outage:
            self._forget_cycle()
        own = 0.0
        if not asked or self._fails >= _HONOURED:
            is_known = self.quota < math.inf or self._flight_confidence > 0
            refused = self._fails - (_HONOURED - 1 if asked else 0)
            growth = 1.4 if is_outage else 2.0  # to be back soon after an outage
            backoff = (_KNOWN_BACKOFF if is_known else _FIRST_BACKOFF) * growth ** min(refused, 20)
            own = min(_LONGEST_BACKOFF, backoff) * (0.8 + 0.4 * self._spread())
        if self.is_doubted:
            asked = max(asked, self._asked_until - now)
        self.is_doubted = asked > 0 and self._fails == 1 and has_others and not (is_outage or self.is_doubted)
        self.hold_until = max(self.hold_until, now + (_KNOWN_BACKOFF if self.is_doubted else max(asked, own)))

    def _forget_cycle(self) -> None:
        """Begin another cycle with the next start: a wait that is not due to a quota would make its rate too low."""
        self._cycle = None
        self._older = self._recent = _Count(-math.inf)

    def _lower_in_flight(self, in_flight: int, *, is_outage: bool) -> None:
        """Lower the attempts in flight, unless the learned rate kept them well below their limit."""
        if self.quota < math.inf and in_flight < 0.8 * self.limit:
            return
        is_same = not is_outage and 0.7 <= in_flight / self._flight_level <= 1.4
        self._flight_confidence = min(self._flight_confidence + 1, 4) if is_same else 0
        self._flight_level = in_flight
        self._top = max(1, int(0.75 * min(self._top, in_flight)))

    def _raise_in_flight(self) -> None:
        """Count a success at the full limit; enough of them raise it by one."""
        self._raised += 1
        if self._raised >= self.limit * 2**self._flight_confidence:
            self._raised = 0
            self._top = self.limit = self.limit + 1
            if self.limit > 1.4 * self._flight_level:
                self._flight_confidence = 0

    def _learn(self, probe_at: float) -> None:
        """Learn the rate of the cycle that ends with the start of a successful probe."""
        cycle = self._cycle
        if self._is_timed and cycle is not None:
            if not cycle.successes:
                return
            self._learn_rate(cycle, probe_at)
        self._cycle = _Count(probe_at)
        self._older = self._recent = _Count(probe_at)

    def _learn_rate(self, cycle: _Count, probe_at: float) -> None:
        seen, rate = cycle.successes, cycle.rate(probe_at)
        # A key that is seldom used has a low rate over its whole cycle, which says nothing about its quota.
        recent = _Count(self._older.since, self._older.successes + self._recent.successes)
        if self._older is not self._recent and recent.rate(probe_at) > rate:
            seen, rate = recent.successes, recent.rate(probe_at)
        rate /= _MARGIN
        if self._step is not None and self._step.successes >= self.quota:
            rate = max(rate, 0.9 * self._step.rate(probe_at))
        if self._has_proved_base:  # a little too high for long, if it was refused by itself
            rate = max(rate, self._base if self._step is not None else _DOUBTED * self._base)
        if not self._base:
            self._confidence = int(self._has_asked)
        elif 0.75 <= rate / self._base <= 1.33:
            self._confidence = min(6, self._confidence + 1)
        else:
            self._confidence = max(0, self._confidence - 2)
        self.quota = max(1, min(self.quota, seen))
        if self._confidence > 1 and self._step is None and not self._has_asked:
            # The rate is right, and still refused: bursts can meet in one window of the server.
            self.quota = max(1, min(self.quota, max(math.ceil(self.quota / 2), math.ceil(rate * _SHORT))))
        self.period = self.quota / rate
        self._base, self._has_proved_base, self._step = rate, False, None
        self._log = deque([probe_at])
        self._period_at, self._bound, self._clean = probe_at, False, 0

    def _forget_quota(self) -> None:
        self.quota, self.period, self._step = math.inf, 0.0, None
        self._log.clear()

    def _end_period(self, now: float) -> None:
        """Count a period without a refusal; try a higher rate, or forget the rate, after enough of them."""
        if self._bound:
            self._unused = 0
            self._clean += 1
            self._has_proved_base |= self._step is None
            periods = 3 * 2 ** (self._confidence - 1) if self._confidence else 1
            if self._clean * self.period >= min(_LONGEST_CONFIDENCE, self.period * periods):
                self._proved_period = self.period
                self.period /= _STEP
                self._step, self._early_limit = _Count(now), 1.0
        elif self.limit == self._ceiling:
            self._unused += 1
            if self._unused >= _FORGET:
                self._forget_quota()
        self._period_at, self._bound = now, False


class _Tolerance:
    """Finds out whether refusals depend on the rate, and tells those that do not from a congestion."""

    __slots__ = (
        "_accepted",
        "_alarm_in",
        "_clean",
        "_cycles",
        "_expires_in",
        "_has_collapsed",
        "_has_estimated",
        "_highest_rate",
        "_left",
        "_needed",
        "_peak",
        "_refused",
        "_score",
        "_seen",
        "_seen_refused",
        "_share_before",
        "_since_trial",
        "after_accepted",
        "after_refused",
        "before",
        "has_doubts",
        "is_first_alarm",
        "share",
    )

    def __init__(self) -> None:
        self.share = 0.0
        """Share of attempts that is refused at any rate; 0 while none is tolerated."""
        self.before: tuple[float, float, int] | None = None
        """The limits before the trial that goes on."""
        self.is_first_alarm = False
        """Whether the last congestion was the first for long: it may have been bad luck."""
        self.has_doubts = False
        """Whether a refused probe was followed at once by an accepted one."""
        self.after_refused = self.after_accepted = 0
        """Answers since the last congestion, to attempts from before it and to probes."""
        self._accepted = self._refused = 0  # the other answers since then
        self._cycles: deque[tuple[int, int, int, int]] = deque(maxlen=4 * _SUSPICIOUS)  # these four
        self._needed, self._since_trial = _SUSPICIOUS, 0  # congestions
        self._highest_rate = 0.0  # learned since then
        self._share_before = 0.0
        self._peak, self._has_collapsed = 0.0, False  # the highest rate ever; whether the last one is far from it
        self._left = 0  # answers until the trial is over
        self._score = 0.0
        self._seen = self._seen_refused = 0  # answers since the last alarm
        self._has_estimated = False
        self._alarm_in = 0  # answers until an alarm is the first for long
        self._clean = 0  # successes in a row
        self._expires_in = 0  # refusals

    def accepted(self, *, is_full: bool) -> None:
        """Count a success; `is_full` tells that nothing but the ceiling limited the attempts in flight."""
        self._accepted += 1
        if not self.share:
            return
        self._score = max(0.0, self._score + self._evidence()[1])
        self._clean += 1
        self._count_answer(is_full=is_full)
        if self._clean * self.share > _CLEAN:
            self._forget()

    def refused(self, *, is_full: bool) -> bool:
        """Count a refusal; return whether it is tolerated. The caller counts it as a congestion if not."""
        if not self.share:
            return False
        self._clean = 0
        self._seen_refused += 1
        self._score += self._evidence()[0]
        if self._score >= (_ALARM if self.before is None else _TRIAL_ALARM) and not self._estimate():
            self.is_first_alarm = self._alarm_in <= 0
            self._alarm_in = math.ceil(_CONFIRMED / self.share)
            return False
        self._refused += 1
        self._expires_in -= 1
        self._count_answer(is_full=is_full)
        if not self._expires_in:
            self._forget()
        return True

    def _estimate(self) -> bool:
        """Estimate the share anew at an alarm; return whether the alarm was due to a bad estimate."""
        seen, share = self._seen, self._seen_refused / (self._seen + 1)
        self._score, self._seen, self._seen_refused = 0.0, 0, 0
        is_better = seen >= _ENOUGH and share < _MOST_TOLERATED and not self._has_estimated
        if is_better:
            self.share, self._has_estimated = share, True
        return is_better

    def _count_answer(self, *, is_full: bool) -> None:
        self._seen += 1
        self._alarm_in -= 1
        self._left -= is_full
        if self.before is not None and self._left <= 0:
            self.before, self._needed = None, _SUSPICIOUS // 2

    def _forget(self) -> None:
        """Tolerate no refusal any more."""
        self.share, self.before, self.is_first_alarm = 0.0, None, False
        self._cycles.clear()
        self._needed, self._since_trial = _SUSPICIOUS, 0

    def _evidence(self) -> tuple[float, float]:
        """Return the logarithms of how much likelier a refusal and a success are in a congestion."""
        high = _congested(self.share)
        return math.log(high / self.share), math.log((1 - high) / (1 - self.share))

    def probe_refused(self) -> None:
        """Count a refused probe."""
        self._refused += 1
        self.after_refused += 1

    def note_congestion(self, rate: float | None) -> bool:
        """Count a congestion; return whether the limits should be lifted for a trial.

        `rate` is the learned one, infinite for none; None for an outage, which teaches none.
        """
        self._cycles.append((self._accepted, self._refused + 1, self.after_accepted, self.after_refused))
        self._accepted = self._refused = self.after_accepted = self.after_refused = 0
        if rate == math.inf:
            if not self.has_doubts:
                self._cycles.clear()
                return False
            rate = None
        self._since_trial += 1
        self._highest_rate = max(self._highest_rate, rate or 0.0)
        self._peak = max(self._peak, self._highest_rate)
        if self._since_trial < self._needed:
            return False
        accepted, refused, after_accepted, after_refused = self._sums()
        share = refused / (accepted + refused)
        if share > _MOST_TOLERATED:
            return False
        if rate is not None:
            fallen = self._highest_rate / rate
            self._has_collapsed = self._peak >= _COLLAPSED * rate
            is_odd = share >= _LEAST_SHARE and (fallen >= _FALLEN or self._since_trial >= 2 * self._needed)
            if not is_odd and fallen < _FALLEN_FAR:
                return False
        # After a congestion of a real limit, nearly all are refused for some time.
        return after_refused < 2 or after_refused <= _congested(share) * (after_refused + after_accepted)

    def _sums(self) -> list[int]:
        latest = itertools.islice(reversed(self._cycles), self._needed)
        return [sum(numbers) for numbers in zip(*latest, strict=True)]

    def begin_trial(self, before: tuple[float, float, int]) -> None:
        """Tolerate the share of refusals of the last cycles; `before` are the limits."""
        accepted, refused, *_ = self._sums()
        self._share_before, self.share = self.share, refused / (accepted + refused)
        self.before = before
        self._left, self._expires_in = math.ceil(_CONFIRMED / self.share), _TOLERATED
        self._score, self._seen, self._seen_refused, self._has_estimated = 0.0, 0, 0, False
        self._clean = self._alarm_in = self._since_trial = 0
        self._highest_rate = 0.0

    def end_trial(self) -> None:
        """Tolerate what was tolerated before, unless lower limits had no effect, and be slower to try again."""
        if not self._has_collapsed:
            self.share = self._share_before
        self.before, self.is_first_alarm = None, False
        self._needed *= 2


def _congested(share: float) -> float:
    """Return the share that is taken for a congestion, where `share` is refused at any rate."""
    odds = _ODDS * share / (1 - share)
    return odds / (1 + odds)


class _Count:
    """Successes since a moment."""

    __slots__ = ("since", "successes")

    def __init__(self, since: float, successes: int = 0) -> None:
        self.since = since
        self.successes = successes

    def rate(self, now: float) -> float:
        """Return the successes per second."""
        return self.successes / max(now - self.since, 1e-6)
