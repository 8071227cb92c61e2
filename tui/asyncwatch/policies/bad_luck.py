"""Bad luck: injected faults and latency, and the seeded draws of a run. Pure: no state, no global random.

A draw is a hash of (seed, purpose, worker, incarnation, attempt) under keyed BLAKE2b (RFC 7693). The same seed
therefore gives every worker the same luck, faults and jitter, whatever the concurrency, the runner and the timing.
"""

from __future__ import annotations

import bisect
import itertools
import random
from _blake2 import blake2b  # hashlib has the same function, and loads OpenSSL too: 4 ms before the first frame
from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec

from asyncwatch.policies.settings import Number, OrNone, Setting, SettingError, Span, check_settings

MAX_SEED: Final = 2**63 - 1
THRESHOLD_RULE: Final = Number(0, 1)
_STEPS = 1_000_000
_COPIES_KEPT = 64
_from_bytes = int.from_bytes


def draw_seed() -> int:
    """Return a random seed that is short enough to type: five or six digits."""
    return random.SystemRandom().randrange(10_000, 1_000_000)


def disconnected() -> Exception:
    """Return the fault of a connection that was closed."""
    return ConnectionResetError("bad luck")


def timed_out() -> Exception:
    """Return the fault of an answer that did not come."""
    return TimeoutError("bad luck")


def broken() -> Exception:
    """Return the fault of a program."""
    return RuntimeError("bad luck")


class BadLuck(msgspec.Struct, frozen=True, kw_only=True):
    """When a fault is injected instead of calling the target, and which; and how much latency is added before the call.

    Bad luck is innermost, so the attempt's time-out, the retries and the circuit apply to injected faults and latency.

    Raises:
        SettingError: a ValueError; a setting is out of its range, there are no faults, or the weights do not fit them.

    """

    threshold: Annotated[
        float, Setting("A draw in [0, 1) above it injects a fault instead of the call. 1 injects none.", THRESHOLD_RULE)
    ] = 1.0
    faults: tuple[Callable[[], Exception], ...] = (disconnected, timed_out, broken)
    """A second draw chooses one of these. The error it returns is raised."""
    weights: tuple[float, ...] | None = None
    """How often each fault is chosen, relative to the others. None: equally often."""
    latency: Annotated[
        tuple[float, float] | None,
        Setting(
            'Delay before every call: "1s", or drawn between two as in ["10ms", "2s"].',
            OrNone(Span(), "no delay"),
        ),
    ] = None
    """The least and the most seconds."""

    def __post_init__(self) -> None:
        check_settings(self)
        if not self.faults:
            raise SettingError("faults must name at least one fault", ("faults",))
        if self.weights is not None:
            _check_weights(self.weights, len(self.faults))

    def fault(self, choice: float) -> Exception:
        """Return the error that a draw in [0, 1) chooses."""
        if self.weights is None:
            return self.faults[int(choice * len(self.faults))]()
        bounds = list(itertools.accumulate(self.weights))
        # A draw that rounds up to the very end chooses the last fault with a weight.
        last = max(index for index, weight in enumerate(self.weights) if weight)
        return self.faults[min(last, bisect.bisect_right(bounds, choice * bounds[-1]))]()

    def added_latency(self, draw: float) -> float:
        """Return the seconds that a draw in [0, 1) adds, in whole microseconds."""
        if self.latency is None:
            return 0.0
        least, most = self.latency
        return round(least + draw * (most - least), 6)


def _check_weights(weights: tuple[float, ...], faults: int) -> None:
    if len(weights) != faults:
        raise SettingError(f"there are {len(weights)} weights for {faults} faults", ("weights", "faults"))
    if not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise SettingError(f"weights must be 0 or more, and one of them above 0, not {weights}", ("weights",))


class Luck:
    """The draws of one run.

    Raises:
        ValueError: `seed` is negative or above `MAX_SEED`.

    """

    __slots__ = ("_copies", "_keyed", "seed")

    def __init__(self, seed: int) -> None:
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seed must be between 0 and {MAX_SEED}, not {seed}")
        self.seed = seed
        self._keyed = blake2b(digest_size=8, key=seed.to_bytes(8, "big"))
        self._copies: dict[tuple[str, int, int], Callable[[], Any]] = {}

    def draw(self, purpose: str, worker: str, incarnation: int, attempt: int) -> float:
        """Return a number in [0, 1), a whole number of millionths, the same for the same arguments."""
        copy = self._copies.get((purpose, incarnation, attempt)) or self._copy_after(purpose, incarnation, attempt)
        keyed = copy()
        try:
            keyed.update(worker.encode())
        except UnicodeEncodeError:  # a lone surrogate: rare, and the error handler would slow down every draw
            keyed.update(worker.encode("utf-8", "surrogatepass"))
        return (_from_bytes(keyed.digest(), "big") * _STEPS >> 64) / _STEPS

    def _copy_after(self, purpose: str, incarnation: int, attempt: int) -> Callable[[], Any]:
        """Return what copies the hash of all but the worker's name: the draws of most workers have that in common."""
        begun = self._keyed.copy()
        begun.update(f"{purpose}\0{incarnation}\0{attempt}\0".encode())
        if len(self._copies) < _COPIES_KEPT:
            self._copies[purpose, incarnation, attempt] = begun.copy
        return begun.copy
