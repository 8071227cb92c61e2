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
    Key("left", "fold", "fold", "fold the group; on a worker, go to its group", "←"),
    Key("right", "unfold", "unfold", "unfold the group", "→"),
)

ACTS = (
    Key("c", "cancel", "cancel", "cancel the selected worker or group, or all the marked", footer=1),
    Key("r", "restart", "restart", "restart it; a running one is cancelled first", footer=1),
    Key("n", "retry_now", "try now", "let a worker that waits make its next attempt now"),
    Key("x", "give_up", "give up", "let a worker that waits make no further attempt; restart (r) starts it again"),
    Key("space", "mark", "mark", "mark the selected worker", footer=3),
    Key("a", "mark_all", "mark all", "mark all that the filter shows", footer=6),
    Key("escape", "clear", "clear", "clear the marks, then the filter", "esc"),
    Key("C", "cancel_all", "cancel all", "cancel all workers that have not ended; asks first"),
    Key("R", "restart_all", "restart all", "restart all that did not succeed; asks first", footer=6),
    Key("N", "retry_all_now", "try all now", "let all that wait make their next attempt now; asks first"),
    Key("X", "give_up_all", "give up all", "let all that wait make no further attempt; asks first"),
)

RUN = (
    Key("P", "pause", "pause", "start no new attempts, or start them again", footer=6),
    Key("plus", "concurrency(1)", "more at a time", "more attempts at a time", "+"),
    Key("minus", "concurrency(-1)", "fewer at a time", "fewer attempts at a time", "-"),
    Key("o", "options", "options", "change concurrency, rates and bad luck", footer=6),
    Key("u", "undo", "undo", "undo the last of these changes"),
)

LOOKS = (
    Key("slash", "filter", "filter", "filter as you type", "/", footer=2),
    Key("s", "sort", "sort", "sort by the next column (or click on its heading)", footer=2),
    Key("S", "reverse", "reverse", "reverse the order"),
    Key("f", "trouble", "trouble", "only the workers in trouble", footer=4),
    Key("enter", "details", "details", "all about one worker; on a group, fold or unfold it", footer=2),
    Key("e", "errors", "errors", "the errors, grouped: retry, cancel or show those of one kind", footer=4),
    Key("b", "circuits", "circuits", "the circuit breakers: isolate, close, probe"),
)

GLOBAL = (
    Key("l", "log", "log", "the log of all workers", footer=3),
    Key("d", "own_cost", "own cost", "what asyncwatch itself takes, and what blocked the event loop"),
    Key("p", "freeze", "freeze", "freeze the picture, not the work", footer=5),
    Key("question_mark", "help", "help", "this page", "?", footer=1),
    Key("ctrl+p", "command_palette", "palette", "every action by name, and the theme", footer=7),
    Key("q", "quit", "quit", "quit, also ctrl+c; asks while workers run", footer=1),
)


def bindings(keys: Iterable[Key], namespace: str = "") -> list[Binding]:
    """Return Textual's bindings for the keys; `namespace` is `app.` for actions of the app."""
    return [Binding(key.keys, namespace + key.action, key.label, show=False, key_display=key.cap) for key in keys]
