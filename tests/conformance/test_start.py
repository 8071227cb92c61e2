"""OTP's cases. How supervisors and children start, and how supervisors stop."""

from __future__ import annotations

from collections.abc import Callable


def test_sup_start_normal(hold: Callable[[str], None]) -> None:
    """A supervisor without children starts, and stops."""
    hold("sup_start_normal")


def test_sup_start_ignore_child(hold: Callable[[str], None]) -> None:
    """A permanent child that ignores its start is kept, not running; the next one starts."""
    hold("sup_start_ignore_child")


def test_sup_start_ignore_temporary_child(hold: Callable[[str], None]) -> None:
    """A temporary child that ignores its start is not kept."""
    hold("sup_start_ignore_temporary_child")


def test_sup_start_ignore_temporary_child_start_child(hold: Callable[[str], None]) -> None:
    """A temporary child that is added and ignores its start is not kept."""
    hold("sup_start_ignore_temporary_child_start_child")


def test_sup_start_ignore_permanent_child_start_child_simple(hold: Callable[[str], None]) -> None:
    """A child of a pool that ignores its start is not kept, whatever its restart type."""
    hold("sup_start_ignore_permanent_child_start_child_simple")


def test_sup_start_error_return(hold: Callable[[str], None]) -> None:
    """A supervisor with an invalid spec does not start."""
    hold("sup_start_error_return")


def test_sup_start_fail(hold: Callable[[str], None]) -> None:
    """If a child fails to start, those before it stop in reverse order, and the error says which one and why."""
    hold("sup_start_fail")


def test_sup_start_child_returns_error(hold: Callable[[str], None]) -> None:
    """A child that fails when it is added is not kept, and the error says why."""
    hold("sup_start_child_returns_error")


def test_sup_start_child_returns_error_simple(hold: Callable[[str], None]) -> None:
    """A child of a pool that fails to start is not kept."""
    hold("sup_start_child_returns_error_simple")


def test_sup_start_restart_child_returns_error(hold: Callable[[str], None]) -> None:
    """A child that fails when it is restarted by request is kept, not running."""
    hold("sup_start_restart_child_returns_error")


def test_sup_start_map(hold: Callable[[str], None]) -> None:
    """What a spec does not say has its default, and the whole spec can be read."""
    hold("sup_start_map")


def test_sup_start_map_simple(hold: Callable[[str], None]) -> None:
    """The spec of a child of a pool is the pool's template."""
    hold("sup_start_map_simple")


def test_sup_start_map_faulty_specs(hold: Callable[[str], None]) -> None:
    """A spec without a name, without a target, with an unknown field, or of no kind at all is refused."""
    hold("sup_start_map_faulty_specs")


def test_sup_stop_infinity(hold: Callable[[str], None]) -> None:
    """A worker may take as long as it likes to stop."""
    hold("sup_stop_infinity")


def test_sup_stop_timeout(hold: Callable[[str], None]) -> None:
    """A worker that does not stop within its shutdown time is left behind then; the others stop."""
    hold("sup_stop_timeout")


def test_sup_stop_brutal_kill(hold: Callable[[str], None]) -> None:
    """A worker that is to be stopped at once is not waited for; one that obeys has been cancelled all the same."""
    hold("sup_stop_brutal_kill")


def test_sup_stop_timeout_dynamic(hold: Callable[[str], None]) -> None:
    """Of a pool, those that do not stop in time are left behind, all at the same time."""
    hold("sup_stop_timeout_dynamic")


def test_sup_stop_race(hold: Callable[[str], None]) -> None:
    """Children that end by themselves while the supervisor stops do no harm, however they end."""
    hold("sup_stop_race")


def test_sup_start_ignore_temporary_child_start_child_simple(hold: Callable[[str], None]) -> None:
    """A temporary child of a pool that ignores its start is not kept; the next one starts."""
    hold("sup_start_ignore_temporary_child_start_child_simple")


def test_sup_stop_brutal_kill_dynamic(hold: Callable[[str], None]) -> None:
    """Of a pool whose children are to be stopped at once none is waited for."""
    hold("sup_stop_brutal_kill_dynamic")


def test_sup_stop_non_shutdown_exit_dynamic(hold: Callable[[str], None]) -> None:
    """A child of a pool that raises when it is asked to stop does not hold up the pool."""
    hold("sup_stop_non_shutdown_exit_dynamic")
