"""OTP's cases. Who is restarted after which end, with whom, and when it is too much."""

from __future__ import annotations

from collections.abc import Callable


def test_permanent_normal(hold: Callable[[str], None]) -> None:
    """A permanent child is always restarted: here it returned."""
    hold("permanent_normal")


def test_transient_normal(hold: Callable[[str], None]) -> None:
    """A transient child is restarted after an abnormal end only: here it returned."""
    hold("transient_normal")


def test_temporary_normal(hold: Callable[[str], None]) -> None:
    """A temporary child is never restarted: here it returned."""
    hold("temporary_normal")


def test_permanent_shutdown(hold: Callable[[str], None]) -> None:
    """A permanent child is always restarted: here it raised Shutdown."""
    hold("permanent_shutdown")


def test_transient_shutdown(hold: Callable[[str], None]) -> None:
    """A transient child is restarted after an abnormal end only: here it raised Shutdown."""
    hold("transient_shutdown")


def test_temporary_shutdown(hold: Callable[[str], None]) -> None:
    """A temporary child is never restarted: here it raised Shutdown."""
    hold("temporary_shutdown")


def test_permanent_abnormal(hold: Callable[[str], None]) -> None:
    """A permanent child is always restarted: here it raised, or was cancelled by somebody else."""
    hold("permanent_abnormal")


def test_transient_abnormal(hold: Callable[[str], None]) -> None:
    """A transient child is restarted after an abnormal end only: here it raised, or was cancelled by somebody else."""
    hold("transient_abnormal")


def test_temporary_abnormal(hold: Callable[[str], None]) -> None:
    """A temporary child is never restarted: here it raised, or was cancelled by somebody else."""
    hold("temporary_abnormal")


def test_temporary_bystander(hold: Callable[[str], None]) -> None:
    """A temporary sibling that is stopped by a restart is dropped, not restarted."""
    hold("temporary_bystander")


def test_multiple_restarts(hold: Callable[[str], None]) -> None:
    """Restarts that are far enough apart go on for ever."""
    hold("multiple_restarts")


def test_one_for_one(hold: Callable[[str], None]) -> None:
    """Only the one that ended is restarted; the third restart within the period is one too many for two."""
    hold("one_for_one")


def test_one_for_one_escalation(hold: Callable[[str], None]) -> None:
    """A child that fails to start uses up the restarts: then the supervisor ends."""
    hold("one_for_one_escalation")


def test_one_for_all(hold: Callable[[str], None]) -> None:
    """All are stopped in reverse and started again in order."""
    hold("one_for_all")


def test_one_for_all_escalation(hold: Callable[[str], None]) -> None:
    """A sibling that fails to start uses up the restarts: then the supervisor ends."""
    hold("one_for_all_escalation")


def test_one_for_all_other_child_fails_restart(hold: Callable[[str], None]) -> None:
    """If a later sibling fails to start, those that were restarted stop again and all start over."""
    hold("one_for_all_other_child_fails_restart")


def test_rest_for_one(hold: Callable[[str], None]) -> None:
    """The one that ended and those after it are restarted; those before it are left alone."""
    hold("rest_for_one")


def test_rest_for_one_escalation(hold: Callable[[str], None]) -> None:
    """A later sibling that fails to start uses up the restarts: then the supervisor ends."""
    hold("rest_for_one_escalation")


def test_rest_for_one_other_child_fails_restart(hold: Callable[[str], None]) -> None:
    """If a later sibling fails to start, those that were restarted stay up."""
    hold("rest_for_one_other_child_fails_restart")


def test_order_of_children(hold: Callable[[str], None]) -> None:
    """Children start in order and stop in reverse, in a restart too."""
    hold("order_of_children")


def test_tree(hold: Callable[[str], None]) -> None:
    """A supervisor that gives up is restarted by the one above, without the children that were added to it."""
    hold("tree")


def test_do_not_save_child_specs_for_temporary_children(hold: Callable[[str], None]) -> None:
    """Of a temporary child that ended nothing is kept; of others the spec is."""
    hold("do_not_save_child_specs_for_temporary_children")
