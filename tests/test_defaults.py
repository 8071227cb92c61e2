"""Defaults and rules that several rooms share: each is one fact, wherever a value is given."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import click
import pytest

from asyncwatch import BadLuck, PoolSpec, Run, Supervisor, SupervisorSpec, WorkerSpec
from asyncwatch.cli.main import SettingType, main
from asyncwatch.config.schema import Config, Group, Http, RestartLimit, SupervisorFlags, SupervisorTable
from asyncwatch.engine.scheduler import Scheduler
from asyncwatch.engine.tree import rules
from asyncwatch.events import SETTINGS
from asyncwatch.policies.limits import check_limits
from asyncwatch.policies.settings import SettingError, setting_at
from asyncwatch.targets.http import HttpTarget


async def nothing() -> None:
    """Return."""


@pytest.mark.parametrize(
    ("taker", "name"),
    [
        *[(kind, name) for kind in (Run, Supervisor, Scheduler) for name in ("concurrency", "grace")],
        *[(kind, "max_per_key") for kind in (Run, Supervisor, Scheduler)],
        (HttpTarget, "concurrency"),
    ],
)
def test_default_of_a_program_is_that_of_a_config(taker: Callable[..., object], name: str) -> None:
    assert inspect.signature(taker).parameters[name].default == getattr(Config(), name)


@pytest.mark.parametrize(
    ("spec", "table", "fields"),
    [
        (WorkerSpec("a", nothing), Group(), "restart significant announces_ready every shutdown"),
        (WorkerSpec("a", nothing), RestartLimit(), "max_restarts within escalates"),
        (SupervisorSpec("a"), SupervisorTable(), "strategy max_restarts within auto_shutdown"),
        (SupervisorSpec("a"), SupervisorTable(), "restart shutdown significant"),
        (PoolSpec("a", WorkerSpec("b", nothing)), SupervisorTable(), "restart shutdown significant"),
        (PoolSpec("a", WorkerSpec("b", nothing)), SupervisorFlags(), "strategy max_restarts within auto_shutdown"),
    ],
)
def test_default_of_a_spec_is_that_of_its_table(spec: Any, table: Any, fields: str) -> None:
    for field in fields.split():
        assert getattr(spec, field) == getattr(table, field), field


@pytest.mark.parametrize("name", Http.__struct_fields__)
def test_default_of_a_request_is_that_of_its_table(name: str) -> None:
    default = inspect.signature(HttpTarget).parameters[name].default
    assert (default or getattr(Http(), name)) == getattr(Http(), name)
    assert bool(default) is bool(getattr(Http(), name))


VALUES = [
    "permanent",
    "one_for_all",
    "never",
    "one",
    0,
    1,
    -1,
    1.5,
    math.inf,
    -math.inf,
    math.nan,
    True,
    False,
    None,
    [1],
]
CHECKS: dict[str, Callable[[Any], None]] = {
    "restart": rules.check_restart,
    "shutdown": rules.check_shutdown,
    "significant": lambda value: rules.check_flag(value, "significant"),
    "max_restarts": lambda value: rules.check_intensity(value, 1.0),
    "within": lambda value: rules.check_period(value, "within"),
    "auto_shutdown": rules.check_auto_shutdown,
}


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("field", CHECKS)
def test_spec_refuses_what_the_rule_of_its_table_refuses(field: str, value: Any) -> None:
    def is_refused(check: Callable[[Any], object]) -> bool:
        try:
            check(value)
        except ValueError:
            return True
        return False

    assert is_refused(CHECKS[field]) == is_refused(setting_at(SupervisorTable, field).rule.check)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ((0, 5.0), "concurrency: must be 1 or more, not 0"),
        ((True, 5.0), r"concurrency: must be a whole number, not true or false \(true\)"),
        ((1.5, 5.0), r"concurrency: must be a whole number, not a number \(1.5\)"),
        ((1, -0.1), "grace: must be 0 seconds or more, and finite, not -0.1"),
        ((1, math.inf), "grace: must be 0 seconds or more, and finite, not inf"),
        ((1, math.nan), "grace: must be 0 seconds or more, and finite, not nan"),
    ],
)
def test_limit_out_of_range_is_refused(limits: tuple[Any, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        check_limits(*limits)
    for taker in (Run, Supervisor):
        with pytest.raises(SettingError, match=message):
            taker([], concurrency=limits[0], grace=limits[1])


@pytest.mark.parametrize(
    ("name", "key"),
    [("concurrency", "concurrency"), ("rate", "rate"), ("rate per key", "rate_per_key")],
)
def test_setting_of_a_run_has_the_rule_of_its_key_in_a_config(name: str, key: str) -> None:
    assert SETTINGS[name] is setting_at(Config, key).rule


@pytest.mark.parametrize("value", [-0.1, 1.1, math.inf, math.nan, True, "1"])
def test_bad_luck_of_a_run_refuses_what_the_policy_refuses(value: Any) -> None:
    with pytest.raises(SettingError) as of_policy:
        BadLuck(threshold=value)
    with pytest.raises(ValueError, match="must") as of_run:
        SETTINGS["bad luck"].check(value)
    assert str(of_policy.value) == f"threshold: {of_run.value}"


@pytest.mark.parametrize("value", [0, 0.5, 1])
def test_bad_luck_of_a_run_takes_what_the_policy_takes(value: float) -> None:
    SETTINGS["bad luck"].check(value)
    assert BadLuck(threshold=value).threshold == value


OPTIONS = {option.name: option for option in main.params if isinstance(option.type, SettingType)}


def test_options_are_settings_of_the_config() -> None:
    assert set(OPTIONS) == {
        "concurrency",
        "timeout",
        "attempt_timeout",
        "max_attempts",
        "bad_luck",
        "seed",
        "rate",
        "halt",
        "lifespan",
        "metrics",
        "engine",
    }


@pytest.mark.parametrize("name", set(OPTIONS) - {"seed"})
def test_help_of_an_option_has_the_default_of_its_setting(name: str) -> None:
    option: Any = OPTIONS[name]
    info = setting_at(Config, option.type.key)
    default = info.rule.write(info.default).strip('"')
    assert option.help.partition("Default: ")[2].strip(".").removesuffix(" (never)") == default


def test_help_of_the_runner_has_the_default_of_a_config() -> None:
    (runner,) = (option for option in main.params if option.name == "runner")
    assert isinstance(runner, click.Option)
    assert f"Default: {Config().runner}." in (runner.help or "")
