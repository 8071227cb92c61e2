"""Requests that a user's callback makes in the middle of a decision: a policy, `str`, `repr`, a key, a log handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from asyncwatch import (
    CircuitPolicy,
    ErrorClass,
    RateLimit,
    RetryPolicy,
    Run,
    Supervisor,
    WorkerSpecs,
    parse_halt,
    ready,
)
from asyncwatch.commands import CancelAll, CancelWorker, Command, GiveUp, RestartWorker, RetryNow, StopRun
from asyncwatch.engine.reporter import Reporter
from asyncwatch.engine.run_control import RunControl, control_of
from asyncwatch.events import Event, RunFinished, WorkerEnded
from tests.engine.fleets import drain, later, raiser, sleeper, states, worker

REQUESTS: dict[str, Callable[[RunControl], Command]] = {
    "cancel": lambda control: CancelWorker("a", control.incarnation_of("a")),
    "restart": lambda control: RestartWorker("a", control.incarnation_of("a")),
    "retry": lambda control: RetryNow("a", control.incarnation_of("a")),
    "give up": lambda control: GiveUp("a", control.incarnation_of("a")),
    "cancel all": lambda _control: CancelAll(),
    "stop": lambda _control: StopRun(),
}
CALLBACKS = ["key", "classify", "transient", "str", "repr", "log"]


class Meddler(logging.Handler):
    """Makes one request at every call of one callback, the first `limit` times."""

    def __init__(self, callback: str, request: str, limit: int) -> None:
        super().__init__()
        self.batch: Run | None = None
        self._callback = callback
        self._request = REQUESTS[request]
        self._left = limit

    def call(self, callback: str) -> None:
        """Make the request, if it is the turn of `callback`."""
        if callback == self._callback and self._left and self.batch is not None and self.batch.is_started:
            self._left -= 1
            control = control_of(self.batch)
            control.carry_out(self._request(control))

    def emit(self, record: logging.LogRecord) -> None:
        """Be called for a log record."""
        self.call("log")


class Meddling:
    """The target, the policies and the key of a worker that meddles. Its first two attempts fail."""

    def __init__(self, meddler: Meddler) -> None:
        self._call = meddler.call
        self._attempts = 0

    def key(self) -> str:
        self._call("key")
        return "k"

    def classify(self, error: BaseException) -> ErrorClass:
        self._call("classify")
        return ErrorClass.TRANSIENT

    def transient(self, error: BaseException) -> bool:
        self._call("transient")
        return True

    async def target(self) -> object:
        call = self._call

        class Error(Exception):
            def __str__(self) -> str:
                call("str")
                return "message"

        class Result:
            def __repr__(self) -> str:
                call("repr")
                return "result"

        self._attempts += 1
        if self._attempts < 3:
            raise Error
        return Result()


@pytest.fixture
def meddler(request: pytest.FixtureRequest) -> Iterator[Meddler]:
    """Return a meddler that is a log handler too."""
    made = Meddler(*request.param)
    logger = logging.getLogger("asyncwatch")
    logger.addHandler(made)
    yield made
    logger.removeHandler(made)


def check_ends(events: list[Event], batch: Run) -> None:
    """Check that each incarnation ended once, as its outcome says."""
    assert [event for event in events if isinstance(event, RunFinished)] == events[-1:]
    assert [event.seq for event in events] == list(range(len(events)))
    ends = [event for event in events if isinstance(event, WorkerEnded)]
    assert len({(event.worker, event.incarnation) for event in ends}) == len(ends)
    last = {event.worker: (event.state, event.incarnation) for event in ends}
    assert {outcome.name: (outcome.state, outcome.incarnation) for outcome in batch.outcomes()} == last


@pytest.mark.parametrize(
    "meddler",
    [(callback, request, limit) for callback in CALLBACKS for request in REQUESTS for limit in (1, 2, 5)],
    ids=lambda values: "-".join(map(str, values)),
    indirect=True,
)
@pytest.mark.parametrize("attempts", [2, 4])
def test_request_from_a_callback_gives_each_incarnation_one_end(run: Any, meddler: Meddler, attempts: int) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
        odd = Meddling(meddler)
        retry = RetryPolicy(max_attempts=attempts, base=0.1, transient=odd.transient)
        specs = [
            worker("a", odd.target, key=odd.key, classify=odd.classify, retry=retry),
            worker("b", sleeper, 1.0),
        ]
        meddler.batch = batch = Run(specs, concurrency=1, circuit=CircuitPolicy())
        queue = batch.subscribe()
        await batch.gather()
        check_ends(drain(queue), batch)

    errors: list[dict[str, Any]] = []
    run(main)
    assert not errors


def made_by(request: str, error: Exception, callback: str, **settings: Any) -> Callable[[], Any]:
    """Return a program whose only worker makes one request of itself."""
    meddler = Meddler(callback, request, 1)

    def classify(_error: BaseException) -> ErrorClass:
        meddler.call("classify")
        return ErrorClass.TRANSIENT if isinstance(error, TimeoutError) else ErrorClass.PERMANENT

    def key() -> str:
        meddler.call("key")
        return "k"

    async def main() -> tuple[str, int, int]:
        spec = worker("a", raiser, error, classify=classify, key=lambda _error: key())
        meddler.batch = batch = Run([spec], circuit=CircuitPolicy(), **settings)
        (outcome,) = await batch.gather()
        return outcome.state.value, outcome.incarnation, outcome.attempts

    return main


def test_cancel_from_classify_ends_the_worker_before_its_retry(run: Any) -> None:
    assert run(made_by("cancel", TimeoutError(), "classify")) == ("cancelled", 1, 1)


def test_restart_from_classify_starts_a_new_incarnation(run: Any) -> None:
    assert run(made_by("restart", ValueError(), "classify")) == ("failed", 2, 1)
    assert run(made_by("restart", TimeoutError(), "classify")) == ("exhausted", 2, 3)


def test_cancel_from_its_own_key_ends_the_worker_before_it_starts(run: Any) -> None:
    assert run(made_by("cancel", ValueError(), "key")) == ("cancelled", 1, 0)


def test_key_that_stops_its_worker_and_raises_fails_no_other_worker(run: Any) -> None:
    async def main() -> None:
        def key() -> str:
            batch.cancel("a")
            raise SystemExit(1)

        specs = [worker("a", sleeper, key=lambda *_: key()), worker("b", sleeper, 1.0)]
        batch = Run(specs, circuit=CircuitPolicy())
        await batch.gather()
        assert states(batch) == {"a": "cancelled", "b": "succeeded"}

    run(main)


@pytest.mark.parametrize("reader", ["key", "items"])
def test_restart_from_a_key_or_an_item_takes_no_second_slot(run: Any, reader: str) -> None:
    most = 0

    async def count(item: int) -> None:
        nonlocal most
        most = max(most, batch.statistics().in_flight)
        await asyncio.sleep(1.0)

    def meddle(caller: str, item: int) -> None:
        if caller == reader and item in {2, 3}:
            assert batch.restart(str(item - 2))

    def key(item: int) -> str:
        meddle("key", item)
        return "k"

    class Items(list[int]):
        def __iter__(self) -> Iterator[int]:
            for item in range(len(self)):
                if batch.is_started:
                    meddle("items", item)
                yield item

    specs = WorkerSpecs(worker("t", count, key=key), [str(number) for number in range(5)], Items(range(5)))
    batch = Run([specs], concurrency=1, rate_per_key=RateLimit(per_second=1_000))

    async def main() -> None:
        await batch.gather()
        assert [outcome.incarnation for outcome in batch.outcomes()] == [2, 2, 1, 1, 1]

    run(main)
    assert most == 1


class Unlike:
    """A callable that raises whenever an attribute is looked up that it has not."""

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(name)

    async def __call__(self) -> str:
        return "done"


def test_target_whose_attributes_raise_is_run(run: Any) -> None:
    async def main() -> None:
        batch = Run([worker("a", sleeper, 1.0), worker("b", Unlike())])
        await batch.gather()
        assert states(batch) == {"a": "succeeded", "b": "succeeded"}
        async with Supervisor([]) as tree:
            await tree.start_child(worker("a", Unlike(), restart="transient"))
        assert states(tree) == {"a": "succeeded"}

    run(main)


def test_run_that_fails_to_start_is_finished(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_args: object) -> None:
        raise OSError("disk")

    async def main() -> None:
        batch = Run([worker("a", sleeper, 1.0)])
        monkeypatch.setattr(Reporter, "workers_queued", broken)
        queue = batch.subscribe()
        with pytest.raises(OSError, match="disk"):
            await batch.gather()
        assert batch.is_finished
        assert isinstance(drain(queue)[-1], RunFinished)

    run(main)


def test_value_whose_repr_logs_is_announced_in_order(run: Any) -> None:
    class Loud:
        def __repr__(self) -> str:
            control_of(tree).record_log("a", "INFO", "test", "repr")
            return "loud"

    async def target() -> None:
        await ready(Loud())
        await asyncio.sleep(1e9)

    tree = Supervisor([worker("a", target, restart="permanent", announces_ready=True)])

    async def main() -> None:
        queue = tree.subscribe()
        async with tree:
            pass
        events = drain(queue)
        assert [event.seq for event in events] == list(range(len(events)))
        kinds = [type(event).__name__ for event in events]
        assert kinds.index("LogRecorded") < kinds.index("WorkerReady")

    run(main)


@pytest.mark.parametrize("stop", ["cancel all", "halt"])
def test_cancel_of_a_worker_while_its_item_is_read_ends_it_once(run: Any, stop: str) -> None:
    class Items(list[int]):
        is_read = False

        def __getitem__(self, place: Any) -> Any:
            if place == 1 and batch.is_started and not self.is_read:
                self.is_read = True
                batch.cancel("1")
            return super().__getitem__(place)

        def __iter__(self) -> Iterator[int]:
            return iter(range(len(self)))

    async def fail(_item: int) -> None:
        await asyncio.sleep(2.0)
        raise ValueError

    async def main() -> None:
        queue = batch.subscribe()
        if stop == "cancel all":
            later(1.0, batch.cancel_all)
        await batch.gather()
        check_ends(drain(queue), batch)
        assert states(batch)["1"] == "cancelled"

    specs = WorkerSpecs(worker("t", fail), ["0", "1", "2"], Items(range(3)))
    batch = Run([specs], concurrency=1, halt=parse_halt("first"))
    run(main)


def test_retry_of_a_service_from_its_own_key_touches_no_worker_of_the_batch(run: Any) -> None:
    polls = 0

    def key(*_args: object) -> str:
        control = control_of(tree)
        control.carry_out(RetryNow("s", control.incarnation_of("s")))
        return "k"

    async def poll() -> None:
        nonlocal polls
        polls += 1

    async def main() -> None:
        async with tree:
            await asyncio.sleep(10.5)
            assert states(tree) == {"b": "succeeded"}
            tree._scheduler.validate_state()

    tree = Supervisor(
        [worker("s", poll, every=1.0, key=key)], batch=[worker("b", sleeper, 0.5)], circuit=CircuitPolicy()
    )
    run(main)
    assert polls == 11


@pytest.mark.parametrize("then", ["restart", "cancel"])
def test_restart_of_a_worker_that_a_callback_restarts_when_it_ends_begins_one_incarnation(run: Any, then: str) -> None:
    answers: list[bool] = []

    def key(name: str) -> str:
        if name == "b" and not answers:
            answers.append(batch.restart("a"))
            if then == "cancel":
                batch.cancel("a")
        return "k"

    async def target(_name: str) -> None:
        if not answers:  # a restart that comes before the callback of the attempt's task
            asyncio.get_running_loop().call_soon(lambda: answers.append(batch.restart("a")))

    async def main() -> None:
        queue = batch.subscribe()
        await batch.gather()
        check_ends(drain(queue), batch)
        assert answers == [True, False]
        assert batch.outcomes()[0].incarnation == 2

    specs = [worker("a", target, "a", key=key), worker("b", sleeper, 1.0, "b", key=lambda _s, name: key(name))]
    batch = Run(specs, concurrency=1, circuit=CircuitPolicy())
    run(main)
