"""Settings of a run, folded from their events."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from asyncwatch.events import SettingChanged
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.limits import CHANGES_KEPT
from tests.model.stream import Stream


def changed(*changes: tuple[str, Any, Any], undone: int = 0) -> Fleet:
    """Return a fleet whose settings were changed: (name, value, previous). The last `undone` changes are undos."""
    stream = Stream()
    for left, (name, value, previous) in zip(reversed(range(len(changes))), changes, strict=True):
        stream.add(SettingChanged, name=name, value=value, previous=previous, is_undo=left < undone)
    return stream.fold()


def test_settings_history_keeps_the_last_changes() -> None:
    times = 2 * CHANGES_KEPT
    settings = changed(*((("concurrency", number + 1, number)) for number in range(times))).settings
    assert (len(settings.history), settings.applied) == (CHANGES_KEPT, times)
    assert settings.last is not None
    assert settings.last.value == times


def test_undo_removes_the_last_change_from_the_history() -> None:
    changes = [("concurrency", 20, 10), ("rate", "5/s", None)]
    settings = changed(*changes).settings
    assert settings.last is not None
    assert settings.last.name == "rate"
    settings = changed(*changes, ("rate", None, "5/s"), undone=1).settings
    assert settings.last is not None
    assert settings.last.name == "concurrency"
    settings = changed(*changes, ("rate", None, "5/s"), ("concurrency", 10, 20), undone=2).settings
    assert settings.last is None
    assert settings.changed == []


def test_change_back_that_is_no_undo_stays_in_the_history() -> None:
    steps = [("concurrency", 110, 100), ("concurrency", 121, 110), ("concurrency", 110, 121)]
    assert [change.value for change in changed(*steps).settings.history] == [110, 121, 110]
    settings = changed(*steps, ("concurrency", 121, 110), undone=1).settings
    assert [change.value for change in settings.history] == [110, 121]


def test_resume_removes_the_pause_from_the_history() -> None:
    assert changed(("paused", True, False), ("paused", False, True)).settings.last is None


def test_changed_settings_are_compared_with_the_start_of_the_run() -> None:
    settings = changed(("concurrency", 20, 10), ("concurrency", 30, 20), ("paused", True, False)).settings
    assert settings.changed == [("concurrency", "", 30, 10), ("paused", "", True, False)]
    assert settings.value("concurrency") == 30
    assert settings.is_paused
    assert settings.value("rate", "none", key="host") == "none"


def test_settings_start_with_the_values_of_the_run_and_bad_luck_none_restores_them() -> None:
    stream = Stream()
    stream.events[0] = replace(stream.events[0], rate="5/s", rate_per_key="2/s", bad_luck=0.9)
    stream.add(SettingChanged, name="bad luck", value=0.5, previous=None)
    stream.add(SettingChanged, name="bad luck", value=None, previous=0.5)
    settings = stream.fold().settings
    assert [settings.value(name) for name in ("rate", "rate per key", "bad luck", "paused")] == [
        "5/s",
        "2/s",
        0.9,
        False,
    ]
    assert settings.changed == []
