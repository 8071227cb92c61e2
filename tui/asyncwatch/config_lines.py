"""Finds the line of a key in a TOML text, which `tomllib` does not tell."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]
"""The way to a value: keys, and for an array of tables the index, as in `("group", 0, "retry", "base")`."""

_TOKEN = re.compile(
    r"""
      (?P<string> \"{3} (?: \\. | [^\\] )*? \"{3,5} | '{3} .*? '{3,5}
                | \" (?: \\. | [^"\\\n] )* \" | '[^'\n]*' )
    | (?P<comment> \#[^\n]* )
    | (?P<newline> \n )
    | (?P<open> [\[{] )
    | (?P<close> [\]}] )
    | (?P<equals> = )
    | (?P<gap> [ \t\r.,]+ )
    | (?P<bare> [^\s=.,\[\]{}\#"']+ )
    """,
    re.VERBOSE | re.DOTALL,
)

_Token = tuple[str, str, int]
"""The kind of a token, its text and its line."""


def locate_keys(text: str) -> dict[Path, int]:
    """Return the line, from 1, of every table and key of a valid TOML `text`.

    What stands inside an inline table or an array is left out: `line_of` finds it on the line of its key.
    """
    lines: dict[Path, int] = {}
    last_index: dict[Path, int] = {}
    table: Path = ()
    for statement in _statements(text):
        kinds = [kind for kind, _, _ in statement]
        line = statement[0][2]
        if kinds[0] == "open":
            table = _resolve(_keys(statement), last_index, is_array=kinds[1] == "open")
            _record(lines, table, line)
        else:
            keys = _keys(statement[: kinds.index("equals")])
            for length in range(1, len(keys) + 1):
                _record(lines, table + keys[:length], line)
    return lines


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Return the line of `path`, or of the nearest thing around it that has one; 1 if there is none."""
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 1)


def _record(lines: dict[Path, int], path: Path, line: int) -> None:
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], line)


def _resolve(keys: Path, last_index: dict[Path, int], *, is_array: bool) -> Path:
    """Return the path of a table header, with the index of every array of tables on the way."""
    path: Path = ()
    for position, key in enumerate(keys, start=1):
        path += (key,)
        if is_array and position == len(keys):
            last_index[path] = last_index.get(path, -1) + 1
        if path in last_index:
            path += (last_index[path],)
    return path


def _statements(text: str) -> Iterator[list[_Token]]:
    """Yield the tokens of each table header and of each `key = value`, which may span lines."""
    statement: list[_Token] = []
    depth = 0
    line = 1
    for match in _TOKEN.finditer(text):
        kind, token = str(match.lastgroup), match.group()
        if kind == "newline" and depth == 0 and statement:
            yield statement
            statement = []
        elif kind not in {"newline", "gap", "comment"}:
            depth += (kind == "open") - (kind == "close")
            statement.append((kind, token, line))
        line += token.count("\n")
    if statement:
        yield statement


def _keys(tokens: list[_Token]) -> Path:
    return tuple(_unquote(text) for kind, text, _ in tokens if kind in {"bare", "string"})


def _unquote(key: str) -> str:
    if key[0] not in "\"'":
        return key
    import tomllib  # noqa: PLC0415  the demo has no file

    decoded: dict[str, Any] = tomllib.loads(f"key = {key}")
    return str(decoded["key"])
