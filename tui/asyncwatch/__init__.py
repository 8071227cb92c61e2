"""Run many async workers under a supervisor and watch every one of them live.

The public names are resolved on first use, so that `import asyncwatch` costs next to nothing and never imports Textual.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncwatch.engine.current import CurrentWorker, current_worker
    from asyncwatch.engine.event_loop import run
    from asyncwatch.engine.spec import Outcome, WaitResult, WorkerSpec, WorkerSpecs
    from asyncwatch.engine.supervisor import Supervisor
    from asyncwatch.engine.tree.child import ChildCounts, ChildInfo, ChildStatus
    from asyncwatch.engine.tree.errors import (
        AlreadyPresent,
        AlreadyStarted,
        Ignore,
        NoSuchSupervisor,
        NotFound,
        Restarting,
        RestartLimitError,
        Running,
        Shutdown,
        SimpleOneForOne,
        SpecError,
        StartError,
        TreeError,
    )
    from asyncwatch.engine.tree.ready import ready
    from asyncwatch.engine.tree.specs import PoolSpec, SupervisorSpec
    from asyncwatch.engine.watchdog import Watchdog
    from asyncwatch.events import Event, WorkerState
    from asyncwatch.policies.bad_luck import BadLuck
    from asyncwatch.policies.budget import RetryBudget
    from asyncwatch.policies.circuit import CircuitPolicy
    from asyncwatch.policies.classify import (
        AttemptTimeout,
        ClassifyBy,
        DeadlineExceeded,
        ErrorClass,
        classify,
        is_transient,
    )
    from asyncwatch.policies.halt import Halt, parse_halt
    from asyncwatch.policies.rate import RateLimit, parse_rate
    from asyncwatch.policies.restart import RestartBackoff
    from asyncwatch.policies.retry import RetryPolicy

__version__ = "0.1.0"

__all__ = [
    "AlreadyPresent",
    "AlreadyStarted",
    "AttemptTimeout",
    "BadLuck",
    "ChildCounts",
    "ChildInfo",
    "ChildStatus",
    "CircuitPolicy",
    "ClassifyBy",
    "CurrentWorker",
    "DeadlineExceeded",
    "ErrorClass",
    "Event",
    "Halt",
    "Ignore",
    "NoSuchSupervisor",
    "NotFound",
    "Outcome",
    "PoolSpec",
    "RateLimit",
    "RestartBackoff",
    "RestartLimitError",
    "Restarting",
    "RetryBudget",
    "RetryPolicy",
    "Running",
    "Shutdown",
    "SimpleOneForOne",
    "SpecError",
    "StartError",
    "Supervisor",
    "SupervisorSpec",
    "TreeError",
    "WaitResult",
    "Watchdog",
    "WorkerSpec",
    "WorkerSpecs",
    "WorkerState",
    "__version__",
    "classify",
    "current_worker",
    "is_transient",
    "parse_halt",
    "parse_rate",
    "ready",
    "run",
]

_HOMES = {
    "AlreadyPresent": "engine.tree.errors",
    "AlreadyStarted": "engine.tree.errors",
    "AttemptTimeout": "policies.classify",
    "BadLuck": "policies.bad_luck",
    "ChildCounts": "engine.tree.child",
    "ChildInfo": "engine.tree.child",
    "ChildStatus": "engine.tree.child",
    "CircuitPolicy": "policies.circuit",
    "ClassifyBy": "policies.classify",
    "CurrentWorker": "engine.current",
    "DeadlineExceeded": "policies.classify",
    "ErrorClass": "policies.classify",
    "Event": "events",
    "Ignore": "engine.tree.errors",
    "NoSuchSupervisor": "engine.tree.errors",
    "NotFound": "engine.tree.errors",
    "Halt": "policies.halt",
    "Outcome": "engine.spec",
    "PoolSpec": "engine.tree.specs",
    "RateLimit": "policies.rate",
    "RestartBackoff": "policies.restart",
    "RestartLimitError": "engine.tree.errors",
    "Restarting": "engine.tree.errors",
    "RetryBudget": "policies.budget",
    "RetryPolicy": "policies.retry",
    "Running": "engine.tree.errors",
    "Shutdown": "engine.tree.errors",
    "SimpleOneForOne": "engine.tree.errors",
    "SpecError": "engine.tree.errors",
    "StartError": "engine.tree.errors",
    "Supervisor": "engine.supervisor",
    "SupervisorSpec": "engine.tree.specs",
    "TreeError": "engine.tree.errors",
    "WaitResult": "engine.spec",
    "Watchdog": "engine.watchdog",
    "WorkerSpec": "engine.spec",
    "WorkerSpecs": "engine.spec",
    "WorkerState": "events",
    "classify": "policies.classify",
    "current_worker": "engine.current",
    "is_transient": "policies.classify",
    "parse_halt": "policies.halt",
    "parse_rate": "policies.rate",
    "ready": "engine.tree.ready",
    "run": "engine.event_loop",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
