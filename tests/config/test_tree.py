"""Supervision in a config: what makes a tree, and each rule it can break."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from asyncwatch import RestartBackoff, RetryPolicy
from asyncwatch.config.load import parse_config
from asyncwatch.config.problems import ConfigError
from asyncwatch.config.schema import Group

FILE = Path("run.toml")
SERVICE = "[[group]]\nname = 'g'\nurl = 'http://a'\nrestart = 'transient'\n"
ABOVE = "[[supervisor]]\nname = 's'\n"


@pytest.mark.parametrize(
    "line",
    [
        "restart = 'permanent'",
        "every = '1s'",
        "strategy = 'one_for_all'",
        "strategy = 'simple_one_for_one'",
        "max_restarts = 0",
        "within = 1",
        "auto_shutdown = 'any_significant'\nsignificant = true",
    ],
)
def test_group_with_a_key_of_supervision_makes_a_tree(line: str) -> None:
    plain = "[[group]]\nurl = 'http://a'\nshutdown = 'inf'\n"
    assert not parse_config(plain, FILE).is_tree
    assert parse_config(plain, FILE).groups[0].shutdown == math.inf
    assert parse_config(plain + line, FILE).is_tree
    beside = parse_config(SERVICE + plain, FILE)
    assert (beside.is_tree, beside.has_batch, parse_config(SERVICE, FILE).has_batch) == (True, True, False)


def test_children_start_in_the_order_of_the_file() -> None:
    """TOML keeps supervisors and groups apart."""
    config = parse_config(SERVICE + ABOVE + "[[group]]\nname = 'h'\nurl = 'http://a'\nunder = 's'\n", FILE)
    assert config.order == ("g", "s", "h")


def test_service_makes_one_attempt_unless_its_group_sets_more() -> None:
    """Its restart replaces the retries that the top level sets for batches."""
    above = "retry.max_attempts = 7\n"
    assert parse_config(above + SERVICE, FILE).groups[0].retry.max_attempts == 1
    assert parse_config(above + SERVICE + "retry.max_attempts = 2", FILE).groups[0].retry.max_attempts == 2


def test_retry_of_a_class_inherits_key_by_key() -> None:
    """From the same class at the top level, then from the policy of its own group."""
    text = "retry.throttled = { max_attempts = 9, backoff = 'none' }\n[[group]]\nurl = 'http://a'\n"
    (group,) = parse_config(text + "retry.base = '1s'\nretry.throttled.backoff = 'equal'", FILE).groups
    assert group.retry.by_class() == {"throttled": RetryPolicy(max_attempts=9, base=1, backoff="equal")}


@pytest.mark.parametrize(
    ("above", "own", "problem"),
    [
        (
            "retry.server.cap = '1s'\n",
            "retry.base = '2s'\n",
            "4: group.retry.base: cap (1s) must not be below base (2s)",
        ),
        ("retry.base = '2s'\n", "retry.server.cap = '1s'\n", "4: group.retry.server.cap: cap (1s) must not be below"),
        ("retry.server.cap = '1ms'\n", "retry.base = '1s'\n", "1: retry.server.cap: cap (1ms) must not be below base"),
    ],
)
def test_retry_of_a_class_that_contradicts_an_inherited_key_is_reported_once(
    above: str, own: str, problem: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(above + "[[group]]\nurl = 'http://a'\n" + own, FILE)
    (found,) = caught.value.problems
    assert found.removeprefix("run.toml:").startswith(problem)


@pytest.mark.parametrize("text", ["[[group]]\nname = '{}'\nurl = 'http://a'\n", SERVICE.replace("'g'", "'{}'")])
def test_many_groups_are_checked_in_linear_time(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lookups = 0
    is_supervised: Any = vars(Group)["is_supervised"]

    def counting(group: Group) -> bool:
        nonlocal lookups
        lookups += 1
        return bool(is_supervised.fget(group))

    monkeypatch.setattr(Group, "is_supervised", property(counting))
    parse_config("".join(text.format(f"g{n}") for n in range(100)), FILE)
    assert lookups <= 5 * 100


def test_restart_backoff_has_defaults_for_missing_keys() -> None:
    (group,) = parse_config(SERVICE + "restart_backoff = { base = '1s', stable_after = 5 }", FILE).groups
    assert group.restart_backoff == RestartBackoff(base=1, stable_after=5)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SERVICE + "significant = true", "5: group.significant: has no effect: auto_shutdown of this group"),
        (
            "auto_shutdown = 'any_significant'\n" + ABOVE + "significant = true",
            "4: supervisor.significant: a permanent child cannot be significant",
        ),
        (
            ABOVE + "[[supervisor]]\nrestart = 'transient'\nsignificant = true\nunder = 's'",
            "5: supervisor.significant: has no effect: auto_shutdown of supervisor 's' is never",
        ),
        (SERVICE + "within = 0", "5: group.within: must be above 0"),
        (SERVICE + "every = 0", "5: group.every: must be above 0"),
        (SERVICE + "max_restarts = -1", "5: group.max_restarts: must be 0 or more"),
        (
            SERVICE + "restart_backoff.base = 31",
            "5: group.restart_backoff.base: cap (30s) must not be below base (31s)",
        ),
        (SERVICE + "restart_backoff.factor = 0.5", "5: group.restart_backoff.factor: must be 1 or more"),
        (SERVICE + "under = 'z'", "5: group.under: there is no [[supervisor]] with the name 'z'"),
        (SERVICE + "under = 'g'", "5: group.under: there is no [[supervisor]] with the name 'g'"),
        (ABOVE + "under = 's'", "3: supervisor.under: 's' is below itself"),
        (
            ABOVE + "[[group]]\nname = 's'\nurl = 'http://a'\nunder = 's'",
            "4: group.name: a supervisor and a group have the name 's'",
        ),
        ("[[supervisor]]\nname = 'a/b'", "2: supervisor.name: a supervisor needs a name without a slash"),
        (ABOVE, "1: supervisor: 's' supervises nothing: no group or supervisor has under = 's'"),
        (
            ABOVE + "auto_shutdown = 'any_significant'\n" + SERVICE + "under = 's'",
            "3: supervisor.auto_shutdown: has no effect: no child is significant",
        ),
        (SERVICE + "auto_shutdown = 'all_significant'", "5: group.auto_shutdown: has no effect: no child"),
        ("auto_shutdown = 'all_significant'\n" + SERVICE, "1: auto_shutdown: has no effect: no child"),
        (SERVICE + "[[group]]\nname = 'root'\nurl = 'http://a'", "6: group.name: 'root' is the supervisor at the top"),
        (SERVICE + "circuit.enabled = true", "5: group.circuit: belongs to the top level: write it above the first"),
        (SERVICE + "timeout = 3", "5: group.timeout: is for batches"),
        (SERVICE + "announces_ready = true", "5: group.announces_ready: is for functions"),
        (SERVICE + "liveness = '5s'", "5: group.liveness: is for functions"),
        (
            "[[group]]\nname = 'g'\ntarget = 'a:b'\nliveness = '5s'",
            "4: group.liveness: restarts a worker, but restart is 'temporary', which never does",
        ),
        (SERVICE + "per_worker.escalates = true", "5: group.per_worker.escalates: needs a limit of its own"),
        (
            SERVICE + "every = 1\n[[group]]\nname='h'\nurl='http://a'\nper_worker.max_restarts=1",
            "9: group.per_worker: is",
        ),
        ("halt = 3\n" + SERVICE, "1: halt: is for batches"),
        ("timeout = 3\n" + SERVICE, "1: timeout: is for batches"),
        ("runner = 'wait'\n" + SERVICE, "1: runner: is for batches"),
        (
            "max_restarts = 3\n[[group]]\nurl = 'http://a'",
            "1: max_restarts: is for supervision, and nothing is supervised",
        ),
        ("burst = 3", "1: burst: has no effect without rate; set rate too"),
        ("burst = 3\nrate = '5/s burst 2'", "1: burst: rate already has a burst"),
        ("rate = '0/s'", "1: rate: a rate must be above 0"),
        ("halt = '0%'", "1: halt: a halt reads like 10, 5% or first"),
        ("retry.server.cap = '1ms'", "1: retry.server.cap: cap (1ms) must not be below base (100ms)"),
        ("retry.backoff = 'ful'", "1: retry.backoff: must be one of full, equal, decorrelated, constant, none"),
        ("retry_budget = 5", "1: retry_budget: must be a table or 'none'"),
        ("circuit.failure_ratio = 0", "1: circuit.failure_ratio: must be above 0"),
        ("circuit.window = 0", "1: circuit.window: must be above 0"),
        ("bad_luck.faults = { broken = 0 }", "1: bad_luck.faults: must name at least one fault"),
        (
            "bad_luck.faults = { 200 = 1 }",
            "1: bad_luck.faults.200: must be one of disconnected, timed_out, broken, an HTTP status",
        ),
        ("bad_luck.latency = [2, 1]", "1: bad_luck.latency: the second duration"),
        ("classify.x = 'server'", "1: classify.x: must be an HTTP status from 400 to 599"),
    ],
)
def test_broken_rule_is_the_only_problem_at_its_line(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, FILE)
    (found,) = caught.value.problems
    assert found.removeprefix("run.toml:").startswith(problem)


def test_cycle_is_reported_for_each_supervisor_in_it() -> None:
    text = "".join(f"[[supervisor]]\nname = '{a}'\nunder = '{b}'\n" for a, b in ("ab", "bc", "ca", "da"))
    text += "[[group]]\nname = 'g'\nurl = 'http://a'\nunder = 'd'\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, FILE)
    assert [problem.partition(": ")[2][:24] for problem in caught.value.problems] == [
        f"supervisor.under: '{name}' is" for name in "abc"
    ]


@pytest.mark.parametrize("above", ["%s", "[[supervisor]]\nname = 's'\n%s\n"])
def test_pool_with_anything_but_one_template_is_refused(above: str) -> None:
    pool = "strategy = 'simple_one_for_one'\n"
    with pytest.raises(ConfigError, match=r"strategy.*simple_one_for_one is for a \[\[group\]\]"):
        parse_config(above % pool + SERVICE + ("under = 's'" if "supervisor" in above else ""), FILE)
    assert parse_config(SERVICE + pool, FILE).groups[0].is_pool
