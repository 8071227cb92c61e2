"""From names of paint to the colours of the stylesheet, and from lines of spans to strips."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.css.styles import RenderStyles
from textual.strip import Strip
from textual.widget import Widget

from asyncwatch.events import WorkerState
from asyncwatch.ui.render.format import paint_of
from asyncwatch.ui.render.spans import Line, crop_line, width_of

PAINTS = frozenset(
    {f"paint--{paint_of(state)}" for state in WorkerState}
    | {
        f"paint--{name}"
        for name in (
            *("muted", "faint", "strong", "title", "key", "heading", "cursor", "mark", "struck"),
            *("bar", "rest", "spark", "debug", "info", "warning", "error", "notice", "note", "taken"),
        )
    }
)
"""The component classes of the app, for all widgets that draw themselves; asyncwatch.tcss says what they look like.

Were they classes of each widget, their styles would be looked for once for each: a tenth of the time to the first
picture.
"""


if TYPE_CHECKING:
    _Mixin = Widget
else:
    _Mixin = object  # what it is mixed into says whether it can have the focus


class InPaints(_Mixin):
    """A widget that draws itself, in the paints of the app."""

    def get_component_styles(self, *names: str) -> RenderStyles:
        """Return the styles of paints."""
        return self.app.get_component_styles(*names)


class Painted(Strip):
    """A strip that does not keep itself alive.

    Textual's own, undivided, is an entry of its own cache: until the garbage collector comes round, which then takes
    its time beside a fleet of a million.
    """

    __slots__ = ("__weakref__",)

    def divide(self, cuts: Iterable[int]) -> Sequence[Strip]:
        """Return the strip cut at these cells; itself where nothing is cut off."""
        cuts = [cut for cut in cuts if cut <= self.cell_length]
        return [self] if cuts == [self.cell_length] else super().divide(cuts)


class _Look(NamedTuple):
    """A style, and all of it that a blank cell shows."""

    style: Style
    blank: tuple[object, ...]


def _look(style: Style) -> _Look:
    seen = style.underline or style.underline2 or style.strike or style.overline or style.reverse
    return _Look(style, (style.bgcolor, style if seen else None))


class Paint:
    """The styles of one widget, resolved once and kept until its stylesheet rules change."""

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._styles: dict[tuple[str, ...], Style] = {}
        self._lines: dict[tuple[str, ...], tuple[_Look, dict[str, _Look]]] = {}

    def style(self, *names: str) -> Style:
        """Return the style of the widget with the named paints over it, the later ones on top."""
        style = self._styles.get(names)
        if style is None:
            components = (f"paint--{name}" for name in names if name)
            style = self._styles[names] = self._filtered(self._widget.get_visual_style(*components).rich_style)
        return style

    def strip(self, line: Line, width: int, *under: str, left: int = 0, right: int = 0) -> Strip:
        """Return the line in exactly `width` cells; `under` are the paints below those of the spans.

        `left` and `right` are blank cells beside it.
        """
        taken = width_of(line)
        if taken > width:
            line = crop_line(line, width)
            taken = width_of(line)
        ground, looks = self._looks(under)
        segments: list[Segment] = []
        texts = [" " * left] if left else []
        last = self._looks(())[0]
        for text, paint in line:
            if not text:
                continue
            look = looks.get(paint)
            if look is None:
                look = looks[paint] = _look(self.style(*under, *paint.split()))
            # Blanks show nothing of the colour of a text: each style the less is less for the terminal, too.
            if look is not last and not (look.blank == last.blank and texts and text.isspace()):
                if texts:
                    segments.append(Segment("".join(texts), last.style))
                    texts = []
                last = look
            texts.append(text)
        for blanks, look in ((width - taken, ground), (right, self._looks(())[0])):
            if blanks <= 0:
                continue
            if look.blank != last.blank or not texts:
                if texts:
                    segments.append(Segment("".join(texts), last.style))
                    texts = []
                last = look
            texts.append(" " * blanks)
        if texts:
            segments.append(Segment("".join(texts), last.style))
        return Painted(segments, left + width + right)

    def _looks(self, under: tuple[str, ...]) -> tuple[_Look, dict[str, _Look]]:
        """Return the look of a line where no span stands, and those of its spans by their paint, as far as known."""
        known = self._lines.get(under)
        if known is None:
            known = self._lines[under] = (_look(self.style(*under)), {})
        return known

    def forget(self) -> None:
        """Resolve every style anew."""
        self._styles.clear()
        self._lines.clear()

    def _filtered(self, style: Style) -> Style:
        """Return the style as the terminal gets it: what the app does to all colours is done to each once."""
        segments = [Segment(" ", style)]
        background = self._widget.background_colors[1]
        for line_filter in self._widget.get_line_filters():
            segments = line_filter.apply(segments, background)
        return segments[0].style or style
