"""Finds targets that retry by themselves: their retries multiply with the supervisor's retries and restarts.

Pure; imports no such library.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

from asyncwatch.engine.describe import function_of, target_name
from asyncwatch.engine.event_loop import pass_on_interrupt
from asyncwatch.engine.spec import WorkerSpec

RETRYING_LIBRARIES = frozenset({"tenacity", "stamina", "backoff"})
_MAX_LAYERS = 50
_MAX_TARGETS = 1_000


def retrying_library(target: object) -> str:
    """Return the name of the library that makes `target` retry, empty if none is known to.

    A function wrapped by such a library is defined in one of its modules, or has its controller as attribute `retry`,
    as tenacity's functions do. Looks through decorators, partials, methods and callable objects.
    """
    for layer in _layers(target):
        # Statically: the object's own answer could be anything, an error too.
        controller = inspect.getattr_static(layer, "retry", None)
        namespace = getattr(layer, "__globals__", None)
        modules = [type(controller).__module__ if controller is not None else ""]
        if isinstance(namespace, dict):
            modules.append(str(namespace.get("__name__", "")))
        for module in modules:
            library = module.partition(".")[0]
            if library in RETRYING_LIBRARIES:
                return library
    return ""


def nested_retries(specs: Iterable[WorkerSpec]) -> Iterator[tuple[str, str]]:
    """Yield, once each, the name and library of targets that retry by themselves and whose workers retry too."""
    finder = NestedRetries()
    before: WorkerSpec | None = None
    for spec in specs:
        if (
            before is not None
            and spec.target is before.target
            and spec.retry is before.retry
            and spec.retry_by_class is before.retry_by_class
        ):
            continue  # nearly always
        before = spec
        found = finder.find(spec)
        if found is not None:
            yield found


class NestedRetries:
    """Checks the workers of a run one by one, and each of their targets once."""

    def __init__(self) -> None:
        self._seen = set[int]()
        self._previous: object = None

    def find(self, spec: WorkerSpec) -> tuple[str, str] | None:
        """Return the name and library of a target, not seen before, if both it and its worker retry."""
        target = spec.target
        if target is self._previous or not _retries(spec):
            return None
        self._previous = target
        try:
            function = function_of(target)
            if id(function) in self._seen or len(self._seen) >= _MAX_TARGETS:
                return None
            self._seen.add(id(function))
            library = retrying_library(function)
            return (target_name(target), library) if library else None
        except BaseException as error:  # the attributes of an object can be code that raises anything
            pass_on_interrupt(error)
            return None


def _retries(spec: WorkerSpec) -> bool:
    """Return whether an error gets the worker another attempt, or another incarnation."""
    return (
        spec.restart != "temporary"
        or spec.retry.max_attempts > 1
        or any(policy.max_attempts > 1 for policy in (spec.retry_by_class or {}).values())
    )


def _layers(target: object) -> Iterator[object]:
    """Yield `target` and what it wraps, outermost first."""
    waiting = [target]
    for _ in range(_MAX_LAYERS):
        if not waiting:
            return
        layer = waiting.pop()
        yield layer
        inner = [getattr(layer, name, None) for name in ("func", "__func__", "__wrapped__")]
        if not hasattr(layer, "__code__"):
            inner.append(inspect.getattr_static(type(layer), "__call__", None))
        waiting += [part for part in inner if hasattr(part, "__code__") or hasattr(part, "func")]
