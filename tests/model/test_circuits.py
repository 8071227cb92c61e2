"""Circuits and settings, as their events tell of them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from asyncwatch.events import (
    AttemptHeld,
    CircuitClosed,
    CircuitHalfOpened,
    CircuitIsolated,
    CircuitOpened,
    CircuitProbed,
    SettingChanged,
)
from asyncwatch.model.circuits import waiting_by_key
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.settings import CHANGES_KEPT
from tests.model.stream import Stream


def test_a_circuit_is_followed_through_its_states() -> None:
    """Opened, half open, isolated, closed: each since its own time, with why it opened."""
    stream = Stream()
    stream.now = 2.0
    stream.add(CircuitOpened, key="h", attempts=20, failures=12, seconds=5.0)
    circuit = stream.fold().circuits.by_key["h"]
    assert (circuit.state, circuit.since, circuit.open_until) == ("open", 2.0, 7.0)
    assert (circuit.attempts, circuit.failures, circuit.opened) == (20, 12, 1)
    stream.now = 7.0
    stream.add(CircuitHalfOpened, key="h", probes=2)
    circuit = stream.fold().circuits.by_key["h"]
    assert (circuit.state, circuit.since, circuit.open_until, circuit.probes) == ("half open", 7.0, None, 2)
    assert (circuit.probes_under_way, circuit.probes_free) == (0, 2)
    stream.add(CircuitProbed, key="h", under_way=1, free=1)
    circuit = stream.fold().circuits.by_key["h"]
    assert (circuit.state, circuit.since, circuit.probes_under_way, circuit.probes_free) == ("half open", 7.0, 1, 1)
    stream.add(CircuitIsolated, key="h")
    assert [circuit.state for circuit in stream.fold().circuits.not_closed] == ["isolated"]
    stream.add(CircuitClosed, key="h")
    fleet = stream.fold()
    assert fleet.circuits.not_closed == []
    assert fleet.circuits.by_key["h"].opened == 1


def test_those_who_wait_are_found_by_key() -> None:
    """Only those held by a circuit count, and a key is known from the first of them on."""
    stream = Stream("a", "b", "c")
    stream.add(AttemptHeld, "a", attempt=1, key="h", reason="circuit")
    stream.add(AttemptHeld, "b", attempt=1, key="h", reason="rate")
    stream.add(AttemptHeld, "c", attempt=1, key="i", reason="circuit")
    fleet = stream.fold()
    assert {key: [row.name for row in rows] for key, rows in waiting_by_key(fleet.rows).items()} == {
        "h": ["a"],
        "i": ["c"],
    }
    assert list(fleet.circuits.by_key) == ["h", "i"]


def changed(*changes: tuple[str, Any, Any], undone: int = 0) -> Fleet:
    """Return a fleet whose settings were changed: (name, value, previous); the last ones of them by an undo."""
    stream = Stream()
    for left, (name, value, previous) in zip(reversed(range(len(changes))), changes, strict=True):
        stream.add(SettingChanged, name=name, value=value, previous=previous, is_undo=left < undone)
    return stream.fold()


def test_only_the_last_changes_can_be_undone() -> None:
    """A program may change a setting for as long as it runs; all changes are counted."""
    times = 2 * CHANGES_KEPT
    settings = changed(*((("concurrency", number + 1, number)) for number in range(times))).settings
    assert (len(settings.history), settings.applied) == (CHANGES_KEPT, times)
    assert settings.last is not None
    assert settings.last.value == times


def test_the_last_change_is_the_one_to_undo() -> None:
    """An undo takes it off the history; the one before is next."""
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


def test_a_step_back_is_a_change_as_well() -> None:
    """Only an undo takes a change off; a step down after two steps up makes three, each undone by itself."""
    steps = [("concurrency", 110, 100), ("concurrency", 121, 110), ("concurrency", 110, 121)]
    assert [change.value for change in changed(*steps).settings.history] == [110, 121, 110]
    settings = changed(*steps, ("concurrency", 121, 110), undone=1).settings
    assert [change.value for change in settings.history] == [110, 121]


def test_a_pause_that_is_over_is_not_undone() -> None:
    """To go on takes the pause off the history, by whatever key: nobody wants it back."""
    assert changed(("paused", True, False), ("paused", False, True)).settings.last is None


def test_settings_are_compared_with_the_first_value() -> None:
    """What counts is how a setting was when the run started, not before the last change."""
    settings = changed(("concurrency", 20, 10), ("concurrency", 30, 20), ("paused", True, False)).settings
    assert settings.changed == [("concurrency", "", 30, 10), ("paused", "", True, False)]
    assert settings.value("concurrency") == 30
    assert settings.is_paused
    assert settings.value("rate", "none", key="host") == "none"


def test_settings_begin_as_the_run_says() -> None:
    """The first event tells what they are; a threshold that is taken back is that of the workers again."""
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
