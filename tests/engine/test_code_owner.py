"""Frames belong to asyncwatch or to the user by their module, whatever their file is named."""

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
from asyncwatch.engine.describe import describe_trace
from asyncwatch.engine.run_control import control_of
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
ENGINE = Path(sys.modules[AttemptRunner.__module__].__file__ or "").parent
SOURCE = """
async def hold(wait, seen):
    seen.append(look())
    await wait()

async def fail():
    raise ValueError("mine")
"""


def defined(file: str, source: str = SOURCE, **names: object) -> dict[str, Any]:
    """Return the names of a module executed as if it were in `file`, with `names` set before."""
    space = {"__name__": Path(file).stem, "look": lambda: frames_of(sys._getframe(1)), **names}
    exec(compile(source, file, "exec"), space)
    return space


def frame_in(module: str, file: str = "/elsewhere/anything.py") -> Frame:
    """Return a frame of code of `module` that was compiled from `file`."""
    space = defined(file, "import sys\ndef f():\n    return sys._getframe()\n", __name__=module)
    return frame_of(space["f"](), 3)


def owner(frame: Frame) -> str:
    """Return the cause that is blamed for a second with only this frame, outside any attempt."""
    samples = Stretch(Who("", 0, 0), 10.0)
    samples.add((frame,), 11.0, 1.0)
    (block,) = judge(Evidence(10.0, 11.0, busy=1.0), [samples])
    return block.blame.cause


@pytest.mark.parametrize("module", [OUR_PACKAGE, *MODULES])
def test_module_of_the_package_is_of_asyncwatch(module: str) -> None:
    """Targets are too, but the stack of a worker shows them."""
    is_target = module.startswith(("asyncwatch.targets", "asyncwatch.selftest"))
    assert is_of_supervisor(module) is not is_target
    assert owner(frame_in(module)) == "asyncwatch"


def test_packages_of_targets_can_be_imported() -> None:
    for package in PACKAGES_OF_TARGETS:
        assert importlib.import_module(package).__name__ == package


@pytest.mark.parametrize(
    ("module", "file"),
    [
        ("machine", "/srv/machine.py"),
        ("engine.calls", "/srv/engine/calls.py"),
        ("asyncwatch_jobs.engine", "/srv/asyncwatch_jobs/engine.py"),
        ("asyncwatchers", "/srv/asyncwatchers.py"),
        ("jobs", f"{ENGINE}_of_mine/jobs.py"),
        ("__main__", "/srv/watchdog.py"),
        ("", "<string>"),
    ],
)
def test_module_with_a_similar_name_is_of_the_user(module: str, file: str) -> None:
    frame = frame_in(module, file)
    assert not is_of_supervisor(frame.module)
    assert owner(frame) == "code"
    ours = frame_in("asyncwatch.engine.scheduler")
    assert place_of((ours, frame, ours)).file == file


def test_command_run_as_a_module_is_of_asyncwatch() -> None:
    """Its module is named `__main__`. A script of the user has no spec."""
    space = {"__name__": "__main__", "__spec__": ModuleSpec("asyncwatch.__main__", None)}
    code = compile("import sys\nframe = sys._getframe()\n", "/x/__main__.py", "exec")
    exec(code, space)
    frame: Any = space["frame"]
    assert frame_of(frame, 1).module == "asyncwatch.__main__"
    assert owner(frame_of(frame, 1)) == "asyncwatch"


@pytest.mark.parametrize("name", [None, 7])
def test_module_without_a_name_is_of_the_user(name: object) -> None:
    """Code can be executed with any globals."""
    space: dict[str, Any] = {"__name__": name}
    exec(compile("import sys\nframe = sys._getframe()\n", "/x/y.py", "exec"), space)
    assert owner(frame_of(space["frame"], 1)) == "code"


@pytest.mark.parametrize("file", ["scheduler.py", "run.py", "thread.py", "watchdog.py", "attempts.py"])
def test_file_of_the_user_with_the_name_of_a_module_of_asyncwatch_is_shown(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In samples of the watchdog, in the live stack, and as the place of an error."""
    path = f"/srv/engine/{file}"
    seen: list[tuple[Frame, ...]] = []
    space = defined(path)

    async def main() -> WorkerStack | None:
        specs = [worker("a", space["hold"], asyncio.Event().wait, seen), worker("b", space["fail"])]
        batch = Run(specs, seed=1)
        running = asyncio.ensure_future(batch.gather())
        await asyncio.sleep(1)
        stack = control_of(batch).stack_of("a")
        batch.cancel_all()
        await running
        return stack

    stack = run_jumping(main)
    assert [frame.code.co_name for frame in seen[0]] == ["hold"]
    assert place_of(seen[0]).file == path
    assert stack is not None
    assert (stack.frames[0].file, stack.frames[0].function) == (path, "hold")
    assert f"b failed: ValueError: mine at {file}:7 fail" in caplog.text


def test_stack_begins_with_the_target_wherever_its_caller_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers of targets are recognised by their code object."""
    seen: list[tuple[Frame, ...]] = []
    space = defined("/srv/jobs.py")

    async def nothing() -> None:
        pass

    async def main() -> None:
        await Run([worker("a", space["hold"], nothing, seen)], seed=1).gather()

    run_jumping(main)
    assert [frame.code.co_name for frame in seen[0]] == ["hold"]
    copy = moved(AttemptRunner._call_target, "/srv/attempts.py", __name__="attempts")
    assert copy.__code__ == AttemptRunner._call_target.__code__  # equal, but another object
    monkeypatch.setattr(AttemptRunner, "_call_target", copy)
    run_jumping(main)
    assert [frame.code.co_name for frame in seen[1]][-2:] == ["_call_target", "hold"]


def moved(function: Callable[..., Any], file: str, **names: object) -> FunctionType:
    """Return a copy of a function in another file and module."""
    code: CodeType = function.__code__.replace(co_filename=file)
    return FunctionType(code, {**function.__globals__, **names}, function.__name__, None, function.__closure__)


def test_stack_of_equal_code_names_the_file_that_raised() -> None:
    stacks = []
    for file in ("/srv/a/machine.py", "/srv/b/machine.py"):
        with pytest.raises(ValueError, match="mine") as raised:
            defined(file, "def fail():\n    raise ValueError('mine')\n")["fail"]()
        stacks.append(describe_trace(raised.value).stack)
    assert ['"/srv/a/machine.py"' in stack for stack in stacks] == [True, False]
    assert ['"/srv/b/machine.py"' in stack for stack in stacks] == [False, True]


async def test_stuck_at_passes_over_asyncio_but_not_a_module_named_like_it() -> None:
    space = defined("/srv/asyncio_tools.py")
    task = asyncio.ensure_future(space["hold"](asyncio.Event().wait, []))
    await asyncio.sleep(0)
    assert stuck_at(task.get_coro()) == "/srv/asyncio_tools.py:4 hold"
    task.cancel()
