"""What the run's discipline shows, and how a person changes it: settings, circuits, errors, chips."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import chain

import pytest
from msgspec.structs import replace
from textual.events import Key, Paste
from textual.pilot import Pilot

from asyncwatch.commands import (
    CancelWorker,
    ChangeSetting,
    CloseCircuit,
    Command,
    IsolateCircuit,
    ProbeCircuit,
    RestartWorker,
)
from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitOpened,
    NestedRetriesFound,
    RetryScheduled,
    RunHalted,
    SettingChanged,
)
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.asks import step
from asyncwatch.ui.screens.options import changes
from tests.ui.fakes import FakeController, hides, make_app, shows, small_run, text_of, until
from tests.ui.scenes import overview_text, scene_of
from tests.ui.trees import hold, tree_run

Running = tuple[AsyncwatchApp, FakeController, Pilot[None]]


@asynccontextmanager
async def running(size: tuple[int, int] = (120, 30), *, is_tree: bool = False) -> AsyncIterator[Running]:
    """Run the dashboard over the small run, or the tree."""
    controller = FakeController()
    (tree_run if is_tree else small_run)(controller)
    app = make_app(controller)
    async with app.run_test(size=size, notifications=True) as pilot:
        await shows(app, "› ")
        await pilot.pause()
        yield app, controller, pilot


def change(controller: FakeController, name: str, value: object, previous: object, *, is_undo: bool = False) -> None:
    """Say that a setting was changed."""
    controller.tell(SettingChanged, 3.3, name=name, value=value, previous=previous, is_undo=is_undo)


async def test_pauses_and_goes_on() -> None:
    """`P` asks for the opposite of what is, and the header says that the run is paused."""
    async with running() as (app, controller, pilot):
        await pilot.press("P")
        change(controller, "paused", value=True, previous=False)
        await shows(app, "‖ paused")
        await pilot.press("P")
        await until(lambda: len(controller.sent) == 2)
        assert controller.sent == [ChangeSetting("paused", True), ChangeSetting("paused", False)]
        change(controller, "paused", value=False, previous=True)
        await hides(app, "paused")


async def test_changes_the_concurrency_and_undoes_it() -> None:
    """`+` and `-` ask for a tenth more or less, the header says what it was, `u` asks for the previous value.

    Keys that are pressed faster than the engine answers are not lost: each builds on what came of the one before.
    """
    async with running() as (app, controller, pilot):

        async def asks_for(*numbers: int) -> None:
            await until(lambda: len(controller.sent) == len(numbers))
            assert controller.sent == [
                ChangeSetting("concurrency", abs(number), is_undo=number < 0) for number in numbers
            ]

        await pilot.press("u")
        await shows(app, "No setting was changed: there is nothing to undo.")
        await pilot.press("plus", "plus")
        await asks_for(110)
        change(controller, "concurrency", 110, 100)
        await shows(app, "concurrency 110 (was 100)")
        await asks_for(110, 121)
        await pilot.press("u", "u")
        change(controller, "concurrency", 121, 110)
        await asks_for(110, 121, -110)
        await shows(app, "Undone: concurrency is 110 again (was 121). 1 change before it.")
        app.clear_notifications()  # it stands before the keys
        await shows(app, "undo concurrency")
        change(controller, "concurrency", 110, 121, is_undo=True)
        await asks_for(110, 121, -110, -100)
        change(controller, "concurrency", 100, 110, is_undo=True)
        await hides(app, "(was 100)")


async def test_undone_bad_luck_is_that_of_the_workers() -> None:
    """What an undo says to have brought back is what the chip said before it."""
    async with running() as (app, controller, pilot):
        started = app.scene.fleet.run
        assert started is not None
        app.scene.fleet.settings.start(replace(started, bad_luck=1.0))
        change(controller, "bad luck", 0.0, None)
        await shows(app, "bad luck 0 (was 1)")
        await pilot.press("u")
        await shows(app, "Undone: bad luck is 1 again (was 0).")


async def test_settings_are_typed_when_they_are_known() -> None:
    """Before the run has started `o` says so, and opens nothing with half of the fields."""
    controller = FakeController()
    app = make_app(controller)
    async with app.run_test(notifications=True) as pilot:
        await pilot.press("o")
        await shows(app, "The run has not started yet")
        assert len(app.screen_stack) == 1


async def test_a_tree_has_no_concurrency_to_change() -> None:
    """Its workers hold no places: nothing is sent, and the dialog has no such line."""
    async with running(is_tree=True) as (app, controller, pilot):
        await pilot.press("plus")
        await shows(app, "All workers of a tree run at a time")
        await pilot.press("o")
        await shows(app, "Change while it runs", "bad luck above")
        assert "concurrency" not in text_of(app)
        assert controller.sent == []


@pytest.mark.parametrize("number", [1, 2, 9, 10, 11, 99, 100, 1234, 10_000])
def test_a_step_down_takes_back_a_step_up(number: int) -> None:
    """Up and down again is where one was, and a step always changes something."""
    assert step(number, 1) > number
    assert step(step(number, 1), -1) == number
    assert step(1, -1) == 1


async def test_types_settings() -> None:
    """`o` sends what was typed anew, and nothing else; what cannot be is said, and stays to be mended."""
    async with running() as (app, controller, pilot):
        await pilot.press("o")
        await shows(app, "Change while it runs")
        await pilot.press("backspace", "backspace", "backspace", "x", "enter")
        await shows(app, "concurrency is a whole number of at least 1")
        await pilot.press("backspace", "8", "down", *"20/s", "enter")
        await until(lambda: controller.sent)
        assert controller.sent == [ChangeSetting("concurrency", 8), ChangeSetting("rate", "20/s")]
        await hides(app, "Change while it runs")


async def test_a_rate_that_is_none_is_said_before_it_is_sent() -> None:
    """What no rate looks like stands in the dialog, which stays open until it is mended."""
    async with running() as (app, controller, pilot):
        await pilot.press("o")
        await shows(app, "Change while it runs")
        await pilot.press("down", *"fast", "enter")
        await shows(app, "a rate reads like 50/s, 90/min, 3/10s or 50/s burst 10, not 'fast'")
        assert controller.sent == []
        await pilot.press("escape")
        await hides(app, "Change while it runs")


async def test_keys_typed_ahead_are_for_what_the_key_before_them_opens() -> None:
    """Nothing typed before a dialog or the filter has the focus gets lost, or acts on a worker."""
    async with running() as (app, controller, _pilot):
        for key in "o12":
            app.post_message(Key(key, key))
        app.post_message(Key("enter", None))
        await until(lambda: controller.sent)
        for key in "/cC":
            app.post_message(Key("slash" if key == "/" else key, key))
        await shows(app, "/ cC")
        assert controller.sent == [ChangeSetting("concurrency", 12)]
        assert len(app.screen_stack) == 1


def _burst(app: AsyncwatchApp, *keys: str) -> None:
    """Hand over keys as a terminal does that has read them all at once; what is no name of a key is typed."""
    named = {"tab", "enter", "escape", "backspace", "ctrl+u", "left", "down"}
    for key in chain.from_iterable([key] if key in named else key for key in keys):
        app.post_message(Key("slash" if key == "/" else key, key if len(key) == 1 else None))


@pytest.mark.parametrize(
    ("keys", "commands"),
    [
        (["tab", "backspace", "45/s"], [ChangeSetting("rate", "45/s")]),
        (
            ["tab", "45/m", "tab", "tab", "backspace", "0.25"],
            [ChangeSetting("rate", "45/m"), ChangeSetting("bad luck", 0.25)],
        ),
        (["tab", "9", "ctrl+u", "7", "left", "4", "enter", "c"], None),
        (["7", "left", "4", "down", "ctrl+u", "4/s"], [ChangeSetting("concurrency", 47), ChangeSetting("rate", "4/s")]),
    ],
)
async def test_a_burst_of_keys_lands_where_each_is_typed(keys: list[str], commands: list[Command] | None) -> None:
    """Text and the keys that edit it or go to the next field keep their order, however fast they come."""
    async with running() as (app, controller, pilot):
        await pilot.press("o")
        await shows(app, "Change while it runs")
        _burst(app, *keys)
        if commands is None:
            await shows(app, "a rate reads like", "4c7")
            return
        _burst(app, "enter")
        await until(lambda: controller.sent)
        assert controller.sent == commands


async def test_a_filter_takes_a_burst_of_keys() -> None:
    """What is typed, taken back, kept and acted on in one burst is done in that order."""
    async with running() as (app, controller, _pilot):
        _burst(app, "/abc", "ctrl+u", "state:cancelled", "enter", "ar")
        await until(lambda: controller.sent)
        assert app.scene.view.query.text == "state:cancelled"
        assert controller.sent == [RestartWorker("4", 1)]
        _burst(app, "/", "ctrl+u", "77", "escape", "G")
        await until(lambda: not app.scene.view.query.text)
        assert set(app.scene.view.marks) == {"4"}


async def test_pasted_text_keeps_its_place_among_keys() -> None:
    """A paste in the middle of what is typed lands in the middle."""
    async with running() as (app, _controller, _pilot):
        _burst(app, "/a", "backspace", "b")
        app.post_message(Paste("cd"))
        _burst(app, "left", "e")
        await until(lambda: app.scene.view.query.text == "bced")


async def test_leaves_settings_as_they_are() -> None:
    """Escape, and enter without a change, send nothing."""
    async with running() as (app, controller, pilot):
        for key in ("escape", "enter"):
            await pilot.press("o")
            await shows(app, "Change while it runs")
            await pilot.press(key)
            await hides(app, "Change while it runs")
        assert controller.sent == []


@pytest.mark.parametrize(
    ("name", "typed", "value"),
    [
        ("bad luck", "0.5", 0.5),
        ("bad luck", "none", None),
        ("rate", "none", None),
        ("rate per key", " 5/min ", "5/min"),
    ],
)
def test_none_takes_a_setting_away(name: str, typed: str, value: float | str | None) -> None:
    """`none` is no limit, or each worker's own luck; an empty line changes nothing."""
    assert changes({name: "before"}, {name: typed}) == [ChangeSetting(name, value)]
    assert changes({name: "before"}, {name: ""}) == []


@pytest.mark.parametrize("typed", ["2", "-1", "often"])
def test_bad_luck_is_a_draw(typed: str) -> None:
    """A threshold outside 0 to 1 is refused."""
    with pytest.raises(ValueError, match="from 0 to 1"):
        changes({"bad luck": ""}, {"bad luck": typed})


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("i", IsolateCircuit("example.org")),
        ("o", CloseCircuit("example.org")),
        ("c", CloseCircuit("example.org")),
        ("p", ProbeCircuit("example.org")),
    ],
)
async def test_circuits_are_shown_and_controlled(key: str, command: Command) -> None:
    """`b` lists each key with its state, who waits and why it opened; a key acts on the one under the cursor."""
    async with running(is_tree=True) as (app, controller, pilot):
        await shows(app, "circuit example.org open")
        hold(controller, "urls/c", 10.0)
        controller.tell(CircuitOpened, 10.0, key="other.net", attempts=8, failures=8, seconds=60.0)
        await pilot.press("b")
        await shows(
            app, "example.org", "✗ open", "probed in 4.6 s", "2 workers wait: urls/b and urls/c", "2 of 2 not closed"
        )
        await shows(app, "opened 1 time, 12 of 20 failed")
        await pilot.press("j", "k", key)
        await until(lambda: controller.sent)
        assert controller.sent == [command]
        controller.tell(CircuitHalfOpened, 10.0, key="example.org", probes=2)
        await shows(app, "◌ half open", "2 probes may pass")
        await pilot.press("escape")
        await shows(app, "2 circuits not closed")


async def test_a_circuit_that_closes_stays_in_its_place() -> None:
    """Circuits that are not closed come first when the screen opens; then none moves, nor does the cursor."""
    controller = FakeController()
    small_run(controller)
    for host in ("a.org", "b.org", "c.org"):
        controller.tell(CircuitOpened, 3.3, key=host, attempts=20, failures=12, seconds=5.0)
    controller.tell(CircuitClosed, 3.4, key="a.org")
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "› 0")
        await pilot.press("b")
        await shows(app, "2 of 3 not closed")

        def order() -> list[str]:
            return re.findall(r"^ *([abcd]\.org)", text_of(app), re.MULTILINE)

        assert order() == ["b.org", "c.org", "a.org"]
        controller.tell(CircuitClosed, 3.5, key="b.org")
        controller.tell(CircuitOpened, 3.5, key="d.org", attempts=20, failures=12, seconds=5.0)
        await shows(app, "2 of 4 not closed")
        assert order() == ["b.org", "c.org", "a.org", "d.org"]
        await pilot.press("i")
        await until(lambda: controller.sent)
        assert controller.sent == [IsolateCircuit("b.org")]


async def test_circuits_in_trouble_among_many() -> None:
    """`f` shows only those that are not closed, the worst first; the one under the cursor stays there though it closes.

    A host where nobody waits takes one line, and one between.
    """
    controller = FakeController()
    small_run(controller)
    hosts = [f"h{number:02}.org" for number in range(30)]
    for host in hosts:
        controller.tell(CircuitClosed, 0.1, key=host)
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› 0")
        await pilot.press("b")
        await shows(app, "0 of 30 not closed", "h09.org")

        def order() -> list[str]:
            return re.findall(r"^ *(h\d\d)\.org", text_of(app), re.MULTILINE)

        assert order()[:10] == [f"h{number:02}" for number in range(10)]
        await pilot.press("f")
        await shows(app, "only these", "No circuit is open, half open or isolated; f shows all.")
        for host in hosts[15:]:
            controller.tell(CircuitOpened, 3.3, key=host, attempts=20, failures=12, seconds=5.0)
        hold(controller, "2", 3.4, key="h17.org")
        await shows(app, "15 of 30 not closed", "opened 1 time, 12 of 20 failed", "h15.org")
        await pilot.press("f", "k", "f")
        await shows(app, "1 worker waits: 2")
        assert order()[:4] == ["h17", "h15", "h16", "h18"]
        await pilot.press("j")
        controller.tell(CircuitClosed, 3.5, key="h15.org")
        controller.tell(CircuitClosed, 3.5, key="h16.org")
        await shows(app, "13 of 30 not closed")
        assert order()[:3] == ["h17", "h15", "h18"]
        await pilot.press("i")
        await until(lambda: controller.sent)
        assert controller.sent == [IsolateCircuit("h15.org")]
        await pilot.press("j")
        controller.tell(CircuitClosed, 3.6, key="h19.org")
        await shows(app, "12 of 30 not closed")
        assert order()[:3] == ["h17", "h18", "h20"]


async def test_no_circuits_are_said_to_be_none() -> None:
    """Without any circuit the screen says so, and its keys send nothing."""
    async with running() as (app, controller, pilot):
        await pilot.press("b")
        await shows(app, "No circuit has opened so far.")
        await pilot.press("i", "p", "escape")
        await shows(app, "WORKER")
        assert controller.sent == []


def troubled_run(controller: FakeController) -> None:
    """Tell of three workers that failed alike and one that failed otherwise."""
    controller.start("a", "b", "c", "d")
    for name, text in (("a", "row 7"), ("b", "row 8"), ("c", "row 9"), ("d", "column 1")):
        controller.attempt(name, 0.1)
        controller.tell(
            AttemptFailed,
            0.5,
            worker=name,
            incarnation=1,
            attempt=1,
            error_type="ValueError",
            error=text,
            transient=False,
            injected=False,
            elapsed=0.1,
            stack='  File "/srv/jobs.py", line 3, in load\n    raise ValueError\n',
            error_class="permanent",
        )
        if name != "c":
            controller.break_down(name, 0.6, "ValueError", text)


@asynccontextmanager
async def errors_open() -> AsyncIterator[Running]:
    """Run the dashboard over errors of two kinds, with the errors screen open."""
    controller = FakeController()
    troubled_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(120, 30), notifications=True) as pilot:
        await shows(app, "3 failed")
        await pilot.press("e")
        await shows(
            app, "errors  4 workers in 2 groups", "3  ValueError: row …", "/srv/jobs.py:3 load", "a: ValueError: row 7"
        )
        yield app, controller, pilot


async def test_errors_are_acted_on_as_one() -> None:
    """`r` restarts all of a kind, `c` cancels those that have not ended; both ask with the number."""
    async with errors_open() as (app, controller, pilot):
        await pilot.press("r")
        await shows(app, "Restart 3 workers with this error?")
        await pilot.press("r")
        await until(lambda: len(controller.sent) == 3)
        await pilot.press("c")
        await shows(app, "Cancel 1 worker with this error?")
        await pilot.press("y")
        await until(lambda: len(controller.sent) == 4)
        assert controller.sent == [*(RestartWorker(name, 1) for name in "abc"), CancelWorker("c", 1)]
        await pilot.press("j", "c")
        await shows(app, "All its workers have ended.")


async def test_errors_filter_the_fleet() -> None:
    """Enter shows the workers of one kind, the line below says so, and escape shows all again."""
    async with errors_open() as (app, _, pilot):
        await pilot.press("j", "enter")
        await shows(app, "errors like ValueError: column … · 1 of 4")
        assert [row.name for row in app.scene.view.order()] == ["d"]
        await pilot.press("escape")
        await hides(app, "errors like")
        assert len(app.scene.view.order()) == 4


async def test_a_trace_is_copied() -> None:
    """`y` puts the traceback of one of them, with its error, onto the clipboard."""
    async with errors_open() as (app, _, pilot):
        await pilot.press("y")
        await until(lambda: app.clipboard)
        assert app.clipboard.endswith("in load\n    raise ValueError\nValueError: row 7\n")
        await shows(app, "Copied the traceback of a.")


async def test_no_errors_are_said_to_be_none() -> None:
    """A run without errors has nothing to group, and nothing to act on."""
    controller = FakeController()
    controller.start("a")
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "› a")
        await pilot.press("e")
        await shows(app, "No worker has an error.")
        await pilot.press("r", "c", "y", "enter")
        await shows(app, "WORKER")
        assert controller.sent == []


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
    async with running((160, 30)) as (app, controller, pilot):
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
