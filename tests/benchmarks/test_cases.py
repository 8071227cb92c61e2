"""The benchmarks work: every case yields findings, and the instruments are right. No test judges a figure."""

from __future__ import annotations

import math
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from asyncwatch.model.view.sort import SORTS, Order, ordering, run_all, sort
from asyncwatch.ui.dashboard import DashboardState
from tests.benchmarks import report
from tests.benchmarks.__main__ import CASES, load
from tests.benchmarks.keyboard import Press, finding
from tests.benchmarks.measure import (
    Cost,
    Effort,
    Finding,
    Goal,
    Skipped,
    alternate,
    compare,
    percentile,
    ratio,
)
from tests.benchmarks.processes import cost_of, processor_time_of
from tests.benchmarks.report import Result
from tests.benchmarks.synthetic_run import KEYS, NOW, SyntheticRun, index_of, name_of
from tests.benchmarks.terminal import Terminal

pytestmark = pytest.mark.benchmark

_WORKERS = 30_000
"""Enough for some to have nearly equal run times."""


@pytest.mark.parametrize("case", CASES)
def test_case_quick_run_yields_findings(case: str) -> None:
    results = list(load(case)(Effort(pairs=1, is_quick=True)))
    assert results
    for found in results:
        assert report.line(result_of(found, case))
        if isinstance(found, Finding):
            assert math.isfinite(found.figure), found
            assert found.figure > 0 or found.unit in {"bytes", "MB"}, found
    if missing := [found.why for found in results if isinstance(found, Skipped)]:
        pytest.skip(missing[0])


def test_sleep_without_the_libraries_skips_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.benchmarks.cases.sleep.find_spec", lambda name: None)
    script, *others = load("sleep")(Effort(pairs=1, is_quick=True))
    assert isinstance(script, Finding)
    skipped = [report.line(result_of(each, "sleep")) for each in others]
    assert [text.rpartition(": skipped: ")[2].partition(" ")[0] for text in skipped] == ["aiometer", "tqdm"]


def result_of(found: Finding | Skipped, case: str = "noop") -> Result:
    return Result(case, found, 5, datetime(2026, 1, 2, 3, 4, tzinfo=UTC), 1.25)


def test_cases_include_every_file() -> None:
    files = {file.stem for file in (Path(__file__).parent / "cases").glob("*.py")} - {"__init__"}
    assert files == set(CASES)


def test_alternate_calls_the_measures_in_turn() -> None:
    calls: list[str] = []

    def measure(name: str) -> float:
        calls.append(name)
        return len(calls)

    figures = alternate(Effort(pairs=2), {"a": lambda: measure("a"), "b": lambda: measure("b")})
    assert calls == ["a", "b"] * 2
    assert figures == {"a": [1, 3], "b": [2, 4]}


def test_ratio_is_the_median_over_rounds() -> None:
    found = ratio("speed", [2.0, 9.0, 8.0], [1.0, 3.0, 2.0], Goal(">=", 3.0))
    assert (found.figure, found.spread, found.goal_met) == (3.0, (2.0, 4.0), "met")
    assert ratio("speed", [2.0], [1.0], Goal("<=", 1.5)).goal_met == "NO"


@pytest.mark.parametrize(("quantile", "expected"), [(0.5, 2), (0.75, 3), (0.76, 4), (0.99, 4), (1.0, 4)])
def test_percentile(quantile: float, expected: int) -> None:
    assert percentile([4, 1, 3, 2], quantile) == expected


def test_keyboard_finding_one_long_wait_counts_for_many_keys() -> None:
    answered = [Press(0.0, 0.01)] * 100
    found = finding("keys", [[*answered, Press(0.0, 1.0)]], [answered])
    assert found.figure > 50


def test_compare_has_the_ratio_of_processor_time_and_both_times() -> None:
    costs = [Cost(2e-6, 8e-6).each(2), Cost(3e-6, 9e-6), Cost(4e-6, 4e-6)]
    found = compare("speed", costs, [Cost(2e-6, 3e-6).each(2, beyond=Cost(0, 1e-6)), *costs[1:]], Goal("<=", 1.0))
    assert (found.figure, found.spread) == (1.0, (1.0, 1.0))
    assert (found.processor, found.wall) == ("3.00 us against 3.00", "4.00 us against 4.00")


_RUN = "load 1.2, 5 x, 01-02 03:04"


def test_table_has_the_conditions_and_a_row_for_each_result() -> None:
    goal = Goal("<=", 1.0)
    found = Finding("watched", 0.9, spread=(0.8, 1.1), goal=goal, note="fast", processor="1 us", wall="2 us")
    lines = report.table([result_of(found), result_of(Skipped("other", "no peer"))])
    assert (
        lines[-2] == f"| `noop` | watched | 0.90 x (0.80 x to 1.10 x) | <= 1.00 x | met | 1 us | 2 us | {_RUN} | fast |"
    )
    assert lines[-1] == f"| `noop` | other | skipped |  |  |  |  | {_RUN} | no peer |"
    assert "textual" in lines[1]


def test_write_replaces_the_rows_of_the_measured_cases_of_this_python(tmp_path: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    section = f"before\n<!-- Python {version} -->\n| `fail` | old |\n| `noop` | old |\n<!-- end -->\nafter\n"
    file = tmp_path / "RESULTS.md"
    file.write_text(section, encoding="utf-8")
    report.write(file, [result_of(Finding("new", 1.0))], ("noop", "fail"))
    lines = file.read_text(encoding="utf-8").splitlines()
    assert [text[:14] for text in lines if text.startswith("| `")] == ["| `noop` | new", "| `fail` | old"]
    assert (lines[0], lines[-2:]) == ("before", ["<!-- end -->", "after"])
    file.write_text("<!-- Python 2.7 -->\n<!-- end -->\n", encoding="utf-8")
    with pytest.raises(ValueError, match="no section"):
        report.write(file, [], ("noop",))


_BURN = "import time\nwhile time.process_time() < 0.1: pass"
_BURN_IN_CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {_BURN!r}])"


def test_cost_of_has_the_processor_time_of_children() -> None:
    cost = cost_of([sys.executable, "-c", _BURN_IN_CHILD])
    assert 0.1 <= cost.processor <= 2 * cost.wall
    with pytest.raises(subprocess.CalledProcessError):
        cost_of([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.skipif(sys.platform != "linux", reason="needs the clock of another process")
def test_processor_time_of_has_the_time_of_running_children() -> None:
    command = [sys.executable, "-c", _BURN_IN_CHILD.replace("pass", "pass\\nprint(flush=True); input()")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert processor_time_of(process.pid) >= 0.1
        process.communicate(b"\n")


def test_terminal_reads_spans_without_styles_and_the_cursor(tmp_path: Path) -> None:
    program = r"print('\x1b[2;3H\x1b[1;32m ›  w17   \x1b[0mrunning\x1b[1;1Hhead\x1b[9;9H', flush=True); input()"
    with Terminal([sys.executable, "-c", program], cwd=tmp_path, columns=40, rows=10) as terminal:
        terminal.wait_for(lambda shown: len(shown.spans) == 2)
        assert terminal.spans == {(2, 3): " ›  w17   running", (1, 1): "head"}
        assert terminal.cursor == "w17"


def test_terminal_cursor_drawn_over_is_gone(tmp_path: Path) -> None:
    program = (
        r"print('\x1b[2;1H › w17 \x1b[2;20Hfailed\x1b[1;1H', end='', flush=True); input();"
        r"print('\x1b[2;1H   w4 \x1b[1;1Hhead\x1b[9;9H', flush=True); input()"
    )
    with Terminal([sys.executable, "-c", program], cwd=tmp_path, columns=40, rows=10) as terminal:
        terminal.wait_for(lambda shown: (2, 20) in shown.spans)
        assert terminal.cursor == "w17"
        terminal.press("\n")
        terminal.wait_for(lambda shown: not shown.cursor)


def test_terminal_spans_drawn_over_are_gone(tmp_path: Path) -> None:
    program = r"print('\x1b[2;3Hsorting\x1b[3;3Hstays\x1b[2;1Ha whole line\x1b[9;9H', flush=True); input()"
    with Terminal([sys.executable, "-c", program], cwd=tmp_path, columns=40, rows=10) as terminal:
        terminal.wait_for_text("whole")
        assert terminal.spans == {(3, 3): "stays", (2, 1): "a whole line"}


def test_terminal_reads_the_last_output_of_a_program_that_has_ended(tmp_path: Path) -> None:
    with Terminal(
        [sys.executable, "-c", r"print('\x1b[2;3Hlast\x1b[9;9H')"], cwd=tmp_path, columns=40, rows=10
    ) as terminal:
        terminal.process.wait()
        terminal.wait_for_text("last")
        with pytest.raises(TimeoutError, match="'more' was not drawn before the program ended with 0"):
            terminal.wait_for_text("more")


def test_terminal_error_of_a_condition_reaches_the_caller(tmp_path: Path) -> None:
    program = r"input(); print('\x1b[2;3Hword\x1b[9;9H', flush=True); input()"
    with Terminal([sys.executable, "-c", program], cwd=tmp_path, columns=40, rows=10) as terminal:
        expected = terminal.expect(lambda shown: bool(shown.spans) and int(shown.text))
        terminal.press("\n")
        with pytest.raises(RuntimeError, match="cannot read the output"):
            expected.wait()


def test_synthetic_run_sort_keys_match_the_order_of_the_app() -> None:
    dashboard = DashboardState(lambda: NOW)
    for batch in SyntheticRun(_WORKERS, busy=0).history(has_history=True):
        dashboard.receive(batch)
    assert KEYS.keys() == {order for order, _ in SORTS} - {"live", "waits", "progress", "restarts"}
    for order in KEYS:
        rows = run_all(sort(Order(dashboard.fleet.rows, range(_WORKERS)), ordering(order, is_reversed=False, now=NOW)))
        values = [KEYS[order](row.index) for row in rows]
        assert values == sorted(values), order


def test_synthetic_run_names_are_unique_and_give_the_index() -> None:
    names = [name_of(index) for index in range(1000)]
    assert len(set(names)) == 1000
    assert [index_of(name) for name in names] == list(range(1000))
