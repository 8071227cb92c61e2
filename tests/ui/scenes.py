"""A scene without an app, for what is pure."""

from __future__ import annotations

from asyncwatch.ui.display import Scene
from asyncwatch.ui.render.header import overview
from tests.ui.fakes import FakeController, frozen_clock


def scene_of(controller: FakeController) -> Scene:
    """Return a scene to which all was told that the controller was told."""
    scene = Scene(frozen_clock)
    for batch in controller.early:
        scene.receive(batch)
    return scene


def overview_text(scene: Scene, width: int) -> str:
    """Return the lines above the fleet as text."""
    return "\n".join("".join(span.text for span in line) for line in overview(scene, width))
