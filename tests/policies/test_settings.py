"""Settings: one annotated field is enough to read, check, describe and document a setting."""

from __future__ import annotations

import math
import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from asyncwatch import BadLuck, CircuitPolicy, Halt, RateLimit, RestartBackoff, RetryBudget, RetryPolicy
from asyncwatch.config.example import render_example
from asyncwatch.config.problems import Problems
from asyncwatch.config.schema import Config, Group, RestartLimit, SupervisorTable, read_table
from asyncwatch.policies.settings import (
    Choice,
    Duration,
    Flag,
    Number,
    OrNone,
    Rule,
    Setting,
    SettingError,
    Size,
    Span,
    Whole,
    as_policy,
    check_settings,
    describe_settings,
    help_of,
    is_allowed,
    read_typed,
    setting_at,
    settings_of,
)
from asyncwatch.text import MAX_DURATION

POLICIES = (BadLuck, CircuitPolicy, Halt, RateLimit, RestartBackoff, RestartLimit, RetryBudget, RetryPolicy)


class PatientRetry(RetryPolicy, frozen=True, kw_only=True):
    """A policy with one more setting than the product has."""

    rest: Annotated[float, Setting("Pause after the last attempt.", Duration(is_open=True))] = 2.0


class File(Struct, frozen=True, kw_only=True):
    """A config that has that policy."""

    retry: Annotated[PatientRetry, Setting("Another attempt.")] = PatientRetry()


def read(text: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the values and problems of a text, by the settings of `File`."""
    problems = Problems(Path("x.toml"), text)
    return read_table(tomllib.loads(text), File, (), problems), problems.lines


def test_new_setting_is_read_from_toml() -> None:
    assert read("[retry]\nrest = '250ms'\nbase = 1\n") == ({"retry": {"rest": 0.25, "base": 1.0}}, ())


def test_new_setting_out_of_range_is_reported_with_its_line() -> None:
    _, problems = read("[retry]\nbase = 1\nrest = 0\n")
    assert problems == ("x.toml:3: retry.rest: must be above 0",)


def test_new_setting_that_is_misspelt_is_suggested() -> None:
    _, problems = read("retry.rst = 3\n")
    assert problems == ("x.toml:1: retry.rst: unknown key (nearest valid key: rest)",)


def test_new_setting_is_checked_when_the_policy_is_made() -> None:
    with pytest.raises(SettingError, match="rest: must be above 0") as caught:
        PatientRetry(rest=0.0)
    assert caught.value.fields == ("rest",)


def test_new_setting_is_described() -> None:
    assert describe_settings(PatientRetry()).startswith("rest 2s, max_attempts 3, base 100ms")


def test_new_setting_is_in_the_example_with_its_help() -> None:
    lines = render_example(File).splitlines()
    assert 'rest = "2s"                      # Pause after the last attempt.' in lines
    values, problems = read("\n".join(lines))
    assert not problems
    assert PatientRetry(**values["retry"]) == PatientRetry()


def test_as_policy_leaves_out_the_settings_of_a_table() -> None:
    assert as_policy(RetryPolicy, PatientRetry(base=1.0, rest=9.0)) == RetryPolicy(base=1.0)


@pytest.mark.parametrize("kind", [*POLICIES, Config, Group, SupervisorTable])
def test_default_of_every_setting_keeps_its_rule(kind: type[Struct]) -> None:
    for info in settings_of(kind):
        if info.table is None and info.default is not msgspec.NODEFAULT and info.key != "name":
            info.rule.check(info.default)


@pytest.mark.parametrize("kind", [*POLICIES, Config, Group, SupervisorTable])
def test_help_of_every_setting_is_a_sentence(kind: type[Struct]) -> None:
    infos = settings_of(kind)
    assert infos
    for info in infos:
        assert help_of(info.setting).strip()[-1] in ".?!", info.key


VALUES: list[tuple[Rule, st.SearchStrategy[Any]]] = [
    (Whole(-5, 5), st.integers(-5, 5)),
    (Number(0, 1), st.floats(0, 1)),
    (Number(), st.floats(0, 1e9)),
    (Duration(), st.integers(0, 10_000_000).map(lambda tenths: tenths / 10)),
    (Duration(may_be_infinite=True), st.just(math.inf)),
    (Flag(), st.booleans()),
    (Choice(("a", "b")), st.sampled_from(["a", "b"])),
    (OrNone(Whole(), "nothing"), st.none() | st.integers(0, 100)),
    (Span(), st.tuples(st.integers(0, 9), st.integers(9, 99))),
]


@given(st.data())
@pytest.mark.parametrize(("rule", "values"), VALUES)
def test_rule_reads_what_it_writes(rule: Rule, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    value = data.draw(values)
    rule.check(value)
    assert rule.read(tomllib.loads(f"x = {rule.write(value)}")["x"]) == value


NUMERIC = [
    (kind, info.field)
    for kind in (CircuitPolicy, RestartBackoff, RestartLimit, RetryBudget, RetryPolicy)
    for info in settings_of(kind)
    if isinstance(info.rule, (Whole, Number, Duration))
]


@given(st.integers(-3, 10**7) | st.floats() | st.booleans())
@pytest.mark.parametrize(("kind", "field"), NUMERIC)
def test_policy_accepts_what_a_config_does_and_anything_larger(kind: type[Struct], field: str, value: float) -> None:
    (info,) = (info for info in settings_of(kind) if info.field == field)
    related = {"base": {"cap": MAX_DURATION}, "cap": {"base": 0.0}}.get(field, {})
    try:
        info.rule.read(value)
    except ValueError as error:
        if "at most" in str(error):
            return
        with pytest.raises(ValueError, match=field):
            kind(**{field: value, **related})
    else:
        kind(**{field: value, **related})


def test_policy_may_exceed_what_a_config_takes() -> None:
    policy = RetryPolicy(max_attempts=10**12, base=1e12, cap=1e12)
    assert policy.delay(1, 0.5) == 0.5e12
    with pytest.raises(ValueError, match="at most"):
        Whole(1).read(10**12)


@pytest.mark.parametrize(
    ("rule", "value", "message"),
    [
        (Whole(1), True, "must be a whole number, not true or false (true)"),
        (Whole(1), None, "must be a whole number, not None"),
        (Whole(1), b"1", "must be a whole number, not bytes (b'1')"),
        (Whole(1), date(2026, 1, 2), "must be a whole number, not a date or time (2026-01-02)"),
        (Whole(1), 0, "must be 1 or more, not 0"),
        (Whole(1), -(10**40), "must be 1 or more, not a number of -1e30 or beyond"),
        (Duration(), -math.inf, "a duration is 0 or more seconds, not -inf"),
        (Number(1), math.nan, "must be 1 or more, and finite, not nan"),
        (Number(1), 2e9, "must be at most 1e+09, not 2000000000.0"),
        (Number(0, 1, is_open=True), 0.0, "must be above 0"),
        (Duration(), "1 day", "a duration reads like '250ms', '1.5s', '2m' or '1h', not '1 day'"),
        (Duration(), math.inf, "a duration is at most"),
        (Span(), ["1s"], "must be one duration, or an array of two: the least and the most"),
        (Flag(), "yes", "must be true or false, not text ('yes')"),
        (Choice(("one", "two")), "tow", "must be one of one, two, not 'tow' (nearest: two)"),
        (OrNone(Whole(1), "no limit"), 0, "must be 1 or more, not 0; 'none' means no limit"),
    ],
)
def test_rule_refuses_a_wrong_value_with_a_reason(rule: Rule, value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=r"must|duration") as caught:
        rule.read(value)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("text", "rule", "value"),
    [
        ("12", Whole(1), 12),
        ("-1", Whole(-5), -1),
        ("0.5", Number(0, 1), 0.5),
        ("1", OrNone(Number(0, 1), "all"), 1.0),
        ("none", OrNone(Number(0, 1), "all"), None),
        ("250ms", OrNone(Duration(), "no limit"), 0.25),
        ("5", Duration(), 5.0),
    ],
)
def test_typed_value_is_read_by_its_rule(text: str, rule: Rule, value: Any) -> None:
    assert read_typed(text, rule) == value
    assert type(read_typed(text, rule)) is type(value)


@pytest.mark.parametrize(
    ("text", "rule", "message"),
    [
        ("0", Whole(1), "must be 1 or more, not 0"),
        ("1.5", Whole(1), "must be a whole number, not text ('1.5')"),
        ("1_0", Whole(1), "must be a whole number, not text ('1_0')"),
        ("\u0661", Whole(1), "must be a whole number, not text ('\u0661')"),
        ("9" * 5000, Whole(1), "must be a whole number, not text ('999"),
        ("nan", Number(0, 1), "must be between 0 and 1, not nan"),
        ("often", OrNone(Number(0, 1), "all"), "must be a number, not text ('often'); 'none' means all"),
    ],
)
def test_typed_value_is_refused_by_its_rule(text: str, rule: Rule, message: str) -> None:
    with pytest.raises(ValueError, match="must") as caught:
        read_typed(text, rule)
    assert str(caught.value).startswith(message)


def test_setting_at_follows_tables() -> None:
    assert setting_at(File, "retry.rest").rule == Duration(is_open=True)
    with pytest.raises(KeyError):
        setting_at(File, "retry.none")


def test_value_is_allowed_if_its_rule_accepts_it() -> None:
    assert is_allowed(1, Whole(1))
    assert not is_allowed(0, Whole(1))


def test_describe_settings_shows_no_secret() -> None:
    class Request(Struct):
        token: Annotated[str, Setting("Secret.", Choice(("a",)), is_secret=True)] = "a"
        retries: Annotated[int, Setting("Retries.", Whole(), key="tries")] = 3

        def __post_init__(self) -> None:
            check_settings(self)

    globals()["Request"] = Request  # msgspec resolves annotations by the names of the module
    assert describe_settings(Request()) == "tries 3"


def test_policies_import_nothing_else_of_the_package() -> None:
    folder = Path(as_policy.__code__.co_filename).parent
    imported = {
        line.split()[1]
        for path in folder.glob("*.py")
        for line in path.read_text().splitlines()
        if line.lstrip().startswith(("from asyncwatch", "import asyncwatch"))
    }
    assert {name for name in imported if not name.startswith("asyncwatch.policies")} == {"asyncwatch.text"}


@pytest.mark.parametrize(
    ("value", "size", "written"),
    [
        ("2GB", 2_000_000_000, '"2GB"'),
        ("1.5 MB", 1_500_000, '"1500kB"'),
        ("10kB", 10_000, '"10kB"'),
        (1_234, 1_234, '"1234B"'),
        ("999", 999, '"999B"'),
        (0, 0, '"0B"'),
    ],
)
def test_size_is_read_and_written_with_its_unit(value: object, size: int, written: str) -> None:
    rule = Size()
    assert rule.read(value) == size
    assert rule.write(size) == written
    assert rule.read(written.strip('"')) == size


@pytest.mark.parametrize("value", [True, -1, "-1GB", "2 gigs", "", 1.5, "9" * 30])
def test_wrong_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        Size().read(value)
    with pytest.raises(ValueError, match="1MB or more"):
        Size(1_000_000).read("1kB")
