"""Fixtures: a folder of sockets of their own for the tests, and a run without an engine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clock import TASK_FACTORIES, run_jumping
from tests.control.runs import FakeRun

Play = Callable[..., Any]


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder with a short path: the path of a socket may have about a hundred bytes."""
    folder = Path(tempfile.mkdtemp(prefix="aw-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs are published, below `base/run`. The temporary directory is `base/tmp`."""
    for name, variable in (("run", "XDG_RUNTIME_DIR"), ("tmp", "TMPDIR")):
        (base / name).mkdir(mode=0o700)
        monkeypatch.setenv(variable, str(base / name))
    return base / "run" / "asyncwatch"


@pytest.fixture(params=TASK_FACTORIES)
def play(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Play:
    """Call a coroutine function with a new `FakeRun`, on a jumping clock, and return its result."""

    def play(main: Callable[[FakeRun], Awaitable[Any]], **kwargs: Any) -> Any:
        async def call() -> Any:
            run = FakeRun(monkeypatch, **kwargs)
            try:
                return await main(run)
            finally:
                await run.close()

        return run_jumping(call, TASK_FACTORIES[request.param])

    return play
