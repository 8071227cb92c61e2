"""Who may start an attempt: the circuits and the rate limits of a run, and those who wait for them.

A worker whose turn has come asks here before it takes a place. If the circuit or the limit of its key stands against
that, it is set aside with the others of its key, so that it holds up nobody else, and is let in again when it may go
on; then everything is asked again. The limit of the whole run holds up the line as a whole.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator

from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.safe_log import log_safely
from asyncwatch.engine.worker import Worker
from asyncwatch.policies.circuit import Circuit, CircuitPolicy, CircuitState
from asyncwatch.policies.classify import ErrorClass
from asyncwatch.policies.rate import RateLimit, TokenBucket

logger = logging.getLogger("asyncwatch.worker")

WHOLE_RUN = ""
"""Stands for the run in place of a key."""


class Answer(enum.Enum):
    """What becomes of a worker that asks for admission."""

    STARTS = enum.auto()
    IS_SET_ASIDE = enum.auto()
    """It is let in again later."""
    HOLDS_THE_LINE = enum.auto()
    """It and all behind it wait for the limit of the run."""


class Admission:
    """The circuits and limits of one run. All methods belong to the thread of its loop, after the run has started.

    Args:
        report: tells what happens.
        let_in: puts workers that may go on in line, in order, and fills the places; with nobody it does the latter.
        tell_held: tells that a worker waits for that key, and for which reason, unless that was told last.
        circuit: of every key; None for no circuits.
        rate: of all attempts of the run together; None for no limit.
        rate_per_key: of the attempts of each key that has none of its own; None for no limit.

    """

    def __init__(
        self,
        report: Reporter,
        let_in: Callable[[Iterable[Worker]], None],
        tell_held: Callable[[Worker, str, str], None],
        *,
        circuit: CircuitPolicy | None = None,
        rate: RateLimit | None = None,
        rate_per_key: RateLimit | None = None,
    ) -> None:
        self._report = report
        self._let_in = let_in
        self._tell_held = tell_held
        self._policy = circuit
        self._limits: dict[str, RateLimit | None] = {WHOLE_RUN: rate}
        self.rate_per_key = rate_per_key
        self._has_keys = circuit is not None or rate_per_key is not None
        self._circuits: dict[str, Circuit] = {}
        self._gates: dict[str, TokenBucket] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._aside: dict[str, Aside] = {}
        self._held_by: dict[Worker, str] = {}  # the key of each that is set aside
        self._coming: dict[Worker, str] = {}  # and of each that was let in and has not started
        self._coming_of: Counter[str] = Counter()
        self._probing: set[Worker] = set()  # pass their circuit in any state
        self._tickets: dict[Worker, tuple[str, int]] = {}
        self._woken: set[str] = set()
        self._asked: tuple[Worker | None, str | None] = None, None
        self._is_closed = False

    @property
    def held(self) -> int:
        """How many workers are set aside for the circuit or the limit of their key."""
        return len(self._held_by)

    def limit(self, key: str = WHOLE_RUN) -> RateLimit | None:
        """Return the limit of `key`, or of the run."""
        return self._limits.get(key, self.rate_per_key)

    def ask(self, worker: Worker) -> Answer:
        """Say whether the worker may start an attempt now. If so it counts for its limits and its circuit."""
        key = self._known_key(worker) if self._has_keys else None
        if key is not None and not self._may_pass(worker, key):
            self._set_aside(worker, key)
            return Answer.IS_SET_ASIDE
        if self.holds_line():
            return Answer.HOLDS_THE_LINE
        gate = self._gates.get(WHOLE_RUN)
        if gate is not None:
            gate.take(self._report.loop.time())
        if key is not None:
            self._enter(worker, key)
        self.dismiss(worker)
        return Answer.STARTS

    def holds_line(self) -> bool:
        """Return whether the limit of the run lets nobody start now. If so the places are filled when it does."""
        gate = self._gate(WHOLE_RUN)
        if gate is None or gate.is_free(self._report.loop.time()):
            return False
        self._time(WHOLE_RUN, gate)
        return True

    def dismiss(self, worker: Worker) -> None:
        """Forget a worker that waits no longer, because it goes on or was stopped."""
        self._probing.discard(worker)
        key = self._held_by.pop(worker, None)
        if key is not None:
            self._aside[key].remove(worker)
        key = self._coming.pop(worker, None)
        if key is not None:
            self._coming_of[key] -= 1
            self._wake(key)

    def held_by(self, worker: Worker) -> str:
        """Return what a worker that is set aside waits for, `circuit` or `rate`; nothing for any other."""
        key = self._held_by.get(worker)
        return "" if key is None else self._reason(worker, key)

    def is_held(self, worker: Worker) -> bool:
        """Return whether the worker is parked for its key: admission itself will release it."""
        return worker in self._held_by

    def hurry(self, worker: Worker) -> None:
        """Let the worker pass its circuit in any state, as a probe."""
        if self._policy is not None:
            self._probing.add(worker)

    def put_first(self, worker: Worker) -> None:
        """Let a worker that is set aside be the next of its key; it still waits for its turn."""
        self._aside[self._held_by[worker]].put_first(worker)

    def attempt_ended(self, worker: Worker, *, error_class: ErrorClass | None = None, is_stopped: bool = False) -> None:
        """Tell its circuit how an attempt ended: well, in an error, or by being stopped."""
        key, ticket = self._tickets.pop(worker, (WHOLE_RUN, 0))
        circuit = self._circuits.get(key)
        if circuit is None:
            return
        before, probes = circuit.state, circuit.probes_under_way
        is_failure = None if is_stopped else error_class not in {None, ErrorClass.PERMANENT}
        circuit.leave(ticket, is_failure=is_failure, now=self._report.now())
        self._follow(key, circuit, before)
        if circuit.state is before and circuit.probes_under_way != probes:
            self._report.circuit_probed(key, circuit)
            self._wake(key)

    def change_limit(self, key: str, limit: RateLimit | None) -> None:
        """Keep another limit for `key`, or for the run, from now on; None for no limit.

        A key that is given what all keys have follows them again.
        """
        if key != WHOLE_RUN and str(limit) == str(self.rate_per_key):
            self._limits.pop(key, None)
        else:
            self._limits[key] = limit
        self._has_keys = self._has_keys or key != WHOLE_RUN
        self._keep_limit(key, limit)

    def change_rate_per_key(self, limit: RateLimit | None) -> None:
        """Keep another limit for each key that has none of its own from now on; None for no limit."""
        self.rate_per_key = limit
        self._has_keys = True
        for key in dict.fromkeys((*self._gates, *self._aside)):
            if key not in self._limits:
                self._keep_limit(key, limit)

    def _keep_limit(self, key: str, limit: RateLimit | None) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        gate = self._gates.get(key)
        if limit is None:
            self._gates.pop(key, None)
        elif gate is not None:
            gate.change(limit, self._report.loop.time())
        if key == WHOLE_RUN:
            self._let_in(())
        else:
            self._wake(key)

    def control(self, key: str, action: Callable[[Circuit], None]) -> str:
        """Isolate, close or probe the circuit of `key`; return why that is not possible, or an empty text.

        A circuit that no attempt has asked for yet can be isolated in advance.
        """
        if self._policy is None:
            return "this run has no circuits"
        if key not in self._circuits and action is not Circuit.isolate:
            return "there is no such circuit"
        circuit = self._circuit(key, self._policy)
        before = circuit.state
        action(circuit)
        self._follow(key, circuit, before)
        return ""

    def close(self) -> None:
        """Tell of nothing any more: the run is over."""
        self._is_closed = True
        for timer in self._timers.values():
            timer.cancel()

    def _known_key(self, worker: Worker) -> str | None:
        """Return `_key_of` the worker, without making it anew for one that has to ask again."""
        key = self._coming.get(worker)
        if key is None:
            if self._asked[0] is not worker:
                self._asked = worker, self._key_of(worker)
            key = self._asked[1]
        return key

    def _key_of(self, worker: Worker) -> str | None:
        """Return what the worker's circuit and limit are kept by, None for neither."""
        spec = worker.spec
        try:
            key = spec.key if spec.key is not None else getattr(spec.target, "key_of", None)
            if callable(key):
                key = key(*worker.args)
            return str(key) if key else None
        except Exception:
            text = "the key of a worker could not be made"
            log_safely(logger, logging.ERROR, text, worker=worker.name, has_traceback=True)
            return None

    def _circuit(self, key: str, policy: CircuitPolicy) -> Circuit:
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = self._circuits[key] = Circuit(policy)
            self._report.circuit_changed(key, circuit)
        return circuit

    def _gate(self, key: str) -> TokenBucket | None:
        gate = self._gates.get(key)
        if gate is None and (limit := self.limit(key)) is not None:
            gate = self._gates[key] = TokenBucket(limit, self._report.loop.time())
        return gate

    def _may_pass(self, worker: Worker, key: str) -> bool:
        """Return whether neither the circuit nor the limit of its key, nor anybody who came before, holds it up."""
        is_probe = worker in self._probing
        if self._policy is not None:
            circuit = self._circuit(key, self._policy)
            before = circuit.state
            is_passable = circuit.is_passable(self._report.now())
            self._follow(key, circuit, before)
            if not is_passable and not is_probe:
                return False
        gate = self._gate(key)
        if gate is not None and not gate.is_free(self._report.loop.time()):
            return False
        aside = self._aside.get(key)
        return not aside or is_probe or worker in self._coming or not aside.is_ahead_of(worker)

    def _reason(self, worker: Worker, key: str) -> str:
        """Return what a worker that is set aside for `key` waits for."""
        return "rate" if worker in self._probing else self._common_reason(key)

    def _common_reason(self, key: str) -> str:
        circuit = self._circuits.get(key)
        return "rate" if circuit is None or circuit.state is CircuitState.CLOSED else "circuit"

    def _set_aside(self, worker: Worker, key: str) -> None:
        is_probe = worker in self._probing
        self.dismiss(worker)
        aside = self._aside.get(key)
        if aside is None:
            aside = self._aside[key] = Aside(self._common_reason(key))
        aside.add(worker)
        if is_probe:
            self._probing.add(worker)
            aside.put_first(worker)
        self._held_by[worker] = key
        self._tell_held(worker, key, self._reason(worker, key))
        self._wake(key)

    def _enter(self, worker: Worker, key: str) -> None:
        """Let the worker pass its limit and its circuit. One that passes an open circuit by hand is a probe."""
        gate = self._gate(key)
        if gate is not None:
            gate.take(self._report.loop.time())
        circuit = self._circuits.get(key)
        if circuit is None or circuit.state is CircuitState.ISOLATED:
            return
        if circuit.state is CircuitState.OPEN:
            circuit.probe()
            self._follow(key, circuit, CircuitState.OPEN)
        self._tickets[worker] = key, circuit.enter()
        if circuit.state is CircuitState.HALF_OPEN:
            self._report.circuit_probed(key, circuit)

    def _follow(self, key: str, circuit: Circuit, before: CircuitState) -> None:
        """Tell of the new state of a circuit, if it has one, and let those go on that may."""
        if circuit.state is before:
            return
        self._report.circuit_changed(key, circuit)
        if circuit.state is CircuitState.OPEN:
            wait = circuit.open_until - self._report.now()
            self._report.loop.call_later(wait, self._end_of_open, key, circuit.open_until)
        self._wake(key)

    def _end_of_open(self, key: str, open_until: float) -> None:
        circuit = self._circuits[key]
        if not self._is_closed and circuit.state is CircuitState.OPEN and circuit.open_until == open_until:
            circuit.probe()
            self._follow(key, circuit, CircuitState.OPEN)

    def _time(self, key: str, gate: TokenBucket) -> None:
        """Look again when the limit of `key` lets the next attempt pass."""
        if key not in self._timers:
            loop = self._report.loop
            self._timers[key] = loop.call_later(gate.wait(loop.time()), self._time_has_come, key)

    def _time_has_come(self, key: str) -> None:
        del self._timers[key]
        if key == WHOLE_RUN:
            self._let_in(())
        else:
            self._advance(key)

    def _wake(self, key: str) -> None:
        """Let those of `key` go on that may, in the loop's next turn: this one may be filling the places."""
        if self._aside.get(key) and key not in self._woken:
            self._woken.add(key)
            self._report.loop.call_soon(self._advance, key)

    def _advance(self, key: str) -> None:
        """Let those of `key` go on that may, and tell the others if they wait for something else now."""
        self._woken.discard(key)
        aside = self._aside.get(key)
        if not aside or self._is_closed:
            return
        circuit, gate = self._circuits.get(key), self._gate(key)
        released: list[Worker] = []
        for worker in aside:
            coming = self._coming_of[key] + len(released)
            if circuit is not None and worker not in self._probing and not circuit.has_room(coming):
                break
            if gate is not None and not gate.is_free(self._report.loop.time(), coming):
                break
            released.append(worker)
        for worker in released:
            aside.remove(worker)
            del self._held_by[worker]
            self._coming[worker] = key
        self._coming_of[key] += len(released)
        if aside and gate is not None and not gate.is_free(self._report.loop.time()):
            self._time(key, gate)
        reason = self._common_reason(key)
        try:
            if aside.reason != reason:
                aside.reason = reason
                for worker in aside:
                    self._tell_held(worker, key, self._reason(worker, key))
        finally:
            if released:
                self._let_in(released)


class Aside:
    """Those who wait for one key: first those that have begun, each in the order in which they came."""

    __slots__ = ("_begun", "_new", "reason")

    def __init__(self, reason: str) -> None:
        self.reason = reason
        """What they wait for: `circuit` or `rate`."""
        self._begun: OrderedDict[Worker, None] = OrderedDict()
        self._new: OrderedDict[Worker, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._begun) + len(self._new)

    def __iter__(self) -> Iterator[Worker]:
        yield from self._begun
        yield from self._new

    def add(self, worker: Worker) -> None:
        """Put a worker behind those of its kind."""
        (self._begun if worker.attempt else self._new)[worker] = None

    def put_first(self, worker: Worker) -> None:
        """Put a worker, which may stand there already, before all others."""
        self.remove(worker)
        self._begun[worker] = None
        self._begun.move_to_end(worker, last=False)

    def remove(self, worker: Worker) -> None:
        """Take a worker out, if it is there."""
        self._begun.pop(worker, None)
        self._new.pop(worker, None)

    def is_ahead_of(self, worker: Worker) -> bool:
        """Return whether anybody stands before the place that the worker would get."""
        return bool(self._begun or (self._new and not worker.attempt))
