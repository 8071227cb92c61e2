"""The help: states, filter and keys of the main screen, or the keys of another one."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import ClassVar, NamedTuple

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import Screen

from asyncwatch.events import WorkerState
from asyncwatch.ui.keys import ACTS, GLOBAL, LOOKS, MOVES, PLAYS, RUN, Key, Role, bindings, offered
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.services import FLAPPING
from asyncwatch.ui.render.spans import Line, Span, pad, width_of
from asyncwatch.ui.screens.drawable import Drawable
from asyncwatch.ui.widgets.footer import KeyLine
from asyncwatch.ui.widgets.lines import Block, LinesView

KEYS = (
    Key("escape", "dismiss", "back", "back", "esc", footer=1),
    Key("j", "scroll(1)", "scroll", "scroll down, or up", "j k", footer=1),
    Key("k", "scroll(-1)", "up", "scroll up"),
)
MAIN = Key("question_mark", "more", "main screen", "the help for the main screen", "?", footer=1)

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
MARKS = (
    (f"{fmt.STRUCK} bad luck", "struck", "the draw injected a fault"),
    (f"{FLAPPING} flapping", "warning", "a service that crashes again and again"),
)
"""Marks that stand beside a state: the mark, its style and its meaning."""
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


class Section(NamedTuple):
    """A heading, and what the keys, words or terms below it mean."""

    title: str
    entries: tuple[tuple[str, str, str], ...]
    """Each is a key or a word, the style of that, and its meaning."""


class HelpPage(NamedTuple):
    """The help for one screen."""

    name: str
    """As in "help: the log"."""
    keys: tuple[Key, ...]
    terms: tuple[tuple[str, str], ...] = ()
    """Of the screen's filter, with their meanings."""


_COLUMN = 54
"""Cells of a column in which most meanings need one line."""
_GAP = 3


def help_lines(width: int, role: Role = Role.OWNER, page: HelpPage | None = None) -> list[Line]:
    """Return the help in as many columns as there is room for, no word cut; of the main screen without a `page`."""
    sections = [section for section in _sections(role, page) if section.entries]
    number = min(3, max(1, (width + _GAP) // (_COLUMN + _GAP)), len(sections))
    room = (width - _GAP * (number - 1)) // number
    blocks = [_block(section, room) for section in sections]
    columns = _columns(blocks, number)
    lines: list[Line] = []
    for parts in itertools.zip_longest(*columns, fillvalue=()):
        line: list[Span] = []
        for place, part in enumerate(parts):
            line += [Span(" " * (place * (room + _GAP) - width_of(line))), *part] if place else part
        lines.append(line)
    return lines


def _sections(role: Role, page: HelpPage | None) -> list[Section]:
    always = _keys("ALWAYS", offered(GLOBAL, role))
    if page is not None:
        terms = tuple((term, "key", meaning) for term, meaning in page.terms)
        return [_keys("KEYS HERE", offered(page.keys, role)), Section("FILTER", terms), always]
    states = tuple((fmt.state_label(state), fmt.state_style(state), meaning) for state, meaning in MEANINGS.items())
    plays = PLAYS if role.is_past else ()
    groups = (("PLAY", plays), ("ACT", ACTS), ("LOOK", LOOKS), ("RUN", RUN), ("MOVE", MOVES))
    return [
        Section("STATES", (*states, *MARKS)),
        Section("FILTER", tuple((term, "key", meaning) for term, meaning in FILTERS)),
        *(_keys(title, offered(keys, role)) for title, keys in groups),
        always,
    ]


def _keys(title: str, keys: Sequence[Key]) -> Section:
    """Return a section of keys. The second key of a pair, as of `j k`, has no entry of its own."""
    pairs = {cap for key in keys if " " in key.cap for cap in key.cap.split()}
    seconds = {key for key in keys if key.cap in pairs and key.action.startswith(("scroll", "sideways"))}
    return Section(title, tuple((key.cap, "key", key.explanation) for key in keys if key not in seconds))


def _block(section: Section, width: int) -> list[Line]:
    """Return the lines of a section. A meaning that does not fit goes on below itself."""
    longest = max(width_of([Span(cap)]) for cap, _, _ in section.entries) + 2
    indent = min(longest, max(4, width // 2))
    lines: list[Line] = [[Span(section.title, "heading")]]
    for cap, style, meaning in section.entries:
        first, *more = textwrap.wrap(meaning, max(12, width - indent), break_long_words=False) or [""]
        if width_of([Span(cap)]) < indent:
            lines.append([Span(pad(cap, indent), style), Span(first)])
        else:
            lines += [[Span(cap, style)], [Span(" " * indent), Span(first)]]
        lines += [[Span(" " * indent), Span(rest)] for rest in more]
    return lines


def _columns(blocks: Sequence[list[Line]], number: int) -> list[list[Line]]:
    """Return the blocks one below the other, in so many columns of about the same height."""
    total = sum(len(block) + 1 for block in blocks)
    columns: list[list[Line]] = [[]]
    for block in blocks:
        used = len(columns[-1])
        if used and len(columns) < number and used + len(block) / 2 > total / number:
            columns.append([])
        elif used:
            columns[-1].append(())
        columns[-1] += block
    return columns


class HelpScreen(Drawable, Screen[None]):
    """The help for the screen below. Escape closes it."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(KEYS),
        Binding("question_mark", "more", show=False),
    ]

    def __init__(self, role: Role, page: HelpPage | None = None) -> None:
        super().__init__()
        self._role = role
        self._page = page
        self._title = Block(id="title")
        self._lines = LinesView(id="help")

    def compose(self) -> ComposeResult:
        """Yield the page and the keys."""
        yield self._title
        yield self._lines
        yield KeyLine((*KEYS, MAIN) if self._page is not None else KEYS)

    def on_mount(self) -> None:
        """Focus the page, so that the arrows scroll."""
        self._lines.focus()

    def draw(self) -> None:
        """Show the page."""
        view = self._lines
        name = "the main screen" if self._page is None else self._page.name
        self._title.show([[Span("help", "title"), Span(f"  {name}", "muted")]])
        if width := view.scrollable_content_region.width:
            view.show(help_lines(width, self._role, self._page))

    def action_more(self) -> None:
        """Go from the help of a screen to that of the main screen, and from there back."""
        if self._page is None:
            _ = self.dismiss(None)  # not awaited: a screen cannot wait for its own end
            return
        self._page = None
        self._lines.scroll_to_edge(-1)
        self.draw()

    def action_scroll(self, lines: int) -> None:
        """Scroll down by `lines`."""
        self._lines.scroll_lines(lines)
