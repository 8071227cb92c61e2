"""The cursor is on screen whatever a person, the terminal or the run does, and a key acts on its row."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import Random

import pytest
from textual import events
from textual.pilot import Pilot
from textual.scrollbar import ScrollTo
from textual.widget import Widget

from asyncwatch.commands import CancelBranch, CancelWorker, CloseCircuit
from asyncwatch.events import CircuitOpened
from asyncwatch.ui.app import AsyncwatchApp, Ending
from asyncwatch.ui.screens import errors
from asyncwatch.ui.screens.confirm import ConfirmScreen
from asyncwatch.ui.widgets.pick_list import PickList
from tests.ui.fakes import FakeController, make_app, shows, text_of, until
from tests.ui.running import running, selected, table_of
from tests.ui.trees import supervise

SIZES = [(80, 24), (120, 36), (100, 14), (60, 11)]
STEPS = 40


def flat_run(controller: FakeController) -> None:
    """Tell of 200 workers that run."""
    controller.start(*(f"w{number:03}" for number in range(200)))
    for number in range(200):
        controller.attempt(f"w{number:03}", 0.1, luck=number * 7 % 100 / 100)


def branched_run(controller: FakeController) -> None:
    """Tell of 200 workers that run, below eight supervisors."""
    names = [f"w{number:03}" for number in range(200)]
    controller.start(runner="serve")
    supervise(controller, "root")
    for branch in range(8):
        supervise(controller, f"root/s{branch}")
        controller.queue_more(*names[branch * 25 : branch * 25 + 25], group=f"root/s{branch}")
    for number, name in enumerate(names):
        controller.attempt(name, 0.1, luck=number * 7 % 100 / 100)


def wheel(widget: Widget, lines: int) -> None:
    """Turn the wheel of the mouse over a widget: down, or up if `lines` is negative."""
    kind = events.MouseScrollDown if lines > 0 else events.MouseScrollUp
    for _ in range(abs(lines)):
        widget.post_message(kind(widget, 5, 2, 0, 0, 0, shift=False, meta=False, ctrl=False))


def cursor_line(app: AsyncwatchApp) -> str | None:
    """Return what stands beside the cursor on the painted lines of the table, None if it is on none of them."""
    region = table_of(app).region
    lines = text_of(app).splitlines()[region.y + 1 : region.bottom]
    found = [line for line in lines if line[:2].endswith("›")]
    return found[0] if len(found) == 1 else None


def names_in(line: str) -> list[str]:
    """Return the words of a line, without the groups to which they belong."""
    return [word.rpartition("/")[2] for word in line.split()]


def is_cursor_painted(app: AsyncwatchApp) -> bool:
    """Return whether the selected line is painted with the cursor; it need not be if there is no line at all."""
    table = table_of(app)
    if app.dashboard.view.is_following:  # after `s`, in live order
        return table.selected is None and cursor_line(app) is None
    if not app.dashboard.view.lines():
        return table.selected is None and table.selected_branch is None
    line = cursor_line(app)
    branch = table.selected_branch
    name = table.selected.name if table.selected is not None else branch.path.rpartition("/")[2] if branch else None
    return line is not None and name in names_in(line)


class Person:
    """Does at random what may move rows or the view. `steps_taken` names each step for the message of a failure."""

    def __init__(self, seed: int, app: AsyncwatchApp, controller: FakeController, pilot: Pilot[Ending]) -> None:
        self._random = Random(seed)
        self._app, self._controller, self._pilot = app, controller, pilot
        self._now = 1.0
        self._incarnations: dict[str, int] = {}
        self._steps: list[Callable[[], Awaitable[str]]] = [
            *[self._press] * 6,
            *[self._wheel, self._drag, self._resize, self._restyle, self._filter, self._click, self._refuse],
            *[self._end_workers] * 3,
        ]
        self.steps_taken: list[str] = []

    async def step(self) -> None:
        """Do one thing, and wait until it is done."""
        self.steps_taken.append(await self._random.choice(self._steps)())
        await self._pilot.pause()

    async def _press(self) -> str:
        keys = self._random.choice(
            [
                *["s", "S", "f", "G", "g", "pageup", "pagedown", "j", "k", "left", "right", "space"],
                *["p p", "a escape", "enter escape", "e escape", "b escape", "l escape", "d escape", "escape"],
                *["s", "S", "j j j j j j j j", "k k k k k k k k", "left left", "l G escape"],
            ]
        )
        await self._pilot.press(*keys.split())
        return keys

    async def _wheel(self) -> str:
        lines = self._random.choice([-20, -8, -1, 1, 8, 20])
        wheel(table_of(self._app), lines)
        return f"wheel {lines}"

    async def _drag(self) -> str:
        place = self._random.randrange(200)
        table_of(self._app).post_message(ScrollTo(y=place, animate=False))
        return f"drag to {place}"

    async def _resize(self) -> str:
        size = self._random.choice(SIZES)
        await self._pilot.resize_terminal(*size)
        return f"resize {size}"

    async def _restyle(self) -> str:
        self._app.theme = self._random.choice(["nord", "textual-light", "textual-dark"])
        return self._app.theme

    async def _filter(self) -> str:
        text = self._random.choice(["w1", "9", "state:run", "nothing", ""])
        await self._pilot.press("slash", *["backspace"] * 9, *text, "enter")
        return f"filter {text}"

    async def _click(self) -> str:
        offset = self._random.choice([(5, 0), (14, 0), (5, 3)])
        await self._pilot.click(table_of(self._app), offset=offset)
        return f"click {offset}"

    async def _refuse(self) -> str:
        """Show a notice of two lines in a narrow terminal."""
        self._controller.refuse("w000", self._now, "it is being cancelled already, as a person requested")
        self._now += 1
        await until(lambda: "cancel w000" in text_of(self._app))
        return "refuse"

    async def _end_workers(self) -> str:
        """End or restart some workers, the selected one among them now and then; then let rows find their places."""
        rows = self._random.sample(self._app.dashboard.fleet.rows, 12)
        if (row := table_of(self._app).selected) is not None and self._random.random() < 0.5:
            rows.append(row)
        controller, at = self._controller, self._now
        for name in {row.name for row in rows}:
            incarnation = self._incarnations.get(name, 1)
            match self._random.randrange(3):
                case 0:
                    controller.succeed(name, at, incarnation=incarnation)
                case 1 if incarnation == 1:
                    controller.break_down(name, at)
                case _:
                    self._incarnations[name] = incarnation = incarnation + 1
                    controller.restart(name, at, incarnation)
                    controller.attempt(name, at, luck=self._random.random(), incarnation=incarnation)
        controller.log(None, at, "a moment passes")
        self._now += 1
        await until(lambda: self._app.dashboard.fleet.latest == at)
        self._app.screen_stack[0]._resort()  # type: ignore[attr-defined]  # the fleet's
        return "workers end"


async def check_key(app: AsyncwatchApp, controller: FakeController, pilot: Pilot[Ending]) -> None:
    """Press `c`: what it sends names the worker, or the supervisor, beside the cursor on the screen.

    It sends nothing if a layout came between the look at the screen and the key, and has hidden the cursor.
    """
    if app.dashboard.view.marks or (line := cursor_line(app)) is None:
        return
    controller.sent.clear()
    known = {note.identity for note in app._notifications}

    def is_refused() -> bool:
        return any("off screen" in note.message and note.identity not in known for note in app._notifications)

    await pilot.press("c")
    if table_of(app).selected_branch is not None:
        if not isinstance(app.screen, ConfirmScreen):
            return
        await pilot.press("y")
    await until(lambda: controller.sent or is_refused() or cursor_line(app) is None)
    if not controller.sent:  # a layout has hidden the cursor, or no row is left
        return
    (command,) = controller.sent
    assert isinstance(command, CancelWorker | CancelBranch)
    name = command.worker if isinstance(command, CancelWorker) else command.path
    assert name.rpartition("/")[2] in names_in(line)


@pytest.mark.parametrize("seed", [0, 2, 3])
@pytest.mark.parametrize("emit", [flat_run, branched_run])
async def test_cursor_after_random_steps_is_on_screen(emit: Callable[[FakeController], None], seed: int) -> None:
    async with running(emit=emit, size=(80, 24)) as (app, controller, pilot):
        person = Person(seed, app, controller, pilot)
        for _ in range(STEPS):
            await person.step()
            try:
                await until(lambda: is_cursor_painted(app))
                await check_key(app, controller, pilot)
            except (TimeoutError, AssertionError) as error:
                raise AssertionError(f"after {person.steps_taken}\n{text_of(app)}") from error


@pytest.mark.parametrize("size", [(80, 24), (120, 36)])
async def test_cursor_after_sort_keeps_worker_and_line(size: tuple[int, int]) -> None:
    async with running(emit=flat_run, size=size) as (app, controller, pilot):
        for name in ("w003", *(f"w{number:03}" for number in range(50, 120))):
            controller.cancel(name, 0.9)
        await shows(app, "71 cancelled")
        await pilot.press("j", "j", "j")
        before = next(y for y, line in enumerate(text_of(app).splitlines()) if line[1:].startswith("› w003"))
        await pilot.press("s")
        await shows(app, "STATE▲", "w199", "w050")
        assert "› w003" in text_of(app).splitlines()[before]
        await pilot.press("c")
        await until(lambda: controller.sent == [CancelWorker("w003", 1)])


async def test_cursor_after_cleared_filter_is_on_screen() -> None:
    async with running(emit=flat_run, size=(80, 24)) as (app, _controller, pilot):
        await pilot.press("slash", *"w150")
        await shows(app, "› w150", "1 of 200")
        await until(lambda: not table_of(app).show_vertical_scrollbar)
        await pilot.press(*["backspace"] * 4)
        await until(lambda: is_cursor_painted(app) and table_of(app).show_vertical_scrollbar)
        assert selected(app) == "w150"
        assert table_of(app).vertical_scrollbar.position == table_of(app).scroll_y > 0


async def test_cursor_scrolled_off_screen_moves_with_the_edge() -> None:
    async with running(emit=flat_run, size=(80, 24)) as (app, controller, pilot):
        table = table_of(app)
        rows = table.size.height - 1
        await pilot.press(*["j"] * 5)
        table.post_message(ScrollTo(y=4, animate=False))
        await pilot.pause()
        assert (table.scroll_y, selected(app)) == (4, "w005")
        table.post_message(ScrollTo(y=40, animate=False))
        await shows(app, "› w040")
        wheel(table, -30)
        await until(lambda: table.scroll_y == 0)
        assert selected(app) == f"w{rows - 1:03}"
        await pilot.press("c")
        await until(lambda: controller.sent == [CancelWorker(f"w{rows - 1:03}", 1)])


async def test_cursor_without_room_for_rows_refuses_keys() -> None:
    async with running(emit=flat_run, size=(80, 24)) as (app, controller, pilot):
        await pilot.press("j")
        await pilot.resize_terminal(80, 7)
        await until(lambda: table_of(app).size.height < 2)
        for key in ("c", "r", "n", "space", "enter"):
            app.clear_notifications()
            await pilot.press(key)
            await until(lambda: [note.message for note in app._notifications])
            assert [note.message.split(".")[0] for note in app._notifications] == ["The selection is off screen"]
        assert (controller.sent, list(app.dashboard.view.marks), len(app.screen_stack)) == ([], [], 1)
        await pilot.resize_terminal(80, 24)
        await shows(app, "› w001")
        await pilot.press("space")
        await pilot.resize_terminal(80, 7)
        await until(lambda: table_of(app).size.height < 2)
        await pilot.press("c")
        await until(lambda: controller.sent == [CancelWorker("w001", 1)])


LONG_REASON = "it is being cancelled already, and a second request to cancel it would change nothing"


@pytest.mark.parametrize("size", [(80, 24), (60, 14), (60, 9)])
async def test_cursor_on_last_line_stays_visible_above_a_notice(size: tuple[int, int]) -> None:
    async with running(emit=flat_run, size=size) as (app, controller, pilot):
        await pilot.press("G")
        await shows(app, "› w199")
        controller.refuse("w199", 1.0, LONG_REASON)
        await until(lambda: "change nothing" in text_of(app) and is_cursor_painted(app))
        await pilot.press("c")
        await until(lambda: controller.sent == [CancelWorker("w199", 1)])
        controller.refuse("w000", 2.0, "it has ended")
        await until(lambda: "cancel w000: it has ended" in text_of(app) and is_cursor_painted(app))
        app.clear_notifications()
        await shows(app, "› w199", "c cancel")
        await until(lambda: table_of(app).region.bottom == size[1] - 1)


async def test_cursor_without_room_beside_a_notice_refuses_keys() -> None:
    async with running(emit=flat_run, size=(60, 9)) as (app, controller, pilot):
        controller.refuse("w000", 1.0, " ".join([LONG_REASON] * 3))
        await shows(app, "second request to cancel it would change nothing")
        await until(lambda: table_of(app).size.height < 2)
        await pilot.press("c")
        await shows(app, "Enlarge the terminal.", "› w000")  # that notice leaves room
        assert controller.sent == []
        await pilot.press("c")
        await until(lambda: controller.sent == [CancelWorker("w000", 1)])


async def test_cursor_off_screen_key_scrolls_before_it_acts() -> None:
    async with running(emit=flat_run, size=(80, 24)) as (app, controller, pilot):
        table = table_of(app)
        await pilot.press("j")
        table._index, table._selected = 150, app.dashboard.fleet.rows[150]
        await pilot.press("c")
        await shows(app, "› w150", "Press the key again.")
        assert controller.sent == []
        await pilot.press("c")
        await until(lambda: controller.sent == [CancelWorker("w150", 1)])


def list_of(app: AsyncwatchApp) -> PickList:
    """Return the list of the screen that is open."""
    return app.screen.query_one(PickList)


def is_picked_on_screen(app: AsyncwatchApp) -> bool:
    """Return whether the first line of the selected item is one of the visible ones."""
    view = list_of(app)
    start = view._selected_lines().start
    return 0 <= start - view.scroll_offset.y < view.size.height


async def test_pick_list_cursor_of_circuits_is_on_screen() -> None:
    def emit(controller: FakeController) -> None:
        flat_run(controller)
        for number in range(40):
            controller.emit(CircuitOpened, 0.3, key=f"h{number:02}.org", attempts=9, failures=9, seconds=5.0)

    async with running(emit=emit, size=(80, 24)) as (app, controller, pilot):
        await pilot.press("b")
        await shows(app, "40 of 40 keys limited", "h00.org")
        view = list_of(app)
        await until(lambda: view.allow_vertical_scroll)
        wheel(view, 10)
        await until(lambda: view.scroll_y > 0)
        await pilot.pause()
        assert view.selected == f"h{-(-view.scroll_offset.y // 2):02}.org"
        await pilot.press("G")
        await until(lambda: "h39.org" in text_of(app))
        wheel(view, -30)
        await until(lambda: view.scroll_y == 0)
        await pilot.pause()
        assert is_picked_on_screen(app)
        await pilot.press(*["j"] * 3)
        await pilot.resize_terminal(80, 9)
        await until(lambda: view.size.height < 8)
        await until(lambda: is_picked_on_screen(app))
        picked = view.selected
        assert isinstance(picked, str)
        assert picked in text_of(app)
        await pilot.press("c")
        await until(lambda: controller.sent == [CloseCircuit(picked)])
        await pilot.resize_terminal(80, 2)
        await until(lambda: view.region.y >= app.size.height)
        await pilot.press("c")
        await until(lambda: [note.message for note in app._notifications])
        assert controller.sent == [CloseCircuit(picked)]


async def test_pick_list_cursor_of_vanished_error_is_on_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "EVERY", 0.0)
    monkeypatch.setattr(errors, "SHARE", 0)
    controller = FakeController()
    kinds = "abcdefghijklmnopqrst"
    controller.start(*kinds)
    for kind in kinds:
        controller.attempt(kind, 0.1)
        controller.break_down(kind, 0.2, text=f"kind {kind}")
    app = make_app(controller)
    async with app.run_test(size=(100, 14)) as pilot:
        await shows(app, "20 failed")
        await pilot.press("e")
        await shows(app, "in 20 groups")
        await pilot.press("G")
        await shows(app, "kind t")
        for kind in kinds[8:]:
            controller.restart(kind, 0.3)
            controller.attempt(kind, 0.4, incarnation=2)
        await shows(app, "in 8 groups")
        await until(lambda: is_picked_on_screen(app))
        await shows(app, "kind h")
