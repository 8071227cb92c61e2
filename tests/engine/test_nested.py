"""Targets that retry by themselves are recognised without importing the libraries they use."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

import pytest

from asyncwatch import RetryPolicy, Run, Supervisor
from asyncwatch.engine.nested import retrying_library
from asyncwatch.events import NestedRetriesFound
from tests.engine.fleets import drain, sleeper, worker


def wrapped_by(module: str) -> Callable[..., Any]:
    """Return an async function wrapped by a function that `module` defines."""
    namespace: dict[str, Any] = {"__name__": module, "functools": functools, "sleeper": sleeper}
    code = "@functools.wraps(sleeper)\nasync def retry(*args): return await sleeper(*args)\n"
    exec(code, namespace)
    found: Callable[..., Any] = namespace["retry"]
    return found


def with_controller() -> Callable[..., Any]:
    """Return an async function with the attribute that tenacity's decorator sets."""

    async def fetch() -> None:
        pass

    controller = types.new_class("AsyncRetrying")
    controller.__module__ = "tenacity.asyncio"
    fetch.retry = controller()  # type: ignore[attr-defined]  # as the decorator does
    return fetch


class Service:
    """Has a method that retries, and retries when it is called."""

    fetch = wrapped_by("backoff._async")
    __call__ = wrapped_by("stamina._core")


@functools.wraps(wrapped_by("stamina._core"))
async def decorated() -> None:
    """Stand for a decorator around a function that retries."""


@pytest.mark.parametrize(
    ("target", "library"),
    [
        (wrapped_by("stamina._core"), "stamina"),
        (wrapped_by("backoff._async"), "backoff"),
        (wrapped_by("tenacity.asyncio"), "tenacity"),
        (with_controller(), "tenacity"),
        (functools.partial(wrapped_by("stamina._core"), 1), "stamina"),
        (Service().fetch, "backoff"),
        (Service(), "stamina"),
        (sleeper, ""),
        (functools.partial(sleeper, 1), ""),
        (wrapped_by("backoffice.retry"), ""),
        (object(), ""),
        (len, ""),
    ],
)
def test_retrying_library_is_recognised_through_partials_methods_and_objects(target: object, library: str) -> None:
    assert retrying_library(target) == library


def test_retrying_library_is_recognised_below_another_decorator() -> None:
    inner = with_controller()
    outer = functools.wraps(inner)(lambda: None)
    del outer.retry  # type: ignore[attr-defined]  # as a decorator that copies no attributes
    assert retrying_library(outer) == "tenacity"


def test_nested_retries_are_reported_once_for_each_target_if_the_policy_retries(
    run: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(policy: RetryPolicy) -> list[tuple[str, str]]:
        target = wrapped_by("stamina._core")
        specs = [worker(str(n), functools.partial(target, 0.0), retry=policy) for n in range(5)]
        supervisor = Run(specs, seed=1)
        queue = supervisor.subscribe()
        await supervisor.gather()
        return [(e.target, e.library) for e in drain(queue) if isinstance(e, NestedRetriesFound)]

    assert run(lambda: main(RetryPolicy())) == [("sleeper", "stamina")]
    assert "multiply" in caplog.text
    assert run(lambda: main(RetryPolicy(max_attempts=1))) == []


REPORTED = [("sleeper", "stamina")]


@pytest.mark.parametrize(
    ("attempts", "restart", "reported"),
    [(5, "temporary", REPORTED), (1, "temporary", []), (1, "transient", REPORTED), (1, "permanent", REPORTED)],
)
def test_nested_retries_in_a_tree_are_reported_if_a_class_retries_or_the_worker_is_restarted(
    run: Any, attempts: int, restart: str, reported: list[tuple[str, str]]
) -> None:
    async def main() -> list[tuple[str, str]]:
        target = wrapped_by("stamina._core")
        treatment: dict[str, Any] = {
            "retry": RetryPolicy(max_attempts=1),
            "retry_by_class": {"transient": RetryPolicy(max_attempts=attempts)},
            "restart": restart,
            "every": 100.0,
        }
        supervisor = Supervisor([worker(str(n), target, 9.0, **treatment) for n in range(3)], seed=1)
        queue = supervisor.subscribe()
        async with supervisor:
            await sleeper(1.0)
            return [(e.target, e.library) for e in drain(queue) if isinstance(e, NestedRetriesFound)]

    assert run(main) == reported
