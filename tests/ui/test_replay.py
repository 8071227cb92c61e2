"""Recorded runs in the dashboard: keys, scrubber, times, and the past of a live run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from asyncwatch.commands import CancelWorker, Disconnected, Moment, Problem, Recording, StopRun
from asyncwatch.events import WorkerState
from asyncwatch.journal.replay import Replay
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.snapshot import Snapshot
from asyncwatch.ui.app import NOT_RECORDED, AsyncwatchApp, Ending
from asyncwatch.ui.keys import PLAYS, Role, offered
from asyncwatch.ui.render.scrubber import failure_beside, parse_moment, scrubber, speed_beside
from asyncwatch.ui.widgets.scrubber import ScrubberLine
from tests.journal.test_replay import record, some_run
from tests.ui.fakes import FakeController, hides, make_app, shows, small_run, text_of, until
from tests.ui.running import running, table_of

KNOWN = Recording(at=3.2, end=10.0, started=1_000.0, is_playing=False, speed=1.0, failures=(2.0, 4.0), throttled=(8.0,))


class FakePlayer(FakeController):
    """Keeps what was requested of it."""

    def __init__(self) -> None:
        super().__init__()
        self.known_recording = KNOWN
        self.asked: list[object] = []
        self.is_closed = False

    def recording(self) -> Recording:
        """Return what a test says."""
        return self.known_recording

    def seek(self, at: float) -> None:
        """Keep the moment."""
        self.asked.append(round(at, 6))

    def play(self, *, is_playing: bool) -> None:
        """Keep the request, and follow it."""
        self.asked.append("play" if is_playing else "stop")
        self.known_recording = msgspec.structs.replace(self.known_recording, is_playing=is_playing)

    def set_speed(self, speed: float) -> None:
        """Keep the request, and follow it."""
        self.asked.append(f"{speed}x")
        self.known_recording = msgspec.structs.replace(self.known_recording, speed=speed)

    def close(self) -> None:
        """Note it."""
        self.is_closed = True


def text_of_line(recording: Recording, at: float, width: int) -> str:
    return "".join(span.text for span in scrubber(recording, at, width).line)


# -- the line, and times


def test_scrubber_has_the_moment_and_the_marks() -> None:
    assert text_of_line(KNOWN, 6.0, 46) == "‖ 00:06.0 of 00:10.0 1x ━━━━!━━━!━━━━●───~────"


@pytest.mark.parametrize("width", [0, 10, 30, 46, 80, 300])
def test_scrubber_fits(width: int) -> None:
    indexing = msgspec.structs.replace(KNOWN, indexed=0.4, is_playing=True)
    text = text_of_line(indexing, 10.0, width)
    assert len(text) <= max(width, 25)
    assert ("indexing 40%" in text) == (width >= 80)


@pytest.mark.parametrize("width", [40, 60, 200])
def test_scrubber_cell_of_a_moment_is_that_of_a_click(width: int) -> None:
    made = scrubber(KNOWN, 0.0, width)
    assert made.moment(made.left, 10.0) == 0.0
    assert made.moment(made.left + made.cells - 1, 10.0) == 10.0
    assert made.moment(made.left - 1, 10.0) is None
    assert made.moment(made.left + made.cells, 10.0) is None


def test_empty_recording_has_a_scrubber() -> None:
    assert "00:00.0" in text_of_line(Recording(0.0, 0.0, 0.0, is_playing=False, speed=1.0), 0.0, 60)


def test_failures_beside() -> None:
    assert [failure_beside(KNOWN, at, 1) for at in (0.0, 2.0, 3.0, 4.0)] == [2.0, 4.0, 4.0, None]
    assert [failure_beside(KNOWN, at, -1) for at in (2.0, 3.0, 4.0, 9.0)] == [None, 2.0, 2.0, 4.0]


def test_speeds_have_ends() -> None:
    assert [speed_beside(speed, 1) for speed in (0.25, 1.0, 64.0)] == [0.5, 2.0, 64.0]
    assert [speed_beside(speed, -1) for speed in (0.25, 1.0, 64.0)] == [0.25, 0.5, 32.0]


@pytest.fixture
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import time  # noqa: PLC0415

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


NOON = 1_700_049_600.5  # 2023-11-15, 12:00:00.5
LONG = Recording(at=0.0, end=20 * 3600.0, started=NOON, is_playing=False, speed=1.0)


@pytest.mark.usefixtures("_utc")
@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90", 90.0),
        ("1.5", 1.5),
        ("1:30", 90.0),
        (" 1:30.5 ", 90.5),
        ("12:00:00", 0.0),
        ("14:03:20", 2 * 3600 + 199.5),
        ("07:00:00", 19 * 3600 - 0.5),  # the next day
        ("11:00:00", 11 * 3600.0),  # the run was over, so since its start
        ("start", 0.0),
        ("END", 20 * 3600.0),
    ],
)
def test_moment_is_parsed(text: str, moment: float) -> None:
    assert parse_moment(text, LONG) == pytest.approx(moment)


@pytest.mark.parametrize(
    "text", ["", "x", "1:2:3:4", "-3", "1e9", "nan", "٣", "90000000", f"{'9' * 400}:01:30", f"{'9' * 5000}:01:30"]
)
def test_text_that_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"Type a time|The recording ends"):
        parse_moment(text, LONG)


# -- keys


def replaying(player: FakePlayer) -> AsyncwatchApp:
    small_run(player)
    player.put(Moment(3.2))
    return make_app(player, role=Role.REPLAY, player=player)


@pytest.mark.parametrize("page", [(), ("l",), ("enter",), ("b",), ("d",), ("question_mark",)], ids=str)
async def test_keys_move_the_recording_on_every_page(page: tuple[str, ...]) -> None:
    player = FakePlayer()
    app = replaying(player)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(app, "› ", "recorded run", "00:03.2 of 00:10.0", "space play")
        await pilot.press(*page)
        await pilot.press("space", "space", "comma", "full_stop", "greater_than_sign", "less_than_sign")
        await pilot.press("exclamation_mark", "1")
        assert player.asked == ["play", "stop", 2.2, 4.2, "2.0x", "1.0x", 4.0, 2.0]
        assert player.sent == []


async def test_prompt_goes_to_a_time_or_says_what_is_wrong() -> None:
    player = FakePlayer()
    app = replaying(player)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(app, "recorded run")
        await pilot.press("colon", *"1:30", "enter")
        await shows(app, "Go to which time?", "The recording ends at 00:10.0.")
        await pilot.press("escape", "colon", "comma", "space", "9", "home", "delete", "enter")
        await hides(app, "Go to which time?")
        assert player.asked == [9.0]


async def test_click_on_the_scrubber_goes_there() -> None:
    player = FakePlayer()
    app = replaying(player)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(app, "recorded run")
        left = scrubber(KNOWN, 3.2, 78).left
        await pilot.click(ScrubberLine, offset=(1 + left, 0))
        await pilot.click(ScrubberLine, offset=(78, 0))
        assert player.asked == [0.0, 10.0]


@pytest.mark.parametrize("key", ["c", "R", "P", "o", "a", "p", "D", "t"])
async def test_recorded_run_refuses_every_key_that_acts(key: str) -> None:
    player = FakePlayer()
    app = replaying(player)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(app, "recorded run")
        await pilot.press(key)
        await shows(app, "This is ")
        assert player.sent == []
        assert app.is_running
        assert key not in {each.keys for each in offered(PLAYS, Role.REPLAY)}


async def test_recorded_run_goes_on_after_its_end_and_q_leaves_it() -> None:
    player = FakePlayer()
    app = replaying(player)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        player.finish(5.0)
        await shows(app, "00:05.0")
        for part in Snapshot(Fleet()).parts():
            player.put(part)
        player.put(Moment(0.0))
        await shows(app, "starting…")
        await pilot.press("q")
        await until(lambda: not app.is_running)
        assert app.return_value is Ending.LEFT


async def test_next_failure_that_is_not_indexed_says_so() -> None:
    player = FakePlayer()
    player.known_recording = msgspec.structs.replace(KNOWN, at=9.0, indexed=0.5)
    app = replaying(player)
    async with app.run_test(size=(80, 24), notifications=True) as pilot:
        await shows(app, "indexing 50%")
        await pilot.press("exclamation_mark")
        await shows(app, "50% is indexed")
        player.known_recording = msgspec.structs.replace(KNOWN, at=9.0)
        await pilot.press("exclamation_mark")
        await shows(app, "There is no failure after this moment.")
        assert player.asked == []
        player.known_recording = msgspec.structs.replace(KNOWN, at=10.0)
        await pilot.press("exclamation_mark")
        assert player.asked == [2.0]


async def test_moment_on_the_way_to_another_one_is_not_drawn() -> None:
    player = FakePlayer()
    app = replaying(player)
    async with app.run_test(size=(80, 24), notifications=True):
        await shows(app, "recorded run", "00:03.2")
        player.put(Moment(4.0, is_reached=False))
        player.succeed("6", 4.0)
        player.log(None, 4.0, "x")
        await until(lambda: app.dashboard.fleet.latest == 4.0)
        app._draw_screens()
        assert app.dashboard.is_jumping
        assert app.screen_stack[0]._overview.lines != ()  # type: ignore[attr-defined]
        assert "00:03.2 of" in text_of(app)
        player.put(Moment(4.0))
        await shows(app, "00:04.0 of")


# -- times


def test_time_of_the_recording_is_that_of_its_moments() -> None:
    from asyncwatch.ui.dashboard import DashboardState  # noqa: PLC0415

    seconds = 100.0
    dashboard = DashboardState(lambda: seconds, role=Role.REPLAY, player=FakePlayer())
    controller = FakeController()
    controller.start("a", "b")
    controller.attempt("a", 1.0)
    for batch in controller.early:
        dashboard.receive(batch)
    times = []
    for moment in (Moment(9.0), Moment(2.0, 4.0), Moment(1.5), Moment(6.0, 0.25)):
        dashboard.move(moment)
        row = dashboard.fleet.rows[0]
        times.append((dashboard.now, row.elapsed(dashboard.now)))
        seconds += 2.0
        times.append((dashboard.now, row.elapsed(dashboard.now)))
    assert times == [(9, 8), (9, 8), (2, 1), (10, 9), (1.5, 0.5), (1.5, 0.5), (6, 5), (6.5, 5.5)]


# -- the past of a live run


async def test_past_of_a_live_run_is_shown_and_let_go() -> None:
    player = FakePlayer()
    player.start("0", "1", "2")
    player.attempt("2", 0.1)
    player.put(Moment(0.1))
    async with running(size=(80, 24), open_past=lambda: player) as (app, controller, pilot):
        await pilot.press("j", "l", "t")
        await shows(app, "THE PAST", "t let go", "of 00:10.0", "○ 2 queued")
        controller.succeed("6", 4.0)
        controller.put(Problem("The disk is full."))
        await shows(app, "The disk is full.")
        await pilot.press("c", "comma", "enter", "escape")
        assert controller.sent == []
        assert player.asked == [2.2]
        assert controller.watched == []
        await shows(app, "THE PAST")
        await pilot.press("t")
        await shows(app, "log ")
        assert player.is_closed
        await pilot.press("escape", "c")
        await hides(app, "THE PAST")
        await until(lambda: controller.sent)
        assert controller.sent == [CancelWorker("1", 1)]
        assert app.dashboard.fleet.get("6").state == "succeeded"  # type: ignore[union-attr]


@pytest.mark.parametrize("keys", [["escape"], ["q"], ["ctrl+c"], ["slash", "x", "enter", "escape", "escape"]])
async def test_keys_that_let_the_past_go(keys: list[str]) -> None:
    player = FakePlayer()
    player.start("0", "1")
    async with running(size=(80, 24), open_past=lambda: player) as (app, controller, pilot):
        await pilot.press("t")
        await shows(app, "THE PAST")
        await pilot.press(*keys[:-1])
        assert not player.is_closed
        await pilot.press(keys[-1])
        await until(lambda: player.is_closed)
        await hides(app, "THE PAST")
        assert app.is_running
        assert StopRun() not in controller.sent


async def test_run_that_is_not_recorded_has_no_past() -> None:
    async with running(size=(80, 24)) as (app, _, pilot):
        await pilot.press("t")
        await shows(app, NOT_RECORDED.partition(",")[0], "--journal")
        assert app.dashboard.role is Role.OWNER


async def test_live_run_that_ends_ends_the_dashboard_of_its_past() -> None:
    player = FakePlayer()
    player.start("0")
    async with running(open_past=lambda: player) as (app, controller, pilot):
        present = app.dashboard.fleet
        await pilot.press("t")
        await shows(app, "THE PAST")
        controller.put(Disconnected("gone"))
        await until(lambda: not app.is_running)
        assert app.return_value is Ending.DISCONNECTED
    assert app.dashboard.fleet is not present
    assert app.close() is present


# -- with a journal


async def test_recorded_run_is_shown_at_its_end_and_at_any_moment(tmp_path: Path) -> None:
    events = some_run()
    replay = Replay(record(tmp_path, events))
    app = make_app(replay, role=Role.REPLAY, player=replay)  # type: ignore[arg-type]
    try:
        async with app.run_test(size=(100, 30), notifications=True) as pilot:
            await shows(app, "14 failed", "26 succeeded", "recorded run")
            await until(lambda: replay.recording().indexed == 1)
            await pilot.press("exclamation_mark")
            await shows(app, "✗ 1 failed")
            await until(lambda: (row := table_of(app).selected) is not None and row.state is WorkerState.FAILED)
            await pilot.press("colon", "1", "enter")
            await shows(app, "00:01.0 of", "✗ 1 failed")
            await pilot.press("exclamation_mark")
            await shows(app, "✗ 2 failed")
            await pilot.press("1")
            await shows(app, "✗ 1 failed")
            await pilot.press("e")
            await shows(app, "OSError")
            await pilot.press("escape", "colon", *"end", "enter")
            await shows(app, "14 failed")
    finally:
        replay.close()
