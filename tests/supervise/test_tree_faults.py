"""What goes wrong around a tree: errors that raise, cancellations from elsewhere, requests that come too late."""

from __future__ import annotations

from typing import Any

import pytest

from asyncwatch import StartError, Supervisor
from asyncwatch.selftest.actors import Actor, child, end, statuses


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
