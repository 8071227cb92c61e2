"""The dashboard of one's own program: `watch` shows a run in its event loop, `observe` the tasks that it makes itself.

The run is served in a thread of its own (`control.host`), so that the picture goes on while the loop of the program is
blocked. The dashboard is a child process that has the terminal meanwhile. What the program writes to the terminal
becomes lines of the log. Whatever becomes of the dashboard, the program goes on, and gets the terminal back as it was.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from asyncwatch.control.thread import control_thread
from asyncwatch.engine.port import RunPort
from asyncwatch.engine.run_control import control_of
from asyncwatch.engine.watchdog import Watchdog

if TYPE_CHECKING:
    from asyncwatch.cli.observed import Observing
    from asyncwatch.cli.program import Dashboard
    from asyncwatch.control.host import HostedRun
    from asyncwatch.engine.run import Run
    from asyncwatch.engine.run_control import RunControl
    from asyncwatch.engine.supervisor import Supervisor

VARIABLE = "ASYNCWATCH"
"""The environment variable by which a program is watched without a change: `1` for the dashboard, `attach` for the
socket alone, by which `asyncwatch attach` finds it."""
_NO = ("", "0")
_LOOK_EVERY = 0.005

logger = logging.getLogger("asyncwatch")


@asynccontextmanager
async def watch(
    run: Run[object] | Supervisor, *, screen: bool = True, log_level: int = logging.INFO, metrics: str | None = None
) -> AsyncIterator[None]:
    """Show a run, or a tree of services, inside the context: enter it before the run starts.

    In a terminal the dashboard has the screen until the end of the context, or until a person leaves it by `q`; the
    program goes on then. Ctrl+C there interrupts the program. What workers print, and log records from `log_level` up,
    are lines of the log. Other processes find the run as well: `asyncwatch ps`, `asyncwatch attach`, `asyncwatch ctl`.

    Without a terminal, or with `screen=False`, nothing is shown here. `metrics` is an address such as `127.0.0.1:9464`,
    or a port of the loopback interface, at which the run is shown to Prometheus; it needs the extra `metrics`. On
    systems without Unix sockets nothing happens.

    Raises:
        RuntimeError: The run has started already, or its metrics cannot be served at the address.
        ValueError: `metrics` is no address.

    """
    async with _watching(run, screen=screen, log_level=log_level, metrics=metrics):
        yield


@asynccontextmanager
async def _watching(
    run: Run[object] | Supervisor,
    *,
    screen: bool,
    log_level: int = logging.INFO,
    journal: Path | None = None,
    metrics: str | None = None,
    is_published: bool = True,
    waits: bool = True,
) -> AsyncIterator[None]:
    control = control_of(run)
    if control.is_started:
        raise RuntimeError("enter watch() before the run starts: it shows a run from its first event on")
    if os.name != "posix":
        yield
        return
    port = RunPort()
    port.attach(control)
    control_thread.enter()
    try:
        name = run.name or Path(sys.argv[0]).name or "python"
        hosting = control_thread.submit(_host(port, name, journal, metrics, is_published=is_published))
        shown: Dashboard | None = None
        try:
            if waits:  # a hosted run is closed, so it is made whole although the caller is cancelled
                await asyncio.shield(asyncio.wrap_future(hosting))
            with Watchdog(run, port.note_tasks, lambda: control.is_at_rest) as watchdog:
                port.watch_loop(watchdog)
                if screen:
                    shown = _show(hosting, port, control, log_level)
                yield
        finally:
            try:
                await _end(hosting, shown)
            finally:
                port.close()
    finally:
        control_thread.leave()


class Observer:
    """Shows the tasks of this process until `close`, or until the end of its context or of the process."""

    def __init__(self, *, screen: bool, name: str, log_level: int) -> None:
        self._observing: Observing | None = None
        if os.name != "posix":
            return
        from asyncwatch.cli.observed import Observing  # noqa: PLC0415  as in `_show`

        self._observing = observing = Observing(name or Path(sys.argv[0]).name or "python")
        observing.open(has_screen=screen, log_level=log_level)
        atexit.register(self.close)
        if observing.problem:
            logger.warning("asyncwatch ps and attach do not find these tasks: %s", observing.problem)

    def close(self) -> None:
        """Show them no longer. When this returns, the program has its terminal back."""
        atexit.unregister(self.close)
        if self._observing is not None:
            self._observing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


def observe(*, screen: bool = True, name: str = "", log_level: int = logging.INFO) -> Observer:
    """Show the asyncio tasks that this process makes by itself, without supervising them.

    Called anywhere in a program, it shows the tasks of the running event loop, and of all loops that start later, up to
    the end of the program or of its context (`with asyncwatch.observe():`). While no client looks, nothing is done.

    In a terminal the dashboard has the screen, as with `watch`. Other processes find the tasks, too: `asyncwatch ps`,
    `asyncwatch attach`, `asyncwatch ctl`. `name` is shown there; the default is that of the script. Without a terminal,
    or with `screen=False`, nothing is shown here. On systems without Unix sockets nothing happens.
    """
    return Observer(screen=screen, name=name, log_level=log_level)


def is_wished(is_watched: bool | None) -> bool:
    """Return whether a run is to be watched: as the argument says, or else the environment."""
    return os.environ.get(VARIABLE, "") not in _NO if is_watched is None else is_watched


@asynccontextmanager
async def watched(
    run: Run[object] | Supervisor,
    *,
    is_watched: bool | None,
    is_named: bool = False,
    journal: Path | None = None,
    metrics: str | None = None,
    waits: bool = True,
) -> AsyncIterator[None]:
    """Watch a run inside the context, if that `is_wished`. One that `is_named` is served to other processes anyway.

    A run that is recorded has the ID of its `journal`. Its `metrics` are served as in `watch`, whether it is watched or
    not. Unless the context `waits` until the run is served, it is entered at once, and clients get the state so far
    when they come.
    """
    is_published = is_named or is_wished(is_watched)
    if not is_published and metrics is None:
        yield
        return
    screen = is_watched if is_watched is not None else os.environ.get(VARIABLE, "") not in {*_NO, "attach"}
    async with _watching(run, screen=screen, journal=journal, metrics=metrics, is_published=is_published, waits=waits):
        yield


async def _host(
    port: RunPort, name: str, journal: Path | None, metrics: str | None, *, is_published: bool
) -> HostedRun:
    from asyncwatch.control.host import HostedRun  # noqa: PLC0415  it brings the model, which few programs need

    served = None
    if metrics is not None:
        from asyncwatch.metrics import listen  # noqa: PLC0415  as above

        served = listen(metrics)
        logger.info("metrics are at %s", served.url)
    hosted = HostedRun(port, name, is_published=is_published, journal=journal, follower=served)
    try:
        await hosted.open()
    except BaseException:
        await hosted.close(status=1)
        raise
    if hosted.problem:
        logger.warning("asyncwatch ps and attach do not find this run: %s", hosted.problem)
    return hosted


async def _close(hosting: Future[HostedRun]) -> None:
    hosted = await asyncio.wrap_future(hosting)
    await hosted.close()


async def _adopt(hosting: Future[HostedRun], connection: socket.socket) -> None:
    try:
        hosted = await asyncio.wrap_future(hosting)
    except BaseException:
        connection.close()  # the dashboard leaves, and the program gets the error
        raise
    await hosted.adopt(connection)


async def _end(hosting: Future[HostedRun], shown: Dashboard | None) -> None:
    """End the serving of a run, then the dashboard, although the caller is cancelled meanwhile; then pass that on.

    At the end of a program, `asyncio.run` cancels every task of its loop. So this waits for no task.
    """
    closing = control_thread.submit(_close(hosting))
    cancellation: asyncio.CancelledError | None = None
    while not (closing.done() and (shown is None or shown.has_ended())):
        try:
            await asyncio.sleep(_LOOK_EVERY)
        except asyncio.CancelledError as error:
            cancellation = error
    closing.result()
    if cancellation is not None:
        raise cancellation


# -- the dashboard


def _show(hosting: Future[HostedRun], port: RunPort, control: RunControl, log_level: int) -> Dashboard | None:
    """Give the terminal to a dashboard; return None if there is no terminal, or another run has it."""
    from asyncwatch.cli.program import Dashboard, Recorder, has_screen, screen  # noqa: PLC0415  for Unix systems, and not light

    if not has_screen() or not screen.acquire(blocking=False):
        return None
    recorder = Recorder(port.record_log, lambda: control.is_started and not control.is_finished)
    ours, childs = socket.socketpair()
    try:
        shown = Dashboard(childs, recorder, log_level, screen.release)
    except BaseException:
        ours.close()
        screen.release()
        raise
    control_thread.submit(_adopt(hosting, ours))
    return shown
