"""Reads a TOML table against the keys that it may have, and notes every key and value that is wrong."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from asyncwatch.config_lines import Path as KeyPath
from asyncwatch.config_problems import Problems
from asyncwatch.config_values import NONE, Check, nearest


class AnyKey(NamedTuple):
    """A table whose keys are free: a check for each key and one for each value."""

    key: Callable[[str], None]
    value: Check


class OrNone(NamedTuple):
    """A table that may be left out on purpose, by `none` in its place."""

    keys: Keys


Keys = Mapping[str, "Check | Keys | AnyKey | OrNone | list[Keys]"]
"""What each key takes: a value, a table, a table with free keys, a table or none, or an array of tables."""


def read_table(
    table: Mapping[str, Any], keys: Keys, place: KeyPath, problems: Problems, top: Keys | None = None
) -> dict[str, Any]:
    """Return the values of `table` that are as they should be. `top` are the keys of the whole file."""
    good: dict[str, Any] = {}
    top = keys if top is None else top
    for key, value in table.items():
        here = (*place, key)
        expected = keys.get(key)
        if expected is None:
            problems.add(here, _unknown(key, keys, top))
        elif isinstance(expected, list):
            if isinstance(value, list) and all(isinstance(each, dict) for each in value):
                good[key] = [read_table(each, expected[0], (*here, n), problems, top) for n, each in enumerate(value)]
            else:
                problems.add(here, f"must be tables that begin with [[{key}]]")
        elif callable(expected):
            try:
                good[key] = expected(value)
            except ValueError as error:
                problems.add(here, str(error))
        elif isinstance(expected, OrNone) and value == NONE:
            good[key] = None
        elif not isinstance(value, dict):
            problems.add(here, f"must be a table{f' or {NONE!r}' if isinstance(expected, OrNone) else ''}")
        elif isinstance(expected, AnyKey):
            good[key] = _read_free(value, expected, here, problems)
        else:
            inner = expected.keys if isinstance(expected, OrNone) else expected
            good[key] = read_table(value, inner, here, problems, top)
    return good


def _unknown(key: str, keys: Keys, top: Keys) -> str:
    if key in top:
        return "belongs to the top level: write it above the first [[group]] and [[supervisor]]"
    close = nearest(key, keys)
    hint = f"nearest valid key: {close}" if close else f"valid keys: {', '.join(keys)}"
    return f"unknown key ({hint})"


def _read_free(table: Mapping[str, Any], expected: AnyKey, place: KeyPath, problems: Problems) -> dict[str, Any]:
    good: dict[str, Any] = {}
    for key, value in table.items():
        try:
            expected.key(key)
            good[key] = expected.value(value)
        except ValueError as error:
            problems.add((*place, key), str(error))
    return good
