"""What a spec may hold: each invalid field has its own error, and all combinations of valid ones are accepted."""

from __future__ import annotations

import itertools
import math
from functools import partial
from typing import Any

from asyncwatch.selftest.actors import Actor, calm, child, expect_error, expect_raise, supervisor
from asyncwatch.supervise.spec import WorkerSpec
from asyncwatch.supervise.supervisor import Supervisor
from asyncwatch.supervise.tree import errors
from asyncwatch.supervise.tree.restart import RestartBackoff
from asyncwatch.supervise.tree.specs import PoolSpec, SupervisorSpec

_ACTOR = Actor("child")
_WORKER_FIELDS: tuple[tuple[dict[str, Any], type[errors.SpecError]], ...] = (
    ({"restart": "prmanent"}, errors.InvalidRestartType),
    ({"shutdown": -10}, errors.InvalidShutdown),
    ({"shutdown": math.nan}, errors.InvalidShutdown),
    ({"shutdown": "soon"}, errors.InvalidShutdown),
    ({"significant": "maybe"}, errors.InvalidFlag),
    ({"significant": True, "restart": "permanent"}, errors.BadCombination),
    ({"announces_ready": 1}, errors.InvalidFlag),
    ({"every": 0}, errors.InvalidPeriod),
    ({"max_restarts": -1}, errors.InvalidIntensity),
    ({"max_restarts": 1, "within": 0}, errors.InvalidPeriod),
    ({"escalates": True}, errors.BadCombination),
    ({"escalates": ""}, errors.InvalidFlag),
    ({"significant": 0}, errors.InvalidFlag),
    ({"within": 0}, errors.InvalidPeriod),
    ({"within": -1}, errors.InvalidPeriod),
    ({"within": math.nan}, errors.InvalidPeriod),
    ({"args": 5}, errors.InvalidArguments),
    ({"backoff": None}, errors.InvalidBackoff),
    ({"backoff": 3}, errors.InvalidBackoff),
)
_FLAGS: tuple[tuple[dict[str, Any], type[errors.SpecError]], ...] = (
    ({"strategy": "none_for_one"}, errors.InvalidStrategy),
    ({"max_restarts": math.inf}, errors.InvalidIntensity),
    ({"max_restarts": -1}, errors.InvalidIntensity),
    ({"max_restarts": True}, errors.InvalidIntensity),
    ({"within": 0}, errors.InvalidPeriod),
    ({"within": math.inf}, errors.InvalidPeriod),
    ({"auto_shutdown": "sometimes"}, errors.InvalidAutoShutdown),
)


async def child_specs() -> None:
    """Each invalid field of a worker, a supervisor or a pool has its own error; the valid ones go together."""
    for fields, error in _WORKER_FIELDS:
        expect_raise(error, partial(WorkerSpec, "child", _ACTOR, **fields))
    significant = WorkerSpec("child", _ACTOR, significant=True)
    expect_raise(errors.BadCombination, lambda: SupervisorSpec("low", (significant,)))
    expect_raise(errors.BadCombination, lambda: PoolSpec("low", significant))
    expect_raise(errors.DuplicateName, lambda: SupervisorSpec("low", (child(_ACTOR), child(_ACTOR))))
    expect_raise(errors.InvalidTemplate, lambda: PoolSpec("low", (child(_ACTOR), child(_ACTOR))))  # type: ignore[arg-type]  # the point
    expect_raise(errors.InvalidTemplate, lambda: PoolSpec("low", ()))  # type: ignore[arg-type]  # the point
    expect_raise(errors.InvalidName, lambda: SupervisorSpec("low/er"))
    expect_raise(errors.InvalidName, lambda: WorkerSpec(5, _ACTOR))  # type: ignore[arg-type]  # the point
    beside = (WorkerSpec("a/b", _ACTOR), SupervisorSpec("a"))
    expect_raise(errors.InvalidName, lambda: SupervisorSpec("low", beside))
    expect_raise(errors.InvalidChild, lambda: SupervisorSpec("low", 5))  # type: ignore[arg-type]  # the point
    expect_raise(errors.InvalidBackoff, lambda: SupervisorSpec("low", backoff=3))  # type: ignore[arg-type]  # the point
    expect_raise(errors.InvalidBackoff, lambda: RestartBackoff(base=True))
    expect_raise(errors.InvalidBackoff, lambda: RestartBackoff(base="x"))  # type: ignore[arg-type]  # the point
    expect_raise(errors.InvalidBackoff, lambda: RestartBackoff(base=2.0, cap=1.0))
    expect_raise(errors.InvalidBackoff, lambda: RestartBackoff(factor=0.5))
    async with supervisor() as running:
        await expect_error(errors.InvalidChild, running.start_child("hej"))
        await running.start_child(PoolSpec("pool", child(_ACTOR)))
        await expect_error(errors.InvalidName, running.start_child(WorkerSpec("pool/b", _ACTOR)))
        await expect_error(errors.InvalidName, running.start_child("", under="pool"))
        await running.start_child(WorkerSpec("a/b", _ACTOR))
        await expect_error(errors.InvalidName, running.start_child(SupervisorSpec("a")))
        await expect_error(errors.BadCombination, running.start_child(significant))
    _accept_all()


def _accept_all() -> None:
    for restart, shutdown, flag, auto in itertools.product(
        ("permanent", "transient", "temporary"),
        (0, 1.0, math.inf),
        (True, False),
        ("never", "any_significant", "all_significant"),
    ):
        if flag and (restart == "permanent" or auto == "never"):
            continue
        common: dict[str, Any] = {"restart": restart, "shutdown": shutdown, "significant": flag}
        worker = WorkerSpec("worker", _ACTOR, **common)
        for strategy in ("one_for_one", "one_for_all", "rest_for_one"):
            low = SupervisorSpec("low", **common)
            pool = PoolSpec("pool", worker, auto_shutdown=auto, **common)  # type: ignore[arg-type]  # any of them is valid
            SupervisorSpec("top", (worker, low, pool), strategy=strategy, auto_shutdown=auto)  # type: ignore[arg-type]  # as above


async def sup_flags() -> None:
    """Each invalid flag of a supervisor has its own error, and an unknown one is refused."""
    for flags, error in _FLAGS:
        expect_raise(error, partial(SupervisorSpec, "low", **flags))
        expect_raise(error, partial(Supervisor, [], **flags))
        if "strategy" not in flags:
            expect_raise(error, partial(PoolSpec, "low", child(_ACTOR), **flags))
    expect_raise(TypeError, lambda: SupervisorSpec("low", silly_flag=True))  # type: ignore[call-arg]  # the point
    await calm(1)
