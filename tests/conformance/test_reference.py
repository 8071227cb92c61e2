"""Random sequences of requests, ends and failing starts, against a model of supervisor.erl."""

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
from asyncwatch.engine.tree.child import ChildInfo
from asyncwatch.engine.tree.errors import Ignore, TreeError
from asyncwatch.engine.tree.specs import PoolSpec, SupervisorSpec
from asyncwatch.policies.restart import AutoShutdown, RestartType
from asyncwatch.selftest.actors import Actor, child, counts, is_up, statuses, supervisor
from asyncwatch.testing import run_jumping
from tests.conformance.conftest import TASK_FACTORIES
from tests.conformance.reference import SLOW, How, Kid, Outcome, Reference, Strategy

NAMES = "abcd"
POOL = "pool"
MOMENT = 0.001
"""Seconds after which all is done that takes no time: the clock does not go on before."""

Script = dict[str, list[Outcome]]
Operation = tuple[Any, ...]
Kind = tuple[RestartType, bool]
"""The restart type of a child, and whether it is significant if that is allowed."""

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
    """An actor whose starts go as the script says."""

    def __init__(self, name: str, log: list[str], script: Script) -> None:
        super().__init__(name, log)
        self._script = script

    async def __call__(self, *args: object) -> object:
        """Start, or not."""
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
class Stage:
    """A supervisor and its model, which are told the same."""

    running: Supervisor
    model: Reference
    actors: dict[str, ScriptedActor]
    script: Script
    log: list[str]
    pool_kind: Kind | None
    answers: list[tuple[str, asyncio.Task[str], asyncio.Future[str]]] = field(default_factory=list)

    @property
    def under(self) -> str | None:
        """The path of the supervisor."""
        return None if self.pool_kind is None else POOL

    async def do(self, operation: Operation) -> None:
        """Carry out one operation on both, and let pass what takes no time."""
        match operation:
            case ("wait", seconds):
                await asyncio.sleep(seconds)
            case ("script", name, outcomes):
                self.script[name], self.model.script[name] = list(outcomes), list(outcomes)
            case ("end", ends):
                self._end(ends)
            case (request, name, *kind):
                self._ask(request, name, *kind)
        await asyncio.sleep(MOMENT)

    def _end(self, ends: list[tuple[int, How]]) -> None:
        """End, in each of these ways, the child that comes at that place among those that run."""
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
            specs = (name, name) if self.under else (spec_of(kid, self.actors),)
            call = self.running.start_child(*specs, under=self.under)
            expected = model.call(model.start_child, kid)
        else:
            call = getattr(self.running, f"{request}_child")(name, under=self.under)
            more = (model.interrupt(name),) if request == "terminate" else ()
            expected = model.call(getattr(model, f"{request}_child"), name, *more)
        self.answers.append((f"{request} {name}", asyncio.Task(answer(call), loop=loop), expected))

    def compare(self) -> None:
        """Assert that both are and did the same."""
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
    """Return the answer to a request in a word: of a start the status, else `ok` or the error."""
    try:
        info = await call
    except TreeError as error:
        return type(error).__name__
    return "ok" if info is None else info.status.value


def new_kid(name: str, kind: Kind, auto_shutdown: AutoShutdown) -> Kid:
    """Return a child of that kind."""
    restart, is_significant = kind
    return Kid(name, restart, is_significant and restart != "permanent" and auto_shutdown != "never")


def spec_of(kid: Kid, actors: dict[str, ScriptedActor]) -> WorkerSpec:
    """Return the spec of the child for us."""
    return child(actors[kid.name], kid.restart, significant=kid.is_significant, announces_ready=True)


def pool_of(kid: Kid, actors: dict[str, ScriptedActor], flags: dict[str, Any]) -> PoolSpec:
    """Return a pool of children of that kind; each is told by its argument which it is."""

    async def one_of_them(name: str) -> object:
        return await actors[name]()

    template = WorkerSpec(
        "template", one_of_them, restart=kid.restart, significant=kid.is_significant, announces_ready=True
    )
    return PoolSpec(POOL, template, restart="temporary", **flags)


async def play(strategy: Strategy, flags: dict[str, Any], kinds: list[Kind], operations: list[Operation]) -> None:
    """Tell a supervisor and its model the same, and compare them after each operation and at the end."""
    script: Script = {}
    log: list[str] = []
    actors = {name: ScriptedActor(name, log, script) for name in NAMES}
    model = Reference(strategy, script={}, **flags)
    kids = [new_kid(name, kind, model.auto_shutdown) for name, kind in zip(NAMES, kinds, strict=False)]
    if strategy == "simple_one_for_one":
        root = supervisor(pool_of(kids[0], actors, flags))
        stage_kind, kids = kinds[0], []
    else:
        root = supervisor(*(spec_of(kid, actors) for kid in kids), strategy=strategy, **flags)
        stage_kind = None
    async with root as running:
        runs = asyncio.Task(model.run(kids), loop=asyncio.get_running_loop())
        stage = Stage(running, model, actors, script, log, stage_kind)
        try:
            for operation in (("wait", 0.0), *operations):
                await stage.do(operation)
                stage.compare()
        finally:
            model.stop()
            await runs
    await asyncio.sleep(MOMENT)
    stage.compare()


@settings(max_examples=4 * settings().max_examples)  # what many mistakes need comes together in one of some hundreds
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
)
def test_supervisors_do_as_the_model_does(
    factory: str, strategy: Strategy, flags: dict[str, Any], kinds: list[Kind], operations: list[Operation]
) -> None:
    """Whatever is asked of a supervisor and happens to its children: it starts, stops and answers as OTP's does."""
    run_jumping(partial(play, strategy, flags, kinds, operations), TASK_FACTORIES[factory])


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_a_try_that_is_due_is_made_though_its_child_was_restarted_since(factory: str) -> None:
    """A message to try a restart again counts as long as its child is restarting, whichever failure it came from."""
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
    run_jumping(partial(play, "rest_for_one", flags, kinds, operations), TASK_FACTORIES[factory])


@pytest.mark.parametrize("factory", TASK_FACTORIES)
@pytest.mark.parametrize("stopped", ["a", "b"])
def test_a_restarted_child_that_is_to_be_stopped_is_no_stopped_one_before(factory: str, stopped: str) -> None:
    """Who asks to delete a child before somebody asks to stop it is refused, also if its restart is called off."""
    flags = {"max_restarts": 2, "within": 5.0, "auto_shutdown": "never"}
    operations = [
        ("script", "a", ["slow ok"]),
        ("end", [(1, "kill")]),  # a is started again, then b
        ("delete", stopped),
        ("terminate", stopped),
        ("wait", SLOW),
    ]
    kinds: list[Kind] = [("permanent", False)] * 2
    run_jumping(partial(play, "one_for_all", flags, kinds, operations), TASK_FACTORIES[factory])


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_a_request_whose_turn_comes_with_the_stop_is_refused(factory: str) -> None:
    """A supervisor that is asked to stop while a request is on its way to it starts no child any more."""

    async def main() -> None:
        actor = Actor("a")
        async with supervisor(child(actor)) as running:
            await running.terminate_child("a")
            request = asyncio.Task(answer(running.restart_child("a")), loop=asyncio.get_running_loop())
            await asyncio.sleep(0)
        assert (actor.log, await request) == (["+a", "-a"], "NoSuchSupervisor")

    run_jumping(main, TASK_FACTORIES[factory])


@pytest.mark.parametrize("factory", TASK_FACTORIES)
def test_a_supervisor_that_the_stop_has_not_come_to_goes_on_restarting(factory: str) -> None:
    """Children are stopped one after the other, the last one first: until its turn a supervisor below is as it was."""

    async def main() -> None:
        log: list[str] = []
        first, last = Actor("first", log), Actor("last", log, lingers=1.0)
        async with supervisor(SupervisorSpec("below", (child(first),)), child(last)):
            asyncio.get_running_loop().call_later(0.5, first.ends, "abnormal")
        assert log == ["+first", "+last", "-first", "+first", "-last", "-first"]

    run_jumping(main, TASK_FACTORIES[factory])
