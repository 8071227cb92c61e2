"""The first frame: it needs few modules, and shows the workers as the engine will report them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import asyncwatch
from asyncwatch import Run
from asyncwatch.config.load import demo_config
from asyncwatch.config.schema import BadLuckTable, Config, Group, RetryTable
from asyncwatch.events import Batch, RunStarted, WorkersQueued
from asyncwatch.plan import build as launch
from asyncwatch.plan.plan import FORESEEN, Plan, foreseen_events, make_plan
from tests.terminal.screen import Terminal

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
import importlib.abc, os, sys

class Engine(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "uvloop":  # the first import of its thread
            with open("writing", "w") as file:
                file.write("\\n".join(sys.modules))
            os.rename("writing", "known")

sys.meta_path.insert(0, Engine())
from asyncwatch.__main__ import run
sys.argv = ["asyncwatch"]
run()
"""
LATER = (
    "aiohttp",
    "uvloop",
    "tomllib",
    "hashlib",
    "email",
    "asyncwatch.cli.headless",
    "asyncwatch.cli.output",
    "asyncwatch.model.summary",
    "asyncwatch.engine.run",
    "asyncwatch.engine.scheduler",
    "asyncwatch.engine.supervisor",
    "asyncwatch.engine.watchdog",
    "asyncwatch.targets.http",
    "asyncwatch.ui.render.details",
    *(f"asyncwatch.ui.screens.{name}" for name in ("circuits", "confirm", "cost", "details", "errors", "help", "log")),
)


def test_first_frame_needs_no_module_of_the_engine_or_of_a_screen(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path), "PYTHONPATH": str(Path(asyncwatch.__file__).parents[1])}
    with Terminal([sys.executable, "-c", COMMAND], cwd=tmp_path, env=env) as terminal:
        terminal.wait_for(lambda text: "19 " in text and (tmp_path / "known").exists())
        known = (tmp_path / "known").read_text().split()
        assert "asyncwatch.ui.app" in known
        assert [name for name in LATER if name in known] == []
        terminal.press("q")
        terminal.wait_for(lambda text: "Quit while" in text)
        terminal.press("y")
        terminal.wait_for_exit()


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
