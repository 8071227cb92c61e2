"""What the process of a run does about garbage."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator

import pytest

from asyncwatch.__main__ import run
from asyncwatch.process import COLLECT_AFTER, COLLECT_AT_START, TURN, collecting_seldom, short_turns


@pytest.fixture
def _thresholds() -> Iterator[None]:
    """Leave the collector as it was."""
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("_thresholds")
@pytest.mark.parametrize(
    ("chosen", "during"),
    [(700, COLLECT_AFTER), (2_000, COLLECT_AFTER), (COLLECT_AT_START, COLLECT_AFTER), (50_000, 50_000), (0, 0)],
)
def test_collects_seldom_for_the_time_of_a_run(chosen: int, during: int) -> None:
    """Who has chosen to collect seldomer, or never, is left alone; afterwards all is as before."""
    gc.set_threshold(chosen, 10, 10)
    with collecting_seldom():
        assert gc.get_threshold()[0] == during
    assert gc.get_threshold()[0] == chosen


@pytest.mark.usefixtures("_thresholds")
def test_imports_are_not_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command makes little garbage until its run begins."""
    seen: list[int] = []
    monkeypatch.setattr("asyncwatch.cli.main", lambda **_options: seen.append(gc.get_threshold()[0]))
    handler = signal.getsignal(signal.SIGINT)
    try:
        run()
    finally:
        signal.signal(signal.SIGINT, handler)
    assert seen == [COLLECT_AT_START]


def test_what_is_old_is_not_looked_through() -> None:
    """Modules and the plan, which stay to the end, are out of the collector's sight."""
    keeper: list[object] = []
    keeper.append(keeper)
    with collecting_seldom():
        assert not any(other is keeper for other in gc.get_objects())


def test_turns_are_short_while_there_is_a_picture() -> None:
    """A thread that computes gives way sooner, unless it did so already; afterwards all is as before."""
    before = sys.getswitchinterval()
    for chosen, during in ((0.005, TURN), (TURN / 2, TURN / 2)):
        sys.setswitchinterval(chosen)
        try:
            with short_turns():
                assert sys.getswitchinterval() == pytest.approx(during)
            assert sys.getswitchinterval() == pytest.approx(chosen)
        finally:
            sys.setswitchinterval(before)
