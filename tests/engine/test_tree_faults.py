"""Faults around a tree: errors whose text raises, cancellations from outside, and late requests."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import PoolSpec, RetryPolicy, Run, Supervisor, SupervisorSpec, WorkerSpec, ready
from asyncwatch.engine.registry import REMEMBERED
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.tree.tree import Tree
from asyncwatch.otp import NoSuchSupervisor, NotFound, RestartLimitError, StartError
from asyncwatch.selftest.actors import FOREVER, Actor, calm, child, counts, end, statuses
from tests.engine.fleets import sleeper


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_start_error_whose_text_raises_is_handled_as_any_other(run: Any) -> None:
    """The child that was being added is not kept."""

    async def main() -> None:
        actor = Actor("worker", fails=[None, _UnprintableError()])
        async with Supervisor([child(actor)], max_restarts=10) as supervisor:
            await end(actor, "abnormal")
            with pytest.raises(StartError, match="_UnprintableError: <str raised ZeroDivisionError>"):
                await supervisor.start_child(child(Actor("added", fails=[_UnprintableError()])))
            assert statuses(supervisor) == {"worker": "running"}
            assert actor.starts == 3

    run(main)


def test_repeated_cancel_gives_a_service_no_more_time(run: Any) -> None:
    async def main() -> None:
        actor = Actor("worker", lingers=FOREVER)
        async with Supervisor([child(actor, shutdown=5)]) as supervisor:
            loop = asyncio.get_running_loop()
            began = loop.time()
            supervisor.cancel("worker")
            timers = [loop.call_later(delay, supervisor.cancel, "worker") for delay in (2, 4)]
            await supervisor.terminate_child("worker")
            assert loop.time() - began == pytest.approx(5)
            assert [timer.when() < loop.time() for timer in timers] == [True, True]

    run(main)


def test_repeated_cancel_gives_a_worker_of_a_batch_no_more_time(run: Any) -> None:
    async def main() -> None:
        supervisor = Run([WorkerSpec("worker", Actor("worker", lingers=FOREVER))], grace=5.0)
        loop = asyncio.get_running_loop()
        for delay in (1, 3, 5):
            loop.call_later(delay, supervisor.cancel, "worker")
        began = loop.time()
        await supervisor.gather()
        assert loop.time() - began == pytest.approx(6)

    run(main)


@pytest.mark.parametrize(
    "error",
    [SystemExit(3), GeneratorExit(), BaseExceptionGroup("group", [SystemExit(3)]), asyncio.CancelledError()],
    ids=lambda error: type(error).__name__,
)
def test_any_error_before_the_first_wait_is_a_failed_start(run: Any, error: BaseException) -> None:
    async def main() -> None:
        async with Supervisor([child(Actor("other"))]) as supervisor:
            with pytest.raises(StartError) as raised:
                await supervisor.start_child(child(Actor("bad", fails=[error])))
            assert type(raised.value.error) is type(error)
            assert statuses(supervisor) == {"other": "running"}

    run(main)


def test_terminate_stops_the_child_with_that_name_at_its_turn_or_fails(run: Any) -> None:
    async def main() -> None:
        spec = child(Actor("worker", lingers=2.0), "temporary", shutdown=5)
        async with Supervisor([spec, child(Actor("other"))]) as supervisor:
            stop = supervisor.terminate_child
            answers = await asyncio.gather(stop("worker"), stop("worker"), return_exceptions=True)
            assert [type(answer) for answer in answers] == [type(None), NotFound]
            start = supervisor.start_child(spec)
            await asyncio.gather(start, stop("worker"))
            assert statuses(supervisor) == {"other": "running"}
            await supervisor.start_child(spec)
            await asyncio.gather(stop("worker"), supervisor.start_child(spec), stop("worker"))
            assert statuses(supervisor) == {"other": "running"}

    run(main)


def test_ended_child_of_a_busy_supervisor_is_not_active(run: Any) -> None:
    async def main() -> None:
        busy, done = Actor("busy", lingers=3.0), Actor("done")
        async with Supervisor([child(busy, shutdown=5), child(done, "transient")]) as supervisor:
            stopping = asyncio.create_task(supervisor.terminate_child("busy"))
            await calm()
            await end(done, "normal")
            assert counts(supervisor) == [2, 0, 0, 2]
            await stopping

    run(main)


def _cancel_task_of(path: str) -> None:
    for task in asyncio.all_tasks():
        if task.get_name() == f"supervisor {path}":
            task.cancel()


@pytest.mark.parametrize("times", [1, 3])
def test_supervisor_whose_task_is_cancelled_stops_its_children_and_is_restarted(run: Any, times: int) -> None:
    async def main() -> None:
        actor = Actor("worker", lingers=2.0)
        low = SupervisorSpec("low", (child(actor, shutdown=5),))
        async with Supervisor([low], max_restarts=10) as supervisor:
            for _ in range(times):
                _cancel_task_of("root/low")
                await calm()
            await asyncio.sleep(10)
            assert statuses(supervisor, "low") == {"worker": "running"}
            assert actor.log == ["+worker", "-worker", "+worker"]
            async with asyncio.timeout(10):
                await supervisor.terminate_child("low")

    run(main)


def test_supervisor_whose_task_is_cancelled_before_its_first_step_has_ended(run: Any) -> None:
    """Neither the supervisor above nor the end of the run waits for it."""

    async def main() -> None:
        async with Supervisor([], max_restarts=10) as supervisor:
            adding = asyncio.create_task(supervisor.start_child(SupervisorSpec("low")))
            while not adding.done():
                _cancel_task_of("root/low")
                await asyncio.sleep(0)
            assert isinstance(adding.exception(), StartError)
            assert statuses(supervisor) == {}

    run(main)


def test_request_to_a_supervisor_whose_task_is_cancelled_is_refused(run: Any) -> None:
    async def main() -> None:
        hanging = WorkerSpec("hanging", sleeper, (1e6,), restart="permanent", announces_ready=True)
        async with Supervisor([SupervisorSpec("low")], max_restarts=10) as supervisor:
            adding = asyncio.create_task(supervisor.start_child(hanging, under="low"))
            await calm()
            _cancel_task_of("root/low")
            with pytest.raises(NoSuchSupervisor):
                await adding

    run(main)


def test_ready_that_comes_too_late_is_logged_once(
    run: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        async def late() -> None:
            await asyncio.sleep(1)
            await ready("first")
            await ready("second")

        async def early() -> None:
            await ready("first")
            await asyncio.sleep(1)
            await ready("second")

        async with Supervisor([SupervisorSpec("low")]) as supervisor:
            for name, target in (("late", late), ("early", early)):
                await supervisor.start_child(WorkerSpec(name, target))
            await asyncio.sleep(2)

    run(main)
    warned = [record for record in caplog.records if "announces_ready" in record.getMessage()]
    assert [vars(record)["asyncwatch_worker"] for record in warned] == ["late"]


def test_pool_remembers_the_incarnations_of_recently_ended_children_only(run: Any) -> None:
    async def main() -> None:
        async def nothing() -> None:
            pass

        async with Supervisor([PoolSpec("pool", WorkerSpec("template", nothing))]) as supervisor:
            for _ in range(3):
                found = await supervisor.start_child("same", under="pool")
                await calm()
            assert found.incarnation == 3
            for _ in range(REMEMBERED + 1):
                await supervisor.start_child(under="pool")
            await calm()
            assert supervisor.statistics().tasks == 0
            again = await supervisor.start_child("same", under="pool")
            assert again.incarnation == 1

    run(main)


def test_run_that_cannot_begin_ends_although_its_tree_was_never_launched(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Reporter.run_started

    def started_then_broken(*args: Any) -> None:
        original(*args)
        raise ZeroDivisionError

    monkeypatch.setattr(Reporter, "run_started", started_then_broken)

    async def main() -> None:
        actor = Actor("worker")
        supervisor = Supervisor([child(actor)])
        for _ in range(2):
            with pytest.raises((ZeroDivisionError, RuntimeError)):
                await supervisor.serve()
            assert supervisor.is_finished
        assert actor.starts == 0

    run(main)


def test_tree_that_was_not_launched_cannot_be_awaited(run: Any) -> None:
    async def main() -> None:
        scheduler: Any = None  # it is never used
        tree = Tree(SupervisorSpec("root"), scheduler)
        with pytest.raises(RuntimeError, match="not been launched"):
            await tree.start()

    run(main)


def test_request_to_a_tree_that_gave_up_says_why(run: Any) -> None:
    async def main() -> None:
        actor = Actor("worker")
        async with Supervisor([child(actor)], max_restarts=0) as supervisor:
            await end(actor, "abnormal")
            await calm()
            with pytest.raises(NoSuchSupervisor, match="the tree has ended") as found:
                supervisor.which_children()
            assert isinstance(found.value.__cause__, RestartLimitError)

    with pytest.raises(RestartLimitError):
        run(main)


class _OddClassError(Exception):
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @__class__.setter
    def __class__(self, value: Any) -> None:
        raise RuntimeError("no class")


def _exit(error: BaseException) -> str:
    raise SystemExit("not now")


@pytest.mark.parametrize(
    ("error", "settings"),
    [
        (ValueError(), {"classify": _exit}),
        (ValueError(), {"retry": RetryPolicy(transient=_exit)}),  # type: ignore[arg-type]
        (_OddClassError(), {}),
    ],
    ids=["classify", "transient", "error"],
)
def test_service_whose_end_cannot_be_decided_is_restarted_and_counted_once(
    run: Any, error: Exception, settings: dict[str, Any]
) -> None:
    async def main() -> None:
        calls = 0

        async def fail_once() -> None:
            nonlocal calls
            calls += 1
            await asyncio.sleep(1)
            if calls == 1:
                raise error
            await asyncio.Event().wait()

        service = WorkerSpec("service", fail_once, restart="permanent", **settings)
        loop = asyncio.get_running_loop()
        async with Supervisor([service], max_restarts=10) as supervisor:
            await asyncio.sleep(5)
            assert (calls, statuses(supervisor)) == (2, {"service": "running"})
            supervisor._scheduler.validate_state()
            left_at = loop.time()
        assert loop.time() - left_at < 1
        assert [outcome.state for outcome in supervisor.outcomes()] == ["cancelled"]

    run(main)
