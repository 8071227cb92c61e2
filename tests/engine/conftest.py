"""Fixtures of the engine's tests."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from asyncwatch.engine.scheduler import Scheduler
from tests.clock import TASK_FACTORIES, run_jumping


@pytest.fixture(params=TASK_FACTORIES)
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Run a coroutine function on a jumping clock, under each task factory that this Python has."""
    return lambda main: run_jumping(main, TASK_FACTORIES[request.param])


@pytest.fixture
def check_errors() -> list[type[Exception]]:
    """Errors with which `validate_state` may end: for a test that breaks a part which the check reads."""
    return []


@pytest.fixture(autouse=True)
def _validate_at_the_end(monkeypatch: pytest.MonkeyPatch, check_errors: list[type[Exception]]) -> None:
    """Check the state of every scheduler when its run ends."""
    finish = Scheduler.finish

    def checked(scheduler: Scheduler) -> None:
        with suppress(*check_errors):
            if not scheduler.is_broken_off:
                scheduler.validate_state()
        finish(scheduler)

    monkeypatch.setattr(Scheduler, "finish", checked)


class _RaisingHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError(record.getMessage())


@pytest.fixture
def raising_log() -> Iterator[None]:
    """Send what asyncwatch logs to a handler that raises at every record."""
    logger, handler = logging.getLogger("asyncwatch"), _RaisingHandler()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
