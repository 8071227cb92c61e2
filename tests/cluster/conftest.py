"""One cluster of two processes for all tests of the session: to start one takes a second or two."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import dask
import pytest

from asyncwatch.cluster.client import Cluster
from asyncwatch.cluster.local import LocalCluster
from asyncwatch.config.engine import EngineAddress

OpenCluster = Callable[..., Cluster]
PATIENCE = 30.0
"""Seconds for whatever takes a moment on a machine that is not busy."""


@pytest.fixture(scope="session")
def local() -> Iterator[LocalCluster]:
    """A cluster of two processes, in an event loop of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def call(main: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(main, loop).result(PATIENCE)

    async def make() -> LocalCluster:
        cluster = LocalCluster(2, ttl=60.0, on_line=lambda _name, _line: None, on_scheduler_end=lambda: None)
        await cluster.start()
        return cluster

    cluster = call(make())
    yield cluster
    call(cluster.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()


@pytest.fixture
def open_cluster(local: LocalCluster) -> OpenCluster:
    """Returns a `Cluster` on the processes of the session, for some functions. Killed ones have been replaced."""
    ends_at = time.monotonic() + PATIENCE
    while local.running < 2:
        assert time.monotonic() < ends_at, "killed processes are replaced"
        time.sleep(0.02)
    address = EngineAddress("tls", address=local.address)
    return partial(Cluster, address, processes=2, grace=60.0, security=local.security)


@pytest.fixture
def address(open_cluster: OpenCluster, local: LocalCluster) -> Iterator[str]:
    """The scheduler of the session, whose certificates are in Dask's own settings."""
    del open_cluster  # it waits for the processes
    security = local.security
    tls = {
        "distributed.comm.tls.ca-file": security.tls_ca_file,
        "distributed.comm.tls.client.key": security.tls_client_key,
        "distributed.comm.tls.client.cert": security.tls_client_cert,
    }
    with dask.config.set(tls):
        yield local.address


@pytest.fixture(params=["asyncio", "dask"])
def engine(request: pytest.FixtureRequest) -> str:
    """Both engines, as the setting names them."""
    if request.param == "asyncio":
        return "asyncio"
    found: str = request.getfixturevalue("address")
    return found
