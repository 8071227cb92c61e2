"""A process that is killed at each of the steps in which it publishes, refreshes, ends or lists runs, one by one."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from asyncwatch.control.discovery import publish, survey


def main(what: str) -> None:
    """Print the number of steps. A step is a call of a function of C, as system calls are."""
    folder = Path(os.environ["XDG_RUNTIME_DIR"]) / "asyncwatch"
    for steps in itertools.count(1):
        if what == "survey":
            _leave_a_dead_run()
        pid = os.fork()
        if not pid:
            _work(what, steps)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert survey() == ([], [], []), steps
        left = {path.suffix for path in folder.glob("*")}
        assert left <= ({".ended"} if what == "end" else set()), (steps, left)
        if status == 0:
            print(steps)  # noqa: T201
            return
        assert status == signal.SIGKILL, (steps, status)


def _leave_a_dead_run() -> None:
    pid = os.fork()
    if not pid:
        publish("dead", ["asyncwatch"], protocol=1)
        os._exit(0)
    os.waitpid(pid, 0)


def _work(what: str, steps: int) -> None:
    """Kill this process before the call with the number `steps`."""
    publication = None if what in {"publish", "survey"} else publish("demo", ["asyncwatch"], protocol=1)
    counted = itertools.count(1)

    def count(frame: FrameType, event: str, argument: object) -> None:
        if event == "c_call" and next(counted) == steps:
            os.kill(os.getpid(), signal.SIGKILL)

    if publication is None:
        sys.setprofile(count)
        survey() if what == "survey" else publish("demo", ["asyncwatch"], protocol=1)
    else:
        if what == "refresh":
            Path(publication.socket_path).unlink()
        sys.setprofile(count)
        {
            "refresh": publication.refresh,
            "add": lambda: publication.add("other", ["asyncwatch"], protocol=1),
            "end": lambda: publication.end(0),
            "withdraw": publication.withdraw,
        }[what]()
    sys.setprofile(None)


if __name__ == "__main__":
    main(sys.argv[1])
