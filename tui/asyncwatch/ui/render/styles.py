"""Lines of spans as Textual strips, in the colours of the stylesheet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.css.styles import RenderStyles
from textual.strip import Strip
from textual.widget import Widget

from asyncwatch.events import WorkerState
from asyncwatch.ui.render.format import state_style
from asyncwatch.ui.render.spans import Line, crop_line, width_of

STYLE_CLASSES = frozenset(
    {f"span--{state_style(state)}" for state in WorkerState}
    | {
        f"span--{name}"
        for name in (
            *("muted", "faint", "strong", "title", "key", "heading", "cursor", "mark", "struck"),
            *("bar", "rest", "spark", "debug", "info", "warning", "error", "notice", "note", "sibling", "chosen"),
        )
    }
)
"""Component classes of the app, shared by all widgets that draw spans; asyncwatch.tcss has their rules.

If each widget had its own, Textual would resolve them for each: a tenth of the time to the first frame.
"""


if TYPE_CHECKING:
    _Mixin = Widget
else:
    _Mixin = object  # the class it is mixed into decides whether it can have the focus


class SpanWidget(_Mixin):
    """Mixin for a widget that draws spans: takes their styles from the app."""

    def get_component_styles(self, *names: str) -> RenderStyles:
        """Return the app's styles of these component classes."""
        return self.app.get_component_styles(*names)


class _UncachedStrip(Strip):
    """A strip that reference counting frees.

    Textual's own `divide` caches the strip in itself when nothing is cut off. Only the garbage collector would free
    that cycle, and a collection beside a million workers takes long.
    """

    __slots__ = ("__weakref__",)

    def divide(self, cuts: Iterable[int]) -> Sequence[Strip]:
        """Return the strip cut at these cells; itself where nothing is cut off."""
        cuts = [cut for cut in cuts if cut <= self.cell_length]
        return [self] if cuts == [self.cell_length] else super().divide(cuts)


class _Look(NamedTuple):
    """A style, and the part of it that shows on a blank cell."""

    style: Style
    blank: tuple[object, ...]


def _look(style: Style) -> _Look:
    seen = style.underline or style.underline2 or style.strike or style.overline or style.reverse
    return _Look(style, (style.bgcolor, style if seen else None))


class StripMaker:
    """Makes strips of spans for one widget. Styles are resolved once and kept until `forget`."""

    def __init__(self, widget: Widget) -> None:
        self._widget = widget
        self._styles: dict[tuple[str, ...], Style] = {}
        self._looks_by_base: dict[tuple[str, ...], tuple[_Look, dict[str, _Look]]] = {}

    def strip(self, line: Line, width: int, *base: str, left: int = 0, right: int = 0) -> Strip:
        """Return the line in exactly `width` cells; `base` are the styles below those of the spans.

        `left` and `right` are blank cells beside it.
        """
        taken = width_of(line)
        if taken > width:
            line = crop_line(line, width)
            taken = width_of(line)
        ground, looks = self._looks(base)
        segments: list[Segment] = []
        texts = [" " * left] if left else []
        last = self._looks(())[0]
        for text, style in line:
            if not text:
                continue
            look = looks.get(style)
            if look is None:
                look = looks[style] = _look(self._style(*base, *style.split()))
            # Blanks show no text colour. Each style change that is left out is less to write to the terminal.
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
        return _UncachedStrip(segments, left + width + right)

    def forget(self) -> None:
        """Resolve every style anew."""
        self._styles.clear()
        self._looks_by_base.clear()

    def _looks(self, base: tuple[str, ...]) -> tuple[_Look, dict[str, _Look]]:
        """Return the look of blank cells, and the known looks of spans by style."""
        known = self._looks_by_base.get(base)
        if known is None:
            known = self._looks_by_base[base] = (_look(self._style(*base)), {})
        return known

    def _style(self, *names: str) -> Style:
        """Return the widget's style with the named styles over it, later ones on top."""
        style = self._styles.get(names)
        if style is None:
            components = (f"span--{name}" for name in names if name)
            style = self._styles[names] = self._filtered(self._widget.get_visual_style(*components).rich_style)
        return style

    def _filtered(self, style: Style) -> Style:
        """Return the style with the app's colour filters applied, once instead of on every line."""
        segments = [Segment(" ", style)]
        background = self._widget.background_colors[1]
        for line_filter in self._widget.get_line_filters():
            segments = line_filter.apply(segments, background)
        return segments[0].style or style
