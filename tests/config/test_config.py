"""Settings from TOML, and each problem they can have."""

from __future__ import annotations

import asyncio
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asyncwatch import RetryBudget, SupervisorSpec, WorkerSpec
from asyncwatch.config.example import render_example
from asyncwatch.config.load import demo_config, inherit, load_config, parse_config
from asyncwatch.config.problems import ConfigError
from asyncwatch.config.schema import Config, Group, Http, RestartLimit, RetryTable, SupervisorTable
from asyncwatch.policies.budget import DEFAULT_RETRY_BUDGET
from asyncwatch.policies.settings import settings_of

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
FILE = Path("/etc/site/run.toml")


def problems_of(text: str) -> list[str]:
    """Return the problems of a text, without the name of the file."""
    with pytest.raises(ConfigError) as caught:
        parse_config(text, FILE)
    return [problem.removeprefix(f"{FILE}:") for problem in caught.value.problems]


def test_example_changes_no_default() -> None:
    example = load_config(EXAMPLE)
    assert msgspec.structs.replace(example, path=None, groups=(), document={}) == Config()
    (group,) = example.groups
    assert msgspec.structs.replace(group, name="", url=None) == Group()


def test_example_in_the_repository_is_the_generated_one() -> None:
    assert EXAMPLE.read_text() == render_example(), "run: python -m asyncwatch.config.example > config.example.toml"


def dotted_keys(table: dict[str, Any]) -> set[str]:
    """Return the dotted keys of a TOML table, including those of the tables in it."""
    inner = {f"{key}.{each}" for key, value in table.items() if isinstance(value, dict) for each in dotted_keys(value)}
    return set(table) | inner


def dotted_settings(kind: type[msgspec.Struct]) -> set[str]:
    """Return the dotted keys of all settings of a struct, including those of its tables."""
    infos = settings_of(kind)
    inner = {f"{info.key}.{each}" for info in infos if info.table for each in dotted_settings(info.table)}
    return {info.key for info in infos} | inner


def test_secrets_come_from_the_environment_and_from_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "key.txt").write_text("from file\n")
    monkeypatch.setenv("SITE_TOKEN", "hush}${HOME}")
    text = """
        http.headers = { Authorization = "Bearer ${SITE_TOKEN}", X-Key = "${file:key.txt}/${SITE_TOKEN}" }
        [[group]]
        url = "http://a.example"
        http.headers.X-Plain = "$HOME $${SITE_TOKEN} {}"
        http.body = "{\\"a\\": \\"${SITE_TOKEN}\\"}"
    """
    config = parse_config(text, tmp_path / "site.toml")
    assert config.groups[0].http.headers == {
        "Authorization": "Bearer hush}${HOME}",
        "X-Key": "from file/hush}${HOME}",
        "X-Plain": "$HOME ${SITE_TOKEN} {}",
    }
    assert config.groups[0].http.body == '{"a": "hush}${HOME}"}'


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("Bearer ${NOT_SET_HERE}", "the environment variable NOT_SET_HERE is not set"),
        ("${file:none.txt}", f"{FILE.parent}/none.txt: No such file or directory"),
        ("${TWO_LINES}", "must not contain a line break"),
        ("${BYTES}", "the environment variable BYTES is not UTF-8"),
        ("Bearer ${NAME", "has ${ without }; write $${ for ${ itself"),
        ("${}", "has ${...} around what is neither a NAME nor file:PATH"),
        ("${NAME:-hush}", "has ${...} around what is neither a NAME nor file:PATH"),
    ],
)
def test_secret_that_cannot_be_read_is_named_and_never_shown(
    value: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWO_LINES", "hush\nhush")
    monkeypatch.setenv("BYTES", "hush\udcff")
    (found,) = problems_of(f"\n[http.headers]\nX-Key = '{value}'")
    assert found.startswith(f"3: http.headers.X-Key: {problem}")
    assert "hush" not in found


def test_home_of_an_unknown_user_is_a_name_like_any_other() -> None:
    config = parse_config("output = '~nobody-here/a.csv'\n[[group]]\nitems = '~nobody-here/b.csv'", FILE)
    assert config.output == f"{FILE.parent}/~nobody-here/a.csv"
    assert config.groups[0].items == f"{FILE.parent}/~nobody-here/b.csv"


def test_example_has_every_key() -> None:
    document = tomllib.loads(EXAMPLE.read_text())
    (group,) = document.pop("group")
    assert dotted_settings(Config) - {"group", "supervisor"} <= dotted_keys(document)
    assert dotted_settings(Group) <= dotted_keys(group)
    assert dotted_settings(SupervisorTable) <= dotted_keys(tomllib.loads(supervisor_example())["supervisor"][0])


def test_example_explains_each_key_once() -> None:
    lines = EXAMPLE.read_text().splitlines()
    helped = [line.partition(" # ")[2] for line in lines if " # " in line and line[0] not in "# "]
    assert max(map(len, lines)) <= 120
    assert len(helped) > 50
    assert len(set(helped)) == len(helped)


def supervisor_example() -> str:
    """Return the supervisor in the example, without the comment signs."""
    commented = EXAMPLE.read_text().partition("\n# [[supervisor]]\n")[2]
    return "[[supervisor]]\n" + "".join(line.removeprefix("#").strip() + "\n" for line in commented.splitlines())


def test_example_supervisor_changes_no_default() -> None:
    config = parse_config(supervisor_example() + "\n[[group]]\nurl = 'http://a'\nunder = 'feeds'\n", FILE)
    assert config.supervisors == (SupervisorTable(name="feeds"),)


def test_default_retry_budget_is_that_of_the_library() -> None:
    assert Config().retry_budget == RetryBudget() == DEFAULT_RETRY_BUDGET


def test_supervision_defaults_are_those_of_the_library() -> None:
    spec, worker = SupervisorSpec("s"), WorkerSpec("w", asyncio.sleep)
    table, group, config = SupervisorTable(), Group(), Config()
    for key in ("strategy", "max_restarts", "within", "auto_shutdown"):
        assert getattr(table, key) == getattr(group, key) == getattr(config, key) == getattr(spec, key)
    for key in ("restart", "shutdown", "significant"):
        assert getattr(table, key) == getattr(spec, key)
    for key in ("restart", "shutdown", "significant", "announces_ready", "every", "key", "attempt_timeout", "deadline"):
        assert getattr(group, key) == getattr(worker, key)
    assert RestartLimit() == RestartLimit(
        max_restarts=worker.max_restarts, within=worker.within, escalates=worker.escalates
    )


def test_config_values_of_every_kind_are_read() -> None:
    config = parse_config(
        """
        runner = "wait"
        return_when = "first_completed"
        timeout = "2m"
        grace = 0
        seed = 7
        log_level = "WARNING"
        output = "out.csv"
        [[group]]
        items = "urls.txt"
        [[group]]
        target = "jobs:run"
        items = ["a", "b"]
        [[group]]
        items = "-"
        """,
        FILE,
    )
    assert (config.runner, config.return_when, config.timeout, config.grace) == ("wait", "FIRST_COMPLETED", 120, 0)
    assert (config.seed, config.log_level, config.output) == (7, "warning", "/etc/site/out.csv")
    assert [group.items for group in config.groups] == ["/etc/site/urls.txt", ("a", "b"), "-"]
    assert [group.name for group in config.groups] == ["group 1", "group 2", "group 3"]


def test_group_inherits_missing_keys_one_by_one() -> None:
    """Names of headers are compared without case."""
    (group,) = parse_config(
        """
        attempt_timeout = "3s"
        timeout = "9s"
        retry = { max_attempts = 5, cap = "1s" }
        bad_luck.threshold = 0.5
        http.headers = { Accept = "a", X-One = "1" }
        [[group]]
        url = "http://a.example"
        retry.base = "500ms"
        http = { method = "post", headers = { accept = "b" } }
        """,
        FILE,
    ).groups
    assert group.attempt_timeout == 3
    assert group.timeout is None
    assert group.retry == RetryTable(max_attempts=5, base=0.5, cap=1)
    assert group.bad_luck.threshold == 0.5
    assert group.http == Http(method="POST", headers={"X-One": "1", "accept": "b"})


def test_problems_are_all_reported_in_the_order_of_the_file() -> None:
    assert problems_of(
        """\
concurency = 5
runner = "gathr"
timeout = "5x"
grace = -1
concurrency = true
[retry]
cap = "1ms"
[bad_luck]
threshold = 2
[[group]]
url = "http://a.example"
retry = 3
"""
    ) == [
        "1: concurency: unknown key (nearest valid key: concurrency)",
        "2: runner: must be one of gather, as_completed, wait, task_group, not 'gathr' (nearest: gather)",
        "3: timeout: a duration reads like '250ms', '1.5s', '2m' or '1h', not '5x'; 'none' means no limit",
        "4: grace: a duration is 0 or more seconds, not -1",
        "5: concurrency: must be a whole number, not true or false (true)",
        "7: retry.cap: cap (1ms) must not be below base (100ms)",
        "9: bad_luck.threshold: must be between 0 and 1, not 2",
        "12: group.retry: must be a table",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = 5", "name: must be text, not a whole number (5)"),
        ('name = "a\\u0007"', "name: must be one line of printable text"),
        ("concurrency = 0", "concurrency: must be 1 or more, not 0"),
        ('target = "m:f"', "target: belongs to a group: write it below [[group]]"),
        (
            '[[group]]\nurl = "http://a.example"\nsupervisor = "s"',
            "group.supervisor: unknown key (its name here is under)",
        ),
        ("concurrency = 1.5", "concurrency: must be a whole number, not a number (1.5)"),
        ("concurrency = 1_000_001", "concurrency: must be at most 1000000"),
        ("seed = -1", "seed: must be 0 or more, not -1"),
        (f"seed = 1{'0' * 4000}", "seed: must be at most 9223372036854775807, not a number of 1e30 or beyond"),
        ("timeout = 0", "timeout: must be above 0; 'none' means no limit"),
        ("timeout = nan", "timeout: a duration is 0 or more seconds"),
        ("timeout = inf", "timeout: a duration is at most"),
        ("timeout = true", "timeout: must be a duration"),
        ('return_when = "NEVER"', "return_when: must be one of ALL_COMPLETED"),
        ('log_level = "infos"', "log_level: must be one of debug, info, warning, error, critical, not 'infos'"),
        ("output = 3", "output: must be text"),
        ('output = ""', "output: is not a file: ''"),
        ("bad_luck.threshold = -0.1", "bad_luck.threshold: must be between 0 and 1"),
        ("bad_luck.threshold = nan", "bad_luck.threshold: must be between 0 and 1"),
        ("bad_luck.threshold = true", "bad_luck.threshold: must be a number, not true or false"),
        ("retry.max_attempts = 0", "retry.max_attempts: must be 1 or more"),
        ('http.method = "GE T"', "http.method: is not an HTTP method"),
        ('http.raise_for_status = "yes"', "http.raise_for_status: must be true or false, not text ('yes')"),
        ('http.headers.X = "a\\r\\nSecret: 1"', "http.headers.X: must not contain a line break"),
        ('http.proxy = "here"', "http.proxy: must be 'environment' or the URL of a proxy: 'here' is not an http://"),
        ('http.ca = "none.pem"', f"http.ca: {FILE.parent}/none.pem: No such file or directory"),
        ('http.ca = "/dev/null"', "http.ca: /dev/null holds no certificates in PEM form"),
        ("http.headers.X = 3", "http.headers.X: must be text"),
        ('http.headers."a b" = "1"', "http.headers.'a b': is not the name of a header"),
        ("retry = 1979-05-27", "retry: must be a table"),
        ("group = 3", "group: must be tables that begin with [[group]]"),
        ("[group]", "group: must be tables that begin with [[group]]"),
        ("zzz = 1", "zzz: unknown key (valid keys: name, runner"),
        ("[[group]]", "group: an http group needs url or items"),
        ("[[group]]\nitems = 'x'\ncount = 2", "group.count: count and items exclude each other"),
        ("[[group]]\nitems = 'x'\nurl = 'http://a'", "group.url: url and items exclude each other"),
        ("[[group]]\nname = ''\nurl = 'http://a'", "group.name: a group needs a name; leave the key out"),
        ("[[group]]\nname = ' '\nurl = 'http://a'", "group.name: a group needs a name; leave the key out"),
        ("[[group]]\nitems = []", "group.items: must not be empty"),
        ("[[group]]\nitems = [1]", "group.items: must be an array of texts; it holds a whole number (1)"),
        ("[[group]]\nitems = ['http://a', 'b']", "group.items: 'b' is not an http:// or https:// URL"),
        ("[[group]]\nurl = 'http://u:pw@/x'", "group.url: 'http://***@/x' has no host or a wrong port"),
        ("[[group]]\ntarget = 'htp'", "group.target: must be 'http' or 'module:function', not 'htp' (nearest: http)"),
        ("[[group]]\ntarget = 'a:b'\nurl = 'http://a'", "group.url: is not for a function"),
        ("[[group]]\ntarget = 'demo'\nitems = 'x'", "group.items: is not for the demo"),
        (
            "[[group]]\nname = 'a'\nurl = 'http://a'\n[[group]]\nname = 'a'\nurl = 'http://a'",
            "group.name: two groups have the name 'a'",
        ),
    ],
)
def test_problem_is_the_only_one_and_has_its_message(text: str, problem: str) -> None:
    (found,) = problems_of(text)
    assert found.partition(": ")[2].startswith(problem)


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("a = 1\nb = ", "2: Invalid value"),
        ("a = 1\na = 2", "2:"),
        ('a = """\n\n', "2: "),
        (f"a = {'[' * 100_000}", " is nested too deeply"),
    ],
)
def test_syntax_error_is_one_problem_with_its_place(text: str, prefix: str) -> None:
    (found,) = problems_of(text)
    assert found.startswith(prefix)


def test_unreadable_file_is_one_problem(tmp_path: Path) -> None:
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b'a = 1\nname = "\xe9"\n')
    expected = {
        tmp_path / "none.toml": "No such file or directory",
        tmp_path: "Is a directory",
    }
    for path, message in expected.items():
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert caught.value.problems == (f"{path}: {message}",)
    with pytest.raises(ConfigError) as caught:
        load_config(latin)
    assert caught.value.problems == (f"{latin}:2: is not UTF-8",)


def test_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    """Some Windows editors write one."""
    path = tmp_path / "bom.toml"
    path.write_bytes(b'\xef\xbb\xbfname = "x"\r\n')
    assert load_config(path).name == "x"


def test_demo_has_the_numbers_of_its_scenario() -> None:
    config = demo_config()
    (group,) = config.groups
    assert (config.name, config.runner, config.timeout) == ("demo", "as_completed", 20)
    assert (group.target, group.count, group.bad_luck.threshold, group.retry.max_attempts) == ("demo", 20, 0.9, 3)
    assert (group.http.timeout, group.http.raise_for_status, group.retry.base) == (5, False, 0.5)


def test_group_of_the_command_line_equals_an_empty_group_table() -> None:
    config = Config(attempt_timeout=2, retry=RetryTable(max_attempts=9), http=Http(method="PUT"))
    group = inherit(config, name="n", target="a:b", items="x.txt")
    assert group == Group(
        name="n", target="a:b", items="x.txt", attempt_timeout=2, retry=config.retry, http=config.http
    )
