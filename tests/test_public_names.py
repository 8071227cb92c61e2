"""The names of the package: `import asyncwatch` finds each one that its stub lists."""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

import asyncwatch

STUB = ast.parse((Path(asyncwatch.__file__).with_suffix(".pyi")).read_text())
IMPORTED = [(each.module, alias) for each in STUB.body if isinstance(each, ast.ImportFrom) for alias in each.names]


@pytest.mark.parametrize(("module", "alias"), IMPORTED, ids=lambda value: getattr(value, "name", None))
def test_public_name_is_the_object_of_its_module(module: str, alias: ast.alias) -> None:
    assert getattr(asyncwatch, alias.name) is getattr(import_module(module), alias.name)
    assert alias.asname == alias.name  # else a type checker takes it for private


def test_all_is_the_public_names_and_the_version() -> None:
    names = {alias.name for _, alias in IMPORTED}
    star: dict[str, object] = {}
    exec("from asyncwatch import *", star)
    assert set(vars(asyncwatch)["__all__"]) == names | {"__version__"} == set(star) - {"__builtins__"}
    assert names <= set(dir(asyncwatch))


@pytest.mark.parametrize("name", ["nothing", "_nothing", "__wrapped__"])
def test_unknown_name_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=f"module 'asyncwatch' has no attribute '{name}'"):
        getattr(asyncwatch, name)
