"""The entry of the command, also as `python -m asyncwatch`. No Ctrl+C is a traceback, however early it comes."""

from __future__ import annotations

import gc
import signal
import sys

INTERRUPTED = 130


def run() -> None:
    """Run the command `asyncwatch`, from its imports to the end of the process."""
    try:
        from asyncwatch.process import COLLECT_AT_START  # noqa: PLC0415  as below

        gc.set_threshold(COLLECT_AT_START)
        from asyncwatch.cli.main import main  # noqa: PLC0415  an interrupt of the import is caught here too

        main(prog_name="asyncwatch")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    finally:
        # What is left is the interpreter's own end, of which an interrupt would make a traceback.
        signal.signal(signal.SIGINT, signal.SIG_IGN)


if __name__ == "__main__":
    run()
