"""The entry point: an interrupt at any time is a status, not a traceback."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from asyncwatch.__main__ import run


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """Give the test runner its own handler back."""
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


class _InterruptedImport(ModuleType):
    """A module whose import a person interrupts."""

    def __getattr__(self, name: str) -> object:
        raise KeyboardInterrupt


def test_an_interrupt_of_the_imports_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl+C while the modules are read ends with the status of an interrupt."""
    monkeypatch.setitem(sys.modules, "asyncwatch.cli.main", _InterruptedImport("asyncwatch.cli.main"))
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 130


def test_an_interrupt_of_the_end_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the command is over, Ctrl+C changes nothing any more."""
    monkeypatch.setattr(sys, "argv", ["asyncwatch", "--version"])
    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == 0
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
