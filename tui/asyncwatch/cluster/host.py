"""The host of a run in one process of a cluster: it runs the calls of attempts in an event loop of its own.

Dask's own event loop never runs code of a target, so that the process goes on to be heard of while a target blocks. A
host has any number of calls in flight, whatever the number of Dask's threads. What it has to say travels in batches:
the first at once, further ones 10 ms later. Ends of calls are kept until the client has confirmed them.

The client sends a `ping` every few seconds. When it has not been heard of for its grace period, the host cancels all
calls and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from importlib import metadata
from typing import Any, Final

import msgspec
from distributed import Worker, WorkerPlugin, get_worker
from distributed.worker_state_machine import SecedeEvent

from asyncwatch import __version__
from asyncwatch.cluster.travel import Errand, pack, pack_error, unpack, unpack_function
from asyncwatch.engine.capture import LogCapture, PrintCapture, finish_lines, printing
from asyncwatch.engine.current import current
from asyncwatch.engine.describe import describe_error
from asyncwatch.engine.event_loop import new_event_loop
from asyncwatch.engine.lifespan import OpenLifespan
from asyncwatch.engine.progress import STATUS_LIMIT, UNIT_LIMIT, number
from asyncwatch.text import error_line, one_line

PROTOCOL: Final = 1
"""Of what a client and a host say to each other. A host refuses a client of another one."""
OP: Final = "asyncwatch"
"""The operation of Dask's workers by which a client speaks to a host."""
FLUSH_EVERY: Final = 0.01
"""Seconds between two batches."""
LARGE: Final = 256 * 1024
"""Bytes of a result above which it takes Dask's way for data, and not that of events."""
LEAVE_PATIENCE: Final = 2.0
"""Seconds that calls get to end, and the lifespan to be left, when the host ends."""
_LOOK_EVERY = 0.25
_EARLY_KEPT = 100_000
_ARRIVES = 1.0
"""Seconds after which a batch is sent again, if the client has not confirmed it."""
PACKAGES: Final = ("asyncwatch", "dask", "distributed", "cloudpickle", "msgspec", "aiohttp")
"""Packages whose versions are compared."""


def versions() -> dict[str, str]:
    """Return the versions of Python and of `PACKAGES` in this process."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found | {"asyncwatch": __version__}


class Order(msgspec.Struct, array_like=True):
    """One call that a client wants."""

    key: str
    run: str
    function: int
    """Its place in the functions of the run."""
    args: bytes
    name: str
    incarnation: int
    attempt: int
    bad_luck: float
    idempotency_key: str


class Charter(msgspec.Struct):
    """What a client says of its run, once."""

    run: str
    functions: list[Errand]
    lifespan: Errand | None
    grace: float
    """Seconds without a sign of the client after which the host ends."""
    log_level: int
    protocol: int = PROTOCOL


class RunPlugin(WorkerPlugin):  # type: ignore[misc]  # Dask has no types
    """Opens the host of one run in each process of a cluster, also in processes that join later."""

    idempotent = True

    def __init__(self, charter: Charter) -> None:
        self.name = plugin_name(charter.run)
        self._charter = charter

    def setup(self, worker: Worker) -> None:
        """Open the host. Dask calls this when the plugin is registered, and when a process joins."""
        worker.handlers[OP] = _answering(worker.address)
        _hosts[worker.address, self._charter.run] = Host(worker, self._charter)

    async def teardown(self, worker: Worker) -> None:
        """Close the host, and wait until it has left its lifespan."""
        if (host := _hosts.pop((worker.address, self._charter.run), None)) is not None:
            await host.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return RunPlugin, (self._charter,)


_hosts: dict[tuple[str, str], Host] = {}
"""By the address of the process and the run."""


async def close_hosts() -> None:
    """Close all hosts: the process is about to end."""
    hosts = list(_hosts.values())
    _hosts.clear()
    await asyncio.gather(*(host.close() for host in hosts))


def plugin_name(run: str) -> str:
    """Return the name of the plugin of a run."""
    return f"asyncwatch-{run}"


async def attempt(order: tuple[Any, ...]) -> bytes | None:
    """Make one call: this is the Dask task of an attempt. Returns a large result; others are told by the host."""
    worker = get_worker()
    host = _hosts[worker.address, order[1]]
    # Dask would count the task as one of its threads until it ends.
    worker.handle_stimulus(SecedeEvent(key=order[0], compute_duration=0.001, stimulus_id=f"asyncwatch-{time.time()}"))
    return await host.run(msgspec.convert(order, Order))


def _answering(address: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return the handler of `OP` in the process at `address`."""

    async def answer(run: str, what: str, **facts: Any) -> Any:
        host = _hosts.get((address, run))
        return {"gone": True} if host is None else await getattr(host, f"answer_{what}")(**facts)

    return answer


class RemoteWorker:
    """The worker whose call runs here, as its target sees it: a `CurrentWorker`."""

    __slots__ = ("_host", "attempt", "bad_luck", "idempotency_key", "incarnation", "is_cancelled", "key", "name")

    def __init__(self, order: Order, host: Host) -> None:
        self.key, self.name = order.key, order.name
        self.incarnation, self.attempt = order.incarnation, order.attempt
        self.bad_luck, self.idempotency_key = order.bad_luck, order.idempotency_key
        self.is_cancelled = False
        self._host = host

    def progress(self, done: float, total: float | None = None, unit: str = "") -> None:
        """Show how far the attempt is. See `CurrentWorker`."""
        done, total = number(done, "done"), None if total is None else number(total, "total")
        self._host.note(self.key, "progress", (done, total, one_line(str(unit), UNIT_LIMIT)))

    def status(self, text: str) -> None:
        """Show what the attempt does. See `CurrentWorker`."""
        self._host.note(self.key, "status", (one_line(str(text), STATUS_LIMIT),))

    def check_cancelled(self) -> None:
        """Raise `CancelledError` if the attempt was cancelled. See `CurrentWorker`."""
        if self.is_cancelled:
            raise asyncio.CancelledError("the worker was cancelled")

    def alive(self) -> None:
        """Give a sign of life. See `CurrentWorker`."""
        self._host.note(self.key, "alive", ())

    def record(self, level: str, source: str, message: str) -> None:
        """Pass on a log record or a printed line."""
        self._host.say(("log", self.key, level, source, message))


class Host:
    """Runs the calls of one run in this process.

    Dask's event loop makes it, and calls its methods, except those that say otherwise.
    """

    def __init__(self, worker: Worker, charter: Charter) -> None:
        self._worker = worker
        self._charter = charter
        self._dask_loop = asyncio.get_running_loop()
        self._loop = new_event_loop()
        self._errands = dict(enumerate(charter.functions))
        self._functions: dict[int, Callable[..., Any]] = {}
        self._tasks: dict[str, tuple[asyncio.Task[None], RemoteWorker]] = {}
        """By key, in the host's thread."""
        self._early: dict[str, None] = {}
        """Calls that were cancelled before they were ordered, or after they had ended; the latest ones."""
        self._waiters: dict[str, asyncio.Future[bytes | None]] = {}
        """Dask's tasks, in the thread of Dask."""
        self._ordered: list[Order] = []
        self._lifespan: OpenLifespan | None = None
        self._entry: asyncio.Future[None] | None = None
        self._heard = time.monotonic()
        self._lag = 0.0
        self._is_closed = False
        self._closing: asyncio.Task[None] | None = None
        """The task that closes a host without a client."""
        # What there is to say: filled in any thread.
        self._lock = threading.Lock()
        self._said: list[tuple[Any, ...]] = []
        self._noted: dict[tuple[str, str], tuple[Any, ...]] = {}
        """The latest progress, status and sign of life, by key and kind."""
        self._ended: list[tuple[str, bytes | None]] = []
        self._is_flush_due = False
        self._flushed_at = 0.0
        self._number = 0
        self._kept: dict[int, tuple[float, list[tuple[Any, ...]]]] = {}
        """Ends by the number of their batch, and when that was sent, until the client confirms them."""
        _captures.open(charter.log_level)
        self._thread = threading.Thread(target=self._run_loop, name=f"asyncwatch host {charter.run}", daemon=True)
        self._thread.start()

    # Answers ---------------------------------------------------------------------------------------------------------

    async def answer_hello(self) -> dict[str, Any]:
        """Import the functions and enter the lifespan. Return the versions, and what went wrong."""
        answer: dict[str, Any] = {"versions": versions(), "protocol": PROTOCOL, "pid": os.getpid()}
        if self._charter.protocol == PROTOCOL:
            answer |= await self._in_loop(self._prepare)
        return answer

    async def answer_define(self, function: int, errand: bytes) -> dict[str, Any]:
        """Take a function that is new, or one by value that cannot be imported here."""
        self._errands[function] = msgspec.msgpack.decode(errand, type=Errand)
        return await self._in_loop(self._prepare)

    async def answer_define_lifespan(self, errand: bytes) -> dict[str, Any]:
        """Take the lifespan by value."""
        self._charter.lifespan = msgspec.msgpack.decode(errand, type=Errand)
        return await self._in_loop(self._prepare)

    async def answer_cancel(self, keys: list[str]) -> None:
        """Raise `CancelledError` in calls."""
        self._ordered_first()
        self._loop.call_soon_threadsafe(self._cancel, keys)

    async def answer_ping(self, confirmed: int, wants_all: bool) -> dict[str, Any]:
        """Note that the client is there, and that it has had the batches up to `confirmed`. Return the figures.

        Ends of other batches are sent again if they should have arrived by now, or if the client `wants_all`. With
        them, the client has had all ends up to the batch `settled`.
        """
        self._heard = now = time.monotonic()
        for each in [each for each in self._kept if each <= confirmed]:
            del self._kept[each]
        again = [(each, ends) for each, (sent_at, ends) in self._kept.items() if wants_all or now - sent_at > _ARRIVES]
        fresh = (each for each, (sent_at, _) in self._kept.items() if not wants_all and now - sent_at <= _ARRIVES)
        recent = self._worker.monitor.recent()
        lag, self._lag = self._lag, 0.0
        return {
            "attempts": len(self._waiters),
            "cpu": float(recent.get("cpu", 0.0)),
            "memory": int(recent.get("memory", 0)),
            "lag": lag,
            "again": again,
            "settled": min(fresh, default=self._number + 1) - 1,
        }

    async def answer_running(self) -> list[str]:
        """Return the keys of the calls in flight."""
        return list(self._waiters)

    # Calls -----------------------------------------------------------------------------------------------------------

    async def run(self, order: Order) -> bytes | None:
        """Make a call, and wait for its end. Return its result if that is large."""
        waiter = self._waiters.get(order.key)
        if waiter is None:
            waiter = self._waiters[order.key] = self._dask_loop.create_future()
            if not self._ordered:
                self._dask_loop.call_soon(self._ordered_first)
            self._ordered.append(order)
        return await asyncio.shield(waiter)

    def _ordered_first(self) -> None:
        """Pass on the calls that were ordered, before anything else."""
        if self._ordered:
            orders, self._ordered = self._ordered, []
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process ends
                self._loop.call_soon_threadsafe(self._start, orders)

    async def _in_loop(self, function: Callable[[], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(function(), self._loop))

    async def close(self) -> None:
        """Cancel all calls, leave the lifespan, and end the thread; in at most twice `LEAVE_PATIENCE`."""
        if self._is_closed:
            return
        self._is_closed = True
        for waiter in self._waiters.values():
            waiter.cancel()
        with contextlib.suppress(RuntimeError, TimeoutError):  # the loop is closed or blocked
            async with asyncio.timeout(2 * LEAVE_PATIENCE + 0.5):
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._leave(), self._loop))
        self._flush()
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)

    # In the host's own thread ----------------------------------------------------------------------------------------

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.call_later(_LOOK_EVERY, self._look, time.monotonic() + _LOOK_EVERY)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _look(self, due: float) -> None:
        """Measure how late the loop is, and end the host if the client has gone."""
        now = time.monotonic()
        self._lag = max(self._lag, now - due)
        if now - self._heard > self._charter.grace + (now - due):
            self._dask_loop.call_soon_threadsafe(self._orphaned)
            return
        self._loop.call_later(_LOOK_EVERY, self._look, now + _LOOK_EVERY)

    def _orphaned(self) -> None:
        if _hosts.get((self._worker.address, self._charter.run)) is self:
            del _hosts[self._worker.address, self._charter.run]
        self._closing = self._dask_loop.create_task(self.close())

    async def _prepare(self) -> dict[str, Any]:
        missing, lifespan = {}, ""
        for place, errand in self._errands.items():
            if place not in self._functions:
                try:
                    self._functions[place] = unpack_function(errand)
                except BaseException as error:
                    missing[place] = _line(error)
        if self._charter.lifespan is not None and self._lifespan is None and not missing:
            try:
                factory = unpack_function(self._charter.lifespan)
            except BaseException as error:
                return {"missing": missing, "missing_lifespan": _line(error)}
            opened = OpenLifespan(factory, copy_context())
            try:
                await opened.enter()
                self._lifespan = opened
            except BaseException as error:
                lifespan = _line(error)
        return {"missing": missing, "lifespan": lifespan}

    def _start(self, orders: list[Order]) -> None:
        for order in orders:
            if order.key in self._early:
                del self._early[order.key]
                self._end(order.key, "cancelled", b"", None)
                continue
            worker = RemoteWorker(order, self)
            task = asyncio.Task(self._call(order, worker), loop=self._loop, name=order.name)
            self._tasks[order.key] = task, worker
            task.add_done_callback(functools.partial(self._end_unbegun, order.key))

    def _end_unbegun(self, key: str, _: asyncio.Task[None]) -> None:
        """Report the end of a call whose task was cancelled before its first step, so that it could not."""
        if self._tasks.pop(key, None) is not None:
            self._end(key, "cancelled", b"", None)

    def _cancel(self, keys: list[str]) -> None:
        for key in keys:
            found = self._tasks.get(key)
            if found is None:
                self._early[key] = None
                continue
            task, worker = found
            worker.is_cancelled = True
            task.cancel()
        while len(self._early) > _EARLY_KEPT:
            del self._early[next(iter(self._early))]

    async def _call(self, order: Order, worker: RemoteWorker) -> None:
        current.set(worker)
        kind, data = "result", b""
        try:
            args = unpack(order.args)
            if self._lifespan is not None:
                args = (*args, self._lifespan.value)
            result = await self._functions[order.function](*args)
            data = pack(result, "the result")
        except asyncio.CancelledError:
            kind = "cancelled"
        except BaseException as error:  # even a request to exit must not end the loop: it is one of the worker
            kind, data = "error", pack_error(error)
        finally:
            finish_lines(order.name)
        del self._tasks[order.key]
        if len(data) > LARGE and kind == "result":
            self._end(order.key, "large", b"", data)
        else:
            self._end(order.key, kind, data, None)

    async def _leave(self) -> None:
        tasks = [task for task, _ in self._tasks.values()]
        for _, worker in self._tasks.values():
            worker.is_cancelled = True
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=LEAVE_PATIENCE)
        if self._lifespan is not None:
            error = await self._lifespan.close(LEAVE_PATIENCE, LEAVE_PATIENCE)
            if error is not None:
                self.say(("fault", "", f"the lifespan failed on its exit: {_line(error)}"))

    # What there is to say, in any thread -----------------------------------------------------------------------------

    def note(self, key: str, kind: str, values: tuple[Any, ...]) -> None:
        """Say `values` with the next batch; only the latest of its kind counts."""
        with self._lock:
            self._noted[key, kind] = values
        self._flush_soon()

    def say(self, message: tuple[Any, ...]) -> None:
        """Say `message` with the next batch."""
        with self._lock:
            self._said.append(message)
        self._flush_soon()

    def _end(self, key: str, kind: str, data: bytes, large: bytes | None) -> None:
        with self._lock:
            for what in ("progress", "status", "alive"):
                if (values := self._noted.pop((key, what), None)) is not None:
                    self._said.append((what, key, *values))
            self._said.append(("end", key, kind, data))
        self._flush_soon((key, large))

    def _flush_soon(self, ended: tuple[str, bytes | None] | None = None) -> None:
        with self._lock:
            if ended is not None:
                self._ended.append(ended)
            if self._is_flush_due:
                return
            self._is_flush_due = True
        with contextlib.suppress(RuntimeError):  # the process ends
            self._dask_loop.call_soon_threadsafe(self._flush_in_time)

    def _flush_in_time(self) -> None:
        wait = self._flushed_at + FLUSH_EVERY - time.monotonic()
        if wait > 0:
            self._dask_loop.call_later(wait, self._flush)
        else:
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            self._is_flush_due = False
            said, self._said = self._said, []
            noted, self._noted = self._noted, {}
            ended, self._ended = self._ended, []
        self._flushed_at = time.monotonic()
        said += [(kind, key, *values) for (key, kind), values in noted.items()]
        self._number += 1
        if ends := [each for each in said if each[0] == "end"]:
            self._kept[self._number] = self._flushed_at, ends
        for key, large in ended:
            if (waiter := self._waiters.pop(key, None)) is not None and not waiter.done():
                waiter.set_result(large)
        self._worker.log_event(plugin_name(self._charter.run), (self._worker.address, self._number, said))


class _Captures:
    """Passes on what calls log and print, once there has been a host in the process; all else is left as it is."""

    def __init__(self) -> None:
        self._handler: LogCapture | None = None

    def open(self, level: int) -> None:
        root = logging.getLogger()
        if self._handler is None:
            import sys  # noqa: PLC0415  its streams are replaced

            self._handler = LogCapture(_record, level)
            root.addHandler(self._handler)
            out, err = PrintCapture(sys.stdout, "stdout", _record), PrintCapture(sys.stderr, "stderr", _record)
            sys.stdout, sys.stderr = out, err
            printing[:] = out, err
        root.setLevel(min(level, root.level))
        self._handler.setLevel(min(level, self._handler.level))


def _record(_name: str | None, level: str, source: str, message: str) -> None:
    worker = current.get()
    if isinstance(worker, RemoteWorker):
        worker.record(level, source, message)


_captures = _Captures()


def _line(error: BaseException) -> str:
    return error_line(*describe_error(error))
