"""How long a picture can be frozen."""

from __future__ import annotations

import pytest

from asyncwatch.ui import display as scene
from tests.ui.fakes import FakeController, make_app, shows, small_run


async def test_a_freeze_ends_when_too_many_events_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for the picture takes memory: past a number of events it goes on by itself, and says so."""
    monkeypatch.setattr(scene, "HELD", 2)
    controller = FakeController()
    small_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await shows(app, "› 0")
        await pilot.press("p")
        controller.log("6", 3.3, "one")
        controller.log("6", 3.4, "two")
        await shows(app, "frozen · 2 events wait")
        controller.succeed("6", 3.5)
        await shows(app, "The picture goes on", "3 succeeded")
        assert not app.scene.is_frozen
