"""`--metrics` in the whole command: headless, detached, with the dashboard, for services; and what is refused."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import asyncwatch
from asyncwatch.control.discovery import alive
from tests.metrics.reading import families_of
from tests.terminal.screen import Terminal

ROOT = Path(asyncwatch.__file__).parents[1]
PATIENCE = 20.0
COMMAND = str(Path(sys.executable).with_name("asyncwatch"))

JOBS = """
import asyncio, os, time

async def job(item):
    if item == "bad":
        raise ValueError("a secret of bad")
    if item.startswith("flaky") and asyncwatch.current_worker().attempt < 3:
        raise TimeoutError
    while item == "wait" and not os.path.exists("done"):
        await asyncio.sleep(0.01)
    return item

async def opens():
    while not os.path.exists("done"):
        files = [open(os.devnull) for _ in range(20)]
        await asyncio.sleep(0.001)
        for file in files:
            file.close()

async def steady():
    while not os.path.exists("start"):
        await asyncio.sleep(0.01)
    await asyncwatch.ready()
    await asyncio.Event().wait()

async def flappy():
    while not os.path.exists("flap"):
        await asyncio.sleep(0.01)
    raise ConnectionResetError

import asyncwatch
"""
SERVICES = """
metrics = "127.0.0.1:0"
[[group]]
name = "steady"
target = "jobs:steady"
restart = "permanent"
announces_ready = true
[[group]]
name = "flappy"
target = "jobs:flappy"
restart = "permanent"
max_restarts = 1000
restart_backoff.base = "20ms"
"""
ITEMS = ("one", "two", "bad", "flaky 1", "flaky 2", "wait")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "items.txt").write_text("\n".join(ITEMS))
    (tmp_path / "services.toml").write_text(SERVICES)
    (tmp_path / "fast.toml").write_text('retry = { base = "1ms", cap = "1ms" }\n')
    with tempfile.TemporaryDirectory(prefix="aw-", dir="/tmp") as sockets:  # paths of sockets must be short
        monkeypatch.setenv("XDG_RUNTIME_DIR", sockets)
        yield tmp_path
        for run in alive():
            os.kill(run.pid, signal.SIGKILL)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def get(url: str) -> tuple[int, str]:
    """Return status and body."""
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def samples(url: str) -> dict[tuple[str, ...], float]:
    """Return the samples, by the name without the prefix and the values of the labels."""
    found = [sample for family in families_of(get(url)[1]).values() for sample in family.samples]
    return {(each.name.removeprefix("asyncwatch_"), *each.labels.values()): each.value for each in found}


def command_of(code: str | None) -> list[str]:
    return ["-m", "asyncwatch"] if code is None else ["-c", code]


class Headless:
    """A headless run in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, code: str | None = None) -> None:
        self.stdout = (folder / "stdout").open("w+")
        self.stderr = (folder / "stderr").open("w+")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, *command_of(code), "--headless", *arguments],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=self.stdout,
            stderr=self.stderr,
        )

    def url(self, page: str = "metrics") -> str:
        """Return the address of a page, which the command says."""
        found: list[str] = []

        def is_said() -> bool:
            assert self.process.poll() is None, self.text(self.stderr)
            found[:] = re.findall(
                r"^asyncwatch: metrics are at (http://\S+:\d+/)metrics$", self.text(self.stderr), re.MULTILINE
            )
            return bool(found)

        until(is_said)
        return found[0] + page

    @staticmethod
    def text(file: object) -> str:
        return Path(file.name).read_text()  # type: ignore[attr-defined]

    def end(self) -> int:
        return self.process.wait(PATIENCE)


@contextmanager
def headless(folder: Path, *arguments: str, code: str | None = None) -> Iterator[Headless]:
    run = Headless(folder, *arguments, code=code)
    try:
        yield run
    finally:
        run.process.kill()
        run.process.wait()
        run.stdout.close()
        run.stderr.close()


def call(folder: Path, *arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command to its end, or `code` that does."""
    return subprocess.run(
        [sys.executable, *command_of(code), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def test_metrics_of_a_batch_agree_with_its_events(folder: Path) -> None:
    batch = ("--config", "fast.toml", "jobs:job", "--items", "items.txt", "--json", "--metrics", "0", "--journal")
    with headless(folder, *batch) as run:
        url = run.url()
        until(lambda: samples(url)["workers", "succeeded"] == 4)
        until(lambda: samples(url)["journal_lag_events",] == 0)
        found = samples(url)
        assert get(run.url("readyz")) == get(run.url("healthz")) == (200, "ok\n")
        (folder / "done").touch()
        assert run.end() == 1
        with pytest.raises(OSError, match="refused"):
            get(url)
        events = [json.loads(line) for line in run.text(run.stdout).splitlines()]
    failures = [event["error_type"] for event in events if event["event"] == "AttemptFailed"]
    assert sorted(failures) == ["TimeoutError"] * 4 + ["ValueError"]
    assert found["workers", "running"] == found["workers", "failed"] == 1
    started = sum(event["event"] == "AttemptStarted" for event in events)
    assert found["attempts_total",] == started == 10
    durations = {key[1:]: value for key, value in found.items() if key[0] == "attempt_duration_seconds_count"}
    assert {frozenset(key): value for key, value in durations.items()} == {
        frozenset({"jobs:job", ""}): 4,
        frozenset({"jobs:job", "TimeoutError"}): 4,
        frozenset({"jobs:job", "ValueError"}): 1,
    }
    assert found["retries_total", "jobs:job"] == sum(event["event"] == "RetryScheduled" for event in events) == 4


def test_services_are_ready_when_all_have_started_and_not_while_one_flaps(folder: Path) -> None:
    with headless(folder, "--config", "services.toml") as run:
        ready, url = run.url("readyz"), run.url()
        until(lambda: get(ready) == (503, "2 services have not started yet\n"))
        assert get(run.url("healthz")) == (200, "ok\n")
        (folder / "start").touch()
        until(lambda: get(ready) == (200, "ok\n"))
        until(lambda: samples(url)["services_up",] == 2)
        (folder / "flap").touch()
        until(lambda: get(ready) == (503, "1 service flaps\n"))
        until(lambda: samples(url)["services_flapping", "root/flappy"] == 1)
        found = samples(url)
        assert found["services_wanted",] == 2
        assert found["restarts_total", "root/flappy"] >= 3
        host, port = url.split("/")[2].split(":")
        with socket.create_connection((host, int(port))) as idle:
            run.process.send_signal(signal.SIGINT)
            assert run.end() == 130
            assert idle.recv(1) == b""


def test_idle_connections_leave_the_workers_their_open_files(folder: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (110, 110)); "
    limited += "from asyncwatch.__main__ import run; run()"
    with headless(folder, "jobs:opens", "--metrics", "0", code=limited) as run:
        url = run.url()
        host, port = url.split("/")[2].split(":")
        idle = [socket.create_connection((host, int(port))) for _ in range(500)]
        assert samples(url)["workers", "running"] == 1
        for connection in idle:
            connection.close()
        (folder / "done").touch()
        assert run.end() == 0
        assert "ERROR" not in run.text(run.stderr)


@pytest.mark.parametrize("arguments", [["--headless"], ["-d"]])
def test_port_in_use_is_told_before_the_run_starts(folder: Path, arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = call(folder, *arguments, "jobs:job", "--items", "items.txt", "--metrics", address)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"asyncwatch: metrics cannot be served at {address}: {os.strerror(errno.EADDRINUSE)}"
    )
    assert "Traceback" not in done.stderr
    assert alive() == []


def test_missing_library_is_told_with_the_command_that_installs_it(folder: Path) -> None:
    code = "import sys\nsys.modules['prometheus_client'] = None\nfrom asyncwatch.__main__ import run\nrun()"
    done = call(folder, "--headless", "jobs:steady", "--metrics", "0", code=code)
    assert done.returncode == 2
    assert done.stderr == "asyncwatch: metrics need prometheus-client: pip install 'asyncwatch[metrics]'\n"


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:", "127.0.0.1:65536", "::1:9464", "[::1", "a b:1", "-1", ""])
def test_what_is_no_address_is_refused(folder: Path, address: str) -> None:
    done = call(folder, "--headless", "jobs:steady", f"--metrics={address}")
    assert done.returncode == 2
    assert "must be HOST:PORT" in done.stderr


def test_address_of_the_config_is_checked_and_shown(folder: Path) -> None:
    text = SERVICES.replace('"127.0.0.1:0"', "9464")
    (folder / "services.toml").write_text(text)
    done = call(folder, "check", "services.toml")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^metrics +9464$", done.stdout, re.MULTILINE)
    (folder / "services.toml").write_text(text.replace("9464", '"x:y"'))
    done = call(folder, "check", "services.toml")
    assert done.returncode == 2
    assert "services.toml:2: metrics: must be HOST:PORT" in done.stderr


LOADED = """
import atexit, sys

def show():
    names = sorted(name for name in sys.modules if name.startswith(("prometheus_client", "asyncwatch.metrics")))
    print("loaded", names, file=sys.stderr)

atexit.register(show)
from asyncwatch.__main__ import run
run()
"""


def test_nothing_is_loaded_unless_asked_for(folder: Path) -> None:
    (folder / "done").touch()
    done = call(folder, "--headless", "jobs:job", "--items", "items.txt", code=LOADED)
    assert done.stderr.splitlines()[-1] == "loaded []"
    done = call(folder, "--headless", "jobs:job", "--items", "items.txt", "--metrics", "0", code=LOADED)
    assert "'prometheus_client'" in done.stderr.splitlines()[-1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def test_process_of_the_engine_serves_the_metrics_of_a_run_with_a_dashboard(folder: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/metrics"
    arguments = ["--config", "fast.toml", "jobs:job", "--items", "items.txt", "--metrics", str(port)]
    with Terminal([COMMAND, *arguments], cwd=folder) as terminal:
        terminal.wait_for(lambda screen: "5/6" in screen or "5 of 6" in screen)
        assert samples(url)["workers", "succeeded"] == 4
        (folder / "done").touch()
        until(lambda: samples(url)["workers", "succeeded"] == 5)
        terminal.press("l")
        terminal.wait_for(lambda screen: f"metrics are at {url}" in screen)
        terminal.press("\x1b")
        terminal.wait_for(lambda screen: f"metrics are at {url}" not in screen)
        terminal.press("q")
        terminal.wait_for_exit()
    with pytest.raises(OSError, match="refused"):
        get(url)


def test_detached_run_says_which_port_it_took(folder: Path) -> None:
    done = call(folder, "-d", "--config", "fast.toml", "jobs:job", "--items", "items.txt", "--metrics", "0")
    (found,) = re.findall(r"^asyncwatch: metrics are at (http://\S+)$", done.stderr, re.MULTILINE)
    until(lambda: samples(found)["workers", "succeeded"] == 4)
    (run,) = alive()
    os.kill(run.pid, signal.SIGTERM)
    until(lambda: not alive())
