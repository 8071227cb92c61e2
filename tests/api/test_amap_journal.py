"""`amap(..., journal=...)`: the same call after one that did not return goes on with its run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import tracemalloc
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import asyncwatch
from asyncwatch import BusyError, Halt, RetryPolicy, WorkerState, amap, current_worker
from asyncwatch.cli.main import main as command
from asyncwatch.journal.history import RunState, entries
from asyncwatch.journal.store import RunJournal

ROOT = Path(asyncwatch.__file__).parents[1]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the journals of a test, whose current folder has nothing in it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "state" / "asyncwatch" / "runs"


class Job:
    """Doubles a number, unless that is in `bad`, and notes what it was called with."""

    def __init__(self) -> None:
        self.called: list[Any] = []
        self.bad: Any = set()

    async def __call__(self, item: Any) -> Any:
        self.called.append(item)
        await asyncio.sleep(0)
        if any(item == each for each in self.bad):
            raise ValueError(item)
        return [item, item]

    def calls(self) -> list[Any]:
        """Return what it was called with since the last time."""
        called, self.called = self.called, []
        return called


async def counting(size: int) -> AsyncIterator[int]:
    for number in range(size):
        await asyncio.sleep(0)
        yield number


def generated(size: int) -> Iterator[int]:
    yield from range(size)


@pytest.mark.parametrize("items_of", [lambda size: list(range(size)), range, generated, counting])
async def test_call_after_one_that_raised_runs_only_what_failed(items_of: Any, folder: Path) -> None:
    job = Job()
    job.bad = {3, 250}
    with pytest.raises(ExceptionGroup):
        await amap(job, items_of(300), concurrency=3, journal="prices")
    assert sorted(job.calls()) == list(range(300))
    job.bad = set()
    assert await amap(job, items_of(300), concurrency=3, journal="prices") == [[n, n] for n in range(300)]
    assert sorted(job.calls()) == [3, 250]
    (entry,) = entries(folder)
    assert (entry.name, entry.launches, entry.done_before) == ("prices", 2, 298)
    assert (entry.state, entry.counts, entry.attempts) == (RunState.SUCCEEDED, {"succeeded": 2}, 2)


async def test_call_after_one_that_returned_is_a_new_run(folder: Path) -> None:
    job = Job()
    for _ in range(2):
        assert await amap(job, [1, 2], journal="prices") == [[1, 1], [2, 2]]
        assert sorted(job.calls()) == [1, 2]
    assert [entry.launches for entry in entries(folder)] == [1, 1]


async def test_outcomes_say_that_they_are_from_the_journal() -> None:
    job = Job()
    job.bad = {2}
    with pytest.raises(ExceptionGroup):
        await amap(job, ["1", 2, "3"], journal="prices", retry=RetryPolicy(max_attempts=1))
    outcomes = await amap(job, ["1", 2, "new", "3"], journal="prices", on_error="return")
    assert [each.is_from_journal for each in outcomes] == [True, False, False, True]
    assert [each.item for each in outcomes] == ["1", 2, "new", "3"]
    assert [each.state for each in outcomes] == [
        WorkerState(text) for text in ("succeeded", "failed", *["succeeded"] * 2)
    ]
    assert (outcomes[3].result, outcomes[3].name, outcomes[3].attempts) == (["3", "3"], "3", 1)
    job.calls()
    await amap(job, ["1", 2], journal="prices", on_error="return")  # the failure was returned: it is known
    assert job.calls() == ["1", 2]


async def test_iteration_that_was_left_goes_on_with_all_results() -> None:
    job = Job()
    async with amap(job, counting(50), concurrency=2, journal="prices") as results:
        async for _ in results:
            if len(job.called) > 20:
                break
    before = set(job.calls())
    assert sorted([pair async for pair in amap(job, counting(50), journal="prices")]) == [[n, n] for n in range(50)]
    assert len(before & set(job.calls())) <= 3  # those that were in flight


async def test_cancelled_and_stopped_calls_are_gone_on_with(folder: Path) -> None:
    job = Job()
    is_held = True

    async def held(number: int) -> Any:
        if is_held and number == 5:
            await asyncio.sleep(1_000)
        return await job(number)

    call = asyncio.ensure_future(amap(held, range(8), concurrency=8, journal="prices", on_error="return"))
    while len(job.called) < 7:  # noqa: ASYNC110  it is part of the test's own job
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert [entry.state for entry in entries(folder)] == [RunState.INTERRUPTED]
    is_held = False
    job.calls()
    assert len(await amap(held, range(8), journal="prices")) == 8
    assert job.calls() == [5]


async def test_halted_call_is_gone_on_with() -> None:
    job = Job()
    job.bad = {0}
    limits: Any = {"concurrency": 1, "journal": "prices", "on_error": "return"}
    await amap(job, range(5), halt=Halt(failures=1), **limits)
    assert job.calls() == [0]
    job.bad = {4}
    assert len(await amap(job, range(5), **limits)) == 5
    assert job.calls() == [0, 1, 2, 3, 4]


async def test_call_that_timed_out_is_gone_on_with() -> None:
    job = Job()

    async def slow(number: int) -> Any:
        if number == 1:
            await asyncio.sleep(1_000)
        return await job(number)

    for _ in range(2):
        with pytest.raises(TimeoutError):
            await amap(slow, range(2), timeout=0.05, journal="prices", on_error="return")
    assert job.calls() == [0]


async def failing(job: Job, items: Any, **options: Any) -> None:
    """Run a call that does not return, since its last item raises. All others are done."""
    job.bad.add("bad")
    with contextlib.suppress(ExceptionGroup):
        await amap(job, [*items, "bad"], journal="prices", **options)
    job.bad.clear()
    job.calls()


async def test_items_are_known_by_their_content_wherever_they_stand() -> None:
    job = Job()
    await failing(job, [{"id": 1, "x": 2}, "a", 1, "a"])
    items = ["a", 1.0, {"x": 2, "id": 1}, "a", "a", 1]
    assert await amap(job, items, journal="prices") == [[item, item] for item in items]
    assert job.calls() == [1.0, "a"]  # the third "a" is new


async def test_items_are_known_by_their_names_as_long_as_they_have_the_same_content() -> None:
    job = Job()
    await failing(job, [("a", 1), ("b", 1)], name=lambda item: item[0])
    with warnings.catch_warnings(action="ignore"):
        await amap(job, [("b", 2), ("c", 1), ("a", 1)], journal="prices", name=lambda item: item[0])
    assert ("b", 2) in (called := job.calls())
    assert ("c", 1) in called


async def test_name_makes_an_item_known_that_is_no_json() -> None:
    job = Job()

    class Page:
        def __init__(self, number: int) -> None:
            self.number = number

        def __repr__(self) -> str:
            return f"Page({self.number})"

    async def size(page: Page) -> int:
        return len(await job(page.number))

    job.bad = {2}
    with pytest.raises(ExceptionGroup):
        await amap(size, map(Page, range(3)), journal="prices", name=lambda page: f"page {page.number}")
    job.bad = set()
    job.calls()
    assert await amap(size, map(Page, range(3)), journal="prices", name=lambda page: f"page {page.number}") == [2, 2, 2]
    assert job.calls() == [2]


@pytest.mark.parametrize(
    "result",
    [(1, 2), {1: 2}, {"a": (1,)}, b"x", {1}, object(), 2**64, [2**64], float("inf"), "\udc80", "http://u:secret@h"],
)
async def test_result_that_json_changes_is_not_kept_and_said(result: object, folder: Path) -> None:
    calls = 0

    async def job(item: str) -> object:
        nonlocal calls
        if item == "bad" and calls < 2:
            raise ValueError(item)
        calls += 1
        return result

    said: list[str] = []
    for _ in range(2):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            with contextlib.suppress(ExceptionGroup):
                assert await amap(job, ["a", "bad"], journal="prices") == [result, result]
        said += [str(each.message) for each in caught]
    assert calls == 3
    (first, _) = said
    assert first == (
        "journal 'prices': worker 'a' returned a value that JSON does not give back as it was: such results are not "
        "kept, and their items run again"
    )


def damage(folder: Path) -> None:
    """Overwrite a part of the journal."""
    (path,) = folder.glob("*.sqlite")
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(bytes(20_000))


async def test_damaged_journal_is_used_as_far_as_it_can_be_read_and_said(folder: Path) -> None:
    job = Job()
    items = [str(number) for number in range(3_000)]
    await failing(job, items, concurrency=100)
    damage(folder)
    with pytest.warns(
        RuntimeWarning, match=r"journal 'prices': it was damaged: .* could not\. Items whose end is lost"
    ):
        assert await amap(job, [*items, "bad"], journal="prices") == [[item, item] for item in [*items, "bad"]]
    assert "bad" in job.calls()  # how many others depends on which batches were in that part


@pytest.mark.parametrize("result", [None, True, 1, -1.5, "ü\n", [1, [None, {"a": {}}]], {"a": [1.0], "b": "x"}])
async def test_result_from_the_journal_is_as_it_was(result: object) -> None:
    async def job(item: str) -> object:
        if item == "bad":
            raise ValueError(item)
        return result

    with pytest.raises(ExceptionGroup):
        await amap(job, ["a", "bad"], journal="prices")
    (first, _) = await amap(job, ["a", "bad"], journal="prices", on_error="return")
    assert first.is_from_journal
    assert repr(first.result) == repr(result)


async def test_other_names_functions_and_folders_have_journals_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job()
    await failing(job, [1])

    async def other(item: Any) -> Any:
        return await job(item)

    await amap(job, [1], journal="costs")
    await amap(other, [1], journal="prices")
    monkeypatch.chdir(tmp_path)
    await amap(job, [1], journal="prices")
    assert job.calls() == [1, 1, 1]
    monkeypatch.chdir(tmp_path / "here")
    await amap(job, [1], journal="prices")
    assert not job.calls()


async def test_second_call_at_a_time_is_refused_with_the_process_of_the_first() -> None:
    job = Job()
    has_begun, is_over = asyncio.Event(), asyncio.Event()

    async def held(item: int) -> Any:
        has_begun.set()
        await is_over.wait()
        return await job(item)

    first = asyncio.ensure_future(amap(held, [1], journal="prices"))
    await has_begun.wait()
    text = re.escape(f"the journal 'prices' is being written by another call of this process ({os.getpid()})")
    with pytest.raises(BusyError, match=text) as caught:
        await amap(held, [1], journal="prices")
    assert caught.value.pid == os.getpid()
    is_over.set()
    assert await first == [[1, 1]]
    assert job.called == [1]


async def test_idempotency_key_of_an_item_is_that_of_the_call_before() -> None:
    keys: list[str] = []

    async def job(item: int) -> None:
        worker = current_worker()
        assert worker is not None
        keys.append(worker.idempotency_key)
        if len(keys) < 5:
            raise ValueError(item)

    for items in ([1, 1], [3, 1], [1]):
        with contextlib.suppress(ExceptionGroup):
            await amap(job, items, journal="prices")
    first, second, three, again, last = keys
    assert len({first, second, three}) == 3
    assert again == last == first


async def test_run_of_the_journal_is_seen_by_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = Job()
    await failing(job, range(3))
    (entry,) = entries(folder)
    assert [os.stat(path).st_mode & 0o777 for path in (entry.path, folder)] == [0o600, 0o700]  # noqa: PTH116
    for arguments in (["runs"], ["runs", "show", "prices"]):
        with contextlib.suppress(SystemExit):
            command(arguments)
    shown = capsys.readouterr().out
    assert re.search(rf"{entry.id}  prices +failed: 3 succeeded, 1 failed", shown)
    assert "amap.function" in shown
    assert "asyncwatch -" not in shown
    for arguments, text in (
        (["resume"], "nothing to resume"),
        (["resume", "prices"], f"run {entry.id} is a call of amap with the journal 'prices'. Run the program again"),
    ):
        with pytest.raises(SystemExit):
            command(arguments)
        assert text in capsys.readouterr().err


async def test_watched_run_has_the_id_of_its_journal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def job(_item: int) -> str:
        await asyncio.to_thread(command, ["ps", "--json"], standalone_mode=False)
        return capsys.readouterr().out

    (listed,) = await amap(job, [1], journal="prices", watch=True)
    (entry,) = entries(folder)
    assert f'"id":"{entry.id}"' in listed.replace(" ", "")


async def test_journal_needs_a_name() -> None:
    with pytest.raises(ValueError, match="journal must be a name"):
        await amap(Job(), [], journal=" ")


async def test_lifespan_that_cannot_be_entered_leaves_a_journal_to_go_on_with(folder: Path) -> None:
    is_broken = True

    @contextlib.asynccontextmanager
    async def database() -> AsyncIterator[str]:
        if is_broken:
            raise OSError("no database")
        yield "database"

    async def job(item: int, opened: str) -> list[Any]:
        return [item, opened]

    with pytest.raises(OSError, match="no database"):
        await amap(job, [1], journal="prices", lifespan=database)
    is_broken = False
    assert await amap(job, [1], journal="prices", lifespan=database) == [[1, "database"]]
    (entry,) = entries(folder)
    assert entry.launches == 2


async def test_call_of_very_many_items_takes_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncwatch.api.ROWS_KEPT", 500)
    monkeypatch.setattr("asyncwatch.journal.calls._ENDED_KEPT", 500)

    async def quick(_item: int) -> None:
        pass

    count = size = 0
    tracemalloc.start()
    try:
        async for _ in amap(quick, iter(range(9_000)), concurrency=20, journal="prices"):
            count += 1
            if count == 3_000:
                size = tracemalloc.get_traced_memory()[0]
            elif count == 8_500:  # 73 bytes an item are used; to keep the keys takes 150, and the workers 400
                async with asyncio.timeout(30):  # what is not written yet takes memory too
                    while tracemalloc.get_traced_memory()[0] - size >= 400_000:  # noqa: ASYNC110  no event tells
                        await asyncio.sleep(0.02)
    finally:
        tracemalloc.stop()
    assert count == 9_000


PROGRAM = """
import asyncio, os, sys
from asyncwatch import amap

async def fetch(number):
    os.write(ledger, f"{number}\\n".encode())
    await asyncio.sleep(0.001)
    if number == 150 and sys.argv[1:] == ["hang"]:
        print("hangs", flush=True)
        await asyncio.sleep(1000)
    return number

async def main():
    results = await amap(fetch, map(int, range(200)), concurrency=5, journal="prices")
    print(results == list(range(200)))

ledger = os.open("ledger", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
asyncio.run(main())
"""


def test_killed_program_goes_on_when_it_runs_again(folder: Path) -> None:
    Path("prices.py").write_text(PROGRAM)
    arguments = [sys.executable, "-W", "error", "prices.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([*arguments, "hang"], env=environment, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "hangs\n"
        while (known := _successes(folder)) < 199:
            assert first.poll() is None
        second = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert f"BusyError: the journal 'prices' is being written by process {first.pid}\n" in second.stderr
        first.send_signal(signal.SIGKILL)
    assert known == 199
    assert len(Path("ledger").read_text().splitlines()) == 200
    again = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=False)
    assert (again.stdout, again.stderr) == ("True\n", "")
    assert Path("ledger").read_text().splitlines()[200:] == ["150"]


def _successes(folder: Path) -> int:
    """Return how many workers have succeeded, by the journal."""
    (path,) = folder.glob("*.sqlite")
    with RunJournal(path) as journal:
        events = (event for batch in journal.batches(1) for event in batch.unpack())
        return sum(type(event).__name__ == "WorkerSucceeded" for event in events)
