"""All cases by name."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from types import ModuleType

from asyncwatch.selftest import cases_admin, cases_restart, cases_start
from asyncwatch.selftest import cases_admin as cases_pool
from asyncwatch.selftest import cases_restart as cases_significant
from asyncwatch.selftest import cases_start as cases_specs

Case = Callable[[], Awaitable[None]]


def _cases(module: ModuleType) -> dict[str, Case]:
    own = module.__name__
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.iscoroutinefunction(value) and value.__module__ == own
    }


CASES: dict[str, Case] = {
    name: case
    for module in (cases_start, cases_admin, cases_specs, cases_restart, cases_pool, cases_significant)
    for name, case in _cases(module).items()
}
"""Coroutine functions that raise `CaseFailed` if they do not hold. They need a loop whose clock jumps."""
