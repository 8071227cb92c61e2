"""What the README and the CI script promise is what the program does."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asyncwatch import __version__
from asyncwatch.cli.main import main
from asyncwatch.config.load import parse_config
from asyncwatch.ui.keys import ACTS, GLOBAL, LOOKS, RUN

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    """Return the README's block of that language."""
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_example_program_runs() -> None:
    """The program in the README prints five outcomes and the first event."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", block("python")], capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert sorted(line.split()[1] for line in lines[:5]) == ["failed", *["succeeded"] * 4]
    assert lines[5].startswith("RunStarted(seq=0")
    assert len(lines) == 6


def test_the_example_config_is_valid() -> None:
    """The TOML in the README is a config."""
    config = parse_config(block("toml"), Path("asyncwatch.toml"))
    assert [group.name for group in config.groups] == ["sites", "backfill"]


def test_the_example_tree_runs() -> None:
    """The program with services in the README starts them, tells how they are, and stops them."""
    program = block("python services")
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "feeds [('cache', 'running'), ('prices', 'stopped')]",
        "sessions [('alice', 'running')]",
        "ChildCounts(specs=2, active=2, supervisors=0, workers=2)",
    ]


def test_the_example_of_discipline_runs() -> None:
    """The program with limits and bad luck in the README ends with every worker counted."""
    program = block("python discipline")
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert sum(map(int, re.findall(r": (\d+)", done.stdout))) == 20


def test_the_example_of_discipline_is_valid() -> None:
    """The TOML with limits and bad luck in the README is a config."""
    config = parse_config(block("toml discipline"), Path("asyncwatch.toml"))
    assert (config.rate_per_key, config.halt, config.circuit.enabled) == ("20/s", "5%", True)


def test_the_example_services_are_valid() -> None:
    """The TOML with services in the README is a tree."""
    config = parse_config(block("toml services"), Path("asyncwatch.toml"))
    assert config.is_tree
    assert config.order == ("cache", "feeds", "prices")


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("awk")), reason="they are not installed here")
@pytest.mark.parametrize(("made", "items"), [("again.txt", "b\n"), ("again.csv", "id\n20\n")])
def test_what_failed_can_be_retried_by_its_output(made: str, items: str, tmp_path: Path) -> None:
    """The commands for that make a file of those items whose last line says that they did not succeed."""
    names = ("a", "b", "c") if made == "again.txt" else ("2", "3", "4")
    ends = zip((*names, names[0]), ("failed", "exhausted", "succeeded", "succeeded"), strict=True)
    (tmp_path / "out.jsonl").write_text("".join(f'{{"name":"{name}","state":"{state}"}}\n' for name, state in ends))
    (tmp_path / "ids.csv").write_text("id\n10\n20\n30\n")
    commands = re.findall(r"^    ((?:jq|awk) .*)$", README, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / made).read_text() == items


def test_ci_runs_the_test_command_of_the_readme() -> None:
    """The one-line test command stands in the CI script to the letter."""
    (command,) = re.findall(r"^    (python3 -m venv .*pytest)$", README, re.MULTILINE)
    assert f"\n  {command}\n" in (ROOT / ".ci" / "run").read_text()


def test_every_key_is_told() -> None:
    """The table of keys has every key that acts, looks or leaves."""
    table = README[README.index("## Keys") : README.index("## Items")]
    for key in (*ACTS, *RUN, *LOOKS, *GLOBAL):
        cap = {"esc": "escape"}.get(key.cap, key.cap)
        assert re.search(rf"[| ,]{re.escape(cap)}[ ,|]", table), key


def test_every_option_in_the_readme_exists() -> None:
    """No option is promised that the command does not have."""
    options = {option for parameter in main.params for option in parameter.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= options


def test_the_changelog_has_this_version() -> None:
    """The version of the package has its entry."""
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
