"""Admission: which ready workers may start an attempt now, by the circuits and rate limits of the run.

The worker at the head of the ready queue needs admission before it gets a slot. If the circuit or the limit of its key
refuses it, it is parked with other workers of that key, so that it holds up no other key. It is released when it may
go on, and then asks again. The limit of the whole run holds up the ready queue as a whole.
"""

from __future__ import annotations

import asyncio
import enum
import logging
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator

from asyncwatch.engine.capture import log_safely
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.worker import Worker
from asyncwatch.policies.circuit import Circuit, CircuitPolicy, CircuitState
from asyncwatch.policies.classify import ErrorClass
from asyncwatch.policies.rate import RateLimit, TokenBucket

logger = logging.getLogger("asyncwatch.worker")

WHOLE_RUN = ""
"""Stands for the run in place of a key."""
KEYS_KEPT = 1_000
"""Up to this many keys, none is dropped."""


class Answer(enum.Enum):
    """The answer to a worker that needs admission."""

    STARTS = enum.auto()
    PARKED = enum.auto()
    """It waits for its key, and is released later."""
    GONE = enum.auto()
    """Its own key function has stopped or restarted it."""
    QUEUE_WAITS = enum.auto()
    """It and all behind it wait for the limit of the run."""


class Admission:
    """The circuits and limits of one run. All methods belong to the thread of its loop, after the run has started.

    Args:
        reporter: reports circuits that change.
        release: puts workers that may go on into the ready queue, in order, and fills the slots; without workers it
            only fills them.
        report_parked: reports for which key and reason a worker waits, unless it was reported last.
        circuit: of every key; None for no circuits.
        rate: of all attempts of the run together; None for no limit.
        rate_per_key: of the attempts of each key that has none of its own; None for no limit.

    """

    def __init__(
        self,
        reporter: Reporter,
        release: Callable[[Iterable[Worker]], None],
        report_parked: Callable[[Worker, str, str], None],
        *,
        circuit: CircuitPolicy | None = None,
        rate: RateLimit | None = None,
        rate_per_key: RateLimit | None = None,
    ) -> None:
        self._reporter = reporter
        self._release = release
        self._report_parked = report_parked
        self._policy = circuit
        self._limits: dict[str, RateLimit | None] = {WHOLE_RUN: rate}
        self.rate_per_key = rate_per_key
        self._has_keys = circuit is not None or rate_per_key is not None
        self._keys: OrderedDict[str, None] = OrderedDict()  # all that have a circuit or a bucket
        self._circuits: dict[str, Circuit] = {}
        self._buckets: dict[str, TokenBucket] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._parked: dict[str, ParkedWorkers] = {}
        self._held_by: dict[Worker, str] = {}  # the key of each parked worker
        self._coming: dict[Worker, str] = {}  # the key of each that was released and has not started
        self._coming_of: Counter[str] = Counter()
        self._probing: set[Worker] = set()  # they pass their circuit in any state
        self._tickets: dict[Worker, tuple[str, int]] = {}
        self._woken: set[str] = set()
        self._asked: tuple[Worker | None, str | None] = None, None
        self._is_closed = False
        self.is_gated = self._has_keys or rate is not None
        """Whether attempts need admission at all."""

    @property
    def held(self) -> int:
        """How many workers are parked."""
        return len(self._held_by)

    def limit(self, key: str = WHOLE_RUN) -> RateLimit | None:
        """Return the limit of `key`, or of the run."""
        return self._limits.get(key, self.rate_per_key)

    def ask(self, worker: Worker) -> Answer:
        """Return whether the worker may start an attempt now. If so, it counts for its limits and its circuit."""
        key, incarnation = None, worker.incarnation
        if self._has_keys:
            key = self._known_key(worker)
            if not worker.is_ready or worker.incarnation != incarnation:
                return Answer.GONE
        if key is not None and not self._may_pass(worker, key):
            self._park(worker, key)
            return Answer.PARKED
        if self.holds_queue():
            return Answer.QUEUE_WAITS
        bucket = self._buckets.get(WHOLE_RUN)
        if bucket is not None:
            bucket.take(self._reporter.loop.time())
        if key is not None:
            self._enter(worker, key)
        self.forget(worker)
        return Answer.STARTS

    def holds_queue(self) -> bool:
        """Return whether the limit of the run lets no attempt start now. If so, the slots are filled when it does."""
        bucket = self._bucket(WHOLE_RUN)
        if bucket is None or bucket.is_free(self._reporter.loop.time()):
            return False
        self._time(WHOLE_RUN, bucket)
        return True

    def forget(self, worker: Worker) -> None:
        """Forget a worker that no longer waits, because it goes on or was stopped."""
        self._probing.discard(worker)
        key = self._held_by.pop(worker, None)
        if key is not None:
            self._parked[key].remove(worker)
        key = self._coming.pop(worker, None)
        if key is not None:
            self._coming_of[key] -= 1
            if not self._coming_of[key]:
                del self._coming_of[key]
            self._wake(key)

    def held_by(self, worker: Worker) -> str:
        """Return what a parked worker waits for, `circuit` or `rate`; an empty text for any other."""
        key = self._held_by.get(worker)
        return "" if key is None else self._reason(worker, key)

    def is_parked(self, worker: Worker) -> bool:
        """Return whether the worker is parked for its key: admission itself will release it."""
        return worker in self._held_by

    def hurry(self, worker: Worker) -> None:
        """Let the worker pass its circuit in any state, as a probe."""
        if self._policy is not None:
            self._probing.add(worker)

    def put_first(self, worker: Worker) -> None:
        """Move a parked worker before all others of its key."""
        self._parked[self._held_by[worker]].put_first(worker)

    def attempt_ended(self, worker: Worker, *, error_class: ErrorClass | None = None, is_stopped: bool = False) -> None:
        """Count for its circuit how an attempt ended: well, in an error, or by being stopped."""
        key, ticket = self._tickets.pop(worker, (WHOLE_RUN, 0))
        circuit = self._circuits.get(key)
        if circuit is None:
            return
        before, probes = circuit.state, circuit.probes_under_way
        is_failure = None if is_stopped else error_class not in {None, ErrorClass.PERMANENT}
        circuit.leave(ticket, is_failure=is_failure, now=self._reporter.now())
        self._follow(key, circuit, before)
        if circuit.state is before and circuit.probes_under_way != probes:
            self._reporter.circuit_probed(key, circuit)
            self._wake(key)

    def change_limit(self, key: str, limit: RateLimit | None) -> None:
        """Set the limit of `key`, or of the run; None for no limit.

        A key whose limit is set to that of all keys follows them again.
        """
        if key != WHOLE_RUN and str(limit) == str(self.rate_per_key):
            self._limits.pop(key, None)
        else:
            self._limits[key] = limit
        self._has_keys = self._has_keys or key != WHOLE_RUN
        self.is_gated = True
        self._keep_limit(key, limit)

    def change_rate_per_key(self, limit: RateLimit | None) -> None:
        """Set the limit of every key that has none of its own; None for no limit."""
        self.rate_per_key = limit
        self._has_keys = self.is_gated = True
        for key in dict.fromkeys((*self._buckets, *self._parked)):
            if key not in self._limits:
                self._keep_limit(key, limit)

    def _keep_limit(self, key: str, limit: RateLimit | None) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        bucket = self._buckets.get(key)
        if limit is None:
            self._buckets.pop(key, None)
        elif bucket is not None:
            bucket.change(limit, self._reporter.loop.time())
        if key == WHOLE_RUN:
            self._release(())
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
        """Stop all timers: the run is over."""
        self._is_closed = True
        for timer in self._timers.values():
            timer.cancel()

    def problems(self) -> Iterator[str]:
        """Yield what is inconsistent; nothing if all is well."""
        for worker, key in self._held_by.items():
            if worker not in self._parked.get(key, ()):
                yield f"{worker} is parked for {key!r}, and not in its queue"
            if worker.is_ready or worker.task is not None:
                yield f"{worker} is parked, and ready or running"
        if sum(map(len, self._parked.values())) != len(self._held_by):
            yield "a queue of parked workers holds one that is not parked"
        if +self._coming_of != Counter(self._coming.values()):
            yield f"released workers are counted wrongly: {self._coming_of}"
        if unlisted := {*self._circuits, *self._buckets, *self._parked} - {*self._keys, WHOLE_RUN}:
            yield f"keys are never dropped: {unlisted}"

    def _known_key(self, worker: Worker) -> str | None:
        """Return the worker's key; one that asks again has it made once."""
        key = self._coming.get(worker)
        if key is None:
            if self._asked[0] is not worker:
                self._asked = worker, self._key_of(worker)
            key = self._asked[1]
        return key

    def _key_of(self, worker: Worker) -> str | None:
        """Return the key of the worker's circuit and limit; None for neither."""
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
            self._add_key(key)
            circuit = self._circuits[key] = Circuit(policy)
            self._reporter.circuit_changed(key, circuit)
        return circuit

    def _bucket(self, key: str) -> TokenBucket | None:
        bucket = self._buckets.get(key)
        if bucket is None and (limit := self.limit(key)) is not None:
            self._add_key(key)
            bucket = self._buckets[key] = TokenBucket(limit, self._reporter.loop.time())
        return bucket

    def _add_key(self, key: str) -> None:
        """Add a key, and drop up to two keys that are idle.

        Looking at two for each new one keeps at most about twice as many keys as are in use, without a pause.
        """
        if key == WHOLE_RUN or key in self._keys:
            return
        now, clock_now = self._reporter.now(), self._reporter.loop.time()
        for _ in range(2):
            if len(self._keys) < KEYS_KEPT:
                break
            oldest = next(iter(self._keys))
            if self._is_idle(oldest, now, clock_now):
                self._drop_key(oldest)
            else:
                self._keys.move_to_end(oldest)
        self._keys[key] = None

    def _drop_key(self, key: str) -> None:
        """Forget a key that is idle. To its next attempt its circuit is closed, which is reported."""
        circuit = self._circuits.get(key)
        for by_key in (self._keys, self._circuits, self._buckets, self._parked):
            by_key.pop(key, None)
        if circuit is not None and circuit.state is not CircuitState.CLOSED:
            circuit.close()
            self._reporter.circuit_changed(key, circuit)

    def _is_idle(self, key: str, now: float, clock_now: float) -> bool:
        """Return whether the key has nothing to remember for its next attempt."""
        circuit, bucket = self._circuits.get(key), self._buckets.get(key)
        return (
            (circuit is None or circuit.is_idle(now))
            and (bucket is None or bucket.is_full(clock_now))
            and not self._parked.get(key)
            and key not in self._limits
            and key not in self._timers
            and key not in self._woken
            and key not in self._coming_of
        )

    def _may_pass(self, worker: Worker, key: str) -> bool:
        """Return whether no circuit, no limit and no earlier worker of its key holds it up."""
        is_probe = worker in self._probing
        if self._policy is not None:
            circuit = self._circuit(key, self._policy)
            before = circuit.state
            is_passable = circuit.is_passable(self._reporter.now())
            self._follow(key, circuit, before)
            if not is_passable and not is_probe:
                return False
        bucket = self._bucket(key)
        if bucket is not None and not bucket.is_free(self._reporter.loop.time()):
            return False
        parked = self._parked.get(key)
        return not parked or is_probe or worker in self._coming or not parked.is_ahead_of(worker)

    def _reason(self, worker: Worker, key: str) -> str:
        """Return what a worker parked for `key` waits for."""
        return "rate" if worker in self._probing else self._common_reason(key)

    def _common_reason(self, key: str) -> str:
        circuit = self._circuits.get(key)
        return "rate" if circuit is None or circuit.state is CircuitState.CLOSED else "circuit"

    def _park(self, worker: Worker, key: str) -> None:
        is_probe = worker in self._probing
        self.forget(worker)
        parked = self._parked.get(key)
        if parked is None:
            parked = self._parked[key] = ParkedWorkers(self._common_reason(key))
        parked.add(worker)
        if is_probe:
            self._probing.add(worker)
            parked.put_first(worker)
        self._held_by[worker] = key
        self._report_parked(worker, key, self._reason(worker, key))
        self._wake(key)

    def _enter(self, worker: Worker, key: str) -> None:
        """Count the worker for its limit and its circuit. One that passes an open circuit by hand is a probe."""
        bucket = self._bucket(key)
        if bucket is not None:
            bucket.take(self._reporter.loop.time())
        circuit = self._circuits.get(key)
        if circuit is None or circuit.state is CircuitState.ISOLATED:
            return
        if circuit.state is CircuitState.OPEN:
            circuit.probe()
            self._follow(key, circuit, CircuitState.OPEN)
        self._tickets[worker] = key, circuit.enter()
        if circuit.state is CircuitState.HALF_OPEN:
            self._reporter.circuit_probed(key, circuit)

    def _follow(self, key: str, circuit: Circuit, before: CircuitState) -> None:
        """Report the new state of a circuit, if it has one, and release the workers that may go on."""
        if circuit.state is before:
            return
        self._reporter.circuit_changed(key, circuit)
        if circuit.state is CircuitState.OPEN:
            wait = circuit.open_until - self._reporter.now()
            self._reporter.loop.call_later(wait, self._end_of_open, key, circuit.open_until)
        self._wake(key)

    def _end_of_open(self, key: str, open_until: float) -> None:
        circuit = self._circuits.get(key)
        if self._is_closed or circuit is None:
            return
        if circuit.state is CircuitState.OPEN and circuit.open_until == open_until:
            circuit.probe()
            self._follow(key, circuit, CircuitState.OPEN)

    def _time(self, key: str, bucket: TokenBucket) -> None:
        """Look again when the limit of `key` admits the next attempt."""
        if key not in self._timers:
            loop = self._reporter.loop
            self._timers[key] = loop.call_later(bucket.wait(loop.time()), self._time_has_come, key)

    def _time_has_come(self, key: str) -> None:
        del self._timers[key]
        if key == WHOLE_RUN:
            self._release(())
        else:
            self._advance(key)

    def _wake(self, key: str) -> None:
        """Release workers of `key` in the next loop iteration: this one may be filling slots."""
        if self._parked.get(key) and key not in self._woken:
            self._woken.add(key)
            self._reporter.loop.call_soon(self._advance, key)

    def _advance(self, key: str) -> None:
        """Release the workers of `key` that may go on; report if the others wait for something else now."""
        self._woken.discard(key)
        parked = self._parked.get(key)
        if not parked or self._is_closed:
            return
        circuit, bucket = self._circuits.get(key), self._bucket(key)
        released: list[Worker] = []
        for worker in parked:
            coming = self._coming_of[key] + len(released)
            if circuit is not None and worker not in self._probing and not circuit.has_room(coming):
                break
            if bucket is not None and not bucket.is_free(self._reporter.loop.time(), coming):
                break
            released.append(worker)
        for worker in released:
            parked.remove(worker)
            del self._held_by[worker]
            self._coming[worker] = key
        if released:
            self._coming_of[key] += len(released)
        if parked and bucket is not None and not bucket.is_free(self._reporter.loop.time()):
            self._time(key, bucket)
        reason = self._common_reason(key)
        try:
            if parked.reason != reason:
                parked.reason = reason
                for worker in parked:
                    self._report_parked(worker, key, self._reason(worker, key))
        finally:
            if released:
                self._release(released)


class ParkedWorkers:
    """FIFO of the workers that wait for one key: those that have begun before those that have not."""

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
        """Add a worker behind others of its kind."""
        (self._begun if worker.attempt else self._new)[worker] = None

    def put_first(self, worker: Worker) -> None:
        """Move or add a worker before all others."""
        self.remove(worker)
        self._begun[worker] = None
        self._begun.move_to_end(worker, last=False)

    def remove(self, worker: Worker) -> None:
        """Remove a worker, if it is there."""
        self._begun.pop(worker, None)
        self._new.pop(worker, None)

    def is_ahead_of(self, worker: Worker) -> bool:
        """Return whether any worker waits before the place that this one would get."""
        return bool(self._begun or (self._new and not worker.attempt))
