"""Exceptions by dotted name, as a config names them: for error classes, and as faults of bad luck."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from msgspec.structs import replace

from asyncwatch.policies import bad_luck as luck
from asyncwatch.policies.classify import Classify, ClassifyBy, ErrorClass, classify
from asyncwatch.targets.function import TargetError, import_module

ErrorKinds = Mapping[str, type[Exception]]
"""Exception types by their dotted names."""


def load_error(name: str) -> type[Exception]:
    """Return the exception type of a dotted name such as `builtins.OSError`.

    Raises:
        TargetError: There is none of that name, or it is not a subclass of `Exception`.

    """
    module_name, _, kind_name = name.rpartition(".")
    kind = getattr(import_module(module_name), kind_name, None)
    if kind is None:
        raise TargetError(f"module {module_name!r} has no {kind_name!r}")
    # A class can override the results of `isinstance` and `issubclass`.
    if Exception not in getattr(kind, "__mro__", ()):
        raise TargetError(f"{name} is not a subclass of Exception")
    found: type[Exception] = kind
    return found


def fault_problem(kind: type[Exception]) -> str | None:
    """Return why bad luck cannot create an error of this type; None if it can."""
    try:
        kind("bad luck")
    except Exception as error:  # whatever its constructor raises
        return f"cannot be created from a text alone: {type(error).__name__}: {error}"
    return None


def classify_by(classes: Mapping[str, str], kinds: ErrorKinds) -> Classify:
    """Return a function that classifies errors by these HTTP statuses and dotted names, and others by `classify`."""
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


def with_faults(
    policy: luck.BadLuck, weights: Mapping[str, float], kinds: ErrorKinds, *, is_http: bool
) -> luck.BadLuck:
    """Return bad luck whose faults are given by name and weight. `is_http` workers get aiohttp's errors."""
    faults = tuple(_fault(name, kinds, is_http=is_http) for name in weights)
    shares = tuple(weights.values())
    return replace(policy, faults=faults, weights=None if len(set(shares)) == 1 else shares)


def _fault(name: str, kinds: ErrorKinds, *, is_http: bool) -> Callable[[], Exception]:
    if name in kinds:
        return partial(kinds[name], "bad luck")
    if not is_http and not name.isdecimal():
        named = {fault.__name__: fault for fault in luck.BadLuck().faults}
        return named[name]
    from asyncwatch.targets import http  # noqa: PLC0415  aiohttp, for HTTP workers only

    if name.isdecimal():
        return http.failing(int(name))
    return {fault.__name__: fault for fault in http.HTTP_FAULTS}[name]
