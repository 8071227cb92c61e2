"""The screen of the limits of each key."""

from __future__ import annotations

import re

import pytest

from asyncwatch.commands import CloseCircuit, Command, IsolateCircuit, ProbeCircuit
from asyncwatch.events import CircuitClosed, CircuitHalfOpened, CircuitOpened
from asyncwatch.model.limits import CLOSED_KEPT
from tests.ui.fakes import FakeController, make_app, shows, small_run, text_of, until
from tests.ui.running import running
from tests.ui.trees import hold, tree_run


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("i", IsolateCircuit("example.org")),
        ("o", CloseCircuit("example.org")),
        ("c", CloseCircuit("example.org")),
        ("p", ProbeCircuit("example.org")),
    ],
)
async def test_circuits_are_listed_and_controlled(key: str, command: Command) -> None:
    async with running(emit=tree_run) as (app, controller, pilot):
        await shows(app, "circuit example.org open")
        hold(controller, "urls/c", 10.0)
        controller.emit(CircuitOpened, 10.0, key="other.net", attempts=8, failures=8, seconds=60.0)
        await pilot.press("b")
        await shows(
            app, "example.org", "✗ open", "probed in 4.6 s", "2 workers wait: urls/b and urls/c", "2 of 2 keys limited"
        )
        await shows(app, "opened 1 time, 12 of 20 failed")
        await pilot.press("j", "k", key)
        await until(lambda: controller.sent)
        assert controller.sent == [command]
        controller.emit(CircuitHalfOpened, 10.0, key="example.org", probes=2)
        await shows(app, "◌ half open", "2 probes may pass")
        await pilot.press("escape")
        await shows(app, "2 circuits not closed")


async def test_circuits_closed_one_keeps_its_place() -> None:
    controller = FakeController()
    small_run(controller)
    for host in ("a.org", "b.org", "c.org"):
        controller.emit(CircuitOpened, 3.3, key=host, attempts=20, failures=12, seconds=5.0)
    controller.emit(CircuitClosed, 3.4, key="a.org")
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "› 0")
        await pilot.press("b")
        await shows(app, "2 of 3 keys limited")

        def order() -> list[str]:
            return re.findall(r"^ *([abcd]\.org)", text_of(app), re.MULTILINE)

        assert order() == ["b.org", "c.org", "a.org"]
        controller.emit(CircuitClosed, 3.5, key="b.org")
        controller.emit(CircuitOpened, 3.5, key="d.org", attempts=20, failures=12, seconds=5.0)
        await shows(app, "2 of 4 keys limited")
        assert order() == ["b.org", "c.org", "a.org", "d.org"]
        await pilot.press("i")
        await until(lambda: controller.sent)
        assert controller.sent == [IsolateCircuit("b.org")]


async def test_circuits_many_show_trouble_first() -> None:
    controller = FakeController()
    small_run(controller)
    hosts = [f"h{number:02}.org" for number in range(30)]
    for host in hosts:
        controller.emit(CircuitClosed, 0.1, key=host)
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› 0")
        await pilot.press("b")
        await shows(app, "0 of 30 keys limited", "h09.org")

        def order() -> list[str]:
            return re.findall(r"^ *(h\d\d)\.org", text_of(app), re.MULTILINE)

        assert order()[:10] == [f"h{number:02}" for number in range(10)]
        await pilot.press("f")
        await shows(app, "only these", "No key is limited. Press f to show all.")
        for host in hosts[15:]:
            controller.emit(CircuitOpened, 3.3, key=host, attempts=20, failures=12, seconds=5.0)
        hold(controller, "2", 3.4, key="h17.org")
        await shows(app, "15 of 30 keys limited", "opened 1 time, 12 of 20 failed", "h15.org")
        await pilot.press("f", "k", "f")
        await shows(app, "1 worker waits: 2")
        assert order()[:4] == ["h17", "h15", "h16", "h18"]
        await pilot.press("j")
        controller.emit(CircuitClosed, 3.5, key="h15.org")
        controller.emit(CircuitClosed, 3.5, key="h16.org")
        await shows(app, "13 of 30 keys limited")
        assert order()[:3] == ["h17", "h15", "h18"]
        await pilot.press("i")
        await until(lambda: controller.sent)
        assert controller.sent == [IsolateCircuit("h15.org")]
        await pilot.press("j")
        controller.emit(CircuitClosed, 3.6, key="h19.org")
        await shows(app, "12 of 30 keys limited")
        assert order()[:3] == ["h17", "h18", "h20"]


async def test_circuits_none_opened_says_so() -> None:
    async with running() as (app, controller, pilot):
        await pilot.press("b")
        await shows(app, "No host or key is limited.")
        await pilot.press("i", "p", "escape")
        await shows(app, "WORKER")
        assert controller.sent == []


async def test_circuits_dropped_one_leaves_the_list() -> None:
    controller = FakeController()
    small_run(controller)
    controller.emit(CircuitClosed, 0.1, key="a.org")
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› 0")
        await pilot.press("b")
        await shows(app, "0 of 1 key limited", "a.org")
        for number in range(CLOSED_KEPT):
            controller.emit(CircuitClosed, 0.2, key=f"h{number:04}.org")
        await shows(app, f"0 of {CLOSED_KEPT:,} keys limited", "h0000.org")
        assert "a.org" not in text_of(app)
