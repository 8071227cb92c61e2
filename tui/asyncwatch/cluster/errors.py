"""What can go wrong with a cluster."""

from __future__ import annotations

from asyncwatch.engine.lifespan import LifespanError


class ClusterError(LifespanError):
    """The cluster cannot be used: it does not start, does not answer, or cannot run the functions of the run."""


class SchedulerLost(ClusterError):  # noqa: N818  what happened
    """The scheduler of the cluster has gone in the middle of the run, and with it all attempts."""
