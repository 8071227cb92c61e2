"""Lines, columns and the overview: nothing is ever wider than its place."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from asyncwatch.events import (
    AttemptHeld,
    CircuitOpened,
    ItemsRead,
    LineHeld,
    LogRecorded,
    RunStarted,
    SettingChanged,
    WorkerState,
)
from asyncwatch.ui.keys import ACTS, GLOBAL, LOOKS
from asyncwatch.ui.render import columns
from asyncwatch.ui.render.format import safe, shares
from asyncwatch.ui.render.log import log_line
from asyncwatch.ui.render.spans import Span, crop, crop_line, crop_middle, crop_path, pad, spread, width_of, wrap
from asyncwatch.ui.screens.help import MEANINGS, HelpPage, help_lines
from asyncwatch.ui.screens.log import LogScreen
from asyncwatch.ui.widgets.footer import key_line
from tests.rows import a_row
from tests.ui.fakes import FakeController, dashboard_of, overview_text, small_run

USUAL = [key for key in columns.HEADINGS if key not in {*columns.OPTIONAL, *columns.OF_SERVICES}]
NAMES = st.text(st.sampled_from("ab1日本🎉é\u0301\u200d👩\x1b\n[]"), max_size=60)


@given(NAMES, st.integers(0, 30))
def test_crop_result_fits(text: str, width: int) -> None:
    text = safe(text)
    assert cell_len(crop(text, width)) <= width
    assert cell_len(crop_middle(text, width)) <= width
    assert cell_len(crop_path(f"http://{text[:5]}/{text}", width)) <= width
    assert cell_len(pad(text, width)) == width


def test_crop_middle_keeps_both_ends() -> None:
    assert crop_middle("https://example.com/page-17", 15) == "https:/…page-17"
    assert crop("ServerTimeoutError", 8) == "ServerT…"


def test_crop_path_keeps_host_and_end() -> None:
    url = "127.0.0.1:8081/api/v1/items/17"
    assert crop_path(url, 30) == url
    assert crop_path(url, 24) == "127.0.0.1:8081/…items/17"
    assert crop_path(f"http://{url}", 30) == "http://127.0.0.1:8081/…tems/17"
    assert crop_path(url, 20) == "127.0.0.1:8081/…s/17"
    assert crop_path(url, 16) == crop_middle(url, 16) == "127.0.0…items/17"
    assert crop_path("no slash in this one", 10) == "no s…s one"
    assert crop_path("a.example.com/", 13) == "a.exam…e.com/"


def test_arrange_short_errors_leave_room() -> None:
    name = 19
    empty, full = (dict(columns.arrange(79, name, 30, error).columns) for error in (0, 60))
    assert (empty["name"], full["name"]) == (name, name)
    assert empty["result"] > full.get("result", 0)
    assert full["error"] >= 12
    assert dict(columns.arrange(119, 25, 3, 60).columns)["name"] == 25
    assert dict(columns.arrange(199, 20, 80, 20).columns)["result"] == 80


"""The columns that workers of a batch have."""


def test_arrange_idle_luck_leaves_room() -> None:
    page, error = "127.0.0.1:9101/page/1", "429 Too Many Requests"
    layout = dict(columns.arrange(100, len(page), 6, 60, is_luck_idle=True).columns)
    assert list(layout) == USUAL
    assert layout["luck"] == 4
    assert layout["name"] >= len(page)
    assert layout["error"] >= len(error)
    assert "".join(span.text for span in columns.luck(0.95, is_struck=True, width=4)) == "0.95"


def test_log_line_names_worker_once() -> None:
    name = "http://127.0.0.1:9101/a/long/way/to/page/1"
    log = LogRecorded(0, 1.0, name, "WARNING", "asyncwatch", f"{name}: retry 1 of 2 in 0.10 s")
    text = "".join(span.text for span in log_line(log, 24))
    assert text == "00:01.0  warning   127.0.0.1:9101/…o/page/1  retry 1 of 2 in 0.10 s"


def test_crop_line_ends_in_ellipsis() -> None:
    line = [Span("abc"), Span("def")]
    assert "".join(span.text for span in crop_line(line, 6)) == "abcdef"
    assert "".join(span.text for span in crop_line(line, 4)) == "abc…"
    assert "".join(span.text for span in crop_line(line, 3)) == "ab…"


@given(st.integers(1, 60), NAMES, NAMES)
def test_spread_has_its_width(width: int, left: str, right: str) -> None:
    clean = {0x1B: None, 0x0A: None, 0x200D: None}
    line = spread([Span(left.translate(clean))], [Span(right.translate(clean))], width)
    assert width_of(line) <= width


def test_wrap_splits_no_part() -> None:
    lines = wrap([[Span("aaaa")], [Span("bbbb")], [Span("cc")]], 10)
    assert [width_of(line) for line in lines] == [10, 2]


@pytest.mark.parametrize("width", range(40, 240, 7))
@pytest.mark.parametrize("name_width", [1, 14, 200])
@pytest.mark.parametrize("error_width", [0, 17, 60])
@pytest.mark.parametrize("is_luck_idle", [False, True])
def test_arrange_fills_the_width(width: int, name_width: int, error_width: int, *, is_luck_idle: bool) -> None:
    layout = columns.arrange(width, name_width, 12, error_width, is_luck_idle=is_luck_idle)
    taken = columns.PREFIX + sum(size for _, size in layout.columns) + layout.gap * (len(layout.columns) - 1)
    assert taken == width
    assert [key for key, _ in layout.columns][:2] == ["name", "state"]


def test_arrange_80_columns_has_all_but_the_last_time() -> None:
    assert list(dict(columns.arrange(79, 4, 3, is_luck_idle=True).columns)) == USUAL
    layout = dict(columns.arrange(79, 14, 3).columns)
    assert list(layout) == [key for key in USUAL if key != "last"]
    assert layout["error"] >= 16


@pytest.mark.parametrize("width", [44, 60, 79, 119, 199])
def test_arrange_keeps_state_retries_and_luck(width: int) -> None:
    layout = dict(columns.arrange(width, 60, 60, 60, without=()).columns)
    assert {"name", "state", "retries", "luck", "error"} <= layout.keys()
    if width == 199:
        assert list(layout) == [key for key in columns.HEADINGS if key not in columns.OF_SERVICES]


def test_cells_progress_has_bar_and_amount() -> None:
    row = a_row("w", state=WorkerState.RUNNING, done=3, total=12, unit="page", status="waiting")
    wide, narrow = (columns.Layout((("progress", width), ("result", 10)), 1) for width in (18, 6))

    def shown(layout: columns.Layout) -> str:
        line = columns.cells(row, 1.0, layout, is_selected=False, is_marked=False)
        return "".join(span.text for span in line)[columns.PREFIX :]

    assert shown(wide) == "━━────── 3/12 page waiting    "
    assert shown(narrow) == "25%    waiting    "


@given(NAMES, NAMES, st.sampled_from(list(WorkerState)), st.sampled_from([40, 79, 119, 199]))
def test_cells_fit_the_width(name: str, error: str, state: WorkerState, width: int) -> None:
    row = a_row(name, state=state, error=error, result=name, bad_luck=0.999, is_struck=True, attempt=2)
    row.block.started, row.own_extra().retry_at, row.own_extra().last_duration = array("d", [0.0]), 99.9, 12.3
    layout = columns.arrange(width, 30, 10)
    line = columns.cells(row, 1.0, layout, is_selected=True, is_marked=True)
    assert width_of(line) == width
    assert all(span.text.isprintable() for span in line)


def test_heading_sorted_column_has_arrow() -> None:
    layout = columns.arrange(119, 6, 3)
    text = "".join(span.text for span in columns.heading(layout, "retries", is_reversed=True))
    assert "RETRIES▼" in text


def test_column_at_finds_the_clicked_column() -> None:
    layout = columns.arrange(119, 6, 3)
    assert layout.column_at(0) is None
    assert layout.column_at(columns.PREFIX) == "name"
    assert layout.column_at(118) == "error"


@pytest.mark.parametrize("width", [30, 60, 78, 118, 198])
def test_overview_fits_the_width(width: int) -> None:
    controller = FakeController()
    small_run(controller)
    text = overview_text(dashboard_of(controller), width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert "00:03 " in text


@pytest.mark.parametrize("width", [78, 118])
def test_overview_with_a_long_name_keeps_runner_seed_and_id(width: int) -> None:
    controller = FakeController()
    facts = {"runner": "as_completed", "seed": 991703, "concurrency": 5, "timeout": None, "started_at": 0.0}
    controller.emit(RunStarted, 0.0, run="billing.jobs:send_" + "every_" * 20 + "invoice", workers=2, **facts)
    dashboard = dashboard_of(controller)
    dashboard.run_id = "kesbc5bq"
    title = overview_text(dashboard, width).splitlines()[0]
    for fact in ("billing", "…", "oice kesbc5bq  as_completed  seed 991703 ", "○ starting"):
        assert fact in title


def test_overview_bar_shows_every_part_and_the_time_left() -> None:
    controller = FakeController()
    controller.start(*(f"w{number}" for number in range(1000)))
    for number in range(100):
        controller.attempt(f"w{number}", 1.0)
    for number in range(90):
        controller.succeed(f"w{number}", 10.0)
    controller.break_down("w90", 10.0)
    bar = overview_text(dashboard_of(controller), 118).splitlines()[1]
    assert "9 %  91 of 1,000 done  ETA 1m 40s" in bar
    assert (bar.count("━"), bar.count("╍"), bar.count("─")) == (7, 1, 1)
    controller.emit(SettingChanged, 10.0, name="paused", value=True, previous=False)
    assert "ETA -" in overview_text(dashboard_of(controller), 118)


def test_time_left_is_estimated_anew_after_a_setting_has_changed() -> None:
    controller = FakeController()
    controller.start(*(f"w{number}" for number in range(1000)))
    for number in range(90):
        controller.attempt(f"w{number}", 1.0)
        controller.succeed(f"w{number}", 10.0)
    controller.emit(SettingChanged, 10.0, name="concurrency", value=1, previous=100)
    assert "ETA -" in overview_text(dashboard_of(controller), 118)
    for number in range(90, 100):
        controller.attempt(f"w{number}", 10.0)
        controller.succeed(f"w{number}", number - 79.0)
    assert "ETA 15m" in overview_text(dashboard_of(controller), 118)


def test_overview_says_that_a_rate_or_a_circuit_holds_workers_back() -> None:
    controller = FakeController()
    controller.start("a", "b", "c")
    controller.emit(LineHeld, 0.1, reason="rate")
    controller.emit(AttemptHeld, 0.1, worker="a", incarnation=1, attempt=1, key="a.example", reason="rate")
    controller.emit(CircuitOpened, 0.2, key="b.example", attempts=9, failures=9, seconds=5.0)
    controller.emit(AttemptHeld, 0.3, worker="b", incarnation=1, attempt=1, key="b.example", reason="circuit")
    text = overview_text(dashboard_of(controller), 118)
    assert "rate limit: 1 queued   rate per key: 1 wait   circuit b.example open: 1 wait" in text


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=6), st.integers(0, 200))
def test_shares_fill_the_width_and_leave_no_part_out(parts: list[int], width: int) -> None:
    cells = shares(parts, width)
    assert sum(cells) == width or width < len(parts)
    assert min(cells) >= 0
    if width >= 2 * len(parts):
        assert all(number or not part for part, number in zip(parts, cells, strict=True))


def test_overview_finished_says_what_is_left() -> None:
    controller = FakeController()
    controller.start("a", "b")
    controller.attempt("a", 0.1)
    controller.attempt("b", 0.1)
    controller.succeed("a", 0.4)
    controller.break_down("b", 0.9)
    dashboard = dashboard_of(controller)
    text = overview_text(dashboard, 118)
    assert "finished · 1 did not succeed · R restarts them" in text
    assert "100 %" in text
    controller.log(None, 5.0, "later")
    assert "00:00.9" in overview_text(dashboard_of(controller), 118)


def test_overview_has_no_percentage_while_items_are_read() -> None:
    controller = FakeController()
    facts = {"run": "demo", "runner": "gather", "seed": 1, "concurrency": 5, "timeout": None, "started_at": 0.0}
    controller.emit(RunStarted, 0.0, workers=0, reads_items=True, **facts)
    controller.queue_more("a", "b", group="g")
    controller.attempt("a", 0.1)
    controller.succeed("a", 0.2)
    text = overview_text(dashboard_of(controller), 118)
    assert "1 done of 2 so far  ETA -" in text
    assert "%" not in text
    controller.attempt("b", 0.3)
    controller.succeed("b", 0.4)
    assert "finished" not in overview_text(dashboard_of(controller), 118)
    controller.emit(ItemsRead, 0.5, workers=2)
    text = overview_text(dashboard_of(controller), 118)
    assert "2 of 2 done" in text
    assert "✓ finished" in text
    assert "100 %" in text


def test_overview_says_when_only_the_latest_workers_are_listed() -> None:
    controller = FakeController()
    facts = {"run": "demo", "runner": "amap", "seed": 1, "concurrency": 5, "timeout": None, "started_at": 0.0}
    controller.emit(RunStarted, 0.0, workers=0, reads_items=True, rows_kept=1, **facts)
    for name in "abc":
        assert "listed" not in overview_text(dashboard_of(controller), 118)
        controller.queue_more(name, group="g")
        controller.attempt(name, 0.1)
        controller.succeed(name, 0.2)
    assert "3 done of 3 so far, latest 2 listed" in overview_text(dashboard_of(controller), 118)


def test_overview_of_a_pipe_without_items_is_finished() -> None:
    controller = FakeController()
    facts = {"run": "demo", "runner": "gather", "seed": 1, "concurrency": 5, "timeout": None, "started_at": 0.0}
    controller.emit(RunStarted, 0.0, workers=0, reads_items=True, **facts)
    assert "○ starting" in overview_text(dashboard_of(controller), 118)
    controller.emit(ItemsRead, 0.5, workers=0)
    assert "✓ finished" in overview_text(dashboard_of(controller), 118)


def test_overview_counts_only_states_that_occur() -> None:
    controller = FakeController()
    controller.start("a")
    text = overview_text(dashboard_of(controller), 118)
    assert "○ 1 queued" in text
    assert "failed" not in text


def test_overview_before_first_event_says_starting() -> None:
    assert "starting…" in overview_text(dashboard_of(FakeController()), 78)


@pytest.mark.parametrize("width", [20, 78, 118, 300])
def test_key_line_fits_and_keeps_most_needed(width: int) -> None:
    line = key_line((*ACTS, *LOOKS, *GLOBAL), width)
    assert width_of(line) <= width
    if width >= 78:
        text = "".join(span.text for span in line)
        assert text.startswith("c cancel")
        assert text.endswith("q quit")


@pytest.mark.parametrize("width", [36, 50, 77, 117, 197])
def test_help_fits_at_every_size_with_no_word_cut(width: int) -> None:
    page = HelpPage(*LogScreen.HELP_PAGE)
    for lines, first in ((help_lines(width), "STATES"), (help_lines(width, page=page), "KEYS HERE")):
        assert max(map(width_of, lines)) <= width
        assert lines[0][0].text == first
    text = " ".join(span.text.strip() for line in help_lines(width) for span in line)
    words = {word for meaning in MEANINGS.values() for word in meaning.split()}
    assert words <= set(text.split())
    assert "…" not in text


def test_help_has_states_and_filter_before_keys() -> None:
    titles = [line[0].text for line in help_lines(70) if line and line[0].style == "heading"]
    assert titles == ["STATES", "FILTER", "ACT", "LOOK", "RUN", "MOVE", "ALWAYS"]
