"""Runs the cases on the Python that runs this, and tells which of them hold."""

from __future__ import annotations

import asyncio
import logging
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import metadata

import msgspec

from asyncwatch.engine.thread import new_event_loop
from asyncwatch.selftest.cases import CASES, Case
from asyncwatch.testing import START, JumpingLoop, run_on

LOOPS: dict[str, object] = {"asyncio": None}
"""Task factories by what the table calls them. Timers jump on all of them, so that no case waits for real."""
if hasattr(asyncio, "eager_task_factory"):
    LOOPS["eager tasks"] = asyncio.eager_task_factory
UVLOOP = "uvloop"
"""Its clock cannot jump: only cases run on it in which no time passes."""
_PASSED, _FAILED, _TIMED = "passed", "FAILED", "-"
_TOO_LONG = 60.0
"""Seconds after which a case is given up that hangs where no time jumps."""


class Verdict(msgspec.Struct, frozen=True):
    """How one case went: the error of each loop on which it does not hold, in one line; on which it was not tried."""

    name: str
    what: str
    errors: dict[str, str]
    untried: frozenset[str] = frozenset()


def run_cases() -> Iterator[Verdict]:
    """Yield how each case goes on each of the loops."""
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
                errors[UVLOOP] = _try(_in_time(case), new_event_loop())
            untried = {UVLOOP} - errors.keys()
            found = {column: error for column, error in errors.items() if error}
            yield Verdict(name, (case.__doc__ or "").strip(), found, frozenset(untried))


def uvloop_version() -> str:
    """Return the version of uvloop, which the engine runs on where it is installed; else an empty text."""
    try:
        return metadata.version(UVLOOP)
    except metadata.PackageNotFoundError:
        return ""


def print_table(say: Callable[[str], object]) -> bool:
    """Run all cases, tell each by a line as it comes, and return whether all hold."""
    version = uvloop_version()
    loops = [*LOOPS, UVLOOP] if version else [*LOOPS]
    say(f"Python {platform.python_version()} ({platform.python_implementation()}) on {platform.system()}")
    say("asyncio's own loop, with a clock that jumps, so that nothing waits for real")
    say(f"uvloop {version}, whose clock cannot: the cases in which no time passes" if version else "no uvloop")
    width = max(map(len, CASES))
    say("  ".join([f"{'case':<{width}}", *(f"{loop:<{len(_PASSED)}}" for loop in loops), "what holds"]))
    failed = 0
    for verdict in run_cases():
        cells = [f"{_cell(verdict, loop):<{max(len(loop), len(_PASSED))}}" for loop in loops]
        say("  ".join([f"{verdict.name:<{width}}", *cells, verdict.what]))
        failed += bool(verdict.errors)
        for loop, error in verdict.errors.items():
            say(f"    {loop}: {error}")
    say(f"{len(CASES) - failed} of {len(CASES)} cases passed" + (f", {failed} FAILED" if failed else ""))
    return not failed


def _cell(verdict: Verdict, loop: str) -> str:
    if loop in verdict.untried:
        return _TIMED
    return _FAILED if loop in verdict.errors else _PASSED


def _in_time(case: Case) -> Case:
    async def call() -> None:
        async with asyncio.timeout(_TOO_LONG):
            await case()

    return call


def _try(case: Case, loop: asyncio.AbstractEventLoop) -> str:
    """Return why the case does not hold on that loop, or an empty text; close the loop."""
    try:
        run_on(loop, case)
    except Exception as error:  # a case that breaks is one that does not hold
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what supervisors log about the failures that the cases provoke, and its warnings, to oneself."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(before)
