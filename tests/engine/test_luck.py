"""Bad luck in a run: added latency and injected faults."""

from __future__ import annotations

from typing import Any

from asyncwatch import BadLuck, Run
from asyncwatch.events import AttemptFailed, AttemptStarted, Event
from tests.engine.fleets import drain, sleeper, worker


def test_added_latency_counts_against_the_attempt_timeout_and_precedes_a_fault(run: Any) -> None:
    async def main() -> list[Event]:
        slow = BadLuck(latency=(4.0, 4.0))
        struck = BadLuck(threshold=0.0, latency=(1.0, 1.0), faults=(ValueError,))
        specs = [
            worker("slow", sleeper, 1.0, bad_luck=slow, attempt_timeout=3.0),
            worker("b", sleeper, bad_luck=struck),
        ]
        batch = Run(specs, seed=1)
        queue = batch.subscribe()
        await batch.gather()
        return drain(queue)

    events = run(main)
    failures = [(e.worker, e.error_type, e.elapsed) for e in events if isinstance(e, AttemptFailed)]
    assert failures == [("b", "ValueError", 1.0), *[("slow", "AttemptTimeout", 3.0)] * 3]
    assert {e.worker: e.latency for e in events if isinstance(e, AttemptStarted)} == {"slow": 4.0, "b": 1.0}
