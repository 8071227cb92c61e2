"""The header's deviations of a run, and what the details show of an attempt."""

from __future__ import annotations

import pytest

from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    NestedRetriesFound,
    RecordingFailed,
    RetryScheduled,
    RunHalted,
)
from tests.ui.fakes import FakeController, dashboard_of, overview_text, shows, small_run
from tests.ui.running import running


@pytest.mark.parametrize("width", [80, 120])
def test_header_shows_deviations_of_the_run(width: int) -> None:
    controller = FakeController()
    small_run(controller)
    dashboard = dashboard_of(controller)
    dashboard.statistics = controller.statistics()
    assert len(overview_text(dashboard, width).splitlines()) == (4 if width == 120 else 5)
    controller.retry_tokens = 212.0
    controller.emit(RunHalted, 3.3, failures=10, mode="soon", stopped=90)
    controller.emit(RecordingFailed, 3.3, since=0.0, reason="database or disk is full")
    controller.emit(NestedRetriesFound, 3.3, target="jobs:fetch", library="tenacity")
    dashboard = dashboard_of(controller)
    dashboard.statistics = controller.statistics()
    text = overview_text(dashboard, width)
    for chip in (
        "halted after 10 failures  90 stopped, running workers finish",
        "database or disk is full",
        "not recorded since",
        "retry budget",
        "212 of 500 tokens left",
        "jobs:fetch has retries of its own (tenacity): they multiply",
    ):
        assert chip in text


async def test_details_attempt_shows_class_latency_and_retry_after() -> None:
    async with running(size=(160, 30)) as (app, controller, pilot):
        controller.emit(AttemptStarted, 3.3, worker="7", incarnation=1, attempt=1, bad_luck=0.4, latency=0.12)
        controller.emit(
            AttemptFailed,
            3.5,
            worker="7",
            incarnation=1,
            attempt=1,
            error_type="Throttled",
            error="slow down",
            transient=True,
            injected=False,
            elapsed=0.2,
            stack="",
            error_class="throttled",
        )
        controller.emit(RetryScheduled, 3.5, worker="7", incarnation=1, attempt=2, delay=9.0, is_asked_for=True)
        await pilot.press("G", "enter")
        await shows(app, "↻ 9.00 s Retry-After", "+120 ms latency", "throttled", "✗ Throttled: slow down")
