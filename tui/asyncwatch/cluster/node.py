"""One process of a local cluster: a Dask scheduler, or a Dask worker.

    python -m asyncwatch.cluster.node

Standard input is its lifeline: the first line is its `Role` as JSON, for a worker the second one is the address of the
scheduler, and when it ends the process ends, however its parent has ended. It writes its own address to standard
output.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import threading
import time
from typing import Any, BinaryIO, NoReturn

import msgspec

_PATIENCE = 5.0
"""Seconds from the end of the lifeline to the end of the process, whatever it does: lifespans may have to be left."""
_OTHERS_END = 0.2
"""Seconds after which the scheduler removes the folder of all: most workers have ended by then."""


class Role(msgspec.Struct):
    """What a process is to be."""

    name: str
    is_scheduler: bool
    security: dict[str, Any]
    """The certificates of the run, as PEM."""
    folder: str
    """Of the temporary files of the cluster. The scheduler removes it."""
    path: list[str]
    """`sys.path` of the parent."""
    ttl: float
    """Seconds without a sign of a worker after which the scheduler takes it for lost."""


def main() -> None:
    """Be the process that the first line of the standard input describes."""
    lifeline = sys.stdin.buffer
    line = lifeline.readline()
    if not line:
        return
    role = msgspec.json.decode(line, type=Role)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.path[:] = role.path
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_be(role, lifeline, answers))
    _leave(role)


def _leave(role: Role) -> NoReturn:
    """End the process, though threads of calls may go on. There is no one to whom Dask should report that."""
    if role.is_scheduler:
        time.sleep(_OTHERS_END)
        shutil.rmtree(role.folder, ignore_errors=True)
    os._exit(0)


async def _be(role: Role, lifeline: BinaryIO, answers: BinaryIO) -> None:
    import dask  # noqa: PLC0415  after sys.path

    dask.config.set(
        {
            "distributed.scheduler.worker-ttl": f"{role.ttl} s",
            "distributed.scheduler.allowed-failures": 1_000_000,
            "distributed.scheduler.work-stealing": False,
            "distributed.worker.memory.target": False,
            "distributed.worker.memory.spill": False,
            "distributed.worker.memory.pause": False,
            "distributed.worker.memory.terminate": False,
            "distributed.admin.system-monitor.log-length": 100,
        }
    )
    from distributed import Scheduler, Security, Worker  # noqa: PLC0415  as above

    security = Security(**role.security)
    common = {"protocol": "tls://", "host": "127.0.0.1", "security": security, "dashboard_address": "127.0.0.1:0"}
    if role.is_scheduler:
        server = Scheduler(port=0, dashboard=False, **common)
    else:
        address = (await asyncio.to_thread(lifeline.readline)).decode().strip()
        if not address:
            return
        server = Worker(
            address,
            nthreads=1,
            name=role.name,
            local_directory=role.folder,
            dashboard=False,
            nanny=None,
            death_timeout=_PATIENCE,
            **common,
        )
    is_over = asyncio.Event()
    watching = (lifeline, asyncio.get_running_loop(), is_over, role)
    threading.Thread(target=_watch, args=watching, daemon=True).start()
    over = asyncio.ensure_future(is_over.wait())
    started = asyncio.ensure_future(server.start())
    await asyncio.wait({started, over}, return_when=asyncio.FIRST_COMPLETED)
    if started.done():
        await started
        server.http_server.stop()
        answers.write(f"{server.address}\n".encode())
        answers.flush()
        await asyncio.wait({asyncio.ensure_future(server.finished()), over}, return_when=asyncio.FIRST_COMPLETED)
        if (host := sys.modules.get("asyncwatch.cluster.host")) is not None:
            await host.close_hosts()
    _leave(role)


def _watch(lifeline: BinaryIO, loop: asyncio.AbstractEventLoop, is_over: asyncio.Event, role: Role) -> None:
    """End the process when the lifeline ends, even if its event loop is blocked."""
    while lifeline.readline():
        pass
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(is_over.set)
    time.sleep(_PATIENCE)
    if role.is_scheduler:
        shutil.rmtree(role.folder, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
