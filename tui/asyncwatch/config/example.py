"""Writes `config.example.toml`: every key with its default and its help. Run `python -m asyncwatch.config.example`."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator

from msgspec import UNSET, Struct

from asyncwatch.config.schema import Config, SupervisorTable
from asyncwatch.policies.settings import SettingInfo, Tables, help_of, settings_of

_HEAD = """\
Configuration of asyncwatch: every key with its default.

Durations are written "250ms", "1.5s", "2m", "1h", or 5 for five seconds. "none" means no value.
`asyncwatch check config.example.toml` prints what would run."""
_COLUMN = 33
"""Where the help starts, after the value."""
_WIDTH = 120


def render_example(kind: type[Struct] = Config) -> str:
    """Return the text of the example config."""
    seen: set[int] = set()
    infos = settings_of(kind)
    lines = [*_comment(_HEAD)]
    for info in infos:
        if info.table is None and not isinstance(info.setting.rule, Tables):
            lines += _key(info, info.key, seen)
    for info in infos:
        if info.table is not None:
            lines += ["", f"# {info.setting.help}", f"[{info.key}]", *_keys(info.table, "", seen)]
    for info in sorted(infos, key=lambda info: info.key == "supervisor"):
        if isinstance(info.setting.rule, Tables):
            table = [f"[[{info.key}]]", *_keys(info.setting.rule.kind, "", seen)]
            is_commented_out = info.setting.rule.kind is SupervisorTable
            note = " Remove the # signs to have one." if is_commented_out else ""
            lines += ["", *_comment(f"{info.setting.help}{note}"), *(_out(table) if is_commented_out else table)]
    return "\n".join(lines) + "\n"


def _keys(kind: type[Struct], prefix: str, seen: set[int]) -> Iterator[str]:
    for info in settings_of(kind):
        key = f"{prefix}{info.key}"
        if info.table is None:
            yield from _key(info, key, seen)
        else:
            yield from _keys(info.table, f"{key}.", seen)


def _key(info: SettingInfo, key: str, seen: set[int]) -> Iterator[str]:
    """Yield a key with its value and help. Help that stands further up already is left out."""
    setting = info.setting
    value = info.default if setting.example is UNSET else setting.example
    line = f"{key} = {info.rule.write(value)}"
    if setting.heading:
        yield ""
    if id(setting) in seen:
        yield line
        return
    seen.add(id(setting))
    if setting.heading:
        yield from _comment(setting.heading)
    yield from _with_help(line, help_of(setting))


def _with_help(line: str, text: str) -> Iterator[str]:
    """Yield a line with its help beside it, or above it if the line is long."""
    if len(line) >= _COLUMN:
        yield from (f"# {each}" for each in textwrap.wrap(text, _WIDTH - 2))
        yield line
        return
    first, *others = textwrap.wrap(text, _WIDTH - _COLUMN - 2)
    yield f"{line:<{_COLUMN}}# {first}"
    yield from (f"{'':<{_COLUMN}}# {each}" for each in others)


def _comment(text: str) -> Iterator[str]:
    for paragraph in text.split("\n"):
        yield from (f"# {line}" for line in textwrap.wrap(paragraph, _WIDTH - 2) or [""])


def _out(lines: list[str]) -> Iterator[str]:
    """Yield the lines commented out. `# # ...` stays a comment once the signs are removed."""
    return (f"# {line}".rstrip() for line in lines)


if __name__ == "__main__":
    sys.stdout.write(render_example())
