"""The command line: the settings and arguments that reach a run, and how bad ones are reported."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import msgspec
import platformdirs
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

import asyncwatch
from asyncwatch.cli import main as cli
from asyncwatch.cli import session
from asyncwatch.config import load as config
from asyncwatch.config import schema
from asyncwatch.plan.plan import Plan
from asyncwatch.selftest import table


class Runs:
    """Calls the command in an empty folder, and records the plans that it would run."""

    def __init__(self) -> None:
        self.plans: list[Plan] = []
        self.watched: list[dict[str, bool]] = []
        self.status: int | BaseException = 0

    def run_plan(self, plan: Plan, **watched: bool) -> int:
        """Stand in for `session.run_plan`."""
        self.plans.append(plan)
        self.watched.append(watched)
        if isinstance(self.status, BaseException):
            raise self.status
        return self.status

    def __call__(self, *arguments: str, **extra: Any) -> Result:
        """Run the command and return its result."""
        return CliRunner().invoke(cli.main, list(arguments), prog_name="asyncwatch", **extra)


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Return the command with a fake run, in an empty folder and with an empty config folder."""
    runs = Runs()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "run_plan", runs.run_plan)
    monkeypatch.setattr(platformdirs, "user_config_path", lambda _name: tmp_path / "user")
    return runs


def test_no_arguments_run_the_demo(runs: Runs) -> None:
    result = runs()
    assert (result.exit_code, result.output) == (0, "")
    assert runs.plans[0].config.groups == config.demo_config().groups
    assert runs.watched == [{"is_json": False, "is_quiet": False}]


def test_target_or_items_without_a_config_have_no_settings_of_the_demo(runs: Runs) -> None:
    Path("urls.txt").write_text("http://a.example\n")
    runs("http://a.example")
    runs("--items", "urls.txt")
    assert [plan.name for plan in runs.plans] == ["http", "urls.txt"]
    for plan in runs.plans:
        assert msgspec.structs.replace(plan.config, groups=()) == schema.Config()
        assert plan.groups[0].settings.bad_luck == schema.BadLuckTable()


def test_config_is_the_given_one_then_the_folders_then_the_users(runs: Runs) -> None:
    group = '[[group]]\nurl = "http://a.example"\n'
    for name in ("user/asyncwatch.toml", "asyncwatch.toml", "mine.toml"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text(f'name = "{name}"\n{group}')
        runs(*(["--config", name] if name == "mine.toml" else []))
    assert [plan.name for plan in runs.plans] == ["user/asyncwatch.toml", "asyncwatch.toml", "mine.toml"]


@pytest.mark.parametrize("arguments", [["http://a.example"], ["--items", "urls.txt"], ["check", "http://a.example"]])
def test_config_of_the_folder_is_not_used_for_urls(runs: Runs, arguments: list[str]) -> None:
    Path("urls.txt").write_text("http://a.example\n")
    Path("asyncwatch.toml").write_text('output = "kept.csv"\nclassify."written.Wrong" = "server"\n')
    Path("written.py").write_text("raise SystemExit('imported')\n")
    result = runs(*arguments)
    assert result.exit_code == 0, result.output
    assert result.stderr == (
        "asyncwatch: asyncwatch.toml in this folder is not used for URLs; use it with --config asyncwatch.toml\n"
    )
    assert [plan.config.output for plan in runs.plans] in ([None], [])


def test_config_of_the_user_is_used_for_urls(runs: Runs) -> None:
    Path("user").mkdir()
    Path("user/asyncwatch.toml").write_text("concurrency = 7\n")
    Path("asyncwatch.toml").write_text("concurrency = 8\n")
    assert runs("http://a.example").exit_code == 0
    assert runs.plans[0].config.concurrency == 7


def test_config_of_the_folder_is_named_on_the_first_line(runs: Runs) -> None:
    Path("jobs.py").write_text("async def run(): ...\n")
    Path("asyncwatch.toml").write_text("concurrency = 8\n")
    result = runs("jobs:run")
    assert result.exit_code == 0, result.output
    assert result.stderr == "asyncwatch: the settings are those of asyncwatch.toml in this folder\n"
    assert runs.plans[0].config.concurrency == 8


def test_options_reach_the_plan(runs: Runs) -> None:
    Path("asyncwatch.toml").write_text('timeout = "5s"\nhalt = 3\n')
    result = runs(
        "--runner=gather",
        "--concurrency=3",
        "--timeout=none",
        "--attempt-timeout=250ms",
        "--max-attempts=2",
        "--bad-luck=0.5",
        "--seed=9",
        "--output=o.csv",
        "--rate=90/min burst 3",
        "--halt=none",
        "--json",
        "--config=asyncwatch.toml",
        "http://a.example",
    )
    assert result.exit_code == 0, result.output
    plan = runs.plans[0]
    group = plan.groups[0].settings
    settings = plan.config
    assert (settings.runner, settings.concurrency, settings.timeout, settings.seed) == ("gather", 3, None, 9)
    assert (group.attempt_timeout, group.retry.max_attempts, group.bad_luck.threshold) == (0.25, 2, 0.5)
    assert (settings.output, runs.watched[0]["is_json"]) == ("o.csv", True)
    assert (settings.rate, settings.halt) == ("90/min burst 3", None)


def test_exit_status_is_that_of_the_run_or_130_if_interrupted(runs: Runs) -> None:
    runs.status = 1
    assert runs().exit_code == 1
    runs.status = KeyboardInterrupt()
    assert runs().exit_code == 130


def test_thread_that_cannot_be_started_is_a_message(runs: Runs) -> None:
    runs.status = RuntimeError("can't start new thread")
    result = runs()
    assert (result.exit_code, result.stderr.partition(":")[0]) == (1, "asyncwatch")
    assert "the system starts no more threads" in result.stderr


@pytest.mark.parametrize("target", ["http:u:hush@h/", "//u:hush@h", "u:hu/sh@h", "http://u:hu#sh@[h/"])
def test_check_of_a_url_that_is_refused_shows_no_password(runs: Runs, target: str) -> None:
    result = runs("check", target)
    assert result.exit_code == 2
    assert "hu" not in result.stderr.partition("(")[0]


def test_check_that_is_interrupted_has_status_130(runs: Runs) -> None:
    Path("slow_to_import.py").write_text("raise KeyboardInterrupt\n")
    result = runs("check", "slow_to_import:run")
    assert (result.exit_code, result.output) == (130, "")


def test_items_dash_reads_standard_input(runs: Runs) -> None:
    assert runs("--items", "-", input="http://a.example\n# no\n").exit_code == 0
    assert runs.plans[0].groups[0].names == ["http://a.example"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed", "-1"], "--seed"),
        (["--seed", "١"], "--seed"),
        (["--seed", "9" * 5000], "--seed"),
        (["--concurrency", "0"], "--concurrency"),
        (["--concurrency", "1_0"], "--concurrency"),
        (["--max-attempts", "x"], "--max-attempts"),
        (["--timeout", "5x"], "--timeout"),
        (["--timeout", "0"], "--timeout"),
        (["--attempt-timeout", "-1s"], "--attempt-timeout"),
        (["--bad-luck", "nan"], "--bad-luck"),
        (["--bad-luck", "1.1"], "--bad-luck"),
        (["--runner", "x"], "--runner"),
        (["--rate", "50"], "--rate"),
        (["--rate", "0/s"], "--rate"),
        (["--halt", "0"], "--halt"),
        (["--halt", "101%"], "--halt"),
        (["selftest", "x"], "unexpected extra argument"),
        (["--nonsense"], "--nonsense"),
        (["foo"], "neither a URL nor a module:function"),
        (["zzz_none:run"], "there is no module 'zzz_none'"),
        (["--items", "none.txt"], "none.txt: No such file or directory"),
        (["--config", "none.toml"], "none.toml: No such file or directory"),
        (["check", "none.toml"], "none.toml: No such file or directory"),
    ],
)
def test_bad_arguments_are_reported_with_status_2_and_run_nothing(
    runs: Runs, arguments: list[str], message: str
) -> None:
    result = runs(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert (result.stdout, runs.plans) == ("", [])
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "ftp://u:SECRET@h/x.toml"],
        ["check", "--items", "http://u:SECRET@h/"],
        ["--config", "http://u:SECRET@h/x"],
        ["--items", "http://u:SECRET@h/"],
        ["--output", "http://u:SECRET@h/x.txt", "http://a.example"],
        ["--runner", "http://u:SECRET@h/"],
        ["--timeout", "http://user:SECRET-that-is-so-long-that-it-would-be-cut@h/"],
        ["--rate", "http://u:SECRET@h/"],
        ["--http://u:SECRET@h/"],
        ["ftp://u:SECRET@h/"],
        ["http://u:SECRET@:0x/"],
        ["http://u:a/SECRET@h/"],
        ["http://u:a?SECRET@h/"],
        ["http://u:a#SECRET@h/"],
        ["http://u:a SECRET@h/"],
        ["https:u:SECRET@h/"],
        ["u:SECRET@h"],
    ],
)
def test_error_message_masks_credentials_in_arguments(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.main, arguments, prog_name="asyncwatch")
    assert result.exit_code == 2, result.output
    assert "SECRET" not in result.output
    assert "***@" in result.output or "ftp" in result.output


@pytest.mark.parametrize(
    "line",
    [
        "target = 'https://u:SECRET@h/'",
        "target = 'https://u:a/SECRET@h/'",
        "http.proxy = 'https://u:a/SECRET@h/'",
        "count = 'https://u:SECRET-that-is-so-long-that-it-would-be-cut-before-its-end@h/'",
        "every = 'https://u:SECRET-that-is-so-long-that-it-would-be-cut-before-its-end@h/'",
        "under = 'https://u:SECRET@h/'",
        "'https://u:SECRET@h/' = 1",
        "restart = 'https://u:SECRET@h/'",
    ],
)
def test_config_problem_masks_credentials(runs: Runs, line: str) -> None:
    Path("c.toml").write_text(f"[[group]]\nitems = ['http://a.example']\n{line}\n")
    result = runs("check", "c.toml")
    assert result.exit_code == 2
    assert "SECRET" not in result.output
    assert "***@h/" in result.output


_CONTROL = "\x1b]0;title\x07\x9b2J"


@pytest.mark.parametrize(
    "arguments",
    [
        [f"ftp://{_CONTROL}/"],
        [f"--{_CONTROL}"],
        ["--runner", _CONTROL],
        ["--items", f"{_CONTROL}.csv"],
        ["--config", _CONTROL],
        ["check", _CONTROL],
        ["check", "--items", "here.txt", f"http://{_CONTROL}"],
        ["guide", _CONTROL],
        ["guide", "index", _CONTROL],
        ["--config", "items.toml"],
        ["--config", "unknown.toml"],
        ["--config", "broken.toml"],
        ["--config", "value.toml"],
        ["failing:run"],
        ["wrong:run"],
    ],
)
def test_message_has_no_control_characters(runs: Runs, arguments: list[str]) -> None:
    escaped = _CONTROL.encode("unicode_escape").decode().replace("\\x", "\\u00")
    Path("items.toml").write_text(f'[[group]]\nitems = "{escaped}"\n')
    Path("unknown.toml").write_text(f'"{escaped}" = 1\n')
    Path("value.toml").write_text(f'[[group]]\nurl = "http://a.example"\nrate = "{escaped}"\n')
    Path("broken.toml").write_text(f"{_CONTROL} =\n")
    Path("failing.py").write_text(f"raise ValueError({_CONTROL!r})\n")
    Path("wrong.py").write_text(f"raise SyntaxError({_CONTROL!r}, ({_CONTROL!r}, 1, 1, ''))\n")
    result = runs(*arguments)
    assert result.exit_code == 2, result.output
    assert result.output.isascii()
    assert result.output.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    "target",
    ["a" * 9_000, "a" * 9_000 + ":run", "a/" * 3_000 + "b.py:run", "a." * 300 + "b:run", "\udcff:run"],
)
def test_target_that_no_file_can_have_is_refused_in_one_line(runs: Runs, target: str) -> None:
    for arguments in ([target], ["check", target]):
        result = runs(*arguments)
        assert result.exit_code == 2, result.output
        assert len(result.stderr) <= 1_020
        assert result.stderr.count("\n") == 1


def test_target_that_names_its_file_gets_a_hint(runs: Runs) -> None:
    for arguments in (["pk/m.py:f"], ["check", "pk/m.py:f"], ["m.py:f"]):
        result = runs(*arguments)
        assert (result.exit_code, "did you mean " in result.stderr) == (2, True)


def test_check_shows_no_control_characters(runs: Runs) -> None:
    folder = Path(_CONTROL)
    folder.mkdir()
    (folder / "a.toml").write_text("[[group]]\nname = 'a'\nurl = 'http://a.example'\n")
    result = runs("check", str(folder / "a.toml"))
    assert result.exit_code == 0, result.output
    assert result.output.replace("\n", "").isprintable()
    assert "\\x1b]0;title" in result.output


def test_selftest_prints_a_line_per_case_and_fails_if_one_does(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    async def sup_start_normal() -> None:
        """It starts."""

    async def slow() -> None:
        """It takes time."""
        await asyncio.sleep(100)

    async def broken() -> None:
        """It does not."""
        raise ValueError("two\nlines")

    monkeypatch.setattr(table, "CASES", {"sup_start_normal": sup_start_normal})
    result = runs("selftest")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[4].split()[:2] == ["sup_start_normal", "passed"]
    assert result.output.endswith("1 of 1 cases passed\n")
    monkeypatch.setattr(table, "CASES", {"slow": slow})
    monkeypatch.setattr(table, "uvloop_version", lambda: "1.2.3")
    assert runs("selftest").output.splitlines()[4].split()[-4:] == ["-", "It", "takes", "time."]
    monkeypatch.setattr(table, "CASES", {"sup_start_normal": sup_start_normal, "broken": broken})
    result = runs("selftest")
    assert result.exit_code == 1
    assert "FAILED" in result.output
    assert "asyncio: ValueError: two lines" in result.output
    assert result.output.endswith("1 of 2 cases passed, 1 FAILED\n")


def test_output_that_cannot_be_opened_is_status_2(runs: Runs) -> None:
    runs.status = session.OutputError("cannot write output file 'x.csv': No space left on device")
    result = runs("--output", "x.csv")
    assert result.exit_code == 2
    assert result.stderr == "asyncwatch: cannot write output file 'x.csv': No space left on device\n"


def test_config_with_problems_reports_all_of_them(runs: Runs) -> None:
    Path("asyncwatch.toml").write_text("conc = 1\ntimeout = -1\n[[group]]\ntarget = 'demo'\n")
    for arguments in ([], ["check"], ["check", "asyncwatch.toml"], ["--config", "asyncwatch.toml", "http://a.example"]):
        result = runs(*arguments)
        assert result.exit_code == 2
        assert [line for line in result.stderr.splitlines() if "the settings are" not in line] == [
            "asyncwatch: asyncwatch.toml:1: conc: unknown key (nearest valid key: concurrency)",
            "asyncwatch: asyncwatch.toml:2: timeout: a duration is 0 or more seconds, not -1; 'none' means no limit",
        ]


def test_config_problems_and_target_problems_are_one_list(runs: Runs) -> None:
    Path("urls.txt").write_text("http://a.example\nfoo\n")
    Path("c.toml").write_text(
        """timeout = "soon"
[[group]]
name = "a"
target = "zzz_none:run"
items = "none.txt"
[[group]]
name = "b"
items = "urls.txt"
[[group]]
name = "c"
target = 7
items = "-"
"""
    )
    result = runs("check", "c.toml")
    assert result.exit_code == 2
    assert [line.split(" (nearest")[0] for line in result.stderr.splitlines()] == [
        (
            "asyncwatch: c.toml:1: timeout: a duration reads like '250ms', '1.5s', '2m' or '1h', not 'soon'; "
            "'none' means no limit"
        ),
        "asyncwatch: c.toml:4: group.target: there is no module 'zzz_none'",
        "asyncwatch: c.toml:5: group.items: none.txt: No such file or directory",
        "asyncwatch: c.toml:8: group.items: urls.txt:2: 'foo' is not an http:// or https:// URL",
        "asyncwatch: c.toml:11: group.target: must be text, not a whole number (7)",
    ]


def test_check_describes_the_plan_and_runs_nothing(runs: Runs) -> None:
    Path("c.toml").write_text('name = "n"\n[[group]]\nurl = "http://a.example"\ncount = 2\n')
    result = runs("check", "c.toml")
    assert (result.exit_code, runs.plans) == (0, [])
    assert "run          n\n" in result.output
    assert "workers    2: 0, 1\n" in result.output
    assert "run          demo, eventful seed\n" in runs("check").output
    assert "config       none: the demo\n" in runs("check").output
    assert "config       none: the defaults\n" in runs("check", "http://a.example").output
    assert "Nothing runs" in runs("check", "--help").output


def test_check_accepts_the_targets_and_items_of_a_run(runs: Runs) -> None:
    Path("c.toml").write_text("concurrency = 7\n[[group]]\nurl = 'http://c.example'\n")
    Path("urls.txt").write_text("http://a.example\nhttp://b.example\n")
    for arguments in (["http://a.example", "http://b.example"], ["--items", "urls.txt"]):
        assert "workers    2: http://a.example, http://b.example\n" in runs("check", *arguments).output
        output = runs("check", "c.toml", *arguments).output
        assert "concurrency  7\n" in output
        assert "c.example" not in output
    wrong = runs("check", "no_such_module:function", "--items", "urls.txt")
    assert (wrong.exit_code, runs.plans) == (2, [])
    assert "no_such_module" in wrong.stderr


def test_help_and_version_run_nothing(runs: Runs) -> None:
    assert runs("--version").output == f"asyncwatch, version {asyncwatch.__version__}\n"
    text = runs("--help").output
    for word in (
        "--config",
        "--items",
        "--seed",
        "--json",
        "--output",
        "TARGET",
        "check",
        "130 if interrupted",
        "141",
        "replaces",
        "selftest",
        "--rate",
        "--halt",
        "5 (seconds)",
    ):
        assert word in text
    demo = config.demo_config()
    threshold = demo.groups[0].bad_luck.threshold
    limits = f"{demo.groups[0].http.timeout:g}s for a request, {demo.timeout:g}s for the run"
    assert f"own defaults: bad luck above {threshold}, {limits}" in text
    assert runs.plans == []


IMPORTS = """
import sys
from click.testing import CliRunner
{code}
print(*[name for name in ("textual", "rich", "aiohttp", "msgspec", "uvloop") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        ("import asyncwatch", ""),
        ("from asyncwatch.cli.main import main; assert not CliRunner().invoke(main, ['--help']).exit_code", ""),
        ("import asyncwatch.engine.supervisor", "msgspec"),
        ("from asyncwatch.cli.main import main; assert not CliRunner().invoke(main, ['check']).exit_code", "msgspec"),
    ],
)
def test_heavy_modules_are_imported_only_when_needed(tmp_path: Path, code: str, heavy: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS.format(code=code)],
        env={"PYTHONPATH": str(Path(asyncwatch.__file__).parents[1]), "HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.strip(), done.stderr) == (heavy, "")


def test_help_has_every_option_once_by_what_it_is_about(runs: Runs) -> None:
    text = runs("--help").output
    titles = ["What to run:", "How much at once, and how long:", "When something goes wrong:", "Where it is shown:"]
    assert [line for line in text.splitlines() if line in titles] == titles
    for option in cli.main.params:
        if isinstance(option, click.Option):
            listed = [line for line in text.splitlines() if re.match(rf"  (-., )?{option.opts[-1]}\b", line)]
            assert len(listed) == 1, option.opts
    for command in cli.COMMANDS:
        assert re.search(rf"^  {command.name} +\S.*\.$", text, re.MULTILINE), command.name
    assert "..." not in text.partition("Commands:")[2].partition("Examples:")[0]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script_asks_the_command(runs: Runs, shell: str) -> None:
    script = runs("completion", shell).output
    assert f"_ASYNCWATCH_COMPLETE={shell}_complete" in script
    assert "asyncwatch" in script


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["c"], {"check", "completion", "ctl"}),
        (["http://a.example", "c"], set()),
        (["ctl", "rest"], {"restart"}),
        (["--run"], {"--runner"}),
        (["--runner", "g"], {"gather"}),
        (["--metr"], {"--metrics"}),
        (["resume", "--only-", ""], set()),
    ],
)
def test_shell_completes_commands_and_options(words: list[str], expected: set[str]) -> None:
    complete = ShellComplete(cli.main, {}, "asyncwatch", "_ASYNCWATCH_COMPLETE")
    found = complete.get_completions(words[:-1], words[-1])
    assert {item.value for item in found if item.type == "plain"} == expected


def test_shell_completes_files_of_options() -> None:
    complete = ShellComplete(cli.main, {}, "asyncwatch", "_ASYNCWATCH_COMPLETE")
    for option in ("--items", "--output", "--summary-json", "--junit", "--config"):
        (item,) = complete.get_completions([option], "a")
        assert item.type in {"file", "dir"}, option


def test_quiet_run_is_headless(runs: Runs) -> None:
    assert runs("-q", "http://a.example").output == ""
    assert runs.watched == [{"is_json": False, "is_quiet": True}]
