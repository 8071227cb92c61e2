"""Admission: which ready workers may start an attempt now.

The worker at the head of the ready queue needs admission before it gets a slot. Each key has a gate: its circuit, its
rate limit, its throttle and its share of the slots. If the gate refuses the worker, the worker is parked there, so that
it holds up no other key; it is released when it may go on, and then asks again. A retry that the budget cannot pay for
is parked at a gate of the budget in the same way. The rate limit of the whole run holds up the ready queue as a whole.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

import msgspec

from asyncwatch.engine.capture import log_safely
from asyncwatch.engine.describe import function_of, target_name
from asyncwatch.engine.event_loop import pass_on_interrupt
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.worker import Worker
from asyncwatch.policies.bad_luck import Luck
from asyncwatch.policies.budget import Tokens
from asyncwatch.policies.circuit import Circuit, CircuitPolicy, CircuitState
from asyncwatch.policies.classify import ErrorClass, is_outage, retry_after_of
from asyncwatch.policies.rate import RateLimit, TokenBucket
from asyncwatch.policies.throttle import DEFAULT_THROTTLE, Throttle, ThrottleHistory, ThrottlePolicy, ThrottleTicket
from asyncwatch.text import YEAR, elapsed, format_duration

logger = logging.getLogger("asyncwatch.worker")

WHOLE_RUN = ""
"""Stands for the run in place of a key."""
CIRCUIT, RATE, THROTTLED, SHARE, BUDGET = "circuit", "rate", "throttled", "share", "budget"
"""What a parked worker waits for."""
PATIENCE, OUT_OF_BUDGET = "patience", "retry budget"
"""Why a parked worker makes no further attempt: reasons of `RetryRefused`."""
KEYS_KEPT = 1_000
"""Up to this many keys, none is dropped."""
KEYS_REMEMBERED = 10_000
"""The more keys there are, the sooner unused ones are dropped; at this many their limits are not remembered at all."""
PARKED_AHEAD = 100_000
"""Parked workers at which no further one that has never begun is parked: those behind it wait in the queue."""
REPORT_EVERY = 0.5
"""Seconds between two reports of what a throttle has learned, at least."""
UNLIMITED = 1 << 30
"""Slots of a key that has no share."""
RELEASED_AHEAD = 1_000
"""Workers of one key, at most, that are released and have no slot yet. They take a few milliseconds."""
REPORTED_ALWAYS = 100
"""As many workers are reported each time when they wait for something else."""
REPORTS_EACH = 2
"""Reports of more, for each worker that is parked or released."""
LONGER = 0.1
"""Seconds: a hold that is extended by less is not reported again."""
REFUSED_AGAIN = 2
"""Refusals after which a worker lets others go first."""
STEPS_BACK_FOR = 60.0
"""Seconds for which a service lets others go first."""
SMALL_SHARE = 32
"""A key may always have this part of the slots."""
ENDED_AT_ONCE = 200
"""Parked workers that end in one loop iteration when their key is given up. They take a few milliseconds."""

_THROTTLED = ErrorClass.THROTTLED  # before Python 3.12 each lookup of an enum's member costs 50 ns


class Answer(enum.Enum):
    """The answer to a worker that needs admission."""

    STARTS = enum.auto()
    PARKED = enum.auto()
    """It waits at its gate, and is released later."""
    GONE = enum.auto()
    """Its own key function has stopped or restarted it."""
    QUEUE_WAITS = enum.auto()
    """It and all behind it wait for the limit of the run, or for parked workers to go on."""


_GONE, _STARTS = Answer.GONE, Answer.STARTS  # as above


class Admission:
    """The gates and limits of one run. All methods belong to the thread of its loop, after the run has started.

    Args:
        reporter: reports circuits and keys that change.
        release: puts workers that may go on into the ready queue, in order, and fills the slots; without workers it
            only fills them.
        report_parked: reports for which key and reason a worker waits, unless it was reported last.
        refuse: lets a parked worker make no further attempt: with the reason and a clause that says why.
        adopt: returns, for a worker without a key, the workers in flight that call the same target, and its successes
            so far.
        taken: returns how many slots are taken.
        luck: spreads the backoffs of throttled keys.
        slots: how many attempts may be in flight.
        tokens: of the retry budget; None for no limit.
        throttle: how long a throttled key is waited for; None for no throttling by key.
        max_per_key: slots of one key; None for as many as stay free while other keys have work, else all. Without
            throttling by key, None is all.
        circuit: of every key; None for no circuits.
        rate: of all attempts of the run together; None for no limit.
        rate_per_key: of the attempts of each key that has none of its own; None for no limit.

    """

    def __init__(
        self,
        reporter: Reporter,
        release: Callable[[Iterable[Worker]], None],
        report_parked: Callable[[Worker, str, str], None],
        refuse: Callable[[Worker, str, str], None],
        adopt: Callable[[Worker], tuple[list[Worker], int]],
        taken: Callable[[], int],
        *,
        luck: Luck,
        slots: int,
        tokens: Tokens | None = None,
        throttle: ThrottlePolicy | None = None,
        max_per_key: int | None = None,
        circuit: CircuitPolicy | None = None,
        rate: RateLimit | None = None,
        rate_per_key: RateLimit | None = None,
    ) -> None:
        self._reporter = reporter
        self._release = release
        self._report_parked = report_parked
        self._refuse = refuse
        self._adopt = adopt
        self._taken = taken
        self._luck = luck
        self._slots = slots
        self._tokens = tokens
        self._throttle = throttle
        patience = tokens.budget.patience if tokens is not None else None
        self._paid_at = -math.inf  # when the budget last paid for a retry
        self._budget_patience = (throttle or DEFAULT_THROTTLE).patience if patience is None else patience
        self._max_per_key = max_per_key
        self._circuit = circuit
        self._limits: dict[str, RateLimit | None] = {WHOLE_RUN: rate}
        self.rate_per_key = rate_per_key
        self._has_keys = circuit is not None or rate_per_key is not None
        self._has_rates = rate is not None or rate_per_key is not None
        self._has_limits = self._has_rates or circuit is not None or max_per_key is not None
        self._gates: OrderedDict[str, Gate] = OrderedDict()
        self._by_target: dict[int, tuple[object, Gate]] = {}  # of throttled targets without keys, by the function's id
        self._some: Callable[[], list[Worker]] | None = None  # returns workers that may have several keys
        self._keys_ahead = 0  # how many different keys they have
        self._busy: dict[Gate, None] = {}  # gates with workers: in flight, released or parked
        self._short: dict[Gate, None] = {}  # gates at which workers may wait for nothing but the key's share of slots
        self._whole = Gate(WHOLE_RUN)
        self._budget = Gate(WHOLE_RUN)
        self._budget.parked = RetriesInTurn(self._payer)
        self._held_at: dict[Worker, Gate] = {}  # the gate of each parked worker
        self._coming: dict[Worker, Gate] = {}  # the gate of each that was released and has not started
        self._probing: set[Worker] = set()  # they pass their circuit and their throttle in any state
        self._asked: tuple[Worker | None, str | None] = None, None  # the last worker that may ask again, and its key
        self._keyed: WorkerSpec | None = None  # the last spec
        self._key: Any = None  # its `_key_function`
        self._paused_at: float | None = None
        self._paused_for = 0.0  # in all pauses that are over
        self._has_given_up = False  # whether the patience with any key was over
        self._is_closed = False
        self.is_gated = self._has_keys or rate is not None
        """Whether attempts need admission at all."""
        self.can_hold_queue = rate is not None
        """Whether there may be a limit of the whole run."""

    @property
    def held(self) -> int:
        """How many workers are parked."""
        return len(self._held_at)

    def watch_keys_of(self, specs: Iterable[WorkerSpec], some: Callable[[], list[Worker]] | None = None) -> None:
        """Note workers that may ask: if any has a key, attempts need admission.

        `some` returns a few of them, far apart: they show whether a list that is sorted by key has work for several.
        """
        is_limited = self._throttle is not None or self._max_per_key is not None
        if is_limited and any(_key_function(spec) is not None for spec in specs):
            self._has_keys = self.is_gated = True
            self._some = some or self._some

    def limit(self, key: str = WHOLE_RUN) -> RateLimit | None:
        """Return the limit of `key`, or of the run."""
        return self._limits.get(key, self.rate_per_key)

    def change_slots(self, slots: int, *, is_paused: bool) -> None:
        """Set how many attempts may be in flight, and whether none may start: a pause.

        Its time counts neither for the patience nor for the rates that are learned.
        """
        self._slots = slots
        now, paused_at = self._reporter.now(), self._paused_at
        paused_for = 0.0 if paused_at is None else now - paused_at
        self._paused_at = now if is_paused else None
        if paused_for:
            self._budget.parked.delay(paused_for)
            self._paused_for += paused_for
        for gate in (self._budget, *self._gates.values()):
            if paused_for:
                gate.history.skip(paused_for)
            if gate.throttle is not None:
                gate.throttle.change_ceiling(self._ceiling())
                gate.throttle.skip(paused_for)
            self._wake(gate)

    # Workers that ask ------------------------------------------------------------------------------------------------

    def ask(self, worker: Worker) -> Answer:
        """Return whether the worker may start an attempt now. If so, it counts for its limits and its gate."""
        incarnation = worker.incarnation
        if self._has_keys and not self._coming and self._asked[0] is not worker:
            # The usual case: nothing throttles, and this takes a third of the time of all that follows.
            key = self._key_of(worker)
            gate = None if key is None else self._gates.get(key)
            is_ready = worker.is_ready and worker.incarnation == incarnation
            if gate is not None and is_ready and not worker.owes and self._is_free(gate):
                if not gate.in_flight:
                    self._busy[gate] = None
                gate.in_flight = worker.place = gate.in_flight + 1
                gate.slots_taken += worker.owner is None
                worker.ticket = gate.ticket
                return _STARTS
            self._asked = worker, key
        gate = self._gate_of(worker)
        if not worker.is_ready or worker.incarnation != incarnation:
            return _GONE
        if worker.owes and not self._pay(worker):
            self._park(worker, self._budget)
            return Answer.PARKED
        if gate is not None and not self._may_pass(worker, gate):
            is_new = not worker.attempt and worker.owner is None
            if is_new and len(self._held_at) >= PARKED_AHEAD:
                return Answer.QUEUE_WAITS
            self._park(worker, gate)
            return Answer.PARKED
        if self.holds_queue():
            return Answer.QUEUE_WAITS
        if self._whole.bucket is not None:
            self._whole.bucket.take(self._reporter.loop.time())
        if gate is not None:
            self._enter(worker, gate)
        if self._coming or self._probing:
            self.forget(worker)
        return _STARTS

    def holds_queue(self) -> bool:
        """Return whether the limit of the run lets no attempt start now. If so, the slots are filled when it does."""
        bucket = self._bucket(self._whole) if self._has_rates else None
        if bucket is None or bucket.is_free(self._reporter.loop.time()):
            return False
        self._time(self._whole, bucket.wait(self._reporter.loop.time()))
        return True

    def spare(self, slots: int) -> list[Worker]:
        """Take up to that many workers that were parked for their key's share of the slots: no other work is ready."""
        spared: list[Worker] = []
        if not self._short or self.holds_queue():
            return spared
        now, clock_now = self._reporter.now(), self._reporter.loop.time()
        short = sorted(self._short, key=lambda gate: gate.slots_taken + gate.coming)
        for left, gate in zip(range(len(short), 0, -1), short, strict=True):
            most = min(math.ceil((slots - len(spared)) / left), self._ceiling() - gate.slots_taken - gate.coming)
            spared += self._take(gate, self._room(gate, now, clock_now), max(0, most), clock_now)
            if not gate.parked:
                del self._short[gate]
        return spared

    def forget(self, worker: Worker) -> None:
        """Forget a worker that no longer waits, because it goes on or was stopped."""
        self._probing.discard(worker)
        gate = self._held_at.pop(worker, None)
        if gate is not None:
            gate.parked.remove(worker)
            self._note_left(gate)
        gate = self._coming.pop(worker, None)
        if gate is not None:
            gate.coming -= 1
            self._note_left(gate)
            self._wake(gate)

    def _note_left(self, gate: Gate) -> None:
        """Note that a worker has left the gate. If it was the last one, other keys may get its share of the slots."""
        if not gate.in_flight and not gate.coming and not gate.parked and gate in self._busy:
            del self._busy[gate]
            if len(self._busy) == 1:
                self._wake(next(iter(self._busy)))

    def held_by(self, worker: Worker) -> str:
        """Return what a parked worker waits for, such as `circuit` or `rate`; an empty text for any other."""
        gate = self._held_at.get(worker)
        return "" if gate is None else self._reason_of(worker, gate)

    def is_parked(self, worker: Worker) -> bool:
        """Return whether the worker is parked: admission itself will release it."""
        return worker in self._held_at

    def hurry(self, worker: Worker) -> None:
        """Let the worker pass its circuit and its throttle in any state, as a probe, and owe nothing to the budget."""
        worker.owes = 0.0
        if self._circuit is not None or self._throttle is not None:
            self._probing.add(worker)

    def put_first(self, worker: Worker) -> None:
        """Move a parked worker before all others of its gate."""
        self._held_at[worker].parked.put_first(worker)

    def _pay(self, worker: Worker) -> bool:
        """Pay for the worker's retry, if the budget allows it; retries that wait pay first."""
        tokens, budget = self._tokens, self._budget
        is_next = self._coming.get(worker) is budget or not (budget.parked.is_ahead_of(worker) or budget.coming)
        if tokens is None or worker in self._probing:
            worker.owes = 0.0
        elif not is_next or not tokens.pay(worker.owes, self._reporter.now()):
            return False
        worker.paid, worker.owes = worker.owes, 0.0
        self._paid_at = self._reporter.now()
        return True

    def _payer(self, worker: Worker) -> Hashable:
        """Return what the retries of a worker that has just asked wait with: others of its key, or of its target.

        Services wait apart from the batch.
        """
        key = self._asked[1]
        return id(function_of(worker.spec.target)) if key is None else key, worker.owner is None

    # Ends of attempts ------------------------------------------------------------------------------------------------

    def attempt_ended(
        self,
        worker: Worker,
        *,
        error_class: ErrorClass | None = None,
        error: BaseException | None = None,
        is_stopped: bool = False,
    ) -> bool:
        """Count how an attempt ended for its gate: well, in an error of that class, or by being stopped.

        Return whether a refusal is tolerated: its worker waits by itself, and its key goes on.
        """
        ticket, worker.ticket = worker.ticket, None
        if error_class is None and ticket is not None and ticket is (gate := ticket.gate).ticket and not gate.throttle:
            # The usual case: what follows would do the same.
            gate.in_flight -= 1
            gate.slots_taken -= worker.owner is None
            if not is_stopped:
                history = gate.history
                history.successes += 1
                if worker.started_at >= history.turns_at:
                    history.turn(worker.started_at)
            if gate.parked.size:
                self._wake(gate)
            elif not gate.in_flight:
                self._note_left(gate)
            return False
        is_refusal = error_class is _THROTTLED and not worker.is_struck and not is_stopped
        gate = None if ticket is None else ticket.gate
        if gate is None and is_refusal and self._throttle is not None:
            gate, ticket = self._new_gate_of_target(worker)
        if gate is None or ticket is None:
            return False
        gate.in_flight -= 1
        gate.slots_taken -= worker.owner is None
        if ticket.circuit is not None and gate.circuit is not None:
            says_nothing = is_stopped or error_class is ErrorClass.THROTTLED
            is_failure = None if says_nothing else error_class not in {None, ErrorClass.PERMANENT}
            self._leave_circuit(gate, gate.circuit, ticket.circuit, is_failure=is_failure)
        throttle = gate.throttle
        if throttle is None and is_refusal and self._throttle is not None:
            throttle = self._begin_throttling(gate, self._throttle, gate.in_flight + 1)
        is_tolerated = False
        if throttle is not None:
            # Attempts of before the first refusal have no ticket of the throttle.
            place = ticket.throttle or ThrottleTicket(gate.epoch, worker.started_at, worker.place, is_early=False)
            is_tolerated = self._throttle_ended(
                gate, throttle, place, worker, error_class, error, is_stopped=is_stopped
            )
        if gate.parked.size:
            self._wake(gate)
        elif not gate.in_flight:
            self._note_left(gate)
        return is_tolerated

    def _throttle_ended(
        self,
        gate: Gate,
        throttle: Throttle,
        ticket: ThrottleTicket,
        worker: Worker,
        error_class: ErrorClass | None,
        error: BaseException | None,
        *,
        is_stopped: bool,
    ) -> bool:
        if error_class is _THROTTLED and error is not None and not worker.is_struck and not is_stopped:
            return self._refused(gate, throttle, ticket, error)
        if error_class is None and not is_stopped:
            self._succeeded(gate, throttle, ticket)
        else:
            is_answer = error_class in {ErrorClass.SERVER, ErrorClass.PERMANENT} and not worker.is_struck
            throttle.ended(ticket, is_answer=is_answer and not is_stopped)
        return False

    def _begin_throttling(self, gate: Gate, policy: ThrottlePolicy, in_flight: int) -> Throttle:
        """Give a gate its throttle, at the first refusal or command, with the attempts in flight."""
        draws = iter(range(1, 1 << 62))
        key = gate.key
        spread = lambda: self._luck.draw("throttle", key, 1, next(draws))  # noqa: E731
        gate.throttle = Throttle(policy, self._ceiling(), spread)
        gate.epoch = gate.throttle.begin(gate.history, in_flight)
        return gate.throttle

    def return_tokens(self, tokens: float) -> None:
        """Give tokens back to the retry budget: of a success, or of a retry that is not made."""
        if self._tokens is not None:
            self._tokens.put_back(tokens)
            self._wake(self._budget)

    def wait_for_key(self, worker: Worker) -> None:
        """Park a worker whose attempt was throttled until its key allows another one."""
        gate = self._gate_of(worker)
        assert gate is not None  # noqa: S101  the throttled attempt made one
        self._park(worker, gate)
        if gate.throttle is not None and gate.throttle.is_doubted and isinstance(gate.parked, ParkedWorkers):
            gate.parked.step_back(worker)

    def _refused(self, gate: Gate, throttle: Throttle, ticket: ThrottleTicket, error: BaseException) -> bool:
        now = self._reporter.now()
        asked = retry_after_of(error, time.time())
        held_until = throttle.hold_until
        has_others = gate.parked.size > 0
        is_tolerated = throttle.throttled(ticket, now, asked, is_outage=is_outage(error), has_others=has_others)
        gate.refused += 1
        gate.last_asked = asked or 0.0
        if throttle.hold_until > max(now, held_until + LONGER) and throttle.hold_until < math.inf:
            self._reporter.key_throttled(gate.key, throttle.hold_until - now, asked, gate.refused)
        self._report_limit(gate, throttle)
        return is_tolerated

    def _succeeded(self, gate: Gate, throttle: Throttle, ticket: ThrottleTicket) -> None:
        was_probing = throttle.is_probing
        throttle.succeeded(ticket, self._reporter.now())
        if was_probing and not throttle.is_probing:
            self._reporter.key_released(gate.key)
        if gate.refused:
            self._report_limit(gate, throttle, is_urgent=was_probing)

    def _report_limit(self, gate: Gate, throttle: Throttle, *, is_urgent: bool = False) -> None:
        """Report what a throttled key has learned, if that has changed and was not reported a moment ago.

        Once nothing is in flight or parked, there may be no later moment.
        """
        now = self._reporter.now()
        rate = None if throttle.rate == math.inf else round(throttle.rate, 3)
        limit = None if throttle.limit >= self._ceiling() else throttle.limit
        facts = limit, rate, gate.in_flight, gate.refused, round(throttle.tolerated, 2) or None
        is_urgent = is_urgent or not (gate.in_flight or gate.coming or gate.parked)
        if facts != gate.reported and (is_urgent or now >= gate.reported_at + REPORT_EVERY):
            gate.reported, gate.reported_at = facts, now
            self._reporter.key_limit_changed(gate.key, *facts)

    def _check_patience(self, gate: Gate) -> bool:
        """End workers parked at a key that is not worth waiting for any longer; return whether more are to end.

        A service goes on waiting, since it is to run for ever. Of a poller only the poll ends, if it made an attempt.
        """
        throttle, policy = gate.throttle, self._throttle
        if throttle is None or policy is None or self._paused_at is not None or not gate.parked:
            return False
        if throttle.gives_up_at > self._reporter.now():
            return False
        ending = list(itertools.islice(filter(_ends_with_its_key, gate.parked), ENDED_AT_ONCE))
        if not ending:
            return False
        self._has_given_up = True
        why = f"{gate.key} refused every attempt for {elapsed(self._reporter.now() - throttle.refused_since)}"
        if gate.last_asked > policy.max_retry_after:
            asked = "over a year" if gate.last_asked >= YEAR else format_duration(round(gate.last_asked, 1))
            most = format_duration(policy.max_retry_after)
            why = f"{gate.key} asked to wait {asked}, longer than max_retry_after = {most}"
        if gate.given_up_at != throttle.gives_up_at:
            gate.given_up_at = throttle.gives_up_at
            log_safely(logger, logging.ERROR, "%s: workers that wait for it make no further attempt", why)
        return self._end(ending, PATIENCE, why)

    def renew_patience(self, worker: Worker) -> None:
        """Be patient again with the key of a worker that a person restarts, if it was given up."""
        if self._has_given_up:
            gate = self._gate_of(worker)
            if gate is not None and gate.throttle is not None and gate.throttle.gives_up_at <= self._reporter.now():
                gate.throttle.renew_patience()

    # Settings and commands -------------------------------------------------------------------------------------------

    def change_limit(self, key: str, limit: RateLimit | None) -> None:
        """Set the limit of `key`, or of the run; None for no limit.

        A key whose limit is set to that of all keys follows them again.
        """
        if key != WHOLE_RUN and str(limit) == str(self.rate_per_key):
            self._limits.pop(key, None)
        else:
            self._limits[key] = limit
        self._has_keys = self._has_keys or key != WHOLE_RUN
        self._has_rates = self._has_limits = True
        self.can_hold_queue = self.can_hold_queue or key == WHOLE_RUN
        self._asked = None, None
        self.is_gated = True
        self._keep_limit(self._whole if key == WHOLE_RUN else self._gates.get(key), limit)

    def change_rate_per_key(self, limit: RateLimit | None) -> None:
        """Set the limit of every key that has none of its own; None for no limit."""
        self.rate_per_key = limit
        self._has_keys = self._has_rates = self._has_limits = self.is_gated = True
        self._asked = None, None
        for gate in list(self._gates.values()):
            if gate.key not in self._limits:
                self._keep_limit(gate, limit)

    def _keep_limit(self, gate: Gate | None, limit: RateLimit | None) -> None:
        if gate is None:
            return
        gate.stop_timer()
        if limit is None:
            gate.bucket = None
        elif gate.bucket is not None:
            gate.bucket.change(limit, self._reporter.loop.time())
        if gate is self._whole:
            self._release(())
        else:
            self._wake(gate)

    def control(self, key: str, action: Callable[[Circuit], None]) -> str:
        """Isolate, close or probe the circuit of `key`; return why that is not possible, or an empty text.

        A circuit that no attempt has asked for yet can be isolated in advance.
        """
        if self._circuit is None:
            return "this run has no circuits"
        gate = self._gates.get(key)
        if (gate is None or gate.circuit is None) and action is not Circuit.isolate:
            return "there is no such circuit"
        gate = gate or self._new_gate(key)
        circuit = self._circuit_of(gate)
        assert circuit is not None  # noqa: S101  there is a policy
        before = circuit.state
        action(circuit)
        self._follow(gate, circuit, before)
        return ""

    def control_key(self, key: str, action: Callable[[Throttle, float], None]) -> str:
        """Release, hold or reset the throttle of `key`; return why that is not possible, or an empty text."""
        gate = self._gates.get(key)
        if self._throttle is None:
            return "this run does not throttle by key"
        if gate is None:
            return "there is no such key"
        throttle = gate.throttle or self._begin_throttling(gate, self._throttle, gate.in_flight)
        was_held = throttle.hold_until
        now = self._reporter.now()
        action(throttle, now)
        if throttle.hold_until > max(now, was_held):
            seconds = throttle.hold_until - now
            self._reporter.key_throttled(gate.key, None if seconds == math.inf else seconds, None, gate.refused)
        else:
            self._reporter.key_released(gate.key)
        self._report_limit(gate, throttle, is_urgent=True)
        gate.stop_timer()
        self._wake(gate)
        return ""

    def close(self) -> None:
        """Stop all timers: the run is over."""
        self._is_closed = True
        for gate in (self._whole, self._budget, *self._gates.values()):
            gate.stop_timer()

    def problems(self) -> Iterator[str]:
        """Yield what is inconsistent; nothing if all is well."""
        gates = (self._budget, *self._gates.values())
        if any(gate.parked.size != len(list(gate.parked)) for gate in gates):
            yield "parked workers are counted wrongly"
        for worker, gate in self._held_at.items():
            if worker not in gate.parked:
                yield f"{worker} is parked at {gate.key!r}, and not in its queue"
            if worker.is_ready or worker.task is not None or worker in self._coming:
                yield f"{worker} is parked, and ready or running"
            if gate not in gates:
                yield f"{worker} is parked at {gate.key!r}, which was dropped"
        if sum(len(gate.parked) for gate in gates) != len(self._held_at):
            yield "a queue of parked workers holds one that is not parked"
        for worker in self._coming:
            if not worker.is_ready:
                yield f"{worker} was released, and is not ready"
        for gate in gates:
            coming = sum(other is gate for other in self._coming.values())
            if gate.coming != coming:
                yield f"{coming} released workers of {gate.key!r}, and {gate.coming} are counted"
            if gate.parked and not gate.is_woken and gate.timer is None and not self._is_waited_for(gate):
                yield f"nothing will release the workers parked at {gate.key!r}"

    def leaks(self, in_flight: Iterable[Worker], others: Iterable[Worker]) -> Iterator[str]:
        """Yield which attempts are counted wrongly, given the workers with an attempt in flight and the others."""
        entered = [worker for worker in in_flight if worker.ticket is not None]
        for worker in others:
            if worker.ticket is not None:
                yield f"{worker} has a ticket, and no attempt in flight"
        for gate in self._gates.values():
            inside = [worker for worker in entered if worker.ticket.gate is gate]
            slots = sum(worker.owner is None for worker in inside)
            of_throttle = gate.in_flight if gate.throttle is None else gate.throttle.in_flight
            counts = gate.in_flight, gate.slots_taken, of_throttle
            if counts != (len(inside), slots, len(inside)):
                yield f"{len(inside)} attempts of {gate.key!r} are in flight, {slots} with slots, not {counts}"
        if any(worker.ticket.gate not in self._gates.values() for worker in entered):
            yield "an attempt is in flight at a gate that was dropped"

    def _is_waited_for(self, gate: Gate) -> bool:
        """Return whether parked workers are released when something else happens that must happen or be requested."""
        is_open = gate.circuit is not None and gate.circuit.state is not CircuitState.CLOSED
        is_by_hand = gate.throttle is not None and gate.throttle.hold_until == math.inf
        is_paused = self._paused_at is not None
        return bool(gate.in_flight or gate.coming or is_open or is_by_hand or is_paused or gate in self._short)

    # Gates -----------------------------------------------------------------------------------------------------------

    def _ceiling(self) -> int:
        return self._slots if self._max_per_key is None else min(self._max_per_key, self._slots)

    def _gate_of(self, worker: Worker) -> Gate | None:
        """Return the worker's gate, None if it has none; the key of one that asks again is made once."""
        gate = self._coming.get(worker) if self._coming else None
        if gate is not None and gate is not self._budget:
            return gate
        asked, key = self._asked
        if asked is not worker:
            key = self._key_of(worker) if self._has_keys else None
            self._asked = worker, key
        if key is not None:
            gate = self._gates.get(key)
            return self._new_gate(key) if gate is None else gate
        if not self._by_target:
            return None
        return self._by_target.get(id(function_of(worker.spec.target)), (None, None))[1]

    def _key_of(self, worker: Worker) -> str | None:
        """Return the key of a worker's gate; None for no gate."""
        spec = worker.spec
        if spec is not self._keyed:  # all workers of a list share one
            self._key = _key_function(spec)
            self._keyed = spec
        try:
            key = self._key
            if type(key) is not str and callable(key):
                key = key(*worker.args)
            return (key if type(key) is str else str(key)) if key else None
        except Exception:
            text = "the key of a worker could not be made"
            log_safely(logger, logging.ERROR, text, worker=worker.name, has_traceback=True)
            return None

    def _new_gate(self, key: str) -> Gate:
        """Add a gate, and drop up to two that are idle.

        Looking at two for each new one keeps at most about twice as many gates as are in use, without a pause.
        """
        for _ in range(2):
            if len(self._gates) < KEYS_KEPT:
                break
            oldest, gate = next(iter(self._gates.items()))
            if self._is_idle(gate):
                self._drop_gate(gate)
            else:
                self._gates.move_to_end(oldest)
        gate = self._gates[key] = Gate(key, self._reporter.now())
        return gate

    def _drop_gate(self, gate: Gate) -> None:
        """Forget a gate that is idle. To its next attempt nothing is known of its key, which is reported."""
        del self._gates[gate.key]
        del gate.ticket  # each holds the other
        gate.stop_timer()
        if gate.circuit is not None and gate.circuit.state is not CircuitState.CLOSED:
            gate.circuit.close()
            self._reporter.circuit_changed(gate.key, gate.circuit)
        if gate.throttle is not None and gate.throttle.is_limiting:
            self._reporter.key_limit_changed(gate.key, None, None, 0, gate.refused)

    def _new_gate_of_target(self, worker: Worker) -> tuple[Gate, Ticket]:
        """Make the gate of a target without keys when its first attempt is throttled; return it with the ticket.

        Attempts of the same target that are in flight already count for it.
        """
        target = worker.spec.target
        name = target_name(target)
        names = itertools.chain((name,), (f"{name} ({number})" for number in itertools.count(2)))
        gate = self._new_gate(next(key for key in names if key not in self._gates))
        self._by_target[id(function_of(target))] = function_of(target), gate
        in_flight, successes = self._adopt(worker)
        adopted = [other for other in in_flight if other.ticket is None and other is not worker]
        adopted.append(worker)
        since = self._paused_for if successes else min(other.started_at for other in adopted)
        gate.history = ThrottleHistory(since, successes)
        ticket = gate.ticket
        for other in adopted:
            gate.in_flight += 1
            gate.slots_taken += other.owner is None
            other.place, other.ticket = len(adopted), ticket
        worker.ticket = None
        self._busy[gate] = None
        self.is_gated = True
        return gate, ticket

    def _is_idle(self, gate: Gate) -> bool:
        """Return whether the gate has nothing to remember for its next attempt."""
        now = self._reporter.now()
        return (
            not gate.in_flight
            and not gate.coming
            and not gate.parked
            and not gate.is_woken
            and (gate.circuit is None or gate.circuit.is_idle(now))
            and (gate.bucket is None or gate.bucket.is_full(self._reporter.loop.time()))
            and (gate.throttle is None or gate.throttle.is_idle(now, max(0.0, 1 - len(self._gates) / KEYS_REMEMBERED)))
            and gate.key not in self._limits
            and all(gate is not other for _, other in self._by_target.values())
        )

    def _circuit_of(self, gate: Gate) -> Circuit | None:
        if gate.circuit is None and self._circuit is not None:
            gate.circuit = Circuit(self._circuit)
            self._reporter.circuit_changed(gate.key, gate.circuit)
        return gate.circuit

    def _bucket(self, gate: Gate) -> TokenBucket | None:
        if gate.bucket is None and (limit := self.limit(gate.key)) is not None:
            gate.bucket = TokenBucket(limit, self._reporter.loop.time())
        return gate.bucket

    # Passing ---------------------------------------------------------------------------------------------------------

    def _is_free(self, gate: Gate) -> bool:
        """Return whether a look at very little shows that the gate, which has no circuit, holds no worker up."""
        if gate.throttle is not None or gate.parked.size or self._has_limits or self._probing:
            return False
        is_alone = gate.in_flight and len(self._busy) == 1 and self._keys_ahead <= 1 and not self._some
        return (is_alone and not gate.refused) or gate.slots_taken < self._slots // SMALL_SHARE

    def _may_pass(self, worker: Worker, gate: Gate) -> bool:
        """Return whether nothing of its gate and no earlier worker there holds it up."""
        is_probe = worker in self._probing
        circuit = None if self._circuit is None else self._circuit_of(gate)
        if circuit is not None:
            before = circuit.state
            is_passable = circuit.is_passable(self._reporter.now())
            self._follow(gate, circuit, before)
            if not is_passable and not is_probe:
                return False
        bucket = self._bucket(gate) if self._has_rates else None
        if bucket is not None and not bucket.is_free(self._reporter.loop.time()):
            return False
        is_coming = self._coming.get(worker) is gate
        if not is_probe:
            if gate.throttle is not None and gate.throttle.wait(self._reporter.now()):
                return False
            if not is_coming and worker.owner is None and self._is_short(gate):
                return False
        return not gate.parked.size or is_probe or is_coming or not gate.parked.is_ahead_of(worker)

    def _is_short(self, gate: Gate) -> bool:
        """Return whether the key has its share of the slots."""
        taken = gate.slots_taken + gate.coming
        if self._max_per_key is not None:
            return taken >= self._max_per_key
        # No share is smaller: most attempts need no further look.
        return taken > 0 and taken >= self._slots // SMALL_SHARE and self._places(gate) <= 0

    def _share(self, gate: Gate) -> int:
        """Return how many slots a key may have while others have work: as many as stay free.

        One key gets half of the slots, two get a third each, and so on, so that some are left for the next key: the
        dynamic threshold of shared buffers (Choudhury and Hahne, 1998). If workers of several keys are still to ask,
        none gets more than its equal share. A small share is left to every key: those with little work park none.
        """
        taken = gate.slots_taken + gate.coming
        threshold = (self._slots - self._taken() - len(self._coming) + taken) // 2
        return max(1, self._slots // SMALL_SHARE, min(threshold, self._slots // max(1, self._keys_ahead)))

    def _places(self, gate: Gate) -> int:
        """Return how many more slots the key's share has."""
        taken = gate.slots_taken + gate.coming
        if self._max_per_key is not None:
            return self._ceiling() - taken
        if self._throttle is None:
            return UNLIMITED
        if len(self._busy) > (gate in self._busy) or self._keys_ahead > 1 or (self._some and self._has_several_keys()):
            return self._share(gate) - taken
        # Most workers of a key that was throttled, or whose circuit has opened, would only be parked again.
        has_stopped = gate.refused or (gate.circuit is not None and any(gate.circuit.opened_by))
        return (self._slots if has_stopped else max(self._slots, RELEASED_AHEAD)) - taken

    def note_all_asked(self) -> None:
        """Note that no worker of the batch is left that has not asked: all keys with work are known."""
        self._some, self._keys_ahead = None, 0

    def _has_several_keys(self) -> bool:
        some, self._some = self._some, None
        if some is not None:
            try:
                self._keys_ahead = len({self._key_of(worker) for worker in some()})
            except BaseException as fault:  # the user's key function can raise anything
                pass_on_interrupt(fault)
        return self._keys_ahead > 1

    def _reason_of(self, worker: Worker, gate: Gate) -> str:
        """Return what a parked worker waits for."""
        return RATE if worker in self._probing else self._reason(gate)

    def _reason(self, gate: Gate) -> str:
        """Return what the workers parked at a gate wait for."""
        if gate is self._budget:
            return BUDGET
        if gate.circuit is not None and gate.circuit.state is not CircuitState.CLOSED:
            return CIRCUIT
        if gate.throttle is not None and gate.throttle.is_limiting:
            return THROTTLED
        return SHARE if gate.bucket is None else RATE

    def _park(self, worker: Worker, gate: Gate) -> None:
        is_probe, was_coming = worker in self._probing, self._coming.get(worker) is gate
        self.forget(worker)
        gate.parked.add(worker, self._reporter.now())
        if is_probe:
            self._probing.add(worker)
        if is_probe or was_coming:
            gate.parked.put_first(worker)
        self._held_at[worker] = gate
        gate.reports += REPORTS_EACH
        if gate is not self._budget:
            self._busy[gate] = None
        reason = self._reason_of(worker, gate)
        if len(gate.parked) == 1:
            gate.reason = reason
        self._report_parked(worker, gate.key, reason)
        self._wake(gate)

    def _enter(self, worker: Worker, gate: Gate) -> None:
        """Count the worker at its gate. One that passes an open circuit by hand is a probe."""
        if gate.bucket is not None:
            gate.bucket.take(self._reporter.loop.time())
        if not gate.in_flight:
            self._busy[gate] = None
        gate.in_flight += 1
        gate.slots_taken += worker.owner is None
        worker.place = gate.in_flight
        circuit = gate.circuit
        if circuit is None and gate.throttle is None:
            worker.ticket = gate.ticket
            return
        throttle = None if gate.throttle is None else gate.throttle.start(self._reporter.now())
        circuit_ticket = None
        if circuit is not None and circuit.state is not CircuitState.ISOLATED:
            if circuit.state is CircuitState.OPEN:
                circuit.probe()
                self._follow(gate, circuit, CircuitState.OPEN)
            circuit_ticket = circuit.enter()
            if circuit.state is CircuitState.HALF_OPEN:
                self._reporter.circuit_probed(gate.key, circuit)
        worker.ticket = Ticket(gate, circuit_ticket, throttle)

    def _leave_circuit(self, gate: Gate, circuit: Circuit, ticket: int, *, is_failure: bool | None) -> None:
        before, probes = circuit.state, circuit.probes_under_way
        circuit.leave(ticket, is_failure=is_failure, now=self._reporter.now())
        self._follow(gate, circuit, before)
        if circuit.state is before and circuit.probes_under_way != probes:
            self._reporter.circuit_probed(gate.key, circuit)
            self._wake(gate)

    def _follow(self, gate: Gate, circuit: Circuit, before: CircuitState) -> None:
        """Report the new state of a circuit, if it has one, and release the workers that may go on."""
        if circuit.state is before:
            return
        self._reporter.circuit_changed(gate.key, circuit)
        if circuit.state is CircuitState.OPEN:
            wait = circuit.open_until - self._reporter.now()
            self._reporter.loop.call_later(wait, self._end_of_open, gate, circuit, circuit.open_until)
        self._wake(gate)

    def _end_of_open(self, gate: Gate, circuit: Circuit, open_until: float) -> None:
        if not self._is_closed and circuit.state is CircuitState.OPEN and circuit.open_until == open_until:
            circuit.probe()
            self._follow(gate, circuit, CircuitState.OPEN)

    # Releasing -------------------------------------------------------------------------------------------------------

    def _time(self, gate: Gate, delay: float) -> None:
        """Look again at a gate in `delay` seconds at the latest."""
        loop = self._reporter.loop
        if delay < math.inf and (gate.timer is None or gate.timer.when() > loop.time() + delay):
            gate.stop_timer()
            gate.timer = loop.call_later(delay, self._time_has_come, gate)

    def _time_has_come(self, gate: Gate) -> None:
        gate.timer = None
        if gate is self._whole:
            self._release(())
        else:
            self._wake(gate)

    def _wake(self, gate: Gate) -> None:
        """Release workers of a gate in the next loop iteration: this one may be filling slots."""
        if gate.parked and not gate.is_woken:
            gate.is_woken = True
            self._reporter.loop.call_soon(self._advance, gate)

    def _advance(self, gate: Gate) -> None:
        """Release the workers of a gate that may go on; report if the others wait for something else now."""
        gate.is_woken = False
        if not gate.parked or self._is_closed:
            return
        if self._end_impatient() if gate is self._budget else self._check_patience(gate):
            self._wake(gate)
            return
        # One moment for all: a limit that ends in between must not be missed.
        now, clock_now = self._reporter.now(), self._reporter.loop.time()
        if gate.throttle is not None and gate.throttle.accept_probe(now):
            self._reporter.key_released(gate.key)
            self._report_limit(gate, gate.throttle, is_urgent=True)
        if isinstance(gate.parked, ParkedWorkers):
            gate.parked.let_services_pass(now)
        room = self._room(gate, now, clock_now)
        places = room if gate is self._budget else max(0, self._places(gate))
        released = self._take(gate, room, places, clock_now)
        is_short = len(released) < room and bool(gate.parked)
        if is_short and self._max_per_key is None:
            self._short[gate] = None
        if gate.parked:
            self._time(gate, self._next_look(gate, now, clock_now))
        reason = self._reason(gate) if gate.parked else ""
        try:
            count = len(gate.parked) if len(gate.parked) > REPORTED_ALWAYS else 0
            if reason and gate.reason != reason and gate.reports >= count:
                gate.reason = reason
                gate.reports -= count
                for worker in gate.parked:
                    self._report_parked(worker, gate.key, self._reason_of(worker, gate))
        finally:
            if released or is_short:
                self._release(released)

    def _take(self, gate: Gate, room: int, places: int, clock_now: float) -> list[Worker]:
        """Take the first workers of a gate that there is room for, and probes by hand beside them.

        Services need none of the `places`. Probes need nothing but a token of the rate.
        """
        released: list[Worker] = []
        tokens = self._tokens_at(gate, clock_now)
        for worker in gate.parked:
            if not tokens:
                break
            if worker not in self._probing:
                if not room or (worker.owner is None and not places):
                    break
                room -= 1
                places -= worker.owner is None
            tokens -= 1
            released.append(worker)
        for worker in released:
            gate.parked.remove(worker)
            del self._held_at[worker]
            self._coming[worker] = gate
        gate.coming += len(released)
        gate.reports += REPORTS_EACH * len(released)
        return released

    def _room(self, gate: Gate, now: float, clock_now: float) -> int:
        """Return how many parked workers of a gate may go on, if there are slots for them."""
        coming = gate.coming
        if gate is self._budget:
            return self._affordable(now)
        room = len(gate.parked)
        if gate.circuit is not None and gate.circuit.state is not CircuitState.CLOSED:
            room = min(room, gate.circuit.free_probes - coming)
        if gate.throttle is not None:
            room = min(room, gate.throttle.room(now) - coming)
        return max(0, min(room, self._tokens_at(gate, clock_now)))

    def _tokens_at(self, gate: Gate, clock_now: float) -> int:
        """Return how many workers of a gate its rate lets go on, after those that were released."""
        if gate.bucket is None:
            return UNLIMITED
        return max(0, int(gate.bucket.tokens(clock_now) + 1e-7) - gate.coming)

    def _affordable(self, now: float) -> int:
        """Return how many parked retries the budget can pay for, in order, after those that were released."""
        if self._tokens is None:
            return len(self._budget.parked)
        left = self._tokens.left(now) - sum(worker.owes for worker in self._coming)
        count = 0
        for worker in self._budget.parked:
            left -= worker.owes
            if left < 0:
                break
            count += 1
        return count

    def _next_look(self, gate: Gate, now: float, clock_now: float) -> float:
        """Return the seconds until more of a gate's workers may go on, or its patience is over."""
        waits = [math.inf]
        if gate is self._budget:
            first = next(iter(gate.parked))
            if self._tokens is not None:
                waits.append(self._tokens.wait(first.owes, now))
            waits.append(max(gate.parked.oldest, self._paid_at) + self._budget_patience - now)
        if gate.throttle is not None:
            waits += [gate.throttle.wait(now), gate.throttle.gives_up_at - now]
        if gate.bucket is not None and not self._tokens_at(gate, clock_now):
            waits.append(gate.bucket.wait(clock_now))
        return max(0.001, min(wait for wait in waits if wait > 0))

    def _end_impatient(self) -> bool:
        """End retries that have waited too long for the budget; return whether more are to end.

        Their patience does not run while the budget pays for others: the queue moves on.
        """
        if self._paused_at is not None or self._paid_at + self._budget_patience > self._reporter.now():
            return False
        parked = self._budget.parked
        waited = parked.that_waited(self._budget_patience, self._reporter.now())
        ending = list(itertools.islice(waited, ENDED_AT_ONCE))
        why = f"its retry waited {format_duration(self._budget_patience)} for the retry budget"
        return self._end(ending, OUT_OF_BUDGET, why)

    def _end(self, ending: list[Worker], reason: str, why: str) -> bool:
        """Refuse further attempts to parked workers; return whether there were as many as end at once."""
        for worker in ending:
            if worker in self._held_at:  # the end of one can halt the batch, which ends the others
                self.forget(worker)
                self._refuse(worker, reason, why)
        return len(ending) == ENDED_AT_ONCE


def _key_function(spec: WorkerSpec) -> Any:
    """Return the key of all workers of a spec, or the function that makes the key of each; None for neither."""
    if spec.key is not None:
        return spec.key
    try:
        return getattr(spec.target, "key_of", None)
    except BaseException as fault:  # the attributes of an object can be code that raises anything
        pass_on_interrupt(fault)
        return None


class Gate:
    """What holds back the attempts of one key, and the workers that wait for it."""

    __slots__ = (
        "bucket",
        "circuit",
        "coming",
        "epoch",
        "given_up_at",
        "history",
        "in_flight",
        "is_woken",
        "key",
        "last_asked",
        "parked",
        "reason",
        "refused",
        "reported",
        "reported_at",
        "reports",
        "slots_taken",
        "throttle",
        "ticket",
        "timer",
    )

    def __init__(self, key: str, now: float = 0.0) -> None:
        self.key = key
        self.circuit: Circuit | None = None
        self.bucket: TokenBucket | None = None
        self.throttle: Throttle | None = None
        """None before the first refusal or command."""
        self.parked: ParkedWorkers | RetriesInTurn = ParkedWorkers()
        self.reason = ""
        """What they wait for, as reported last."""
        self.reports = 0
        """Reports of what they wait for that may still be made, so that there are not many more than workers that come
        and go, however often the reason changes."""
        self.ticket = Ticket(self)
        """Of all attempts that started while neither its circuit nor its throttle had anything to note of them."""
        self.coming = 0
        """Workers that were released and have not started."""
        self.in_flight = 0
        self.slots_taken = 0
        """Attempts in flight that have a slot: those of the batch."""
        self.refused = 0
        """Attempts that were throttled so far."""
        self.history = ThrottleHistory(now)
        """What the throttle is told then."""
        self.epoch = 0
        """Of attempts that started before that."""
        self.last_asked = 0.0
        """Seconds that the last refusal asked to wait."""
        self.given_up_at = -math.inf
        """When its patience was over, as logged last."""
        self.reported: tuple[object, ...] = ()
        """What was reported last of its limits."""
        self.reported_at = -math.inf
        self.timer: asyncio.TimerHandle | None = None
        self.is_woken = False

    def stop_timer(self) -> None:
        """Look at the gate again only when it is woken."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class Ticket(msgspec.Struct, frozen=True):
    """What admission needs to know of an attempt in flight when it ends."""

    gate: Gate
    circuit: int | None = None
    throttle: ThrottleTicket | None = None


class ParkedWorkers:
    """FIFO of the workers that wait at one gate: services, then workers that have begun, then those that have not.

    A worker that was refused again comes after those that have not begun, and a service after all, for a while: it may
    be refused for a reason of its own, and would be every probe of its key.
    """

    __slots__ = ("_queues", "size")

    def __init__(self) -> None:
        # When each was parked, in seconds of the run.
        self._queues: tuple[OrderedDict[Worker, float], ...] = tuple(OrderedDict() for _ in range(4))
        self.size = 0
        """How many there are. It spares each attempt two calls of `len`."""

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[Worker]:
        return itertools.chain.from_iterable(self._queues)

    def __contains__(self, worker: object) -> bool:
        return any(worker in queue for queue in self._queues)

    @property
    def oldest(self) -> float:
        """When the worker was parked that has waited longest; infinity if there is none."""
        return min((next(iter(queue.values())) for queue in self._queues if queue), default=math.inf)

    def that_waited(self, seconds: float, now: float) -> Iterator[Worker]:
        """Yield the workers that have waited for so long."""
        for queue in self._queues:
            for worker, since in queue.items():
                if since + seconds > now:
                    break
                yield worker

    def add(self, worker: Worker, now: float) -> None:
        """Add a worker behind others of its kind."""
        self._queues[_rank(worker)][worker] = now
        self.size += 1

    def put_first(self, worker: Worker) -> None:
        """Move a worker before others of its kind, one of the batch before all of the batch."""
        for queue in self._queues:
            if worker in queue:
                first = self._queues[min(_rank(worker), 1)]
                first[worker] = queue.pop(worker)
                first.move_to_end(worker, last=False)
                return

    def step_back(self, worker: Worker) -> None:
        """Let all others go before a worker that is there; a service for a while."""
        since = next(queue.pop(worker) for queue in self._queues if worker in queue)
        self._queues[2 if worker.owner is None else 3][worker] = since

    def let_services_pass(self, now: float) -> None:
        """Put services first again that were refused again and have waited for long since then."""
        first, *_, last = self._queues
        while last and next(iter(last.values())) + STEPS_BACK_FOR <= now:
            worker, since = last.popitem(last=False)
            first[worker] = since

    def delay(self, seconds: float) -> None:
        """Let all have waited for so much less."""
        for queue in self._queues:
            for worker in queue:
                queue[worker] += seconds

    def remove(self, worker: Worker) -> None:
        """Remove a worker, if it is there."""
        for queue in self._queues:
            if queue.pop(worker, None) is not None:
                self.size -= 1

    def is_ahead_of(self, worker: Worker) -> bool:
        """Return whether any worker waits before the place that this one would get."""
        return any(self._queues[: _rank(worker) + 1])


class RetriesInTurn:
    """Retries that wait for the budget: those of each payer in order, and the payers in turn.

    So a host that is down, whose retries keep the budget empty, delays each retry of another host by one of its own.

    Args:
        payer: returns whose retries a worker's one waits with.

    """

    __slots__ = ("_payer", "_payers", "_queues", "_since")

    def __init__(self, payer: Callable[[Worker], Hashable]) -> None:
        self._payer = payer
        # When each was parked, in seconds of the run, oldest first: quick where a dict would look at all removed ones.
        self._since: OrderedDict[Worker, float] = OrderedDict()
        self._payers: dict[Worker, Hashable] = {}
        self._queues: OrderedDict[Hashable, OrderedDict[Worker, None]] = OrderedDict()  # the next to pay first

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self._since)

    def __len__(self) -> int:
        return len(self._since)

    def __iter__(self) -> Iterator[Worker]:
        left: list[Iterator[Worker]] = []
        for queue in self._queues.values():
            workers = iter(queue)
            yield next(workers)
            left.append(workers)
        while left:
            turn, left = left, []
            for workers in turn:
                if (worker := next(workers, None)) is not None:
                    yield worker
                    left.append(workers)

    def __contains__(self, worker: object) -> bool:
        return worker in self._since

    @property
    def oldest(self) -> float:
        """When the retry was parked that has waited longest; infinity if there is none."""
        return next(iter(self._since.values()), math.inf)

    def that_waited(self, seconds: float, now: float) -> Iterator[Worker]:
        """Yield the retries that have waited for so long."""
        for worker, since in self._since.items():
            if since + seconds > now:
                break
            yield worker

    def add(self, worker: Worker, now: float) -> None:
        """Add a retry behind others of its payer."""
        payer = self._payers[worker] = self._payer(worker)
        self._since[worker] = now
        self._queues.setdefault(payer, OrderedDict())[worker] = None

    def put_first(self, worker: Worker) -> None:
        """Move a retry before all others."""
        payer = self._payers[worker]
        self._queues[payer].move_to_end(worker, last=False)
        self._queues.move_to_end(payer, last=False)

    def delay(self, seconds: float) -> None:
        """Let all have waited for so much less."""
        for worker in self._since:
            self._since[worker] += seconds

    def remove(self, worker: Worker) -> None:
        """Remove a retry. The other payers come before its own then."""
        del self._since[worker]
        payer = self._payers.pop(worker)
        queue = self._queues[payer]
        del queue[worker]
        self._queues.move_to_end(payer)
        if not queue:
            del self._queues[payer]

    def is_ahead_of(self, worker: Worker) -> bool:
        """Return whether any retry waits before the place that this one would get."""
        del worker
        return bool(self._since)


def _ends_with_its_key(worker: Worker) -> bool:
    """Return whether a worker ends when its key is given up.

    A service does not, except for a poll that was refused. A poll that made no attempt waits: it would fail as often as
    it is due, without a request.
    """
    return worker.owner is None or (worker.spec.every is not None and worker.attempt > 0)


def _rank(worker: Worker) -> int:
    steps_back = worker.throttled >= REFUSED_AGAIN
    if worker.owner is not None:
        return 3 if steps_back else 0
    return 1 if worker.attempt and not steps_back else 2
