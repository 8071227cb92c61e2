"""When a batch is not worth going on with: after so many failures it halts. Pure."""

from __future__ import annotations

import math
from typing import Final, Literal

import msgspec

from asyncwatch.text import parse_failures

HaltMode = Literal["soon", "now"]
HALT_MODES: Final = ("soon", "now")


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """After how many failures a batch halts, and how.

    Workers that failed, were exhausted, or did not end when their time was over count; those that somebody asked to
    stop do not.

    Raises:
        ValueError: neither a number nor a share is given or both are, one is out of its range, or an unknown mode.

    """

    failures: int | None = None
    """That many, at least 1."""
    share: float | None = None
    """That share of all workers, above 0 and up to 1."""
    mode: HaltMode = "soon"
    """`soon`: attempts that run are finished, and no other starts, be it a first one or a retry. `now`: everything is
    cancelled."""

    def __post_init__(self) -> None:
        if (self.failures is None) == (self.share is None):
            raise ValueError("a halt needs a number of failures or a share of the workers, and not both")
        if self.failures is not None and self.failures < 1:
            raise ValueError(f"a batch halts after 1 failure or more, not {self.failures}")
        if self.share is not None and not 0 < self.share <= 1:
            raise ValueError(f"a batch halts after a share above 0 and up to 1, not {self.share}")
        if self.mode not in HALT_MODES:
            raise ValueError(f"mode must be one of {', '.join(HALT_MODES)}, not {self.mode!r}")

    def limit(self, workers: int) -> int:
        """Return the number of failures at which a batch of so many workers halts."""
        if self.failures is not None:
            return self.failures
        assert self.share is not None  # noqa: S101  one of the two is given
        # The tiny part keeps 5 % of 100 from being 6 because 0.05 is no binary fraction.
        return max(1, math.ceil(self.share * workers - 1e-9))


def parse_halt(text: str, mode: HaltMode = "soon") -> Halt:
    """Return what `10`, `5%` or `first` asks for.

    Raises:
        ValueError: the text is none of these, or out of range.

    """
    failures, share = parse_failures(text)
    return Halt(failures=failures, share=share, mode=mode)
