"""The first frame: it needs few modules, and shows the workers as the engine will report them."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import asyncwatch
from asyncwatch import Run
from asyncwatch.config.load import demo_config
from asyncwatch.config.schema import BadLuckTable, Config, Group, RetryTable
from asyncwatch.events import Batch, RunStarted, WorkersQueued
from asyncwatch.plan import build as launch
from asyncwatch.plan.plan import FORESEEN, Plan, foreseen_events, make_plan
from tests.terminal.screen import PATIENCE, Terminal

LIMITED = Config(
    rate="50/s",
    burst=3,
    rate_per_key="9/s",
    concurrency=2,
    timeout=60,
    runner="gather",
    groups=(
        Group(name="a", items=("http://a.example", "http://b.example"), retry=RetryTable(max_attempts=5)),
        Group(name="b", url="http://c.example", count=3, bad_luck=BadLuckTable(threshold=0.5)),
    ),
)

COMMAND = """
import atexit, os, sys

def note():
    with open(f"{os.getpid()}", "w") as file:
        file.write("\\n".join(sys.modules))
    os.rename(f"{os.getpid()}", f"modules-{os.getpid()}")

atexit.register(note)
from asyncwatch.__main__ import run
sys.argv = ["asyncwatch"]
run()
"""
ENGINE = (
    "aiohttp",
    "uvloop",
    "tomllib",
    "asyncwatch.engine.scheduler",
    "asyncwatch.plan.plan",
    "asyncwatch.targets.http",
)
"""Modules of which the dashboard needs none."""
LATER = (
    "asyncwatch.cli.headless",
    "asyncwatch.cli.output",
    "asyncwatch.control.discovery",
    "asyncwatch.model.summary",
    "asyncwatch.ui.render.details",
    *(f"asyncwatch.ui.screens.{name}" for name in ("cost", "details", "errors", "help", "limits", "log")),
)
"""Modules that the first frame needs less."""


def test_each_process_imports_only_what_it_needs(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path), "PYTHONPATH": str(Path(asyncwatch.__file__).parents[1])}
    with Terminal([sys.executable, "-c", COMMAND], cwd=tmp_path, env=env) as terminal:
        terminal.wait_for(lambda text: "19 " in text)
        terminal.kill(signal.SIGTERM)
        terminal.wait_for_exit()
    deadline = time.monotonic() + PATIENCE
    while len([*tmp_path.glob("modules-*")]) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    known = [set(path.read_text().split()) for path in tmp_path.glob("modules-*")]
    (dashboard,) = [modules for modules in known if "asyncwatch.ui.app" in modules]
    (engine,) = [modules for modules in known if "asyncwatch.engine.scheduler" in modules]
    (command,) = [modules for modules in known if modules is not dashboard and modules is not engine]
    assert dashboard.isdisjoint((*ENGINE, *LATER))
    assert "click" not in dashboard, "it starts before the command reads its arguments"
    assert "textual" not in engine
    assert command.isdisjoint(("textual", *ENGINE))


def test_import_asyncwatch_imports_no_other_module_of_it() -> None:
    code = "import sys, asyncwatch; print(*sorted(name for name in sys.modules if name.startswith('asyncwatch')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["asyncwatch"]


async def first_events(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """Return the first batch of events of a plan's run, before any attempt."""
    monkeypatch.setattr("asyncwatch.engine.scheduler.Scheduler.start_batch", lambda _scheduler: None)
    async with launch.open_run(plan) as supervisor:
        assert isinstance(supervisor, Run)
        events = supervisor.subscribe()
        supervisor._scheduler.start(plan.name, plan.config.runner, plan.config.timeout, 0.0)
        supervisor._scheduler.announce_batch()
        return await events.get()


@pytest.mark.parametrize("config", [demo_config(), LIMITED])
async def test_foreseen_events_equal_the_first_events_of_the_run(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(config)
    foreseen = foreseen_events(plan)
    reported = (await first_events(plan, monkeypatch))[: len(foreseen)]
    for expected, event in zip(foreseen, reported, strict=True):
        assert type(expected) is type(event)
        fields = set(event.__struct_fields__) - {"at", "started_at"}
        assert {name: getattr(expected, name) for name in fields} == {name: getattr(event, name) for name in fields}
    assert isinstance(foreseen[0], RunStarted)
    assert isinstance(foreseen[-1], WorkersQueued)


def test_foreseen_events_of_a_tree_or_a_large_fleet_are_none() -> None:
    many = Group(name="many", url="http://a.example", count=FORESEEN + 1)
    service = Group(name="one", url="http://a.example", restart="permanent")
    assert [foreseen_events(make_plan(Config(groups=(group,)))) for group in (many, service)] == [(), ()]
