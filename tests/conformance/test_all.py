"""The cases as a whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asyncwatch.selftest.cases import CASES
from asyncwatch.testing import run_on


def test_every_case_has_a_test_and_a_line_in_the_table() -> None:
    """No case is forgotten by the tests, nor by the table in the README."""
    here = Path(__file__).parent
    tests = "".join(path.read_text() for path in here.glob("test_*.py"))
    table = (here.parent / "README.md").read_text()
    assert [name for name in CASES if f"def test_{name}(" not in tests or f"| `{name}` |" not in table] == []


class _GoesOn(asyncio.SelectorEventLoop):
    """A loop whose clock is never the same twice: a millisecond has passed whenever it is looked at."""

    _looks = 0

    def time(self) -> float:
        """Return the seconds."""
        self._looks += 1
        return self._looks / 1000


@pytest.mark.parametrize("name", ["sup_stop_brutal_kill", "sup_stop_brutal_kill_dynamic"])
def test_a_clock_that_goes_on_is_not_held_against_a_case(name: str) -> None:
    """Where time cannot jump, as on uvloop, how much of it passed depends on the machine."""
    run_on(_GoesOn(), CASES[name])
