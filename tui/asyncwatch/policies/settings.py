"""Settings: the type, default, rule and help of each field of a policy or config table, stated in one place.

A setting is an annotated field of a msgspec struct::

    base: Annotated[float, Setting("Longest wait before the first retry.", Duration())] = 0.1

The rule reads the value from TOML, checks a value that a program passed, and writes a value back as TOML. The config
reader, `asyncwatch check`, `config.example.toml` and each policy's `__post_init__` all work from these annotations, so
a new setting needs one field here and the code that uses it. Pure.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
from collections.abc import Callable
from datetime import date, time
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Final, Protocol, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import NODEFAULT, UNSET, Struct

from asyncwatch.text import format_duration, format_size, mask_secrets, parse_duration, parse_size

NONE: Final = "none"
"""How a config says that a setting has no value."""
_MOST: Final = 1e9
"""The largest number in a config: a larger one is a typing mistake."""

R = TypeVar("R", bound=Struct)


class Rule(Protocol):
    """Which values a setting takes.

    `read` and `check` raise `ValueError` with a message that reads well after `key: `.
    """

    def read(self, value: Any) -> Any:
        """Return the meaning of a TOML value."""

    def check(self, value: Any) -> object:
        """Check a value that a program passed."""

    def write(self, value: Any) -> str:
        """Return a value as TOML."""

    @property
    def words(self) -> str:
        """The words to choose from, if there are any. They go before the help."""

    @property
    def none(self) -> str:
        """The meaning of `none`, if it is accepted. It goes after the help."""


class Setting(Struct, frozen=True):
    """What a field means. It stands in the field's `Annotated` type."""

    help: str
    """One or two sentences for the example config and the guide."""
    rule: Rule | None = None
    """None for a table: the field's type is a struct with settings of its own."""
    key: str = ""
    """The TOML key, if it is not the field's name."""
    heading: str = ""
    """A comment above the setting in the example config. It opens a theme."""
    example: Any = UNSET
    """The value in the example config, if it is not the default."""
    is_secret: bool = False
    """Whether the value may hold credentials, so that it is never shown."""


class SettingInfo(Struct, frozen=True):
    """A setting together with its place in a struct."""

    field: str
    key: str
    setting: Setting
    default: Any
    table: type[Struct] | None = None
    """The struct that the table's own keys belong to."""
    is_optional_table: bool = False

    @property
    def rule(self) -> Rule:
        """The rule of a setting that is not a table."""
        assert self.setting.rule is not None  # noqa: S101  a setting has a rule or is a table
        return self.setting.rule


class SettingError(ValueError):
    """A setting is invalid, or two settings contradict each other. `fields` names them."""

    def __init__(self, message: str, fields: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.fields = fields


@functools.cache
def settings_of(kind: type[Struct]) -> tuple[SettingInfo, ...]:
    """Return the settings of a struct. Fields without a `Setting` are left out.

    A struct's own settings come before inherited ones, and tables with free or partial keys last.
    """
    inherited = set(getattr(kind.__mro__[1], "__struct_fields__", ()))
    found = [info for field in msgspec.structs.fields(kind) if (info := _info(field)) is not None]
    return tuple(
        sorted(found, key=lambda info: (isinstance(info.setting.rule, (FreeTable, Partial)), info.field in inherited))
    )


def _info(field: msgspec.structs.FieldInfo) -> SettingInfo | None:
    if get_origin(field.type) is not Annotated:
        return None
    hint, *metadata = get_args(field.type)
    setting = next((each for each in metadata if isinstance(each, Setting)), None)
    if setting is None:
        return None
    default = field.default if field.default_factory is NODEFAULT else field.default_factory()
    table, is_optional = None, False
    if setting.rule is None:
        options = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
        table = next(option for option in options if isinstance(option, type) and issubclass(option, Struct))
        is_optional = type(None) in options
    return SettingInfo(field.name, setting.key or field.name, setting, default, table, is_optional)


def setting_at(kind: type[Struct], path: str) -> SettingInfo:
    """Return the setting of a struct that a dotted key names, such as `retry.max_attempts`.

    Raises:
        KeyError: there is none.

    """
    key, _, rest = path.partition(".")
    info = {info.key: info for info in settings_of(kind)}[key]
    if not rest:
        return info
    assert info.table is not None  # noqa: S101  only a table has keys below it
    return setting_at(info.table, rest)


def check_settings(record: Struct, error: type[SettingError] = SettingError) -> None:
    """Check every setting of `record` by its rule. A struct calls this in `__post_init__`.

    Raises:
        SettingError: `error`, for the first setting that is invalid.

    """
    for info in settings_of(type(record)):
        value = getattr(record, info.field)
        if value is info.default or info.table is not None:
            continue
        check_value(info.field, value, info.rule, error)


def check_value(field: str, value: object, rule: Rule, error: type[SettingError] = SettingError) -> None:
    """Check one value that a program passed.

    Raises:
        SettingError: `error`, if the value breaks the rule.

    """
    try:
        rule.check(value)
    except ValueError as why:
        raise error(f"{field}: {why}", (field,)) from None


def is_allowed(value: object, rule: Rule) -> bool:
    """Return whether a value that a program passed keeps the rule, for a caller that raises its own error."""
    try:
        rule.check(value)
    except ValueError:
        return False
    return True


def read_typed(text: str, rule: Rule) -> Any:
    """Return the meaning of a value typed without the quotes of TOML: of an option, or in an input.

    Raises:
        ValueError: the value breaks the rule. The message reads well after `key: `.

    """
    value: object = text
    # `int` and `float` alone accept the digits of every script, and underscores.
    if text.isascii() and "_" not in text:
        with contextlib.suppress(ValueError):
            match rule.rule if isinstance(rule, OrNone) else rule:
                case Whole():
                    value = int(text)
                case Number():
                    value = float(text)
    return rule.read(value)


def check_cap(base: float, cap: float, error: type[SettingError] = SettingError) -> None:
    """Check that the longest wait of a backoff is not below its first one.

    Raises:
        SettingError: `error`, if it is.

    """
    if cap < base:
        message = f"cap ({format_duration(cap)}) must not be below base ({format_duration(base)})"
        raise error(message, ("cap", "base"))


def as_policy(kind: type[R], record: Struct) -> R:
    """Return the policy in a config table that extends it with keys of its own."""
    return kind(**{field: getattr(record, field) for field in kind.__struct_fields__})


def help_of(setting: Setting) -> str:
    """Return the help of a setting with the words to choose from and the meaning of `none`."""
    if setting.rule is None:
        return setting.help
    words = f"{setting.rule.words}. " if setting.rule.words else ""
    return f"{words}{setting.help}{f' {NONE}: {setting.rule.none}.' if setting.rule.none else ''}"


def describe_settings(record: Struct) -> str:
    """Return all settings of `record` on one line: `max_attempts 3, base 100ms, ...`.

    Tables within it, empty values and secrets are left out.
    """
    shown = [
        f"{info.key} {info.rule.write(value).strip(chr(34))}"
        for info in settings_of(type(record))
        if info.table is None
        and not info.setting.is_secret
        and (value := getattr(record, info.field)) not in ("", {}, ())
    ]
    return ", ".join(shown)


# -- rules


class Flag(Struct, frozen=True):
    """True or false."""

    words = none = ""

    def read(self, value: Any) -> bool:
        """Return true or false."""
        if not isinstance(value, bool):
            raise ValueError(f"must be true or false, not {describe_value(value)}")  # noqa: TRY004  as any wrong value
        return value

    check = read

    def write(self, value: Any) -> str:
        """Return a value as TOML."""
        return "true" if value else "false"


class Whole(Struct, frozen=True):
    """A whole number of `low` or more.

    `most` guards against typing mistakes in a config. A program may pass more.
    """

    low: int = 0
    most: int = 1_000_000

    words = none = ""

    def read(self, value: Any) -> int:
        """Return the number."""
        self.check(value)
        if value > self.most:
            raise ValueError(f"must be at most {self.most}, not {_shown(value)}")
        return int(value)

    def check(self, value: Any) -> None:
        """Check a number that a program passed."""
        expect_type(value, int)
        if value < self.low:
            raise ValueError(f"must be {self.low} or more, not {_shown(value)}")

    def write(self, value: Any) -> str:
        """Return a value as TOML."""
        return str(value)


class Number(Struct, frozen=True):
    """A finite number from `low` to `high`, if there is one; above `low` if `is_open`. A config takes at most 1e9."""

    low: float = 0.0
    high: float | None = None
    is_open: bool = False

    words = none = ""

    def read(self, value: Any) -> float:
        """Return the number."""
        self.check(value)
        if value > _MOST:
            raise ValueError(f"must be at most {_MOST:g}, not {_shown(value)}")
        return float(value)

    def check(self, value: Any) -> None:
        """Check a number that a program passed."""
        expect_type(value, int, float)
        if self.high is not None and not self.low <= value <= self.high:
            raise ValueError(f"must be between {self.low:g} and {self.high:g}, not {_shown(value)}")
        if not self.low <= value < math.inf:
            raise ValueError(f"must be {self.low:g} or more, and finite, not {_shown(value)}")
        if self.is_open and value == self.low:
            raise ValueError(f"must be above {self.low:g}")

    def write(self, value: Any) -> str:
        """Return a value as TOML."""
        return str(int(value)) if value == int(value) else repr(value)


class Duration(Struct, frozen=True):
    """Seconds, written as `250ms`, `1.5s`, `2m`, `1h` or a number of seconds. A config takes at most a year."""

    is_open: bool = False
    """Whether 0 is refused."""
    may_be_infinite: bool = False
    """Whether `inf` is accepted, for as long as it takes."""

    words = none = ""

    def read(self, value: Any) -> float:
        """Return the seconds."""
        if self.may_be_infinite and value in ("inf", math.inf):
            return math.inf
        if type(value) not in (str, int, float):
            raise ValueError(f"must be a duration such as '250ms' or a number of seconds, not {describe_value(value)}")
        seconds = parse_duration(value)
        self.check(seconds)
        return seconds

    def check(self, value: Any) -> None:
        """Check a number of seconds that a program passed."""
        expect_type(value, int, float)
        if not value >= 0 or (value == math.inf and not self.may_be_infinite):
            raise ValueError(f"must be 0 seconds or more, and finite, not {_shown(value)}")
        if self.is_open and not value:
            raise ValueError("must be above 0")

    def write(self, value: Any) -> str:
        """Return a value as TOML."""
        return "0" if value == 0 else '"inf"' if value == math.inf else f'"{format_duration(value)}"'


class Size(Struct, frozen=True):
    """Bytes, written as `500MB` or `2GB`, or a number of bytes."""

    low: int = 0

    words = none = ""

    def read(self, value: Any) -> int:
        """Return the bytes."""
        if type(value) not in (str, int):
            raise ValueError(f"must be a size such as '500MB' or a number of bytes, not {describe_value(value)}")
        size = parse_size(value)
        self.check(size)
        return size

    def check(self, value: Any) -> None:
        """Check a number of bytes that a program passed."""
        expect_type(value, int)
        if value < self.low:
            raise ValueError(f"must be {format_size(self.low)} or more, not {_shown(value)}")

    def write(self, value: Any) -> str:
        """Return a value as TOML."""
        return quote(format_size(value))


class Span(Struct, frozen=True):
    """The least and the most seconds: one duration, or an array of two."""

    words = none = ""

    def read(self, value: Any) -> tuple[float, float]:
        """Return the least and the most seconds."""
        if not isinstance(value, list):
            seconds = Duration().read(value)
            return seconds, seconds
        if len(value) != 2:
            raise ValueError("must be one duration, or an array of two: the least and the most")
        least, most = map(Duration().read, value)
        self.check((least, most))
        return least, most

    def check(self, value: Any) -> None:
        """Check two numbers of seconds that a program passed."""
        if not isinstance(value, tuple) or len(value) != 2:
            raise ValueError("must be the least and the most seconds")
        for seconds in value:
            Duration().check(seconds)
        if value[1] < value[0]:
            raise ValueError("the second duration, the most, must not be below the first one, the least")

    def write(self, value: Any) -> str:
        """Return a value as TOML."""
        least, most = map(Duration().write, value)
        return least if least == most else f"[{least}, {most}]"


class Choice(Struct, frozen=True):
    """One of several words, after `fold` of what is given."""

    options: tuple[str, ...]
    fold: Callable[[str], str] = str

    none = ""

    @property
    def words(self) -> str:
        """The options."""
        return f"{', '.join(self.options[:-1])} or {self.options[-1]}"

    def read(self, value: Any) -> str:
        """Return the word."""
        expect_type(value, str)
        if self.fold(value) in self.options:
            return self.fold(value)
        close = nearest(self.fold(value), self.options)
        hint = f" (nearest: {close})" if close else ""
        raise ValueError(f"must be one of {', '.join(self.options)}, not {value!r}{hint}")

    check = read

    def write(self, value: Any) -> str:
        """Return a value as TOML."""
        return quote(value)


class Parsed(Struct, frozen=True):
    """Text, or another value, of a form that a function checks. The function returns the value that is kept."""

    parse: Callable[[Any], Any]

    words = none = ""

    def read(self, value: Any) -> Any:
        """Return the value that is kept."""
        return self.parse(value)

    def check(self, value: Any) -> None:
        """Check a value that a program passed."""
        self.parse(value)

    def write(self, value: Any) -> str:
        """Return a value as TOML."""
        return quote(value)


class OrNone(Struct, frozen=True):
    """A value that `none` leaves out; None in a program."""

    rule: Rule
    none: str
    """The meaning of `none`, as in `no limit`."""

    @property
    def words(self) -> str:
        """The words of the value's own rule."""
        return self.rule.words

    def read(self, value: Any) -> Any:
        """Return the value, or None."""
        if value == NONE:
            return None
        try:
            return self.rule.read(value)
        except ValueError as error:
            raise ValueError(f"{error}; {NONE!r} means {self.none}") from None

    def check(self, value: Any) -> None:
        """Check a value that a program passed."""
        if value is not None:
            self.rule.check(value)

    def write(self, value: Any) -> str:
        """Return a value as TOML."""
        return NONE_TOML if value is None else self.rule.write(value)


class FreeTable(Struct, frozen=True):
    """A table with free keys: `check_key` raises `ValueError` for a wrong one."""

    check_key: Callable[[str], None]
    value: Rule
    inherit: Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]] = lambda _above, own: own
    """Joins the table of the level above with a group's own. By default the group's own replaces it."""

    words = none = ""

    def read(self, value: Any) -> dict[str, Any]:
        """Return the table. The config reader reads entry by entry instead, to report each wrong one."""
        self.check(value)
        return {key: self.value.read(each) for key, each in value.items()}

    def check(self, value: Any) -> None:
        """Check a table that a program passed."""
        expect_type(value, dict)
        for key, each in value.items():
            self.check_key(key)
            self.value.check(each)

    def write(self, value: Any) -> str:
        """Return a value as TOML."""
        inner = ", ".join(f"{_key(key)} = {self.value.write(each)}" for key, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"


class Partial(Struct, frozen=True):
    """A table with any of another table's keys: what differs in one case. Kept as a dict of fields."""

    kind: type[Struct]

    words = none = ""

    def read(self, value: Any) -> dict[str, Any]:
        """Refuse to read: the config reader reads the table key by key."""
        raise ValueError(f"must be a table, not {describe_value(value)}")

    def check(self, value: Any) -> None:
        """Check the fields that a program passed."""
        expect_type(value, dict)
        rules = {info.field: info.rule for info in settings_of(self.kind)}
        for field, each in value.items():
            rules[field].check(each)

    def write(self, value: Any) -> str:
        """Return a value as TOML."""
        infos = {info.field: info for info in settings_of(self.kind)}
        inner = ", ".join(f"{infos[field].key} = {infos[field].rule.write(each)}" for field, each in value.items())
        return f"{{ {inner} }}" if inner else "{}"


class Tables(Struct, frozen=True):
    """An array of tables."""

    kind: type[Struct]

    words = none = ""

    def read(self, value: Any) -> Any:
        """Refuse to read: the config reader reads table by table."""
        raise ValueError(f"must be tables, not {describe_value(value)}")

    def check(self, value: Any) -> None:
        """Accept structs, which have checked themselves."""

    def write(self, value: Any) -> str:
        """Return the number of tables; the example config writes them out."""
        return str(len(value))


# -- words of messages

NONE_TOML: Final = f'"{NONE}"'

_TYPES: Final = {
    str: "text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    list: "an array",
    dict: "a table",
}


def quote(text: Any) -> str:
    """Return text as a TOML string."""
    return json.dumps(str(text), ensure_ascii=False)


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else quote(key)


def nearest(word: str, words: Any) -> str:
    """Return the one of `words` that is nearest to `word`; empty if none is near."""
    return next(iter(get_close_matches(word, words, n=1, cutoff=0.5)), "")


def describe_value(value: object) -> str:
    """Return the type of a value in TOML, else in Python, and the value unless it is long or may hold a secret."""
    if value is None:
        return "None"
    kind = _TYPES.get(type(value)) or ("a date or time" if isinstance(value, (date, time)) else type(value).__name__)
    if isinstance(value, (list, dict)):
        return kind
    # Masked before it is cropped, or the end of a password would be missed.
    shown = repr(mask_secrets(value)) if isinstance(value, str) else str(value)
    if isinstance(value, bool):
        shown = shown.lower()
    return f"{kind} ({shown if len(shown) <= 60 else shown[:57] + '...'})"


def expect_type(value: object, *types: type) -> None:
    """Raise `ValueError` unless `value` is of one of the types. The message names the last one."""
    # A bool is an int in Python, but not in a config.
    if not isinstance(value, types) or isinstance(value, bool):
        raise ValueError(f"must be {_TYPES[types[-1]]}, not {describe_value(value)}")  # noqa: TRY004  as any wrong value


def _shown(value: float) -> str:
    # Python refuses to print a whole number of more than some thousand digits.
    if isinstance(value, int) and abs(value) >= 1e30:
        return f"a number of {'-' if value < 0 else ''}1e30 or beyond"
    return str(value)
