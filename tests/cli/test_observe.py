"""`asyncwatch observe`: a script that runs as under python, and whose tasks other processes see."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.terminal.test_processes import only_run, wait_until

COMMAND = [sys.executable, "-m", "asyncwatch"]
NOTE = "asyncwatch: To see the tasks of "
SERVER = """
import asyncio, os, sys

async def fetch(queue):
    await queue.get()

async def main():
    queue = asyncio.Queue()
    tasks = [asyncio.create_task(fetch(queue), name=f"fetch-{number}") for number in range(3)]
    done = asyncio.create_task(lives())
    await done
    print([task.cancelled() for task in tasks])

async def lives():
    while not os.path.exists("done"):
        await asyncio.sleep(0.01)

if "uvloop" in sys.argv:
    import uvloop
    uvloop.run(main())
elif __name__ == "__main__":
    asyncio.run(main())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for scripts, and a folder of sockets of its own."""
    with tempfile.TemporaryDirectory(prefix="aw-", dir="/tmp") as sockets:
        monkeypatch.setenv("XDG_RUNTIME_DIR", sockets)
        monkeypatch.setenv("TMPDIR", sockets)
        yield tmp_path


def run(folder: Path, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def observed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `asyncwatch observe`, and return it without our own line of stderr."""
    done = run(folder, [*COMMAND, "observe", *arguments])
    lines = done.stderr.splitlines(keepends=True)
    assert sum(line.startswith(NOTE) for line in lines) == 1, done.stderr
    done.stderr = "".join(line for line in lines if not line.startswith(NOTE))
    return done


SCRIPTS = {
    "what it sees": "import sys; print(__name__, sys.argv, __file__, sys.path[0], sorted(globals()))",
    "its loops": """
import asyncio
async def main(value):
    await asyncio.sleep(0)
    return value
print(asyncio.run(main(1)), asyncio.run(main(2)))
""",
    "sys.exit": "import sys; sys.exit(7)",
    "sys.exit with a text": "import sys; sys.exit('no good')",
    "an error": """
import asyncio
async def main():
    raise LookupError('no such thing')
asyncio.run(main())
""",
    "an error chain": "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('bad') from error",
    "a syntax error": "def f(:\n    pass",
    "an excepthook": "import sys\nsys.excepthook = lambda *error: print('hooked', error[1])\nraise ValueError('x')",
    "a group": "raise ExceptionGroup('two', [ValueError('a'), TypeError('b')])",
    "an end by Ctrl+C": "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)",
    "a signal": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "a thread that ends later": """
import threading, time
threading.Thread(target=lambda: (time.sleep(0.2), print("late"))).start()
""",
    "a child of multiprocessing": """
import multiprocessing
def work(number):
    return number * 2
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        print(pool.map(work, [1, 2]))
""",
    "a fork": """
import os, sys, warnings
warnings.simplefilter("ignore")  # Python 3.12 warns of a fork beside a thread
if os.fork() == 0:
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.wait()[1]))
""",
    "standard input": "import sys; print(sys.stdin.read())",
}


@pytest.mark.parametrize("what", SCRIPTS)
def test_script_runs_as_under_python(folder: Path, what: str) -> None:
    (folder / "app.py").write_text(SCRIPTS[what])
    (folder / "queue.py").write_text("raise ImportError('this is not the queue of Python')")
    if what in {"its loops", "an error", "a child of multiprocessing"}:
        (folder / "queue.py").unlink()  # asyncio itself would import it
    arguments = ["app.py", "first", "--second", "-m", "--headless"]
    expected = run(folder, [sys.executable, *arguments])
    done = observed(folder, *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (expected.returncode, expected.stdout, expected.stderr)


@pytest.mark.parametrize("arguments", [("-m", "package"), ("-m", "package.part"), ("package",), ("-m", "nothing")])
def test_modules_and_folders_run_as_under_python(folder: Path, arguments: tuple[str, ...]) -> None:
    (folder / "package").mkdir()
    (folder / "package" / "__init__.py").touch()
    text = "import sys; print(__name__, __package__, sys.argv, sys.path[0], __spec__ and __spec__.name); 1 / 0"
    for name in ("__main__.py", "part.py"):
        (folder / "package" / name).write_text(text)
    expected = run(folder, [sys.executable, *arguments, "-x", "y"])
    done = observed(folder, *arguments, "-x", "y")
    assert (done.returncode, done.stdout, done.stderr) == (expected.returncode, expected.stdout, expected.stderr)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((), "Which program? Give a script, or -m and a module."),
        (("nothing.py",), "asyncwatch: nothing.py: there is no such file"),
    ],
)
def test_command_without_a_program_has_status_2(folder: Path, arguments: tuple[str, ...], problem: str) -> None:
    done = run(folder, [*COMMAND, "observe", *arguments])
    assert done.returncode == 2
    assert problem in done.stderr


def ctl(folder: Path, *arguments: str) -> Any:
    return json.loads(run(folder, [*COMMAND, "ctl", *arguments, "--json"]).stdout)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_other_processes_see_and_cancel_its_tasks(folder: Path, loop: str) -> None:
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    (folder / "server.py").write_text(SERVER)
    with subprocess.Popen(
        [*COMMAND, "observe", "server.py", loop], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert only_run().name == "server.py"
        wait_until(lambda: len(ctl(folder, "list")["workers"]) >= 5)
        rows = {row["name"]: row for row in ctl(folder, "list")["workers"]}
        assert {f"fetch-{number}" for number in range(3)} < set(rows)
        assert rows["fetch-0"]["group"] == "fetch"
        assert "server.py:5 fetch · Queue.get" in run(folder, [*COMMAND, "ctl", "list"]).stdout
        assert run(folder, [*COMMAND, "ctl", "cancel", "fetch-1"]).returncode == 0
        refused = run(folder, [*COMMAND, "ctl", "restart", "fetch-2"])
        assert refused.returncode == 1
        assert "only observes" in refused.stdout + refused.stderr
        wait_until(lambda: "cancelled" in run(folder, [*COMMAND, "ctl", "list", "fetch-1"]).stdout)
        (folder / "done").touch()
        out, err = process.communicate(timeout=60)
    assert out == "[False, True, False]\n"
    assert err.startswith(NOTE)
    assert process.returncode == 0


def test_call_in_a_program_shows_its_tasks_until_the_end_of_the_context(folder: Path) -> None:
    (folder / "program.py").write_text("""
import asyncio, os
import asyncwatch

async def job():
    while not os.path.exists("done"):
        await asyncio.sleep(0.01)

async def main():
    with asyncwatch.observe(name="mine"):
        await asyncio.create_task(job(), name="the job")
    print("after", flush=True)
    while not os.path.exists("really"):
        await asyncio.sleep(0.01)

asyncio.run(main())
""")
    with subprocess.Popen([sys.executable, "program.py"], cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert only_run().name == "mine"
        wait_until(lambda: "the job" in {row["name"] for row in ctl(folder, "list")["workers"]})
        (folder / "done").touch()
        assert process.stdout is not None
        assert process.stdout.readline() == "after\n"
        assert "No run is alive" in run(folder, [*COMMAND, "ps"]).stderr + run(folder, [*COMMAND, "ps"]).stdout
        (folder / "really").touch()
        assert process.wait(60) == 0


@pytest.mark.parametrize("module", ["asyncio", "uvloop"])
def test_plain_call_lasts_to_the_end_of_the_program(folder: Path, module: str) -> None:
    pytest.importorskip(module)
    (folder / "program.py").write_text(f"""
import asyncio
import {module}  # uvloop keeps the functions of asyncio that it has found
import asyncwatch

async def main():
    await asyncio.sleep(3600)

asyncwatch.observe()
{module}.run(main())
""")
    with subprocess.Popen([sys.executable, "program.py"], cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        record = only_run()
        assert record.name == "program.py"
        wait_until(lambda: [row["group"] for row in ctl(folder, "list")["workers"]] in (["main"], ["wrapper"]))
        os.kill(record.pid, signal.SIGINT)
        assert "KeyboardInterrupt" in process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGINT
