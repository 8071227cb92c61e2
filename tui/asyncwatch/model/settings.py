"""The settings that were changed while the run went on, and what undoes the last change. Pure."""

from __future__ import annotations

from typing import Any

from asyncwatch.events import SettingChanged


class Settings:
    """What the events tell of `events.SETTINGS`."""

    def __init__(self) -> None:
        self.history: list[SettingChanged] = []
        """The changes that stand, oldest first: one that reverses the last one takes it away."""
        self.applied = 0
        """Changes in all."""
        self._values: dict[tuple[str, str], Any] = {}
        self._initial: dict[tuple[str, str], Any] = {}

    def apply(self, event: SettingChanged) -> None:
        """Fold one change."""
        self.applied += 1
        at = event.name, event.key
        self._initial.setdefault(at, event.previous)
        self._values[at] = event.value
        last = self.last
        if (
            last is not None
            and (last.name, last.key) == at
            and (last.previous, last.value)
            == (
                event.value,
                event.previous,
            )
        ):
            self.history.pop()
        else:
            self.history.append(event)

    @property
    def last(self) -> SettingChanged | None:
        """The change that is to be undone next."""
        return self.history[-1] if self.history else None

    def value(self, name: str, default: Any = None, key: str = "") -> Any:
        """Return the present value, `default` while nobody has changed it."""
        return self._values.get((name, key), default)

    @property
    def is_paused(self) -> bool:
        """Whether no new attempts start."""
        return self.value("paused") is True

    @property
    def changed(self) -> list[tuple[str, str, Any, Any]]:
        """Every setting that is not what it was at first: (name, key, value, value at first)."""
        return [(*at, value, self._initial[at]) for at, value in self._values.items() if value != self._initial[at]]
