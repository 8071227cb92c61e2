"""Throttled keys: in the rows, above them, on the page of a worker, and on the page of the limits."""

from __future__ import annotations

import re

import pytest

from asyncwatch.commands import Command, HoldKey, ReleaseKey, ResetKey
from asyncwatch.events import (
    AttemptFailed,
    AttemptHeld,
    CircuitOpened,
    KeyLimitChanged,
    KeyReleased,
    KeyThrottled,
    RetryRefused,
    SettingChanged,
)
from asyncwatch.model.rows import Row
from asyncwatch.ui.hints import fleet_hints
from asyncwatch.ui.render.columns import SECOND, TENTH, Layout, cells
from asyncwatch.ui.render.tree import counts_down, held_by
from tests.rows import a_row
from tests.ui.fakes import FakeController, dashboard_of, make_app, overview_text, shows, text_of, until
from tests.ui.running import table_of


def throttle(controller: FakeController, name: str, at: float, number: int = 1, key: str = "a.example") -> None:
    """Let an attempt be refused by the other side, and the next one wait for the key."""
    controller.attempt(name, at - 0.05, number)
    controller.emit(
        AttemptFailed,
        at,
        worker=name,
        incarnation=1,
        attempt=number,
        error_type="ClientResponseError",
        error="429, message='Too Many Requests'",
        transient=True,
        injected=False,
        elapsed=0.05,
        stack="",
        error_class="throttled",
    )
    wait(controller, name, at, number + 1, key)


def wait(
    controller: FakeController, name: str, at: float, number: int = 1, key: str = "a.example", reason: str = "throttled"
) -> None:
    """Let an attempt wait."""
    controller.emit(AttemptHeld, at, worker=name, incarnation=1, attempt=number, key=key, reason=reason)


def hold(controller: FakeController, at: float, seconds: float | None = 2.0, asked: float | None = 2.0) -> None:
    """Let a.example be held."""
    controller.emit(KeyThrottled, at, key="a.example", seconds=seconds, retry_after=asked, refused=1)


def learn(controller: FakeController, at: float, rate: float | None = 7.0, limit: int | None = None) -> None:
    """Let the limits of a.example be known."""
    fields = {"limit": limit, "rate": rate, "in_flight": 12, "refused": 4}
    controller.emit(KeyLimitChanged, at, key="a.example", **fields)


def throttled_run(controller: FakeController) -> None:
    """Emit the first second of five workers: two were refused, one waits behind them, one for the budget."""
    controller.start("a", "b", "c", "d", "e")
    controller.attempt("e", 0.1)
    controller.succeed("e", 0.2)
    hold(controller, 0.9)
    throttle(controller, "a", 0.9)
    throttle(controller, "b", 0.9)
    wait(controller, "c", 1.0)
    wait(controller, "d", 1.0, number=2, key="", reason="budget")


def wait_of(controller: FakeController, name: str = "a", width: int = 80, later: float = 0.0) -> str:
    """Return the note on the wait of a worker, `later` seconds after the last event."""
    dashboard = dashboard_of(controller)
    row = dashboard.fleet.get(name)
    assert row is not None
    return held_by(dashboard.fleet, row, dashboard.now + later, width)


def retries_of(row: Row, width: int) -> str:
    """Return the cell of the retries."""
    spans = cells(
        row, 0.0, Layout((("retries", width), ("waits", 5), ("error", 0)), 1), is_selected=False, is_marked=False
    )
    return "".join(span.text for span in spans).strip()


def test_row_says_what_its_key_asked_for_and_how_long_it_still_waits() -> None:
    controller = FakeController()
    throttled_run(controller)
    assert wait_of(controller) == "a.example asked for 2 s, 1.9 s left"
    assert wait_of(controller, later=1.0) == "a.example asked for 2 s, 0.9 s left"
    assert wait_of(controller, later=2.0) == "a.example probed now"
    assert [wait_of(controller, width=width) for width in (24, 30, 14)] == [
        "a.example asked for 2 s",
        "a.example asked for 2 s",
        "1.9 s left",
    ]
    assert wait_of(controller, "d") == "retry budget"
    wait(controller, "c", 1.0, reason="share")
    assert wait_of(controller, "c") == "share of a.example"
    hold(controller, 1.0, 7200.0, 7200.0)
    assert wait_of(controller) == "a.example asked for 2h 00m, 2h 00m left"


def test_row_says_what_a_key_allows_that_is_not_held() -> None:
    controller = FakeController()
    throttled_run(controller)
    hold(controller, 1.0, 0.5, None)
    assert wait_of(controller) == "a.example throttles, 0.5 s left"
    hold(controller, 1.0, 9.0, 2.0)
    assert wait_of(controller) == "a.example throttles, 9.0 s left"
    hold(controller, 1.0, None, None)
    assert wait_of(controller) == "a.example held by a person"
    controller.emit(KeyReleased, 1.0, key="a.example")
    assert wait_of(controller) == "throttled by a.example"
    learn(controller, 1.0, None, 12)
    assert wait_of(controller) == "a.example allows 12 at a time"
    learn(controller, 1.0, 7.0, 12)
    assert wait_of(controller) == "a.example allows 7/s"
    assert [wait_of(controller, width=width) for width in (12, 5)] == ["allows 7/s", "7/s"]


def test_row_counts_down_only_in_the_last_seconds_of_a_hold() -> None:
    controller = FakeController()
    throttled_run(controller)
    hold(controller, 1.0, 30.0, 30.0)
    dashboard = dashboard_of(controller)
    row = dashboard.fleet.get("a")
    assert row is not None
    assert [counts_down(dashboard.fleet, row, now) for now in (2.0, 20.9, 21.1, 30.9, 31.1)] == [
        False,
        False,
        True,
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("retries", "throttled", "width", "text"),
    [
        (0, 0, 7, "0/2     -"),
        (0, 3, 7, "0/2     ◌3"),
        (1, 123, 7, "1/2     ◌123"),
        (1, 3, 5, "1/2   ◌3"),
    ],
)
def test_throttled_attempts_have_a_column_beside_the_retries(
    retries: int, throttled: int, width: int, text: str
) -> None:
    row = a_row("w", attempt=1 + retries + throttled, throttled=throttled)
    assert retries_of(row, width) == text


async def test_lines_of_a_key_are_drawn_again_when_its_state_changes() -> None:
    """No event of the worker comes with it."""
    controller = FakeController()
    throttled_run(controller)
    hold(controller, 1.0, None, None)
    app = make_app(controller)
    async with app.run_test(size=(120, 20)):
        await shows(app, "a.example held by a person")
        controller.emit(KeyReleased, 1.0, key="a.example")
        learn(controller, 1.0)
        await shows(app, "a.example allows 7/s", "WAITS", "◌1")
        learn(controller, 1.0, 8.0)
        await shows(app, "a.example allows 8/s")


async def test_lines_that_wait_for_a_long_hold_are_drawn_once_a_second() -> None:
    controller = FakeController()
    controller.start("a")
    hold(controller, 0.9, 90.1, 90.0)
    wait(controller, "a", 1.0)
    app = make_app(controller)
    async with app.run_test(size=(160, 20)):
        await shows(app, "a.example asked for 1m 30s, 1m 30s left, 1 wait")
        await until(lambda: table_of(app).period == SECOND)
        hold(controller, 1.0)
        await shows(app, "a.example asked for 2 s, 2.0 s left")
        await until(lambda: table_of(app).period == TENTH)


def test_header_says_which_keys_hold_workers_up() -> None:
    controller = FakeController()
    throttled_run(controller)
    assert "a.example asked for 2 s, 2 s left, 3 wait" in overview_text(dashboard_of(controller), 120)
    learn(controller, 1.0)
    controller.emit(KeyReleased, 1.0, key="a.example")
    assert "a.example: 7/s learned, 12 in flight, 3 wait" in overview_text(dashboard_of(controller), 120)
    learn(controller, 1.0, None, 12)
    wait(controller, "c", 1.0, key="b.example")
    text = overview_text(dashboard_of(controller), 80)
    assert "a.example: at most 12 at a time, 12 in flight, 2 wait" in text
    assert "b.example: 0 in flight, 1 wait" in text
    assert max(map(len, text.splitlines())) <= 80
    for name, key in (("a", "c.example"), ("b", "d.example")):
        wait(controller, name, 1.0, key=key)
    assert "1 more throttled key: 1 wait" in overview_text(dashboard_of(controller), 120)


def test_header_names_no_key_among_very_many() -> None:
    controller = FakeController()
    names = [f"w{number}" for number in range(1_001)]
    controller.start(*names)
    for name in names:
        wait(controller, name, 1.0, key=f"{name}.example")
    text = overview_text(dashboard_of(controller), 120)
    assert "1,001 throttled keys: 1,001 wait" in text
    assert ".example" not in text


def test_header_says_that_retries_wait_for_the_budget() -> None:
    controller = FakeController()
    throttled_run(controller)
    dashboard = dashboard_of(controller)
    assert "retry budget, 1 retry waits" in overview_text(dashboard, 120)
    dashboard.statistics = type(controller.known)(retry_tokens=500.0, retry_capacity=500.0)
    assert "retry budget, 1 retry waits" in overview_text(dashboard, 120), "the statistics are late"
    dashboard.statistics = type(controller.known)(retry_tokens=3.0, retry_capacity=500.0)
    assert "3 of 500 tokens left, 1 retry waits" in overview_text(dashboard, 120)


def test_header_is_silent_when_nothing_waits() -> None:
    controller = FakeController()
    controller.start("a")
    learn(controller, 0.1)
    wait(controller, "a", 0.2, reason="share")
    assert "example" not in overview_text(dashboard_of(controller), 120)


def test_footer_shows_the_key_of_the_limits_while_a_key_is_throttled() -> None:
    controller = FakeController()
    controller.start("a")
    assert "limits" not in fleet_hints(dashboard_of(controller).fleet, [], has_marks=False)
    hold(controller, 0.9, None, None)
    assert "limits" in fleet_hints(dashboard_of(controller).fleet, [], has_marks=False)
    controller.emit(KeyReleased, 0.9, key="a.example")
    wait(controller, "a", 1.0)
    assert "limits" in fleet_hints(dashboard_of(controller).fleet, [], has_marks=False)


@pytest.mark.parametrize(
    ("key", "command"), [("r", ReleaseKey("a.example")), ("h", HoldKey("a.example")), ("x", ResetKey("a.example"))]
)
async def test_limits_of_a_key_are_listed_and_controlled(key: str, command: Command) -> None:
    controller = FakeController()
    throttled_run(controller)
    app = make_app(controller)
    async with app.run_test(size=(120, 24), notifications=True) as pilot:
        await shows(app, "› a")
        await pilot.press("b")
        await shows(app, "1 of 1 key limited", "◌ throttled", "asked for 2 s, 1.9 s left", "2 throttled")
        await shows(app, "3 workers wait: a, b and c")
        assert "isolate" not in text_of(app)
        await pilot.press(key)
        await until(lambda: controller.sent)
        assert controller.sent == [command]
        hold(controller, 1.0, None, None)
        await shows(app, "■ held", "held by a person")
        controller.emit(KeyReleased, 1.0, key="a.example")
        learn(controller, 1.0, 7.0, 3)
        await shows(app, "● limited", "7/s learned", "at most 3 at a time", "12 in flight", "4 throttled")
        controller.refuse("", 1.0, "a.example: there is no such key", command=type(command).__name__)
        await shows(app, f"{type(command).__name__.removesuffix('Key').lower()} a.example: there is no such key")


async def test_limits_show_the_retry_budget_that_retries_wait_for() -> None:
    controller = FakeController()
    controller.start("a", "b")
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› a")
        for name in "ab":
            wait(controller, name, 0.5, key="", reason="budget")
        await shows(app, "b limits")
        await pilot.press("b")
        await shows(app, "retry budget, 2 retries wait", "not for a key")


async def test_limits_show_throttle_circuit_and_rate_limit_of_one_key() -> None:
    controller = FakeController()
    throttled_run(controller)
    learn(controller, 1.0)
    controller.emit(CircuitOpened, 1.0, key="a.example", attempts=20, failures=12, seconds=5.0)
    controller.emit(SettingChanged, 1.0, name="rate", value="50/s", previous=None, key="a.example")
    app = make_app(controller)
    async with app.run_test(size=(80, 24)) as pilot:
        await shows(app, "› a")
        await pilot.press("b")
        await shows(app, "7/s learned", "circuit", "✗ open", "probed in 5.0 s", "opened 1 time, 12 of 20 failed")
        await shows(app, "rate limit 50/s", "i isolate")
        lines = [line for line in text_of(app).splitlines() if line.strip()]
        assert max(map(len, lines)) <= 80
        assert [line.strip()[:9] for line in lines[1:]].count("a.example") == 1


async def test_limits_list_throttled_keys_first_and_can_leave_out_the_others() -> None:
    controller = FakeController()
    controller.start("a", "b", "c")
    wait(controller, "a", 0.1, key="free.example", reason="share")
    controller.attempt("a", 0.2)
    controller.emit(KeyLimitChanged, 0.3, key="limited.example", limit=4, rate=None, in_flight=4, refused=2)
    controller.emit(KeyThrottled, 0.3, key="held.example", seconds=9.0, retry_after=9.0, refused=1)
    app = make_app(controller)
    async with app.run_test(size=(100, 24)) as pilot:
        await shows(app, "› a")
        await pilot.press("b")
        await shows(app, "2 of 3 keys limited", "● free")

        def order() -> list[str]:
            return re.findall(r"^ *(\w+)\.example", text_of(app), re.MULTILINE)

        assert order() == ["held", "limited", "free"]
        await pilot.press("f")
        await shows(app, "only these")
        assert order() == ["held", "limited"]


async def test_limits_of_thousands_of_waiting_workers_give_only_their_number() -> None:
    controller = FakeController()
    names = [f"w{number}" for number in range(1_001)]
    controller.start(*names)
    for name in names:
        wait(controller, name, 1.0)
    app = make_app(controller)
    async with app.run_test(size=(100, 24)) as pilot:
        await shows(app, "› w0")
        await pilot.press("b")
        await shows(app, "1,001 workers wait")
        assert "w0" not in text_of(app)


async def test_details_tell_retries_from_throttled_attempts() -> None:
    controller = FakeController()
    throttled_run(controller)
    throttle(controller, "a", 1.2, number=2)
    controller.attempt("a", 1.3, 3)
    app = make_app(controller)
    async with app.run_test(size=(120, 30)) as pilot:
        await shows(app, "› a")
        await pilot.press("enter")
        await shows(app, "attempt 3 (retry 0 of 2)", "throttled 2 times", "attempt 2 waited: throttled by a.example")


async def test_row_says_that_a_key_was_throttled_for_too_long() -> None:
    controller = FakeController()
    throttled_run(controller)
    controller.emit(RetryRefused, 1.2, worker="a", incarnation=1, attempt=2, reason="patience")
    controller.exhaust("a", 1.2)
    app = make_app(controller)
    async with app.run_test(size=(160, 30)):
        await shows(app, "throttled for too long: ServerDisconnectedError")
