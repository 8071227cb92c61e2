"""The same terminal for every test of the dashboard, whatever the tests themselves run in."""

from __future__ import annotations

import time

import pytest

from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.widgets.fleet_table import FleetTable


@pytest.fixture(autouse=True)
def _terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("TEXTUAL_THEME", raising=False)
    monkeypatch.delenv("COLORFGBG", raising=False)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


@pytest.fixture
def calm() -> None:
    """Wait after a key until the processor is idle, as a picture needs that shows one screen behind another."""


@pytest.fixture(autouse=True)
def _short_waits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Textual's pilot wait for 2 ms after a key, not for an idle processor: tests wait for what is to be seen."""
    if "calm" not in request.fixturenames:
        monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.002)
        monkeypatch.setattr("textual._wait.SLEEP_IDLE", 0.01)


@pytest.fixture
def timed() -> None:
    """Draw frames at which only the time has changed, as the dashboard does outside these tests."""


@pytest.fixture(autouse=True)
def _untimed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no frame only because time has passed: a key and an event must draw what they change by themselves."""
    if "timed" not in request.fixturenames:
        monkeypatch.setattr(AsyncwatchApp, "_period", float("inf"))


@pytest.fixture
def live() -> None:
    """Let a batch that is larger than the screen start in live order, as the dashboard does outside these tests."""


@pytest.fixture(autouse=True)
def _in_queue_order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start in queue order, with the cursor on the first worker: most tests begin there."""
    if "live" not in request.fixturenames:
        monkeypatch.setattr(FleetTable, "STARTS_LIVE", False)
