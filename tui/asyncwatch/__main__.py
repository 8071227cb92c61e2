"""The entry point of the command, also as `python -m asyncwatch`. However early Ctrl+C comes, there is no traceback."""

from __future__ import annotations

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # `python -m` searches the current folder first: its `queue.py` would stand in for that of Python. `import_module`
    # finds the modules of targets.
    del sys.path[0]

import gc
import signal

from asyncwatch.cli import INTERRUPTED


def run() -> None:
    """Run the command, from its imports to the end of the process."""
    dashboard = None
    try:
        from asyncwatch.process import STARTUP_GC_THRESHOLD, prepare_streams  # noqa: PLC0415  Ctrl+C during imports is caught here too

        gc.set_threshold(STARTUP_GC_THRESHOLD)
        prepare_streams()
        from asyncwatch.cli.keeper import DashboardProcess, is_for_dashboard  # noqa: PLC0415

        if is_for_dashboard(sys.argv[1:]):
            dashboard = DashboardProcess()
        from asyncwatch.cli.main import main  # noqa: PLC0415

        main(prog_name="asyncwatch", obj=dashboard)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        if dashboard is not None:
            dashboard.discard()
        # Only the interpreter's own shutdown follows, which would print a traceback on Ctrl+C.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    run()
