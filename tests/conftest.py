"""Settings of the whole suite.

Property tests try the same examples in every run; `--hypothesis-profile=search` tries 2,000 new ones for each.
"""

from __future__ import annotations

import atexit
import os
import pathlib
import shutil
import signal
import tempfile

from hypothesis import settings

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.register_profile("search", max_examples=2_000, deadline=None)
settings.load_profile("repeatable")

# A shell without job control starts background commands with SIGINT ignored, which programs under test would inherit.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Runs of the tests are not to be found by a person's `asyncwatch ps`. The path must be short enough for sockets.
_runtime = tempfile.mkdtemp(prefix="aw-")
atexit.register(shutil.rmtree, _runtime, ignore_errors=True)
os.environ["XDG_RUNTIME_DIR"] = _runtime

# Nor are their journals to be in a person's folder. It exists, since a run says which folder it is the first to use.
_state = tempfile.mkdtemp(prefix="aw-state-")
atexit.register(shutil.rmtree, _state, ignore_errors=True)
os.environ["XDG_STATE_HOME"] = _state
pathlib.Path(_state, "asyncwatch", "runs").mkdir(parents=True, mode=0o700)
