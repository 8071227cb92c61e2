"""The cases as a whole."""

from __future__ import annotations

from pathlib import Path

from asyncwatch.selftest.cases import CASES


def test_every_case_has_a_test_and_a_line_in_the_table() -> None:
    """No case is forgotten by the tests, nor by the table in the README."""
    here = Path(__file__).parent
    tests = "".join(path.read_text() for path in here.glob("test_*.py"))
    table = (here.parent / "README.md").read_text()
    assert [name for name in CASES if f"def test_{name}(" not in tests or f"| `{name}` |" not in table] == []
