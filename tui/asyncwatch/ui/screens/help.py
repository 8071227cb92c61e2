"""Every key, every state, and how to filter."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from asyncwatch.events import WorkerState
from asyncwatch.ui.keys import ACTS, GLOBAL, LOOKS, MOVES, PLAYS, RUN, Key, Role, bindings, offered
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.spans import Line, Span, pad, width_of
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.widgets.footer import KeyLine
from asyncwatch.ui.widgets.lines import LinesView

KEYS = (
    Key("escape", "dismiss", "back", "back", "esc", footer=1),
    Key("j", "scroll(1)", "down", "scroll down", "j k", footer=1),
    Key("k", "scroll(-1)", "up", "scroll up"),
)

MEANINGS = {
    WorkerState.QUEUED: "waits for a slot",
    WorkerState.RUNNING: "an attempt is in progress",
    WorkerState.BACKING_OFF: "waits for its next attempt",
    WorkerState.RESTARTING: "waits for its next incarnation",
    WorkerState.WAITING: "held back: throttled, circuit, rate",
    WorkerState.CANCELLING: "cancelled, still running",
    WorkerState.SUCCEEDED: "returned a result",
    WorkerState.FAILED: "an error that a retry cannot fix",
    WorkerState.EXHAUSTED: "no attempt left, or no retry allowed",
    WorkerState.CANCELLED: "stopped on request",
    WorkerState.TIMED_OUT: "still pending at the total timeout",
    WorkerState.UNRESPONSIVE: "ignores its cancellation",
}
FILTERS = (
    ("text", "in name or error, or a state"),
    ("state:failed", "the state starts with it"),
    ("retries>0", "also >= < <= ="),
    ("elapsed>2s", "a time; also last>500ms"),
    ("throttled>0", "asked to wait"),
    ("luck>0.9", "the last draw"),
    ("error:Timeout", "text in the error"),
    ("group:web", "the group's name"),
    ("name~^w1", "regex; also error~, group~"),
    ("a b", "both terms must match"),
    ("a or b", "one of them; ( ) group"),
    ("not a", "it must not match"),
)


def help_lines(width: int, role: Role = Role.OWNER) -> list[Line]:
    """Return the page, in two columns if there is room."""
    plays = PLAYS if role.is_past else ()
    groups = (("PLAY", plays), ("ACT", ACTS), ("RUN", RUN), ("LOOK", LOOKS), ("ALWAYS", GLOBAL))
    left = [line for title, keys in groups if (kept := offered(keys, role)) for line in _keys(title, kept)]
    right = [*_keys("MOVE", MOVES), *_states(), *_filters()]
    if width < 110:
        return [*left, *right][1:]
    half = max(width_of(line) for line in left) + 4
    rows = max(len(left), len(right))
    left, right = (column + [[]] * (rows - len(column)) for column in (left, right))
    lines: list[Line] = []
    for one, two in zip(left, right, strict=True):
        lines.append([*one, Span(" " * (half - width_of(one))), *two])
    return lines[1:]


def _keys(title: str, keys: Iterable[Key]) -> list[Line]:
    lines: list[Line] = [[], [Span(title, "heading")]]
    lines += [[Span(pad(key.cap, 9), "key"), Span(key.explanation)] for key in keys]
    return lines


def _states() -> list[Line]:
    lines: list[Line] = [[], [Span("STATES", "heading")]]
    for state, meaning in MEANINGS.items():
        lines.append([Span(pad(fmt.state_label(state), 16), fmt.state_style(state)), Span(meaning)])
    lines.append([Span(pad(f"{fmt.STRUCK} bad luck", 16), "struck"), Span("the draw injected a fault")])
    return lines


def _filters() -> list[Line]:
    lines: list[Line] = [[], [Span("FILTER", "heading")]]
    return lines + [[Span(pad(term, 16), "key"), Span(meaning)] for term, meaning in FILTERS]


class HelpScreen(Drawable, Screen[None]):
    """One page. Escape closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(KEYS),
        Binding("question_mark", "dismiss", show=False),
    ]

    def __init__(self, role: Role) -> None:
        super().__init__()
        self._role = role
        self._page = LinesView(id="help")

    def compose(self) -> ComposeResult:
        """Yield the page and the keys."""
        yield self._page
        yield KeyLine(KEYS)

    def on_mount(self) -> None:
        """Focus the page, so that the arrows scroll."""
        self._page.focus()

    def draw(self) -> None:
        """Show the page."""
        self._page.show(help_lines(self._page.scrollable_content_region.width, self._role))

    def action_scroll(self, lines: int) -> None:
        """Scroll down by `lines`."""
        self._page.scroll_lines(lines)
