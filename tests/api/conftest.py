"""Fixtures of the tests of the functions for one's own program."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.clock import TASK_FACTORIES, run_jumping
from tests.engine.conftest import _validate_at_the_end, check_errors  # noqa: F401  fixtures of these tests too


@pytest.fixture(params=TASK_FACTORIES)
def run(request: pytest.FixtureRequest) -> Callable[[Callable[[], Awaitable[Any]]], Any]:
    """Run a coroutine function on a jumping clock, under each task factory that this Python has."""
    return lambda main: run_jumping(main, TASK_FACTORIES[request.param])
