"""The entry point of the process: Ctrl+C is an exit status, never a traceback."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from asyncwatch.__main__ import run
from asyncwatch.cli import INTERRUPTED
from asyncwatch.process import STARTUP_GC_THRESHOLD


@pytest.fixture(autouse=True)
def _own_process() -> Iterator[None]:
    """Leave the signal handler and the garbage collector as they were."""
    handler, thresholds = signal.getsignal(signal.SIGINT), gc.get_threshold()
    yield
    signal.signal(signal.SIGINT, handler)
    gc.set_threshold(*thresholds)


class InterruptedImport(ModuleType):
    """A module whose import a person interrupts."""

    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_run_interrupted_during_imports_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncwatch.cli.main", InterruptedImport("asyncwatch.cli.main"))
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == INTERRUPTED == 130


def test_run_ended_ignores_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["asyncwatch", "--version"])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_run_before_the_command_collects_little_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    thresholds: list[int] = []
    monkeypatch.setattr("asyncwatch.cli.main.main", lambda **_options: thresholds.append(gc.get_threshold()[0]))
    run()
    assert thresholds == [STARTUP_GC_THRESHOLD]
