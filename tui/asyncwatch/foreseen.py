"""The first events of a run as its plan foresees them: the fleet is on the screen before the engine is there."""

from __future__ import annotations

import time

from asyncwatch.events import Batch, RunStarted, WorkersQueued
from asyncwatch.plan import Plan

FORESEEN = 1_000
"""Workers at the most that are shown beforehand: to take in more would take longer than the engine does."""


def foreseen_events(plan: Plan) -> Batch:
    """Return what the supervisor will tell first: that the run started, and who is queued. Imports nothing of it.

    Nothing if that cannot be foreseen, as in a tree, or if there are many workers.
    """
    config = plan.config
    workers = sum(len(group.names) for group in plan.groups)
    if config.is_tree or workers > FORESEEN:
        return ()
    thresholds = {group.settings.bad_luck.threshold for group in plan.groups}
    started = RunStarted(
        0,
        0.0,
        plan.name,
        workers,
        config.runner,
        plan.seed,
        config.concurrency,
        config.timeout,
        time.time(),
        rate=_shown_rate(config.rate, config.burst),
        rate_per_key=_shown_rate(config.rate_per_key, config.burst_per_key),
        bad_luck=thresholds.pop() if len(thresholds) == 1 else None,
    )
    queued = [
        WorkersQueued(seq, 0.0, group.settings.name, group.settings.retry.max_attempts, tuple(group.names))
        for seq, group in enumerate((group for group in plan.groups if group.names), start=1)
    ]
    return (started, *queued)


def _shown_rate(rate: str | None, burst: int | None) -> str | None:
    if rate is None:
        return None
    from asyncwatch.supervise.rate import parse_rate  # noqa: PLC0415  most runs have no limit

    return str(parse_rate(rate, burst))
