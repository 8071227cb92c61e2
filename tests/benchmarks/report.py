"""Findings as text: a line as each arrives, then a table for RESULTS.md."""

from __future__ import annotations

import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from os import cpu_count
from pathlib import Path

from tests.benchmarks.measure import Finding, Skipped

_LIBRARIES = ("asyncwatch", "textual", "aiohttp", "uvloop", "msgspec", "click")


def line(case: str, finding: Finding | Skipped) -> str:
    """Return a finding as one line for the terminal."""
    if isinstance(finding, Skipped):
        return f"{case}: {finding.what}: skipped: {finding.why}"
    goal = f"  goal {finding.goal}: {finding.goal_met}" if finding.goal is not None else ""
    times = [f"{kind} {text}" for kind, text in (("CPU", finding.processor), ("wall", finding.wall)) if text]
    note = "; ".join([*times, finding.note] if finding.note else times)
    return f"{case}: {finding.what}: {finding.text}{goal}{f'  [{note}]' if note else ''}"


def table(findings: Iterable[tuple[str, Finding]]) -> list[str]:
    """Return Markdown lines: the conditions, then a table with a row for each finding."""
    rows: list[Sequence[str]] = [("case", "what", "median (lowest to highest)", "goal", "met", "note")]
    rows.append(["---"] * len(rows[0]))
    for case, finding in findings:
        goal = "" if finding.goal is None else str(finding.goal)
        rows.append((f"`{case}`", finding.what, finding.text, goal, finding.goal_met, finding.note))
    return [*conditions(), "", *("| " + " | ".join(row) + " |" for row in rows)]


def conditions() -> list[str]:
    """Return the date, the machine and the versions that the figures depend on."""
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    return [
        f"* {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
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
