"""The words of Erlang/OTP's `supervisor` module: errors of supervision, and what a supervisor says about its children.

`otp.TreeError` is the base of all refusals by a running supervisor, `otp.SpecError` of all errors of invalid specs. A
target raises `otp.Ignore` or `otp.Shutdown` to end on purpose.
"""

from __future__ import annotations

from asyncwatch.engine.tree import errors
from asyncwatch.engine.tree.child import ChildCounts, ChildInfo, ChildStatus
from asyncwatch.engine.tree.errors import *  # noqa: F403  all of them are public, and their module lists their names

__all__ = ["ChildCounts", "ChildInfo", "ChildStatus"]
__all__ += errors.__all__
