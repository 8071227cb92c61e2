"""Imports: no cycles, and no room loads a library that it does not need."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
from itertools import pairwise
from pathlib import Path

import pytest

import asyncwatch
from asyncwatch.targets.names import DEPENDENCIES

PACKAGE = Path(asyncwatch.__file__).parent
UI, HTTP, COMMAND_LINE = ("textual", "rich"), ("aiohttp", "asyncwatch.targets"), ("click", "asyncwatch.cli")
CLUSTER = ("dask", "distributed", "cloudpickle", "asyncwatch.cluster")

UNNEEDED = {
    "policies events commands": [*UI, *HTTP, *COMMAND_LINE, "asyncwatch.engine", "asyncwatch.model"],
    "engine": [*UI, *HTTP, *COMMAND_LINE, "asyncwatch.model", "asyncwatch.config", "uvloop"],
    "model": [*UI, *HTTP, *COMMAND_LINE, "asyncwatch.engine", "asyncwatch.config", "asyncio"],
    "control": [*UI, *HTTP, *COMMAND_LINE, "asyncwatch.engine", "asyncwatch.config", "asyncwatch.plan"],
    "metrics": [*UI, *COMMAND_LINE, "asyncwatch.engine", "asyncwatch.config", "asyncwatch.control"],
    "control.discovery": ["asyncio", "asyncwatch.commands", "asyncwatch.events", "asyncwatch.model"],
    "config": [*UI, *HTTP, *COMMAND_LINE, "asyncwatch.engine", "asyncwatch.plan"],
    "plan targets": [*UI, *COMMAND_LINE, *CLUSTER],
    "api cli": [*CLUSTER],
    "ui": [*HTTP, *COMMAND_LINE, "asyncwatch.engine", "asyncwatch.config"],
    "cli.headless": [*UI, *HTTP, "asyncwatch.engine", "asyncwatch.config"],
    "cli.main": [*UI, "aiohttp", "msgspec", "asyncwatch.engine", "asyncwatch.ui"],
}
"""Modules that stay unloaded when all modules of these rooms are imported."""

IMPORT_ALL = """
import importlib, pkgutil
for name in {names}:
    module = importlib.import_module(name)
    for found in pkgutil.walk_packages(getattr(module, "__path__", ()), name + "."):
        importlib.import_module(found.name)
"""


def import_graph(package: Path) -> dict[str, set[str]]:
    """Return the modules that each module of `package` imports from it.

    Imports inside functions and under `TYPE_CHECKING` count like those at the top of a module.
    """
    files: dict[str, Path] = {}
    for file in package.rglob("*.py"):
        parts = file.relative_to(package.parent).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    graph: dict[str, set[str]] = {}
    for name, file in files.items():
        home = name if file.stem == "__init__" else name.rpartition(".")[0]
        imported: set[str] = set()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = resolve_name("." * node.level + (node.module or ""), home)
                imported.update([base, *(f"{base}.{alias.name}" for alias in node.names)])
        graph[name] = (imported & files.keys()) - {name}
    return graph


def import_cycle(graph: dict[str, set[str]]) -> list[str]:
    """Return modules that import one another in a circle, the first one again at the end; empty if there are none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        cycle: list[str] = error.args[1]
        return cycle[::-1]
    return []


def modules_after(code: str) -> set[str]:
    """Run `code` in a new interpreter and return the modules that it has imported by the end."""
    code += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules: list[str] = json.loads(done.stdout)
    return set(modules)


def test_import_cycle_under_type_checking_is_found(tmp_path: Path) -> None:
    package = tmp_path / "shop"
    (package / "till").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "till" / "__init__.py").write_text("from .drawer import Drawer\n")
    (package / "till" / "drawer.py").write_text("import shop.coin\n")
    (package / "coin.py").write_text("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from shop import till\n")
    graph = import_graph(package)
    assert graph == {
        "shop": set(),
        "shop.till": {"shop.till.drawer"},
        "shop.till.drawer": {"shop.coin"},
        "shop.coin": {"shop", "shop.till"},
    }
    cycle = import_cycle(graph)
    assert cycle[0] == cycle[-1]
    assert all(after in graph[before] for before, after in pairwise(cycle))
    assert import_cycle({**graph, "shop.coin": set()}) == []


def test_package_has_no_import_cycle() -> None:
    assert " -> ".join(import_cycle(import_graph(PACKAGE))) == ""


def test_import_asyncwatch_loads_no_other_package() -> None:
    before = modules_after("import __future__, importlib, typing")
    assert {name.partition(".")[0] for name in modules_after("import asyncwatch") - before} == {"asyncwatch"}


def test_public_names_need_neither_user_interface_nor_http() -> None:
    found = modules_after("import asyncwatch\nfor name in asyncwatch.__all__: getattr(asyncwatch, name)")
    assert not found.intersection([*UI, *HTTP, *COMMAND_LINE, "asyncwatch.ui", "asyncwatch.model", "uvloop"])


def test_public_names_import_without_the_modules_of_unix() -> None:
    unix = ("fcntl", "resource", "termios", "tty", "pty", "pwd", "grp")
    found = modules_after(
        f"import sys\nfor name in {unix}: sys.modules[name] = None\n"
        "import asyncwatch, asyncwatch.control.discovery\n"
        "for name in asyncwatch.__all__: getattr(asyncwatch, name)"
    )
    assert "asyncwatch.engine" in found


def test_only_the_room_of_metrics_brings_their_library() -> None:
    rooms = [
        f"asyncwatch.{file.stem}"
        for file in PACKAGE.iterdir()
        if not file.stem.startswith("_") and file.stem != "metrics" and (file.suffix == ".py" or file.is_dir())
    ]
    found = modules_after(IMPORT_ALL.format(names=rooms))
    assert "asyncwatch.cli.session" in found
    assert not {name for name in found if name.startswith(("prometheus_client", "asyncwatch.metrics"))}


@pytest.mark.parametrize("rooms", UNNEEDED)
def test_room_loads_only_what_it_needs(rooms: str) -> None:
    names = [f"asyncwatch.{name}" for name in rooms.split()]
    found = modules_after(IMPORT_ALL.format(names=names))
    assert set(names) <= found
    assert sorted(found.intersection(UNNEEDED[rooms])) == []


def test_dependencies_are_the_packages_that_asyncwatch_imports() -> None:
    before = modules_after("")
    found = modules_after(IMPORT_ALL.format(names=["asyncwatch"]) + "import uvloop")
    names = {name.partition(".")[0] for name in found - before} - sys.stdlib_module_names
    names -= {"asyncwatch", "__mp_main__"}  # the second is multiprocessing's name of the program
    # Cython leaves modules of its own that are in no file.
    assert {name for name in names if not name.startswith(("_cython", "cython_runtime"))} <= DEPENDENCIES
