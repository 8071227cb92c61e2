"""Launches that fail for any reason: each fails only the start of its child, and every run can be ended."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from asyncwatch import CircuitPolicy, PoolSpec, RateLimit, RestartBackoff, Run, Supervisor, SupervisorSpec, WorkerSpec
from asyncwatch.commands import StopRun
from asyncwatch.engine.admission import Admission
from asyncwatch.engine.attempts import AttemptRunner
from asyncwatch.engine.outbox import Listener
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.run_control import MARGIN, control_of
from asyncwatch.engine.scheduler import MiscountError, Scheduler
from asyncwatch.engine.tree.child import NodeIncarnation, WorkerIncarnation
from asyncwatch.engine.tree.errors import DuplicateName, RestartLimitError, StartError, TreeError
from asyncwatch.engine.tree.node import Node
from asyncwatch.engine.tree.specs import ChildSpec
from asyncwatch.engine.tree.supervisors import SupervisorRegistry
from asyncwatch.events import Event, RunFinished, WorkerFailed, WorkerState, WorkerSucceeded
from asyncwatch.policies.bad_luck import Luck
from asyncwatch.selftest.actors import FOREVER, Actor, calm, child, end, statuses
from tests.engine.fleets import completed, drain, later, sleeper, states, worker

LONG = 1_000.0
"""Seconds on the jumping clock: far longer than anything here takes."""
LIMITS: dict[str, Any] = {"circuit": CircuitPolicy(), "rate": RateLimit(per_second=1_000)}


class BrokenError(Exception):
    """The error that a broken step raises."""


class Switch:
    """Makes a method raise in calls about one worker or supervisor while `is_on`."""

    def __init__(self, patch: pytest.MonkeyPatch, owner: type, method: str) -> None:
        self.is_on = True
        self.raised = 0
        original = getattr(owner, method)

        def broken(*args: Any, **kwargs: Any) -> Any:
            if self.is_on and "restart" not in args and any(_name_of(arg) == "bad" for arg in args):
                self.raised += 1
                raise BrokenError
            return original(*args, **kwargs)

        patch.setattr(owner, method, broken)


def _name_of(value: Any) -> str:
    if isinstance(value, str):
        return value.rpartition("/")[2]
    name = getattr(value, "name", None) or getattr(getattr(value, "spec", None), "name", None)
    return str(name).rpartition("/")[2]


STEPS = [
    (Reporter, "workers_queued"),
    (Node, "_new_incarnation"),
    (Admission, "ask"),
    (Luck, "draw"),
    (Reporter, "attempt_started"),
]
LATER_STEPS = [(Reporter, "worker_restarted"), *STEPS[1:]]


def _ids(step: Any) -> str:
    return step[1] if isinstance(step, tuple) else str(step)


async def _end_by_cancel(serving: asyncio.Task[Any]) -> None:
    """Cancel the caller of `serve` and check that it ends."""
    serving.cancel()
    await asyncio.wait([serving], timeout=LONG)
    assert serving.done(), "serve() swallowed its cancellation"
    with suppress(asyncio.CancelledError, TreeError, RuntimeError, BrokenError):
        await serving


def _reader_of(supervisor: Supervisor) -> Callable[[], list[Event]]:
    """Return a function that returns the events since its last call."""
    queue = supervisor.subscribe()
    return lambda: drain(queue)


@pytest.mark.parametrize(
    ("names", "limits"),
    [
        ("a", {"circuit": CircuitPolicy()}),
        ("abc", {"rate": RateLimit(per_second=1)}),
        ("ab", {"rate_per_key": RateLimit(per_second=1)}),
    ],
    ids=["circuit", "rate", "rate_per_key"],
)
@pytest.mark.parametrize("method", ["serve", "start_child"])
def test_temporary_children_with_limits_run_and_can_be_cancelled(
    run: Any, method: str, names: str, limits: dict[str, Any]
) -> None:
    async def main() -> None:
        supervisor = Supervisor([WorkerSpec(name, sleeper, (1.0,), key="k") for name in names], **limits)
        events = _reader_of(supervisor)
        async with asyncio.timeout(LONG):
            if method == "start_child":
                await supervisor.start_child(WorkerSpec("added", sleeper, (1.0,), key="k"))
            serving = asyncio.create_task(supervisor.serve())
            await asyncio.sleep(20)
            await _end_by_cancel(serving)
        received = events()
        ended = [event.worker for event in received if isinstance(event, WorkerSucceeded)]
        assert sorted(ended) == sorted([*names, *(["added"] if method == "start_child" else [])])
        assert isinstance(received[-1], RunFinished)
        assert [event.seq for event in received] == list(range(len(received)))

    run(main)


@pytest.mark.parametrize("step", STEPS, ids=_ids)
def test_launch_that_raises_at_the_start_of_a_tree_stops_earlier_children_and_names_the_child(
    run: Any, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str]
) -> None:
    switch = Switch(monkeypatch, *step)

    async def main() -> None:
        log: list[str] = []
        actors = [Actor(name, log) for name in ("first", "second", "bad", "last")]
        supervisor = Supervisor([child(actor, key="k") for actor in actors], **LIMITS)
        events = _reader_of(supervisor)
        async with asyncio.timeout(LONG):
            with pytest.raises(StartError, match="bad did not start: BrokenError") as raised:
                await supervisor.serve()
        assert raised.value.child == "root/bad"
        assert type(raised.value.error) is BrokenError
        assert log == ["+first", "+second", "-second", "-first"]
        assert isinstance(events()[-1], RunFinished)
        assert supervisor.statistics().tasks == 0

    run(main)
    assert switch.raised == 1


@pytest.mark.parametrize("step", STEPS, ids=_ids)
@pytest.mark.parametrize("pool", [False, True], ids=["child", "pool"])
def test_launch_that_raises_on_request_fails_for_the_caller_alone_and_can_be_repeated(
    run: Any, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str], pool: bool
) -> None:
    switch = Switch(monkeypatch, *step)

    async def main() -> None:
        log: list[str] = []
        template = WorkerSpec("template", sleeper, (LONG,), restart="permanent", key="k")
        async with (
            asyncio.timeout(LONG),
            Supervisor([child(Actor("other", log)), PoolSpec("pool", template)], **LIMITS) as supervisor,
        ):
            under = "pool" if pool else None

            async def start() -> Any:
                return await supervisor.start_child("bad" if pool else child(Actor("bad", log), key="k"), under=under)

            with pytest.raises(StartError, match="bad did not start: BrokenError") as raised:
                await start()
            assert type(raised.value.error) is BrokenError
            assert "bad" not in statuses(supervisor, under)
            switch.is_on = False
            assert (await start()).status == "running"
            assert statuses(supervisor)["other"] == "running"

    run(main)
    assert switch.raised >= 1


@pytest.mark.parametrize("step", LATER_STEPS, ids=_ids)
@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
def test_launch_that_raises_in_a_restart_counts_as_a_failed_restart(
    run: Any, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str], strategy: Any
) -> None:
    """It is tried again within the restart limit. Beyond it the supervisor gives up."""
    switch = Switch(monkeypatch, *step)
    switch.is_on = False

    async def main() -> None:
        log: list[str] = []
        bad, other = Actor("bad", log), Actor("other", log)
        backoff = RestartBackoff(base=1.0, cap=1.0)
        flags = {"strategy": strategy, "max_restarts": 5, "within": LONG, **LIMITS}
        supervisor = Supervisor([child(bad, key="k", backoff=backoff), child(other, key="k")], **flags)
        async with asyncio.timeout(LONG):
            serving = asyncio.create_task(supervisor.serve())
            await calm()
            switch.is_on = True
            await end(bad, "abnormal")
            await asyncio.sleep(1.5)
            assert switch.raised >= 1
            switch.is_on = False
            await asyncio.sleep(1.5)
            assert statuses(supervisor) == {"bad": "running", "other": "running"}
            switch.is_on = True
            await end(bad, "abnormal")
            with pytest.raises(RestartLimitError) as raised:
                await serving
            assert type(raised.value.__cause__) is BrokenError
        assert log.count("+other") == log.count("-other")
        assert supervisor.statistics().tasks == 0

    run(main)


@pytest.mark.parametrize("step", LATER_STEPS, ids=_ids)
@pytest.mark.parametrize("at", [0.0, 0.5, 2.5])
def test_serve_cancelled_amid_failing_launches_ends_within_the_grace_period(
    run: Any, monkeypatch: pytest.MonkeyPatch, step: tuple[type, str], at: float
) -> None:
    switch = Switch(monkeypatch, *step)
    switch.is_on = False

    async def main() -> None:
        bad = Actor("bad")
        specs = [child(bad, key="k", backoff=RestartBackoff(base=1.0, cap=1.0)), child(Actor("deaf", lingers=FOREVER))]
        supervisor = Supervisor(specs, max_restarts=1_000, within=LONG, grace=5.0, **LIMITS)
        events = _reader_of(supervisor)
        async with asyncio.timeout(LONG):
            serving = asyncio.create_task(supervisor.serve())
            await calm()
            switch.is_on = True
            await end(bad, "abnormal")
            await asyncio.sleep(at)
            began = asyncio.get_running_loop().time()
            later(1.0, serving.cancel)
            later(2.0, serving.cancel)
            await _end_by_cancel(serving)
            assert asyncio.get_running_loop().time() - began == pytest.approx(5.0)
        assert isinstance(events()[-1], RunFinished)

    run(main)


@pytest.mark.parametrize("method", ["supervisor_started", "begin"])
def test_supervisor_whose_launch_raises_has_not_started(run: Any, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    switch = Switch(monkeypatch, SupervisorRegistry if method == "begin" else Reporter, method)

    async def main() -> None:
        low = SupervisorSpec("bad", (child(Actor("worker")),))
        async with asyncio.timeout(LONG), Supervisor([child(Actor("other"))]) as supervisor:
            with pytest.raises(StartError, match="bad did not start: BrokenError"):
                await supervisor.start_child(low)
            assert statuses(supervisor) == {"other": "running"}
            switch.is_on = False
            await supervisor.start_child(low)
            assert statuses(supervisor, "bad") == {"worker": "running"}

    run(main)


@pytest.mark.parametrize(
    ("owner", "method"), [(Reporter, "run_started"), (Reporter, "supervisor_started"), (SupervisorRegistry, "begin")]
)
def test_root_whose_launch_raises_ends_the_run_with_its_error(
    run: Any, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    def broken(*_args: object, **_kwargs: object) -> None:
        raise BrokenError

    monkeypatch.setattr(owner, method, broken)

    async def main() -> None:
        supervisor = Supervisor([child(Actor("worker"))])
        async with asyncio.timeout(LONG):
            with pytest.raises(BrokenError):
                await supervisor.serve()

    run(main)


def _raise_exit() -> str:
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"deadline": Decimal(5)}, TypeError),
        ({"attempt_timeout": Decimal(5)}, TypeError),
        ({"key": _raise_exit}, SystemExit),
    ],
    ids=["deadline", "attempt_timeout", "key"],
)
def test_spec_that_cannot_be_launched_fails_its_start_and_its_target_is_not_called(
    run: Any, fields: dict[str, Any], kind: type[BaseException]
) -> None:
    """In a tree the start fails, in a batch the worker."""

    async def main() -> None:
        bad = Actor("bad")
        async with asyncio.timeout(LONG), Supervisor([child(Actor("other"))], **LIMITS) as supervisor:
            with pytest.raises(StartError) as raised:
                await supervisor.start_child(child(bad, **fields))
            assert type(raised.value.error) is kind
            await calm()
            assert bad.starts == 0
            assert supervisor.statistics().tasks == 1
        specs = [worker("good", sleeper, 1.0), worker("bad", bad, **fields), worker("last", sleeper, 1.0)]
        batch = Run(specs, concurrency=1, **LIMITS)
        async with asyncio.timeout(LONG):
            outcomes = {outcome.name: outcome async for outcome in completed(batch)}
        assert {name: outcome.state.value for name, outcome in outcomes.items()} == {
            "good": "succeeded",
            "bad": "failed",
            "last": "succeeded",
        }
        assert type(outcomes["bad"].error) is kind
        assert bad.starts == 0
        statistics = batch.statistics()
        assert (statistics.tasks, statistics.in_flight) == (0, 0)

    run(main)


def test_batch_whose_workers_all_fail_to_start_yields_every_outcome(run: Any) -> None:
    async def main() -> None:
        specs = [worker(name, sleeper, 1.0, deadline=Decimal(5)) for name in "abc"]
        async with asyncio.timeout(LONG):
            assert [outcome.name async for outcome in completed(Run(specs))] == ["a", "b", "c"]
            assert [outcome.state for outcome in await Run(specs).gather()] == [WorkerState.FAILED] * 3
            assert len((await Run(specs).wait(return_when="FIRST_EXCEPTION")).done) >= 1
            with pytest.raises(ExceptionGroup):
                await Run(specs).task_group()

    run(main)


def test_worker_that_cannot_start_after_others_that_returned_at_once_fails_alone(run: Any) -> None:
    async def main() -> None:
        async def nothing() -> None:
            pass

        fields: dict[str, Any] = {"b": {"deadline": Decimal(5)}, "d": {"attempt_timeout": Decimal(5)}}
        specs = [worker(name, nothing, **fields.get(name, {})) for name in "abcde"]
        supervisor = Run(specs, concurrency=1)
        async with asyncio.timeout(LONG):
            outcomes = await supervisor.gather()
        assert [outcome.state.value for outcome in outcomes] == [
            "succeeded",
            "failed",
            "succeeded",
            "failed",
            "succeeded",
        ]
        assert supervisor.statistics().in_flight == supervisor.statistics().tasks == 0

    run(main)


def test_worker_of_a_batch_that_could_not_start_can_be_restarted(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = Switch(monkeypatch, Luck, "draw")

    async def main() -> None:
        async with asyncio.timeout(LONG), Run([worker("bad", sleeper, 1.0)]) as supervisor:
            await supervisor.gather()
            assert states(supervisor) == {"bad": "failed"}
            switch.is_on = False
            assert supervisor.restart("bad")
            await control_of(supervisor).wait_settled()
            assert states(supervisor) == {"bad": "succeeded"}

    run(main)


def test_worker_that_cannot_start_when_released_fails_alone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its supervisor learns of the failure as well."""
    switch = Switch(monkeypatch, Reporter, "attempt_started")

    async def main() -> None:
        actors = [Actor(name) for name in ("first", "bad")]
        supervisor = Supervisor([child(actor, key="k") for actor in actors], rate_per_key=RateLimit(per_second=0.1))
        async with asyncio.timeout(LONG):
            with pytest.raises(StartError, match="bad did not start: BrokenError"):
                await supervisor.serve()
        assert switch.raised == 1

    run(main)


def test_name_clash_with_the_batch_fails_the_start_of_the_tree(run: Any) -> None:
    async def main() -> None:
        log: list[str] = []
        specs = [child(Actor("first", log)), child(Actor("taken", log))]
        supervisor = Supervisor(specs, batch=[worker("taken", sleeper, 1.0)])
        async with asyncio.timeout(LONG):
            with pytest.raises(StartError) as raised:
                await supervisor.serve()
        assert type(raised.value.error) is DuplicateName
        assert log == ["+first", "-first"]

    run(main)


@pytest.mark.usefixtures("raising_log")
def test_log_handler_that_raises_changes_nothing(run: Any) -> None:
    """Circuits open, keys fail and restart limits are reached, and each of these is logged."""

    def no_key() -> str:
        raise BrokenError

    async def fails() -> None:
        await asyncio.sleep(1)
        raise OSError

    async def main() -> None:
        policy = CircuitPolicy(min_throughput=1, failure_ratio=0.1)
        specs = [child(Actor("other"), key=no_key), WorkerSpec("flaps", fails, restart="permanent", key="k")]
        async with asyncio.timeout(LONG):
            with pytest.raises(RestartLimitError):
                await Supervisor(specs, circuit=policy, within=LONG).serve()

    run(main)


def test_listener_that_raises_is_dropped_and_the_others_get_every_event(run: Any) -> None:
    class Closed(Listener):
        calls = 0

        def deliver(self, *_args: object) -> None:
            self.calls += 1
            raise BrokenError

    async def main() -> None:
        supervisor = Supervisor([child(Actor("worker"))])
        closed = Closed()
        control_of(supervisor).add_listener(closed)
        events = _reader_of(supervisor)
        async with asyncio.timeout(LONG):
            serving = asyncio.create_task(supervisor.serve())
            await asyncio.sleep(1)
            await _end_by_cancel(serving)
        assert closed.calls == 1
        assert isinstance(events()[-1], RunFinished)

    run(main)


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (Reporter, "retry_scheduled"),
        (Reporter, "attempt_failed"),
        (Reporter, "succeeded"),
        (Reporter, "worker_restarted"),
        (Admission, "attempt_ended"),
        (Admission, "forget"),
    ],
)
def test_worker_of_a_batch_settles_whatever_raises_between_its_attempts(
    run: Any, monkeypatch: pytest.MonkeyPatch, check_errors: list[type[Exception]], owner: type, method: str
) -> None:
    switch = Switch(monkeypatch, owner, method)
    if method == "attempt_ended":
        check_errors.append(MiscountError)
    calls = 0

    async def flaky() -> None:
        nonlocal calls
        calls += 1
        await asyncio.sleep(1)
        if calls == 1:
            raise TimeoutError

    is_restarted = method == "worker_restarted"

    async def main() -> None:
        supervisor = Run([worker("bad", flaky, key="k"), worker("good", sleeper, 3.0, key="k")], **LIMITS)
        later(0.5, lambda: is_restarted and supervisor.restart("bad"))
        async with asyncio.timeout(LONG):
            outcomes = await supervisor.gather()
        assert outcomes[0].state is WorkerState.FAILED or method in {"attempt_ended", "forget"}
        assert outcomes[1].state is WorkerState.SUCCEEDED
        assert supervisor.statistics().in_flight == 0

    run(main)
    assert switch.raised >= 1


def _methods(owner: type) -> list[str]:
    kept = {"loop", "is_started", "now", "run_started", "run_finished"}
    return [
        name for name, member in inspect.getmembers(owner, inspect.isfunction) if name[0] != "_" and name not in kept
    ]


@pytest.mark.parametrize(
    ("owner", "method"),
    [(owner, method) for owner in (Reporter, Admission, Luck, SupervisorRegistry) for method in _methods(owner)],
    ids=lambda part: part if isinstance(part, str) else part.__name__,
)
@pytest.mark.parametrize("start", [0, 3])
def test_run_ends_when_it_is_cancelled_whatever_has_raised(
    run: Any,
    monkeypatch: pytest.MonkeyPatch,
    check_errors: list[type[Exception]],
    owner: type,
    method: str,
    start: int,
) -> None:
    """Every method of a part fails in all its calls after the first `start`."""
    check_errors += (BrokenError, MiscountError) if method == "attempt_ended" else (BrokenError,)
    original = getattr(owner, method)
    calls = 0

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > start:
            raise BrokenError
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, method, broken)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        bad = Actor("bad")
        low = SupervisorSpec(
            "low", (child(Actor("low"), key="k"), child(Actor("deaf", lingers=FOREVER))), max_restarts=5
        )
        pool = PoolSpec("pool", WorkerSpec("template", sleeper, (LONG,), key="k"), initial=(("one", ()), ("two", ())))
        batch = [worker("flaky", sleeper, 1.0, key="k"), worker("long", sleeper, 1e6, key="k")]
        specs: list[ChildSpec] = [child(bad, key="k", backoff=RestartBackoff(base=1.0, cap=1.0)), low, pool]
        supervisor = Supervisor(specs, max_restarts=20, within=LONG, batch=batch, **LIMITS)
        events = _reader_of(supervisor)
        async with asyncio.timeout(LONG):
            serving = asyncio.create_task(supervisor.serve())
            await asyncio.sleep(1)
            if bad.starts and not serving.done():
                with suppress(asyncio.InvalidStateError):
                    await end(bad, "abnormal")
            with suppress(Exception):
                await asyncio.wait_for(supervisor.start_child("three", under="pool"), 5)
            with suppress(Exception):
                supervisor.restart("deaf")
            await asyncio.sleep(5)
            await _end_by_cancel(serving)
        received = events()
        assert not received or isinstance(received[-1], RunFinished)
        assert supervisor.is_finished or not supervisor.is_started
        assert supervisor.statistics().in_flight == 0

    run(main)


def test_stopped_run_whose_reporter_fails_stops_its_workers_in_order(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise BrokenError

    monkeypatch.setattr(Reporter, "cancel_requested", broken)

    async def main() -> None:
        log: list[str] = []
        supervisor = Supervisor([child(Actor(name, log)) for name in ("a", "b")])
        events = _reader_of(supervisor)
        async with asyncio.timeout(LONG):
            serving = asyncio.create_task(supervisor.serve())
            await calm()
            control_of(supervisor).carry_out(StopRun())
            await serving
        assert log == ["+a", "+b", "-b", "-a"]
        assert isinstance(events()[-1], RunFinished)

    run(main)


def test_failed_start_is_reported_once_for_each_launch(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Switch(monkeypatch, Admission, "ask")

    async def main() -> None:
        async with asyncio.timeout(LONG), Supervisor([], **LIMITS) as supervisor:
            events = _reader_of(supervisor)
            for _ in range(2):
                with pytest.raises(StartError):
                    await supervisor.start_child(child(Actor("bad"), key="k"))
            await asyncio.sleep(1)
            failed = [event for event in events() if isinstance(event, WorkerFailed)]
            assert [(event.worker, event.incarnation, event.error_type) for event in failed] == [
                ("bad", 1, "BrokenError"),
                ("bad", 2, "BrokenError"),
            ]

    run(main)


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        (WorkerIncarnation, "ended"),
        (NodeIncarnation, "has_ended"),
        (Scheduler, "_settle"),
        (AttemptRunner, "cancel"),
        (Scheduler, "stop_batch"),
    ],
)
def test_cancelled_tree_whose_supervisor_is_broken_ends_without_leftover_tasks(
    run: Any, monkeypatch: pytest.MonkeyPatch, owner: type, method: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, _context: None)
        low = SupervisorSpec("low", (child(Actor("a")), child(Actor("b"))))
        supervisor = Supervisor([child(Actor("c")), low], batch=[worker("long", sleeper, 1e6)], grace=5.0)
        events = _reader_of(supervisor)
        serving = asyncio.create_task(supervisor.serve())
        await asyncio.sleep(1)

        def broken(*_args: Any, **_kwargs: Any) -> None:
            raise BrokenError

        monkeypatch.setattr(owner, method, broken)
        began = loop.time()
        later(1.0, serving.cancel)
        await _end_by_cancel(serving)
        assert loop.time() - began < 3 * (5.0 + 2 * MARGIN)
        assert isinstance(events()[-1], RunFinished)
        await calm()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)


def test_cancelled_batch_whose_workers_never_settle_ends(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
        supervisor = Run([worker(name, sleeper, 1e6) for name in "abc"], concurrency=2, grace=5.0)
        gathering = asyncio.create_task(supervisor.gather())
        await asyncio.sleep(1)

        def broken(*_args: Any, **_kwargs: Any) -> None:
            raise BrokenError

        monkeypatch.setattr(Scheduler, "_settle", broken)
        await _end_by_cancel(gathering)
        assert supervisor.is_finished
        await calm()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)


@pytest.mark.parametrize("shutdown", [50.0, float("inf")])
def test_stop_within_the_shutdown_times_is_not_cut_short(run: Any, shutdown: float) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        actors = [Actor(name, lingers=40.0) for name in "abcd"]
        low = SupervisorSpec("low", tuple(child(actor, shutdown=shutdown) for actor in actors[2:]))
        supervisor = Supervisor([*(child(actor, shutdown=shutdown) for actor in actors[:2]), low], grace=1.0)
        serving = asyncio.create_task(supervisor.serve())
        await asyncio.sleep(1)
        began = loop.time()
        await _end_by_cancel(serving)
        assert loop.time() - began == pytest.approx(160.0)
        assert all(actor.log[-1] == f"-{actor.name}" for actor in actors)

    run(main)


def test_batch_beside_a_tree_is_awaited_when_serve_is_cancelled_twice(run: Any) -> None:
    async def main() -> None:
        slow = Actor("slow", lingers=2.0)
        supervisor = Supervisor([child(Actor("deaf", lingers=1.0))], batch=[worker("slow", slow)], grace=5.0)
        serving = asyncio.create_task(supervisor.serve())
        await asyncio.sleep(1)
        later(0.5, serving.cancel)
        await _end_by_cancel(serving)
        assert slow.log == ["+slow", "-slow"]
        assert supervisor.statistics().tasks == 0

    run(main)


def test_launch_that_raises_after_its_task_was_made_does_not_call_the_target(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_broken = False
    original = Scheduler._report_queue_held

    def follow(scheduler: Scheduler) -> None:
        if is_broken:
            raise BrokenError
        original(scheduler)

    monkeypatch.setattr(Scheduler, "_report_queue_held", follow)

    async def main() -> None:
        nonlocal is_broken
        bad = Actor("bad")
        async with asyncio.timeout(LONG), Supervisor([child(Actor("other"))], **LIMITS) as supervisor:
            is_broken = True
            with pytest.raises(StartError, match="bad did not start: BrokenError"):
                await supervisor.start_child(child(bad))
            is_broken = False
            await calm()
            assert bad.starts == 0
            assert supervisor.statistics().tasks == 1
            await supervisor.start_child(child(bad))
            assert bad.starts == 1

    run(main)
