"""Validation of the fields of specs. Each rule raises an error class of its own."""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

from asyncwatch.engine.tree import errors
from asyncwatch.policies.restart import (
    AUTO_SHUTDOWN_RULE,
    FLAG_RULE,
    MAX_RESTARTS_RULE,
    PERIOD_RULE,
    RESTART_RULE,
    SHUTDOWN_RULE,
    STRATEGY_RULE,
    RestartBackoff,
    RestartType,
)
from asyncwatch.policies.settings import Choice, is_allowed


def check_node_name(name: Any) -> None:
    """Raise `InvalidName` unless `name` can name a supervisor: slashes separate the names in a path."""
    if not isinstance(name, str) or not name or "/" in name:
        raise errors.InvalidName(f"a supervisor needs a name without a slash, not {name!r}")


def check_paths(workers: Iterable[str], supervisors: Container[str]) -> None:
    """Raise `InvalidName` if a worker's name reads as the path of a child of one of its sibling supervisors.

    Worker names may contain slashes, as URLs do.
    """
    for name in workers:
        first, slash, _ = name.partition("/")
        if slash and first in supervisors:
            raise errors.InvalidName(f"{name!r} would be taken for a child of the supervisor {first!r} beside it")


def check_key(key: Any) -> None:
    """Raise `InvalidName` unless `key` can be the key of a pool's child."""
    if not isinstance(key, str) or not key:
        raise errors.InvalidName(f"a key is a string that is not empty, not {key!r}")


def check_keys(keys: Iterable[Any]) -> None:
    """Raise `InvalidName` or `DuplicateName` unless `keys` can be the keys of one pool's children."""
    known: set[str] = set()
    for key in keys:
        check_key(key)
        if key in known:
            raise errors.DuplicateName(f"two children of a pool have the key {key!r}")
        known.add(key)


def check_restart(restart: Any) -> None:
    """Raise `InvalidRestartType` unless `restart` is a restart type."""
    _check_choice(RESTART_RULE, restart, "restart", errors.InvalidRestartType)


def check_strategy(strategy: Any) -> None:
    """Raise `InvalidStrategy` unless `strategy` is a strategy."""
    _check_choice(STRATEGY_RULE, strategy, "strategy", errors.InvalidStrategy)


def check_auto_shutdown(auto_shutdown: Any) -> None:
    """Raise `InvalidAutoShutdown` unless `auto_shutdown` is one of its values."""
    _check_choice(AUTO_SHUTDOWN_RULE, auto_shutdown, "auto_shutdown", errors.InvalidAutoShutdown)


def check_shutdown(shutdown: Any) -> None:
    """Raise `InvalidShutdown` unless `shutdown` is a number of seconds of 0 or more, or inf."""
    if not is_allowed(shutdown, SHUTDOWN_RULE):
        raise errors.InvalidShutdown(f"shutdown must be 0 seconds or more, or inf, not {shutdown!r}")


def check_intensity(max_restarts: Any, within: Any) -> None:
    """Raise `InvalidIntensity` or `InvalidPeriod` unless the two make a restart limit."""
    if not is_allowed(max_restarts, MAX_RESTARTS_RULE):
        raise errors.InvalidIntensity(f"max_restarts must be a whole number, 0 or more, not {max_restarts!r}")
    check_period(within, "within")


def check_period(seconds: Any, field: str) -> None:
    """Raise `InvalidPeriod` unless `seconds` is above 0 and finite."""
    if not is_allowed(seconds, PERIOD_RULE):
        raise errors.InvalidPeriod(f"{field} must be above 0 seconds and finite, not {seconds!r}")


def check_backoff(backoff: Any) -> None:
    """Raise `InvalidBackoff` unless `backoff` is a RestartBackoff, which checks its own fields."""
    if not isinstance(backoff, RestartBackoff):
        raise errors.InvalidBackoff(f"backoff must be a RestartBackoff, not {backoff!r}")


def check_flag(value: Any, field: str) -> None:
    """Raise `InvalidFlag` unless `value` is True or False."""
    if not is_allowed(value, FLAG_RULE):
        raise errors.InvalidFlag(f"{field} must be True or False, not {value!r}")


def check_significant(significant: Any, restart: RestartType) -> None:
    """Raise `InvalidFlag` or, for a significant permanent child, `BadCombination`."""
    check_flag(significant, "significant")
    if significant and restart == "permanent":
        raise errors.BadCombination("a permanent child cannot be significant: it never ends for good")


def _check_choice(rule: Choice, value: Any, field: str, error: type[errors.SpecError]) -> None:
    if not is_allowed(value, rule):
        raise error(f"{field} must be one of {', '.join(rule.options)}, not {value!r}")
