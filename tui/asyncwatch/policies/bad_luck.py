"""Draws keyed by what they are for, so that scheduling never changes them. Pure: no state, no global random.

A draw is a hash of (seed, purpose, worker, incarnation, attempt) under BLAKE2b (RFC 7693). The same seed therefore
gives every worker the same luck, faults and jitter whatever the concurrency, the runner and the timing.
"""

from __future__ import annotations

import bisect
import itertools
import random
from collections.abc import Callable

import msgspec

MAX_SEED = 2**63 - 1
_STEPS = 1_000_000
_from_bytes = int.from_bytes


def draw_seed() -> int:
    """Return a fresh seed, short enough to be typed again: five or six digits."""
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
    """When a fault is injected instead of calling the target, and which; and how much later the target is called.

    It takes the innermost place, so that the attempt's timeout, the retries and the circuit meet what it does.

    Raises:
        ValueError: `threshold` outside [0, 1], no `faults`, weights that do not fit them, or a latency that is no
            range of seconds.

    """

    threshold: float = 1.0
    """A draw above it injects a fault. Draws are in [0, 1), so 1 injects none."""
    faults: tuple[Callable[[], Exception], ...] = (disconnected, timed_out, broken)
    """One of these is chosen, by another draw, and what it returns is raised."""
    weights: tuple[float, ...] | None = None
    """How often each fault is chosen, relative to the others. None: all as often."""
    latency: tuple[float, float] | None = None
    """The least and the most seconds that every attempt waits before the call or the fault, by a draw. None: none."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise ValueError(f"threshold must be between 0 and 1, not {self.threshold}")
        if not self.faults:
            raise ValueError("faults must name at least one fault")
        if self.weights is not None:
            _check_weights(self.weights, len(self.faults))
        if self.latency is not None:
            least, most = self.latency
            if not 0 <= least <= most < float("inf"):
                raise ValueError(f"latency must be a range of seconds, not {least} to {most}")

    def fault(self, choice: float) -> Exception:
        """Return the error that a draw in [0, 1) chooses."""
        if self.weights is None:
            return self.faults[int(choice * len(self.faults))]()
        bounds = list(itertools.accumulate(self.weights))
        # A draw that rounds up to the very end chooses the last fault that has a weight.
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
        raise ValueError(f"there are {len(weights)} weights for {faults} faults")
    if not all(0 <= weight < float("inf") for weight in weights) or not any(weights):
        raise ValueError(f"weights must be 0 or more, and one of them above 0, not {weights}")


class Luck:
    """The draws of one run.

    Raises:
        ValueError: `seed` is negative or above `MAX_SEED`.

    """

    __slots__ = ("_copy", "_copy_first", "seed")

    def __init__(self, seed: int) -> None:
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seed must be between 0 and {MAX_SEED}, not {seed}")
        # Not before the first picture: it takes 4 ms.
        from hashlib import blake2b  # noqa: PLC0415

        self.seed = seed
        keyed = blake2b(digest_size=8, key=seed.to_bytes(8, "big"))
        self._copy = keyed.copy
        first = keyed.copy()
        first.update(b"luck\0001\0001\0")
        self._copy_first = first.copy

    def draw(self, purpose: str, worker: str, incarnation: int, attempt: int) -> float:
        """Return a number in [0, 1), a whole number of millionths, the same for the same arguments."""
        if attempt == incarnation == 1 and purpose == "luck":  # nearly always
            keyed, key = self._copy_first(), worker
        else:
            keyed, key = self._copy(), f"{purpose}\0{incarnation}\0{attempt}\0{worker}"
        try:
            keyed.update(key.encode())
        except UnicodeEncodeError:  # half a character: rare, and the error handler would cost every draw
            keyed.update(key.encode("utf-8", "surrogatepass"))
        return (_from_bytes(keyed.digest(), "big") * _STEPS >> 64) / _STEPS
