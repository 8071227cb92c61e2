"""Settings of a run that can be changed while it is running, and the change to undo next. Pure."""

from __future__ import annotations

from collections import deque
from typing import Any

from asyncwatch.events import RunStarted, SettingChanged

CHANGES_KEPT = 1_000
"""How many changes can be undone."""


class Settings:
    """Values of `events.SETTINGS` now and at the start. A setting is known by its name and key (empty for the run)."""

    def __init__(self) -> None:
        self.history: deque[SettingChanged] = deque(maxlen=CHANGES_KEPT)
        """The changes that can be undone, oldest first."""
        self.applied = 0
        """All changes so far."""
        self._values: dict[tuple[str, str], Any] = {}
        self._initial: dict[tuple[str, str], Any] = {}

    def started(self, event: RunStarted) -> None:
        """Fold the values at the start of the run."""
        values = {
            "concurrency": event.concurrency,
            "rate": event.rate,
            "rate per key": event.rate_per_key,
            "bad luck": event.bad_luck,
            "paused": event.paused,
        }
        self._initial = {(name, ""): value for name, value in values.items()}
        self._values = dict(self._initial)

    def changed_by(self, event: SettingChanged) -> None:
        """Fold one change."""
        self.applied += 1
        at = event.name, event.key
        self._initial.setdefault(at, event.previous)
        self._values[at] = self.meant(event, event.value)
        last = self.last
        # Resuming takes back the pause: there is no point in an undo that pauses the run again.
        is_undo = event.is_undo or event.name == "paused"
        if is_undo and last is not None and (last.name, last.key, last.previous) == (*at, event.value):
            self.history.pop()
        else:
            self.history.append(event)

    def meant(self, event: SettingChanged, value: Any) -> Any:
        """Return what `value` stands for: a bad luck of None is each worker's own, as at the start."""
        is_own = event.name == "bad luck" and value is None
        return self._initial.get((event.name, event.key)) if is_own else value

    @property
    def last(self) -> SettingChanged | None:
        """The change to undo next."""
        return self.history[-1] if self.history else None

    def value(self, name: str, default: Any = None, key: str = "") -> Any:
        """Return the present value, `default` if it is not known."""
        return self._values.get((name, key), default)

    @property
    def is_paused(self) -> bool:
        """Whether new attempts are held back."""
        return self.value("paused") is True

    @property
    def changed(self) -> list[tuple[str, str, Any, Any]]:
        """Settings that differ from the start: (name, key, value, value at the start)."""
        return [(*at, value, self._initial[at]) for at, value in self._values.items() if value != self._initial[at]]
