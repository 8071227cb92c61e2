"""Observes this process: shows and serves the tasks that it makes by itself, and runs a script meanwhile.

`asyncwatch observe app.py` replaces its process by a new interpreter, which calls `main`. The script runs in that one
as under `python app.py`: in the main thread, and as `__main__`.
"""

# ruff: noqa: PLC0415  what a person looks at is imported when it is opened

from __future__ import annotations

import asyncio
import atexit
import io
import logging
import os
import runpy
import socket
import sys
import threading
import time
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from pathlib import Path
from types import CodeType, TracebackType
from typing import TYPE_CHECKING, Any

from asyncwatch.cli.messages import report
from asyncwatch.control.thread import ControlLoop, control_thread
from asyncwatch.engine.observation import LoopFinder, Observation

if TYPE_CHECKING:
    from asyncwatch.cli.program import Dashboard
    from asyncwatch.control.host import HostedRun

_LOOK_EVERY = 0.005
BOOTSTRAP = (
    "import sys; sys.flags.safe_path or sys.path.pop(0); sys.argv[1] in sys.path or sys.path.append(sys.argv[1]); "
    "from asyncwatch.cli.observed import main; main()"
)
"""The code of the new interpreter. A `queue.py` in the current folder must not stand in for Python's."""


class Observing:
    """The tasks of this process as a run that clients can look at, from `open` to `close`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.observation = Observation(name, lambda loop: isinstance(loop, ControlLoop))
        self.problem = ""
        """Why other processes do not find it; empty if they do."""
        self.id = ""
        self._finder = LoopFinder(self.observation)
        self._hosted: HostedRun | None = None
        self._shown: Dashboard | None = None
        self._is_open = False
        self._pid = os.getpid()

    def open(self, *, has_screen: bool, log_level: int = logging.INFO) -> None:
        """Begin, with a dashboard in the terminal if it may have the screen and there is one."""
        control_thread.enter()
        self._is_open = True
        self._hosted = control_thread.submit(self._host()).result()
        self.problem, self.id = self._hosted.problem, self._hosted.id
        self._finder.install()
        if (running := asyncio._get_running_loop()) is not None:  # noqa: SLF001  documented for event loops
            self.observation.add_loop(running)
        if has_screen:
            self._show(self._hosted, log_level)

    @property
    def is_shown(self) -> bool:
        """Whether a dashboard has the terminal."""
        return self._shown is not None

    def close(self, status: int | None = None) -> None:
        """End, with the exit status of the program: when this returns, the program has its terminal back."""
        if not self._is_open or self._hosted is None or os.getpid() != self._pid:
            return
        self._is_open = False
        self._finder.remove()
        closing = control_thread.submit(self._end(self._hosted, status))
        interrupted: KeyboardInterrupt | None = None
        while not (closing.done() and (self._shown is None or self._shown.has_ended())):
            try:
                time.sleep(_LOOK_EVERY)
            except KeyboardInterrupt as error:
                interrupted = error
        control_thread.leave()
        if interrupted is not None:
            raise interrupted

    async def _host(self) -> HostedRun:
        from asyncwatch.control.host import HostedRun

        hosted = HostedRun(self.observation, self.name, on_look=self.observation.look)
        await hosted.open()
        return hosted

    async def _end(self, hosted: HostedRun, status: int | None) -> None:
        self.observation.finish()
        await hosted.close(status)

    def _show(self, hosted: HostedRun, log_level: int) -> None:
        from asyncwatch.cli.program import Dashboard, Recorder, has_screen, screen

        if not has_screen() or not screen.acquire(blocking=False):
            return
        recorder = Recorder(self.observation.record_log, lambda: self._is_open, keeps_all=True)
        ours, childs = socket.socketpair()
        try:
            self._shown = Dashboard(childs, recorder, log_level, screen.release)
        except BaseException:
            ours.close()
            screen.release()
            raise
        control_thread.submit(hosted.adopt(ours)).result()


# -- a script


def main() -> None:
    """Run the script or module of the command line, observed. Arguments: ours, then `script` or `module`, then its own.

    Ends as the script does: with its status, its exception or its signal.
    """
    _root, shows, kind, name, what, *arguments = sys.argv[1:]
    observing = Observing(name)
    sys.argv[:] = [what, *arguments]
    observing.open(has_screen=shows == "screen")
    if observing.problem:
        report(f"other processes do not find {name}: {observing.problem}")
    elif not observing.is_shown:
        report(f"To see the tasks of {name}: asyncwatch attach {observing.id}")
    status = 1
    try:
        (_run_module if kind == "module" else _run_script)(what)
        status = 0
    except SystemExit as error:
        status = _status_of(error)
        raise
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            status = 130
        _hide_own_frames()
        raise
    finally:
        if status == 0 and _has_other_threads():
            atexit.register(observing.close, 0)  # the interpreter waits for them first
        else:
            observing.close(status)


def _run_script(path: str) -> None:
    """Run a script, a folder or an archive with a `__main__`, as `python PATH` does."""
    if Path(path).is_dir() or not _is_script(path):
        sys.path.insert(0, str(Path(path).absolute()))
        _run_main("__main__", path)
        return
    if not sys.flags.safe_path:
        sys.path.insert(0, str(Path(path).resolve().parent))
    namespace = _main_namespace()
    path = str(Path(path).absolute())  # as Python does, while `sys.argv[0]` stays as it is
    loader: Any = SourceFileLoader("__main__", path)
    if path.endswith(".pyc"):
        loader = SourcelessFileLoader("__main__", path)
    namespace |= {"__file__": path, "__cached__": None, "__loader__": loader}
    exec(_code_of(path, loader), namespace)  # noqa: S102  the script of the user


def _run_module(name: str) -> None:
    """Run a module, as `python -m NAME` does."""
    if not sys.flags.safe_path:
        sys.path.insert(0, str(Path.cwd()))
    sys.argv[0] = "-m"
    _run_main(name, name)


def _run_main(module: str, shown: str) -> None:
    _main_namespace()
    run = getattr(runpy, "_run_module_as_main", None)
    if run is None:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv[0] = shown if module == "__main__" else sys.argv[0]
        run(module, alter_argv=module != "__main__")


def _main_namespace() -> dict[str, Any]:
    """Return the namespace of the module `__main__`, as it is before a script runs."""
    namespace = vars(sys.modules["__main__"])
    for name in [name for name in namespace if not name.startswith("__")]:
        del namespace[name]
    return namespace


def _is_script(path: str) -> bool:
    import zipfile

    return not zipfile.is_zipfile(path)


def _code_of(path: str, loader: Any) -> CodeType:
    if path.endswith(".pyc"):
        code = loader.get_code("__main__")
        assert isinstance(code, CodeType)  # noqa: S101  the loader raises otherwise
        return code
    with io.open_code(path) as file:
        return compile(file.read(), path, "exec", dont_inherit=True)


def _status_of(error: SystemExit) -> int:
    """Return the exit status that `sys.exit` leads to."""
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


def _has_other_threads() -> bool:
    return any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread())


def _hide_own_frames() -> None:
    """Let the traceback that ends the interpreter begin with the script, as it does under `python`."""
    hook = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        while trace is not None and _is_ours(trace):
            trace = trace.tb_next
        error.__traceback__ = trace
        hook(kind, error, trace)

    sys.excepthook = show


def _is_ours(trace: TracebackType) -> bool:
    code = trace.tb_frame.f_code
    return code.co_filename == __file__ or (code.co_filename == "<string>" and code.co_name == "<module>")
