"""Results as text: a line as each arrives, then a table, which `--write` puts into RESULTS.md."""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from importlib.metadata import version
from os import cpu_count
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.measure import Finding, Skipped

_MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"
_LIBRARIES = ("asyncwatch", "textual", "aiohttp", "uvloop", "msgspec", "click")


_COLUMNS = ("case", "what", "median (lowest to highest)", "goal", "met", "processor time", "wall time", "run", "note")
_CASE = re.compile(r"\| `(\w+)` \|")


class Result(NamedTuple):
    """What one run of a case found, and the run: its pairs of measurements, its end, and the load average then."""

    case: str
    found: Finding | Skipped
    pairs: int
    at: datetime
    load: float

    @property
    def run(self) -> str:
        """The run in one cell of the table."""
        return f"load {self.load:.1f}, {self.pairs} x, {self.at:%m-%d %H:%M}"


def line(result: Result) -> str:
    """Return a result as one line for the terminal."""
    found, start = result.found, f"{result.case}: {result.found.what}"
    if isinstance(found, Skipped):
        return f"{start}: skipped: {found.why}"
    goal = f"  goal {found.goal}: {found.goal_met}" if found.goal is not None else ""
    times = [f"{kind} {text}" for kind, text in (("processor", found.processor), ("wall", found.wall)) if text]
    more = "; ".join([*times, f"load {result.load:.1f}", *filter(None, [found.note])])
    return f"{start}: {found.text}{goal}  [{more}]"


def table(results: Iterable[Result]) -> list[str]:
    """Return Markdown lines: the conditions, then a table with a row for each result."""
    return _section([_row(result) for result in results])


def write(file: Path, results: Iterable[Result], order: Sequence[str]) -> None:
    """Replace the rows of the measured cases in the section of `file` that belongs to this version of Python.

    Raises:
        ValueError: `file` has no such section.

    """
    rows: dict[str, list[str]] = {case: [] for case in order}
    before, begin, rest = file.read_text(encoding="utf-8").partition(f"<!-- Python {_MINOR} -->\n")
    old, end, after = rest.partition("<!-- end -->\n")
    if not end:
        raise ValueError(f"{file} has no section <!-- Python {_MINOR} --> with an <!-- end -->")
    for text in old.splitlines():
        if (match := _CASE.match(text)) is not None and match[1] in rows:
            rows[match[1]].append(text)
    results = list(results)
    for case in {result.case for result in results}:
        rows[case] = [_row(result) for result in results if result.case == case]
    section = "\n".join(_section([row for case in order for row in rows[case]]))
    file.write_text(f"{before}{begin}{section}\n{end}{after}", encoding="utf-8")


def _section(rows: Sequence[str]) -> list[str]:
    return [*conditions(), "", _cells(_COLUMNS), _cells(["---"] * len(_COLUMNS)), *rows]


def _row(result: Result) -> str:
    case, found = f"`{result.case}`", result.found
    if isinstance(found, Skipped):
        return _cells((case, found.what, "skipped", "", "", "", "", result.run, found.why))
    goal = "" if found.goal is None else str(found.goal)
    times = (found.processor, found.wall)
    return _cells((case, found.what, found.text, goal, found.goal_met, *times, result.run, found.note))


def _cells(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def conditions() -> list[str]:
    """Return the machine and the versions that the figures depend on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return [
        f"* {_processor()}, {cpu_count()} cores, {platform.system()} {platform.release()}",
        f"* {platform.python_implementation()} {platform.python_version()}, {libraries}",
    ]


def _processor() -> str:
    """Return the name of the processor."""
    if sys.platform == "darwin":
        command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [text.partition(":")[2].strip() for text in lines if text.startswith("model name")]
    return names[0] if names else platform.machine()
