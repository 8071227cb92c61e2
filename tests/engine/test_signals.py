"""Services whose processes get the signal that stops the run: they end just before the stop, or during it."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest

from asyncwatch import Run, Supervisor, SupervisorSpec, WorkerSpec, ready
from asyncwatch.commands import StopRun
from asyncwatch.engine import attempts
from asyncwatch.engine.run_control import control_of
from asyncwatch.events import Event, RestartScheduled, WorkerCancelled, WorkerFailed, WorkerRestarted, WorkerState
from asyncwatch.otp import StartError
from tests.engine.fleets import AT_ONCE, drain, later, sleeper


async def served(supervisor: Supervisor, *, expects_signals: bool = True) -> list[Event]:
    """Return the events of a tree that is served to its end."""
    queue = supervisor.subscribe()
    if expects_signals:
        control_of(supervisor).expect_signals()
    await supervisor.serve()
    return drain(queue)


@pytest.fixture
def _child_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a service ends, a child process has just ended."""
    numbers = itertools.count()
    monkeypatch.setattr(attempts, "children_mark", lambda: next(numbers))


class Service:
    """Raises, or returns, when its process is `killed`."""

    def __init__(self, *, announces: bool = False, returns: bool = False) -> None:
        self.calls = 0
        self.announces, self.returns = announces, returns
        self.is_killed = asyncio.Event()

    async def __call__(self) -> None:
        self.calls += 1
        if self.announces and self.calls > 1:
            await ready()
        await self.is_killed.wait()
        self.is_killed.clear()
        if not self.returns:
            raise ChildProcessError("killed by signal 2")


def service(name: str, target: Any, **treatment: Any) -> WorkerSpec:
    """Return the spec of a permanent service."""
    return WorkerSpec(name, target, **{"restart": "permanent", **treatment})


@pytest.mark.usefixtures("_child_ends")
@pytest.mark.parametrize("returns", [False, True])
@pytest.mark.parametrize("announces", [False, True])
@pytest.mark.parametrize("seconds", [0.0, 0.09])
def test_service_that_ends_just_before_the_stop_is_stopped(
    run: Any, seconds: float, *, announces: bool, returns: bool
) -> None:
    async def main() -> None:
        targets = [Service(announces=announces, returns=returns) for _ in range(3)]
        specs = [service(f"s{n}", target, announces_ready=announces) for n, target in enumerate(targets)]
        supervisor = Supervisor(specs, max_restarts=0)
        later(5.0, *(target.is_killed.set for target in targets))
        later(5.0 + seconds, lambda: control_of(supervisor).carry_out(StopRun()))
        events = await served(supervisor)
        assert [event.worker for event in events if isinstance(event, WorkerCancelled)] == (
            ["s0"] if announces else ["s2", "s1", "s0"]
        )
        assert not [event for event in events if isinstance(event, WorkerFailed | RestartScheduled | WorkerRestarted)]
        assert sum(target.calls for target in targets) == (1 if announces else 3)

    run(main)


def test_service_that_ends_during_the_stop_of_another_is_stopped(run: Any) -> None:
    async def lingers() -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            await asyncio.sleep(2.0)

    async def main() -> None:
        low = Service()
        tree = (SupervisorSpec("below", (service("low", low),)), service("last", lingers))
        supervisor = Supervisor(tree)
        later(5.0, lambda: control_of(supervisor).carry_out(StopRun()))
        later(6.0, low.is_killed.set)
        events = await served(supervisor)
        assert [event.worker for event in events if isinstance(event, WorkerCancelled)] == ["below/low", "last"]
        assert not [event for event in events if isinstance(event, WorkerFailed)]
        assert low.calls == 1

    run(main)


@pytest.mark.parametrize(("has_child", "ended_at"), [(True, 5.1), (False, 5.0)])
def test_service_that_ends_long_before_the_stop_is_restarted(
    run: Any, monkeypatch: pytest.MonkeyPatch, *, has_child: bool, ended_at: float
) -> None:
    """It takes longer only if a child process has ended."""
    numbers = itertools.count()
    monkeypatch.setattr(attempts, "children_mark", lambda: next(numbers) if has_child else 0)

    async def main() -> None:
        target = Service()
        supervisor = Supervisor([service("a", target)])
        later(5.0, target.is_killed.set)
        later(5.2, lambda: control_of(supervisor).carry_out(StopRun()))
        events = await served(supervisor)
        failed = [event.at for event in events if isinstance(event, WorkerFailed)]
        assert failed == pytest.approx([ended_at], abs=0.01)
        assert target.calls == 2

    run(main)


def test_service_that_raises_at_once_does_not_start(run: Any) -> None:
    async def broken() -> None:
        raise OSError("no port")

    async def main() -> None:
        with pytest.raises(StartError, match="no port"):
            await served(Supervisor([service("a", broken)]))

    run(main)


@pytest.mark.parametrize("fails", [False, True])
def test_poller_does_not_wait_after_a_poll(run: Any, *, fails: bool) -> None:
    async def main() -> None:
        polls: list[float] = []

        async def poll() -> None:
            polls.append(asyncio.get_running_loop().time())
            await sleeper(0.5)
            if fails:
                raise OSError("no answer")

        supervisor = Supervisor([service("a", poll, every=1.0)])
        later(3.2, lambda: control_of(supervisor).carry_out(StopRun()))
        await served(supervisor)
        assert polls[1] - polls[0] == pytest.approx(1.5, abs=0.01)

    run(main)


@pytest.mark.parametrize("has_child", [False, True])
def test_worker_of_a_batch_whose_process_ends_just_before_the_stop_is_stopped(
    run: Any, monkeypatch: pytest.MonkeyPatch, *, has_child: bool
) -> None:
    mark = 0
    monkeypatch.setattr(attempts, "children_mark", lambda: mark)

    async def main() -> None:
        async def convert() -> None:
            nonlocal mark
            await asyncio.sleep(5.0)
            mark += has_child
            raise ChildProcessError("killed by signal 2")

        batch = Run([WorkerSpec(name, convert, retry=AT_ONCE) for name in "abc"])
        control_of(batch).expect_signals()
        later(5.05, lambda: control_of(batch).carry_out(StopRun()))
        states = {outcome.state for outcome in await batch.gather()}
        assert states == {WorkerState.CANCELLED if has_child else WorkerState.FAILED}

    run(main)


def test_failure_long_after_a_child_has_ended_takes_no_time(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mark = 0
    monkeypatch.setattr(attempts, "children_mark", lambda: mark)

    async def main() -> None:
        async def convert(seconds: float) -> None:
            nonlocal mark
            await asyncio.sleep(seconds)
            mark = 1
            raise ChildProcessError("status 1")

        batch = Run([WorkerSpec(f"{seconds}", convert, (seconds,)) for seconds in (5.0, 8.0)])
        control_of(batch).expect_signals()
        first, second = await batch.gather()
        assert first.elapsed == pytest.approx(5.1, abs=0.01)
        assert second.elapsed == pytest.approx(8.0, abs=0.01)

    run(main)
