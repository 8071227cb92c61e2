"""Whose code a frame is of is told by its module, whatever its file is named."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest

import asyncwatch
from asyncwatch import Run
from asyncwatch.commands import WorkerStack
from asyncwatch.engine.attempts import AttemptRunner
from asyncwatch.engine.describe import describe_stack
from asyncwatch.engine.stacks import (
    OUR_PACKAGE,
    PACKAGES_OF_TARGETS,
    Frame,
    frame_of,
    frames_of,
    is_of_supervisor,
    place_of,
    stuck_at,
)
from asyncwatch.engine.watchdog import Evidence, Stretch, Who, judge
from tests.clock import run_jumping
from tests.engine.fleets import worker

MODULES = sorted(module.name for module in pkgutil.walk_packages(asyncwatch.__path__, "asyncwatch."))
SUPERVISE = Path(sys.modules[AttemptRunner.__module__].__file__ or "").parent
SOURCE = """
async def hold(wait, seen):
    seen.append(look())
    await wait()

async def fail():
    raise ValueError("mine")
"""


def defined(file: str, source: str = SOURCE, **names: object) -> dict[str, Any]:
    """Return the names of a module that is executed as if it stood in `file`; `names` are there before."""
    space = {"__name__": Path(file).stem, "look": lambda: frames_of(sys._getframe(1)), **names}
    exec(compile(source, file, "exec"), space)
    return space


def frame_in(module: str, file: str = "/elsewhere/anything.py") -> Frame:
    """Return the frame of code of a module that was compiled from `file`."""
    space = defined(file, "import sys\ndef f():\n    return sys._getframe()\n", __name__=module)
    return frame_of(space["f"](), 3)


def owner(frame: Frame) -> str:
    """Return who is blamed for a second in which only this frame was seen, outside any attempt."""
    samples = Stretch(Who("", 0, 0), 10.0)
    samples.add((frame,), 11.0, 1.0)
    (block,) = judge(Evidence(10.0, 11.0, busy=1.0), [samples])
    return block.blame.cause


@pytest.mark.parametrize("module", [OUR_PACKAGE, *MODULES])
def test_every_module_of_the_package_is_ours(module: str) -> None:
    """From whatever file its code comes; those of targets are ours, but are shown in the stack of a worker."""
    is_target = module.startswith(("asyncwatch.targets", "asyncwatch.selftest"))
    assert is_of_supervisor(module) is not is_target
    assert owner(frame_in(module)) == "asyncwatch"


def test_the_packages_of_targets_exist() -> None:
    """A package of that name can be imported: a new name must be changed there too."""
    for package in PACKAGES_OF_TARGETS:
        assert importlib.import_module(package).__name__ == package


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("machine", "/srv/machine.py"),
        ("engine.calls", "/srv/engine/calls.py"),
        ("asyncwatch_jobs.engine", "/srv/asyncwatch_jobs/engine.py"),
        ("asyncwatchers", "/srv/asyncwatchers.py"),
        ("jobs", f"{SUPERVISE}_of_mine/jobs.py"),
        ("__main__", "/srv/watchdog.py"),
        ("", "<string>"),
    ],
)
def test_code_of_the_user_is_the_users(module: str, file: str) -> None:
    """Its file may be named as one of ours, its package may begin as ours, its folder may stand beside ours."""
    frame = frame_in(module, file)
    assert not is_of_supervisor(frame.module)
    assert owner(frame) == "code"
    ours = frame_in("asyncwatch.engine.scheduler")
    assert place_of((ours, frame, ours)).file == file


def test_our_command_run_as_a_module_is_ours() -> None:
    """`python -m asyncwatch` names its module `__main__`; a script of the user's has no spec."""
    space = {"__name__": "__main__", "__spec__": ModuleSpec("asyncwatch.__main__", None)}
    code = compile("import sys\nframe = sys._getframe()\n", "/x/__main__.py", "exec")
    exec(code, space)
    frame: Any = space["frame"]
    assert frame_of(frame, 1).module == "asyncwatch.__main__"
    assert owner(frame_of(frame, 1)) == "asyncwatch"


@pytest.mark.parametrize("name", [None, 7])
def test_a_module_without_a_name_is_the_users(name: object) -> None:
    """Code can be executed with any globals."""
    space: dict[str, Any] = {"__name__": name}
    exec(compile("import sys\nframe = sys._getframe()\n", "/x/y.py", "exec"), space)
    assert owner(frame_of(space["frame"], 1)) == "code"


@pytest.mark.parametrize("file", ["scheduler.py", "run.py", "thread.py", "watchdog.py", "attempts.py"])
def test_a_file_named_as_one_of_ours_is_shown(file: str, caplog: pytest.LogCaptureFixture) -> None:
    """In what the watchdog samples, in the live stack of a worker, and in the place of its error."""
    path = f"/srv/engine/{file}"
    seen: list[tuple[Frame, ...]] = []
    space = defined(path)

    async def main() -> WorkerStack | None:
        specs = [worker("a", space["hold"], asyncio.Event().wait, seen), worker("b", space["fail"])]
        batch = Run(specs, seed=1)
        running = asyncio.ensure_future(batch.gather())
        await asyncio.sleep(1)
        stack = batch.control.stack_of("a")
        batch.cancel_all()
        await running
        return stack

    stack = run_jumping(main)
    assert [frame.code.co_name for frame in seen[0]] == ["hold"]
    assert place_of(seen[0]).file == path
    assert stack is not None
    assert (stack.frames[0].file, stack.frames[0].function) == (path, "hold")
    assert f"b failed: ValueError: mine at {file}:7 fail" in caplog.text


def test_a_stack_begins_with_the_target_wherever_our_code_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions that call targets are known by their code, and not by the file that it says it is of."""
    seen: list[tuple[Frame, ...]] = []
    space = defined("/srv/jobs.py")

    async def nothing() -> None:
        """Return."""

    async def main() -> None:
        await Run([worker("a", space["hold"], nothing, seen)], seed=1).gather()

    run_jumping(main)
    assert [frame.code.co_name for frame in seen[0]] == ["hold"]
    copy = moved(AttemptRunner._call_target, "/srv/attempts.py", __name__="attempts")
    assert copy.__code__ == AttemptRunner._call_target.__code__  # equal, but not the same
    monkeypatch.setattr(AttemptRunner, "_call_target", copy)
    run_jumping(main)
    assert [frame.code.co_name for frame in seen[1]][-2:] == ["_call_target", "hold"]


def moved(function: Callable[..., Any], file: str, **names: object) -> FunctionType:
    """Return a function whose code is the same text in another file, in a module of the user's."""
    code: CodeType = function.__code__.replace(co_filename=file)
    return FunctionType(code, {**function.__globals__, **names}, function.__name__, None, function.__closure__)


def test_the_stacks_of_the_same_text_in_two_files_are_two() -> None:
    """Code that was compiled from the same text is equal; the file that is shown is the one that raised."""
    stacks = []
    for file in ("/srv/a/machine.py", "/srv/b/machine.py"):
        with pytest.raises(ValueError, match="mine") as raised:
            defined(file, "def fail():\n    raise ValueError('mine')\n")["fail"]()
        stacks.append(describe_stack(raised.value))
    assert ['"/srv/a/machine.py"' in stack for stack in stacks] == [True, False]
    assert ['"/srv/b/machine.py"' in stack for stack in stacks] == [False, True]


async def test_where_a_worker_is_stuck_is_told_by_module() -> None:
    """Frames of asyncio are passed over; those of a module whose name begins with it are not."""
    space = defined("/srv/asyncio_tools.py")
    task = asyncio.ensure_future(space["hold"](asyncio.Event().wait, []))
    await asyncio.sleep(0)
    assert stuck_at(task.get_coro()) == "/srv/asyncio_tools.py:4 hold"
    task.cancel()
