"""The client of a cluster: it places attempts on the cluster's processes, awaits them, and watches the processes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import math
import os
import time
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from typing import Any, Final, Self

import msgspec
from distributed import Client

from asyncwatch.cluster.errors import ClusterError, SchedulerLost
from asyncwatch.cluster.host import OP, PROTOCOL, Charter, Order, RunPlugin, attempt, plugin_name, versions
from asyncwatch.cluster.local import LocalCluster
from asyncwatch.cluster.travel import Errand, TravelError, pack, pack_function, unpack, unpack_error
from asyncwatch.commands import StopRun
from asyncwatch.config.engine import DASK, EngineAddress
from asyncwatch.engine.current import CurrentWorker, current_worker
from asyncwatch.engine.describe import target_name
from asyncwatch.engine.lifespan import Lifespan
from asyncwatch.engine.run_control import RunControl
from asyncwatch.engine.stacks import boundary
from asyncwatch.engine.worker import Worker
from asyncwatch.events import HostFigures
from asyncwatch.policies.classify import AttemptLost
from asyncwatch.text import count

logger = logging.getLogger("asyncwatch.cluster")

BEAT: Final = 1.0
"""Seconds between two pings of a process."""
REPORT_EVERY: Final = 2.0
"""Seconds between two reports of the figures of all processes."""
CONNECT_PATIENCE: Final = 10.0
"""Seconds that a scheduler gets to answer at the start."""
_LAST_NEWS: Final = 0.05
"""Seconds for what the exits of lifespans have to say."""
FIRST_PROCESS_PATIENCE: Final = 30.0
"""Seconds for which a run waits for the first process of a cluster that has none."""


class _Flight:
    """One attempt on its way."""

    __slots__ = ("ended", "future", "host", "is_cancelled", "key", "order", "outcome", "worker")

    def __init__(self, order: Order, host: _Host, worker: CurrentWorker | None) -> None:
        self.key = order.key
        self.order: Order | None = order
        """None once it is submitted."""
        self.host = host
        self.worker = worker
        self.ended: asyncio.Future[tuple[str, Any]] = asyncio.get_running_loop().create_future()
        self.outcome: tuple[str, Any] | None = None
        """How it has ended: `ended` may be cancelled by then."""
        self.future: Any = None
        """Dask's own, once it is submitted."""
        self.is_cancelled = False

    def end(self, kind: str, value: Any) -> None:
        """Let the attempt end."""
        if self.outcome is None:
            self.outcome = kind, value
        if not self.ended.done():
            self.ended.set_result(self.outcome)
        if self.future is not None:
            self.future.release()
            self.future = None


class _Host:
    """One process of the cluster, as the client sees it."""

    def __init__(self, address: str, slots: int) -> None:
        self.address = address
        self.shown = address.rpartition("://")[2]
        self.slots = slots
        self.flights: dict[str, _Flight] = {}
        self.defined: set[int] = set()
        """Functions that were sent to it after the beginning."""
        self.seen = 0
        """The number of the latest batch before which none is missing."""
        self.heard = time.monotonic()
        self.cpu = self.lag = 0.0
        self.memory = self.pid = 0
        self.is_pinged = False


class Cluster:
    """Runs attempts on a Dask cluster. An async context manager, for the event loop of the run.

    Args:
        engine: which cluster.
        functions: the targets of the run.
        lifespan: is entered once in each process of the cluster; its value follows the arguments of each call.
        processes: of a local cluster.
        grace: seconds without a sign of this client after which processes stop its attempts. A scheduler that cannot be
            reached for that long is taken for lost.
        log_level: log records of this level and above travel back.
        security: the certificates for a scheduler that is there already; None for those of Dask's own settings.

    Raises:
        ClusterError: the cluster does not start or answer, or cannot run one of the functions.

    """

    def __init__(
        self,
        engine: EngineAddress,
        functions: Sequence[Callable[..., Any]],
        lifespan: Callable[[], Any] | None = None,
        *,
        processes: int,
        grace: float,
        log_level: int = logging.INFO,
        security: Any = None,
    ) -> None:
        self.error: ClusterError | None = None
        """What ended the run."""
        self._engine = engine
        self._functions = list(functions)
        self._errands = [pack_function(function) for function in self._functions]
        self._lifespan = lifespan
        self._processes = processes
        self._grace = grace
        self._log_level = log_level
        self._security = security
        self._run = os.urandom(4).hex()
        self._watcher: RunControl | None = None
        self._local: LocalCluster | None = None
        self._client: Any = None
        self._comm: Any = None
        """The client's connection to the scheduler."""
        self._topics = {plugin_name(self._run): self._batch_received, "all": self._cluster_changed}
        self._known = 0
        """How many of the functions all processes have from the beginning."""
        self._hosts: dict[str, _Host] = {}
        self._flights: dict[str, _Flight] = {}
        self._number = 0
        self._to_submit: list[_Flight] = []
        self._to_cancel: dict[str, list[str]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._has_hosts = asyncio.Event()
        self._own_versions = versions()
        self._warned: set[str] = set()
        """Addresses and differences of versions that a warning has named."""
        self._unsaid: list[tuple[str, str]] = []
        """Levels and messages that are to be logged."""
        self._unreported: list[_Host] = []
        self._context = copy_context()
        """Of no worker: what is logged belongs to none."""
        self._is_opening = True
        self._is_closing = False
        self._disconnected_at = math.inf

    def watch(self, watcher: RunControl) -> None:
        """Report what happens to `watcher`."""
        self._watcher = watcher

    def join(self, control: RunControl) -> None:
        """Open the cluster before the first attempt of a run and close it after the last. Before the run starts."""
        self.watch(control)
        control.use_lifespan(Lifespan(lambda: self, targets=()))

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._close()
        if self.error is not None:
            raise self.error

    async def _open(self) -> None:
        lifespan = None if self._lifespan is None else pack_function(self._lifespan)
        security, address = self._security, self._engine.address
        if self._engine.kind == DASK:
            self._local = LocalCluster(
                self._processes, ttl=self._grace, on_line=self._line_written, on_scheduler_end=self._scheduler_lost
            )
            await self._local.start()
            security, address = self._local.security, self._local.address
        file = {"scheduler_file": self._engine.file} if self._engine.file else {"address": address}
        try:
            async with asyncio.timeout(CONNECT_PATIENCE):
                self._client = await Client(
                    **file,
                    security=security,
                    asynchronous=True,
                    timeout=CONNECT_PATIENCE,
                    set_as_default=False,
                    name="asyncwatch",
                )
        except (OSError, TimeoutError, ValueError, RuntimeError) as error:
            where = self._engine.file or address
            raise ClusterError(f"the scheduler at {where} cannot be reached: {str(error) or 'no answer'}") from None
        self._client._timeout = self._grace  # noqa: SLF001  of its attempts to connect again
        self._comm = self._client.scheduler_comm
        for topic, handler in self._topics.items():
            self._client.subscribe_topic(topic, handler)
        self._known = len(self._errands)
        charter = Charter(self._run, list(self._errands), lifespan, self._grace, self._log_level)
        await self._client.register_plugin(RunPlugin(charter))
        await self._look_for_hosts()
        if not self._hosts:
            self._say("WARNING", f"the cluster at {self._client.scheduler.address} has no processes yet")
            try:
                async with asyncio.timeout(FIRST_PROCESS_PATIENCE):
                    while not self._hosts:
                        await asyncio.sleep(0.2)
                        await self._look_for_hosts()
            except TimeoutError:
                raise ClusterError("the cluster has no processes: start Dask workers, and run again") from None
        self._is_opening = False
        self._spawn(self._beat())

    async def _close(self) -> None:
        self._is_closing = True
        for flight in list(self._flights.values()):
            flight.end("cancelled", None)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._client is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5.0):
                    if self.error is None:
                        await self._client.unregister_worker_plugin(plugin_name(self._run))
                        if self._lifespan is not None:
                            await asyncio.sleep(_LAST_NEWS)
                        for topic in self._topics:
                            self._client.unsubscribe_topic(topic)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(5.0):
                    # A client without a scheduler would wait for one.
                    await (self._client.close() if self.error is None else self._client._close(fast=True))  # noqa: SLF001
        if self._local is not None:
            await self._local.close()

    # Calls -----------------------------------------------------------------------------------------------------------

    def remote(self, function: Callable[..., Any]) -> Callable[..., Coroutine[Any, Any, Any]]:
        """Return a coroutine function that calls `function` on the cluster.

        Raises:
            TravelError: it cannot be sent to another process.

        """
        place = next((place for place, each in enumerate(self._functions) if each is function), len(self._functions))
        if place == len(self._functions):
            self._errands.append(pack_function(function))
            self._functions.append(function)
        name = target_name(function)

        @functools.wraps(function)
        async def call(*args: Any) -> Any:
            return await self._call(place, name, args)

        return boundary(call)

    async def _call(self, place: int, name: str, args: tuple[Any, ...]) -> Any:
        worker = current_worker()
        data = pack(args, "the item")
        host = await self._place()
        while place >= self._known and place not in host.defined:
            await self._define(host, place)
            if self._hosts.get(host.address) is not host:  # it has gone meanwhile
                host = await self._place()
        self._number += 1
        who = ("", 1, 1, 0.0, "") if worker is None else _facts(worker)
        key = f"{name}-{self._run}/{who[0]}/{self._number}"
        flight = _Flight(Order(key, self._run, place, data, *who), host, worker)
        host.flights[key] = self._flights[key] = flight
        loop = asyncio.get_running_loop()
        if self._unreported or self._unsaid:
            loop.call_soon(self._report_news, context=self._context)
        if self._watcher is not None and isinstance(worker, Worker):
            self._watcher.report_place(worker, host.shown)
        if not self._to_submit:
            loop.call_soon(self._submit, context=self._context)
        self._to_submit.append(flight)
        try:
            kind, value = await self._end_of(flight)
        finally:
            self._flights.pop(key, None)
            host.flights.pop(key, None)
            if flight.future is not None:
                flight.future.release()
                flight.future = None
        if kind == "result":
            return unpack(value)
        if kind == "error":
            raise unpack_error(value)
        if kind == "lost":
            raise AttemptLost(value)
        raise asyncio.CancelledError("cancelled in its process")

    async def _define(self, host: _Host, place: int) -> None:
        """Send a process a function that was not known when the run began."""
        try:
            answer = await self._ask(host.address, "define", function=place, errand=_encoded(self._errands[place]))
            if place in answer["missing"]:
                errand = pack_function(self._functions[place], by_value=True)
                answer = await self._ask(host.address, "define", function=place, errand=_encoded(errand))
        except (OSError, KeyError) as error:
            raise AttemptLost(f"the process {host.shown} does not answer: {type(error).__name__}") from error
        if why := answer["missing"].get(place):
            raise ClusterError(f"{target_name(self._functions[place])} cannot be called at {host.shown}: {why}")
        host.defined.add(place)

    async def _end_of(self, flight: _Flight) -> tuple[str, Any]:
        """Wait for the end of an attempt in its process, also if it is cancelled here: that is passed on."""
        while True:
            try:
                return await flight.ended
            except asyncio.CancelledError:
                if flight.outcome is not None:  # it has ended in this very loop iteration
                    return flight.outcome
                if flight.order is not None or self._is_closing or self.error is not None:
                    flight.order = None  # it was not submitted, or there is no one to ask
                    raise
                flight.ended = asyncio.get_running_loop().create_future()
                flight.is_cancelled = True
                self._cancel_soon(flight)

    async def _place(self) -> _Host:
        """Return the process with the fewest attempts for its slots."""
        while not self._hosts:
            self._has_hosts.clear()
            await self._has_hosts.wait()
        return min(self._hosts.values(), key=lambda host: len(host.flights) / host.slots)

    def _submit(self) -> None:
        """Submit all attempts of this loop iteration, in one message for each process."""
        flights, self._to_submit = self._to_submit, []
        by_host: dict[_Host, list[_Flight]] = {}
        for flight in flights:
            if flight.order is not None and flight.outcome is None:
                by_host.setdefault(flight.host, []).append(flight)
        for host, group in by_host.items():
            orders = [msgspec.structs.astuple(flight.order) for flight in group if flight.order is not None]
            try:
                futures = self._client.map(
                    attempt,
                    orders,
                    key=[flight.key for flight in group],
                    workers=[host.address],
                    allow_other_workers=False,
                    pure=False,
                    retries=0,
                )
            except Exception as error:
                for flight in group:
                    flight.order = None
                    flight.end("lost", f"it could not be submitted: {type(error).__name__}: {error}")
                continue
            for flight, future in zip(group, futures, strict=True):
                flight.order = None
                flight.future = future

    def _cancel_soon(self, flight: _Flight) -> None:
        if not self._to_cancel:
            asyncio.get_running_loop().call_soon(self._cancel_now, context=self._context)
        self._to_cancel.setdefault(flight.host.address, []).append(flight.key)

    def _cancel_now(self) -> None:
        wanted, self._to_cancel = self._to_cancel, {}
        for address, keys in wanted.items():
            self._spawn(self._request_cancel(address, keys))

    async def _request_cancel(self, address: str, keys: list[str]) -> None:
        """Raise `CancelledError` in attempts in their process, once: they may need a while to clean up."""
        for wait in (0.0, 0.1, 1.0, 5.0):
            await asyncio.sleep(wait)
            keys = [key for key in keys if (flight := self._flights.get(key)) is not None and flight.outcome is None]
            if not keys:
                return
            with contextlib.suppress(OSError, KeyError):  # it is asked again
                await self._ask(address, "cancel", keys=keys)
                return

    async def _ask(self, address: str, what: str, **facts: Any) -> Any:
        message = {"op": OP, "run": self._run, "what": what, **facts}
        answers = await self._client.scheduler.broadcast(msg=message, workers=[address])
        return answers[address]

    # What comes from the processes -----------------------------------------------------------------------------------

    def _batch_received(self, event: tuple[float, Any]) -> None:
        address, number, said = event[1]
        host = self._hosts.get(address)
        if host is not None:
            host.heard = time.monotonic()
            if number == host.seen + 1:
                host.seen = number
        for message in said:
            self._take(message)

    def _take(self, message: Sequence[Any]) -> None:
        kind, key, *values = message
        if kind == "fault":
            self._say("ERROR", values[0])
            return
        flight = self._flights.get(key)
        if flight is None:
            return
        if kind == "end":
            if values[0] == "large":
                self._spawn(self._fetch(flight))
            else:
                flight.end(values[0], values[1])
            return
        worker = flight.worker
        if worker is None:
            return
        match kind:
            case "progress":
                worker.progress(*values)
            case "status":
                worker.status(*values)
            case "alive":
                worker.alive()
            case "log":
                self._log(worker.name, *values)

    def _log(self, worker: str, level: str, source: str, message: str) -> None:
        if source in {"stdout", "stderr"}:
            if self._watcher is not None:
                self._watcher.record_log(worker, level, source, message)
            return
        number = logging.getLevelNamesMapping().get(level, logging.INFO)
        logging.getLogger(source).log(number, "%s", message, extra={"asyncwatch_worker": worker})

    async def _fetch(self, flight: _Flight) -> None:
        """Get a large result from where Dask keeps it."""
        try:
            data = await self._client.gather(flight.future)
        except Exception as error:
            flight.end("lost", f"its result was lost with its process: {type(error).__name__}")
        else:
            flight.end("result", data)

    # Processes -------------------------------------------------------------------------------------------------------

    def _cluster_changed(self, event: tuple[float, Any]) -> None:
        message = event[1]
        match message.get("action"):
            case "add-worker":
                self._spawn(self._look_for_hosts())
            case "remove-worker":
                self._host_lost(message["worker"], "ended")

    async def _look_for_hosts(self) -> None:
        """Greet new processes of the cluster, and note those that have gone."""
        try:
            identity = await self._client.scheduler.identity(n_workers=-1)
        except OSError:
            if self._is_opening:
                raise
            return  # the connection is broken, which is found out elsewhere
        workers = identity["workers"]
        for address in [address for address in self._hosts if address not in workers]:
            self._host_lost(address, "is no longer known to the scheduler")
        new = [address for address in workers if address not in self._hosts]
        await asyncio.gather(*(self._greet(address, workers[address]["nthreads"]) for address in new))

    async def _greet(self, address: str, slots: int) -> None:
        try:
            answer = await self._prepared(address)
        except ClusterError as error:
            if self._is_opening:
                raise
            if address not in self._warned:
                self._warned.add(address)
                self._say("ERROR", f"the process {address} is not used: {error}")
            return
        except Exception as error:  # it has gone, or is being closed
            if address not in self._warned:
                self._warned.add(address)
                self._say("WARNING", f"the process {address} does not answer: {type(error).__name__}: {error}")
            return
        if address in self._hosts or self._is_closing:
            return
        host = _Host(address, max(slots, 1))
        host.pid = answer["pid"]
        self._compare_versions(address, answer["versions"])
        self._hosts[address] = host
        self._has_hosts.set()
        self._say("INFO", f"the process {host.shown} has joined")
        self._unreported.append(host)
        self._report_news()

    async def _prepared(self, address: str) -> dict[str, Any]:
        """Have a process import or receive the functions; return what it says of itself."""
        hello: dict[str, Any] = await self._ask(address, "hello")
        if hello.get("gone"):
            raise ClusterError("it has no host for this run")
        if hello["protocol"] != PROTOCOL:
            version = hello["versions"]["asyncwatch"]
            raise ClusterError(f"it has asyncwatch {version}, which this one does not understand: install the same")
        answer = hello
        for place, why in answer["missing"].items():
            try:
                errand = pack_function(self._functions[place], by_value=True)
            except TravelError as error:
                raise ClusterError(f"{error}; by its name it cannot be imported there: {why}") from None
            answer = await self._ask(address, "define", function=place, errand=_encoded(errand))
        if "missing_lifespan" in answer and self._lifespan is not None:
            errand = pack_function(self._lifespan, by_value=True)
            answer = await self._ask(address, "define_lifespan", errand=_encoded(errand))
        if answer["missing"]:
            place, why = next(iter(answer["missing"].items()))
            raise ClusterError(f"{target_name(self._functions[place])} cannot be called there: {why}")
        if why := answer.get("missing_lifespan") or answer.get("lifespan"):
            raise ClusterError(f"the lifespan cannot be entered there: {why}")
        return hello

    def _compare_versions(self, address: str, found: dict[str, str]) -> None:
        different = [
            f"{name} {theirs} (here {ours})"
            for name, theirs in found.items()
            if (ours := self._own_versions.get(name)) is not None and ours != theirs
        ]
        text = ", ".join(different)
        if text and text not in self._warned:
            self._warned.add(text)
            self._say("WARNING", f"the process {address} has other versions: {text}")

    def _host_lost(self, address: str, how: str) -> None:
        host = self._hosts.pop(address, None)
        if host is None:
            return
        flights = list(host.flights.values())
        if not self._is_closing:
            lost = f", and {count(len(flights), 'attempt')} with it" if flights else ""
            self._say("ERROR", f"the process {host.shown} {how}{lost}")
            if self._watcher is not None:
                self._watcher.report_hosts(lost=(host.shown, how, len(flights)))
        for flight in flights:
            if flight.is_cancelled:
                flight.end("cancelled", None)
            else:
                flight.end("lost", f"the process {host.shown} {how}")

    async def _beat(self) -> None:
        """Ping all processes, and note what has become of them, for as long as the run goes on."""
        beats, reported_at = 0, time.monotonic()
        while True:
            await asyncio.sleep(min(BEAT, self._grace / 4))
            beats += 1
            self._report_news()
            if time.monotonic() - reported_at >= REPORT_EVERY:
                reported_at = time.monotonic()
                self._report_figures()
            if not self._is_connected():
                continue
            for host in list(self._hosts.values()):
                if not host.is_pinged:
                    self._spawn(self._ping(host))
            if beats % 5 == 0:
                self._spawn(self._look_for_hosts())

    def _report_figures(self) -> None:
        if self._watcher is None or not self._hosts:
            return
        now = time.monotonic()
        figures = tuple(
            HostFigures(
                host.shown, len(host.flights), host.cpu, host.memory, round(host.lag, 3), round(now - host.heard, 1)
            )
            for host in self._hosts.values()
        )
        self._watcher.report_hosts(figures=figures)

    def _is_connected(self) -> bool:
        """Return whether the scheduler is there. End the run if it is not for the whole grace period."""
        if self._client.status == "running":
            self._disconnected_at = math.inf
            if self._client.scheduler_comm is not self._comm:
                self._comm = self._client.scheduler_comm
                self._spawn(self._catch_up())
            return True
        now = time.monotonic()
        if self._disconnected_at == math.inf:
            self._disconnected_at = now
            self._say("WARNING", f"the connection to the scheduler is lost; trying again for {self._grace:g} s")
        if self._client.status == "closed" or now - self._disconnected_at > self._grace:
            self._scheduler_lost()
        return False

    async def _catch_up(self) -> None:
        """Get what was missed while there was no connection to the scheduler: it forgets a client at once."""
        self._say("WARNING", "connected to the scheduler again")
        for topic, handler in self._topics.items():
            self._client.subscribe_topic(topic, handler)
        await self._look_for_hosts()
        for host in list(self._hosts.values()):
            known = [flight for flight in host.flights.values() if flight.order is None]
            with contextlib.suppress(OSError, KeyError):  # it has gone: the scheduler will say so
                running = set(await self._ask(host.address, "running"))
                await self._ping(host, catches_up=True)
                for flight in known:
                    if flight.key not in running:  # it has ended, which is known by now, or has never begun
                        flight.end("lost", "the connection to the scheduler broke before it began")

    async def _ping(self, host: _Host, *, catches_up: bool = False) -> None:
        host.is_pinged = True
        try:
            async with asyncio.timeout(self._grace):
                figures = await self._ask(host.address, "ping", confirmed=host.seen, wants_all=catches_up)
        except Exception:  # it is busy or has gone: the scheduler will say so
            return
        finally:
            host.is_pinged = False
        if figures.get("gone"):
            self._host_lost(host.address, "has stopped all attempts of this run")
            return
        host.heard = time.monotonic()
        host.cpu, host.memory, host.lag = figures["cpu"], figures["memory"], figures["lag"]
        for _, ends in figures["again"]:
            for message in ends:
                self._take(message)
        host.seen = max(host.seen, figures["settled"])

    def _scheduler_lost(self) -> None:
        if self.error is not None or self._is_closing:
            return
        self.error = SchedulerLost("the scheduler of the cluster has gone, and all attempts with it")
        self._say("ERROR", "the scheduler of the cluster has gone: the run ends")
        self._has_hosts.set()
        if self._watcher is not None:
            self._watcher.carry_out(StopRun())

    # -----------------------------------------------------------------------------------------------------------------

    def _line_written(self, name: str, line: str) -> None:
        if line.strip() and not self._is_closing:
            self._say("WARNING", f"{name}: {line}")

    def _say(self, level: str, text: str) -> None:
        self._unsaid.append((level, text))
        self._report_news()

    def _report_news(self) -> None:
        """Report what has not been reported, once the run has started: no event comes before that."""
        watcher = self._watcher
        if watcher is not None and not watcher.is_started and not self._is_closing:
            return
        unsaid, self._unsaid = self._unsaid, []
        for level, text in unsaid:
            logger.log(logging.getLevelNamesMapping()[level], "%s", text)
        if watcher is not None:
            unreported, self._unreported = self._unreported, []
            for host in unreported:
                watcher.report_hosts(joined=(host.shown, host.slots, host.pid))

    def _spawn(self, main: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.get_running_loop().create_task(main)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._is_closing:
            self._say("WARNING", f"the cluster: {type(error).__name__}: {error}")


def _facts(worker: CurrentWorker) -> tuple[str, int, int, float, str]:
    return worker.name, worker.incarnation, worker.attempt, worker.bad_luck, worker.idempotency_key


def _encoded(errand: Errand) -> bytes:
    return msgspec.msgpack.encode(errand)
