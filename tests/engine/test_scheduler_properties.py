"""Random fleets, commands, faults and clock jumps: the scheduler's state is valid after every loop iteration."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from asyncwatch import (
    BadLuck,
    CircuitPolicy,
    Halt,
    RetryBudget,
    RetryPolicy,
    Throttled,
    ThrottlePolicy,
    WorkerSpec,
    classify,
    parse_rate,
)
from asyncwatch.commands import (
    CancelBranch,
    CancelWorker,
    ChangeSetting,
    CloseCircuit,
    Command,
    GiveUp,
    GiveUpAll,
    HoldKey,
    IsolateCircuit,
    ProbeCircuit,
    ReleaseKey,
    ResetKey,
    RestartBranch,
    RestartWorker,
    RetryAllNow,
    RetryNow,
)
from asyncwatch.engine.dispatch import carry_out
from asyncwatch.engine.outbox import Listener
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.scheduler import TRANSITIONS, Scheduler
from asyncwatch.engine.worker import Worker
from asyncwatch.events import (
    Event,
    RestartScheduled,
    RunFinished,
    WorkerEnded,
    WorkerRestarted,
    WorkersQueued,
    WorkerState,
    WorkerUnresponsive,
)
from asyncwatch.otp import Shutdown
from tests.clock import run_jumping
from tests.engine.fleets import drain, stubborn

BATCH, SERVICES = 5, 2
NAMES = [*(f"b{n}" for n in range(BATCH)), *(f"s{n}" for n in range(SERVICES))]
Step = tuple[str, Any]


@dataclass
class Behaviour:
    """What the attempts of a worker do in turn, repeated from the first."""

    attempts: list[tuple[float, str]]
    calls: int = 0

    async def __call__(self) -> str:
        """Sleep, then end as the script says. `stubborn` swallows cancellations meanwhile."""
        seconds, end = self.attempts[self.calls % len(self.attempts)]
        self.calls += 1
        await (stubborn(seconds) if end == "stubborn" else asyncio.sleep(seconds))
        match end:
            case "transient":
                raise ConnectionError(end)
            case "throttled":
                raise Throttled(self.calls % 3 or None)
            case "outage":
                raise Throttled(9)
            case "permanent":
                raise ValueError(end)
            case "exit":
                raise SystemExit(1)
            case "shutdown":
                raise Shutdown
        return end


def broken(*_args: object) -> Any:
    """Raise, as a function of the user may."""
    raise LookupError


@dataclass
class Owner:
    """A minimal supervisor of one service: restarts it `restarts` times, each after `delay` seconds."""

    scheduler: Scheduler
    spec: WorkerSpec
    restarts: int
    delay: float
    worker: Worker | None = None
    is_ready: bool = False
    is_wanted: bool = True
    timer: asyncio.Handle | None = None
    endings: list[WorkerState] = field(default_factory=list)

    def launch(self) -> None:
        self.timer = None
        self.is_ready = False
        self.worker = None
        worker = self.scheduler.launch(self.spec, self)
        self.worker = worker

    def ran_first_step(self, task: asyncio.Task[Any]) -> None:
        """Treat the worker as ready."""
        self.is_ready = not task.done()

    def waits(self) -> None:
        pass

    def poll_ended(self) -> None:
        """Treat the poller as ready."""
        self.is_ready = True

    def announce(self, value: object) -> None:
        pass

    def was_replaced(self) -> None:
        """Do nothing: the new incarnation has the same owner."""

    def ended(self, worker: Worker) -> None:
        """Restart the worker after the delay if a restart is left."""
        self.endings.append(worker.state)
        if self.is_wanted and self.restarts:
            self.restarts -= 1
            asyncio.get_running_loop().call_soon(self._restart_later, worker)

    def _restart_later(self, worker: Worker) -> None:
        if self.is_wanted and worker.state.is_settled and self.timer is None and self.worker is worker:
            self.scheduler.hold_restart(worker, self.delay, "it ended")
            self.timer = asyncio.get_running_loop().call_later(self.delay, self.launch)

    def cancel(self) -> str:
        """Stop the worker for good."""
        self.is_wanted = False
        worker = self.worker
        if worker is None:
            return "it has not started"
        if worker.state is WorkerState.CANCELLING:
            self.scheduler.cancel_again(worker)
            return ""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
            self.scheduler.drop_restart(worker)
            return ""
        self.scheduler.stop_service(worker, "person")
        return ""

    def restart(self) -> str:
        """Launch another incarnation if none is there."""
        if self.worker is None or not self.worker.state.is_settled or self.timer is not None:
            return "it runs"
        self.is_wanted = True
        self.launch()
        return ""


class Checked:
    """A scheduler whose state is checked after every loop iteration, and whose transitions are recorded."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.states: dict[Worker, WorkerState] = {}
        self.transitions: set[tuple[WorkerState, WorkerState]] = set()
        self._transition: Callable[[Worker, WorkerState], None] = scheduler._transition
        scheduler._transition = self._record  # type: ignore[method-assign]  # to record what it does
        loop: Any = asyncio.get_running_loop()
        self._run_once = loop._run_once
        loop._run_once = self._check_after

    def _record(self, worker: Worker, state: WorkerState) -> None:
        before = worker.state
        assert self.states.get(worker, before) is before, f"{worker} was changed elsewhere"
        self._transition(worker, state)
        self.states[worker] = worker.state
        self.transitions.add((before, state))

    def _check_after(self) -> None:
        self._run_once()
        if self.scheduler.is_started and not self.scheduler.is_finished:
            self.check()

    def check(self) -> None:
        """Check everything that has to hold between two loop iterations."""
        scheduler = self.scheduler
        scheduler.validate_state()
        for worker, state in self.states.items():
            assert worker.state is state, f"{worker} was changed elsewhere"
        workers = {name: found for name in NAMES if (found := scheduler.registry.get(name)) is not None}
        assert Counter(worker.state.value for worker in workers.values()) == scheduler.registry.states()
        for outcome in scheduler.registry.outcomes():
            worker = workers[outcome.name]
            if worker.state.is_settled:
                assert (worker.state, worker.incarnation) == (outcome.state, outcome.incarnation)


seconds = st.sampled_from((0.0, 0.5, 1.0, 3.0))
behaviours = st.lists(
    st.tuples(
        seconds,
        st.sampled_from(
            (
                *("done", "done", "transient", "transient", "permanent", "throttled", "throttled", "outage"),
                *("stubborn", "stubborn", "exit", "shutdown"),
            )
        ),
    ),
    min_size=1,
    max_size=3,
)
treatments = st.fixed_dictionaries(
    {
        "retry": st.sampled_from((RetryPolicy(max_attempts=1), RetryPolicy(base=2.0, cap=4.0, max_attempts=3))),
        "bad_luck": st.sampled_from((BadLuck(), BadLuck(threshold=0.6, latency=(0.0, 1.0)))),
        "attempt_timeout": st.sampled_from((None, None, 0.75, Decimal(5))),  # `Decimal` makes every start fail
        "deadline": st.sampled_from((None, None, None, 2.0, Decimal(5))),  # `Decimal` makes every start fail
        "key": st.sampled_from((None, "k", "k", "other", broken)),
        "retry_by_class": st.sampled_from((None, None, {"throttled": RetryPolicy(max_attempts=2)})),
        "classify": st.sampled_from((classify, classify, broken)),
        "group": st.sampled_from(("", "g")),
        "shutdown": st.sampled_from((None, 0.0, 10.0)),
    }
)
names = st.sampled_from(NAMES)
about_worker = st.tuples(st.sampled_from((CancelWorker, RestartWorker, RetryNow, GiveUp, RestartWorker)), names)
settled_values = st.sampled_from(
    (
        ChangeSetting("concurrency", 1),
        ChangeSetting("concurrency", 9),
        ChangeSetting("paused", value=True),
        ChangeSetting("paused", value=False),
        ChangeSetting("rate", "2/s"),
        ChangeSetting("rate per key", "1/s"),
        ChangeSetting("rate", None),
        ChangeSetting("bad luck", 0.2),
    )
)
about_run = st.sampled_from(
    (
        RetryAllNow(),
        GiveUpAll(),
        CancelBranch("g"),
        RestartBranch("g"),
        IsolateCircuit("k"),
        CloseCircuit("k"),
        ProbeCircuit("k"),
        HoldKey("k"),
        ReleaseKey("k"),
        ReleaseKey("k"),
        ResetKey("k"),
        ReleaseKey("Behaviour"),
    )
)
calls = st.sampled_from(("stop all", "stop batch", "hasten", "stop service", "hold", "release"))
steps = st.one_of(
    st.tuples(st.just("worker"), about_worker),
    st.tuples(st.just("command"), settled_values),
    st.tuples(st.just("command"), about_run),
    st.tuples(st.just("call"), calls),
    st.tuples(st.just("wait"), seconds),
    st.tuples(st.just("wait"), seconds),
)
fleets = st.fixed_dictionaries(
    {
        "behaviours": st.lists(behaviours, min_size=len(NAMES), max_size=len(NAMES)),
        "treatments": st.lists(treatments, min_size=len(NAMES), max_size=len(NAMES)),
        "every": st.sampled_from((None, 2.0)),
        "settings": st.fixed_dictionaries(
            {
                "concurrency": st.sampled_from((1, 3)),
                "grace": st.sampled_from((0.0, 1.0)),
                "circuit": st.sampled_from((None, CircuitPolicy(min_throughput=2, open_for=1.5))),
                "rate": st.sampled_from((None, parse_rate("4/s"))),
                "rate_per_key": st.sampled_from((None, parse_rate("2/s"))),
                "halt": st.sampled_from((None, Halt(failures=2), Halt(failures=2, mode="now"))),
                "retry_budget": st.sampled_from(
                    (
                        None,
                        RetryBudget(tokens=12, mode="refuse"),
                        RetryBudget(tokens=12, time_gain=4.0),
                        RetryBudget(tokens=12, time_gain=0.0, patience=3.0),
                    )
                ),
                "throttle": st.sampled_from(
                    (None, ThrottlePolicy(), ThrottlePolicy(patience=4.0, max_retry_after=8.0))
                ),
                "max_per_key": st.sampled_from((None, None, 1, 2)),
            }
        ),
    }
)


def perform(scheduler: Scheduler, owners: list[Owner], step: Step) -> None:
    """Carry out one step."""
    kind, what = step
    if kind == "worker":
        make, name = what
        worker = scheduler.registry.get(name)
        command: Command = make(name, 1 if worker is None else worker.incarnation)
        carry_out(scheduler, None, command)
    elif kind == "command":
        carry_out(scheduler, None, what)
    elif what == "stop all":
        scheduler.stop_active("run")
    elif what == "stop batch":
        scheduler.stop_batch("timeout", "g")
    elif what in {"hold", "release"}:
        scheduler.hold_slots(what == "hold")
    else:
        for owner in owners:
            if owner.worker is not None and owner.timer is None:
                (scheduler.hasten if what == "hasten" else scheduler.stop_service)(
                    owner.worker, *(() if what == "hasten" else ("supervisor", 0.5))
                )


def check_ends(scheduler: Scheduler, events: list[Event]) -> None:
    """Check the ends of all incarnations and the final counts.

    The last incarnation of each worker ended, and each other one at most once. An abandoned incarnation may end once
    more, as may one whose restart was dropped. An incarnation that is restarted while it waits is replaced without an
    end.
    """
    begun = {(name, 1) for event in events if isinstance(event, WorkersQueued) for name in event.workers}
    begun |= {(event.worker, event.incarnation) for event in events if isinstance(event, WorkerRestarted)}
    ends = defaultdict[tuple[str, int], list[WorkerEnded]](list)
    for event in events:
        if isinstance(event, WorkerEnded):
            ends[event.worker, event.incarnation].append(event)
    assert dict(sorted(begun)).items() <= ends.keys() <= begun
    held = {(event.worker, event.incarnation) for event in events if isinstance(event, RestartScheduled)}
    for incarnation, ended in ends.items():
        assert len(ended) - 1 <= (incarnation in held) + any(isinstance(event, WorkerUnresponsive) for event in ended)
    outcomes = {outcome.name: outcome for outcome in scheduler.registry.outcomes()}
    assert outcomes.keys() == {name for name, _ in begun}
    for outcome in outcomes.values():
        last = ends[outcome.name, outcome.incarnation][-1]
        assert (last.state, last.attempts, last.elapsed) == (outcome.state, outcome.attempts, outcome.elapsed)
    finished = events[-1]
    assert isinstance(finished, RunFinished)
    assert finished.states == Counter(outcome.state.value for outcome in outcomes.values())
    assert [event.seq for event in events] == list(range(len(events)))


def run_fleet(fleet: dict[str, Any], script: list[Step]) -> tuple[set[tuple[WorkerState, WorkerState]], list[Event]]:
    """Run a fleet through the steps to its end, and return its transitions and its events."""

    async def main() -> tuple[set[tuple[WorkerState, WorkerState]], list[Event]]:
        specs = [
            WorkerSpec(name, Behaviour(attempts), **treatment)
            for name, attempts, treatment in zip(NAMES, fleet["behaviours"], fleet["treatments"], strict=True)
        ]
        scheduler = Scheduler(specs[:BATCH], reporter=Reporter(), seed=1, **fleet["settings"])
        listener = Listener()
        queue = listener.attach()
        scheduler.reporter.outbox.add(listener)
        checked = Checked(scheduler)
        scheduler.start("property", "serve", None, 0.0, services=SERVICES)
        scheduler.announce_batch()
        scheduler.start_batch()
        owners = []
        for number, spec in enumerate(specs[BATCH:]):
            service = WorkerSpec(
                spec.name,
                spec.target,
                key=spec.key,
                classify=spec.classify,
                deadline=spec.deadline,
                retry=spec.retry,
                restart="permanent",
                every=fleet["every"],
                shutdown=spec.shutdown,
            )
            owners.append(Owner(scheduler, service, restarts=2, delay=float(number)))
            owners[-1].launch()
        for step in script:
            if step[0] == "wait":
                await asyncio.sleep(step[1])
            else:
                perform(scheduler, owners, step)
                checked.check()
        scheduler.close_restarts()
        for owner in owners:
            owner.cancel()
        scheduler.hold_slots(is_held=False)
        scheduler.stop_batch("run")
        async with asyncio.timeout(1_000):
            await scheduler.wait_settled()
        checked.check()
        scheduler.finish()
        events = drain(queue)
        check_ends(scheduler, events)
        return checked.transitions, events

    result: tuple[set[tuple[WorkerState, WorkerState]], list[Event]] = run_jumping(main)
    return result


@given(fleets, st.lists(steps, min_size=8, max_size=25))
def test_scheduler_keeps_a_valid_state_in_random_runs(fleet: dict[str, Any], script: list[Step]) -> None:
    for before, after in run_fleet(fleet, script)[0]:
        assert after in TRANSITIONS[before]


def test_transition_table_has_every_state() -> None:
    assert TRANSITIONS.keys() == set(WorkerState)
    assert set().union(*TRANSITIONS.values()) == set(WorkerState)
