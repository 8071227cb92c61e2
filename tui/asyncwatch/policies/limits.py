"""Limits of a run: how many attempts are in flight, and how long a cancelled worker may take to end. Pure."""

from __future__ import annotations

from typing import Final

from asyncwatch.policies.settings import Duration, OrNone, Whole, check_value

DEFAULT_CONCURRENCY: Final = 100
CONCURRENCY_RULE: Final = Whole(1)
MAX_PER_KEY_RULE: Final = OrNone(Whole(1), "as many as stay free while other keys have work, else all")
DEFAULT_GRACE: Final = 5.0
"""Seconds."""
GRACE_RULE: Final = Duration()
SIGNAL_SPREAD: Final = 0.1
"""Seconds in which a signal to a group of processes reaches all of them. Ctrl+C stops the run and the processes that
its workers have started: workers that fail this long before the stop have not failed by themselves."""
JOURNALS_KEPT: Final = 50
"""Journals of runs in a folder."""
JOURNALS_SIZE: Final = 2_000_000_000
"""Bytes of all of them."""


def check_limits(concurrency: int, grace: float, max_per_key: int | None = None) -> None:
    """Check the limits that a program passed.

    Raises:
        SettingError: a ValueError; one of them is out of its range.

    """
    check_value("max_per_key", max_per_key, MAX_PER_KEY_RULE)
    check_value("concurrency", concurrency, CONCURRENCY_RULE)
    check_value("grace", grace, GRACE_RULE)
