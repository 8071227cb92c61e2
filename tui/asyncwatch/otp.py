"""The words of Erlang/OTP's `supervisor` module: errors of supervision, and what a supervisor says about its children.

`otp.TreeError` is the base of all refusals by a running supervisor, `otp.SpecError` of all errors of invalid specs. A
target raises `otp.Ignore` or `otp.Shutdown` to end on purpose.
"""

from __future__ import annotations

from asyncwatch.engine.tree.child import ChildCounts, ChildInfo, ChildStatus
from asyncwatch.engine.tree.errors import (
    AlreadyPresent,
    AlreadyStarted,
    BadCombination,
    DuplicateName,
    Ignore,
    InvalidArguments,
    InvalidAutoShutdown,
    InvalidBackoff,
    InvalidChild,
    InvalidFlag,
    InvalidIntensity,
    InvalidName,
    InvalidPeriod,
    InvalidRestartType,
    InvalidShutdown,
    InvalidStrategy,
    InvalidTemplate,
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

__all__ = [
    "AlreadyPresent",
    "AlreadyStarted",
    "BadCombination",
    "ChildCounts",
    "ChildInfo",
    "ChildStatus",
    "DuplicateName",
    "Ignore",
    "InvalidArguments",
    "InvalidAutoShutdown",
    "InvalidBackoff",
    "InvalidChild",
    "InvalidFlag",
    "InvalidIntensity",
    "InvalidName",
    "InvalidPeriod",
    "InvalidRestartType",
    "InvalidShutdown",
    "InvalidStrategy",
    "InvalidTemplate",
    "NoSuchSupervisor",
    "NotFound",
    "RestartLimitError",
    "Restarting",
    "Running",
    "Shutdown",
    "SimpleOneForOne",
    "SpecError",
    "StartError",
    "TreeError",
]
