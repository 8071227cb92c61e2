"""The demo shows what its seed promises."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from asyncwatch import Outcome, Run, current_worker
from asyncwatch.config.load import demo_config
from asyncwatch.config.schema import Config
from asyncwatch.plan.build import open_run
from asyncwatch.plan.demo import attempts_needed, draw_eventful_seed, is_eventful
from asyncwatch.plan.plan import Overrides, make_plan
from asyncwatch.policies.bad_luck import BadLuck, Luck
from asyncwatch.policies.classify import classify
from asyncwatch.targets.demo_site import LONGEST_LATENCY, DemoSite
from asyncwatch.targets.http import HTTP_FAULTS
from asyncwatch.testing import run_jumping

WORKERS = [str(number) for number in range(20)]


def outcomes_of(overrides: Overrides) -> tuple[int, list[Outcome[Any]]]:
    """Run the demo without its network: each call takes as long as the site would. Return the seed and the ends."""
    plan = make_plan(demo_config(), overrides=overrides)
    site = DemoSite(plan.seed)

    async def visit() -> int:
        worker = current_worker()
        assert worker is not None
        await asyncio.sleep(site.latency(worker.name, worker.incarnation, worker.attempt))
        return 200

    async def main() -> list[Outcome[Any]]:
        async with open_run(replace(plan, groups=(replace(plan.groups[0], function=visit),))) as run:
            assert isinstance(run, Run)
            return list(await run.gather(timeout=plan.config.timeout))

    return plan.seed, run_jumping(main)


@pytest.mark.parametrize("overrides", [Overrides(), Overrides(bad_luck=0.5), Overrides(output="out.csv")])
def test_demo_has_a_worker_without_success_and_a_retry_that_helps(overrides: Overrides) -> None:
    seeds = set()
    for _ in range(25):
        seed, outcomes = outcomes_of(overrides)
        seeds.add(seed)
        states = [(outcome.state.value, outcome.attempts) for outcome in outcomes]
        assert any(state in {"failed", "exhausted"} for state, _ in states)
        assert any(state == "succeeded" and attempts > 1 for state, attempts in states)
    assert len(seeds) > 20


def test_seed_tells_how_every_worker_ends() -> None:
    (group,) = demo_config().groups
    eventful = 0
    for seed in range(60):
        _, outcomes = outcomes_of(Overrides(seed=seed))
        ends = {each.name: each.attempts if each.state == "succeeded" else None for each in outcomes}
        assert ends == {worker: attempts_needed(Luck(seed), group, worker) for worker in WORKERS}
        is_seen = None in ends.values() and any(end is not None and end > 1 for end in ends.values())
        assert is_eventful(seed, group, WORKERS) == is_seen
        eventful += is_seen
    assert 5 < eventful < 40


def test_faults_of_the_site_are_as_transient_as_the_ones_foretold() -> None:
    assert [classify(fault()) for fault in HTTP_FAULTS] == [classify(fault()) for fault in BadLuck().faults]


def test_demo_has_time_for_every_request_and_retry() -> None:
    config = demo_config()
    (group,) = config.groups
    assert group.http.timeout is not None
    assert config.timeout is not None
    assert group.http.timeout >= LONGEST_LATENCY + 1
    waits = group.retry.base * (1 + 2)  # at most, before the second and the third attempt
    assert group.retry.max_attempts == 3
    assert waits + group.http.timeout < config.timeout


@pytest.mark.parametrize(
    "overrides",
    [
        Overrides(seed=7),
        Overrides(bad_luck=1.0),
        Overrides(bad_luck=0.0),
        Overrides(timeout=1.0),
        Overrides(attempt_timeout=1.0),
        Overrides(concurrency=1),
        Overrides(max_attempts=1),
        Overrides(runner="task_group"),
        Overrides(rate="1/min"),
        Overrides(halt="1"),
    ],
)
def test_demo_that_may_go_otherwise_promises_nothing(overrides: Overrides) -> None:
    assert make_plan(demo_config(), overrides=overrides).name == "demo"


def test_demo_names_its_eventful_seed_and_other_work_does_not() -> None:
    assert make_plan(demo_config()).name == "demo, eventful seed"
    assert make_plan(Config(), targets=["http://a.example"]).name == "http"
    assert draw_eventful_seed(replace(demo_config(), name="other"), WORKERS) is None
