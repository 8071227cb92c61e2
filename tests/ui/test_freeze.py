"""The limit of a freeze."""

from __future__ import annotations

import pytest

from asyncwatch.ui import dashboard
from tests.ui.fakes import FakeController, make_app, shows, small_run


async def test_freeze_with_too_many_events_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "MAX_FROZEN_EVENTS", 2)
    controller = FakeController()
    small_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await shows(app, "› 0")
        await pilot.press("p")
        controller.log("6", 3.3, "one")
        controller.log("6", 3.4, "two")
        await shows(app, "frozen · 2 events waiting")
        controller.succeed("6", 3.5)
        await shows(app, "Unfrozen: more than ", "3 succeeded")
        assert not app.dashboard.is_frozen
