"""Every key and what it does, in one table: bindings, footer, help and command palette are all made from it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from textual.binding import Binding


class Key(NamedTuple):
    """One action that a person can ask for."""

    keys: str
    """Textual's names of the keys, separated by commas."""
    action: str
    label: str
    """One or two words for the footer and the palette."""
    explanation: str
    shown: str = ""
    """How the key reads; its Textual name if empty."""
    footer: int = 0
    """0: never in the footer; else the lower, the longer it stays when the terminal gets narrow."""

    @property
    def cap(self) -> str:
        """What is printed on the key."""
        return self.shown or self.keys


MOVES = (
    Key("up,k", "move(-1)", "up", "the worker above", "↑ k"),
    Key("down,j", "move(1)", "down", "the worker below", "↓ j"),
    Key("pageup", "page(-1)", "page up", "a screenful up", "PgUp"),
    Key("pagedown", "page(1)", "page down", "a screenful down", "PgDn"),
    Key("home,g", "edge(-1)", "first", "the first worker", "Home g"),
    Key("end,G", "edge(1)", "last", "the last worker", "End G"),
)

ACTS = (
    Key("c", "cancel", "cancel", "cancel the selected worker, or all the marked ones", footer=1),
    Key("r", "restart", "restart", "restart it; a running one is cancelled first", footer=1),
    Key("space", "mark", "mark", "mark the selected worker", footer=3),
    Key("a", "mark_all", "mark all", "mark all that the filter shows", footer=6),
    Key("escape", "clear", "clear", "clear the marks, then the filter", "esc"),
    Key("C", "cancel_all", "cancel all", "cancel all workers that have not ended; asks first"),
    Key("R", "restart_all", "restart all", "restart all that did not succeed; asks first", footer=6),
)

LOOKS = (
    Key("slash", "filter", "filter", "filter as you type", "/", footer=2),
    Key("s", "sort", "sort", "sort by the next column (or click on its heading)", footer=2),
    Key("S", "reverse", "reverse", "reverse the order"),
    Key("f", "trouble", "trouble", "only the workers in trouble", footer=4),
    Key("enter", "details", "details", "all about one worker: attempts, traceback, log", footer=2),
)

GLOBAL = (
    Key("l", "log", "log", "the log of all workers", footer=3),
    Key("p", "freeze", "freeze", "freeze the picture, not the work", footer=5),
    Key("question_mark", "help", "help", "this page", "?", footer=1),
    Key("ctrl+p", "command_palette", "palette", "every action by name, and the theme", footer=7),
    Key("q", "quit", "quit", "quit, also ctrl+c; asks while workers run", footer=1),
)


def bindings(keys: Iterable[Key], namespace: str = "") -> list[Binding]:
    """Return Textual's bindings for the keys; `namespace` is `app.` for actions of the app."""
    return [Binding(key.keys, namespace + key.action, key.label, show=False, key_display=key.cap) for key in keys]
