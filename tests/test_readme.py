"""The examples, commands and tables of the README hold."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asyncwatch import __version__
from asyncwatch.cli import INTERRUPTED
from asyncwatch.cli.main import main
from asyncwatch.config.load import parse_config
from asyncwatch.events import decode, encode
from asyncwatch.ui.keys import ACTS, GLOBAL, LOOKS, RUN

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


BLOCKS = dict(re.findall(r"^```([a-z]+(?: [a-z]+)?)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE))
"""Every block of code, by its language and subject."""


def output_of(program: str) -> list[str]:
    """Run an example as a program of its own, with warnings as errors; return the lines that it prints."""
    command = [sys.executable, "-W", "error", "-c", BLOCKS[program]]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_every_block_has_a_test_here() -> None:
    assert README.count("\n```") == 2 * len(BLOCKS)  # so no two of them have the same name
    tests = Path(__file__).read_text()
    assert [name for name in BLOCKS if not re.search(rf'(output_of\(|BLOCKS\[)"{name}"', tests)] == []


def test_example_program_prints_its_outcomes_and_the_first_event() -> None:
    lines = output_of("python")
    assert sorted(line.split()[1] for line in lines[:5]) == ["failed", *["succeeded"] * 4]
    assert lines[5].startswith("RunStarted(seq=0")
    assert len(lines) == 6


def test_example_config_is_valid() -> None:
    config = parse_config(BLOCKS["toml"], Path("asyncwatch.toml"))
    assert [group.name for group in config.groups] == ["sites", "backfill"]


def test_example_of_services_prints_the_children_and_a_refusal() -> None:
    assert output_of("python services") == [
        "feeds [('cache', 'running'), ('prices', 'stopped')]",
        "sessions [('alice', 'running')]",
        "'prices' of feeds runs",
        "ChildCounts(specs=2, active=2, supervisors=0, workers=2)",
    ]


def test_example_of_discipline_counts_every_worker() -> None:
    (line,) = output_of("python discipline")
    assert sum(map(int, re.findall(r": (\d+)", line))) == 20


def test_example_of_testing_ends_two_minutes_later_at_once() -> None:
    assert output_of("python testing") == ["exhausted 120 WorkerExhausted"]


def test_example_unit_runs_a_command_whose_interruption_is_no_failure() -> None:
    unit = configparser.ConfigParser()
    unit.read_string(BLOCKS["ini"])
    _, *arguments = shlex.split(unit["Service"]["ExecStart"])
    assert main.make_context("asyncwatch", arguments).params["headless"]
    assert unit["Service"]["SuccessExitStatus"] == str(INTERRUPTED)


def test_command_in_the_readme_is_accepted() -> None:
    """Arguments are parsed, and nothing is run."""
    commands = re.findall(r"^    (asyncwatch\b[^#|\n]*)|`(asyncwatch [^`\[]+)`", README, re.MULTILINE)
    assert len(commands) >= 8
    for indented, inline in commands:
        _, *arguments = shlex.split(indented or inline)
        main.make_context("asyncwatch", arguments)


def test_json_line_in_the_readme_is_an_event() -> None:
    lines = re.findall(r"^    (\{.*\})$", README, re.MULTILINE)
    assert [type(decode(line)).__name__ for line in lines] == ["AttemptStarted", "PollFailed"]
    assert [encode(decode(line)).decode() for line in lines] == lines


def test_example_config_of_discipline_is_valid() -> None:
    config = parse_config(BLOCKS["toml discipline"], Path("asyncwatch.toml"))
    assert (config.rate_per_key, config.halt, config.circuit.enabled) == ("20/s", "5%", True)


def test_example_config_of_services_is_a_tree() -> None:
    config = parse_config(BLOCKS["toml services"], Path("asyncwatch.toml"))
    assert config.is_tree
    assert config.order == ("cache", "feeds", "prices")


@pytest.mark.skipif(not (shutil.which("jq") and shutil.which("awk")), reason="they are not installed here")
@pytest.mark.parametrize(("made", "items"), [("again.txt", "b\n"), ("again.csv", "id\n20\n")])
def test_commands_for_a_retry_select_the_failed_items(made: str, items: str, tmp_path: Path) -> None:
    names = ("a", "b", "c") if made == "again.txt" else ("2", "3", "4")
    ends = zip((*names, names[0]), ("failed", "exhausted", "succeeded", "succeeded"), strict=True)
    (tmp_path / "out.jsonl").write_text("".join(f'{{"name":"{name}","state":"{state}"}}\n' for name, state in ends))
    (tmp_path / "ids.csv").write_text("id\n10\n20\n30\n")
    commands = re.findall(r"^    ((?:jq|awk) .*)$", README, re.MULTILINE)
    assert len(commands) == 3
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert (tmp_path / made).read_text() == items


def test_ci_script_has_the_test_command_of_the_readme() -> None:
    (command,) = re.findall(r"^    (python3 -m venv .*pytest)$", README, re.MULTILINE)
    assert f"\n  {command}\n" in (ROOT / ".ci" / "run").read_text()


def test_table_of_keys_has_every_key() -> None:
    table = README[README.index("## Keys") : README.index("## Items")]
    for key in (*ACTS, *RUN, *LOOKS, *GLOBAL):
        cap = {"esc": "escape"}.get(key.cap, key.cap)
        assert re.search(rf"[| ,]{re.escape(cap)}[ ,|]", table), key


def test_option_in_the_readme_exists() -> None:
    options = {option for parameter in main.params for option in parameter.opts}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", README)) <= options


def test_changelog_has_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()
