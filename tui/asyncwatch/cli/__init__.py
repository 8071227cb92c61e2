"""The `asyncwatch` command, its exit statuses, and how it makes a plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncwatch.plan.plan import Plan

ALL_SUCCEEDED = 0
NOT_ALL_SUCCEEDED = 1
BAD_INPUT = 2
INTERRUPTED = 130
READER_GONE = 141
"""As a shell reports a program that SIGPIPE ended, because the reader of its output left."""

MakePlan = Callable[[Callable[[str], None]], "Plan"]
"""Makes a plan. It gets a function to which it passes notes for the person at the terminal."""


class NoPlanError(Exception):
    """There is nothing to run: the arguments, the config or the items cannot be used."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
