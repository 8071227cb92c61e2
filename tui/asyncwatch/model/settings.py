"""The settings of a run that can be changed while it goes on, and what undoes the last change. Pure."""

from __future__ import annotations

from collections import deque
from typing import Any

from asyncwatch.events import RunStarted, SettingChanged

CHANGES_KEPT = 1_000


class Settings:
    """What the events tell of `events.SETTINGS`."""

    def __init__(self) -> None:
        self.history: deque[SettingChanged] = deque(maxlen=CHANGES_KEPT)
        """The last changes that can be undone, oldest first."""
        self.applied = 0
        """Changes in all."""
        self._values: dict[tuple[str, str], Any] = {}
        self._initial: dict[tuple[str, str], Any] = {}

    def start(self, event: RunStarted) -> None:
        """Fold what the settings are at the start."""
        told = {
            "concurrency": event.concurrency,
            "rate": event.rate,
            "rate per key": event.rate_per_key,
            "bad luck": event.bad_luck,
            "paused": event.paused,
        }
        self._initial = {(name, ""): value for name, value in told.items()}
        self._values = dict(self._initial)

    def apply(self, event: SettingChanged) -> None:
        """Fold one change."""
        self.applied += 1
        at = event.name, event.key
        self._initial.setdefault(at, event.previous)
        self._values[at] = self.meant(event, event.value)
        last = self.last
        # A pause that is over leaves nothing to be undone: nobody wants it back.
        is_undone = event.is_undo or event.name == "paused"
        if is_undone and last is not None and (last.name, last.key, last.previous) == (*at, event.value):
            self.history.pop()
        else:
            self.history.append(event)

    def meant(self, event: SettingChanged, value: Any) -> Any:
        """Return what a value of that setting stands for: no bad luck is that of the workers, as at first."""
        is_own = event.name == "bad luck" and value is None
        return self._initial.get((event.name, event.key)) if is_own else value

    @property
    def last(self) -> SettingChanged | None:
        """The change that is to be undone next."""
        return self.history[-1] if self.history else None

    def value(self, name: str, default: Any = None, key: str = "") -> Any:
        """Return the present value, `default` for what nobody has told."""
        return self._values.get((name, key), default)

    @property
    def is_paused(self) -> bool:
        """Whether no new attempts start."""
        return self.value("paused") is True

    @property
    def changed(self) -> list[tuple[str, str, Any, Any]]:
        """Every setting that is not what it was at first: (name, key, value, value at first)."""
        return [(*at, value, self._initial[at]) for at, value in self._values.items() if value != self._initial[at]]
