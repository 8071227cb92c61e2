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
    from asyncwatch.supervise.classify import ClassifyBy, DeadlineExceeded, ErrorClass, classify, is_transient
    from asyncwatch.supervise.current import CurrentWorker, current_worker
    from asyncwatch.supervise.luck import BadLuck
    from asyncwatch.supervise.rate import RateLimit, parse_rate
    from asyncwatch.supervise.retry import RetryPolicy
    from asyncwatch.supervise.spec import Outcome, WaitResult, WorkerSpec
    from asyncwatch.supervise.supervisor import Supervisor

__version__ = "0.1.0"

__all__ = [
    "BadLuck",
    "CircuitPolicy",
    "ClassifyBy",
    "CurrentWorker",
    "DeadlineExceeded",
    "ErrorClass",
    "Event",
    "Outcome",
    "RateLimit",
    "RetryBudget",
    "RetryPolicy",
    "Supervisor",
    "WaitResult",
    "WorkerSpec",
    "WorkerState",
    "__version__",
    "classify",
    "current_worker",
    "is_transient",
    "parse_rate",
]

_HOMES = {
    "BadLuck": "supervise.luck",
    "CircuitPolicy": "supervise.circuit",
    "ClassifyBy": "supervise.classify",
    "CurrentWorker": "supervise.current",
    "DeadlineExceeded": "supervise.classify",
    "ErrorClass": "supervise.classify",
    "Event": "events",
    "Outcome": "supervise.spec",
    "RateLimit": "supervise.rate",
    "RetryBudget": "supervise.budget",
    "RetryPolicy": "supervise.retry",
    "Supervisor": "supervise.supervisor",
    "WaitResult": "supervise.spec",
    "WorkerSpec": "supervise.spec",
    "WorkerState": "events",
    "classify": "supervise.classify",
    "current_worker": "supervise.current",
    "is_transient": "supervise.classify",
    "parse_rate": "supervise.rate",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
