"""What the header and the details tell of the run's discipline."""

from __future__ import annotations

import pytest

from asyncwatch.events import AttemptFailed, AttemptStarted, NestedRetriesFound, RetryScheduled, RunHalted
from tests.ui.fakes import FakeController, shows, small_run
from tests.ui.running import running
from tests.ui.scenes import overview_text, scene_of


@pytest.mark.parametrize("width", [80, 120])
def test_chips_tell_what_is_not_as_it_was(width: int) -> None:
    """A halt, a budget that is not full, and retries that multiply stand in the header; a calm run has no chips."""
    controller = FakeController()
    small_run(controller)
    scene = scene_of(controller)
    scene.statistics = controller.statistics()
    assert len(overview_text(scene, width).splitlines()) == (4 if width == 120 else 5)
    controller.retry_tokens = 312.0
    controller.tell(RunHalted, 3.3, failures=10, mode="soon", stopped=90)
    controller.tell(NestedRetriesFound, 3.3, target="jobs:fetch", library="tenacity")
    scene = scene_of(controller)
    scene.statistics = controller.statistics()
    text = overview_text(scene, width)
    for chip in (
        "halted after 10 failures  90 stopped, what runs finishes",
        "retry budget",
        "312 of 500",
        "jobs:fetch retries by itself (tenacity): retries multiply",
    ):
        assert chip in text


async def test_details_tell_class_latency_and_retry_after() -> None:
    """Each attempt says of which class its error was, how much latency was added, and who asked for the wait."""
    async with running(size=(160, 30)) as (app, controller, pilot):
        controller.tell(AttemptStarted, 3.3, worker="7", incarnation=1, attempt=1, bad_luck=0.4, latency=0.12)
        controller.tell(
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
        controller.tell(RetryScheduled, 3.5, worker="7", incarnation=1, attempt=2, delay=9.0, is_asked_for=True)
        await pilot.press("G", "enter")
        await shows(app, "↻ 9.00 s Retry-After", "+120 ms latency", "throttled", "✗ Throttled: slow down")
