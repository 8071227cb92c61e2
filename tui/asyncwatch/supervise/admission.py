"""Who may start an attempt: the circuits and the rate limits of a run, and those who wait for them.

A worker whose turn has come asks here before it takes a place. If it has to wait it holds no place, uses no attempt,
and comes back to the front of the line when it may go on; then everything is asked again.
"""

from __future__ import annotations

import itertools
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable

from asyncwatch.events import WorkerState
from asyncwatch.supervise.circuit import Circuit, CircuitPolicy, CircuitState
from asyncwatch.supervise.classify import ErrorClass
from asyncwatch.supervise.rate import Gate, RateLimit
from asyncwatch.supervise.report import Reporter
from asyncwatch.supervise.worker import Worker

logger = logging.getLogger("asyncwatch.worker")

WHOLE_RUN = ""
"""Stands for the run in place of a key."""
_Line = OrderedDict[Worker, None]


class Admission:
    """The circuits and limits of one run. All methods belong to the thread of its loop, after the run has started.

    Args:
        report: tells what happens.
        let_in: takes workers that may go on, in order.
        circuit: of every key; None for no circuits.
        rate: of all attempts of the run together; None for no limit.
        rate_per_key: of the attempts of each key; None for no limit.

    """

    def __init__(
        self,
        report: Reporter,
        let_in: Callable[[Iterable[Worker]], None],
        *,
        circuit: CircuitPolicy | None = None,
        rate: RateLimit | None = None,
        rate_per_key: RateLimit | None = None,
    ) -> None:
        self._report = report
        self._let_in = let_in
        self._policy = circuit
        self._limits: dict[str, RateLimit | None] = {WHOLE_RUN: rate}
        self._rate_per_key = rate_per_key
        self._has_keys = circuit is not None or rate_per_key is not None
        self._circuits: dict[str, Circuit] = {}
        self._gates: dict[str, Gate] = {}
        self._passed: dict[Worker, set[Gate]] = {}
        self._held: dict[str, _Line] = {}
        self._held_by: dict[Worker, tuple[str, str]] = {}
        self._released: _Line = OrderedDict()
        self._candidates: dict[Worker, str] = {}
        self._tickets: dict[Worker, tuple[str, int]] = {}
        self._hurried: dict[Worker, bool] = {}
        self._is_closed = False

    @property
    def held(self) -> int:
        """How many workers wait for a circuit or a limit."""
        return len(self._held_by)

    def limit(self, key: str = WHOLE_RUN) -> RateLimit | None:
        """Return the limit of `key`, or of the run."""
        return self._limits.get(key, self._rate_per_key)

    def admits(self, worker: Worker) -> bool:
        """Return whether the worker may take a place now. If not, it is held until it is let in."""
        key = self._key_of(worker) if self._has_keys else None
        circuit = None if key is None or self._policy is None else self._circuit(key, self._policy)
        is_probe = self._hurried.get(worker, False)
        if circuit is not None and key is not None:
            before = circuit.state
            is_passable = circuit.is_passable(self._report.now())
            self._follow(key, circuit, before)
            if not is_passable and not is_probe:
                self.dismiss(worker)
                self._held.setdefault(key, OrderedDict())[worker] = None
                self._tell_held(worker, key, "circuit")
                return False
        for place in (WHOLE_RUN,) if key is None else (key, WHOLE_RUN):
            if not self._passes(worker, place):
                return False
        self.dismiss(worker)
        if circuit is not None and key is not None:
            self._enter(worker, key, circuit)
        return True

    def dismiss(self, worker: Worker) -> None:
        """Forget a worker that waits no longer, because it goes on or was stopped."""
        for gate in self._passed.pop(worker, ()):
            gate.dismiss(worker)
        self._hurried.pop(worker, None)
        self._released.pop(worker, None)
        held = self._held_by.pop(worker, None)
        if held is not None and held[1] == "circuit":
            self._held[held[0]].pop(worker, None)
        key = self._candidates.pop(worker, None)
        if key is not None:
            self._report.loop.call_soon(self._release_probes, key)

    def hurry(self, worker: Worker, *, is_probe: bool) -> None:
        """Let the worker be the first to pass its limits, and its circuit in any state if it is to probe it."""
        self._hurried[worker] = is_probe

    def held_by(self, worker: Worker) -> str:
        """Return what holds the worker: a `circuit`, a `rate`, or nothing."""
        return self._held_by.get(worker, (WHOLE_RUN, ""))[1]

    def put_first(self, worker: Worker) -> None:
        """Let a worker that a limit holds be the next to pass it; it still waits for its turn."""
        key, _ = self._held_by[worker]
        self._gates[key].put_first(worker)

    def attempt_ended(self, worker: Worker, *, error_class: ErrorClass | None = None, is_stopped: bool = False) -> None:
        """Tell its circuit how an attempt ended: well, in an error, or by being stopped."""
        key, ticket = self._tickets.pop(worker, (WHOLE_RUN, 0))
        if key not in self._circuits:
            return
        circuit = self._circuits[key]
        before = circuit.state
        is_failure = None if is_stopped else error_class not in {None, ErrorClass.PERMANENT}
        circuit.leave(ticket, is_failure=is_failure, now=self._report.now())
        self._follow(key, circuit, before)
        self._release_probes(key)

    def change_limit(self, key: str, limit: RateLimit | None) -> None:
        """Keep another limit for `key`, or for the run, from now on; None for no limit."""
        self._limits[key] = limit
        self._has_keys = self._has_keys or key != WHOLE_RUN
        gate = self._gates.get(key)
        if gate is None:
            return
        if limit is not None:
            gate.change(limit)
            return
        del self._gates[key]
        self._release(gate.open())

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
        self._release_probes(key)
        return ""

    def close(self) -> None:
        """Tell of nothing any more: the run is over."""
        self._is_closed = True

    def _key_of(self, worker: Worker) -> str | None:
        """Return what the worker's circuit and limit are kept by, None for neither."""
        spec = worker.spec
        key = spec.key if spec.key is not None else getattr(spec.target, "key_of", None)
        if callable(key):
            try:
                key = key(*spec.args)
            except Exception:
                extra = {"asyncwatch_worker": worker.name}
                logger.exception("the key of a worker could not be made", extra=extra)
                return None
        return str(key) if key else None

    def _circuit(self, key: str, policy: CircuitPolicy) -> Circuit:
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = self._circuits[key] = Circuit(policy)
            self._report.circuit_changed(key, circuit)
        return circuit

    def _enter(self, worker: Worker, key: str, circuit: Circuit) -> None:
        """Let the worker pass its circuit. One that passes an open circuit by hand is its first probe."""
        if circuit.state is CircuitState.ISOLATED:
            return
        before = circuit.state
        if before is CircuitState.OPEN:
            circuit.probe()
        self._tickets[worker] = key, circuit.enter()
        self._follow(key, circuit, before)

    def _passes(self, worker: Worker, key: str) -> bool:
        """Return whether the worker has passed the limit of `key`; if not, put it in line there."""
        limit = self.limit(key)
        if limit is None:
            return True
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = Gate(limit, self._let_in_one, self._report.loop)
        passed = self._passed.get(worker)
        if passed is not None and gate in passed:
            return True
        is_free = gate.is_free()
        self._passed.setdefault(worker, set()).add(gate)
        gate.queue(worker, is_first=worker in self._hurried)
        if not is_free:
            self._tell_held(worker, key, "rate")
        return False

    def _let_in_one(self, worker: Worker) -> None:
        self._held_by.pop(worker, None)
        self._let_in((worker,))

    def _tell_held(self, worker: Worker, key: str, reason: str) -> None:
        self._held_by[worker] = key, reason
        worker.state = WorkerState.WAITING
        self._report.attempt_held(worker, key, reason)

    def _follow(self, key: str, circuit: Circuit, before: CircuitState) -> None:
        """Tell of the new state of a circuit, if it has one, and let those go on that may."""
        if circuit.state is before:
            return
        self._report.circuit_changed(key, circuit)
        match circuit.state:
            case CircuitState.OPEN:
                wait = circuit.open_until - self._report.now()
                self._report.loop.call_later(wait, self._end_of_open, key, circuit.open_until)
            case CircuitState.HALF_OPEN:
                self._release_probes(key)
            case CircuitState.CLOSED:
                self._release(list(self._held.get(key, ())))
            case CircuitState.ISOLATED:
                pass

    def _end_of_open(self, key: str, open_until: float) -> None:
        circuit = self._circuits[key]
        if not self._is_closed and circuit.state is CircuitState.OPEN and circuit.open_until == open_until:
            circuit.probe()
            self._follow(key, circuit, CircuitState.OPEN)

    def _release_probes(self, key: str) -> None:
        """Let as many of those that wait for a circuit go on as may probe it, if it is half open."""
        circuit = self._circuits[key]
        line = self._held.get(key)
        if not line or circuit.state is not CircuitState.HALF_OPEN:
            return
        coming = sum(candidate == key for candidate in self._candidates.values())
        probes = list(itertools.islice(line, max(0, circuit.free_probes - coming)))
        self._candidates.update(dict.fromkeys(probes, key))
        self._release(probes)

    def _release(self, workers: Iterable[Worker]) -> None:
        """Let workers go on, in the loop's next turn: this one may be counting the free places."""
        is_waiting = bool(self._released)
        for worker in workers:
            key, reason = self._held_by.pop(worker, (WHOLE_RUN, ""))
            if reason == "circuit":
                self._held[key].pop(worker, None)
            self._released[worker] = None
        if self._released and not is_waiting:
            self._report.loop.call_soon(self._let_in_released)

    def _let_in_released(self) -> None:
        released, self._released = list(self._released), OrderedDict()
        self._let_in(released)
