"""The garbage collector, thread switches and memory of the process."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator

import pytest

from asyncwatch.process import (
    GC_THRESHOLD,
    STARTUP_GC_THRESHOLD,
    SWITCH_INTERVAL,
    infrequent_gc,
    memory,
    paused_gc,
    short_switch_interval,
)


@pytest.fixture(autouse=True)
def _own_settings() -> Iterator[None]:
    """Leave the process as it was."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    yield
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


@pytest.mark.parametrize(
    ("before", "inside"),
    [
        (700, GC_THRESHOLD),
        (2_000, GC_THRESHOLD),
        (STARTUP_GC_THRESHOLD, GC_THRESHOLD),
        pytest.param(50_000, 50_000, id="higher"),
        pytest.param(0, 0, id="off"),
    ],
)
def test_infrequent_gc_raises_the_threshold_and_restores_it(before: int, inside: int) -> None:
    gc.set_threshold(before, 10, 10)
    with infrequent_gc():
        assert gc.get_threshold()[0] == inside
    assert gc.get_threshold()[0] == before


def test_infrequent_gc_ignores_objects_that_exist_already() -> None:
    old: list[object] = []
    old.append(old)
    with infrequent_gc():
        assert not any(each is old for each in gc.get_objects())


def test_paused_gc_nested_stays_paused_until_the_outer_end() -> None:
    with paused_gc():
        with paused_gc():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


@pytest.mark.parametrize(("before", "inside"), [(0.005, SWITCH_INTERVAL), (SWITCH_INTERVAL / 2, SWITCH_INTERVAL / 2)])
def test_short_switch_interval_never_lengthens_it(before: float, inside: float) -> None:
    sys.setswitchinterval(before)
    with short_switch_interval():
        assert sys.getswitchinterval() == pytest.approx(inside)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_memory_is_in_bytes() -> None:
    in_use = memory()
    assert in_use is not None
    assert 1_000_000 < in_use < 100_000_000_000


STREAMS = """
import io, os, sys
from asyncwatch.process import kept_streams, prepare_streams

prepare_streams()
for number in (0, 1, 2):
    os.fstat(number)
    assert os.get_inheritable(number)
file = open(os.devnull)
assert file.fileno() > 2, file
first = sys.stdout
for replace in CODE:
    with kept_streams():
        exec(replace)
    print("größe 東", flush=True)
    print("error", file=sys.stderr, flush=True)
"""


@pytest.mark.parametrize("closed", ["", "<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_closed_at_the_start_leave_their_numbers_taken(closed: str) -> None:
    code = STREAMS.replace("CODE", "['']")
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], check=False)
    assert done.returncode == 0


def test_streams_that_other_code_replaced_or_closed_can_be_written() -> None:
    codes = [
        "sys.stdout = sys.stderr = None",
        "sys.stdout = io.StringIO(); sys.stderr = object()",
        "sys.stdout = io.TextIOWrapper(sys.stdout.buffer)",
        "assert sys.stdout is first; sys.stdout = io.TextIOWrapper(sys.stdout.detach()); print('detached')",
        "sys.stdout.close(); sys.stderr.close()",
    ]
    done = subprocess.run(
        [sys.executable, "-c", STREAMS.replace("CODE", repr(codes))],
        capture_output=True,
        env={"PYTHONIOENCODING": "latin-1"},
        check=False,
    )
    assert done.stderr.decode().split() == ["error"] * 5
    latin, utf8 = "größe \\u6771\n".encode("latin-1"), "größe 東\n".encode()
    assert done.stdout == latin * 3 + b"detached\n" + utf8 * 2
