"""Progress and status that an attempt reports of itself."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from typing import Any

import pytest

from asyncwatch import RetryPolicy, Run, current_worker
from asyncwatch.engine.current import CurrentWorker
from asyncwatch.events import Event, ProgressReported, WorkerState
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.ui.render.columns import arrange, cells
from asyncwatch.ui.render.details import facts
from tests.clock import run_jumping
from tests.engine.fleets import drain, worker


def me() -> CurrentWorker:
    found = current_worker()
    assert found is not None
    return found


def events_of(run: Any, *specs: Any, **settings: Any) -> list[Event]:
    """Return all events of a run of `specs`."""

    async def main() -> list[Event]:
        batch = Run(specs, seed=1, **settings)
        queue = batch.subscribe()
        await batch.gather()
        return drain(queue)

    answer: list[Event] = run(main)
    return answer


def reports(events: list[Event]) -> list[ProgressReported]:
    return [event for event in events if isinstance(event, ProgressReported)]


def test_progress_and_status_are_reported_together(run: Any) -> None:
    async def target() -> None:
        me().progress(3, 10, "page")
        await asyncio.sleep(1)
        me().status("waiting for export")
        await asyncio.sleep(1)

    first, second = reports(events_of(run, worker("a", target)))
    assert (first.worker, first.attempt, first.done, first.total, first.unit, first.status) == (
        "a",
        1,
        3,
        10,
        "page",
        "",
    )
    assert (second.done, second.total, second.unit, second.status) == (3, 10, "page", "waiting for export")


def report_many(start: int) -> None:
    for number in range(start, start + 100):
        me().progress(number)


def are_spaced(told: list[ProgressReported]) -> bool:
    """Return whether there are at most ten events a second; the last one may come early."""
    return all(after.at - before.at >= 0.099 for before, after in itertools.pairwise(told[:-1]))


def test_calls_in_a_row_are_at_most_ten_events_a_second_and_the_last_value_gets_out() -> None:
    async def target() -> None:
        for start in range(0, 2_000, 100):
            report_many(start)
            await asyncio.sleep(0.05)
        me().progress(5_000)

    told = reports(events_of(run_jumping, worker("a", target)))
    assert told[-1].done == 5_000
    assert 9 <= len(told) <= 12
    assert are_spaced(told)


def test_calls_in_threads_are_at_most_ten_events_a_second_and_the_last_value_gets_out() -> None:
    async def target() -> None:
        for start in range(0, 2_000, 100):
            await asyncio.to_thread(report_many, start)

    told = reports(events_of(lambda main: asyncio.run(main()), worker("a", target)))
    assert told[-1].done == 1_999
    assert are_spaced(told)


@pytest.mark.parametrize("ending", ["returns", "raises", "is cancelled", "ignores its cancellation"])
def test_last_value_comes_before_the_end_of_the_attempt(run: Any, ending: str) -> None:
    async def stubborn() -> None:
        while True:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            me().progress(3)

    async def target() -> None:
        me().progress(1)
        me().progress(2)
        match ending:
            case "raises":
                raise KeyError
            case "is cancelled":
                await asyncio.sleep(60)
            case "ignores its cancellation":
                await stubborn()

    async def main() -> list[str]:
        batch = Run([worker("a", target)], seed=1, grace=1)
        queue = batch.subscribe()
        task = asyncio.create_task(batch.gather())
        await asyncio.sleep(0.05)
        batch.cancel_all()
        await task
        return [
            str(event.done) if isinstance(event, ProgressReported) else type(event).__name__ for event in drain(queue)
        ]

    told = run(main)
    end = next(
        number
        for number, name in enumerate(told)
        if name.startswith(("AttemptFailed", "WorkerS", "WorkerC", "WorkerU"))
    )
    assert told[end - 1] == ("3" if ending.startswith("ignores") else "2")
    assert not {"1", "2", "3"} & set(told[end:])


def test_new_attempt_starts_without_progress(run: Any) -> None:
    async def target() -> None:
        if me().attempt == 1:
            me().progress(7, 9)
            me().status("busy")
            raise TimeoutError
        await asyncio.sleep(1)

    fleet, told = Fleet(), []
    for event in events_of(run, worker("a", target, retry=RetryPolicy(max_attempts=2, base=0.0, cap=0.0))):
        apply(fleet, [event])
        if fleet.rows:
            told.append((fleet.rows[0].state, fleet.rows[0].last_report))
    assert (WorkerState.RUNNING, "7/9: busy") in told
    assert told[-1] == (WorkerState.SUCCEEDED, "")


def test_report_after_the_end_and_of_an_abandoned_attempt_is_dropped(run: Any) -> None:
    kept: list[CurrentWorker] = []
    release: list[asyncio.Event] = []

    async def target() -> None:
        kept.append(me())
        if me().incarnation == 1:
            release.append(asyncio.Event())
            while not release[0].is_set():
                try:
                    await release[0].wait()
                except asyncio.CancelledError:
                    continue
            me().progress(99)
        else:
            release[0].set()
            await asyncio.sleep(1)

    async def main() -> list[Event]:
        batch = Run([worker("a", target)], seed=1, grace=1)
        queue = batch.subscribe()
        async with batch:
            task = asyncio.create_task(batch.gather())
            await asyncio.sleep(0.1)
            batch.cancel_all()
            await task
            assert batch.restart("a")
            await asyncio.sleep(2)
        kept[0].progress(100)
        return drain(queue)

    assert reports(run(main)) == []


def test_report_from_a_thread_without_the_context_is_shown() -> None:
    async def target() -> None:
        worker_handle = me()
        thread = threading.Thread(target=worker_handle.progress, args=(4,))
        thread.start()
        thread.join()
        await asyncio.sleep(0)

    (told,) = reports(events_of(run_jumping, worker("a", target)))
    assert told.done == 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_number_that_is_not_finite_is_refused(run: Any, bad: float) -> None:
    async def target() -> None:
        with pytest.raises(ValueError, match="must be a finite number"):
            me().progress(bad)
        with pytest.raises(ValueError, match="total must be a finite number"):
            me().progress(1, bad)

    assert reports(events_of(run, worker("a", target))) == []


def test_worker_without_reports_has_no_progress_object(run: Any) -> None:
    seen: list[Any] = []

    async def target() -> None:
        seen.append(me())

    events_of(run, worker("a", target))
    assert seen[0].reported is None


def test_details_show_the_progress_and_afterwards_the_last_one(run: Any) -> None:
    async def target() -> None:
        me().progress(3, 10, "page")
        await asyncio.sleep(1)

    fleet, pages = Fleet(), []
    for event in events_of(run, worker("a", target)):
        apply(fleet, [event])
        if fleet.rows:
            pages.append("".join(span.text for line in facts(fleet, fleet.rows[0], event.at, 120) for span in line))
    assert any("progress 3/10 page" in page and "last progress" not in page for page in pages)
    assert "last progress 3/10 page" in pages[-1]


def test_row_shows_progress_and_while_the_attempt_runs_its_status(run: Any) -> None:
    async def target() -> str:
        me().progress(3, 10, "page")
        me().status("waiting for\nexport")
        await asyncio.sleep(1)
        return "all"

    fleet, texts = Fleet(), []
    for event in events_of(run, worker("a", target)):
        apply(fleet, [event])
        if fleet.rows:
            layout = arrange(160, 1, 40, 20, without=())
            line = cells(fleet.rows[0], event.at, layout, is_selected=False, is_marked=False)
            texts.append("".join(span.text for span in line))
    assert any("3/10 page" in text and "waiting for export" in text for text in texts)
    assert "3/10 page" in texts[-1]
    assert "waiting for export" not in texts[-1]
    assert "all" in texts[-1]
