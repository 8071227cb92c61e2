"""OTP's cases. What a spec may hold."""

from __future__ import annotations

from collections.abc import Callable


def test_child_specs(hold: Callable[[str], None]) -> None:
    """Each invalid field of a worker, a supervisor or a pool has its own error; the valid ones go together."""
    hold("child_specs")


def test_sup_flags(hold: Callable[[str], None]) -> None:
    """Each invalid flag of a supervisor has its own error, and an unknown one is refused."""
    hold("sup_flags")
