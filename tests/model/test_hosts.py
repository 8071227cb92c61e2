"""The processes of a cluster, as a fleet knows them."""

from __future__ import annotations

from asyncwatch.events import (
    AttemptPlaced,
    AttemptStarted,
    HostFigures,
    HostJoined,
    HostLost,
    HostsReported,
    RunStarted,
    WorkersQueued,
)
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.hosts import LOST_KEPT
from asyncwatch.model.reducer import apply

HEAD = (
    RunStarted(0, 0.0, "run", 1, "wait", 7, 1, None, 0.0),
    WorkersQueued(1, 0.0, "g", 3, ("a",)),
    HostJoined(2, 0.5, "h:1", 2, 11),
    HostJoined(3, 0.5, "h:2", 1, 12),
)


def fleet_after(*events: object) -> Fleet:
    fleet = Fleet()
    apply(fleet, [*HEAD, *events])  # type: ignore[list-item]
    return fleet


def test_figures_of_a_process_are_those_reported_last() -> None:
    figures = HostFigures("h:1", 3, 50.0, 1_000, 0.25, 0.5)
    fleet = fleet_after(HostsReported(4, 2.0, (figures, HostFigures("unknown", 1, 1.0, 1, 0.0, 0.0))))
    first, second = fleet.hosts.present
    assert (first.host, first.attempts, first.cpu, first.memory, first.lag) == ("h:1", 3, 50.0, 1_000, 0.25)
    assert first.heard_at == 1.5
    assert (second.attempts, second.heard_at) == (0, 0.5)


def test_lost_process_is_kept_with_what_was_lost_and_counts_once() -> None:
    fleet = fleet_after(HostLost(4, 2.0, "h:1", "ended", 3), HostLost(5, 2.5, "h:1", "again", 9))
    assert [host.host for host in fleet.hosts.present] == ["h:2"]
    lost = fleet.hosts.by_address["h:1"]
    assert (lost.lost_at, lost.reason, lost.attempts, fleet.hosts.lost) == (2.0, "ended", 3, 1)


def test_only_the_latest_lost_processes_are_kept() -> None:
    events: list[object] = []
    for number in range(2 * LOST_KEPT):
        events.append(HostJoined(4 + len(events), 1.0, f"x:{number}", 1, 1))
        events.append(HostLost(4 + len(events), 1.0, f"x:{number}", "ended", 0))
    fleet = fleet_after(*events)
    assert len(fleet.hosts.by_address) == LOST_KEPT + 2
    assert fleet.hosts.lost == 2 * LOST_KEPT
    assert f"x:{2 * LOST_KEPT - 1}" in fleet.hosts.by_address


def test_worker_is_where_its_latest_attempt_was_placed() -> None:
    started = AttemptStarted(4, 1.0, "a", 1, 1, 0.5)
    fleet = fleet_after(started, AttemptPlaced(5, 1.0, "a", 1, 1, "h:2"), AttemptPlaced(6, 1.0, "a", 1, 9, "h:1"))
    assert fleet.hosts.by_worker == {"a": "h:2"}
