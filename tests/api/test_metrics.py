"""Metrics of runs and trees in one's own program, which its control thread serves."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import urllib.error
import urllib.request

import pytest

from asyncwatch import Supervisor, WorkerSpec, open_run, watch
from asyncwatch.control.discovery import alive

PATIENCE = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        text: str = answer.read().decode()
        return text


async def shows(url: str, line: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while line not in await asyncio.to_thread(get, url):  # noqa: ASYNC110  another thread serves it
            await asyncio.sleep(0.02)


def is_served() -> bool:
    return any(thread.name == "asyncwatch control" for thread in threading.enumerate())


async def until_not_served() -> None:
    async with asyncio.timeout(PATIENCE):
        while is_served():  # noqa: ASYNC110  as above
            await asyncio.sleep(0.01)


async def double(number: int) -> int:
    return 2 * number


async def test_open_run_is_shown_to_prometheus_until_its_end_and_to_no_other_process() -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    async with open_run(metrics=f"127.0.0.1:{port}") as run:
        assert await run.start_soon(double, 4) == 8
        await shows(url, 'asyncwatch_workers{state="succeeded"} 1.0\n')
        assert [run for run in alive() if run.pid == os.getpid()] == []
    with pytest.raises(urllib.error.URLError):
        get(url)
    await until_not_served()


async def test_tree_that_is_watched_is_shown_as_services() -> None:
    port = free_port()
    tree = Supervisor([WorkerSpec("a", asyncio.Event().wait, restart="permanent")], name="tree")
    async with watch(tree, screen=False, metrics=str(port)), tree:
        await shows(f"http://127.0.0.1:{port}/metrics", "asyncwatch_services_up 1.0\n")
        assert get(f"http://127.0.0.1:{port}/readyz") == "ok\n"
        assert [run.name for run in alive() if run.pid == os.getpid()] == ["tree"]
    await until_not_served()


async def test_run_whose_port_is_in_use_does_not_start() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(RuntimeError, match=rf"^metrics cannot be served at {port}: "):
            async with open_run(metrics=str(port)):
                pytest.fail("it has started")
    await until_not_served()


async def test_run_without_metrics_has_no_thread() -> None:
    async with open_run() as run:
        await run.start_soon(double, 4)
        assert not is_served()


def test_what_is_no_address_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        open_run(metrics="nowhere")
