"""Halt: after how many failures a batch stops. Pure."""

from __future__ import annotations

import math
from typing import Annotated, Final, Literal, get_args

import msgspec

from asyncwatch.policies.settings import (
    Choice,
    Number,
    Setting,
    SettingError,
    Whole,
    check_settings,
    check_value,
)
from asyncwatch.text import parse_failures

HaltMode = Literal["soon", "now"]
HaltModeSetting = Annotated[
    HaltMode,
    Setting(
        "With soon, running attempts finish and no other starts, not even a retry. With now, everything is cancelled.",
        Choice(get_args(HaltMode)),
    ),
]
DEFAULT_HALT_MODE: Final = "soon"


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """After how many failures a batch halts, and how. Exactly one of `failures` and `share` is given.

    Workers count that failed, were exhausted, or did not end when their time was over. Workers that a person stopped do
    not.

    Raises:
        SettingError: a ValueError; a setting is out of its range, or both or neither of the limits are given.

    """

    failures: int | None = None
    share: float | None = None
    """Of all workers, up to 1."""
    mode: HaltModeSetting = DEFAULT_HALT_MODE

    def __post_init__(self) -> None:
        check_settings(self)
        if self.failures is not None:
            check_value("failures", self.failures, Whole(1))
        if self.share is not None:
            check_value("share", self.share, Number(0, 1, is_open=True))
        if (self.failures is None) == (self.share is None):
            raise SettingError("a halt needs a number of failures or a share of the workers, and not both")

    def limit(self, workers: int) -> int:
        """Return the number of failures at which a batch of that many workers halts."""
        if self.failures is not None:
            return self.failures
        assert self.share is not None  # noqa: S101  one of the two is given
        # The tiny part keeps 5 % of 100 from being 6: 0.05 is no binary fraction.
        return max(1, math.ceil(self.share * workers - 1e-9))


def parse_halt(text: str, mode: HaltMode = DEFAULT_HALT_MODE) -> Halt:
    """Return the halt that `10`, `5%` or `first` means.

    Raises:
        ValueError: the text is none of these, or out of range.

    """
    failures, share = parse_failures(text)
    return Halt(failures=failures, share=share, mode=mode)
