"""Attempts on a cluster: what they return and raise, how they are cancelled, and what becomes of lost ones."""

from __future__ import annotations

# ruff: noqa: ASYNC240, ASYNC110  files say what has happened in another process
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from asyncwatch import Outcome, RetryPolicy, WorkerSpec, WorkerState, in_thread
from asyncwatch.cluster.client import Cluster
from asyncwatch.cluster.errors import ClusterError
from asyncwatch.cluster.host import Host, Order
from asyncwatch.cluster.travel import pack
from asyncwatch.engine.run import Run
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import AttemptFailed, AttemptStarted, Event, LogRecorded, ProgressReported
from asyncwatch.policies.classify import AttemptLost
from tests.cluster import targets
from tests.cluster.conftest import PATIENCE, OpenCluster

AT_ONCE = RetryPolicy(max_attempts=1)


async def outcomes(
    cluster: Cluster, function: Callable[..., Any], items: Sequence[Any], **settings: Any
) -> tuple[dict[str, Outcome[Any]], list[Event]]:
    """Run a worker for each item; return their outcomes by name, and all events."""
    settings = {"retry": AT_ONCE} | settings
    call = cluster.remote(function)
    run = Run([WorkerSpec(f"{n}", call, (item,), **settings) for n, item in enumerate(items)], concurrency=10_000)
    events: list[Event] = []
    async with run:
        cluster.watch(control_of(run))
        queue = control_of(run).subscribe()
        done, _ = await run.wait()
        control_of(run).deliver_events()
        while not queue.empty():
            events += queue.get_nowait()
    return {outcome.name: outcome for outcome in done}, events


async def eventually(is_so: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while not is_so():
            await asyncio.sleep(0.005)
    assert is_so(), what


async def test_results_and_processes(open_cluster: OpenCluster) -> None:
    async with open_cluster([targets.where]) as cluster:
        found, _ = await outcomes(cluster, targets.where, range(20))
    pids = {outcome.result for outcome in found.values()}
    assert len(pids) == 2
    assert os.getpid() not in pids


async def test_function_by_value_travels(open_cluster: OpenCluster) -> None:
    offset = 100

    async def add(item: int) -> int:
        return item + offset

    async with open_cluster([add]) as cluster:
        found, _ = await outcomes(cluster, add, [1, 2])
    assert [outcome.result for outcome in found.values()] == [101, 102]


async def test_plain_function_runs_in_a_thread_and_can_be_cancelled(open_cluster: OpenCluster, tmp_path: Path) -> None:
    plain, endless = in_thread(targets.plain), in_thread(targets.plain_until_cancelled)
    async with open_cluster([plain, endless]) as cluster:
        found, _ = await outcomes(cluster, plain, [1])
        assert found["0"].result == 2
        path = tmp_path / "begun"
        run = Run([WorkerSpec("w", cluster.remote(endless), (str(path),))])
        async with run:
            waiting = asyncio.create_task(run.wait())
            await eventually(path.exists, "the function has begun")
            run.cancel("w")
            done, _ = await waiting
    assert done[0].state is WorkerState.CANCELLED


async def test_error_keeps_type_text_and_traceback(open_cluster: OpenCluster) -> None:
    async with open_cluster([targets.fail]) as cluster:
        found, events = await outcomes(cluster, targets.fail, [1])
    error = found["0"].error
    assert type(error) is ConnectionResetError
    assert str(error) == "no 1"
    failed = next(event for event in events if isinstance(event, AttemptFailed))
    assert "targets.py" in failed.stack
    assert "in fail\n" in failed.stack


async def test_error_that_cannot_be_pickled_has_its_name_base_and_cause(open_cluster: OpenCluster) -> None:
    async with open_cluster([targets.fail_unsendable]) as cluster:
        found, _ = await outcomes(cluster, targets.fail_unsendable, [1])
    error = found["0"].error
    assert type(error).__name__ == "NotSentError"
    assert isinstance(error, LookupError)
    assert str(error) == "1 and 2"
    assert type(error.__cause__) is ValueError


async def test_result_that_cannot_be_pickled_is_an_error_of_the_worker(open_cluster: OpenCluster) -> None:
    async with open_cluster([targets.unsendable]) as cluster:
        found, _ = await outcomes(cluster, targets.unsendable, [1])
    assert "the result cannot be sent" in str(found["0"].error)


async def test_large_result_travels(open_cluster: OpenCluster) -> None:
    async with open_cluster([targets.large]) as cluster:
        found, _ = await outcomes(cluster, targets.large, [1_000_000, 10])
    assert [len(outcome.result or b"") for outcome in found.values()] == [1_000_000, 10]


async def test_progress_status_prints_and_facts_of_the_worker(open_cluster: OpenCluster) -> None:
    async with open_cluster([targets.report]) as cluster:
        found, events = await outcomes(cluster, targets.report, [3])
    started = next(event for event in events if isinstance(event, AttemptStarted))
    assert found["0"].result == f"0 1 1 {started.bad_luck:.6f}"
    progress = [event for event in events if isinstance(event, ProgressReported)][-1]
    assert (progress.done, progress.total, progress.unit, progress.status) == (3, 10, "page", "half way")
    assert any(isinstance(event, LogRecorded) and event.message == "line 3" for event in events)


async def test_cancellation_in_the_middle_of_an_await_reaches_the_process(
    open_cluster: OpenCluster, tmp_path: Path
) -> None:
    path = tmp_path / "state"
    async with open_cluster([targets.sleep]) as cluster:
        run = Run([WorkerSpec("w", cluster.remote(targets.sleep), (str(path),))])
        async with run:
            waiting = asyncio.create_task(run.wait())
            await eventually(path.exists, "the attempt has begun")
            run.cancel("w")
            done, _ = await waiting
            assert path.read_text(encoding="utf-8") == "cancelled"  # before the run says so
    assert done[0].state is WorkerState.CANCELLED


async def test_cancelled_attempt_has_its_time_to_clean_up(open_cluster: OpenCluster, tmp_path: Path) -> None:
    path = tmp_path / "state"
    async with open_cluster([targets.clean_up]) as cluster:
        attempt = asyncio.create_task(cluster.remote(targets.clean_up)(str(path)))
        await eventually(path.exists, "the attempt has begun")
        attempt.cancel()
        await asyncio.wait({attempt})
        assert attempt.cancelled()
        assert path.read_text(encoding="utf-8") == "cleaned"


async def test_attempt_cancelled_on_its_way_does_not_begin(open_cluster: OpenCluster, tmp_path: Path) -> None:
    async with open_cluster([targets.sleep]) as cluster:
        call = cluster.remote(targets.sleep)
        attempts = [asyncio.create_task(call(str(tmp_path / f"{n}"))) for n in range(50)]
        await eventually(lambda: any(each.future is not None for each in cluster._flights.values()), "submitted")
        for attempt in attempts:
            attempt.cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait(attempts)
        assert all(attempt.cancelled() for attempt in attempts)
        assert {path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} <= {"cancelled"}


async def test_call_cancelled_before_its_first_step_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[tuple[str, str]] = []
    monkeypatch.setattr(Host, "_end", lambda _, key, kind, *__: ended.append((key, kind)))
    host = object.__new__(Host)
    host._loop, host._tasks, host._early = asyncio.get_running_loop(), {}, {}
    host._start([Order("key", "run", 0, b"", "", 1, 1, 0.0, "")])
    host._cancel(["key"])  # both came in one loop iteration
    await eventually(lambda: ended, "the call has ended")
    assert ended == [("key", "cancelled")]
    assert host._tasks == {}


async def test_end_that_arrives_with_the_cancellation_counts(open_cluster: OpenCluster, tmp_path: Path) -> None:
    path = tmp_path / "state"
    async with open_cluster([targets.sleep]) as cluster:
        attempt = asyncio.create_task(cluster.remote(targets.sleep)(str(path)))
        await eventually(path.exists, "the attempt has begun")
        (flight,) = cluster._flights.values()
        attempt.cancel()
        flight.end("result", pack(7, "the result"))
        async with asyncio.timeout(PATIENCE):
            assert await attempt == 7


async def test_attempt_timeout_takes_what_the_target_returns_when_cancelled(
    open_cluster: OpenCluster, tmp_path: Path
) -> None:
    path = str(tmp_path / "state")
    async with open_cluster([targets.refuse_to_end]) as cluster:
        found, _ = await outcomes(cluster, targets.refuse_to_end, [path], attempt_timeout=1.0)
    assert found["0"].result == "ended by itself"


async def test_killed_process_all_attempts_go_on_and_none_that_was_done_is_repeated(
    open_cluster: OpenCluster, tmp_path: Path
) -> None:
    count = 300
    items = [(str(tmp_path), number, 0.0 if number % 3 == 0 else -1.0) for number in range(count)]
    quick = [number for number in range(count) if number % 3 == 0]
    async with open_cluster([targets.note]) as cluster:
        running = asyncio.create_task(outcomes(cluster, targets.note, items))
        await eventually(lambda: len(list(tmp_path.iterdir())) == count, "all have begun")
        await eventually(lambda: len(cluster._flights) == count - len(quick), "the results of a third are here")
        victim = int((tmp_path / "1").read_text(encoding="utf-8"))
        os.kill(victim, signal.SIGKILL)
        (tmp_path / "go").touch()
        found, events = await running
    assert [outcome.result for outcome in found.values()] == list(range(count))
    lost = [event for event in events if isinstance(event, AttemptFailed)]
    assert {event.error_type for event in lost} == {"AttemptLost"}
    assert lost
    assert all((tmp_path / str(number)).read_text(encoding="utf-8").count("\n") == 1 for number in quick)
    twice = [number for number in range(count) if (tmp_path / str(number)).read_text(encoding="utf-8").count("\n") > 1]
    assert len(twice) == len(lost)


async def test_worker_lost_three_times_is_exhausted(open_cluster: OpenCluster) -> None:
    async with open_cluster([targets.die]) as cluster:
        found, events = await outcomes(cluster, targets.die, [1])
    assert found["0"].state is WorkerState.EXHAUSTED
    assert isinstance(found["0"].error, AttemptLost)
    assert found["0"].attempts == 3
    classes = [event.error_class for event in events if isinstance(event, AttemptFailed)]
    assert classes == ["lost", "lost", "transient"]


async def test_lifespan_is_entered_once_in_each_process(open_cluster: OpenCluster) -> None:
    async with open_cluster([targets.use], targets.lifespan) as cluster:
        found, _ = await outcomes(cluster, targets.use, range(10))
    values = [outcome.result or {} for outcome in found.values()]
    by_process = {
        value["pid"]: {other["entered"] for other in values if other["pid"] == value["pid"]} for value in values
    }
    assert len(by_process) == 2
    assert all(len(counts) == 1 for counts in by_process.values())


async def test_lifespan_is_left_in_each_process_and_its_error_is_logged(
    open_cluster: OpenCluster, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = str(tmp_path)

    @asynccontextmanager
    async def opened() -> AsyncIterator[int]:
        yield 1
        (Path(folder) / f"{os.getpid()}").touch()
        raise ValueError("cannot close")

    async with open_cluster([targets.use], opened):
        pass
    assert len(list(tmp_path.iterdir())) == 2
    assert caplog.text.count("the lifespan failed on its exit: ValueError: cannot close") == 2


async def test_lifespan_that_cannot_be_entered_is_said_before_the_run(open_cluster: OpenCluster) -> None:
    @asynccontextmanager
    async def opened() -> AsyncIterator[int]:
        raise ValueError("no database")
        yield 1

    with pytest.raises(ClusterError, match="the lifespan cannot be entered there: ValueError: no database"):
        async with open_cluster([targets.use], opened):
            pass


async def test_client_that_is_gone_has_its_attempts_cancelled(open_cluster: OpenCluster, tmp_path: Path) -> None:
    path = tmp_path / "state"
    cluster = open_cluster([targets.sleep], grace=1.0)
    async with cluster:
        call: Callable[[str], Coroutine[Any, Any, Any]] = cluster.remote(targets.sleep)
        waiting = asyncio.create_task(call(str(path)))
        await eventually(path.exists, "the attempt has begun")
        for task in cluster._tasks:  # it sends no more signs of life
            task.cancel()
        await eventually(lambda: path.read_text(encoding="utf-8") == "cancelled", "the attempt was cancelled")
        waiting.cancel()
        await asyncio.wait({waiting})


@pytest.mark.parametrize("count", [500])
async def test_many_attempts_cancelled_at_once(open_cluster: OpenCluster, count: int, tmp_path: Path) -> None:
    async with open_cluster([targets.sleep]) as cluster:
        call = cluster.remote(targets.sleep)
        run = Run([WorkerSpec(f"{n}", call, (str(tmp_path / f"{n}"),)) for n in range(count)], concurrency=count)
        async with run:
            waiting = asyncio.create_task(run.wait())
            await eventually(lambda: len(list(tmp_path.iterdir())) == count, "all have begun")
            for n in range(count):
                run.cancel(f"{n}")
            done, _ = await waiting
    assert {outcome.state for outcome in done} == {WorkerState.CANCELLED}
    assert all(path.read_text(encoding="utf-8") == "cancelled" for path in tmp_path.iterdir())


async def test_connection_that_breaks_costs_no_attempt(open_cluster: OpenCluster, tmp_path: Path) -> None:
    count = 40
    items = [(str(tmp_path), number, 0.2 + number / 20) for number in range(count)]
    async with open_cluster([targets.note]) as cluster:
        running = asyncio.create_task(outcomes(cluster, targets.note, items))
        await eventually(lambda: len(list(tmp_path.iterdir())) >= count, "all have begun")
        cluster._client.scheduler_comm.comm.abort()
        found, events = await running
    assert [outcome.result for outcome in found.values()] == list(range(count))
    assert not any(isinstance(event, AttemptFailed) for event in events)
    assert all((tmp_path / str(number)).read_text(encoding="utf-8").count("\n") == 1 for number in range(count))


async def test_batches_that_were_missed_are_confirmed_later(open_cluster: OpenCluster) -> None:
    """Otherwise a process would keep all ends from then on."""
    async with open_cluster([targets.double]) as cluster:
        await outcomes(cluster, targets.double, range(4))
        for host in cluster._hosts.values():
            host.seen = -100
        await eventually(lambda: all(host.seen > 0 for host in cluster._hosts.values()), "confirmed")


async def test_versions_that_differ_are_named_once(
    open_cluster: OpenCluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = open_cluster([targets.where])
    monkeypatch.setitem(cluster._own_versions, "python", "2.7.18")
    async with cluster:
        pass
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "has other versions: python 3." in warning
    assert "(here 2.7.18)" in warning
