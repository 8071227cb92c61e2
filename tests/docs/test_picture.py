"""The picture of the README shows what the program draws for the command beside it."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from asyncwatch import current_worker
from asyncwatch.config.load import demo_config
from asyncwatch.events import SETTLED, Event, WorkerEnded, WorkerState
from asyncwatch.plan import build
from asyncwatch.plan.demo import is_eventful
from asyncwatch.plan.plan import Plan
from asyncwatch.targets.demo_site import DemoSite
from asyncwatch.testing import run_jumping
from tests.docs.picture import PICTURE, SIZE, command, lines_of, plan_of, without_figures
from tests.ui.fakes import FakeController, make_app, shows, text_of

DRAWN = lines_of(PICTURE.read_text(encoding="utf-8"))


def events_until(plan: Plan, settled: int, monkeypatch: pytest.MonkeyPatch) -> list[Event]:
    """Run the demo without its network, each call as long as the site would take. Return its events up to a moment."""
    site = DemoSite(plan.seed)

    async def visit() -> int:
        worker = current_worker()
        assert worker is not None
        await asyncio.sleep(site.latency(worker.name, worker.incarnation, worker.attempt))
        return 200

    async def open_visit(*_: object) -> tuple[Any, None]:
        return visit, None

    async def main() -> list[Event]:
        async with build.open_run(plan) as run:
            queue = run.subscribe()
            driving = asyncio.create_task(build.drive(plan, run))
            events: list[Event] = []
            while sum(isinstance(event, WorkerEnded) for event in events) < settled:
                events += await queue.get()
            await driving
        return events

    monkeypatch.setattr(build._Targets, "open", open_visit)
    return run_jumping(main)


def rows_of(lines: list[str]) -> list[tuple[str, ...]]:
    """Return what the table shows of each worker that does not depend on the time."""
    row = re.compile(r"[ ›]*(\d+) +(\S [a-z]+(?: [a-z]+)?) +(\d/\d) +[━╸╺─]+ (\d\.\d\d)( ↯)? +(\S+)")
    return [found.groups() for line in lines if (found := row.match(line))]


async def test_picture_agrees_with_what_the_program_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(command())
    counts = re.findall(r"\S (\d+) ([a-z ]+?)(?:  |$)", DRAWN[2])
    settled = sum(int(number) for number, state in counts if WorkerState(state) in SETTLED)
    events = await asyncio.to_thread(events_until, plan, settled, monkeypatch)
    controller = FakeController()
    controller.early = [events]
    budget = re.search(r"retry budget \S+ (\d+) of", "\n".join(DRAWN))
    controller.retry_tokens = float(budget[1]) if budget else 500.0
    app = make_app(controller)
    async with app.run_test(size=SIZE):
        texts = ["› ", *(["retry budget"] if budget else []), *(f"{number} {state}" for number, state in counts)]
        await shows(app, *texts)
        drawn = text_of(app).splitlines()
    assert rows_of(drawn) == rows_of(DRAWN)
    assert len(rows_of(drawn)) == 20
    assert [without_figures(line) for line in drawn if line.strip()] == [
        without_figures(line) for line in DRAWN if line
    ]


def test_picture_has_something_to_see() -> None:
    plan = plan_of(command())
    assert is_eventful(plan.seed, demo_config().groups[0], plan.groups[0].names)
    states = {state for _, state, *_ in rows_of(DRAWN)}
    assert {"● running", "✓ succeeded"} < states
    assert states & {"✗ failed", "⊘ exhausted"}
    assert any(retries[0] != "0" and state == "✓ succeeded" for _, state, retries, *_ in rows_of(DRAWN))
