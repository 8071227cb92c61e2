"""A plan becomes the specs of a supervisor, and its runner is awaited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from asyncwatch import RetryBudget, launch
from asyncwatch.config import BadLuck, Config, Group, Http, Retry
from asyncwatch.plan import Plan, PlannedGroup, make_plan
from asyncwatch.supervise.spec import WorkerSpec
from asyncwatch.targets.demo_site import DemoTarget
from asyncwatch.targets.http import HTTP_FAULTS, HttpTarget


class FakeSupervisor:
    """Takes what the real one takes, and notes it."""

    raises: BaseException | None = None

    def __init__(self, specs: Any, **options: Any) -> None:
        self.specs: list[WorkerSpec] = list(specs)
        self.options = options
        self.calls: list[tuple[str, dict[str, Any]]] = []

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

    async def as_completed(self, **options: Any) -> AsyncIterator[int]:
        """Note that somebody takes the outcomes."""
        yield 1
        await self._call("as_completed", options)


@pytest.fixture(autouse=True)
def _fake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "Supervisor", FakeSupervisor)


async def call(item: int) -> int:
    """Return what a target returns."""
    return item


async def opened(plan: Plan) -> Any:
    """Return the fake supervisor after its run was opened and closed."""
    async with launch.open_run(plan) as supervisor:
        assert isinstance(supervisor, FakeSupervisor)
    return supervisor


async def test_groups_become_specs() -> None:
    """Names, arguments, policies and timeouts arrive; equal HTTP settings share one session."""
    slow = Http(timeout=60)
    groups = (
        Group(name="a", items=("http://a.example",), timeout=7, retry=Retry(max_attempts=5, base=0.2, cap=1)),
        Group(name="b", url="http://b.example", bad_luck=BadLuck(threshold=0.5), attempt_timeout=2),
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
        "retry_budget": RetryBudget(),
        "circuit": None,
        "rate": None,
        "rate_per_key": None,
        "halt": None,
    }
    assert [spec.name for spec in supervisor.specs] == [
        "http://a.example",
        "http://b.example",
        "http://c.example",
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


async def test_functions_get_their_item_or_nothing() -> None:
    """With items each worker gets its own as the one argument; without, it is called plainly."""
    each = PlannedGroup(settings=Group(name="e", target="m:call"), names=["1", "2"], items=[1, None], function=call)
    once = PlannedGroup(settings=Group(name="o", target="m:call"), names=["call"], function=call)
    supervisor = await opened(Plan(name="n", seed=1, config=Config(), groups=(each, once)))
    assert [(spec.name, spec.args) for spec in supervisor.specs] == [("1", (1,)), ("2", (None,)), ("call", ())]
    assert {spec.target for spec in supervisor.specs} == {call}


@pytest.mark.parametrize("runner", ["gather", "as_completed", "wait", "task_group"])
@pytest.mark.parametrize("error", [None, TimeoutError(), ExceptionGroup("", [ValueError()])])
async def test_each_runner_is_awaited_with_its_timeout(runner: str, error: Exception | None) -> None:
    """The runner that the config names is awaited; how it ends is told by events, not by its error."""
    config = Config(runner=runner, timeout=4, return_when="FIRST_EXCEPTION")
    supervisor: Any = FakeSupervisor([])
    supervisor.raises = error
    await launch.drive(Plan(name="n", seed=1, config=config, groups=()), supervisor)
    expected = {"timeout": 4} | ({"return_when": "FIRST_EXCEPTION"} if runner == "wait" else {})
    assert supervisor.calls == [(runner, expected)]


async def test_other_errors_of_a_runner_are_not_hidden() -> None:
    """What is no outcome of workers reaches the engine."""
    supervisor: Any = FakeSupervisor([])
    supervisor.raises = RuntimeError("broken")
    with pytest.raises(RuntimeError, match="broken"):
        await launch.drive(Plan(name="n", seed=1, config=Config(), groups=()), supervisor)
