"""Runs the cases on the Python that runs this, and tells which of them hold."""

from __future__ import annotations

import asyncio
import logging
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from asyncwatch.selftest.cases import CASES, Case
from asyncwatch.selftest.clock import run_jumping

LOOPS: dict[str, object] = {"asyncio": None}
"""Task factories by what the table calls them. Timers jump on all of them, so that no case waits for real."""
if hasattr(asyncio, "eager_task_factory"):
    LOOPS["eager tasks"] = asyncio.eager_task_factory


class Verdict(msgspec.Struct, frozen=True):
    """How one case went: the error of each loop on which it does not hold, in one line."""

    name: str
    what: str
    errors: dict[str, str]


def run_cases() -> Iterator[Verdict]:
    """Yield how each case goes on each of the loops."""
    with _quiet():
        for name, case in CASES.items():
            errors = {loop: error for loop, factory in LOOPS.items() if (error := _try(case, factory))}
            yield Verdict(name, (case.__doc__ or "").strip(), errors)


def print_table(say: Callable[[str], object]) -> bool:
    """Run all cases, tell each by a line as it comes, and return whether all hold."""
    say(f"Python {platform.python_version()} ({platform.python_implementation()}) on {platform.system()}")
    width = max(map(len, CASES))
    say("  ".join([f"{'case':<{width}}", *LOOPS, "what holds"]))
    failed = 0
    for verdict in run_cases():
        cells = [f"{'FAILED' if loop in verdict.errors else 'passed':<{len(loop)}}" for loop in LOOPS]
        say("  ".join([f"{verdict.name:<{width}}", *cells, verdict.what]))
        failed += bool(verdict.errors)
        for loop, error in verdict.errors.items():
            say(f"    {loop}: {error}")
    say(f"{len(CASES) - failed} of {len(CASES)} cases passed" + (f", {failed} FAILED" if failed else ""))
    return not failed


def _try(case: Case, factory: object) -> str:
    """Return why the case does not hold on the loop with that task factory, or an empty text."""
    try:
        run_jumping(case, factory)
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
