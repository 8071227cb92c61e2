"""The README is short, and agrees with .ci/run and the version. tests/docs runs its blocks."""

from __future__ import annotations

import re
from pathlib import Path

from asyncwatch import __version__

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_ci_script_has_the_test_command_of_the_readme() -> None:
    (command,) = re.findall(r"^(python3 -m venv .*pytest)$", README, re.MULTILINE)
    assert f"\n  {command}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_changelog_has_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
