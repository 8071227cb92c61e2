"""OTP's cases on a jumping clock, each under every task factory that this Python has."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asyncwatch.selftest.cases_requests import scale_start_stop_many_children
from asyncwatch.selftest.table import CASES
from asyncwatch.testing import run_on
from tests.clock import TASK_FACTORIES, run_jumping

SMALLER: dict[str, Any] = {"scale_start_stop_many_children": partial(scale_start_stop_many_children, 10_000)}
"""Cases that take long on the processor. `asyncwatch selftest` runs them in full."""


@pytest.mark.parametrize("factory", TASK_FACTORIES)
@pytest.mark.parametrize("name", CASES)
def test_case_holds(name: str, factory: str) -> None:
    run_jumping(SMALLER.get(name, CASES[name]), TASK_FACTORIES[factory])


def test_readme_lists_each_case_with_its_assertion() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", readme, re.MULTILINE))
    assert rows == {name: (case.__doc__ or "").strip() for name, case in CASES.items()}


class _RunningClock(asyncio.SelectorEventLoop):
    """A loop on whose clock a millisecond passes whenever it is read."""

    _readings = 0

    def time(self) -> float:
        """Return the seconds."""
        self._readings += 1
        return self._readings / 1000


@pytest.mark.parametrize("name", ["sup_stop_brutal_kill", "sup_stop_brutal_kill_dynamic"])
def test_case_on_a_clock_that_does_not_jump_ignores_the_time_that_passed(name: str) -> None:
    """Where time cannot jump, as on uvloop, it depends on the machine how much of it passes."""
    run_on(_RunningClock(), CASES[name])
