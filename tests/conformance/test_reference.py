"""Random sequences of requests, ends and failing starts, compared with a model of supervisor.erl."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.supervisor import Supervisor
from asyncwatch.engine.tree.specs import PoolSpec, SupervisorSpec
from asyncwatch.otp import ChildInfo, Ignore, TreeError
from asyncwatch.policies.restart import AutoShutdown, RestartType
from asyncwatch.selftest.actors import Actor, child, counts, is_up, statuses, supervisor
from tests.clock import TASK_FACTORIES, run_jumping
from tests.conformance.reference import SLOW, How, Kid, Outcome, Reference, Strategy

NAMES = "abcd"
POOL = "pool"
MOMENT = 0.001
"""Seconds after which everything is done that takes no time: the clock does not jump before."""

Script = dict[str, list[Outcome]]
Operation = tuple[Any, ...]
Kind = tuple[RestartType, bool]
"""The restart type of a child, and whether it is significant where that is allowed."""

names = st.sampled_from(NAMES)
kinds = st.tuples(st.sampled_from(get_args(RestartType)), st.booleans())
outcomes = st.lists(st.sampled_from((*get_args(Outcome), "slow error")), min_size=1, max_size=4)
ends = st.tuples(st.integers(0, len(NAMES) - 1), st.sampled_from((*get_args(How), "abnormal")))
ended = st.tuples(st.just("end"), st.lists(ends, min_size=1, max_size=3))
scripted = st.tuples(st.just("script"), names, outcomes)
waited = st.tuples(st.just("wait"), st.sampled_from((SLOW / 2, SLOW, 6.0)))
asked = st.tuples(st.sampled_from(("terminate", "terminate", "restart", "delete")), names)
operations = st.one_of(ended, scripted, scripted, waited, asked, st.tuples(st.just("start"), names, kinds))


class ScriptedActor(Actor):
    """An actor with scripted starts."""

    def __init__(self, name: str, log: list[str], script: Script) -> None:
        super().__init__(name, log)
        self._script = script

    async def __call__(self, *args: object) -> object:
        """Start, fail to start or ignore the start."""
        left = self._script.get(self.name)
        speed, _, outcome = (left.pop(0) if left else "ok").rpartition(" ")
        if speed:
            await asyncio.sleep(SLOW)
        if outcome == "error":
            raise OSError("it does not start")
        if outcome == "ignore":
            raise Ignore
        return await super().__call__(*args)


@dataclass
class Comparison:
    """A supervisor and its model. Both get the same operations."""

    running: Supervisor
    model: Reference
    actors: dict[str, ScriptedActor]
    script: Script
    log: list[str]
    pool_kind: Kind | None
    announces_ready: bool
    answers: list[tuple[str, asyncio.Task[str], asyncio.Future[str]]] = field(default_factory=list)

    @property
    def under(self) -> str | None:
        """The path of the supervisor."""
        return None if self.pool_kind is None else POOL

    def spec_of(self, kid: Kid) -> WorkerSpec:
        """Return the spec of a child for the supervisor."""
        return spec_of(kid, self.actors, announces_ready=self.announces_ready)

    async def do(self, operation: Operation) -> None:
        """Carry out one operation on both, and let everything happen that takes no time."""
        match operation:
            case ("wait", seconds):
                await asyncio.sleep(seconds)
            case ("script", name, outcomes):
                if not self.announces_ready:  # it is ready at its first wait, and so no start is slow
                    outcomes = [outcome.rpartition(" ")[2] for outcome in outcomes]
                self.script[name], self.model.script[name] = list(outcomes), list(outcomes)
            case ("end", ends):
                self._end(ends)
            case (request, name, *kind):
                self._ask(request, name, *kind)
        await asyncio.sleep(MOMENT)

    def _end(self, ends: list[tuple[int, How]]) -> None:
        """End running children: for each end, the place of the child among them and how it ends."""
        for place, how in ends:
            alive = [kid for kid in self.model.children if kid.pid is not None and kid.pid.is_alive]
            if alive:
                kid = alive[place % len(alive)]
                self.actors[kid.name].ends(how)
                self.model.exit(kid, how)

    def _ask(self, request: str, name: str, kind: Kind | None = None) -> None:
        model, loop = self.model, asyncio.get_running_loop()
        call: Awaitable[ChildInfo | None]
        if kind is not None:
            kid = new_kid(name, self.pool_kind or kind, model.auto_shutdown)
            specs = (name, name) if self.under else (self.spec_of(kid),)
            call = self.running.start_child(*specs, under=self.under)
            expected = model.call(model.start_child, kid)
        else:
            call = getattr(self.running, f"{request}_child")(name, under=self.under)
            more = (model.interrupt(name),) if request == "terminate" else ()
            expected = model.call(getattr(model, f"{request}_child"), name, *more)
        self.answers.append((f"{request} {name}", asyncio.Task(answer(call), loop=loop), expected))

    def compare(self) -> None:
        """Assert that both have done the same and are in the same state."""
        model = self.model
        order: Callable[[list[str]], list[str]] = list if self.under is None or model.is_up else sorted
        assert order(self.log) == order(model.log)
        for what, actual, expected in self.answers:
            assert (what, actual.done()) == (what, expected.done())
            assert not expected.done() or (what, actual.result()) == (what, expected.result())
        assert is_up(self.running, self.under) == model.is_up
        if model.is_up and not model.is_busy:
            assert statuses(self.running, self.under) == model.statuses()
            number = len(model.children)
            active = sum(kid.pid is not None for kid in model.children)
            assert counts(self.running, self.under) == [1 if self.under else number, active, 0, number]


async def answer(call: Awaitable[ChildInfo | None]) -> str:
    """Return the answer to a request as one word: the status of a started child, `ok`, or the error."""
    try:
        info = await call
    except TreeError as error:
        return type(error).__name__
    return "ok" if info is None else info.status.value


def new_kid(name: str, kind: Kind, auto_shutdown: AutoShutdown) -> Kid:
    """Return a child of that kind."""
    restart, is_significant = kind
    return Kid(name, restart, is_significant and restart != "permanent" and auto_shutdown != "never")


def spec_of(kid: Kid, actors: dict[str, ScriptedActor], *, announces_ready: bool) -> WorkerSpec:
    """Return the spec of the child for our supervisor."""
    return child(actors[kid.name], kid.restart, significant=kid.is_significant, announces_ready=announces_ready)


def pool_of(kid: Kid, actors: dict[str, ScriptedActor], flags: dict[str, Any], *, announces_ready: bool) -> PoolSpec:
    """Return a pool of children of that kind; the argument of each is its name."""

    async def one_of_them(name: str) -> object:
        return await actors[name]()

    template = WorkerSpec(
        "template",
        one_of_them,
        restart=kid.restart,
        significant=kid.is_significant,
        announces_ready=announces_ready,
    )
    return PoolSpec(POOL, template, restart="temporary", **flags)


async def compare_runs(
    strategy: Strategy,
    flags: dict[str, Any],
    kinds: list[Kind],
    operations: list[Operation],
    *,
    announces_ready: bool = True,
) -> None:
    """Do the same with a supervisor and its model; compare them after each operation and at the end."""
    script: Script = {}
    log: list[str] = []
    actors = {name: ScriptedActor(name, log, script) for name in NAMES}
    model = Reference(strategy, script={}, **flags)
    kids = [new_kid(name, kind, model.auto_shutdown) for name, kind in zip(NAMES, kinds, strict=False)]
    if strategy == "simple_one_for_one":
        root = supervisor(pool_of(kids[0], actors, flags, announces_ready=announces_ready))
        pool_kind, kids = kinds[0], []
    else:
        specs = (spec_of(kid, actors, announces_ready=announces_ready) for kid in kids)
        root = supervisor(*specs, strategy=strategy, **flags)
        pool_kind = None
    async with root as running:
        runs = asyncio.Task(model.run(kids), loop=asyncio.get_running_loop())
        comparison = Comparison(running, model, actors, script, log, pool_kind, announces_ready)
        try:
            for operation in (("wait", 0.0), *operations):
                await comparison.do(operation)
                comparison.compare()
        finally:
            model.stop()
            await runs
    await asyncio.sleep(MOMENT)
    comparison.compare()


@pytest.mark.timeout(3600)  # `--hypothesis-profile=search` takes minutes
@settings(max_examples=4 * settings().max_examples)  # many defects need a combination that one example in hundreds has
@given(
    factory=st.sampled_from(list(TASK_FACTORIES)),
    strategy=st.sampled_from(get_args(Strategy)),
    flags=st.fixed_dictionaries(
        {
            "max_restarts": st.sampled_from((1, 3, 50)),
            "within": st.sampled_from((1.0, 5.0, 3600.0)),
            "auto_shutdown": st.sampled_from(get_args(AutoShutdown)),
        }
    ),
    kinds=st.lists(kinds, min_size=2, max_size=len(NAMES)),
    operations=st.lists(operations, min_size=8, max_size=40),
    announces_ready=st.booleans(),
)
def test_supervisor_under_random_operations_does_as_the_model(
    factory: str,
    strategy: Strategy,
    flags: dict[str, Any],
    kinds: list[Kind],
    operations: list[Operation],
    announces_ready: bool,
) -> None:
    """It starts and stops its children and answers requests as OTP's supervisor does, at the same times."""
    runs = partial(compare_runs, strategy, flags, kinds, operations, announces_ready=announces_ready)
    run_jumping(runs, TASK_FACTORIES[factory])


@pytest.mark.parametrize("factory", TASK_FACTORIES)
@pytest.mark.parametrize(
    ("auto_shutdown", "kind", "restart"),
    [
        ("never", ("permanent", False), "ok"),
        ("any_significant", ("transient", True), "ok"),
        ("all_significant", ("transient", True), "ignore"),
    ],
)
def test_restart_is_made_before_the_end_of_a_sibling_ends_the_supervisor(
    factory: str, auto_shutdown: AutoShutdown, kind: Kind, restart: Outcome
) -> None:
    """Three children have ended, and the supervisor handles one end after the other."""
    flags = {"max_restarts": 1, "within": 5.0, "auto_shutdown": auto_shutdown}
    operations = [("script", "a", [restart]), ("end", [(2, "normal"), (0, "abnormal"), (0, "normal")])]  # c, a, b
    kinds: list[Kind] = [kind, kind, ("temporary", False)]
    runs = partial(compare_runs, "one_for_one", flags, kinds, operations, announces_ready=False)
    run_jumping(runs, TASK_FACTORIES[factory])


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_pending_retry_of_a_restart_is_made_although_the_child_was_restarted_since(factory: str) -> None:
    """A message to try a restart again is valid while its child is restarting, whichever failure it came from."""
    flags = {"max_restarts": 2, "within": 5.0, "auto_shutdown": "never"}
    operations = [
        ("script", "c", ["slow error", "slow error"]),
        ("end", [(2, "kill")]),  # c is restarted, which fails: it is to be tried again
        ("end", [(1, "kill")]),  # b is restarted before, and c with it, which fails too
        ("wait", SLOW),
        ("delete", "d"),  # comes after the first of two messages to try c again: that is one restart too many
        ("wait", SLOW),
    ]
    kinds: list[Kind] = [("permanent", False)] * 3
    run_jumping(partial(compare_runs, "rest_for_one", flags, kinds, operations), TASK_FACTORIES[factory])


@pytest.mark.parametrize("factory", TASK_FACTORIES)
@pytest.mark.parametrize("stopped", ["a", "b"])
def test_restarting_child_with_a_pending_stop_is_not_stopped_before(factory: str, stopped: str) -> None:
    """A request to delete the child that comes before the request to stop it is refused."""
    flags = {"max_restarts": 2, "within": 5.0, "auto_shutdown": "never"}
    operations = [
        ("script", "a", ["slow ok"]),
        ("end", [(1, "kill")]),  # a is started again, then b
        ("delete", stopped),
        ("terminate", stopped),
        ("wait", SLOW),
    ]
    kinds: list[Kind] = [("permanent", False)] * 2
    run_jumping(partial(compare_runs, "one_for_all", flags, kinds, operations), TASK_FACTORIES[factory])


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_requested_start_that_fails_ends_the_retries_of_a_restart(factory: str) -> None:
    """If the child starts with a sibling later and is stopped then, its start was interrupted, and has not failed."""
    flags = {"max_restarts": 3, "within": 1.0, "auto_shutdown": "never"}
    operations = [
        ("script", "b", ["slow error", "error", "slow ok"]),
        ("end", [(0, "normal")]),  # b fails to start with a: it is to be tried again
        ("end", [(0, "normal")]),  # a ends meanwhile
        ("wait", SLOW / 2),
        ("restart", "b"),  # it fails by request
        ("script", "a", ["error"]),
        ("wait", SLOW / 2),  # a is tried again, and b starts with it
        ("terminate", "b"),  # c starts all the same
    ]
    kinds: list[Kind] = [("permanent", False)] * 3
    run_jumping(partial(compare_runs, "one_for_all", flags, kinds, operations), TASK_FACTORIES[factory])


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_request_that_is_handled_after_the_stop_is_refused(factory: str) -> None:
    """A supervisor that is to stop while a request is pending starts no child any more."""

    async def main() -> None:
        actor = Actor("a")
        async with supervisor(child(actor)) as running:
            await running.terminate_child("a")
            request = asyncio.Task(answer(running.restart_child("a")), loop=asyncio.get_running_loop())
            await asyncio.sleep(0)
        assert (actor.log, await request) == (["+a", "-a"], "NoSuchSupervisor")

    run_jumping(main, TASK_FACTORIES[factory])


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_supervisor_that_is_not_stopped_yet_goes_on_restarting(factory: str) -> None:
    """Children stop one after the other, the last one first: a supervisor below goes on until then."""

    async def main() -> None:
        log: list[str] = []
        first, last = Actor("first", log), Actor("last", log, lingers=1.0)
        async with supervisor(SupervisorSpec("below", (child(first),)), child(last)):
            asyncio.get_running_loop().call_later(0.5, first.ends, "abnormal")
        assert log == ["+first", "+last", "-first", "+first", "-last", "-first"]

    run_jumping(main, TASK_FACTORIES[factory])
