"""A plan becomes the specs of a supervisor, and its runner is awaited."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import pytest
from aiohttp import ServerTimeoutError

from asyncwatch import (
    AttemptTimeout,
    CircuitPolicy,
    Halt,
    PoolSpec,
    RateLimit,
    RestartBackoff,
    RetryBudget,
    ThrottlePolicy,
)
from asyncwatch.config.load import parse_config
from asyncwatch.config.schema import BadLuckTable, Config, Group, Http, RetryTable, SupervisorTable
from asyncwatch.engine.spec import WorkerSpec, WorkerSpecs
from asyncwatch.engine.tree.errors import RestartLimitError
from asyncwatch.plan import build as launch
from asyncwatch.plan.plan import Plan, PlannedGroup, make_plan
from asyncwatch.targets.demo_site import DemoTarget
from asyncwatch.targets.http import HTTP_FAULTS, HttpTarget, failing


def one_by_one(members: Any) -> list[WorkerSpec]:
    """Return every spec, of workers given together too."""
    return [spec for member in members for spec in (member if isinstance(member, WorkerSpecs) else (member,))]


def args_of(spec: Any) -> tuple[Any, ...]:
    """Return what the target of a worker is called with."""
    assert isinstance(spec, WorkerSpec)
    return spec.args


class FakeRun:
    """Takes what the real one takes, and notes it."""

    raises: BaseException | None = None

    @property
    def _control(self) -> Self:
        """Its internal interface."""
        return self

    def __init__(self, specs: Any, **options: Any) -> None:
        self.specs = one_by_one(specs)
        self.options = options
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.keeps_values = True

    def expect_signals(self) -> None:
        """Stand in for the method of the control."""

    def keep_no_values(self) -> None:
        """Note that results and errors are not kept."""
        self.keeps_values = False

    async def _call(self, name: str, options: dict[str, Any]) -> None:
        self.calls.append((name, options))
        if self.raises:
            raise self.raises

    async def gather(self, **options: Any) -> None:
        """Note the call."""
        await self._call("gather", options)

    async def wait(self, **options: Any) -> None:
        """Note the call."""
        await self._call("wait", options)

    async def task_group(self, **options: Any) -> None:
        """Note the call."""
        await self._call("task_group", options)


async def complete_all(run: FakeRun, **options: Any) -> None:
    """Note the call."""
    await run._call("as_completed", options)


class FakeSupervisor(FakeRun):
    """Takes what the real one takes, and notes it."""


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "Run", FakeRun)
    monkeypatch.setattr(launch, "Supervisor", FakeSupervisor)
    monkeypatch.setattr(launch, "complete_all", complete_all)


async def call(item: int) -> int:
    """Return what a target returns."""
    return item


async def opened(plan: Plan) -> Any:
    """Return the fake supervisor after its run was opened and closed."""
    async with launch.open_run(plan) as supervisor:
        assert isinstance(supervisor, FakeRun)
    return supervisor


async def test_groups_become_specs() -> None:
    """Names, arguments, policies and timeouts arrive; equal HTTP settings share one session."""
    slow = Http(timeout=60)
    groups = (
        Group(name="a", items=("http://a.example",), timeout=7, retry=RetryTable(max_attempts=5, base=0.2, cap=1)),
        Group(name="b", url="http://b.example", bad_luck=BadLuckTable(threshold=0.5), attempt_timeout=2),
        Group(name="c", url="http://c.example", http=slow),
        Group(name="d", target="demo", count=2),
    )
    plan = make_plan(Config(name="n", seed=3, concurrency=9, grace=1, groups=groups))
    supervisor = await opened(plan)
    a, b, c, d, e = supervisor.specs
    assert supervisor.options == {
        "name": "n",
        "seed": 3,
        "concurrency": 9,
        "grace": 1,
        "group_timeouts": {"a": 7},
        "retry_budget": RetryBudget(patience=600.0),
        "throttle": ThrottlePolicy(),
        "max_per_key": None,
        "circuit": None,
        "rate": None,
        "rate_per_key": None,
        "halt": None,
    }
    assert [spec.name for spec in supervisor.specs] == [
        "http://a.example",
        "b",
        "c",
        "d/0",
        "d/1",
    ]
    assert (a.args, b.args, a.group, b.group) == (("http://a.example",), ("http://b.example",), "a", "b")
    assert (a.retry.max_attempts, a.retry.base, a.retry.cap) == (5, 0.2, 1)
    assert (b.bad_luck.threshold, b.bad_luck.faults, b.attempt_timeout) == (0.5, HTTP_FAULTS, 2)
    assert type(a.target) is HttpTarget
    assert a.target is b.target
    assert a.target is not c.target
    assert type(d.target) is DemoTarget
    assert d.args == e.args
    assert d.args[0].startswith("http://127.0.0.1:")


async def test_site_of_the_demo_is_requested_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    proxies: list[object] = []

    def record(self: DemoTarget, **settings: Any) -> None:
        proxies.append(settings["proxy"])
        HttpTarget.__init__(self, **settings)

    monkeypatch.setattr(DemoTarget, "__init__", record)
    await opened(make_plan(Config(groups=(Group(name="d", target="demo", http=Http(proxy="http://a.example")),))))
    assert proxies == [None]


async def test_groups_of_a_tree_become_supervisors() -> None:
    """Groups and supervisors are below what they name, in the order of the file, with all that they say."""
    text = """
        rate = "5/s burst 2"
        max_restarts = 4
        circuit.enabled = true
        [retry_budget]
        tokens = 7
        [[group]]
        name = "last"
        url = "http://a.example"
        count = 2
        every = "30s"
        auto_shutdown = "all_significant"
        significant = true
        restart = "temporary"
        [[supervisor]]
        name = "s"
        strategy = "rest_for_one"
        [[group]]
        name = "inner"
        url = "http://b.example"
        under = "s"
        restart = "permanent"
        key = "k"
        per_worker = { max_restarts = 3, within = "1m", escalates = true }
        restart_backoff.base = "1s"
        retry.server = { max_attempts = 5 }
    """
    supervisor = await opened(make_plan(parse_config(text, Path("x.toml"))))
    last, s = supervisor.specs
    assert (supervisor.options["rate"], supervisor.options["max_restarts"]) == (RateLimit(per_second=5, burst=2), 4)
    assert supervisor.options["circuit"] == CircuitPolicy()
    assert supervisor.options["retry_budget"].tokens == 7
    assert [worker.name for worker in last.children] == ["0", "1"]
    assert (last.restart, last.significant, last.children[0].every) == ("transient", False, 30)
    assert last.children[0].key("http://a.example") == "a.example"
    assert (s.name, s.strategy, s.restart) == ("s", "rest_for_one", "permanent")
    ((worker,),) = [group.children for group in s.children]
    assert (worker.restart, worker.key, worker.max_restarts, worker.within) == ("permanent", "k", 3, 60)
    assert (worker.escalates, worker.backoff) == (True, RestartBackoff(base=1))
    assert (worker.retry.max_attempts, worker.retry_by_class["server"].max_attempts) == (1, 5)


async def test_pool_starts_with_the_workers_of_its_group() -> None:
    """One template, with the key and the item of each; without items all call the same."""
    pool = 'restart = "transient"\nstrategy = "simple_one_for_one"\nmax_restarts = 9\n'
    text = f"""
        [[group]]
        name = "alike"
        url = "http://a.example"
        count = 2
        {pool}
        [[group]]
        name = "each"
        items = ["http://b.example/1", "http://b.example/2"]
        {pool}
    """
    alike, each = (await opened(make_plan(parse_config(text, Path("x.toml"))))).specs
    assert isinstance(alike, PoolSpec)
    assert (alike.name, alike.restart, alike.max_restarts, alike.template.restart) == (
        "alike",
        "permanent",
        9,
        "transient",
    )
    assert [args_of(alike.child(*child)) for child in alike.initial] == [("http://a.example",)] * 2
    assert [key for key, _ in alike.initial] == ["0", "1"]
    assert [(key, args_of(each.child(key, args))) for key, args in each.initial] == [
        ("http://b.example/1", ("http://b.example/1",)),
        ("http://b.example/2", ("http://b.example/2",)),
    ]


async def test_batch_beside_a_tree_is_no_child_of_it() -> None:
    """A group without supervision has no supervisor, and its specs have no settings of supervision."""
    text = """
        concurrency = 2
        [[group]]
        name = "jobs"
        url = "http://a.example"
        timeout = "1m"
        [[group]]
        name = "service"
        url = "http://b.example"
        restart = "permanent"
    """
    supervisor = await opened(make_plan(parse_config(text, Path("x.toml"))))
    assert [spec.name for spec in supervisor.specs] == ["service"]
    (job,) = one_by_one(supervisor.options["batch"])
    assert (job.group, job.restart, job.retry.max_attempts) == ("jobs", "temporary", 3)
    assert (supervisor.options["concurrency"], supervisor.options["group_timeouts"]) == (2, {"jobs": 60})


async def test_errors_and_faults_by_name_reach_the_spec() -> None:
    """Statuses and dotted names reach the classification and the bad luck, with their weights."""
    text = """
        halt = "5%"
        halt_mode = "now"
        [[group]]
        url = "http://a.example"
        classify = { 404 = "transient", "builtins.KeyError" = "server", "asyncwatch.AttemptTimeout" = "server" }
        bad_luck = { threshold = 0, faults = { 503 = 3, timed_out = 1, "builtins.OSError" = 0 }, latency = "1s" }
    """
    supervisor = await opened(make_plan(parse_config(text, Path("x.toml"))))
    (spec,) = supervisor.specs
    assert supervisor.options["halt"] == Halt(share=0.05, mode="now")
    assert spec.classify(failing(404)()) == "transient"
    assert spec.classify(failing(429)()) == "throttled"
    assert spec.classify(KeyError()) == "server"
    assert [spec.classify(error) for error in (AttemptTimeout(), TimeoutError())] == ["server", "transient"]
    assert [getattr(fault(), "status", type(fault())) for fault in spec.bad_luck.faults] == [
        503,
        ServerTimeoutError,
        OSError,
    ]
    assert (spec.bad_luck.weights, spec.bad_luck.latency) == ((3, 1, 0), (1, 1))


async def test_tree_that_gives_up_raises() -> None:
    """The engine reports what ended a tree."""

    class Served(FakeSupervisor):
        async def serve(self) -> None:
            raise RestartLimitError("root", 1, 5, None)

    supervisor: Any = Served([])
    config = Config(supervisors=(SupervisorTable(name="s"),))
    with pytest.raises(RestartLimitError):
        await launch.drive(Plan(name="n", seed=1, config=config, groups=()), supervisor)


async def test_function_gets_its_item_or_nothing() -> None:
    """With items each worker gets its own as the one argument; without, it is called plainly."""
    each = PlannedGroup(settings=Group(name="e", target="m:call"), names=["1", "2"], items=[1, None], function=call)
    once = PlannedGroup(settings=Group(name="o", target="m:call"), names=["call"], function=call)
    supervisor = await opened(Plan(name="n", seed=1, config=Config(), groups=(each, once)))
    assert [(spec.name, spec.args) for spec in supervisor.specs] == [("1", (1,)), ("2", (None,)), ("call", ())]
    assert {spec.target for spec in supervisor.specs} == {call}


@pytest.mark.parametrize("runner", ["gather", "as_completed", "wait", "task_group"])
@pytest.mark.parametrize("error", [None, TimeoutError(), ExceptionGroup("", [ValueError()])])
async def test_runner_is_awaited_with_its_timeout(runner: str, error: Exception | None) -> None:
    """The runner that the config names is awaited. Events report how it ends, not its error."""
    config = Config(runner=runner, timeout=4, return_when="FIRST_EXCEPTION")
    supervisor: Any = FakeRun([])
    supervisor.raises = error
    await launch.drive(Plan(name="n", seed=1, config=config, groups=()), supervisor)
    expected = {"timeout": 4} | ({"return_when": "FIRST_EXCEPTION"} if runner == "wait" else {})
    assert supervisor.calls == [(runner, expected)]
    assert not supervisor.keeps_values


async def test_runner_other_error_is_not_hidden() -> None:
    """What is no outcome of workers reaches the engine."""
    supervisor: Any = FakeRun([])
    supervisor.raises = RuntimeError("broken")
    with pytest.raises(RuntimeError, match="broken"):
        await launch.drive(Plan(name="n", seed=1, config=Config(), groups=()), supervisor)


async def test_quotas_of_a_config_reach_the_run() -> None:
    text = """
throttle_patience = "20s"
max_retry_after = "5m"
max_per_key = 3
retry_budget = { mode = "refuse", time_gain = 7 }
[[group]]
name = "g"
url = "http://a.example"
retry.throttled.base = "1s"
[[group]]
name = "limited"
url = "http://a.example"
retry.throttled.max_attempts = 3
"""
    adaptive, plain = [
        await opened(make_plan(parse_config(start + text, Path("x.toml")))) for start in ("", 'throttle = "none"')
    ]
    policy = ThrottlePolicy(patience=20.0, max_retry_after=300.0)
    assert (adaptive.options["throttle"], adaptive.options["max_per_key"]) == (policy, 3)
    assert adaptive.options["retry_budget"] == RetryBudget(mode="refuse", time_gain=7, patience=20.0)
    assert plain.options["throttle"] is None

    def limits(supervisor: Any) -> list[int | None]:
        by_class = [spec.retry_by_class or {} for spec in supervisor.specs]
        return [policies["throttled"].max_attempts if "throttled" in policies else None for policies in by_class]

    assert limits(adaptive) == [None, 3], "only a number of its own limits throttled attempts"
    assert limits(plain) == [3, 3]
