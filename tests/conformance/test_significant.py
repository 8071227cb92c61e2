"""OTP's cases. Supervisors that shut down with their significant children."""

from __future__ import annotations

from collections.abc import Callable


def test_nonsignificant_temporary(hold: Callable[[str], None]) -> None:
    """The end of a temporary child that is not significant never ends the supervisor."""
    hold("nonsignificant_temporary")


def test_nonsignificant_transient(hold: Callable[[str], None]) -> None:
    """The end of a transient child that is not significant never ends the supervisor."""
    hold("nonsignificant_transient")


def test_significant_temporary(hold: Callable[[str], None]) -> None:
    """Any end of a temporary significant child counts, but not a request to stop it."""
    hold("significant_temporary")


def test_significant_transient(hold: Callable[[str], None]) -> None:
    """Only the normal end of a transient significant child counts: after another it is restarted."""
    hold("significant_transient")


def test_significant_simple(hold: Callable[[str], None]) -> None:
    """The same in a pool."""
    hold("significant_simple")


def test_significant_bystander(hold: Callable[[str], None]) -> None:
    """A significant child that is stopped because a sibling is restarted does not end the supervisor."""
    hold("significant_bystander")


def test_significant_escalation(hold: Callable[[str], None]) -> None:
    """A supervisor that shuts down with its significant child takes along the one above only if it is significant."""
    hold("significant_escalation")
