"""Runs all cases on this Python, and prints which of them hold."""

from __future__ import annotations

import asyncio
import inspect
import logging
import platform
import warnings
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from importlib import metadata

import msgspec

from asyncwatch.engine.event_loop import new_event_loop
from asyncwatch.selftest import cases_requests, cases_restart, cases_start
from asyncwatch.selftest import cases_requests as cases_pool
from asyncwatch.testing import START, JumpingLoop, run_on

Case = Callable[[], Awaitable[None]]

CASES: dict[str, Case] = {
    name: value
    for module in (cases_start, cases_requests, cases_restart, cases_pool)
    for name, value in vars(module).items()
    if not name.startswith("_") and inspect.iscoroutinefunction(value) and value.__module__ == module.__name__
}
"""Every case by OTP's name. It is a coroutine function that raises `CaseFailed` if it does not hold, and its docstring
says what is asserted. It takes no time on a loop whose clock jumps."""

LOOPS: dict[str, object] = {"asyncio": None}
"""Task factories by their names in the table. All run on a jumping clock, so that no case waits for real."""
if hasattr(asyncio, "eager_task_factory"):
    LOOPS["eager tasks"] = asyncio.eager_task_factory
UVLOOP = "uvloop"
"""Its clock cannot jump, so it runs only the cases in which no time passes."""
_PASSED, _FAILED, _SKIPPED = "passed", "FAILED", "-"
_TOO_LONG = 60.0
"""Seconds after which a case fails that hangs on a loop whose clock does not jump."""


class CaseResult(msgspec.Struct, frozen=True):
    """How one case went on all loops."""

    name: str
    assertion: str
    """What the case asserts."""
    errors: dict[str, str]
    """The error, in one line, of each loop on which the case does not hold."""
    skipped: frozenset[str] = frozenset()
    """The loops on which the case cannot run."""


def run_cases() -> Iterator[CaseResult]:
    """Run each case on each loop."""
    with _quiet():
        for name, case in CASES.items():
            errors = {}
            has_waited = False
            for column, factory in LOOPS.items():
                loop = JumpingLoop()
                loop.set_task_factory(factory)  # type: ignore[arg-type]  # one of asyncio's, or None
                errors[column] = _try(case, loop)
                has_waited = has_waited or loop.time() > START
            if uvloop_version() and not has_waited:
                errors[UVLOOP] = _try(_limited(case), new_event_loop())
            skipped = {UVLOOP} - errors.keys()
            found = {column: error for column, error in errors.items() if error}
            yield CaseResult(name, (case.__doc__ or "").strip(), found, frozenset(skipped))


def uvloop_version() -> str:
    """Return the version of uvloop, which the engine uses if it is installed, else ""."""
    try:
        return metadata.version(UVLOOP)
    except metadata.PackageNotFoundError:
        return ""


def print_table(say: Callable[[str], object]) -> bool:
    """Run all cases, print a line for each as it ends, and return whether all hold."""
    version = uvloop_version()
    loops = [*LOOPS, UVLOOP] if version else [*LOOPS]
    say(f"Python {platform.python_version()} ({platform.python_implementation()}) on {platform.system()}")
    say("asyncio: its clock jumps to the next timer, so no case waits")
    say(
        f"uvloop {version}: its clock cannot jump, so cases in which time passes are left out (-)"
        if version
        else "uvloop is not installed"
    )
    width = max(map(len, CASES))
    say("  ".join([f"{'case':<{width}}", *(f"{loop:<{len(_PASSED)}}" for loop in loops), "assertion"]))
    failed = 0
    for result in run_cases():
        cells = [f"{_cell(result, loop):<{max(len(loop), len(_PASSED))}}" for loop in loops]
        say("  ".join([f"{result.name:<{width}}", *cells, result.assertion]))
        failed += bool(result.errors)
        for loop, error in result.errors.items():
            say(f"    {loop}: {error}")
    say(f"{len(CASES) - failed} of {len(CASES)} cases passed" + (f", {failed} FAILED" if failed else ""))
    return not failed


def _cell(result: CaseResult, loop: str) -> str:
    if loop in result.skipped:
        return _SKIPPED
    return _FAILED if loop in result.errors else _PASSED


def _limited(case: Case) -> Case:
    async def call() -> None:
        async with asyncio.timeout(_TOO_LONG):
            await case()

    return call


def _try(case: Case, loop: asyncio.AbstractEventLoop) -> str:
    """Run the case on that loop and close the loop; return why the case does not hold, or ""."""
    try:
        run_on(loop, case)
    except Exception as error:  # a case that breaks does not hold
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress logs and warnings about the failures that the cases provoke."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
