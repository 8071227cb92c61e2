"""What is wrong with a config file, and where."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from asyncwatch.config_lines import Path as KeyPath
from asyncwatch.config_lines import line_of, locate_keys
from asyncwatch.redact import mask_secrets


class ConfigError(Exception):
    """A config that cannot be used. `problems` holds one line of text each, in the order of the file."""

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
        self._keys: list[KeyPath] = []

    def add(self, key: KeyPath, message: str) -> None:
        """Note that the value at `key` is wrong."""
        # Only a config that has problems pays for the search of their lines.
        if self._lines is None:
            self._lines = locate_keys(self._text)
        line = line_of(self._lines, key)
        self._keys.append(key)
        self._found.append((line, mask_secrets(f"{self._file}:{line}: {_show(key)}: {message}")))

    def __contains__(self, key: KeyPath) -> bool:
        """Return whether something at `key`, or inside of it, is wrong."""
        return any(wrong[: len(key)] == key for wrong in self._keys)

    @property
    def lines(self) -> tuple[str, ...]:
        """What was found, in the order of the file."""
        return tuple(message for _, message in sorted(self._found, key=lambda problem: problem[0]))

    def raise_if_any(self) -> None:
        """Raise a `ConfigError` with what was found."""
        if self._found:
            raise ConfigError(self.lines)

    def of_syntax(self, error: Exception) -> str:
        """Return the problem of a text that is no TOML."""
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
