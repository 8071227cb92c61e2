"""Which columns the table has, and the dialog that chooses them."""

from __future__ import annotations

from asyncwatch import text
from asyncwatch.events import AttemptFailed, AttemptHeld, ProgressReported, RunStarted
from tests.ui.fakes import FakeController, hides, shows, text_of
from tests.ui.running import running


def _run(controller: FakeController, luck: float = 1.0) -> None:
    facts = {"run": "demo", "runner": "wait", "seed": 1, "concurrency": 5, "timeout": None, "started_at": 0.0}
    controller.emit(RunStarted, 0.0, workers=2, bad_luck=luck, **facts)
    controller.queue_more("a", "b", group="g")
    controller.attempt("a", 0.1, luck=0.31)
    controller.attempt("b", 0.1, luck=0.97)


async def test_columns_that_say_nothing_are_absent_until_they_do() -> None:
    async with running(emit=_run) as (app, controller, _):
        await shows(app, "RETRIES  LUCK     LAST", "0/2      0.31")
        amount = {"done": 3, "total": 12, "unit": "page", "status": ""}
        controller.emit(ProgressReported, 0.2, worker="a", incarnation=1, attempt=1, **amount)
        await shows(app, "PROGRESS", "3/12 page")
        assert "RESULT" not in text_of(app)
        controller.succeed("b", 0.3, result="fine")
        await shows(app, "RESULT", "fine")
        assert "WAITS" not in text_of(app)
        failure = {"error_type": "Throttled", "error": "429", "transient": True, "injected": False, "stack": ""}
        controller.emit(
            AttemptFailed, 0.4, worker="a", incarnation=1, attempt=1, elapsed=0.3, error_class="throttled", **failure
        )
        controller.emit(AttemptHeld, 0.4, worker="a", incarnation=1, attempt=2, key="k", reason="throttled")
        await shows(app, "WAITS", "◌1")


async def test_luck_that_is_injected_has_bar_and_mark() -> None:
    async with running(emit=lambda controller: _run(controller, 0.9)) as (app, controller, _):
        await shows(app, "BAD LUCK", "━━━─────── 0.31")
        controller.fail("b", 0.2)
        await shows(app, "0.97 ↯")


async def test_sort_goes_through_the_shown_columns_only() -> None:
    async with running(emit=_run) as (app, _, pilot):
        orders = []
        for _key in range(7):
            await pilot.press("s")
            orders.append(app.dashboard.view.sort)
        assert orders == ["state", "retries", "luck", "last", "elapsed", "error", "name"]


async def test_dialog_hides_and_shows_columns() -> None:
    async with running(emit=_run) as (app, _, pilot):
        await pilot.press("h")
        await shows(app, "✓ elapsed", "· progress", "space shows or hides")
        await pilot.press(*"jjjjjjjj", "space")
        await hides(app, "ELAPSED")
        await pilot.press("k", "k", "k", "space")
        await shows(app, "✓ progress", "PROGRESS")
        await pilot.press("backspace", "home", "space", "escape")
        await hides(app, "PROGRESS")
        await shows(app, "› a ")
        assert app.dashboard.columns == {"elapsed": False}


def test_draw_below_one_is_never_shown_as_one() -> None:
    assert [text.luck(draw) for draw in (0.0, 0.494, 0.5, 0.994, 0.996, 0.99999)] == [
        "0.00",
        "0.49",
        "0.50",
        "0.99",
        "0.99",
        "0.99",
    ]
