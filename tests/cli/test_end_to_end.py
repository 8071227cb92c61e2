"""The whole command with the real engine, in processes of their own without a terminal."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import asyncwatch
from asyncwatch.policies.bad_luck import Luck
from asyncwatch.targets.names import DEPENDENCIES

ENVIRONMENT = {"PYTHONPATH": str(Path(asyncwatch.__file__).parents[1]), "PYTHONSAFEPATH": "1"}

JOBS = """
import asyncio, sqlite3, sys, threading

async def half(item):
    if item == "bad":
        raise ValueError("no half of bad http://u:secret@h/")
    print("working on", item)
    return int(item) / 2

async def row(item):
    return {"id": item["id"]}

async def odd():
    return 1 + 2j

async def leave():
    sys.exit(5)

async def hang(item):
    await asyncio.Event().wait()

async def chatter():
    try:
        while True:
            print("x" * 9_000)
            await asyncio.sleep(0)
    finally:
        open("stopped", "w").close()

async def replace(item):
    sys.stdout.close()
    sys.stdout = sys.stderr = None

connection = sqlite3.connect(":memory:")  # of the thread that imports this
loop = asyncio.get_event_loop()

async def query(item):
    return [connection.execute("select ?", item).fetchone()[0], asyncio.get_running_loop() is loop]

def plain(item):
    print("plain", item)
    return int(item)

def sleep(item):
    threading.Event().wait()

async def serve():
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.2)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a module of functions."""
    (tmp_path / "jobs.py").write_text(JOBS)
    return tmp_path


FAST = """
from asyncwatch.targets import demo_site
demo_site.SHORTEST_LATENCY, demo_site.LONGEST_LATENCY = 0.01, 0.08
from asyncwatch.__main__ import run
run()
"""
"""The command with a demo site that needs a fiftieth of its time."""


def run(folder: Path, *arguments: str, stdin: str = "", is_fast: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the command in `folder` and return the finished process."""
    command = ["-c", FAST] if is_fast else ["-m", "asyncwatch"]
    return subprocess.run(
        [sys.executable, "-W", "error", *command, *arguments],
        env=ENVIRONMENT | {"HOME": str(folder)},
        cwd=folder,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def events_of(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """Return the events on stdout, which has nothing else and misses none."""
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert (events[0]["event"], events[-1]["event"]) == ("RunStarted", "RunFinished")
    return events


def ends_of(events: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """Return how each worker ended, as far as the seed determines it."""
    return {
        event["worker"]: (event["event"], event.get("result"), event["attempts"], event.get("error_type"))
        for event in events
        if "elapsed" in event and "attempts" in event and "worker" in event
    }


def draws_of(events: list[dict[str, Any]]) -> set[tuple[str, int, float]]:
    """Return every draw of bad luck with its worker and attempt."""
    return {(e["worker"], e["attempt"], e["bad_luck"]) for e in events if e["event"] == "AttemptStarted"}


def test_demo_draws_by_its_seed_and_ends_all_workers(folder: Path) -> None:
    done = run(folder, "--headless", "--json", "--seed", "4127", is_fast=True)
    events = events_of(done)
    ends = ends_of(events)
    assert {key: events[0][key] for key in ("run", "workers", "runner", "seed", "timeout")} == {
        "run": "demo",
        "workers": 20,
        "runner": "as_completed",
        "seed": 4127,
        "timeout": 20.0,
    }
    assert set(ends) == {str(n) for n in range(20)}
    draw = Luck(4127).draw
    assert {draws for draws in draws_of(events) if draws[1] == 1} == {
        (str(n), 1, draw("luck", str(n), 1, 1)) for n in range(20)
    }
    succeeded = [end for end in ends.values() if end[0] == "WorkerSucceeded"]
    assert events[-1]["states"]["succeeded"] == len(succeeded)
    assert done.returncode == int(len(succeeded) < 20)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        # Python's own `-m` imports some modules before any code of asyncwatch runs.
        (["-m", "asyncwatch"], {"asyncio", "email", "logging", "queue", "signal", "socket", "sqlite3", *DEPENDENCIES}),
        (["-c", "from asyncwatch.__main__ import run; run()"], {*sys.stdlib_module_names, *DEPENDENCIES, "asyncwatch"}),
    ],
)
def test_files_with_the_names_of_other_modules_change_nothing(
    folder: Path, command: list[str], names: set[str]
) -> None:
    for name in names:
        (folder / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    (folder / "numbers.txt").write_text("2\n4\n")
    safe = {"PYTHONSAFEPATH": "1"} if "-c" in command else {}  # `-c` searches the current folder before anything else
    environment = {"PYTHONPATH": ENVIRONMENT["PYTHONPATH"], "HOME": str(folder), **safe}
    for arguments in (["jobs:half", "--items", "numbers.txt"], ["http://127.0.0.1:1/", "--max-attempts", "1"]):
        done = subprocess.run(
            [sys.executable, *command, "--headless", *arguments],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert "wrong module" not in done.stderr
        assert "Traceback" not in done.stderr
        assert done.returncode == int("http" in arguments[0])


def test_seed_repeats_a_run_with_another_runner_and_concurrency(folder: Path) -> None:
    items = [str(number) for number in range(20)]
    (folder / "asyncwatch.toml").write_text(
        f"bad_luck.threshold = 0.7\nretry.base = '1ms'\nseed = 4127\n[[group]]\ntarget = 'jobs:half'\nitems = {items}\n"
    )
    first, second = (
        events_of(run(folder, "--json", *options))
        for options in (["--runner", "gather"], ["--runner", "wait", "--concurrency", "7"])
    )
    assert ends_of(first) == ends_of(second)
    assert draws_of(first) == draws_of(second)
    assert {end[0] for end in ends_of(first).values()} >= {"WorkerSucceeded", "WorkerFailed"}


def test_demo_shows_trouble_and_its_seed_repeats_it(folder: Path) -> None:
    done = run(folder, "--json", is_fast=True)
    events = events_of(done)
    ends = ends_of(events)
    assert events[0]["run"] == "demo, eventful seed"
    assert {end[0] for end in ends.values()} & {"WorkerFailed", "WorkerExhausted"}
    assert any(end[0] == "WorkerSucceeded" and end[2] > 1 for end in ends.values())
    seed = str(events[0]["seed"])
    assert f"(as_completed, seed {seed})" in done.stderr
    assert re.search(r"WARNING \[\d+\] bad luck 0\.\d\d injects a fault\n", done.stderr)
    again = events_of(run(folder, "--json", "--seed", seed, is_fast=True))
    assert (again[0]["run"], ends_of(again), draws_of(again)) == ("demo", ends, draws_of(events))


def test_demo_without_bad_luck_succeeds(folder: Path) -> None:
    done = run(folder, "--bad-luck", "1", is_fast=True)
    assert done.returncode == 0
    assert "20 succeeded" in done.stdout


def test_function_is_called_for_each_item(folder: Path) -> None:
    (folder / "items.txt").write_text("1\n2\nbad\n2\n")
    done = run(folder, "jobs:half", "--items", "items.txt", "--json", "--output", "out.csv")
    events = events_of(done)
    assert done.returncode == 1
    assert ends_of(events) == {
        "1": ("WorkerSucceeded", 0.5, 1, None),
        "2": ("WorkerSucceeded", 1.0, 1, None),
        "bad": ("WorkerFailed", None, 1, "ValueError"),
        "2#2": ("WorkerSucceeded", 1.0, 1, None),
    }
    logs = {event["message"] for event in events if event["event"] == "LogRecorded"}
    assert {"working on 1", "working on 2"} <= logs
    assert "secret" not in done.stdout + done.stderr + (folder / "out.csv").read_text()
    with (folder / "out.csv").open(newline="") as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert rows["2#2"]["result"] == "1.0"
    assert rows["bad"]["error"] == "ValueError: no half of bad http://***@h/"


SPANS = """
import asyncio, contextlib

def made(enters=None, leaves=None):
    @contextlib.asynccontextmanager
    async def lifespan():
        if enters:
            raise enters
        yield asyncio.get_running_loop()
        if leaves:
            raise leaves
    return lifespan

good, closed, stuck = made(), made(TimeoutError("no server")), made(None, OSError("cannot leave"))

async def same(item, loop):
    return loop is asyncio.get_running_loop()
"""


@pytest.mark.parametrize(
    ("name", "status", "line"),
    [
        ("good", 0, "1 succeeded"),
        ("closed", 1, "asyncwatch: the lifespan spans:closed cannot be entered: TimeoutError: no server"),
        ("stuck", 1, "asyncwatch: the lifespan spans:stuck failed on its exit: OSError: cannot leave"),
    ],
)
def test_lifespan_is_open_around_all_attempts(folder: Path, name: str, status: int, line: str) -> None:
    (folder / "spans.py").write_text(SPANS)
    done = run(folder, "spans:same", "--items", "-", "--lifespan", f"spans:{name}", "--headless", stdin="a\n")
    assert done.returncode == status
    assert line in done.stdout + done.stderr
    assert ("1 succeeded" in done.stdout) == (name != "closed")
    if name == "closed":  # nothing was attempted, so there is nothing to go on with
        assert "stopped before its first attempt: " in done.stdout
        assert "To go on" not in done.stderr
        assert "interrupted" not in done.stdout


def test_module_is_imported_in_the_thread_of_the_loop(folder: Path) -> None:
    """Else its connection of sqlite3 could not be used by the workers."""
    events = events_of(run(folder, "jobs:query", "--items", "-", "--json", stdin="4\n"))
    assert ends_of(events) == {"4": ("WorkerSucceeded", ["4", True], 1, None)}


def test_plain_function_runs_as_its_worker(folder: Path) -> None:
    done = run(folder, "jobs:plain", "--items", "-", "--headless", stdin="4\nbad\n")
    assert done.returncode == 1
    assert "INFO [4] plain 4" in done.stderr
    assert "ERROR [bad] failed: ValueError" in done.stderr
    assert "jobs:plain (as_completed" in done.stdout


def test_exit_does_not_wait_for_a_thread_that_goes_on(folder: Path) -> None:
    (folder / "short.toml").write_text(
        "grace = 0.05\n[[group]]\ntarget = 'jobs:sleep'\nitems = ['a']\nattempt_timeout = 0.05\n"
    )
    done = run(folder, "--config", "short.toml", "--headless")
    assert done.returncode == 1
    assert "1 abandoned: cancelled, still running" in done.stdout
    assert "jobs.py:" in done.stdout


def test_items_come_from_stdin_a_table_or_not_at_all(folder: Path) -> None:
    assert run(folder, "jobs:half", "--items", "-", stdin="4\n").returncode == 0
    (folder / "rows.csv").write_text("name,id\na,7\n")
    table = run(folder, "jobs:row", "--items", "rows.csv", "--json")
    assert ends_of(events_of(table))["a"][1] == {"id": "7"}
    alone = run(folder, "jobs:odd", "--json")
    assert ends_of(events_of(alone))["jobs:odd"][1] == "(1+2j)"


def test_worker_that_calls_sys_exit_fails_alone(folder: Path) -> None:
    done = run(folder, "jobs:leave", "--json")
    assert done.returncode == 1
    assert ends_of(events_of(done))["jobs:leave"][3] == "SystemExit"


def test_groups_of_a_config_run_together(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "n.txt").write_text("8\n")
    (folder / "sub" / "run.toml").write_text(
        """
        seed = 1
        grace = "1s"
        output = "out.jsonl"
        [[group]]
        name = "halves"
        target = "jobs:half"
        items = "n.txt"
        [[group]]
        name = "hangs"
        target = "jobs:hang"
        items = ["x"]
        timeout = "50ms"
        [[group]]
        target = "demo"
        count = 2
        """
    )
    done = run(folder, "--config", "sub/run.toml", "--json", is_fast=True)
    ends = ends_of(events_of(done))
    assert done.returncode == 1, done.stderr
    assert {name: end[0] for name, end in ends.items()} == {
        "8": "WorkerSucceeded",
        "x": "WorkerTimedOut",
        "group 3/0": "WorkerSucceeded",
        "group 3/1": "WorkerSucceeded",
    }
    lines = (folder / "sub" / "out.jsonl").read_text().splitlines()
    assert {json.loads(line)["name"] for line in lines} == set(ends)


def test_url_that_refuses_connections_is_exhausted(folder: Path, unused_tcp_port: int) -> None:
    url = f"http://u:secret@127.0.0.1:{unused_tcp_port}/"
    done = run(folder, url, "--max-attempts", "2", "--json", "--seed", "1")
    (end,) = ends_of(events_of(done)).items()
    assert end == (
        f"http://***@127.0.0.1:{unused_tcp_port}/",
        ("WorkerExhausted", None, 2, "ClientConnectorError"),
    )
    assert done.returncode == 1
    assert "secret" not in done.stdout + done.stderr


def test_demo_runs_without_stdout_stderr_and_current_directory(folder: Path) -> None:
    command = 'rmdir "$PWD"; exec "$0" -m asyncwatch --config "$1" >&- 2>&-'
    config = folder / "demo.toml"
    config.write_text("seed = 20\n[[group]]\ntarget = 'demo'\ncount = 1\n")  # its latency is 0.5 s
    (folder / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, str(config)],
        env=ENVIRONMENT | {"HOME": str(folder)},
        cwd=folder / "gone",
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_cancels_all_workers_with_status_130(folder: Path, number: signal.Signals) -> None:
    (folder / "items.txt").write_text("a\nb\n")
    with subprocess.Popen(
        [sys.executable, "-m", "asyncwatch", "jobs:hang", "--items", "items.txt", "--json"],
        env=ENVIRONMENT | {"HOME": str(folder)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or '"AttemptStarted"' not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1]
        process.send_signal(number)
        rest, stderr = process.communicate(timeout=30)
    events = [json.loads(line) for line in "".join([*lines, rest]).splitlines()]
    assert process.returncode == 130, stderr
    assert events[-1]["states"] == {"cancelled": 2}
    assert [event["worker"] for event in events if event["event"] == "WorkerCancelled"] == ["a", "b"]
    assert "Traceback" not in stderr


def test_sigterm_waits_for_services_to_stop_in_reverse_order(folder: Path) -> None:
    group = 'name = "s"\ntarget = "jobs:serve"\nrestart = "permanent"\ncount = 7\nshutdown = "inf"\n'
    (folder / "asyncwatch.toml").write_text(f'grace = "0.1s"\n[[group]]\n{group}')
    with subprocess.Popen(
        [sys.executable, "-m", "asyncwatch", "--json"],
        env=ENVIRONMENT | {"HOME": str(folder)},
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = ""
        while not ('"WorkerReady"' in line and '"s/6"' in line):
            line = process.stdout.readline()
            assert line
        process.send_signal(signal.SIGTERM)
        rest, stderr = process.communicate(timeout=30)
    events = [json.loads(line) for line in rest.splitlines()]
    assert process.returncode == 130, stderr
    assert events[-1]["states"] == {"cancelled": 7}
    assert [e["worker"] for e in events if e["event"] == "CancelRequested"] == [f"s/{n}" for n in reversed(range(7))]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["jobs:haf", "--items", "-"], "has no 'haf' (nearest: half)"),
        (["foo"], "neither a URL nor a module:function"),
        (["--output", "none/out.csv"], "cannot write output file 'none/out.csv': No such file or directory"),
        (["--output", "out.txt"], "must end in .jsonl, .ndjson or .csv"),
    ],
)
def test_bad_input_is_reported_before_anything_runs(folder: Path, arguments: list[str], message: str) -> None:
    done = run(folder, "--json", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_items_of_a_pipe_run_as_they_come(folder: Path) -> None:
    command = [sys.executable, "-m", "asyncwatch", "jobs:half", "--items", "-", "--json"]
    environment = ENVIRONMENT | {"HOME": str(folder)}
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        events: list[dict[str, Any]] = []
        for item in ("2", "4"):
            process.stdin.write(f"{item}\n")
            while not events or events[-1]["event"] != "WorkerSucceeded" or events[-1]["worker"] != item:
                events.append(json.loads(process.stdout.readline()))
        process.stdin.close()
        events += [json.loads(line) for line in process.stdout]
    assert (process.returncode, events[0]["workers"], events[0]["reads_items"]) == (0, 0, True)
    assert [event["workers"] for event in events if event["event"] == "ItemsRead"] == [2]


def test_source_without_items_is_said_with_status_0(folder: Path) -> None:
    (folder / "none.txt").write_text("# all done\n")
    for arguments in (["none.txt"], ["-"]):
        done = run(folder, "jobs:half", "--items", *arguments, "--json")
        assert done.returncode == 0
        assert "there is nothing to run" in done.stderr
        assert events_of(done)[-1]["event"] == "RunFinished"


def test_stderr_nobody_reads_holds_up_neither_sigterm_nor_the_output_file(folder: Path) -> None:
    command = [sys.executable, "-m", "asyncwatch", "jobs:chatter", "--headless", "--output", "out.jsonl"]
    environment = ENVIRONMENT | {"HOME": str(folder)}
    with subprocess.Popen(
        command, env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        assert process.stderr is not None
        os.read(process.stderr.fileno(), 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 130
    assert (folder / "stopped").exists()
    assert json.loads((folder / "out.jsonl").read_text())["state"] == "cancelled"


def test_streams_replaced_by_a_worker_leave_summary_and_status(folder: Path) -> None:
    (folder / "items.txt").write_text("größe 東\n")
    done = subprocess.run(
        [sys.executable, "-m", "asyncwatch", "jobs:replace", "--items", "items.txt"],
        env=ENVIRONMENT | {"HOME": str(folder), "PYTHONIOENCODING": "latin-1"},
        cwd=folder,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert b"1 succeeded" in done.stdout
    assert "größe \\u6771  succeeded".encode("latin-1") in done.stdout
    assert done.stderr.endswith(b"1 succeeded\n")


@pytest.mark.parametrize(
    ("limit", "status", "message"),
    [
        ("ulimit -Sn 30; ulimit -Hn 4000", 0, None),
        (
            "ulimit -n 40",
            0,
            "asyncwatch: the limit of open files is 40, and 3 workers at a time may need more: raise it",
        ),
        ("ulimit -n 12", 2, "asyncwatch: the limit of open files is 12, and a run needs at least 24: raise it"),
    ],
)
def test_limit_of_open_files_is_raised_or_reported(folder: Path, limit: str, status: int, message: str | None) -> None:
    (folder / "items.txt").write_text("1\n2\n3\n")
    (folder / "jobs.py").write_text("async def files(item):\n    return len([open('jobs.py') for _ in '12345678'])\n")
    done = subprocess.run(
        ["sh", "-c", f'{limit}; exec "$0" -m asyncwatch jobs:files --items items.txt --headless', sys.executable],
        env=ENVIRONMENT | {"HOME": str(folder)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert ("limit of open files" in done.stderr) is (message is not None)
    assert message is None or message in done.stderr


def test_quiet_run_says_only_what_went_wrong(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(
        "import logging\n"
        "async def run(number):\n"
        "    logging.warning('slow')\n"
        "    if number == '2':\n"
        "        raise ValueError('no such number')\n"
    )
    (tmp_path / "items.txt").write_text("1\n2\n")
    result = run(tmp_path, "jobs:run", "--items", "items.txt", "--quiet", "--no-journal")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert "ValueError: no such number" in line
