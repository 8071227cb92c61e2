"""Every key: the requests it sends, and what it shows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from textual.pilot import Pilot

from asyncwatch.commands import CancelAll, CancelWorker, RestartWorker, RetryNow, StopRun
from asyncwatch.events import RetryScheduled
from asyncwatch.ui.app import AsyncwatchApp
from asyncwatch.ui.screens.confirm import ConfirmScreen
from asyncwatch.ui.screens.fleet import FleetScreen
from asyncwatch.ui.widgets.filter_bar import FilterBar
from tests.ui.fakes import FakeController, hides, make_app, shows, small_run, text_of, until

Running = tuple[AsyncwatchApp, FakeController, Pilot[None]]


@asynccontextmanager
async def _running(
    tell: Callable[[FakeController], None] = small_run, size: tuple[int, int] = (120, 30)
) -> AsyncIterator[Running]:
    controller = FakeController()
    tell(controller)
    app = make_app(controller)
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(lambda: app.scene.fleet.rows and _table(app).selected)
        await shows(app, "› 0")
        await pilot.pause()
        yield app, controller, pilot


def _table(app: AsyncwatchApp) -> Any:
    screen = app.screen_stack[0]
    assert isinstance(screen, FleetScreen)
    return screen.table


def _selected(app: AsyncwatchApp) -> str:
    return str(_table(app).selected.name)


def _visible(app: AsyncwatchApp) -> list[str]:
    return [row.name for row in app.scene.view.order()]


def running(**options: Any) -> AbstractAsyncContextManager[Running]:
    """Run the dashboard over the small run."""
    return _running(**options)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        (["j"], "1"),
        (["down", "down"], "2"),
        (["j", "k"], "0"),
        (["G"], "7"),
        (["end", "up"], "6"),
        (["G", "g"], "0"),
        (["pagedown"], "7"),
        (["end", "home"], "0"),
        (["end", "pageup"], "0"),
        (["k"], "0"),
    ],
)
async def test_moves_the_cursor(keys: list[str], name: str) -> None:
    """Arrows, letters and page keys move the cursor, and it stops at both ends."""
    async with running() as (app, _, pilot):
        await pilot.press(*keys)
        assert _selected(app) == name
        await shows(app, f"› {name} ")


async def test_cancels_the_selected_worker() -> None:
    """`c` asks to cancel the incarnation that is shown, and nothing changes on screen by itself."""
    async with running() as (app, controller, pilot):
        await pilot.press("j", "j", "c")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("2", 1)]
        assert "↻ backing off" in text_of(app)
        controller.cancel("2", 3.3, ended=False)
        await shows(app, "› 2       □ cancelling")


async def test_restarts_the_selected_worker() -> None:
    """`r` names the present incarnation, also after a restart."""
    async with running() as (app, controller, pilot):
        controller.restart("0", 3.3)
        await until(lambda: app.scene.fleet.rows[0].incarnation == 2)
        await pilot.press("r")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("0", 2)]


async def test_acts_on_the_marked_workers() -> None:
    """With marks, `c` goes to those of them that are active and `r` to all, in queue order."""
    async with running() as (app, controller, pilot):
        await pilot.press("space", "j", "space", "space")
        await shows(app, "▌  0", "▌  2", "▌  3")
        await pilot.press("c")
        await until(lambda: len(controller.sent) == 1)
        await pilot.press("r")
        await until(lambda: len(controller.sent) == 4)
        assert controller.sent == [
            CancelWorker("2", 1),
            RestartWorker("0", 1),
            RestartWorker("2", 1),
            RestartWorker("3", 1),
        ]


async def test_marks_what_the_filter_shows_and_clears() -> None:
    """`a` marks the visible workers only; `escape` clears first the marks, then the filter."""
    async with running() as (app, _, pilot):
        await pilot.press("f", "a")
        await until(lambda: set(app.scene.view.marks) == {"2", "3"})
        await pilot.press("escape")
        assert set(app.scene.view.marks) == set()
        assert _visible(app) == ["2", "3"]
        await pilot.press("escape")
        assert len(_visible(app)) == 8


async def test_cancel_all_asks_and_says_how_many() -> None:
    """`C` sends nothing before a yes, and says how many workers are active."""
    async with running() as (app, controller, pilot):
        await pilot.press("C")
        await shows(app, "Cancel 4 workers?")
        await pilot.press("n")
        await hides(app, "Cancel 4 workers?")
        assert controller.sent == []
        await pilot.press("C", "y")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelAll()]


@pytest.mark.parametrize(("key", "verb", "kind"), [("c", "Cancel", CancelWorker), ("r", "Restart", RestartWorker)])
async def test_many_marked_workers_are_asked_about(key: str, verb: str, kind: type[Any]) -> None:
    """Beyond twenty marked workers nothing is sent before a yes, which the same key gives; twenty need none."""

    def tell(controller: FakeController) -> None:
        controller.start(*(str(number) for number in range(21)))

    async with running(tell=tell) as (app, controller, pilot):
        await pilot.press("a", key)
        await shows(app, f"{verb} 21 marked workers?")
        assert controller.sent == []
        await pilot.press(key)
        await until(lambda: controller.sent)
        assert controller.sent == [kind(str(number), 1) for number in range(21)]
        await pilot.press("space", key)
        await until(lambda: len(controller.sent) == 41)


async def test_restart_all_takes_those_without_success() -> None:
    """`R` restarts every worker that ended without success, after a yes that enter gives too."""
    async with running() as (app, controller, pilot):
        await pilot.press("R")
        await shows(app, "Restart 2 workers that did not succeed?")
        await pilot.press("enter")
        await until(lambda: controller.sent)
        assert controller.sent == [RestartWorker("3", 1), RestartWorker("4", 1)]


async def test_filters_as_one_types() -> None:
    """The fleet follows every letter; letters that are keys elsewhere do nothing but type."""
    async with running() as (app, controller, pilot):
        await pilot.press("slash", *"state:succ")
        await shows(app, "/ state:succ", "2 of 8")
        assert _visible(app) == ["0", "1"]
        assert controller.sent == []
        await pilot.press("enter", "j")
        assert _selected(app) == "1"
        await shows(app, "2 of 8")
        await pilot.press("slash", "escape")
        await hides(app, "2 of 8")
        assert len(_visible(app)) == 8
        assert app.focused is _table(app)


async def test_says_what_is_wrong_with_a_filter() -> None:
    """A term that cannot be understood is named instead of the count."""
    async with running() as (app, _, pilot):
        await pilot.press("slash", *"retries>x")
        await until(lambda: app.scene.view.query.problem)
        await shows(app, app.scene.view.query.problem)


async def test_says_that_nothing_matches() -> None:
    """A filter without a match leaves a line that says so, and acts on nobody."""
    async with running() as (app, controller, pilot):
        await pilot.press("slash", *"zzz", "enter")
        await shows(app, "No worker matches the filter.", "0 of 8")
        await pilot.press("c", "enter", "space", "j")
        await pilot.pause()
        assert controller.sent == []
        await pilot.press("escape")
        await shows(app, "8 workers", "› 0")


async def test_a_hidden_selection_moves_to_its_neighbour() -> None:
    """A worker that the filter hides hands the cursor to the nearest visible one."""
    async with running() as (app, _, pilot):
        await pilot.press("G", "f")
        await until(lambda: _selected(app) == "3")


async def test_the_next_key_is_for_the_worker_that_left_the_filter() -> None:
    """A row that matches no more stays under the cursor until that moves, and says so: nobody takes its place."""
    async with running() as (app, controller, pilot):
        await pilot.press("slash", *"state:back", "enter", "n")
        await until(lambda: controller.sent == [RetryNow("2", 1)])
        controller.attempt("2", 3.3, number=2)
        for name in "13":
            controller.restart(name, 3.3)
            controller.attempt(name, 3.4, incarnation=2)
            controller.tell(RetryScheduled, 3.5, worker=name, incarnation=2, attempt=2, delay=5.0)
        await until(lambda: app.scene.fleet.latest == 3.5)
        app.screen._resort()  # type: ignore[attr-defined]  # the fleet's
        assert (_visible(app), _selected(app)) == (["1", "2", "3"], "2")
        await shows(app, "2 stays while the cursor is on it · 2 of 8")
        await pilot.press("c")
        await until(lambda: controller.sent[1:] == [CancelWorker("2", 1)])
        await pilot.press("a", "down")
        assert set(app.scene.view.marks) == {"1", "3"}
        app.screen._resort()  # type: ignore[attr-defined]  # the fleet's
        assert (_visible(app), _selected(app)) == (["1", "3"], "3")
        await hides(app, "stays while")


async def test_sorts_and_reverses_without_losing_the_selection() -> None:
    """`s` goes through the columns, `S` reverses, and the cursor stays on its worker."""
    async with running() as (app, _, pilot):
        await pilot.press("j", "s")
        await shows(app, "STATE▲")
        await pilot.press(*"sssssss", "S")
        await shows(app, "WORKER▼")
        assert _visible(app)[0] == "7"
        assert _selected(app) == "1"
        await pilot.press("j")
        assert _selected(app) == "0"


async def test_sorts_by_a_heading_that_is_clicked() -> None:
    """A click on a heading sorts by it, a second one reverses."""
    async with running() as (app, _, pilot):
        await pilot.click(_table(app), offset=(12, 0))
        await shows(app, "STATE▲")
        await pilot.click(_table(app), offset=(12, 0))
        await shows(app, "STATE▼")
        assert _selected(app) == "0"


async def test_selects_and_opens_with_the_mouse() -> None:
    """A click selects the row under it, a double click opens it."""
    async with running() as (app, _, pilot):
        await pilot.click(_table(app), offset=(10, 3))
        assert _selected(app) == "2"
        await pilot.click(_table(app), offset=(10, 4), times=2)
        await shows(app, "worker 3", "LAST TRACEBACK")


async def test_shows_only_trouble() -> None:
    """`f` leaves the workers in trouble, and says so."""
    async with running() as (app, _, pilot):
        await pilot.press("f")
        await shows(app, "\n trouble only · 2 of 8\n")
        await pilot.press("slash")
        await shows(app, "/ text in name or error", "trouble only · 2 of 8")
        await pilot.press("escape")
        await shows(app, "\n trouble only · 2 of 8\n")
        await pilot.press("f")
        await hides(app, "trouble only")
        assert app.screen.query_one(FilterBar).display is False


async def test_opens_the_details_of_a_worker() -> None:
    """`enter` shows attempts, traceback and log of one worker, live, and its keys act on it."""
    async with running() as (app, controller, pilot):
        await pilot.press("j", "j", "enter")
        await shows(app, "worker 2", "↻ 3.50 s", "ServerTimeoutError: bad luck", "line 12, in fetch", "retry 1 of 2")
        controller.attempt("2", 4.0, number=2, luck=0.5)
        await shows(app, "● running", "attempt 2 of 3")
        await pilot.press("c", "r")
        await until(lambda: len(controller.sent) == 2)
        assert controller.sent == [CancelWorker("2", 1), RestartWorker("2", 1)]
        await pilot.press("right")
        await shows(app, "worker 3", "✗ failed")
        await pilot.press("escape")
        await shows(app, "WORKER")
        assert _selected(app) == "3"


async def test_details_of_a_stuck_worker() -> None:
    """An unresponsive worker shows where it is stuck and how often it was asked to stop."""
    async with running() as (app, controller, pilot):
        controller.leave_behind("5", 8.0)
        await shows(app, "▲ 1 unresponsive")
        await pilot.press(*"jjjjj", "enter")
        await shows(app, "STUCK AT", "/srv/app/stuck.py:7 spin", "asked to stop 5.00 s ago, 2 cancels ignored")
        await shows(app, "7.90 s  ▲ unresponsive")
        controller.restart("5", 9.0)
        controller.attempt("5", 10.0, incarnation=2)
        await shows(app, "LEFT BEHIND: INCARNATION 1, STUCK AT", "asked to stop 7.00 s ago", "7.90 s  ▲ unresponsive")
        await pilot.press("escape")
        await shows(app, "1 left behind")
        assert "unresponsive" not in text_of(app)


async def test_shows_the_log_and_keeps_the_readers_place() -> None:
    """`l` follows the newest lines; once scrolled up, new ones are counted instead."""

    def tell(controller: FakeController) -> None:
        small_run(controller)
        for number in range(100):
            controller.log("0", 3.2, f"line {number}", level="DEBUG")

    async with running(tell=tell) as (app, controller, pilot):
        await pilot.press("l")
        await shows(app, "line 99", "● following", "103 lines")
        await pilot.press("k", "k")
        await shows(app, "reading")
        top = text_of(app).splitlines()[2]
        for number in range(100, 107):
            controller.log("1", 3.3, f"line {number}")
        await shows(app, "+7 new")
        assert text_of(app).splitlines()[2] == top
        await pilot.press("G")
        await shows(app, "line 106", "● following")
        await pilot.press("v", "v")
        await shows(app, "from warning on", "Status: failed")
        await hides(app, "debug")
        await pilot.press("escape")
        await shows(app, "WORKER")


async def test_freezes_the_picture_but_not_the_work() -> None:
    """`p` keeps the picture, passes batches on, says how many events wait, and then shows them."""
    passed: list[Any] = []
    controller = FakeController()
    small_run(controller)
    app = make_app(controller, on_batch=passed.append)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "2 succeeded")
        before = len(passed)
        await pilot.press("p")
        controller.succeed("6", 4.0)
        controller.attempt("7", 4.1)
        await shows(app, "frozen · 2 events wait", "2 succeeded")
        assert len(passed) == before + 2
        await pilot.press("p")
        await shows(app, "3 succeeded")
        await hides(app, "frozen")


async def test_shows_the_help() -> None:
    """`?` lists keys, states and filter syntax, and escape closes it."""
    async with running(size=(120, 40)) as (app, _, pilot):
        await pilot.press("question_mark")
        await shows(app, "restart all that did not succeed", "▲ unresponsive", "retries>0", "ctrl+p")
        await pilot.press("escape")
        await shows(app, "WORKER")


async def test_the_palette_has_every_action() -> None:
    """The command palette offers each action of the fleet, and runs it."""
    async with running() as (app, _, pilot):
        names = [command.title for command in app.get_system_commands(app.screen)]
        for label in ("Cancel", "Restart", "Mark all", "Filter", "Sort", "Trouble", "Log", "Freeze", "Quit", "Theme"):
            assert any(name.startswith(label) for name in names), label
        await pilot.press("ctrl+p")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press(*"trouble")
        await until(lambda: "Trouble" in text_of(app) and "Cancel all" not in text_of(app))
        await pilot.press("enter")
        await until(lambda: app.scene.view.trouble_only)


@pytest.mark.parametrize("keys", [["q", "q"], ["q", "y"], ["ctrl+c", "ctrl+c"], ["q", "enter"]])
async def test_quits_after_a_question_and_waits_for_the_end(keys: list[str]) -> None:
    """With workers active it asks; a yes stops the run, and the app leaves when the run has finished."""
    async with running() as (app, controller, pilot):
        await pilot.press(keys[0])
        await shows(app, "Quit while 4 workers are active?")
        assert controller.sent == []
        await pilot.press(keys[1])
        await until(lambda: controller.sent)
        assert controller.sent == [StopRun()]
        await shows(app, "stopping… 4 of 4 still running")
        assert app.is_running
        controller.finish(3.5)
        await until(lambda: not app.is_running)
        assert app.return_code == 0


async def test_a_no_keeps_it_running() -> None:
    """Escape at the question sends nothing."""
    async with running() as (app, controller, pilot):
        await pilot.press("q")
        await until(lambda: isinstance(app.screen, ConfirmScreen))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, FleetScreen))
        assert controller.sent == []


@pytest.mark.parametrize("width", [80, 120])
async def test_a_blocked_event_loop_is_told(width: int) -> None:
    """The header says for how long, a request that has to wait for it gets a note, and the way out is named."""
    async with running(size=(width, 30)) as (app, controller, pilot):
        controller.block(7.2)
        app._read_statistics()
        await shows(app, "event loop blocked for 7 s")
        await pilot.press("j", "r")
        await shows(app, "The event loop is blocked; the request waits for it.")
        await pilot.press("q", "q")
        await shows(app, "event loop blocked for 7 s", "stopping… · ctrl+c ends them at once")
        controller.block(None)
        app._read_statistics()
        await shows(app, "stopping… 4 of 4 still running · ctrl+c ends them at once")


async def test_a_request_waits_for_no_loop_that_runs() -> None:
    """Without a blocked loop a request is sent without a note."""
    async with running() as (app, controller, pilot):
        controller.block(0.4)
        await pilot.press("j", "r")
        await until(lambda: controller.sent)
        await pilot.pause()
        assert "blocked" not in text_of(app)


async def test_a_further_ctrl_c_ends_all_at_once() -> None:
    """Who asks again while the run is stopping leaves the workers no more time; who asks once more leaves."""
    async with running() as (app, controller, pilot):
        await pilot.press("ctrl+c", "ctrl+c")
        await shows(app, "stopping…")
        await pilot.press("ctrl+c")
        await shows(app, "stopping… 4 of 4 still running · ctrl+c leaves")
        assert controller.sent == [StopRun(), StopRun(at_once=True)]
        assert app.is_running
        await pilot.press("ctrl+c")
        await until(lambda: not app.is_running)
        assert controller.sent == [StopRun(), StopRun(at_once=True)]


async def test_ctrl_c_asks_also_while_a_filter_is_typed() -> None:
    """The filter's line does not keep ctrl+c for copying."""
    async with running() as (app, _, pilot):
        await pilot.press("slash", "x", "ctrl+c")
        await shows(app, "Quit while 4 workers are active?")


async def test_a_signal_stops_without_a_question() -> None:
    """`request_stop` sends the request at once, and ends a freeze."""
    async with running() as (app, controller, pilot):
        await pilot.press("p")
        app.request_stop()
        await shows(app, "stopping…")
        assert not app.scene.is_frozen
        assert controller.sent == [StopRun()]


async def test_refusals_become_one_note() -> None:
    """A refused request is told with its reason; of all that one action asked for, the number and the first."""
    async with running() as (app, controller, pilot):
        controller.refuse("0", 3.3, "it has ended: succeeded")
        await shows(app, "cancel 0: it has ended: succeeded")
        await pilot.press("a", "c")
        await until(lambda: len(controller.sent) == 4)
        controller.refuse("2", 3.4, "it has ended: failed")
        await shows(app, "cancel 2: it has ended: failed")
        controller.refuse("6", 3.5, "it has ended: failed")
        await shows(app, "2 of 4 requests refused. The first: cancel 2: it has")
        assert len(app._notifications) == 1


async def test_a_note_covers_nothing_that_lives() -> None:
    """What is said stands where the keys are, on whatever screen, and once however often the key is pressed."""
    async with running() as (app, _controller, pilot):
        before = text_of(app).splitlines()
        await pilot.press("u", "u", "u")
        await shows(app, "nothing to undo")
        *above, last = text_of(app).splitlines()
        assert above == before[:-1]
        assert last.strip(" ▌") == "No setting was changed: there is nothing to undo."
        await pilot.press("l")
        await shows(app, "log  ", "nothing to undo")
        assert text_of(app).splitlines()[0].lstrip().startswith("log  ")


async def test_what_happens_to_the_output_is_told_at_once() -> None:
    """A full disk under the output file is a note on the screen, while the run goes on."""
    controller = FakeController()
    small_run(controller)
    news = iter(["cannot write [the] output"])
    app = make_app(controller, on_batch=lambda _batch: next(news, None))
    async with app.run_test(size=(120, 30), notifications=True):
        await shows(app, "cannot write [the] output", "running")


async def test_a_click_on_a_key_presses_it() -> None:
    """The footer's keys can be clicked, on the key and on its word."""
    async with running() as (app, _, pilot):
        line = text_of(app).splitlines()[-1]
        await pilot.click(offset=(line.index("errors") + 2, 29))
        await shows(app, "2 workers in 2 groups")
        await pilot.press("escape")
        await shows(app, "? help")
        await pilot.click(offset=(line.index("? help"), 29))
        await shows(app, "STATES")


async def test_many_attempts_are_told_on_one_axis() -> None:
    """A restarted worker shows the attempts of both incarnations, each with its luck and outcome."""
    async with running() as (app, controller, pilot):
        controller.restart("3", 4.0)
        controller.attempt("3", 4.1, luck=0.33, incarnation=2)
        controller.succeed("3", 4.3, incarnation=2)
        await pilot.press("j", "j", "j", "enter")
        await shows(app, "incarnation 2", "incarnation 1", "0.97 ↯", "✗ RuntimeError: bad luck", "0.33")
