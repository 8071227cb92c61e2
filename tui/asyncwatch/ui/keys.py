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
    REPLAY = "replay"
    """It shows a recorded run."""
    PAST = "past"
    """It shows the past of a live run, which another dashboard of the same app shows."""

    @property
    def acts(self) -> bool:
        """Whether it acts on the run."""
        return self in {Role.OWNER, Role.VIEWER, Role.PROGRAM}

    @property
    def is_past(self) -> bool:
        """Whether what it shows is past."""
        return self in {Role.REPLAY, Role.PAST}

    @property
    def title(self) -> str:
        """What the header says of it, if it does not act on the run."""
        titles = {Role.READER: "read-only", Role.REPLAY: "recorded run", Role.PAST: "THE PAST · t lets go"}
        return titles.get(self, "")


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
    Key("home,g", "edge(-1)", "first", "the first worker; again: follow the run", "Home g"),
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
    Key("C", "cancel_all", "cancel all", "cancel all active workers that match; asks first"),
    Key(
        "R",
        "restart_all",
        "restart failed",
        "restart all without success that match; asks first",
        footer=6,
    ),
    Key(
        "N",
        "retry_all_now",
        "retry all now",
        "retry waiting workers that match now; asks first",
    ),
    Key("X", "give_up_all", "give up all", "give up waiting workers that match; asks first"),
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
    Key("m", "map", "map", "a map of all workers; again: close it", footer=6),
    Key("v", "pane", "pane", "a pane below: log of the worker, details, neither", footer=5),
    Key("left_square_bracket", "resize_pane(-1)", "lower pane", "make the pane lower", "["),
    Key("right_square_bracket", "resize_pane(1)", "higher pane", "make the pane higher", "]"),
    Key("h", "columns", "columns", "choose the columns"),
    Key("w", "waits", "waits", "where workers wait, by place: cancel, show workers"),
    Key("b", "limits", "limits", "limits of each key: release, hold, circuits"),
)

PLAYS = (
    Key("space", "play", "play", "play the recorded run, or stop; at its end, from the start", footer=1),
    Key("comma", "step(-1)", "back", "a second back", ","),
    Key("full_stop", "step(1)", "1 s", "a second on", ", .", footer=2),
    Key("less_than_sign", "speed(-1)", "slower", "play slower, down to a quarter of the speed", "<"),
    Key("greater_than_sign", "speed(1)", "speed", "play faster, up to 64 times", "< >", footer=2),
    Key("colon", "jump", "go to", "go to a time: 90, 1:30, 14:03:20 or end", ":", footer=1),
    Key("exclamation_mark", "failure(1)", "failure", "go to the next failure; at the end, to the first", "!", footer=1),
    Key("1", "failure(-1)", "failure before", "go to the failure before", footer=4),
)
"""Keys of a recorded run. There they take precedence over all others."""

ACTING = frozenset(
    {
        *("cancel", "restart", "retry_now", "give_up", "cancel_all", "restart_all", "retry_all_now", "give_up_all"),
        *("pause", "concurrency", "options", "undo"),
        *("release", "hold", "reset", "isolate", "close_circuit", "probe"),
    }
)
"""Actions that act on the run."""
_SUPERVISING = ACTING - {"cancel", "cancel_all"}
"""Actions that need supervised workers."""
_NOT_FOR_READERS = frozenset({"mark", "mark_all"})
"""Marks serve actions, which a read-only dashboard does not have."""
_NOT_IN_THE_PAST = frozenset({"mark", "mark_all", "freeze", "detach"})
"""More actions that a recorded run does not have."""

GLOBAL = (
    Key("l", "log", "log", "the log of all workers", footer=3),
    Key("d", "overhead", "overhead", "what asyncwatch costs, what blocked the event loop"),
    Key("H", "hosts", "hosts", "the processes of a cluster: load, memory, lost ones"),
    Key("p", "freeze", "freeze", "freeze the screen, not the work", footer=5),
    Key("question_mark", "help", "help", "all keys, states and filters", "?", footer=1),
    Key("ctrl+p", "command_palette", "palette", "every action by name, and the theme", footer=7),
    Key("ctrl+l", "redraw", "redraw", "draw the screen anew"),
    Key("ctrl+z", "suspend_process", "suspend", "stop the screen, not the work, until the shell's fg"),
    Key("t", "rewind", "rewind", "show the past of the run, or let it go again"),
    Key("D", "detach", "detach", "leave the run, which goes on", footer=6),
    Key("q", "quit", "quit", "quit, also ctrl+c; asks while workers are active", footer=1),
)
_QUIT_OF_VIEWERS = Key("q", "quit", "leave", "leave the run, which goes on; also ctrl+c", footer=1)


_QUIT_OF_PROGRAMS = Key(
    "q", "quit", "leave", "leave the dashboard; the program goes on (ctrl+c interrupts it)", footer=1
)
_LET_GO = Key("t", "rewind", "let go", "let the past go, and show the run as it is; also esc", footer=1)


def offered(keys: Iterable[Key], role: Role) -> tuple[Key, ...]:
    """Return the keys as they are for this role: who may only look has none that acts."""
    allowed = [key for key in keys if why_refused(key.action, role) is None]
    replaced = {"rewind": _LET_GO} if role is Role.PAST else {}
    if role is Role.PROGRAM:
        replaced["quit"] = _QUIT_OF_PROGRAMS
    elif role is Role.REPLAY:
        replaced["quit"] = _QUIT_OF_VIEWERS._replace(explanation="leave the recorded run; also ctrl+c")
    elif role is not Role.OWNER:
        replaced["quit"] = _QUIT_OF_VIEWERS
    return tuple(replaced.get(key.action, key) for key in allowed)


def why_refused(action: str, role: Role, *, is_observed: bool = False) -> str | None:
    """Return why a dashboard of this role has no such action, in Textual's notation; None if it has it.

    `is_observed` says that the workers are tasks which are not supervised.
    """
    if is_observed and role.acts and _name(action) in _SUPERVISING:
        return "These are tasks of the program itself. asyncwatch only observes them: c cancels, and nothing restarts."
    if not role.acts and is_acting(action):
        is_past = "This is the past of the run. Nothing can act on it."
        return is_past if role.is_past else "This dashboard is read-only. It cannot act on the run."
    if role is Role.READER and _name(action) in _NOT_FOR_READERS:
        return "This dashboard is read-only. It cannot act on the run."
    if role.is_past and _name(action) in _NOT_IN_THE_PAST:
        return "This is the past of the run. Press space to play or stop it."
    if role is Role.REPLAY and _name(action) == "rewind":
        return "This is a recorded run already."
    return None


def is_acting(action: str) -> bool:
    """Return whether an action, in Textual's notation, acts on the run."""
    return _name(action) in ACTING


def _name(action: str) -> str:
    return action.partition("(")[0].rpartition(".")[2]


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
