"""What this process takes of the machine."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def memory() -> int | None:
    """Return the bytes of memory that the process occupies now; where the system does not tell, the most it ever did.

    None if nothing is known.
    """
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    try:
        import resource  # noqa: PLC0415  it is not there on every platform
    except ImportError:
        return None
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024
