"""The entry point of the process: Ctrl+C is an exit status, never a traceback."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from asyncwatch.__main__ import run
from asyncwatch.cli import INTERRUPTED, READER_GONE
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


COMMAND = [sys.executable, "-m", "asyncwatch"]


@pytest.mark.parametrize("arguments", ["--help", "--version", "guide keys", "check --help"])
@pytest.mark.parametrize("is_reader_gone", [True, False])
def test_text_that_stdout_does_not_take_is_no_traceback(arguments: str, *, is_reader_gone: bool) -> None:
    if is_reader_gone:
        reading, stdout = os.pipe()
        os.close(reading)
    else:
        stdout = os.open("/dev/full", os.O_WRONLY)
    with os.fdopen(stdout, "wb") as stream:
        done = subprocess.run(
            [*COMMAND, *arguments.split()], stdout=stream, stderr=subprocess.PIPE, text=True, check=False
        )
    message = "" if is_reader_gone else "asyncwatch: cannot write to stdout: No space left on device\n"
    assert (done.returncode, done.stderr) == (READER_GONE if is_reader_gone else 1, message)


@pytest.mark.parametrize("arguments", ["--no-such-option", "nonsense", "check none.toml", "guide no-such-page"])
def test_message_that_stderr_does_not_take_leaves_the_status(arguments: str) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([*COMMAND, *arguments.split()], stdout=subprocess.DEVNULL, stderr=full, check=False)
    assert done.returncode == 2
