"""The same terminal for every test of a run without a dashboard."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make sure that a terminal counts as one wherever the tests run."""
    monkeypatch.setenv("TERM", "xterm")
