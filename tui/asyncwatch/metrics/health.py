"""Whether a run is healthy, and whether it is ready: for a supervisor or a load balancer outside. Pure.

Reasons are sentences without names of workers and without messages of errors.
"""

from __future__ import annotations

from asyncwatch.commands import Statistics
from asyncwatch.model.fleet import Fleet
from asyncwatch.text import count

BLOCKED_FOR = 30.0
"""Seconds for which the event loop of the work may be blocked in a healthy run."""


class Health:
    """Says what is wrong with the run whose state is `fleet`."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._has_started = False

    def why_unhealthy(self, statistics: Statistics) -> str:
        """Return why the run cannot do its work any more; empty if it can."""
        fleet = self._fleet
        if fleet.finished is not None:
            return "the run has ended"
        if ending := fleet.tree.ending:
            return f"no service runs any more: {ending}"
        blocked = statistics.blocked
        if blocked is not None and blocked.duration >= BLOCKED_FOR:
            return f"the event loop has been blocked for {blocked.duration:.0f} s"
        return ""

    def why_not_ready(self, statistics: Statistics, now: float) -> str:
        """Return why the run is not ready at `now`, in seconds since the run started; empty if it is.

        It is ready when it has started, with all its services, none of them flaps, and it is not stopping.
        """
        fleet = self._fleet
        if fleet.run is None:
            return "the run has not started yet"
        if reason := self.why_unhealthy(statistics):
            return reason
        if fleet.cancel_requested is not None:
            return "the run is stopping"
        if fleet.run.flapping is None:
            return ""  # there is no tree
        if left := self._not_started():
            return f"{count(left, 'service')} {'has' if left == 1 else 'have'} not started yet"
        flapping = fleet.services(now).flapping
        return f"{count(flapping, 'service')} {'flaps' if flapping == 1 else 'flap'}" if flapping else ""

    def _not_started(self) -> int:
        """Return how many services have not started, those that do so now included; 0 once all have."""
        fleet = self._fleet
        if self._has_started or fleet.run is None:
            return 0
        left, newest = max(0, fleet.run.workers - fleet.workers), fleet.tree.newest
        if newest is not None and not (newest.is_ready or newest.is_settled or newest.incarnation > 1):
            left += 1
        self._has_started = not left and fleet.tree.is_supervised
        return left
