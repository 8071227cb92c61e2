"""The runs of one's own program: they listen on one socket, and other processes find each by its ID and its name."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from asyncwatch import open_run
from asyncwatch.control import protocol
from asyncwatch.control.client import Connection, ConnectionRefusedByRunError, RunGoneError, ask_info, connect
from asyncwatch.control.discovery import RunRecord, alive, ended
from asyncwatch.control.protocol import Kind

SEVERAL = """
import asyncio, contextlib, sys
from asyncwatch import open_run

async def main():
    async with contextlib.AsyncExitStack() as stack:
        for name in ("a", "b"):
            await stack.enter_async_context(open_run(name=name))
        print("open", flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""

FORKED = """
import asyncio, os, sys, threading
from asyncwatch import open_run

async def child():
    async with open_run(name="child"):
        print("open", flush=True)
        await asyncio.to_thread(os.read, 0, 1)

async def main():
    async with open_run(name="parent"):
        pid = os.fork()
        if not pid:
            thread = threading.Thread(target=asyncio.run, args=[child()])
            thread.start()
            thread.join()
            os._exit(0)
        await asyncio.to_thread(os.waitpid, pid, 0)

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _no_run_is_left() -> Iterator[None]:
    yield
    assert alive() == []


def records() -> dict[str, RunRecord]:
    return {record.name: record for record in alive()}


def name_of(record: RunRecord) -> str:
    """Return the name of the run that answers on the socket of a record."""
    with closing(connect(record.socket_path, Kind.ASKER)) as connection:
        welcome = connection.receive(10.0)
        assert isinstance(welcome, protocol.Welcome)
        assert welcome.run == record.id
        return welcome.name


async def answers() -> dict[str, str]:
    """Return who answers under each name."""
    return {name: await asyncio.to_thread(name_of, record) for name, record in records().items()}


def sockets() -> set[tuple[int, int]]:
    """Return the device and inode of each socket on which a run listens."""
    found = (Path(record.socket_path).stat() for record in alive())
    return {(status.st_dev, status.st_ino) for status in found}


async def test_runs_at_once_share_a_socket_and_each_answers_for_itself() -> None:
    async with AsyncExitStack() as stack:
        for name in "abc":
            await stack.enter_async_context(open_run(name=name))
        assert await answers() == {"a": "a", "b": "b", "c": "c"}
        assert len(sockets()) == 1


async def test_run_that_ends_leaves_the_others_which_new_ones_join() -> None:
    async with AsyncExitStack() as others:
        async with open_run(name="first"):
            await others.enter_async_context(open_run(name="second"))
            gone = records()["first"]
            before = sockets()
        assert await answers() == {"second": "second"}
        assert [record.name for record in ended()] == ["first"]
        with pytest.raises(RunGoneError):
            await asyncio.to_thread(connect, gone.socket_path, Kind.ASKER)
        async with open_run(name="third"):
            assert await answers() == {"second": "second", "third": "third"}
            assert sockets() == before


async def test_runs_one_after_another_and_nested_are_found() -> None:
    for _ in range(2):
        async with open_run(name="outer"), open_run(name="inner"):
            assert await answers() == {"outer": "outer", "inner": "inner"}
        assert alive() == []


async def test_runs_of_several_threads_share_a_socket() -> None:
    async def inner(is_open: asyncio.Future[None], loop: asyncio.AbstractEventLoop, end: threading.Event) -> None:
        async with open_run(name="other thread"):
            loop.call_soon_threadsafe(is_open.set_result, None)
            await asyncio.to_thread(end.wait)

    loop, end = asyncio.get_running_loop(), threading.Event()
    is_open: asyncio.Future[None] = loop.create_future()
    async with open_run(name="this one"):
        thread = asyncio.create_task(asyncio.to_thread(lambda: asyncio.run(inner(is_open, loop, end))))
        await is_open
        assert await answers() == {"this one": "this one", "other thread": "other thread"}
        assert len(sockets()) == 1
        end.set()
        await thread
        assert await answers() == {"this one": "this one"}


async def test_client_of_a_run_stays_while_another_run_ends() -> None:
    async with open_run(name="stays"):
        connection = await asyncio.to_thread(connect, records()["stays"].socket_path, Kind.ASKER)
        with closing(connection):
            assert await asyncio.to_thread(connection.receive, 10.0) is not None
            async with open_run(name="ends"):
                pass
            connection.send(protocol.Ask())
            while not isinstance(await asyncio.to_thread(connection.receive, 10.0), protocol.RunInfo):
                pass


async def test_client_that_names_no_run_gets_the_only_one_or_is_refused() -> None:
    def connect_without_a_name(record: RunRecord) -> protocol.Message | None:
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(record.socket_path)
        with closing(Connection(plain, Kind.ASKER)) as connection:
            received = connection.receive(10.0)
        assert isinstance(received, protocol.Message)
        return received

    async with open_run(name="one"):
        welcome = await asyncio.to_thread(connect_without_a_name, records()["one"])
        assert isinstance(welcome, protocol.Welcome)
        async with open_run(name="two"):
            with pytest.raises(ConnectionRefusedByRunError, match="names none"):
                await asyncio.to_thread(connect_without_a_name, records()["two"])


async def test_runs_whose_folder_was_removed_are_found_again(folder: Path) -> None:
    async with open_run(name="a"), open_run(name="b"):
        before = sockets()
        shutil.rmtree(folder)
        async with open_run(name="c"):  # mends the folder at once
            assert await answers() == {"a": "a", "b": "b", "c": "c"}
            assert len(sockets()) == 1
            assert sockets() != before


async def test_socket_of_a_run_that_was_removed_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncwatch.control.host.REFRESH_EVERY", 0.01)
    async with open_run(name="a"), open_run(name="b"):
        removed = Path(records()["b"].socket_path)
        await asyncio.to_thread(removed.unlink)
        while not await asyncio.to_thread(removed.exists):
            pass
        assert await answers() == {"a": "a", "b": "b"}


async def test_caller_that_is_cancelled_before_it_knows_that_its_run_is_served_leaves_none() -> None:
    async def open_one() -> None:
        async with open_run(name="a"):
            pytest.fail("the context was entered")

    task = asyncio.create_task(open_one())
    await asyncio.sleep(0)
    while not alive():
        time.sleep(0.001)  # noqa: ASYNC251  the loop must not hear of it
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert alive() == []
    async with open_run(name="b"):
        assert await answers() == {"b": "b"}


def test_process_that_was_killed_leaves_no_run(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", SEVERAL], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        found = alive()
        assert sorted(record.name for record in found) == ["a", "b"]
        assert all(ask_info(record.socket_path, 10.0) is not None for record in found)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert alive() == []
    assert list(folder.iterdir()) == []


def test_forked_child_has_runs_and_a_socket_of_its_own() -> None:
    with subprocess.Popen([sys.executable, "-c", FORKED], stdout=subprocess.PIPE, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"open\n"
        found = records()
        assert found["parent"].pid != found["child"].pid
        assert len(sockets()) == 2
        assert {name: name_of(record) for name, record in found.items()} == {"parent": "parent", "child": "child"}
        process.communicate(b"end", timeout=60)
        assert process.returncode == 0
