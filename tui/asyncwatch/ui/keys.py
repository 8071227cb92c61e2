"""Table of all keys. Bindings, footer, help and command palette are made from it."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple

from textual.binding import Binding


class Role(enum.Enum):
    """What a dashboard may do."""

    OWNER = "owner"
    """It belongs to the command that started the run: to quit stops the run."""
    VIEWER = "viewer"
    """It acts on the run, and leaves it without stopping it."""
    PROGRAM = "program"
    """As `VIEWER`, in the terminal of the program that runs the workers: Ctrl+C interrupts that program."""
    READER = "reader"
    """It only shows the run."""


class Key(NamedTuple):
    """A key, or several, and the action that they run."""

    keys: str
    """Textual's names of the keys, separated by commas."""
    action: str
    """Textual's name of the action; may have parameters, as in `move(-1)`."""
    label: str
    """One or two words for the footer and the palette."""
    explanation: str
    """A phrase for the help and the palette."""
    shown: str = ""
    """How the key is written; its Textual name if empty."""
    footer: int = 0
    """Rank in the footer; 0 for never. In a narrow terminal keys with low ranks stay."""

    @property
    def cap(self) -> str:
        """How the key is written."""
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
    Key("c", "cancel", "cancel", "cancel the selected worker or group, or all marked", footer=1),
    Key("r", "restart", "restart", "restart it; a running worker is cancelled first", footer=1),
    Key("n", "retry_now", "retry now", "start the next attempt of a waiting worker now"),
    Key("x", "give_up", "give up", "make no further attempt of a waiting worker"),
    Key("space", "mark", "mark", "mark the selected worker", footer=3),
    Key("a", "mark_all", "mark all", "mark all workers that the filter shows", footer=6),
    Key("escape", "clear", "clear", "clear the marks, then the filter", "esc"),
    Key("C", "cancel_all", "cancel all", "cancel all active workers; asks first"),
    Key("R", "restart_all", "restart failed", "restart all that did not succeed; asks first", footer=6),
    Key("N", "retry_all_now", "retry all now", "retry all waiting workers now; asks first"),
    Key("X", "give_up_all", "give up all", "give up all waiting workers; asks first"),
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
    Key("s", "sort", "sort", "sort by the next column (or click a heading)", footer=2),
    Key("S", "reverse", "reverse", "reverse the order"),
    Key("f", "trouble", "trouble", "show only the workers in trouble", footer=4),
    Key("enter", "details", "details", "all about one worker; on a group, fold or unfold", footer=2),
    Key("e", "errors", "errors", "the errors, by kind: restart, cancel, show workers", footer=4),
    Key("b", "limits", "limits", "limits of each key: release, hold, circuits"),
)

ACTING = frozenset(
    {
        *("cancel", "restart", "retry_now", "give_up", "cancel_all", "restart_all", "retry_all_now", "give_up_all"),
        *("pause", "concurrency", "options", "undo"),
        *("release", "hold", "reset", "isolate", "close_circuit", "probe"),
    }
)
"""Actions that act on the run."""

GLOBAL = (
    Key("l", "log", "log", "the log of all workers", footer=3),
    Key("d", "overhead", "overhead", "what asyncwatch costs, what blocked the event loop"),
    Key("p", "freeze", "freeze", "freeze the screen, not the work", footer=5),
    Key("question_mark", "help", "help", "all keys, states and filters", "?", footer=1),
    Key("ctrl+p", "command_palette", "palette", "every action by name, and the theme", footer=7),
    Key("ctrl+l", "redraw", "redraw", "draw the screen anew"),
    Key("ctrl+z", "suspend_process", "suspend", "stop the screen, not the work, until the shell's fg"),
    Key("D", "detach", "detach", "leave the run, which goes on", footer=6),
    Key("q", "quit", "quit", "quit, also ctrl+c; asks while workers are active", footer=1),
)
_QUIT_OF_VIEWERS = Key("q", "quit", "leave", "leave the run, which goes on; also ctrl+c", footer=1)


_QUIT_OF_PROGRAMS = Key(
    "q", "quit", "leave", "leave the dashboard; the program goes on (ctrl+c interrupts it)", footer=1
)


def offered(keys: Iterable[Key], role: Role) -> tuple[Key, ...]:
    """Return the keys as they are for this role: who may only look has none that acts."""
    allowed = (key for key in keys if role is not Role.READER or not is_acting(key.action))
    quits = {Role.VIEWER: _QUIT_OF_VIEWERS, Role.READER: _QUIT_OF_VIEWERS, Role.PROGRAM: _QUIT_OF_PROGRAMS}
    return tuple(quits.get(role, key) if key.action == "quit" else key for key in allowed)


def is_acting(action: str) -> bool:
    """Return whether an action, in Textual's notation, acts on the run."""
    return action.partition("(")[0].rpartition(".")[2] in ACTING


def bindings(keys: Iterable[Key]) -> list[Binding]:
    """Return Textual's bindings for the keys. Those with ctrl work in dialogs and while a person types, too."""
    return [
        Binding(
            key.keys,
            key.action,
            key.label,
            show=False,
            key_display=key.cap,
            priority=key.keys.startswith("ctrl+"),
        )
        for key in keys
    ]
