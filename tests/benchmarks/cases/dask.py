"""Coroutines on two processes of a Dask cluster, against a bare `client.map` of the same coroutines.

All coroutines are alive at once: each ends when the last one has begun. The time is that from the call to the last
result, and both sides have the same scheduler and processes, with TLS. The tasks of the peer leave their slot as those
of asyncwatch do, since a process would run one at a time otherwise. The last rows cancel single attempts, each in the
middle of an await: the time until it has ended in its process and that is known here, against a request to the
scheduler that is answered at once.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from asyncwatch.config.engine import EngineAddress
from asyncwatch.engine.run import Run
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.spec import WorkerSpec, WorkerSpecs
from tests.benchmarks.measure import Effort, Finding, Goal, Skipped, alternate, percentile, ratio

_gates: dict[str, asyncio.Event] = {}
_watching: set[asyncio.Task[None]] = set()


async def hold(item: tuple[str, int]) -> int:
    """Return when so many coroutines have begun, in all processes: each adds a byte to the file of the item."""
    path, count = item
    gate = _gates.get(path)
    if gate is None:
        gate = _gates[path] = asyncio.Event()
        watching = asyncio.get_running_loop().create_task(_watch(path, count, gate))
        _watching.add(watching)
        watching.add_done_callback(_watching.discard)
    file = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(file, b".")
    os.close(file)
    await gate.wait()
    return 1


async def _watch(path: str, count: int, gate: asyncio.Event) -> None:
    while os.stat(path).st_size < count:  # noqa: ASYNC110, PTH116  the file of other processes
        await asyncio.sleep(0.02)
    gate.set()


async def hold_bare(item: tuple[str, int, str]) -> int:
    """Call `hold` as a task of Dask that leaves its slot."""
    from distributed import get_worker  # noqa: PLC0415  an extra
    from distributed.worker_state_machine import SecedeEvent  # noqa: PLC0415  an extra

    path, count, key = item
    event = SecedeEvent(key=key, compute_duration=0.001, stimulus_id=f"bare-{time.time()}")
    get_worker().handle_stimulus(event)
    return await hold((path, count))


async def rest(seconds: float) -> None:
    """Sleep."""
    await asyncio.sleep(seconds)


def run(effort: Effort) -> Iterator[Finding | Skipped]:
    """Yield the ratio of the times, then the time of a cancellation in round trips."""
    if find_spec("distributed") is None:
        yield Skipped("coroutines on a cluster", "Dask is not installed: pip install '.[dask]'")
        return
    count = effort.size(10_000, 40)
    with tempfile.TemporaryDirectory() as folder:
        measures: dict[str, Callable[[], float]] = {
            "ours": partial(_run, _ours, folder, count),
            "bare": partial(_run, _bare, folder, count),
        }
        times = alternate(effort, measures)
    what = f"{count:,} coroutines alive at once, against a bare client.map"
    each = [f"{min(found) / count * 1e6:,.0f} us" for found in (times["ours"], times["bare"])]
    note = f"{each[0]} a worker against {each[1]}"
    yield ratio(what, times["ours"], times["bare"], Goal("<=", 1.2), note)
    trips, cancels = asyncio.run(_cancel(effort.size(200, 5)))
    figure = percentile(cancels, 0.95) / percentile(trips, 0.95)
    note = f"{percentile(cancels, 0.95) * 1e3:.1f} ms against {percentile(trips, 0.95) * 1e3:.1f} ms"
    yield Finding("cancel one, p95, in round trips to the scheduler", figure, goal=Goal("<=", 3), note=note)


def _run(side: Callable[[Any, str, int], Coroutine[Any, Any, float]], folder: str, count: int) -> float:
    """Return the seconds of one side on a cluster of its own."""
    path = Path(folder) / f"{time.monotonic_ns()}"
    path.touch()

    async def on_cluster() -> float:
        local = await _start()
        try:
            return await side(local, str(path), count)
        finally:
            await local.close()

    return asyncio.run(on_cluster())


async def _start() -> Any:
    from asyncwatch.cluster.local import LocalCluster  # noqa: PLC0415  an extra

    local = LocalCluster(2, ttl=600.0, on_line=lambda *_: None, on_scheduler_end=lambda: None)
    await local.start()
    return local


def _open(local: Any, function: Callable[..., Any]) -> Any:
    from asyncwatch.cluster.client import Cluster  # noqa: PLC0415  an extra

    address = EngineAddress("tls", address=local.address)
    return Cluster(address, [function], processes=2, grace=600.0, security=local.security)


async def _ours(local: Any, path: str, count: int) -> float:
    cluster = _open(local, hold)
    names = [str(n) for n in range(count)]
    template: WorkerSpec[Any, *tuple[Any, ...]] = WorkerSpec("w", cluster.remote(hold))
    run: Run[Any] = Run([WorkerSpecs(template, names, [(path, count)] * count)], concurrency=count)
    async with cluster:
        cluster.watch(control_of(run))
        began = time.perf_counter()
        async with run:
            done, _ = await run.wait()
        seconds = time.perf_counter() - began
    assert all(outcome.is_success for outcome in done)
    return seconds


async def _bare(local: Any, path: str, count: int) -> float:
    from distributed import Client  # noqa: PLC0415  an extra

    async with Client(local.address, security=local.security, asynchronous=True, set_as_default=False) as client:
        began = time.perf_counter()
        keys = [f"bare-{n}" for n in range(count)]
        futures = client.map(hold_bare, [(path, count, key) for key in keys], key=keys, pure=False)
        results = await client.gather(futures)
        seconds = time.perf_counter() - began
    assert sum(results) == count
    return seconds


async def _cancel(times: int) -> tuple[list[float], list[float]]:
    """Return the seconds of round trips to the scheduler, and of cancellations of one attempt."""
    local = await _start()
    trips, cancels = [], []
    async with _open(local, rest) as cluster:
        call = cluster.remote(rest)
        for _ in range(times):
            began = time.perf_counter()
            await cluster._client.scheduler.identity(n_workers=0)
            trips.append(time.perf_counter() - began)
            attempt = asyncio.create_task(call(3600.0))
            await asyncio.sleep(0.05)
            began = time.perf_counter()
            attempt.cancel()
            await asyncio.wait({attempt})
            cancels.append(time.perf_counter() - began)
            assert attempt.cancelled()
    await local.close()
    return trips, cancels
