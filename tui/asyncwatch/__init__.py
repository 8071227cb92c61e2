"""Run many async workers under a supervisor and watch every one of them live.

The public names are resolved on first use, so that `import asyncwatch` costs next to nothing and never imports Textual.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncwatch.events import Event, WorkerState
    from asyncwatch.supervise.budget import RetryBudget
    from asyncwatch.supervise.circuit import CircuitPolicy
    from asyncwatch.supervise.classify import (
        AttemptTimeout,
        ClassifyBy,
        DeadlineExceeded,
        ErrorClass,
        classify,
        is_transient,
    )
    from asyncwatch.supervise.current import CurrentWorker, current_worker
    from asyncwatch.supervise.halt import Halt, parse_halt
    from asyncwatch.supervise.luck import BadLuck
    from asyncwatch.supervise.rate import RateLimit, parse_rate
    from asyncwatch.supervise.retry import RetryPolicy
    from asyncwatch.supervise.run import run
    from asyncwatch.supervise.spec import Outcome, WaitResult, WorkerSpec, WorkerSpecs
    from asyncwatch.supervise.supervisor import Supervisor
    from asyncwatch.supervise.tree.child import ChildCounts, ChildInfo, ChildStatus
    from asyncwatch.supervise.tree.errors import (
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
    from asyncwatch.supervise.tree.ready import ready
    from asyncwatch.supervise.tree.restart import RestartBackoff
    from asyncwatch.supervise.tree.specs import PoolSpec, SupervisorSpec
    from asyncwatch.supervise.watchdog import Watchdog

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
    "AlreadyPresent": "supervise.tree.errors",
    "AlreadyStarted": "supervise.tree.errors",
    "AttemptTimeout": "supervise.classify",
    "BadLuck": "supervise.luck",
    "ChildCounts": "supervise.tree.child",
    "ChildInfo": "supervise.tree.child",
    "ChildStatus": "supervise.tree.child",
    "CircuitPolicy": "supervise.circuit",
    "ClassifyBy": "supervise.classify",
    "CurrentWorker": "supervise.current",
    "DeadlineExceeded": "supervise.classify",
    "ErrorClass": "supervise.classify",
    "Event": "events",
    "Ignore": "supervise.tree.errors",
    "NoSuchSupervisor": "supervise.tree.errors",
    "NotFound": "supervise.tree.errors",
    "Halt": "supervise.halt",
    "Outcome": "supervise.spec",
    "PoolSpec": "supervise.tree.specs",
    "RateLimit": "supervise.rate",
    "RestartBackoff": "supervise.tree.restart",
    "RestartLimitError": "supervise.tree.errors",
    "Restarting": "supervise.tree.errors",
    "RetryBudget": "supervise.budget",
    "RetryPolicy": "supervise.retry",
    "Running": "supervise.tree.errors",
    "Shutdown": "supervise.tree.errors",
    "SimpleOneForOne": "supervise.tree.errors",
    "SpecError": "supervise.tree.errors",
    "StartError": "supervise.tree.errors",
    "Supervisor": "supervise.supervisor",
    "SupervisorSpec": "supervise.tree.specs",
    "TreeError": "supervise.tree.errors",
    "WaitResult": "supervise.spec",
    "Watchdog": "supervise.watchdog",
    "WorkerSpec": "supervise.spec",
    "WorkerSpecs": "supervise.spec",
    "WorkerState": "events",
    "classify": "supervise.classify",
    "current_worker": "supervise.current",
    "is_transient": "supervise.classify",
    "parse_halt": "supervise.halt",
    "parse_rate": "supervise.rate",
    "ready": "supervise.tree.ready",
    "run": "supervise.run",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
