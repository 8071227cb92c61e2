"""The processes of a run in a terminal: what becomes of the others when one of them ends, and what is left."""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncwatch.control.discovery import EndedRecord, RunRecord, alive, ended
from tests.terminal.screen import PATIENCE, Terminal
from tests.terminal.test_dashboard import COMMAND, assert_restored, row, shows

WORK = """
import asyncio, ctypes, os, signal, time

async def job(item):
    if item == "child":
        process = await asyncio.create_subprocess_exec("sleep", "3600")
        try:
            await process.wait()
        finally:
            if process.returncode is None:
                process.kill()
    if item == "crashes":
        while not os.path.exists("crash"):
            await asyncio.sleep(0.01)
        ctypes.string_at(0)
    if item == "forks" and os.fork() == 0:
        time.sleep(3600)
    try:
        while not os.path.exists("done"):
            await asyncio.sleep(0.01)
    finally:
        while item == "lingers" and not os.path.exists("done"):
            await asyncio.sleep(0.01)
        open(f"left-{item}", "w").close()
    return "ready"
"""
ROUNDS = int(os.environ.get("ASYNCWATCH_KILL_ROUNDS", "20"))
SOON = 10.0


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of targets, and a folder of sockets of its own."""
    (tmp_path / "work.py").write_text(WORK)
    (tmp_path / "items.txt").write_text("first\nsecond\nchild\n")
    # The paths of sockets must be short, and no run of anyone else may be found.
    with tempfile.TemporaryDirectory(prefix="aw-", dir="/tmp") as sockets:
        monkeypatch.setenv("XDG_RUNTIME_DIR", sockets)
        monkeypatch.setenv("TMPDIR", sockets)
        yield tmp_path
        for run in alive():
            end_session(run)


def start(folder: Path, *arguments: str) -> Terminal:
    """Start a run in a terminal."""
    return Terminal([COMMAND, "work:job", "--items", "items.txt", *arguments], cwd=folder)


def processes_of(run: RunRecord) -> set[int]:
    """Return the processes whose session is that of the engine: itself and the children of workers."""
    table = subprocess.run(["ps", "-A", "-o", "pid=,sess=,stat="], capture_output=True, text=True, check=True).stdout
    rows = (line.split() for line in table.splitlines())
    return {int(pid) for pid, session, state in rows if int(session) == run.pid and not state.startswith("Z")}


def children_of(pid: int) -> list[int]:
    """Return the child processes of a process."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in map(str.split, listed.splitlines()) if int(parent) == pid]


def dashboard_of(terminal: Terminal, run: RunRecord) -> int:
    """Return the dashboard's process."""
    (pid,) = [pid for pid in children_of(terminal.process.pid) if pid != run.pid]
    return pid


def has_ended(pid: int) -> bool:
    """Return whether a process has ended, whoever waits for it."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip()[:1] in {"", "Z"}


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for what other processes do."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end_session(run: RunRecord) -> None:
    """Kill what is left of a run."""
    for pid in processes_of(run):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def only_run() -> RunRecord:
    """Return the run that is alive."""
    wait_until(alive)
    (run,) = alive()
    return run


def last_words(terminal: Terminal) -> str:
    """Return what was written after the dashboard had left the screen, without the colours of a traceback."""
    return re.sub(r"\x1b\[[0-9;]*m", "", bytes(terminal.raw).rpartition(b"\x1b[?1049l")[2].decode())


def shows_progress(screen: str) -> bool:
    """Return whether the progress is shown without a dashboard, and no worker has settled."""
    return re.search(r"^\d\d:\d\d\S* +0/\d", screen, re.MULTILINE) is not None


def assert_nothing_left(run: RunRecord) -> None:
    """Check that there are no processes, sockets and discovery files, except the record of the end."""
    wait_until(lambda: not processes_of(run))
    assert alive() == []
    names = {path.suffix for path in Path(run.place).iterdir()}
    assert names <= {".ended"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_to_the_command_stops_the_run(folder: Path, number: signal.Signals) -> None:
    with start(folder) as terminal:
        terminal.wait_for(row("first", "running"))
        run = only_run()
        terminal.kill(number)
        assert terminal.wait_for_exit() == 130
        assert_restored(terminal)
        assert "3 cancelled" in last_words(terminal)
    assert (folder / "left-first").exists()
    assert_nothing_left(run)


SLOW = """
import os, pathlib, time

pathlib.Path("new").write_text(str(os.getpid()))
os.rename("new", "begun")
while True:
    time.sleep(0.01)
"""


@pytest.mark.parametrize("how", ["ctrl+c", "term", "kill"])
def test_end_of_the_command_while_the_plan_is_made_ends_the_engine(folder: Path, how: str) -> None:
    (folder / "slow.py").write_text(SLOW)
    with Terminal([COMMAND, "slow:job"], cwd=folder) as terminal:
        wait_until((folder / "begun").exists)
        match how:
            case "ctrl+c":
                terminal.press("\x03")
            case "term":
                terminal.kill(signal.SIGTERM)
            case "kill":
                terminal.kill(signal.SIGKILL)
        assert terminal.wait_for_exit() == (-signal.SIGKILL if how == "kill" else 130)
        assert "asyncwatch:" not in terminal.text
        assert b"\x1b[?1049" not in terminal.raw
    engine = int((folder / "begun").read_text())
    wait_until(lambda: has_ended(engine))
    assert alive() == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_to_a_viewer_ends_it_alone(folder: Path, number: signal.Signals) -> None:
    subprocess.run([COMMAND, "-d", "work:job", "--items", "items.txt"], cwd=folder, capture_output=True, check=True)
    run = only_run()
    with Terminal([COMMAND, "attach"], cwd=folder) as viewer:
        viewer.wait_for(row("first", "running"))
        viewer.kill(number)
        assert viewer.wait_for_exit() == 0
        assert "asyncwatch:" not in last_words(viewer)
    assert [record.id for record in alive()] == [run.id]


def test_viewer_sees_the_end_of_an_engine_whose_worker_forked(folder: Path) -> None:
    (folder / "items.txt").write_text("forks\n")
    subprocess.run([COMMAND, "-d", "work:job", "--items", "items.txt"], cwd=folder, capture_output=True, check=True)
    run = only_run()
    with Terminal([COMMAND, "attach"], cwd=folder) as viewer:
        viewer.wait_for(row("forks", "running"))
        before = processes_of(run)
        subprocess.run([COMMAND, "ctl", "restart", "forks"], cwd=folder, capture_output=True, check=True)
        wait_until(lambda: processes_of(run) > before)
        os.kill(run.pid, signal.SIGKILL)
        assert viewer.wait_for_exit() == 1
    end_session(run)
    assert_nothing_left(run)


def test_viewer_says_that_the_engine_has_died(folder: Path) -> None:
    subprocess.run([COMMAND, "-d", "work:job", "--items", "items.txt"], cwd=folder, capture_output=True, check=True)
    run = only_run()
    with Terminal([COMMAND, "attach"], cwd=folder) as viewer:
        viewer.wait_for(row("first", "running"))
        end_session(run)
        assert viewer.wait_for_exit() == 1
        assert_restored(viewer)
        words = re.sub(r"\s+", " ", last_words(viewer))
        assert f"the process of the run {run.id} has ended, and its exit status is unknown" in words
    assert_nothing_left(run)


def test_command_that_is_killed_takes_its_run_and_dashboard_with_it(folder: Path) -> None:
    with start(folder) as terminal:
        terminal.wait_for(row("first", "running"))
        run = only_run()
        dashboard = dashboard_of(terminal, run)
        terminal.kill(signal.SIGKILL)
        terminal.wait_for_exit()
        wait_until(lambda: has_ended(dashboard))
        assert terminal.current_attributes() == terminal.attributes
    assert_nothing_left(run)
    assert (folder / "left-first").exists()
    (record,) = ended()
    assert record.status == 130


def test_wrong_arguments_leave_no_dashboard(folder: Path) -> None:
    with start(folder, "--nonsense") as terminal:
        assert terminal.wait_for_exit() == 2
        listed = subprocess.run(["ps", "-A", "-o", "sess="], capture_output=True, text=True, check=True).stdout
        assert str(terminal.process.pid) not in listed.split()
        assert "--nonsense" in terminal.text


def test_run_goes_on_without_a_dashboard_that_was_killed(folder: Path) -> None:
    with start(folder) as terminal:
        terminal.wait_for(row("first", "running"))
        run = only_run()
        os.kill(dashboard_of(terminal, run), signal.SIGKILL)
        terminal.wait_for(shows("The run goes on"))
        terminal.wait_for(shows("3 running"))
        assert f"asyncwatch attach {run.id}" in re.sub(r"\s+", " ", last_words(terminal))
        (folder / "done").touch()
        subprocess.run(["pkill", "-s", str(run.pid), "sleep"], check=True)
        assert terminal.wait_for_exit() == 0
        assert terminal.current_attributes() == terminal.attributes
        assert "3 succeeded" in last_words(terminal)
    assert_nothing_left(run)


def test_dashboard_that_cannot_start_leaves_the_run_alone(folder: Path) -> None:
    (folder / "broken").mkdir()
    (folder / "broken" / "textual.py").write_text("raise RuntimeError('no screens today')")
    (folder / "done").touch()
    (folder / "items.txt").write_text("first\n")
    command = [COMMAND, "work:job", "--items", "items.txt"]
    with Terminal(command, cwd=folder, env={"PYTHONPATH": str(folder / "broken")}) as terminal:
        assert terminal.wait_for_exit() == 0
        assert b"\x1b[?1049h" not in terminal.raw
        assert "RuntimeError: no screens today" in terminal.text
        assert "1 succeeded" in terminal.text
        trace = re.search(r"its traceback is in (\S+\s?\S*\.txt)", terminal.text)
    assert trace is not None
    path = Path(trace[1].replace("\n", ""))
    assert "Traceback" in path.read_text()
    path.unlink()


def test_refused_plan_waits_for_no_dashboard_and_leaves_the_screen_alone(folder: Path) -> None:
    (folder / "slow").mkdir()
    (folder / "slow" / "textual.py").write_text("import time\ntime.sleep(3600)")
    with Terminal([COMMAND, "work:none"], cwd=folder, env={"PYTHONPATH": str(folder / "slow")}) as terminal:
        assert terminal.wait_for_exit() == 2
        assert "has no 'none'" in terminal.text
        assert b"\x1b[" not in terminal.raw


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT, signal.SIGABRT])
def test_engine_that_dies_is_reported_with_its_workers(folder: Path, number: signal.Signals) -> None:
    (folder / "items.txt").write_text("first\nsecond\n")
    with start(folder) as terminal:
        terminal.wait_for(row("second", "running"))
        run = only_run()
        began = time.monotonic()
        os.kill(run.pid, number)
        assert terminal.wait_for_exit() == 128 + number
        assert time.monotonic() - began < SOON
        assert_restored(terminal)
        words = last_words(terminal)
        assert f"the process of the run was ended by {number.name}" in words
        assert "2 workers running at the end: first, second" in words
    assert_nothing_left(run)
    (record,) = ended()
    assert record.status == 128 + number


def test_engine_that_dies_is_reported_although_a_forked_child_holds_its_connections(folder: Path) -> None:
    (folder / "items.txt").write_text("first\nforks\n")
    with start(folder) as terminal:
        terminal.wait_for(row("forks", "running"))
        run = only_run()
        os.kill(run.pid, signal.SIGKILL)
        assert terminal.wait_for_exit() == 128 + signal.SIGKILL
        assert_restored(terminal)
        assert "2 workers running at the end: first, forks" in last_words(terminal)
    assert_nothing_left(run)


def test_signal_to_all_processes_of_a_terminal_leaves_a_run_that_stops_its_grace_period(folder: Path) -> None:
    (folder / "items.txt").write_text("lingers\n")
    with start(folder) as terminal:
        terminal.wait_for(row("lingers", "running"))
        run = only_run()
        terminal.press("\x03\x03")
        terminal.wait_for(row("lingers", "cancelling"))
        os.killpg(terminal.process.pid, signal.SIGTERM)
        terminal.wait_for(shows_progress)
        (folder / "done").touch()
        assert terminal.wait_for_exit() == 130
    assert (folder / "left-lingers").exists()
    assert_nothing_left(run)


def test_third_ctrl_c_without_a_dashboard_ends_an_engine_that_does_not_respond(folder: Path) -> None:
    with start(folder) as terminal:
        terminal.wait_for(row("first", "running"))
        run = only_run()
        os.kill(dashboard_of(terminal, run), signal.SIGKILL)
        terminal.wait_for(shows_progress)
        os.kill(run.pid, signal.SIGSTOP)
        terminal.kill(signal.SIGINT)
        terminal.wait_for(shows("Stopping. Workers"))
        terminal.kill(signal.SIGINT)
        terminal.wait_for(shows("Stopping now."))
        terminal.kill(signal.SIGINT)
        assert terminal.wait_for_exit() == 130
        assert "was ended by" not in terminal.text.partition("Stopping now.")[2]
    assert_nothing_left(run)


def test_crash_of_the_interpreter_leaves_the_terminal_as_it_was(folder: Path) -> None:
    (folder / "items.txt").write_text("crashes\n")
    with start(folder) as terminal:
        terminal.wait_for(row("crashes", "running"))
        run = only_run()
        (folder / "crash").touch()
        assert terminal.wait_for_exit() == 128 + signal.SIGSEGV
        assert_restored(terminal)
    assert_nothing_left(run)


def test_detached_run_outlives_its_command_and_can_be_attached(folder: Path) -> None:
    with start(folder) as terminal:
        terminal.wait_for(row("first", "running"))
        run = only_run()
        terminal.press("D")
        assert terminal.wait_for_exit() == 0
        assert_restored(terminal)
        assert f"asyncwatch attach {run.id}" in last_words(terminal)
    with Terminal([COMMAND, "attach", run.id[:4]], cwd=folder) as viewer:
        viewer.wait_for(row("second", "running"))
        viewer.press("q")
        assert viewer.wait_for_exit() == 0
        assert_restored(viewer)
        assert f"asyncwatch attach {run.id}" in last_words(viewer)
    assert [record.id for record in alive()] == [run.id]
    with Terminal([COMMAND, "attach"], cwd=folder) as viewer:
        viewer.wait_for(row("second", "running"))
        (folder / "done").touch()
        viewer.wait_for(row("second", "succeeded"))
        viewer.press("c")
        subprocess.run(["pkill", "-s", str(run.pid), "sleep"], check=True)
        viewer.wait_for(shows("finished"))
        viewer.press("q")
        assert viewer.wait_for_exit() == 0
    assert_nothing_left(run)


def test_start_detached_returns_when_the_run_has_begun_or_is_refused(folder: Path) -> None:
    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([COMMAND, *arguments], cwd=folder, capture_output=True, text=True, check=False)

    refused = call("-d", "work:none")
    assert (refused.returncode, alive()) == (2, [])
    assert "has no 'none'" in refused.stderr
    done = call("-d", "work:job", "--items", "items.txt")
    run = only_run()
    assert done.returncode == 0
    assert f"asyncwatch attach {run.id}" in done.stderr
    os.kill(run.pid, signal.SIGTERM)
    assert_nothing_left(run)
    shown = call("attach", run.id)
    assert (shown.returncode, "3 cancelled" in shown.stdout) == (130, True)


def test_engine_that_cannot_start_says_why(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(
        "import tempfile\n\ndef fail(**_options):\n    raise OSError('no room')\n\ntempfile.TemporaryFile = fail\n"
    )
    done = subprocess.run(
        [COMMAND, "-d", "work:job"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    found = re.fullmatch(r"asyncwatch: the run cannot start: OSError: no room; its traceback is in (.*)\n", done.stderr)
    assert found is not None, done.stderr
    assert "no room" in Path(found[1]).read_text()


def test_run_is_found_again_after_its_folder_was_removed(folder: Path) -> None:
    """As a log-out removes `$XDG_RUNTIME_DIR`."""
    subprocess.run([COMMAND, "-d", "work:job", "--items", "items.txt"], cwd=folder, capture_output=True, check=True)
    run = only_run()
    subprocess.run(["rm", "-rf", run.place], check=True)
    assert alive() == []
    found = only_run()
    assert found.id == run.id
    os.kill(run.pid, signal.SIGTERM)
    assert_nothing_left(found)


@pytest.mark.parametrize("has_dashboard", [True, False])
def test_lost_terminal_detaches_the_run_if_the_config_says_so(folder: Path, has_dashboard: bool) -> None:
    config = 'on_hangup = "detach"\n[[group]]\nname = "g"\ntarget = "work:job"\nitems = "items.txt"\n'
    (folder / "asyncwatch.toml").write_text(config)
    with Terminal([COMMAND], cwd=folder) as terminal:
        terminal.wait_for(row("first", "running"))
        run = only_run()
        if not has_dashboard:
            os.kill(dashboard_of(terminal, run), signal.SIGKILL)
            terminal.wait_for(shows_progress)
        terminal.hang_up()
        assert terminal.wait_for_exit() == 0
    assert [record.id for record in alive()] == [run.id]
    os.kill(run.pid, signal.SIGTERM)
    assert_nothing_left(run)


def test_suspended_dashboard_lets_the_work_go_on(folder: Path) -> None:
    with start(folder) as terminal:
        terminal.wait_for(row("first", "running"))
        run = only_run()
        pids = (terminal.process.pid, dashboard_of(terminal, run))
        terminal.press("\x1a")
        wait_until(lambda: all("T" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2] for pid in pids))
        (folder / "done").touch()
        wait_until((folder / "left-second").exists)
        os.killpg(terminal.process.pid, signal.SIGCONT)
        terminal.wait_for(row("second", "succeeded"))
        terminal.press("\x03\x03")
        assert terminal.wait_for_exit() == 130
        assert_restored(terminal)
    assert_nothing_left(run)


PARTS = ("engine", "dashboard", "command", "viewer", "terminal", "child")


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_whatever_is_killed_leaves_nothing(folder: Path, seed: int) -> None:
    """One to three parts are killed at random moments, in any order."""
    choice = random.Random(seed)
    parts = choice.sample(PARTS, choice.randint(1, 3))
    with start(folder) as terminal:
        run = only_run()
        if choice.random() < 0.5:
            terminal.wait_for(row("first", "running"))
        with Terminal([COMMAND, "attach", run.id], cwd=folder) as viewer:
            if choice.random() < 0.7:
                viewer.wait_for(row("first", "running"))
            for part in parts:
                kill_part(part, terminal, viewer, run, choice)
                time.sleep(choice.choice((0.0, 0.02, 0.2)))
            if "command" not in parts and terminal.process.poll() is None:
                terminal.kill(signal.SIGTERM)
            assert terminal.wait_for_exit() is not None
            assert viewer.wait_for_exit() is not None
            if "terminal" not in parts:
                wait_until(lambda: terminal.current_attributes() == terminal.attributes)
    if {"engine", "command"} <= set(parts):
        end_session(run)  # there may be no process left that could end the children of workers
    assert_nothing_left(run)


def kill_part(part: str, terminal: Terminal, viewer: Terminal, run: RunRecord, choice: random.Random) -> None:
    """Kill a part of the run, if it is there."""
    how = choice.choice((signal.SIGKILL, signal.SIGTERM, signal.SIGQUIT))
    pids: list[int] = []
    match part:
        case "engine":
            pids = [run.pid]
        case "dashboard":
            pids = [pid for pid in children_of(terminal.process.pid) if pid != run.pid]
        case "command":
            pids = [terminal.process.pid]
        case "viewer":
            pids = [choice.choice([viewer.process.pid, *children_of(viewer.process.pid)])]
        case "terminal":
            terminal.hang_up()
        case "child":
            pids = children_of(run.pid)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)


def test_record_of_the_end_says_how(folder: Path) -> None:
    with start(folder) as terminal:
        terminal.wait_for(row("first", "running"))
        run = only_run()
        terminal.kill(signal.SIGTERM)
        terminal.wait_for_exit()
    (record,) = ended()
    assert isinstance(record, EndedRecord)
    assert (record.id, record.status, record.summary["counts"]) == (run.id, 130, {"cancelled": 3})
