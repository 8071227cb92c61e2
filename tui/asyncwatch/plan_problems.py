"""What keeps a plan from being made."""

from __future__ import annotations

from collections.abc import Iterable

from asyncwatch.config_lines import Path as KeyPath
from asyncwatch.config_problems import Problems
from asyncwatch.redact import mask_secrets


class PlanError(Exception):
    """Arguments or settings that cannot run. `problems` holds one line of text each."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class PlanProblems:
    """What is wrong: with the file of a config, in the order of its lines, then with all else."""

    def __init__(self, found: Problems | None) -> None:
        self._of_file = found
        self._others: list[str] = []

    def __contains__(self, key: KeyPath) -> bool:
        """Return whether the value at `key` of the config's file is known to be wrong."""
        return self._of_file is not None and key in self._of_file

    def __bool__(self) -> bool:
        """Return whether anything is wrong."""
        return bool(self._others or (self._of_file and self._of_file.lines))

    def add(self, problem: str, key: KeyPath = ()) -> None:
        """Note what is wrong; with the value at `key` of the config's file, if it comes from there."""
        if key and self._of_file is not None:
            self._of_file.add(key, problem)
        else:
            self._others.append(mask_secrets(problem))

    def raise_if_any(self) -> None:
        """Raise a `PlanError` with all of it."""
        if self:
            raise PlanError([*(self._of_file.lines if self._of_file is not None else ()), *self._others])
