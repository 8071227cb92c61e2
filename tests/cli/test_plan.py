"""Settings and arguments become a plan, or all of their problems."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from asyncwatch.config.load import demo_config, parse_config, read_config
from asyncwatch.config.problems import ConfigError
from asyncwatch.config.schema import BadLuckTable, Config, Group, Http, RetryTable
from asyncwatch.engine.loop_thread import LoopThread
from asyncwatch.plan.describe import describe_plan
from asyncwatch.plan.plan import Overrides, Plan, PlanError, foreseen_events, make_plan


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def problems_of(*targets: str, config: Config | None = None, **arguments: Any) -> tuple[str, ...]:
    """Return what keeps a plan from being made."""
    with pytest.raises(PlanError) as caught:
        make_plan(config or Config(path=Path("x.toml")), targets=targets, **arguments)
    return caught.value.problems


def names(plan: Plan) -> list[str]:
    """Return the names of all workers."""
    return [name for group in plan.groups for name in group.names]


def test_urls_name_their_workers() -> None:
    """One worker a URL, with its password masked in the name alone, and a number for one that comes twice."""
    plan = make_plan(Config(), targets=["http://u:p@a.example", "http://b.example", "http://b.example"])
    assert names(plan) == ["http://***@a.example", "http://b.example", "http://b.example#2"]
    assert plan.groups[0].items == ["http://u:p@a.example", "http://b.example", "http://b.example"]


def test_items_without_target_are_urls(folder: Path) -> None:
    """`--items` without a TARGET holds URLs, and names the run."""
    (folder / "urls.txt").write_text("http://a.example\n")
    plan = make_plan(Config(), items="urls.txt")
    assert (plan.name, plan.groups[0].settings.target, names(plan)) == ("urls.txt", "http", ["http://a.example"])


def test_items_from_standard_input() -> None:
    """`-` is read once, and the plan knows that the terminal has to be found again."""
    plan = make_plan(Config(), items="-", stdin=io.BytesIO(b"http://a.example\n"))
    assert (names(plan), plan.name) == (["http://a.example"], "stdin")
    groups = (Group(name="a", items="-"), Group(name="b", items="-"))
    assert problems_of(config=Config(groups=groups)) == ("only one group can read its items from standard input",)


def test_function_is_called_once_or_for_each_item(folder: Path) -> None:
    """Without items there is one worker with the function's name and no argument, else one for each."""
    (folder / "plan_jobs.py").write_text("async def run(item=None): ...\n")
    (folder / "ids.csv").write_text("name,id\na,1\nb,2\n")
    once = make_plan(Config(), targets=["plan_jobs:run"])
    assert (names(once), once.groups[0].items, once.name) == (["plan_jobs:run"], None, "plan_jobs:run")
    each = make_plan(Config(), targets=["plan_jobs:run"], items="ids.csv")
    assert names(each) == ["a", "b"]
    assert each.groups[0].items == [{"name": "a", "id": "1"}, {"name": "b", "id": "2"}]


def test_code_of_the_user_runs_in_the_loop_thread(folder: Path) -> None:
    """Modules, lifespans, exceptions: whatever they open belongs to the thread of the workers."""
    code = "import threading\nWHERE = threading.current_thread()\n"
    (folder / "plan_here.py").write_text(code + "async def run(opened): return WHERE\n")
    (folder / "plan_span.py").write_text(code + "import contextlib\nspan = contextlib.nullcontext\n")
    (folder / "plan_oops.py").write_text(code + "class Oops(Exception): pass\n")
    thread = LoopThread()
    config = Config(groups=(Group(name="a", target="plan_here:run", classify={"plan_oops.Oops": "transient"}),))
    plan = make_plan(config, overrides=Overrides(lifespan="plan_span:span"), loop_thread=thread)
    where = thread.call(threading.current_thread)
    assert plan.loop_thread is thread
    assert [sys.modules[name].WHERE for name in ("plan_here", "plan_span", "plan_oops")] == [where] * 3
    with pytest.raises(PlanError, match="has no 'rum'"):
        make_plan(Config(), targets=["plan_here:rum"], loop_thread=thread)


def test_plain_function_that_is_to_announce_that_it_is_ready_is_refused(folder: Path) -> None:
    (folder / "plan_plain.py").write_text("def serve(): ...\n")
    service = Group(name="s", target="plan_plain:serve", restart="permanent", announces_ready=True)
    (problem,) = problems_of(config=Config(groups=(service,)))
    assert problem.endswith("plan_plain:serve is a plain one, which cannot await asyncwatch.ready()")


def test_batch_beside_services_is_named_and_described_as_one() -> None:
    """Its workers carry their group's name. Halt and concurrency are shown for it, and not for services alone."""
    service = Group(name="s", url="http://x.example", count=2, restart="permanent", retry=RetryTable(max_attempts=1))
    batch = Group(name="b", url="http://y.example", count=2, key="k")
    mixed = make_plan(Config(groups=(service, batch), halt="first"))
    assert names(mixed) == ["0", "1", "b/0", "b/1"]
    lines = describe_plan(mixed)
    assert "runner       none: the tree is served until it is stopped, the batch beside it too" in lines
    assert "concurrency  100" in lines
    assert "  key        k" in lines
    alone = describe_plan(make_plan(Config(groups=(service,))))
    assert [line for line in alone if line.startswith(("concurrency", "halt"))] == []
    assert "  retry      max_attempts 1, base 100ms, cap 5s, backoff full, max_retry_after 1m" in alone
    (problem,) = problems_of(config=Config(groups=(service,)), overrides=Overrides(halt="first"))
    assert problem.startswith("--halt is for batches")


def test_names_of_several_groups_are_unique() -> None:
    """Workers that are counted carry their group's name if there are several groups; no name comes twice."""
    groups = (
        Group(name="a", url="http://x.example", count=2),
        Group(name="b", url="http://y.example", count=2),
        Group(name="c", items=("http://z.example",)),
        Group(name="d", items=("http://z.example",)),
    )
    plan = make_plan(Config(groups=groups))
    assert names(plan) == ["a/0", "a/1", "b/0", "b/1", "http://z.example", "http://z.example#2"]


def test_target_replaces_groups_and_keeps_other_settings(folder: Path) -> None:
    """A TARGET replaces the groups of a config; its top level still holds."""
    config = Config(
        name="n",
        timeout=9,
        retry=RetryTable(max_attempts=7),
        http=Http(method="PUT"),
        groups=(Group(name="g", url="http://g.example"),),
    )
    plan = make_plan(config, targets=["http://a.example"])
    (group,) = plan.groups
    assert (plan.name, plan.config.timeout, names(plan)) == ("n", 9, ["http://a.example"])
    assert (group.settings.retry.max_attempts, group.settings.http.method) == (7, "PUT")


def test_options_take_precedence_over_the_config() -> None:
    """What the command line says holds for every group, `none` included."""
    group = Group(name="g", url="http://g.example", attempt_timeout=1, retry=RetryTable(base=0.2))
    plan = make_plan(
        Config(timeout=5, seed=1, groups=(group,)),
        overrides=Overrides(
            runner="gather",
            concurrency=3,
            timeout=None,
            attempt_timeout=2,
            max_attempts=4,
            bad_luck=0.5,
            seed=8,
            output="o.csv",
        ),
    )
    config, settings = plan.config, plan.groups[0].settings
    assert (config.runner, config.concurrency, config.timeout, config.output) == ("gather", 3, None, "o.csv")
    assert (settings.attempt_timeout, settings.retry, settings.bad_luck, plan.seed) == (
        2,
        RetryTable(max_attempts=4, base=0.2),
        BadLuckTable(threshold=0.5),
        8,
    )


def test_single_worker_has_the_name_of_its_group() -> None:
    """Who gives a group a name names its only worker by that; that of a group without one is named by what it calls."""
    text = "[[group]]\nname = 'odd'\nurl = 'http://a.example'\n[[group]]\nurl = 'http://b.example'\n"
    plan = make_plan(parse_config(text, Path("x.toml")))
    assert [group.names for group in plan.groups] == [["odd"], ["http://b.example"]]


def test_seed_missing_is_drawn() -> None:
    """Every plan has a seed, so that its run can be repeated."""
    assert 10_000 <= make_plan(demo_config()).seed < 1_000_000


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("foo", "a URL begins with http:// or https://, a function reads like jobs:fetch"),
        ("example.com/x", "did you mean https://example.com/x?"),
        ("localhost:8080", "did you mean http://localhost:8080?"),
        ("check", "check comes first: asyncwatch check [FILE] [TARGET]..."),
        ("guide", "guide comes first: asyncwatch guide [TOPIC]"),
        ("urls.txt", "it is a file; did you mean --items urls.txt?"),
        ("site.toml", "it is a file; did you mean --config site.toml?"),
    ],
)
def test_target_of_neither_kind_gets_a_hint(folder: Path, target: str, hint: str) -> None:
    """The message says what was probably meant."""
    for name in ("urls.txt", "site.toml"):
        (folder / name).touch()
    assert problems_of(target) == (f"{target!r} is neither a URL nor a module:function ({hint})",)


def test_problems_are_reported_at_once(folder: Path) -> None:
    """Every target, function and file that cannot be used is named in one go."""
    hint = "a URL begins with http:// or https://, a function reads like jobs:fetch"
    assert problems_of("http://", "foo", "a:b") == (
        "'http://' has no host or a wrong port",
        f"'foo' is neither a URL nor a module:function ({hint})",
        "'a:b' cannot be combined: TARGET is URLs, or one module:function",
    )
    groups = (Group(name="a", target="zzz_none:run"), Group(name="b", items="none.txt"))
    assert problems_of(config=Config(groups=groups)) == (
        "there is no module 'zzz_none'",
        "none.txt: No such file or directory",
    )
    (problem,) = problems_of()
    assert problem.startswith("x.toml: nothing to run: it has no groups; give a TARGET or --items FILE, or write")
    assert problem.endswith("target = 'demo' runs the demo")
    assert problems_of("http://a.example", items="x") == ("give URLs as TARGET or in the file of --items, not both",)


def test_arguments_that_do_not_fit_are_reported_before_the_run(folder: Path) -> None:
    """A function that needs an item gets no run without items."""
    (folder / "fit_jobs.py").write_text("async def run(item): ...\nasync def once(): ...\nasync def key(*, k): ...\n")
    (folder / "one.txt").write_text("a\n")
    assert problems_of("fit_jobs:run") == ("fit_jobs:run needs an argument 'item'; give it items with --items",)
    (problem,) = problems_of("fit_jobs:once", items="one.txt")
    assert problem == "fit_jobs:once takes no argument, but would be called with an item; leave the items out"
    (problem,) = problems_of("fit_jobs:key", items="one.txt")
    assert problem.startswith("fit_jobs:key needs an argument 'k', but a worker is called with at most one item")


LIFESPANS = """
import contextlib
@contextlib.asynccontextmanager
async def good():
    yield 1
async def bare():
    yield 1
async def plain(): ...
@contextlib.asynccontextmanager
async def needy(url):
    yield 1
async def both(item, value): ...
async def one(value): ...
"""


def test_value_of_a_lifespan_is_one_argument_more(folder: Path) -> None:
    (folder / "spans.py").write_text(LIFESPANS)
    (folder / "one.txt").write_text("a\n")
    given = Overrides(lifespan="spans:good")
    assert make_plan(Config(), targets=["spans:both"], items="one.txt", overrides=given).lifespan is not None
    plan = make_plan(Config(path=Path("x.toml")), targets=["spans:one"], overrides=given)
    assert "lifespan     spans:good, one per run" in describe_plan(plan)
    (problem,) = problems_of("spans:both", overrides=given)
    assert problem == (
        "spans:both would be called with the value of the lifespan alone, by position; its parameters are (item, value)"
    )
    (problem,) = problems_of("spans:one", items="one.txt", overrides=given)
    assert "would be called with an item and the value of the lifespan, by position" in problem


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("bare", "is a generator function; decorate it with @contextlib.asynccontextmanager"),
        ("plain", "is an async def that returns; let it yield the value"),
        ("needy", "must be callable without arguments"),
        ("none", "has no 'none'"),
    ],
)
def test_wrong_lifespan_is_reported_before_the_run(folder: Path, name: str, problem: str) -> None:
    (folder / "wrong_spans.py").write_text(LIFESPANS)
    (found,) = problems_of("wrong_spans:one", overrides=Overrides(lifespan=f"wrong_spans:{name}"))
    assert found.startswith("lifespan: ")
    assert problem in found


def test_lifespan_without_a_use_is_reported() -> None:
    (problem,) = problems_of("http://a.example", overrides=Overrides(lifespan="spans:good"))
    assert problem == "lifespan = 'spans:good': no group calls a function, which would get it"
    (problem,) = problems_of("http://a.example", config=Config(path=Path("x.toml"), lifespan_per="slot"))
    assert problem == "lifespan_per = 'slot' has no effect without lifespan; set lifespan too"


def test_output_over_an_input_is_refused(folder: Path) -> None:
    """A file of items or the config as output file is refused before it is emptied."""
    (folder / "urls.csv").write_text("url\nhttp://a.example\n")
    (folder / "x.toml").touch()
    for name in ("urls.csv", "x.toml"):
        problems = problems_of(items="urls.csv", overrides=Overrides(output=f"../{folder.name}/{name}"))
        assert problems == (f"the output would replace {name}, which the run reads; choose another file",)
    assert (folder / "urls.csv").read_text()
    assert problems_of(items="urls.csv", overrides=Overrides(junit="./urls.csv")) == (
        "the JUnit file would replace urls.csv, which the run reads; choose another file",
    )


def test_files_of_a_run_do_not_replace_each_other(folder: Path) -> None:
    (folder / "urls.csv").write_text("url\nhttp://a.example\n")
    both = Overrides(summary_json="./report", junit=f"../{folder.name}/report")
    (problem,) = problems_of(items="urls.csv", overrides=both)
    assert problem == "the JUnit file would replace ./report, the summary file; choose another file"
    devices = Overrides(output="/dev/stderr", summary_json="/dev/null", junit="/dev/null")
    assert make_plan(Config(), items="urls.csv", overrides=devices).has_work


def test_check_describes_the_run() -> None:
    """The description has the run's facts, and each group with its first workers."""
    group = Group(name="shop", url="http://u:secret@a.example", count=5)
    plan = make_plan(Config(path=Path("x.toml"), runner="wait", timeout=120, groups=(group,)))
    text = "\n".join(describe_plan(plan))
    for fact in (
        "config       x.toml",
        "runner       wait (ALL_COMPLETED)",
        "timeout      2m",
        "seed         random",
        "group shop",
        "target     http http://***@a.example",
        "workers    5: 0, 1, 2, ... and 2 more",
        "http       method GET, raise_for_status true, timeout 30s",
    ):
        assert fact in text
    assert "secret" not in text


@pytest.mark.parametrize(("delimiter", "shown"), [(";", ";"), ("\t", "tabs")])
def test_check_shows_what_separates_the_columns_of_a_csv(tmp_path: Path, delimiter: str, shown: str) -> None:
    (tmp_path / "a.csv").write_text(f"name{delimiter}url\nx{delimiter}http://a.example\n")
    plan = make_plan(Config(), items=str(tmp_path / "a.csv"))
    assert f"  items      {tmp_path / 'a.csv'}, columns separated by {shown}" in describe_plan(plan)


def test_check_shows_policies_by_their_keys_and_no_secret() -> None:
    text = """
        circuit.enabled = true
        retry.server = { max_attempts = 9, backoff = "none" }
        bad_luck.threshold = 0.9
        http = { headers = { Authorization = "Bearer hush" }, body = "hush" }
        [[group]]
        name = "g"
        url = "http://a.example"
    """
    lines = describe_plan(make_plan(parse_config(text, Path("x.toml"))))
    for fact in (
        "retry budget tokens 500, retry_cost 5, timeout_cost 10, success_gain 1, time_gain 50, mode delay",
        "circuit      failure_ratio 0.5, min_throughput 20, window 10s, buckets 10, open_for 5s, probes 1",
        "    server   max_attempts 9, base 100ms, cap 5s, backoff none, max_retry_after 1m",
        "  bad luck   threshold 0.9, latency none, faults { disconnected = 1, timed_out = 1, broken = 1 }",
    ):
        assert fact in lines
    assert "hush" not in "".join(lines)


def test_check_describes_the_tree() -> None:
    """Each supervisor and group stands below what supervises it, with its strategy and its limits."""
    text = """
        [[supervisor]]
        name = "s"
        strategy = "one_for_all"
        [[group]]
        name = "g"
        url = "http://a.example"
        count = 2
        under = "s"
        every = "30s"
        restart = "permanent"
    """
    lines = describe_plan(make_plan(parse_config(text, Path("x.toml"))))
    tree = lines[lines.index("tree") :]
    assert tree[:5] == [
        "tree",
        "  root             one_for_one, 1 restart within 5s",
        "    s              one_for_all, 1 restart within 5s, permanent",
        "      g            one_for_one, 1 restart within 5s",
        "        2 workers  permanent, polls 30s after each poll",
    ]


def test_services_refuse_options_of_batches() -> None:
    """Options of the command line are refused as the keys of the config are, and `none` is nothing."""
    config = Config(path=Path("x.toml"), groups=(Group(name="g", url="http://a.example", every=1),))
    assert problems_of(config=config, overrides=Overrides(halt="3", timeout=None)) == (
        "--halt is for batches: there are services or supervisors, which run until stopped",
    )
    assert not make_plan(config, targets=["http://b.example"]).config.is_tree


def test_error_that_does_not_exist_is_reported_once() -> None:
    """Exceptions are imported by name before the run. An inherited one is reported at its own line."""
    config = Config(groups=(Group(name="g", url="http://a.example", classify={"nope.X": "server"}),))
    config = msgspec.structs.replace(config, classify={"nope.X": "server"})
    assert problems_of(config=config) == ("nope.X: there is no module 'nope'",)
    luck = BadLuckTable(named_faults={"builtins.UnicodeDecodeError": 1.0})
    (problem,) = problems_of(config=Config(groups=(Group(name="g", url="http://a.example", bad_luck=luck),)))
    assert problem.startswith("builtins.UnicodeDecodeError: cannot be created from a text alone")


@pytest.mark.parametrize("setting", ["circuit.enabled = true", "rate_per_key = '5/s'"])
def test_check_says_when_limits_by_key_do_not_apply(folder: Path, setting: str) -> None:
    """A function without a key of its own, nor of its group, runs all the same; `check` says what passes it by."""
    (folder / "keyed_jobs.py").write_text(
        "async def plain(): pass\nasync def keyed(): pass\nkeyed.key_of = lambda: 'a'\n", encoding="utf-8"
    )

    def told(group: str) -> list[str]:
        config, found = read_config(f"{setting}\n[[group]]\n{group}", Path("run.toml"))
        lines = describe_plan(make_plan(config, found=found))
        return [line.split(maxsplit=1)[1] for line in lines if line.startswith("  key ")]

    name = setting.partition(" ")[0].partition(".")[0]
    assert told("target = 'keyed_jobs:plain'\n") == [f"none, so {name} does not apply"]
    assert told("target = 'keyed_jobs:plain'\nkey = 'db'\n") == ["db"]
    assert told("target = 'keyed_jobs:keyed'\n") == []
    assert told("url = 'http://a.example'\n") == []


def test_halt_mode_without_halt_is_refused() -> None:
    """A mode alone is refused with its line, unless the command line brings the halt."""
    config, found = read_config("halt_mode = 'now'\n[[group]]\nurl = 'http://a.example'\n", Path("run.toml"))
    assert make_plan(config, found=found, overrides=Overrides(halt="5")).groups
    with pytest.raises(PlanError, match=r"run.toml:1: halt_mode.* set halt too"):
        make_plan(config, found=found)


def test_budget_below_one_retry_is_refused() -> None:
    """Fewer tokens than one retry costs are refused with their line."""
    _, found = read_config("[retry_budget]\nretry_cost = 9\ntokens = 5\n", Path("run.toml"))
    assert any("run.toml:3" in line and "retry_cost (9)" in line for line in found.lines)


def test_check_says_what_follows_a_429(folder: Path) -> None:
    (folder / "quota_jobs.py").write_text("async def plain(): pass\n", encoding="utf-8")

    def said(text: str) -> str:
        config, found = read_config(text, Path("run.toml"))
        return " ".join(line.strip() for line in describe_plan(make_plan(config, found=found)))

    url = "[[group]]\nname = 'g'\nurl = 'http://a.example'\n"
    usual = said(f"throttle_patience = '3m'\nmax_retry_after = '1h'\n{url}")
    for text in ("throttle     adaptive", "answers 429", "Every request to that host waits", "3m (throttle_patience)"):
        assert text in usual
    assert "asks for more than 1h (max_retry_after)" in usual
    assert "max per key  as many as stay free" in usual
    assert "A function" not in usual
    limited = said(f"max_per_key = 4\n{url}retry.throttled.max_attempts = 5\n")
    assert "max per key  4" in limited
    assert "A worker of g is exhausted when 5 attempts" in limited
    assert "throttle_patience" not in limited
    plain = said(f"throttle = 'none'\n{url}key = 'k'")
    assert "retried like any other error" in plain
    assert "key        k (not used" in plain
    assert "A function without key_of" in said("[[group]]\ntarget = 'quota_jobs:plain'\n")
    assert "A function without key_of" not in said("[[group]]\ntarget = 'quota_jobs:plain'\nkey = 'k'\n")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("throttle = 'fast'", "throttle: must be one of adaptive, none, not 'fast'"),
        ("max_per_key = 0", "max_per_key: must be 1 or more"),
        ("throttle_patience = 0", "throttle_patience: must be above 0"),
        ("retry_budget.mode = 'wait'", "retry_budget.mode: must be one of delay, refuse, not 'wait'"),
    ],
)
def test_wrong_quota_setting_is_a_problem(line: str, problem: str) -> None:
    config, found = read_config(f"{line}\n[[group]]\nurl = 'http://a.example'\n", Path("run.toml"))
    with pytest.raises(PlanError, match=problem):
        make_plan(config, found=found)


def test_options_of_items_reach_the_groups_that_read_a_file(folder: Path) -> None:
    (folder / "a.csv").write_text("id,n\nx,1\ny\n")
    groups = (Group(name="g", target="asyncio:sleep", items="a.csv"), Group(name="h", target="demo"))
    plan = make_plan(Config(groups=groups), overrides=Overrides(name_column="id", skip_bad=True))
    assert names(plan) == ["x", "h/0"]
    assert "  items      a.csv, columns separated by ,, names from id, bad lines skipped" in describe_plan(plan)
    (note,) = plan.notes
    assert note.startswith("a.csv: 1 line skipped (--skip-bad), the first: a.csv:3: has 1 cell")


@pytest.mark.parametrize(
    ("overrides", "option"), [(Overrides(name_column="id"), "--name"), (Overrides(skip_bad=True), "--skip-bad")]
)
def test_options_of_items_without_a_file_are_refused(overrides: Overrides, option: str) -> None:
    problem = f"{option} is for items from a file; give --items FILE too"
    assert problems_of("http://a.example", overrides=overrides) == (problem,)


def test_keys_of_items_without_a_file_are_refused() -> None:
    group = '[[group]]\ntarget = "jobs:f"\nitems = ["a"]\nname_column = "id"\nskip_bad = true\n'
    with pytest.raises(ConfigError) as caught:
        parse_config(group, Path("x.toml"))
    why = "is for items from a file: set items to its path"
    assert caught.value.problems == (f"x.toml:4: group.name_column: {why}", f"x.toml:5: group.skip_bad: {why}")


def test_plan_without_items_has_no_work_and_says_so(folder: Path) -> None:
    (folder / "a.txt").write_text("# nothing\n")
    plan = make_plan(Config(), items="a.txt")
    assert not plan.has_work
    assert plan.notes == ("no items in a.txt: there is nothing to run",)


@contextlib.contextmanager
def writing(text: str) -> Iterator[None]:
    """Write to the named pipe in a thread, which waits for a reader."""
    thread = threading.Thread(target=Path("pipe").write_text, args=(text,))
    thread.start()
    yield
    thread.join()


def test_pipe_is_read_during_a_run_and_before_a_description(folder: Path) -> None:
    os.mkfifo("unread")
    live = make_plan(Config(), items="unread", is_live=True)
    assert (names(live), live.has_work, foreseen_events(live)) == ([], True, ())
    assert live.groups[0].live is not None
    os.mkfifo("pipe")
    with writing("http://a.example\n"):
        plan = make_plan(Config(), items="pipe")
    assert (names(plan), plan.groups[0].live) == (["http://a.example"], None)


def test_services_read_a_pipe_before_they_start(folder: Path) -> None:
    os.mkfifo("pipe")
    group = Group(name="g", target="asyncio:sleep", items="pipe", restart="permanent")
    with writing("1\n"):
        plan = make_plan(Config(groups=(group,)), is_live=True)
    assert (names(plan), plan.groups[0].live) == (["1"], None)


@pytest.mark.parametrize("stop_ok", [False, True])
def test_check_says_that_a_stop_is_no_failure(*, stop_ok: bool) -> None:
    lines = describe_plan(make_plan(demo_config(), overrides=Overrides(stop_ok=stop_ok)))
    assert ("stop ok      yes: a run that is stopped may have status 0" in lines) is stop_ok
