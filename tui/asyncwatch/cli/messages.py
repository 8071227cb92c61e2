"""Messages of the command and its processes to the person at the terminal."""

from __future__ import annotations

import os
import tempfile
import traceback
from collections.abc import Iterable

from asyncwatch.process import discard_output
from asyncwatch.text import error_line, mask_secrets, printable

NO_THREADS = "the system starts no more threads: raise its limits of processes or memory (ulimit -u, ulimit -v)"


def report(problem: str) -> None:
    """Write a message to standard error, unless the terminal has gone: then the exit status has to do."""
    from click import echo  # noqa: PLC0415  10 ms that the process of a dashboard, which seldom reports, does without

    try:
        echo(f"asyncwatch: {printable(mask_secrets(problem))}", err=True)
    except OSError:
        discard_output(2)


def how_to_repeat(failed: int, run: str, resume: str) -> list[str]:
    """Return how to go on after a recorded run in which some workers failed; empty if none did.

    `run` is its ID, empty if it is not recorded. `resume` is the command that resumes it, empty if there is none.
    """
    if not failed or not run:
        return []
    again = resume.replace(" resume ", " again ", 1)
    repeat = [f"To repeat the {failed:,} that failed: {again}"] if again else []
    return [*repeat, f"To see the run again, moment by moment: asyncwatch replay {run}"]


def lacks_threads(error: BaseException) -> bool:
    """Return whether the error is that of Python when the system starts no more threads."""
    return isinstance(error, RuntimeError) and str(error) == "can't start new thread"


def fault(error: Exception, process: str) -> str:
    """Return a message for an error that nobody expected. Its traceback is kept in a file."""
    if lacks_threads(error):
        return NO_THREADS
    trace = keep_traceback(process, traceback.format_exception(error))
    return f"{error_line(type(error).__name__, str(error))}; its traceback is in {trace}"


def keep_traceback(process: str, lines: Iterable[str]) -> str:
    """Write a traceback to a new file, and return its path."""
    descriptor, path = tempfile.mkstemp(prefix=f"asyncwatch-{process}-", suffix=".txt")
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
        file.writelines(lines)
    return path
