"""Errors by name: the exception that a dotted name means, the class it belongs to, and the fault that is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from asyncwatch.policies import bad_luck as luck
from asyncwatch.policies.classify import Classify, ClassifyBy, ErrorClass, classify
from asyncwatch.targets.function import TargetError, import_module

ErrorKinds = Mapping[str, type[Exception]]
"""Exception classes by their dotted names."""


def load_error(name: str) -> type[Exception]:
    """Return the exception class that a dotted name such as `builtins.OSError` means.

    Raises:
        TargetError: there is none, or it is no class of exceptions.

    """
    module_name, _, kind_name = name.rpartition(".")
    kind = getattr(import_module(module_name), kind_name, None)
    if kind is None:
        raise TargetError(f"module {module_name!r} has no {kind_name!r}")
    # Asked for this way, since classes can override what `isinstance` and `issubclass` say.
    if Exception not in getattr(kind, "__mro__", ()):
        raise TargetError(f"{name} is no class of exceptions")
    found: type[Exception] = kind
    return found


def fault_problem(kind: type[Exception]) -> str | None:
    """Return why bad luck cannot make an error of that kind, or None."""
    try:
        kind("bad luck")
    except Exception as error:  # whatever its constructor raises
        return f"cannot be made of a text alone: {type(error).__name__}: {error}"
    return None


def classify_by(classes: Mapping[str, str], kinds: ErrorKinds) -> Classify:
    """Return what classifies errors by these HTTP statuses and dotted names, and all others as ever."""
    if not classes:
        return classify
    statuses = {int(name): ErrorClass(value) for name, value in classes.items() if name.isdecimal()}

    def by_status(error: BaseException) -> ErrorClass:
        status = getattr(error, "status", None)
        return statuses[status] if type(status) is int and status in statuses else classify(error)

    by_kind: dict[type[BaseException], ErrorClass | str] = {
        kinds[name]: value for name, value in classes.items() if not name.isdecimal()
    }
    return ClassifyBy(by_kind, by_status)


def make_bad_luck(
    threshold: float,
    weights: Mapping[str, float],
    latency: tuple[float, float] | None,
    kinds: ErrorKinds,
    *,
    is_http: bool,
) -> luck.BadLuck:
    """Return the bad luck with faults by name: those of `is_http` workers are aiohttp's own errors."""
    faults = tuple(_fault(name, kinds, is_http=is_http) for name in weights)
    shares = tuple(weights.values())
    return luck.BadLuck(
        threshold=threshold, faults=faults, weights=None if len(set(shares)) == 1 else shares, latency=latency
    )


def _fault(name: str, kinds: ErrorKinds, *, is_http: bool) -> Callable[[], Exception]:
    if name in kinds:
        return partial(kinds[name], "bad luck")
    if not is_http and not name.isdecimal():
        named = {fault.__name__: fault for fault in luck.BadLuck().faults}
        return named[name]
    from asyncwatch.targets import http  # noqa: PLC0415  functions do without aiohttp

    if name.isdecimal():
        return http.failing(int(name))
    return {fault.__name__: fault for fault in http.HTTP_FAULTS}[name]
