"""Finds targets that retry on their own: their retries and the supervisor's multiply. Pure; imports no such library."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator

from asyncwatch.supervise.spec import WorkerSpec

RETRYING_LIBRARIES = frozenset({"tenacity", "stamina", "backoff"})
_MAX_LAYERS = 50
_MAX_TARGETS = 1_000


def retrying_library(target: object) -> str:
    """Return the name of the library that makes `target` retry, empty if none is known to.

    A function that such a library wrapped was defined in one of its modules, or carries its controller as the
    attribute `retry`, as those of tenacity do. Decorators around it, partials, methods and callable objects are seen
    through.
    """
    for layer in _layers(target):
        # Not asked of the object itself: its answer could be anything, an error too.
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
    """Yield the name and the library of each target of workers with retries that retries on its own too, once."""
    seen = set[int]()
    previous: object = None
    for spec in specs:
        target = spec.target
        if target is previous or spec.retry.max_attempts == 1:
            continue
        previous = target
        function = getattr(target, "__func__", None) or getattr(target, "func", None) or target
        if id(function) not in seen and len(seen) < _MAX_TARGETS:
            seen.add(id(function))
            library = retrying_library(function)
            if library:
                yield getattr(function, "__qualname__", type(function).__qualname__), library


def _layers(target: object) -> Iterator[object]:
    """Yield `target` and what it calls in the end, outermost first."""
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
