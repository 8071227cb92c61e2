"""A type checker refuses arguments that do not fit the target, and knows the types of results."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, assert_type

import pytest

from asyncwatch import (
    AsyncMap,
    Handle,
    ItemOutcome,
    OpenRun,
    Outcome,
    RetryPolicy,
    Run,
    Supervisor,
    WaitResult,
    WorkerSpec,
    WorkerSpecs,
    amap,
    gather,
    open_run,
)
from tests.clock import run_jumping

ROOT = Path(__file__).parents[2]
REFUSED = """
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from asyncwatch import Run, Supervisor, WorkerSpec, WorkerSpecs, amap, gather, in_thread, open_run

async def double(number: int) -> int:
    return 2 * number

def plain(number: int) -> int:
    return number

async def scale(number: int, by: float) -> float:
    return number * by

@asynccontextmanager
async def session() -> AsyncIterator[float]:
    yield 0.5

fits = WorkerSpec("a", double, (3,))
WorkerSpec("a", double, ("not a number", 3))  # refused: arg-type
WorkerSpec("a", double, ("3",))  # refused: arg-type
WorkerSpec("a", plain, (3,))  # refused: arg-type
WorkerSpec("a", double, 3)  # refused: arg-type
wrong: WorkerSpec[str, int] = fits  # refused: assignment
Run([SupervisorSpec("s")])  # refused: name-defined

async def main() -> None:
    run = Run([fits])
    text: list[str] = [outcome.result for outcome in await run.gather()]  # refused: misc
    run.serve()  # refused: attr-defined
    run.carry_out()  # refused: attr-defined
    run.control  # refused: attr-defined
    await run.complete_all()  # refused: attr-defined
    async with run.as_completed() as outcomes:
        async for outcome in outcomes:
            number: int | None = outcome.result
            word: str | None = outcome.result  # refused: assignment
    tree = Supervisor([fits])
    await tree.gather()  # refused: attr-defined
    tree.control  # refused: attr-defined
    if tree.cancel("a"):  # refused: func-returns-value
        pass
    words: list[str] = await amap(double, [1])  # refused: arg-type
    await amap(double, ["a"])  # refused: arg-type
    await amap(plain, [1])  # refused: arg-type
    threaded: list[int] = await amap(in_thread(plain), [1])
    await in_thread(plain)("a")  # refused: arg-type
    await amap(double, [1], key=len)  # refused: arg-type
    await amap(double, [1], retries=3)  # refused: call-overload
    await amap(double, [1], lifespan=session)  # refused: arg-type
    await amap(scale, [1])  # refused: arg-type
    await amap(scale, ["a"], lifespan=session)  # refused: arg-type
    one: tuple[str] = await gather(double(1))  # refused: assignment
    open_run(speed=3)  # refused: call-overload
    async with open_run() as opened:
        opened.start_soon(double, "a")  # refused: arg-type
        opened.start_soon(double)  # refused: arg-type call-arg
        found: str = await opened.start_soon(double, 1)  # refused: arg-type
    async with open_run(lifespan=session) as scaling:
        await scaling.start_soon(double, 1)  # refused: arg-type
        await scaling.start_soon(scale, "a")  # refused: arg-type
"""


async def double(number: int) -> int:
    return 2 * number


async def shout(text: str, times: int = 1) -> str:
    return text.upper() * times


async def scale(number: int, by: float) -> float:
    return number * by


async def shown(value: float) -> str:
    return str(value)


@asynccontextmanager
async def half() -> AsyncIterator[float]:
    yield 0.5


def test_accepted_programs_have_their_types() -> None:
    """`assert_type` does nothing at run time: the check is mypy's."""

    async def main() -> None:
        one, two = WorkerSpec("a", double, (3,)), WorkerSpec("b", shout, ("x",))
        assert_type(one, WorkerSpec[int, int])
        many = WorkerSpecs(WorkerSpec("t", double), ["c", "d"], [1, 2])
        assert_type(many, WorkerSpecs[int])
        assert_type(Run([many]), Run[int])
        run = Run([one])
        assert_type(run, Run[int])
        (first, *_) = await run.gather()
        assert_type(first, Outcome[int])
        assert_type(first.result, int | None)
        assert first.result == 6
        assert_type(await Run([two]).wait(), WaitResult[str])
        anything: list[WorkerSpec] = [one, two]
        assert_type(Run(anything), Run[Any])
        async with Supervisor([one, two]):
            await asyncio.sleep(0)

    run_jumping(main)


def test_functions_have_the_types_of_their_results() -> None:
    """As above, for `gather`, `amap` and `open_run`."""

    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        assert_type(await gather(double(1), shout("a")), tuple[int, str])
        assert_type(await gather(*[double(1), double(2)], limit=1), list[int])
        assert_type(await gather(double(1), return_exceptions=True), tuple[int | BaseException])
        mapped = amap(double, [1, 2], concurrency=2, rate="100/s", retry=RetryPolicy(), key=str)
        _ = assert_type(mapped, AsyncMap[int])
        assert_type(await mapped, list[int])
        async for word in amap(shout, ["a"]):
            assert_type(word, str)
        async with amap(double, numbers()) as results:
            assert_type([number async for number in results], list[int])
        (outcome,) = await amap(shout, ["a"], on_error="return")
        assert_type(outcome, ItemOutcome[str, str])
        assert_type(outcome.item, str)
        assert_type(outcome.result, str | None)
        async with open_run(concurrency=3) as opened:
            handle = opened.start_soon(shout, "a", 2, name="w")
            _ = assert_type(handle, Handle[str])
            assert_type(await handle, str)
            assert_type(await handle.outcome(), Outcome[str])
        assert_type(await amap(scale, [2], lifespan=half), list[float])
        (scaled,) = await amap(scale, [2], lifespan=half, lifespan_per="slot", on_error="return")
        assert_type(scaled, ItemOutcome[int, float])
        async with open_run(lifespan=half) as scaling:
            assert_type(scaling, OpenRun[float])
            assert_type(await scaling.start_soon(scale, 2), float)
            assert_type(await scaling.start_soon(shown), str)

    run_jumping(main)


@pytest.mark.timeout(180)
def test_unfit_programs_are_refused_and_examples_accepted(tmp_path: Path) -> None:
    """Mypy reports each marked line with that code, no other line, and nothing in the programs of the README."""
    examples = re.findall(r"^```python.*?\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert examples
    programs = {"refused.py": REFUSED} | {f"example_{number}.py": text for number, text in enumerate(examples)}
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
    env = {**os.environ, "MYPYPATH": str(ROOT / "tui")}
    options = ["--strict", "--config-file=", f"--cache-dir={ROOT / '.mypy_cache'}", "--no-error-summary"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *programs],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = REFUSED.splitlines()
    expected = {
        ("refused.py", number, code)
        for number, line in enumerate(lines, 1)
        if (found := re.search(r"# refused: (.+)", line))
        for code in found[1].split()
    }
    reported = {
        (file, int(line), code)
        for file, line, code in re.findall(r"^(\S+?):(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.MULTILINE)
    }
    assert reported == expected, done.stdout + done.stderr
