"""What holds attempts back: the settings of the run, with an undo; circuits, throttles and waiting workers. Pure."""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from asyncwatch.events import (
    CircuitClosed,
    CircuitEvent,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    CircuitProbed,
    KeyEvent,
    KeyLimitChanged,
    KeyReleased,
    KeyThrottled,
    RunStarted,
    SettingChanged,
    WorkerState,
)
from asyncwatch.model.rows import Row
from asyncwatch.policies.circuit import CircuitState
from asyncwatch.text import YEAR, count, crop, elapsed, mask_secrets, printable, short_rate

CHANGES_KEPT = 1_000
"""Changes that can be undone."""
CLOSED_KEPT = 1_000
"""Closed circuits kept that never opened. There may be a new key for every worker."""
OPENED_KEPT = 10_000
"""Closed circuits kept that have opened."""
QUEUE_REASONS = frozenset({"place", "rate", "paused"})
"""What workers in the ready queue wait for: reasons of `AttemptHeld` without a key."""
KEYS_KEPT = 1_000
"""Keys kept without waiting workers and not held by a person."""


class Settings:
    """Values of `events.SETTINGS` now and at the start. A setting is known by its name and key (empty for the run)."""

    def __init__(self) -> None:
        self.history: deque[SettingChanged] = deque(maxlen=CHANGES_KEPT)
        """The changes that can be undone, oldest first."""
        self.applied = 0
        """All changes so far."""
        self._values: dict[tuple[str, str], Any] = {}
        self._initial: dict[tuple[str, str], Any] = {}

    def started(self, event: RunStarted) -> None:
        """Fold the values at the start of the run."""
        values = {
            "concurrency": event.concurrency,
            "rate": event.rate,
            "rate per key": event.rate_per_key,
            "bad luck": event.bad_luck,
            "paused": event.paused,
        }
        self._initial = {(name, ""): value for name, value in values.items()}
        self._values = dict(self._initial)

    def changed_by(self, event: SettingChanged) -> None:
        """Fold one change."""
        self.applied += 1
        at = event.name, event.key
        self._initial.setdefault(at, event.previous)
        self._values[at] = self.meant(event, event.value)
        last = self.last
        # Resuming takes back the pause. An undo that pauses again would have no point.
        is_undo = event.is_undo or event.name == "paused"
        if is_undo and last is not None and (last.name, last.key, last.previous) == (*at, event.value):
            self.history.pop()
        else:
            self.history.append(event)

    def meant(self, event: SettingChanged, value: Any) -> Any:
        """Return what `value` stands for: a bad luck of None is each worker's own, as at the start."""
        is_own = event.name == "bad luck" and value is None
        return self._initial.get((event.name, event.key)) if is_own else value

    @property
    def last(self) -> SettingChanged | None:
        """The change to undo next."""
        return self.history[-1] if self.history else None

    def value(self, name: str, default: Any = None, key: str = "") -> Any:
        """Return the present value, `default` if it is not known."""
        return self._values.get((name, key), default)

    @property
    def is_paused(self) -> bool:
        """Whether new attempts are held back."""
        return self.value("paused") is True

    @property
    def changed(self) -> list[tuple[str, str, Any, Any]]:
        """Settings that differ from the start: (name, key, value, value at the start)."""
        return [(*at, value, self._initial[at]) for at, value in self._values.items() if value != self._initial[at]]


class KnownCircuit(msgspec.Struct, gc=False):
    """The circuit of one key. Times are in seconds since the run started."""

    key: str
    state: CircuitState = CircuitState.CLOSED
    since: float = 0.0
    """When it entered this state."""
    opened: int = 0
    """How often it has opened."""
    attempts: int = 0
    """Attempts that were counted when it last opened."""
    failures: int = 0
    """How many of these had failed."""
    open_until: float | None = None
    """When it will be half open; None unless it is open."""
    probes: int = 0
    """Attempts that may probe it; 0 unless it is half open."""
    probes_under_way: int = 0
    probes_free: int = 0
    """Probes that have not started."""


class Circuits:
    """The circuits of a run: all that are not closed, and the closed ones that changed last.

    Args:
        closed_kept: closed circuits kept that never opened.
        opened_kept: closed circuits kept that have opened.

    """

    def __init__(self, *, closed_kept: int = CLOSED_KEPT, opened_kept: int = OPENED_KEPT) -> None:
        self.by_key: dict[str, KnownCircuit] = {}
        self._closed: OrderedDict[str, None] = OrderedDict()  # never opened; the latest change last
        self._opened: OrderedDict[str, None] = OrderedDict()  # have opened, and closed again
        self._closed_kept = closed_kept
        self._opened_kept = opened_kept

    @property
    def not_closed(self) -> list[KnownCircuit]:
        """Circuits that hold back attempts."""
        return [circuit for circuit in self.by_key.values() if circuit.state is not CircuitState.CLOSED]

    def add(self, key: str) -> KnownCircuit:
        """Return the circuit of a key, a closed one if it is not known yet."""
        circuit = self.by_key.get(key)
        if circuit is None:
            circuit = KnownCircuit(key)
            self._keep(circuit)
        return circuit

    def _keep(self, circuit: KnownCircuit) -> None:
        """Keep a circuit that changed; drop the oldest closed one if there are too many."""
        if circuit.key in self.by_key:
            self._closed.pop(circuit.key, None)
            self._opened.pop(circuit.key, None)
        else:
            self.by_key[circuit.key] = circuit
        if circuit.state != CircuitState.CLOSED:
            return
        kept, most = (self._opened, self._opened_kept) if circuit.opened else (self._closed, self._closed_kept)
        kept[circuit.key] = None
        if len(kept) > most:
            del self.by_key[kept.popitem(last=False)[0]]

    def changed(self, event: CircuitEvent) -> None:
        """Fold one event."""
        circuit = self.by_key.get(event.key) or KnownCircuit(event.key)
        if isinstance(event, CircuitProbed):
            circuit.probes_under_way, circuit.probes_free = event.under_way, event.free
            return
        circuit.since = event.at
        circuit.open_until = None
        circuit.probes = circuit.probes_under_way = circuit.probes_free = 0
        match event:
            case CircuitOpened(attempts=attempts, failures=failures, seconds=seconds):
                circuit.state = CircuitState.OPEN
                circuit.opened += 1
                circuit.attempts, circuit.failures = attempts, failures
                circuit.open_until = event.at + seconds
            case CircuitHalfOpened(probes=probes):
                circuit.state = CircuitState.HALF_OPEN
                circuit.probes = circuit.probes_free = probes
            case CircuitIsolated():
                circuit.state = CircuitState.ISOLATED
            case CircuitClosed():
                circuit.state = CircuitState.CLOSED
        self._keep(circuit)


class KnownKey(msgspec.Struct, gc=False):
    """The throttle of one key. Times are in seconds since the run started."""

    key: str
    refused: int = 0
    """Attempts that were throttled."""
    is_held: bool = False
    """Whether it is held, or its probe has not succeeded yet."""
    held_until: float = -math.inf
    """When a probe may start; infinity if a person holds the key."""
    retry_after: float | None = None
    """What the other side asked for last, in seconds; None if it did not say."""
    limit: int | None = None
    """Attempts that may be in flight, as learned; None for no limit."""
    rate: float | None = None
    """Starts per second, as learned; None while unknown."""
    tolerated: float | None = None
    """Share of attempts that is refused at any rate; None while none is known."""
    in_flight: int = 0
    """Attempts in flight, as reported last."""
    reported: int = 0
    """Refused attempts by its events, which may lag behind by half a second."""
    last_report: int = 0
    """Refused attempts by the last event: the engine starts again at 0 if it has dropped an idle key."""
    parked: int = 0
    """Refused attempts that waited for the key."""

    @property
    def is_held_by_person(self) -> bool:
        """Whether a person holds the key."""
        return self.is_held and self.held_until == math.inf

    @property
    def is_limiting(self) -> bool:
        """Whether attempts are held back, or limits were learned that can hold them back."""
        return self.is_held or self.limit is not None or self.rate is not None


class Keys:
    """The keys of a run that were throttled, or for which workers had to wait.

    Args:
        kept: how many are kept for which no worker waits and that no person holds.

    """

    def __init__(self, *, kept: int = KEYS_KEPT) -> None:
        self.by_key: OrderedDict[str, KnownKey] = OrderedDict()
        """The latest change last."""
        self.refused = 0
        """Attempts that were throttled, of all keys, kept or not."""
        self.held_by_person: dict[str, KnownKey] = {}
        self._waiting: dict[str, dict[str, int]] = {}  # reason -> key -> workers
        self._totals: dict[str, int] = {}
        self._kept = kept

    def waiting(self, reason: str) -> Mapping[str, int]:
        """Return how many workers wait for each key, or for none, for this reason of `AttemptHeld`."""
        return self._waiting.get(reason, {})

    def total(self, reason: str) -> int:
        """Return how many workers wait for this reason."""
        return self._totals.get(reason, 0)

    def waiting_for(self, key: str) -> int:
        """Return how many workers wait for the key, for any reason."""
        return sum(keys.get(key, 0) for keys in self._waiting.values())

    def move(self, before: str, after: str) -> None:
        """Count a worker that waits for `after`, and for `before` no more. Both are as in `Row.held`.

        Workers in the ready queue are not counted.
        """
        if before and before not in QUEUE_REASONS:
            self._count(before, -1)
        if after and after not in QUEUE_REASONS:
            self._count(after, 1)

    def _count(self, held: str, number: int) -> None:
        reason, _, key = held.partition(" ")
        keys = self._waiting.setdefault(reason, {})
        self._totals[reason] = self._totals.get(reason, 0) + number
        left = keys.get(key, 0) + number
        if left:
            keys[key] = left
        else:
            del keys[key]
        if number > 0 and key:
            self._touch(key)

    def _touch(self, key: str) -> KnownKey:
        """Return what is known of the key, the latest from now on. Up to two that are not needed are dropped."""
        known = self.by_key.get(key)
        if known is not None:
            self.by_key.move_to_end(key)
            return known
        known = self.by_key[key] = KnownKey(key)
        for _ in range(2):
            if len(self.by_key) <= self._kept:
                break
            oldest, other = next(iter(self.by_key.items()))
            if other.is_held_by_person or self.waiting_for(oldest):
                self.by_key.move_to_end(oldest)
            else:
                del self.by_key[oldest]
        return known

    def changed(self, event: KeyEvent) -> None:
        """Fold one event."""
        known = self._touch(event.key)
        match event:
            case KeyThrottled(seconds=seconds, retry_after=retry_after, refused=refused):
                known.is_held = True
                known.held_until = math.inf if seconds is None else event.at + seconds
                known.retry_after = retry_after
                self._refused(known, refused)
            case KeyReleased():
                known.is_held = False
                known.held_until = -math.inf
            case KeyLimitChanged(limit=limit, rate=rate, in_flight=in_flight, refused=refused):
                known.limit, known.rate, known.in_flight = limit, rate, in_flight
                known.tolerated = event.tolerated
                self._refused(known, refused)

        if known.is_held_by_person:
            self.held_by_person[known.key] = known
        else:
            self.held_by_person.pop(known.key, None)

    def _refused(self, known: KnownKey, refused: int) -> None:
        known.reported += refused - known.last_report if refused >= known.last_report else refused
        known.last_report = refused
        self._count_refused(known)

    def parked(self, key: str) -> None:
        """Count a refused attempt that waits for the key."""
        known = self._touch(key)
        known.parked += 1
        self._count_refused(known)

    def _count_refused(self, known: KnownKey) -> None:
        refused = max(known.reported, known.parked)
        self.refused += refused - known.refused
        known.refused = refused


def waiting_by_key(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """Return the workers that wait for a key, by the key."""
    waiting: dict[str, list[Row]] = {}
    for row in rows:
        if row.state is WorkerState.WAITING:
            _, _, key = row.held.partition(" ")
            if key:
                waiting.setdefault(key, []).append(row)
    return waiting


# -- text

_HOLD_UPS = 2
"""Throttled keys that are named."""
_KEY_WIDTH = 40
_KEYS_COMPARED = 1_000
"""Throttled keys among which those with the most waiting workers are sought, each time."""


def hold_ups(keys: Keys, now: float) -> list[tuple[str, str]]:
    """Return what holds workers up at `now`, in seconds since the run started: the subject, and what is known of it.

    Together: `a.example: 7/s learned, 12 in flight, 340 wait`, `a.example asked for 2 s, 1 s left, 340 wait`.
    """
    waiting = keys.waiting("throttled")
    if len(waiting) > _KEYS_COMPARED:
        return [(f"{len(waiting):,} throttled keys", f": {keys.total('throttled'):,} wait")]
    most = sorted(dict.fromkeys((*waiting, *keys.held_by_person)), key=lambda key: -waiting.get(key, 0))
    found = []
    for key in most[:_HOLD_UPS]:
        number, known, subject = (
            waiting.get(key, 0),
            keys.by_key.get(key),
            crop(printable(mask_secrets(key)), _KEY_WIDTH),
        )
        facts = [f"{number:,} wait"] if number else []
        phrase = "" if known is None else hold_phrase(known, now)
        if known is not None and not known.is_held:
            facts = [*learned(known)[:1], f"{known.in_flight:,} in flight", *facts]
        subject, sign = (f"{subject} {phrase}", ", ") if phrase else (subject, ": ")
        found.append((subject, sign + ", ".join(facts) if facts else ""))
    if rest := most[_HOLD_UPS:]:
        number = sum(waiting.get(key, 0) for key in rest)
        found.append((count(len(rest), "more throttled key"), f": {number:,} wait"))
    return found


def hold_phrase(known: KnownKey, now: float, *, has_tenths: bool = False) -> str:
    """Return why no attempt of a key starts: `asked for 2 s, 1 s left`; an empty text if attempts do start."""
    if known.is_held_by_person:
        return "held by a person"
    if not known.is_held:
        return ""
    left = known.held_until - now
    if left <= 0:
        return "probed now"
    shown = f"{left:.1f} s" if has_tenths and left < 9.95 else _seconds(math.ceil(left))
    # A hold of our own may be longer than what was asked for.
    asked = known.retry_after if known.retry_after and known.retry_after > left - 1 else None
    return f"throttles, {shown} left" if asked is None else f"asked for {_seconds(asked)}, {shown} left"


def learned(known: KnownKey) -> list[str]:
    """Return what was learned of a key: `7/s learned`, `at most 12 at a time`, `refuses 20% at any rate`."""
    limit = "" if known.limit is None else f"at most {known.limit:,} at a time"
    rate, tolerated = learned_rates(known.rate, known.tolerated)
    return [*filter(None, (rate, limit, tolerated))]


def learned_rates(rate: float | None, tolerated: float | None) -> tuple[str, str]:
    """Return the texts of a learned rate, and of a share that is refused at any rate; empty for none."""
    text = "" if rate is None else f"{short_rate(rate)} learned"
    return text, f"refuses {tolerated:.0%} at any rate" if tolerated else ""


def _seconds(seconds: float) -> str:
    if seconds >= YEAR:
        return "over a year"
    return f"{seconds:.3g} s" if seconds < 60 else elapsed(seconds)
