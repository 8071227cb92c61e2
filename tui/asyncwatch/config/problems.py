"""What is wrong with a config file, with the line of each problem.

`tomllib` does not report lines, so the second half of this module finds them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from asyncwatch.text import mask_secrets

KeyPath = tuple[str | int, ...]
"""The path of a value: keys, and the index in an array of tables, as in `("group", 0, "retry", "base")`."""


class ConfigError(Exception):
    """A config that cannot be used. `problems` holds one line of text for each problem, in the order of the file."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class Problems:
    """Collects the problems of one file."""

    def __init__(self, file: Path, text: str) -> None:
        self._file = file
        self._text = text
        self._lines: dict[KeyPath, int] | None = None
        self._found: list[tuple[int, str]] = []
        self._wrong: set[KeyPath] = set()

    def add(self, key: KeyPath, message: str) -> None:
        """Note that the value at `key` is wrong."""
        # Only a config with problems pays for finding lines.
        if self._lines is None:
            self._lines = locate_keys(self._text)
        line = line_of(self._lines, key)
        self._wrong.update(key[:length] for length in range(len(key) + 1))
        self._found.append((line, mask_secrets(f"{self._file}:{line}: {_show(key)}: {message}")))

    def __contains__(self, key: KeyPath) -> bool:
        """Return whether something at `key`, or inside it, is wrong."""
        return key in self._wrong

    def __bool__(self) -> bool:
        """Return whether anything is wrong."""
        return bool(self._found)

    @property
    def lines(self) -> tuple[str, ...]:
        """One line of text for each problem, in the order of the file."""
        return tuple(message for _, message in sorted(self._found, key=lambda problem: problem[0]))

    def raise_if_any(self) -> None:
        """Raise a `ConfigError` with every problem."""
        if self._found:
            raise ConfigError(self.lines)

    def of_syntax(self, error: Exception) -> str:
        """Return the problem of text that is not TOML."""
        if isinstance(error, RecursionError):
            return f"{self._file}: is nested too deeply"
        import tomllib  # noqa: PLC0415  the demo has no file

        message = str(error)
        place = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", message)
        if not isinstance(error, tomllib.TOMLDecodeError) or place is None:
            return f"{self._file}: {message}"
        line, column = place.groups()
        if line is None:
            line, column = str(len(self._text.splitlines()) or 1), ""
        at = f"{self._file}:{line}" + (f":{column}" if column else "")
        return f"{at}: {message[: place.start()]}"


def read_text(file: Path) -> str:
    """Return the text of `file`, without a byte order mark.

    Raises:
        ConfigError: it cannot be read or is not UTF-8.

    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError([f"{file}: {error.strerror or error}"]) from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{file}:{line}: is not UTF-8"]) from None


def _show(key: KeyPath) -> str:
    parts = [part for part in key if isinstance(part, str)]
    return ".".join(part if re.fullmatch(r"[\w-]+", part, re.ASCII) else repr(part) for part in parts)


# -- lines of keys

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


def locate_keys(text: str) -> dict[KeyPath, int]:
    """Return the line, from 1, of every table and key of a valid TOML `text`.

    Keys inside an inline table or an array are left out. `line_of` finds them on the line of the key around them.
    """
    lines: dict[KeyPath, int] = {}
    last_index: dict[KeyPath, int] = {}
    table: KeyPath = ()
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


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """Return the line of `path`, else of the nearest table around it that has one, else 1."""
    return next((lines[path[:n]] for n in range(len(path), 0, -1) if path[:n] in lines), 1)


def _record(lines: dict[KeyPath, int], path: KeyPath, line: int) -> None:
    for length in range(1, len(path) + 1):
        lines.setdefault(path[:length], line)


def _resolve(keys: KeyPath, last_index: dict[KeyPath, int], *, is_array: bool) -> KeyPath:
    """Return the path of a table header, with the index in every array of tables that it passes."""
    path: KeyPath = ()
    for position, key in enumerate(keys, start=1):
        path += (key,)
        if is_array and position == len(keys):
            last_index[path] = last_index.get(path, -1) + 1
        if path in last_index:
            path += (last_index[path],)
    return path


def _statements(text: str) -> Iterator[list[_Token]]:
    """Yield the tokens of each table header and each `key = value`, which may span lines."""
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


def _keys(tokens: list[_Token]) -> KeyPath:
    return tuple(_unquote(text) for kind, text, _ in tokens if kind in {"bare", "string"})


def _unquote(key: str) -> str:
    if key[0] not in "\"'":
        return key
    import tomllib  # noqa: PLC0415  the demo has no file

    decoded: dict[str, Any] = tomllib.loads(f"key = {key}")
    return str(decoded["key"])
