"""A few snapshots of whole screens, so that a change of looks is a decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from textual.pilot import Pilot

from asyncwatch.ui.app import AsyncwatchApp
from tests.ui.fakes import FakeController, make_app, shows, small_run
from tests.ui.trees import tree_run

Compare = Callable[..., bool]

pytestmark = pytest.mark.usefixtures("calm")


@pytest.mark.parametrize(
    ("size", "theme", "keys", "text"),
    [
        ((80, 24), "asyncwatch-dark", ["j", "space"], "2 succeeded"),
        ((120, 36), "asyncwatch-dark", ["j", "j"], "2 succeeded"),
        ((120, 36), "asyncwatch-light", ["j", "j", "space"], "2 succeeded"),
        ((120, 36), "asyncwatch-dark", ["j", "j", "enter"], "LAST TRACEBACK"),
        ((120, 36), "asyncwatch-dark", ["l"], "following"),
        ((80, 24), "asyncwatch-dark", ["q"], "Quit and stop"),
        ((120, 36), "asyncwatch-dark", ["question_mark"], "STATES"),
    ],
    ids=["narrow", "wide", "light", "details", "log", "question", "help"],
)
def test_snapshot_of_a_batch(
    snap_compare: Compare, size: tuple[int, int], theme: str, keys: list[str], text: str
) -> None:
    controller = FakeController()
    small_run(controller)
    app: AsyncwatchApp = make_app(controller)

    async def prepare(pilot: Pilot[Any]) -> None:
        app.theme = theme
        await shows(app, "2 succeeded", "› 0")
        await pilot.press(*keys)
        await shows(app, text)

    assert snap_compare(app, terminal_size=size, run_before=prepare)


@pytest.mark.parametrize(
    ("size", "keys", "text"),
    [
        ((80, 24), ["j"], "next in 24 s"),
        ((120, 36), ["j", "j", "r"], "2 siblings"),
        ((120, 36), ["e"], "2 groups"),
        ((120, 36), ["b"], "1 of 1 key limited"),
    ],
    ids=["tree", "siblings", "errors", "limits"],
)
def test_snapshot_of_a_tree(snap_compare: Compare, size: tuple[int, int], keys: list[str], text: str) -> None:
    controller = FakeController()
    tree_run(controller)
    app: AsyncwatchApp = make_app(controller)

    async def prepare(pilot: Pilot[Any]) -> None:
        await shows(app, "1 waiting", "› ▾ root")
        await pilot.press(*keys)
        await shows(app, text)

    assert snap_compare(app, terminal_size=size, run_before=prepare)
