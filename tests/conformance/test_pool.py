"""OTP's cases. Pools: OTP's simple_one_for_one."""

from __future__ import annotations

from collections.abc import Callable


def test_simple_one_for_one(hold: Callable[[str], None]) -> None:
    """Only the child that ended is restarted, with its own arguments; too many restarts end the pool."""
    hold("simple_one_for_one")


def test_simple_one_for_one_extra(hold: Callable[[str], None]) -> None:
    """What a child of a pool announces is what its start returns; it is restarted as any."""
    hold("simple_one_for_one_extra")


def test_simple_one_for_one_escalation(hold: Callable[[str], None]) -> None:
    """A child that fails to start uses up the restarts: then the pool ends, and all its children."""
    hold("simple_one_for_one_escalation")


def test_simple_one_for_one_restart_ignore(hold: Callable[[str], None]) -> None:
    """A child of a pool that ignores its restart is dropped."""
    hold("simple_one_for_one_restart_ignore")


def test_simple_one_for_one_shutdown(hold: Callable[[str], None]) -> None:
    """Stopping many children takes as long as the slowest, at most their shutdown time, and not the sum."""
    hold("simple_one_for_one_shutdown")


def test_simple_one_for_one_scale_many_temporary_children(hold: Callable[[str], None]) -> None:
    """What ending many temporary children costs grows no faster than their number."""
    hold("simple_one_for_one_scale_many_temporary_children")


def test_simple_one_for_one_default(hold: Callable[[str], None]) -> None:
    """A pool whose template is as any worker numbers the children that are given no key."""
    hold("simple_one_for_one_default")
