"""How supervisors and their children are called."""

from __future__ import annotations

from asyncwatch.choices import ROOT


def shown_path(path: str) -> str:
    """Return what a supervisor or a child is called in texts: its path below the root, by which workers are named."""
    return path.removeprefix(f"{ROOT}/")
