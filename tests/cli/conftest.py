"""The same terminal for every test of the command."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a terminal capable wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm")
