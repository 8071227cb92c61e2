"""Commands with absurd values: each is carried out or refused, in a short event, and none raises."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import pytest

from asyncwatch import CircuitPolicy, RateLimit, Run, Supervisor, SupervisorSpec
from asyncwatch.commands import ChangeSetting, Command, StopRun, WatchStack
from asyncwatch.control.protocol import command_types
from asyncwatch.engine.run_control import RunControl, control_of
from asyncwatch.events import SETTINGS
from asyncwatch.events.wire import pack_batch
from tests.engine.fleets import drain, sleeper, worker

HUGE = "x" * 1_000_000
TEXTS = ["", "a", "b", "k", HUGE, "\0", "\x1b[2J", "../..", "a/b", "*", "\udcff"]
NUMBERS = [0, 1, -1, 2**63 - 1, -(2**63), 2**64 - 1]
VALUES: list[Any] = [
    *(None, True, False, math.nan, math.inf, -math.inf, 0.5, 1e308, -1e308, HUGE, *NUMBERS),
    *("", "5/s", "0/s", "-1/s", "nan/s", "inf/s", "1e400/s", "1/0s", "1/1e-400s", "9" * 5_000 + "/s"),
    *("5/s burst 0", "5/s burst " + "9" * 5_000, "\u0661/s"),
]


def absurd_commands() -> Iterator[Command]:
    """Yield commands of every class, with values that a client can send."""
    for kind in command_types():
        if kind is ChangeSetting:
            names = [*SETTINGS, "nope", "", HUGE]
            yield from (ChangeSetting(*values) for values in itertools.product(names, VALUES, ["", "k", HUGE]))
        elif kind is not StopRun:
            fields = [field.type for field in msgspec.structs.fields(kind)]
            choices: list[list[Any]] = [NUMBERS if each is int else TEXTS for each in fields]
            yield from itertools.starmap(kind, itertools.product(*choices))
    yield WatchStack(None)


def a_batch() -> Run:
    policies: Any = {"circuit": CircuitPolicy(), "rate_per_key": RateLimit(per_second=5.0)}
    return Run([worker("a", sleeper, 1e6, key="k"), worker("b", sleeper, 1e6)], seed=1, grace=0.05, **policies)


def a_tree() -> Supervisor:
    below = SupervisorSpec("b", (worker("c", sleeper, 1e6),))
    return Supervisor([worker("a", sleeper, 1e6), below], seed=1, grace=0.05)


@pytest.mark.parametrize("make", [a_batch, a_tree])
def test_absurd_command_is_refused_or_carried_out(
    run: Callable[[Callable[[], Awaitable[Any]]], Any], make: Callable[[], Run | Supervisor]
) -> None:
    def send_all(control: RunControl) -> None:
        for command in absurd_commands():
            control.carry_out(command)
            if isinstance(command, WatchStack) and command.worker is not None:
                control.stack_of(command.worker)

    async def main() -> None:
        served = make()
        control = control_of(served)
        queue = control.subscribe()
        errors: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
        send_all(control)
        async with served:
            serving = asyncio.ensure_future(served.serve() if isinstance(served, Supervisor) else served.gather())
            await asyncio.sleep(0.1)
            send_all(control)
            await asyncio.sleep(10.0)
            control.carry_out(StopRun())
            await asyncio.wait([serving])
        send_all(control)
        events = drain(queue)
        assert control.is_finished
        assert max(len(pack_batch((event,))) for event in events) < 2_000
        assert not errors

    run(main)
