"""Lines, columns and the overview: nothing is ever wider than its place."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from asyncwatch.events import LogRecorded, WorkerState
from asyncwatch.ui.keys import ACTS, GLOBAL, LOOKS
from asyncwatch.ui.render import columns
from asyncwatch.ui.render.details import log_line
from asyncwatch.ui.render.format import clean
from asyncwatch.ui.render.spans import Span, crop, crop_line, crop_middle, crop_path, pad, spread, width_of, wrap
from asyncwatch.ui.widgets.key_line import key_line
from tests.rows import a_row
from tests.ui.fakes import FakeController, small_run
from tests.ui.scenes import overview_text, scene_of

NAMES = st.text(st.sampled_from("ab1日本🎉é\u0301\u200d👩\x1b\n[]"), max_size=60)


@given(NAMES, st.integers(0, 30))
def test_cropped_text_fits(text: str, width: int) -> None:
    """Text of any script is cut by the cells it takes, and padding fills exactly."""
    text = clean(text)
    assert cell_len(crop(text, width)) <= width
    assert cell_len(crop_middle(text, width)) <= width
    assert cell_len(crop_path(f"http://{text[:5]}/{text}", width)) <= width
    assert cell_len(pad(text, width)) == width


def test_names_are_cut_in_the_middle() -> None:
    """The ends of long names, where they differ, stay readable."""
    assert crop_middle("https://example.com/page-17", 15) == "https:/…page-17"
    assert crop("ServerTimeoutError", 8) == "ServerT…"


def test_urls_keep_their_host_and_their_end() -> None:
    """What is cut out of a URL is the start of its path; a host that is too long gives way too."""
    url = "127.0.0.1:8081/api/v1/items/17"
    assert crop_path(url, 30) == url
    assert crop_path(url, 24) == "127.0.0.1:8081/…items/17"
    assert crop_path(f"http://{url}", 30) == "http://127.0.0.1:8081/…tems/17"
    assert crop_path(url, 20) == "127.0.0.1:8081/…s/17"
    assert crop_path(url, 16) == crop_middle(url, 16) == "127.0.0…items/17"
    assert crop_path("no slash in this one", 10) == "no s…s one"
    assert crop_path("a.example.com/", 13) == "a.exam…e.com/"


def test_errors_that_are_not_there_leave_their_room() -> None:
    """Names and results take what no error needs; long errors keep their part."""
    name = 19
    empty, full = (dict(columns.arrange(79, name, 30, error).columns) for error in (0, 60))
    assert (empty["name"], full["name"]) == (name, name)
    assert empty["result"] > full.get("result", 0)
    assert full["error"] >= 12
    assert dict(columns.arrange(119, 25, 3, 60).columns)["name"] == 25
    assert dict(columns.arrange(199, 20, 80, 20).columns)["result"] == 80


def test_bad_luck_that_is_idle_leaves_its_room_to_errors_and_names() -> None:
    """Below 120 columns it is a number where it strikes nobody, and the point of an error can be read."""
    page, error = "127.0.0.1:9101/page/1", "429 Too Many Requests"
    layout = dict(columns.arrange(100, len(page), 6, 60, is_luck_idle=True).columns)
    assert list(layout) == list(columns.HEADINGS)
    assert layout["luck"] == 4
    assert layout["name"] >= len(page)
    assert layout["error"] >= len(error)
    assert "".join(span.text for span in columns.luck(0.95, is_struck=True, width=4)) == "0.95"


def test_a_log_line_says_a_name_once() -> None:
    """The worker's name has its column, in which a URL keeps its host and its end; the message goes on after it."""
    name = "http://127.0.0.1:9101/a/long/way/to/page/1"
    log = LogRecorded(0, 1.0, name, "WARNING", "asyncwatch", f"{name}: retry 1 of 2 in 0.10 s")
    text = "".join(span.text for span in log_line(log, 24))
    assert text == "00:01.0  warning   127.0.0.1:9101/…o/page/1  retry 1 of 2 in 0.10 s"


def test_lines_are_cut_with_a_sign() -> None:
    """A line that loses its end says so, even if a span ends just there."""
    line = [Span("abc"), Span("def")]
    assert "".join(span.text for span in crop_line(line, 6)) == "abcdef"
    assert "".join(span.text for span in crop_line(line, 4)) == "abc…"
    assert "".join(span.text for span in crop_line(line, 3)) == "ab…"


@given(st.integers(1, 60), NAMES, NAMES)
def test_spread_lines_have_their_width(width: int, left: str, right: str) -> None:
    """Left and right make one line that is not wider than asked; what is cut is the left."""
    clean = {0x1B: None, 0x0A: None, 0x200D: None}
    line = spread([Span(left.translate(clean))], [Span(right.translate(clean))], width)
    assert width_of(line) <= width


def test_wrapped_parts_stay_whole() -> None:
    """Parts go on the next line as a whole."""
    lines = wrap([[Span("aaaa")], [Span("bbbb")], [Span("cc")]], 10)
    assert [width_of(line) for line in lines] == [10, 2]


@pytest.mark.parametrize("width", range(40, 240, 7))
@pytest.mark.parametrize("name_width", [1, 14, 200])
@pytest.mark.parametrize("error_width", [0, 17, 60])
@pytest.mark.parametrize("is_luck_idle", [False, True])
def test_columns_fill_the_width(width: int, name_width: int, error_width: int, *, is_luck_idle: bool) -> None:
    """Whatever the terminal and the names, the columns take the whole width and no cell more."""
    layout = columns.arrange(width, name_width, 12, error_width, is_luck_idle=is_luck_idle)
    taken = columns.PREFIX + sum(size for _, size in layout.columns) + layout.gap * (len(layout.columns) - 1)
    assert taken == width
    assert [key for key, _ in layout.columns][:2] == ["name", "state"]


def test_all_columns_fit_into_80() -> None:
    """With short names nothing is left out in the smallest common terminal, only the bar."""
    layout = dict(columns.arrange(79, 4, 3).columns)
    assert list(layout) == list(columns.HEADINGS)
    assert layout["error"] >= 12


@given(NAMES, NAMES, st.sampled_from(list(WorkerState)), st.sampled_from([40, 79, 119, 199]))
def test_rows_fit_whatever_is_in_them(name: str, error: str, state: WorkerState, width: int) -> None:
    """A row with any name, error and state takes exactly its width and holds no control character."""
    row = a_row(name, state=state, error=error, result=name, bad_luck=0.999, is_struck=True, attempt=2)
    row.block.started, row.own_extra().retry_at, row.own_extra().last_duration = array("d", [0.0]), 99.9, 12.3
    layout = columns.arrange(width, 30, 10)
    line = columns.cells(row, 1.0, layout, is_selected=True, is_marked=True)
    assert width_of(line) == width
    assert all(span.text.isprintable() for span in line)


def test_the_sorted_column_has_an_arrow() -> None:
    """The arrow stands beside a heading that is as wide as its column, and cuts none of it."""
    layout = columns.arrange(119, 6, 3)
    text = "".join(span.text for span in columns.heading(layout, "retries", is_reversed=True))
    assert "RETRIES▼" in text


def test_a_click_finds_its_column() -> None:
    """Every cell of a column, its gap included, belongs to it."""
    layout = columns.arrange(119, 6, 3)
    assert layout.column_at(0) is None
    assert layout.column_at(columns.PREFIX) == "name"
    assert layout.column_at(118) == "error"


@pytest.mark.parametrize("width", [30, 60, 78, 118, 198])
def test_the_overview_fits(width: int) -> None:
    """No line of the overview is wider than the terminal."""
    controller = FakeController()
    small_run(controller)
    text = overview_text(scene_of(controller), width)
    assert all(cell_len(line) <= width for line in text.splitlines())
    assert "00:03.2" in text


def test_the_overview_says_what_is_left_to_do() -> None:
    """When all have settled the clock stands and the way to restart is named."""
    controller = FakeController()
    controller.start("a", "b")
    controller.attempt("a", 0.1)
    controller.attempt("b", 0.1)
    controller.succeed("a", 0.4)
    controller.break_down("b", 0.9)
    scene = scene_of(controller)
    text = overview_text(scene, 118)
    assert "finished · 1 did not succeed · R restarts them" in text
    assert "100 %" in text
    controller.log(None, 5.0, "later")
    assert "00:00.9" in overview_text(scene_of(controller), 118)


def test_only_states_that_occur_are_counted() -> None:
    """A state without a worker takes no room."""
    controller = FakeController()
    controller.start("a")
    text = overview_text(scene_of(controller), 118)
    assert "○ 1 queued" in text
    assert "failed" not in text


def test_the_overview_before_the_first_event() -> None:
    """Before anything is known it says that it starts."""
    assert "starting…" in overview_text(scene_of(FakeController()), 78)


@pytest.mark.parametrize("width", [20, 78, 118, 300])
def test_the_footer_fits_and_keeps_the_most_needed(width: int) -> None:
    """Narrow terminals show fewer keys, help and quit the longest."""
    line = key_line((*ACTS, *LOOKS, *GLOBAL), width)
    assert width_of(line) <= width
    if width >= 78:
        text = "".join(span.text for span in line)
        assert text.startswith("c cancel")
        assert text.endswith("q quit")
