"""The benchmarks work: every case gives figures, and what counts and reads them is right. No figure is judged here."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest

from asyncwatch.model.view.sort import SORTS, Order, finish, ordering, sort
from asyncwatch.ui.display import Scene
from tests.benchmarks import report
from tests.benchmarks.__main__ import CASES, load
from tests.benchmarks.keyboard import Press, finding
from tests.benchmarks.measure import Effort, Finding, Goal, in_turn, percentile, ratio
from tests.benchmarks.picture import Picture
from tests.benchmarks.story import KEYS, NOW, Story, index_of, name_of

pytestmark = pytest.mark.benchmark

_WORKERS = 30_000
"""So many that some take all but the same time."""


@pytest.mark.parametrize("case", CASES)
def test_every_case_gives_figures(case: str) -> None:
    """A quick run of the case ends with figures above 0."""
    findings = list(load(case)(Effort(pairs=1, is_quick=True)))
    assert findings
    for found in findings:
        assert math.isfinite(found.figure), found
        assert found.figure > 0 or found.unit == "bytes", found
        assert report.line(case, found)


def test_every_file_is_a_case() -> None:
    """No case is forgotten by those who run all."""
    files = {file.stem for file in (Path(__file__).parent / "cases").glob("*.py")} - {"__init__"}
    assert files == set(CASES)


def test_measures_in_turn() -> None:
    """After a warm-up of each, asyncwatch and its peer take turns."""
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return len(calls)

    figures = in_turn(Effort(pairs=2), {"a": lambda: measure("a"), "b": lambda: measure("b")})
    assert calls == ["a", "b"] * 3
    assert figures == {"a": [3, 5], "b": [4, 6]}


def test_ratio_is_that_of_each_turn() -> None:
    """The ratio is the median of those of the turns, with the lowest and the highest, against its goal."""
    found = ratio("speed", [2.0, 9.0, 8.0], [1.0, 3.0, 2.0], Goal(">=", 3.0))
    assert (found.figure, found.spread, found.verdict) == (3.0, (2.0, 4.0), "yes")
    assert ratio("speed", [2.0], [1.0], Goal("<=", 1.5)).verdict == "NO"


@pytest.mark.parametrize(("quantile", "expected"), [(0.5, 2), (0.75, 3), (0.76, 4), (0.99, 4), (1.0, 4)])
def test_percentile(quantile: float, expected: int) -> None:
    """It is the smallest figure that so many do not exceed."""
    assert percentile([4, 1, 3, 2], quantile) == expected


def test_long_wait_counts_for_all_the_keys_in_it() -> None:
    """One wait of a second among a hundred short ones is felt by more than one key in a hundred."""
    found = finding("keys", [Press(0.0, 0.01)] * 100 + [Press(0.0, 1.0)])
    assert found.figure > 500


def test_table_names_the_conditions() -> None:
    """The table says on what machine, with what, and when, and has a row a finding."""
    lines = report.table([("noop", Finding("watched", 0.9, spread=(0.8, 1.1), goal=Goal("<=", 1.0), note="fast"))])
    assert lines[-1] == "| `noop` | watched | 0.90 x (0.80 x to 1.10 x) | <= 1.00 x | yes | fast |"
    assert "UTC" in lines[0]
    assert "textual" in lines[2]


def test_picture_reads_what_is_drawn(tmp_path: Path) -> None:
    """Stretches of lines are known by their place, without colours, with the worker under the cursor."""
    program = r"print('\x1b[2;3H\x1b[1;32m ›  w17   \x1b[0mrunning\x1b[1;1Hhead\x1b[9;9H', flush=True); input()"
    with Picture([sys.executable, "-c", program], cwd=tmp_path, columns=40, rows=10) as picture:
        picture.wait_for(lambda shown: len(shown.stretches) == 2)
        assert picture.stretches == {(2, 3): " ›  w17   running", (1, 1): "head"}
        assert picture.cursor == "w17"


def test_picture_knows_when_the_cursor_has_gone(tmp_path: Path) -> None:
    """Rows in another order may be drawn over it; what stands beside it on its line may change."""
    program = (
        r"print('\x1b[2;1H › w17 \x1b[2;20Hfailed\x1b[1;1H', end='', flush=True); input();"
        r"print('\x1b[2;1H   w4 \x1b[1;1Hhead\x1b[9;9H', flush=True); input()"
    )
    with Picture([sys.executable, "-c", program], cwd=tmp_path, columns=40, rows=10) as picture:
        picture.wait_for(lambda shown: (2, 20) in shown.stretches)
        assert picture.cursor == "w17"
        picture.press("\n")
        picture.wait_for(lambda shown: not shown.cursor)


def test_picture_forgets_what_is_drawn_over(tmp_path: Path) -> None:
    """A line that is drawn whole leaves nothing of the stretches that began further right; other lines stay."""
    program = r"print('\x1b[2;3Hsorting\x1b[3;3Hstays\x1b[2;1Ha whole line\x1b[9;9H', flush=True); input()"
    with Picture([sys.executable, "-c", program], cwd=tmp_path, columns=40, rows=10) as picture:
        picture.wait_for_text("whole")
        assert picture.stretches == {(3, 3): "stays", (2, 1): "a whole line"}


def test_orders_of_the_story() -> None:
    """Sorted by the app, workers that have ended are in the order that the case waits for, whoever is all but equal."""
    scene = Scene(lambda: NOW)
    for batch in Story(_WORKERS, busy=0).beginning(has_past=True):
        scene.receive(batch)
    for order, _ in SORTS:
        rows = finish(sort(Order(scene.fleet.rows, range(_WORKERS)), ordering(order, is_reversed=False, now=NOW)))
        values = [KEYS[order](row.index) for row in rows]
        assert values == sorted(values), order


def test_names_of_the_story() -> None:
    """Each worker has a name of its own, from which its index can be told."""
    names = [name_of(index) for index in range(1000)]
    assert len(set(names)) == 1000
    assert [index_of(name) for name in names] == list(range(1000))
