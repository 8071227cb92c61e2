"""Services that crash again and again: when they flap, and what is known of their crashes."""

from __future__ import annotations

from typing import Any

import pytest

from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    ChildRemoved,
    RestartScheduled,
    RunStarted,
    SupervisorStarted,
    WorkerFailed,
    WorkerReady,
    WorkerRestarted,
    WorkersQueued,
)
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.services import CRASHES_KEPT, RETURNED, SLOT, SLOTS_KEPT
from asyncwatch.model.view.groups import Clustering
from asyncwatch.model.view.selection import View
from asyncwatch.policies.restart import DEFAULT_FLAPPING, Flapping
from asyncwatch.policies.settings import SettingError

FLAPPING = Flapping(per_minute=2, per_ten_minutes=3, stable=10.0)
STACK = '  File "/srv/app/web.py", line 7, in serve\n'


class Services:
    """The services `web` and `db` below a root, at times that a test says."""

    def __init__(self, flapping: Flapping | None = FLAPPING) -> None:
        self.fleet = Fleet()
        self._seq = 0
        facts = ("shop", 2, "serve", 7, 10, None, 1_000.0)
        self._apply(RunStarted(0, 0.0, *facts, flapping=flapping))
        self.add(SupervisorStarted, 0.0, "root", "", "one_for_one", 9, 5.0, "never")
        for name in ("web", "db"):
            self.add(WorkersQueued, 0.0, "root", 1, (name,))
            self.begin(name, 0.0, 1)

    def _apply(self, event: Any) -> None:
        apply(self.fleet, [event])
        self._seq += 1

    def add(self, kind: Any, at: float, *facts: Any) -> None:
        self._apply(kind(self._seq, at, *facts))

    def begin(self, name: str, at: float, incarnation: int) -> None:
        self.add(AttemptStarted, at, name, incarnation, 1, 0.5)
        self.add(WorkerReady, at, name, incarnation)

    def crash(self, name: str, at: float, cause: str = "OSError: gone", *, comes_back: bool = True) -> None:
        row = self.fleet.by_name[name]
        if cause == "normal":
            self.add(RestartScheduled, at, name, row.incarnation, 0.0, cause)
        else:
            kind, _, text = cause.partition(": ")
            self.add(AttemptFailed, at, name, row.incarnation, 1, kind, text, False, False, 0.1, STACK)
            self.add(WorkerFailed, at, name, row.incarnation, 1, 0.1, kind, text)
            if comes_back:
                self.add(RestartScheduled, at, name, row.incarnation, 0.0, cause)
        if comes_back:
            self.add(WorkerRestarted, at, name, row.incarnation + 1)
            self.begin(name, at, row.incarnation)

    def up(self, now: float) -> tuple[int, int, int]:
        """Return how many services are up, recover, and flap."""
        services = self.fleet.services(now)
        return services.up, services.recovering, services.flapping


@pytest.mark.parametrize(
    ("restarts", "until"),
    [
        ([100.0, 110.0], float("-inf")),
        ([100.0, 110.0, 120.0], 160.0),
        ([100.0, 170.0, 240.0, 310.0], 700.0),
        ([0.0, 170.0, 240.0, 310.0, 320.0], 770.0),
    ],
    ids=["twice", "three in a minute", "four in ten minutes", "the last ones count"],
)
def test_service_flaps_while_its_restarts_are_too_many(restarts: list[float], until: float) -> None:
    assert FLAPPING.until(restarts) == until


def test_limits_of_flapping_are_checked() -> None:
    assert Flapping(per_minute=0).until([5.0]) == 65.0
    with pytest.raises(SettingError, match="per_minute"):
        Flapping(per_minute=-1)


def test_services_count_as_up_when_they_have_been_stable() -> None:
    run = Services()
    assert run.up(0.1) == (2, 0, 0)
    run.crash("web", 20.0)
    assert run.up(29.0) == (1, 1, 0)
    assert run.up(30.0) == (2, 0, 0)


@pytest.mark.parametrize("cause", ["OSError: gone", "normal"])
def test_service_in_a_loop_is_flapping_and_not_up(cause: str) -> None:
    run = Services()
    for at in (20.0, 21.0, 22.0):
        run.crash("web", at, cause)
    web = run.fleet.by_name["web"]
    assert run.up(23.0) == run.up(79.9) == (1, 0, 1)
    assert run.fleet.is_flapping(web, 79.9)
    assert run.up(80.1) == (2, 0, 0)


def test_restart_by_a_person_is_no_flapping() -> None:
    run = Services()
    for incarnation in range(2, 9):
        run.add(WorkerRestarted, float(incarnation), "web", incarnation)
        run.begin("web", float(incarnation), incarnation)
    assert run.up(9.0) == (1, 1, 0)


def test_service_that_gave_up_is_not_flapping() -> None:
    run = Services()
    for at in (20.0, 21.0, 22.0):
        run.crash("web", at)
    run.crash("web", 23.0, comes_back=False)
    assert run.up(24.0) == (1, 0, 0)
    assert len(run.fleet.restarts.by_worker["web"].crashes) == 4


def test_default_limits_hold_for_runs_that_do_not_say_theirs() -> None:
    assert Services(flapping=None).fleet.flapping == DEFAULT_FLAPPING


def test_crashes_of_all_incarnations_are_kept_with_their_places() -> None:
    run = Services()
    run.crash("web", 20.0)
    run.crash("web", 21.0, "normal")
    first, second = run.fleet.restarts.by_worker["web"].crashes
    assert (first.at, first.incarnation, first.cause) == (20.0, 1, "OSError: gone")
    assert (first.place, first.delay) == ("/srv/app/web.py:7 serve", 0.0)
    assert (second.cause, second.place) == (RETURNED, "")


def test_crashes_and_slots_are_bounded() -> None:
    run = Services()
    for number in range(CRASHES_KEPT + 20):
        run.crash("web", number * SLOT / 2)
    history = run.fleet.restarts.by_worker["web"]
    assert (history.times, len(history.crashes), len(history.slots)) == (120, CRASHES_KEPT, SLOTS_KEPT)
    assert history.last_hour(run.fleet.latest) == [2] * (SLOTS_KEPT - 1)
    assert history.last_hour(run.fleet.latest + 3_600) == [0] * (SLOTS_KEPT - 1)


def test_errors_of_earlier_incarnations_are_clustered() -> None:
    run = Services()
    for at in (20.0, 21.0):
        run.crash("web", at)
        run.crash("db", at, "ValueError: 7")
    run.crash("db", 22.0)
    fleet = run.fleet
    clustering = Clustering(fleet.notable(), fleet.stack, fleet.restarts.by_worker)
    assert not clustering.work(lambda: False)
    gone, value = clustering.clusters()
    assert (gone.kind, gone.crashes, gone.last_at, gone.example) == ("OSError: gone", 3, 22.0, "OSError: gone")
    assert [row.name for row in gone.rows] == ["web", "db"]
    assert (value.kind, value.crashes, [row.name for row in value.rows]) == ("ValueError: …", 2, ["db"])
    view = View(fleet)
    view.cluster = value.key
    assert [row.name for row in view.order()] == ["db"]


def test_trouble_has_flapping_services_until_they_calm_down() -> None:
    run = Services()
    view = View(run.fleet)
    view.trouble_only = True
    for at in (20.0, 21.0, 22.0):
        run.crash("web", at)
    view.touched(run.fleet.rows)
    view.pass_time(30.0)
    view.resort()
    assert [row.name for row in view.order()] == ["web"]
    view.pass_time(90.0)
    view.resort()
    assert not view.order()


def test_flapping_services_are_counted_for_each_supervisor_above() -> None:
    run = Services()
    run.add(SupervisorStarted, 1.0, "root/low", "root", "one_for_one", 9, 5.0, "never")
    run.add(WorkersQueued, 1.0, "root/low", 1, ("low/x",))
    run.begin("low/x", 1.0, 1)
    for at in (20.0, 21.0, 22.0):
        run.crash("web", at)
        run.crash("low/x", at)
    assert run.fleet.flapping_by_branch(23.0) == {"root": 2, "root/low": 1}
    assert not run.fleet.flapping_by_branch(90.0)


def test_forgotten_service_flaps_no_more() -> None:
    run = Services()
    for at in (20.0, 21.0, 22.0):
        run.crash("web", at)
    run.fleet.restarts.forget("web")
    assert run.up(23.0)[2] == 0
    run.add(ChildRemoved, 24.0, "root", "web")
