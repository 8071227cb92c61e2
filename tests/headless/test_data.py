"""What a run without a dashboard writes to stdout: JSON lines, or the summary."""

from __future__ import annotations

import io
import json

from asyncwatch.cli.headless import run_headless
from asyncwatch.events import Batch, WorkerState, decode
from tests.headless.script import HEAD, SUMMARY, TAIL, FakeController, Pipe, log, run


async def test_json_lines_are_the_events_and_nothing_else() -> None:
    """Stdout gets every event in order, as a line that reads back as the same event; the rest is on stderr."""
    out, err = await run(FakeController(HEAD, [log("look")], TAIL), json=True)
    assert [decode(line) for line in out.splitlines()] == [*HEAD, log("look"), *TAIL]
    assert out.endswith(b"\n")
    assert "WARNING [a] look" in err
    assert err.endswith(SUMMARY)


async def test_json_is_flushed_once_a_batch() -> None:
    """A reader of the pipe gets each batch at once, in one piece."""
    stdout = Pipe()
    await run(FakeController(HEAD, [log("x")], TAIL), json=True, stdout=stdout)
    assert (stdout.flushes, 1_000 - stdout.room) == (3, 3)


async def test_text_that_utf8_cannot_hold_does_not_end_the_run() -> None:
    """A lone surrogate in a message is written as its escape."""
    out, _ = await run(FakeController(HEAD, [log("bad \udcff name")], TAIL), json=True)
    assert json.loads(out.splitlines()[3])["message"] == r"bad \udcff name"


async def test_summary_goes_to_stdout_without_json() -> None:
    """Without JSON the summary is the data, and the progress is narration."""
    out, err = await run(FakeController(HEAD, TAIL))
    assert out.decode() == SUMMARY
    assert err == "00:00.5  1/1  1 succeeded\n"


async def test_returns_the_fleet_and_shows_every_batch_first() -> None:
    """The listener sees each batch, and the Fleet is that of all events."""
    controller, batches = FakeController(HEAD, TAIL), list[Batch]()
    fleet = await run_headless(
        controller,
        json=False,
        stdout=io.BytesIO(),
        stderr=io.StringIO(),
        on_batch=batches.append,
        clock=controller.clock,
    )
    assert batches == [HEAD, TAIL]
    assert fleet.counts[WorkerState.SUCCEEDED] == 1
    assert fleet.finished == TAIL[-1]
    assert controller.sent == []
