"""The documentation on the screen: a contents tree, a page, and a search through all pages."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from markdown_it import MarkdownIt
from markdown_it.rules_core import StateCore
from rich.text import Text
from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Input, Label, Markdown, MarkdownViewer, Tree
from textual.widgets.markdown import MarkdownBlock

from asyncwatch import guide
from asyncwatch.ui.keys import Key, bindings
from asyncwatch.ui.render.styles import STYLE_CLASSES
from asyncwatch.ui.widgets.footer import KeyLine

KEYS = (
    Key("q", "quit", "quit", "quit, also ctrl+c", footer=1),
    Key("tab", "focus_next", "contents", "from the page to the contents, and back", footer=1),
    Key("slash", "search", "search", "search all pages", "/", footer=1),
    Key("n", "match(1)", "next", "the next match", "n N", footer=2),
    Key("N", "match(-1)", "previous", "the match before"),
    Key("b,backspace", "back", "back", "the page before", "b", footer=1),
    Key("j", "scroll(1)", "scroll", "scroll down, or up", "j k", footer=3),
    Key("k", "scroll(-1)", "up", "scroll up"),
)


_ROOMY = 100
"""Columns from which the contents are shown beside the page."""


class _Place(NamedTuple):
    """A line of a page, counted from 0."""

    topic: str
    line: int


class _Heading(NamedTuple):
    """A heading of the page that is shown."""

    block_id: str


def _parser() -> MarkdownIt:
    """Return a parser that leaves out the notes for tests behind the language of a block of code."""

    def leave_out_notes(state: StateCore) -> None:
        for token in state.tokens:
            if token.type == "fence":
                token.info = token.info.partition(" ")[0]

    parser = MarkdownIt("gfm-like")
    parser.core.ruler.push("notes", leave_out_notes)
    return parser


class _Page(MarkdownViewer):
    """A page. Links to other pages open here, others in the browser."""

    def __init__(self) -> None:
        super().__init__(show_table_of_contents=False, parser_factory=_parser, open_links=False)

    @property
    def topic(self) -> str:
        """The topic of the page that is shown."""
        path, _ = Markdown.sanitize_location(str(self.navigator.location))
        return path.stem

    def on_markdown_link_clicked(self, message: Markdown.LinkClicked) -> None:
        """Open a link to the web in the browser."""
        if "://" in message.href:
            message.prevent_default()
            self.app.open_url(message.href)

    def show_line(self, line: int) -> None:
        """Scroll to a line of the page's text."""
        around = [block for block in self.query(MarkdownBlock) if block.source_range[0] <= line < block.source_range[1]]
        if around:
            block = min(around, key=lambda each: each.source_range[1] - each.source_range[0])
            first, end = block.source_range
            block.call_after_refresh(self._scroll_into, block, (line - first) / (end - first))

    def _scroll_into(self, block: MarkdownBlock, share: float) -> None:
        """Scroll to the line of a block below that share of its height."""
        self.scroll_relative(y=block.region.y - self.region.y + int(share * block.region.height), animate=False)


class GuideApp(App[None]):
    """Shows the documentation, at first the page of `topic`."""

    TITLE = "asyncwatch guide"
    CSS_PATH = "asyncwatch.tcss"
    CSS = """
    #contents { width: 34; padding: 0 1; background: $surface; scrollbar-size-vertical: 1; overflow-x: hidden; }
    MarkdownViewer { background: $background; scrollbar-size-vertical: 1; }
    .-narrow #contents { display: none; }
    #search { height: 1; display: none; padding: 0 1; background: $surface; }
    #search Input { width: 40; }
    #search #found { width: 1fr; color: $text-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = set(STYLE_CLASSES)
    ENABLE_COMMAND_PALETTE = False
    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(KEYS),
        Binding("ctrl+c,ctrl+q", "quit", "quit", show=False, priority=True),
        Binding("escape", "leave_search", show=False),
    ]

    def __init__(self, topic: str) -> None:
        super().__init__()
        self._first_topic = topic
        self._contents: Tree[str | _Heading] = Tree("guide", id="contents")
        self._page = _Page()
        self._word = Input(placeholder="search all pages", id="word", compact=True)
        self._found = Label("", id="found", markup=False)
        self._is_in_contents = False
        self._matches: list[_Place] = []
        self._match = 0

    def compose(self) -> ComposeResult:
        """Yield the contents beside the page, the search, and the keys."""
        with Horizontal():
            yield self._contents
            yield self._page
        with Horizontal(id="search"):
            yield self._word
            yield self._found
        yield KeyLine(KEYS)

    async def on_mount(self) -> None:
        """List the pages, and open the first one."""
        self._contents.show_root = False
        self._contents.auto_expand = False
        for topic in guide.topics():
            self._contents.root.add(Text(guide.title_of(topic)), topic, allow_expand=False)
        await self._open(self._first_topic)
        self._go(to_contents=False)

    async def on_markdown_viewer_navigator_updated(self) -> None:
        """Show the headings of the page below its title."""
        for node in self._contents.root.children:
            node.remove_children()
            if node.data == self._page.topic:
                for level, title, block_id in self._page.document.table_of_contents:
                    if level == 2 and block_id is not None:
                        node.add_leaf(Text(title), _Heading(block_id))
                node.expand()
                self._contents.move_cursor(node)

    async def on_tree_node_selected(self, message: Tree.NodeSelected[str | _Heading]) -> None:
        """Open the page, or go to the heading."""
        match message.node.data:
            case _Heading(block_id):
                self._page.scroll_to_widget(self._page.query_one(f"#{block_id}"), top=True, animate=False)
            case str(topic):
                await self._open(topic)
        self._go(to_contents=False)

    async def _open(self, topic: str) -> None:
        await self._page.go(guide.path_of(topic))
        self._page.scroll_home(animate=False)

    def on_resize(self, event: events.Resize) -> None:
        """Show the contents if there is room for them."""
        self._fit(event.size.width)

    def action_focus_next(self) -> None:
        """Go to the contents, or back to the page."""
        self._go(to_contents=not self._is_in_contents)

    action_focus_previous = action_focus_next

    def _go(self, *, to_contents: bool) -> None:
        self._is_in_contents = to_contents
        self._fit(self.size.width)
        (self._contents if to_contents else self._page.document).focus()

    def _fit(self, width: int) -> None:
        """Without much room the page takes the place of the contents."""
        self.set_class(width < _ROOMY and not self._is_in_contents, "-narrow")

    async def action_back(self) -> None:
        """Go to the page before."""
        await self._page.back()

    def action_scroll(self, lines: int) -> None:
        """Scroll the page down by `lines`."""
        self._page.scroll_relative(y=lines, animate=False)

    # -- search

    def action_search(self) -> None:
        """Ask for a word."""
        self.query_one("#search").display = True
        self._word.focus()

    def action_leave_search(self) -> None:
        """Go back to the page."""
        self.query_one("#search").display = False
        self._go(to_contents=False)

    async def on_input_submitted(self, message: Input.Submitted) -> None:
        """Go to the first match from this page on."""
        word = message.value.casefold()
        pages = guide.topics()
        here = pages.index(self._page.topic)
        self._matches = [
            _Place(topic, number)
            for topic in (*pages[here:], *pages[:here])
            for number, line in enumerate(guide.path_of(topic).read_text(encoding="utf-8").splitlines())
            if word and word in line.casefold()
        ]
        self._match = -1
        self._go(to_contents=False)
        await self.action_match(1)

    async def action_match(self, step: int) -> None:
        """Go to the next match, or to the one before."""
        if not self._matches:
            self._found.update("no match")
            return
        self._match = (self._match + step) % len(self._matches)
        self._found.update(f"{self._match + 1} of {len(self._matches)}")
        topic, line = self._matches[self._match]
        if topic != self._page.topic:
            await self._page.go(guide.path_of(topic))
        self._page.show_line(line)


def run_guide(topic: str) -> None:
    """Show the page of a topic until the person quits. Blocks; main thread only."""
    GuideApp(topic).run()
