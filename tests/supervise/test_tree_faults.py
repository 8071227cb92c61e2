"""What goes wrong around a tree: errors that raise, cancellations from elsewhere, requests that come too late."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from asyncwatch import StartError, Supervisor, WorkerSpec
from asyncwatch.selftest.actors import FOREVER, Actor, child, end, statuses


class _Nasty(Exception):  # noqa: N818  what matters is that its text raises
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_error_whose_text_raises_ends_no_supervisor(run: Any) -> None:
    """A failed start with an error that cannot be shown is as any other; the child that was added is not kept."""

    async def main() -> None:
        actor = Actor("worker", fails=[None, _Nasty()])
        async with Supervisor([child(actor)], max_restarts=10) as supervisor:
            await end(actor, "abnormal")
            with pytest.raises(StartError, match="_Nasty: <str raised ZeroDivisionError>"):
                await supervisor.start_child(child(Actor("added", fails=[_Nasty()])))
            assert statuses(supervisor) == {"worker": "running"}
            assert actor.starts == 3

    run(main)


def test_asking_again_gives_a_worker_no_more_time(run: Any) -> None:
    """However often a person insists, a worker that ignores its cancellation is left behind at the first deadline."""

    async def main() -> None:
        actor = Actor("worker", lingers=FOREVER)
        async with Supervisor([child(actor, shutdown=5)]) as supervisor:
            loop = asyncio.get_running_loop()
            began = loop.time()
            assert supervisor.cancel("worker")
            timers = [loop.call_later(delay, supervisor.cancel, "worker") for delay in (2, 4)]
            await supervisor.terminate_child("worker")
            assert loop.time() - began == pytest.approx(5)
            assert [timer.when() < loop.time() for timer in timers] == [True, True]

    run(main)


def test_asking_again_gives_a_worker_of_a_batch_no_more_time(run: Any) -> None:
    """The same in a batch."""

    async def main() -> None:
        supervisor = Supervisor([WorkerSpec("worker", Actor("worker", lingers=FOREVER))], grace=5.0)
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
def test_whatever_is_raised_before_the_first_wait_is_a_failed_start(run: Any, error: BaseException) -> None:
    """A worker that raises anything at all in its first step has not started."""

    async def main() -> None:
        async with Supervisor([child(Actor("other"))]) as supervisor:
            with pytest.raises(StartError) as raised:
                await supervisor.start_child(child(Actor("bad", fails=[error])))
            assert type(raised.value.error) is type(error)
            assert statuses(supervisor) == {"other": "running"}

    run(main)
