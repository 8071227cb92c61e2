"""Runs a case on a jumping clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from asyncwatch.selftest.cases import CASES
from asyncwatch.testing import run_jumping

TASK_FACTORIES = {"lazy": None}
if hasattr(asyncio, "eager_task_factory"):
    TASK_FACTORIES["eager"] = asyncio.eager_task_factory


@pytest.fixture(params=TASK_FACTORIES)
def hold(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Run the case of that name under each task factory that this Python has; it raises if it does not hold."""
    return lambda name, *args: run_jumping(partial(CASES[name], *args), TASK_FACTORIES[request.param])
