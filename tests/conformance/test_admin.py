"""OTP's cases. Requests to a supervisor."""

from __future__ import annotations

from collections.abc import Callable


def test_extra_return(hold: Callable[[str], None]) -> None:
    """What a worker announces when it is ready is what its start and its restart return."""
    hold("extra_return")


def test_child_adm(hold: Callable[[str], None]) -> None:
    """Starting, stopping, restarting and deleting a child answers as OTP does, in each of its states."""
    hold("child_adm")


def test_child_adm_simple(hold: Callable[[str], None]) -> None:
    """A pool starts and stops children by key, and refuses to restart or to delete one."""
    hold("child_adm_simple")


def test_which_children(hold: Callable[[str], None]) -> None:
    """All children are told, in start order, with their kind and status."""
    hold("which_children")


def test_count_children(hold: Callable[[str], None]) -> None:
    """1,000 and 2,000 workers are counted, and none when they have ended."""
    hold("count_children")


def test_count_children_supervisor(hold: Callable[[str], None]) -> None:
    """1,000 and 2,000 supervisors below a pool are counted, and none when they have ended."""
    hold("count_children_supervisor")


def test_count_restarting_children(hold: Callable[[str], None]) -> None:
    """Children that are being restarted are not active; they are still children."""
    hold("count_restarting_children")


def test_hanging_restart_loop(hold: Callable[[str], None]) -> None:
    """While a child fails to start again and again, all requests are answered, and it can be stopped."""
    hold("hanging_restart_loop")


def test_hanging_restart_loop_rest_for_one(hold: Callable[[str], None]) -> None:
    """The same under rest_for_one: the siblings after it stay down."""
    hold("hanging_restart_loop_rest_for_one")


def test_hanging_restart_loop_simple(hold: Callable[[str], None]) -> None:
    """The same in a pool: a child that is being restarted can be stopped, and the pool too."""
    hold("hanging_restart_loop_simple")


def test_scale_start_stop_many_children(hold: Callable[..., None]) -> None:
    """What starting and stopping costs grows no faster than the number of children: here 1,000 against 10,000."""
    hold("scale_start_stop_many_children", 10_000)


def test_which_children_simple_one_for_one(hold: Callable[[str], None]) -> None:
    """The children of a pool are told with their keys, in start order."""
    hold("which_children_simple_one_for_one")
