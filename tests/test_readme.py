"""The README is short, agrees with .ci/run, and its recipe for a retry loses no row. tests/docs runs its blocks."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from asyncwatch import __version__

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CSV_PAGE = (ROOT / "tui" / "asyncwatch" / "guide" / "howto-csv.md").read_text(encoding="utf-8")


def recipes(page: str) -> list[str]:
    """Return each script that selects what succeeded and excludes it."""
    return re.findall(r"^(jq .*\n(?:awk|grep) .*)$", page, re.MULTILINE)


RECIPES = [("README", recipes(README)[0]), *(("howto-csv", script) for script in recipes(CSV_PAGE))]


def record(name: str, state: str) -> str:
    return f'{{"name":"{name}","state":"{state}"}}\n'


def rest_of(script: str, output: str, folder: Path) -> str:
    """Run the script for items of which `output` is known; return the items of the next run."""
    (folder / "out.jsonl").write_text(output)
    (folder / "ids.csv").write_text("id\na\nb\nc\nd\n")
    (folder / "urls.txt").write_text("2\n3\n4\n5\n")
    subprocess.run(script, shell=True, cwd=folder, check=True)
    (rest,) = folder.glob("rest.*")
    return rest.read_text()


needs_tools = pytest.mark.skipif(not all(map(shutil.which, ("jq", "awk", "grep"))), reason="jq, awk or grep is missing")
each_recipe = pytest.mark.parametrize("script", [script for _, script in RECIPES], ids=[page for page, _ in RECIPES])


def test_every_recipe_was_found() -> None:
    assert [page for page, _ in RECIPES] == ["README", "howto-csv", "howto-csv"]


@needs_tools
@each_recipe
def test_recipe_after_a_killed_run_keeps_failed_rows_and_rows_without_a_line(script: str, tmp_path: Path) -> None:
    """Worker 2 succeeded after a restart, 3 failed, the line of 4 was cut, and 5 had not started."""
    output = record("2", "failed") + record("3", "exhausted") + record("2", "succeeded") + record("4", "succeeded")[:20]
    assert rest_of(script, output, tmp_path) in {"id\nb\nc\nd\n", "3\n4\n5\n"}


@needs_tools
@each_recipe
def test_recipe_without_a_success_keeps_every_row(script: str, tmp_path: Path) -> None:
    assert rest_of(script, record("3", "failed"), tmp_path) in {"id\na\nb\nc\nd\n", "2\n3\n4\n5\n"}


def test_readme_is_short() -> None:
    assert len(README.splitlines()) <= 200


def test_ci_script_has_the_test_command_of_the_readme() -> None:
    (command,) = re.findall(r"^(python3 -m venv .*pytest)$", README, re.MULTILINE)
    assert f"\n  {command}\n" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def test_changelog_has_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
