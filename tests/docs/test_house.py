"""The page about the code names files, functions and tables that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "tui" / "asyncwatch"
PAGE = (PACKAGE / "README.md").read_text(encoding="utf-8")
CODE = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py*") if path.suffix in {".py", ".pyi"})


def _is_there(path: str) -> bool:
    rooms = (PACKAGE, ROOT, *(folder for folder in PACKAGE.iterdir() if folder.is_dir()))
    return any((room / path).exists() for room in rooms)


def test_page_about_the_code_names_existing_files() -> None:
    paths = set(re.findall(r"`([\w/.]+(?:\.\w+|/))`", PAGE))
    assert len(paths) > 40
    assert [path for path in sorted(paths) if not _is_there(path)] == []


def test_page_about_the_code_names_existing_code() -> None:
    names = set(re.findall(r"`(\w+)`", PAGE))
    assert {"FOLDS", "HEADINGS", "SORTS"} <= names
    assert [name for name in sorted(names) if not re.search(rf"\b{name}\b", CODE)] == []


def test_page_about_the_code_names_every_room() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and not path.name.startswith("_")}
    assert rooms == set(re.findall(r"^\| `(\w+)/` \|", PAGE, re.MULTILINE))
