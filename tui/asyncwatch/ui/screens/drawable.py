"""Mixin for every screen of the dashboard: it fits the terminal, and is drawn anew when its size changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.await_complete import AwaitComplete
from textual.screen import Screen

from asyncwatch.ui.keys import Key

if TYPE_CHECKING:
    _Mixin = Screen[Any]
else:
    _Mixin = object  # it is mixed into plain and modal screens


class Drawable(_Mixin):
    """Mixin for a screen that is drawn when the run has changed, and after each layout."""

    HELP_PAGE: ClassVar[tuple[str, tuple[Key, ...], tuple[tuple[str, str], ...]] | None] = None
    """The fields of its `HelpPage`; None for the main screen, whose keys are all over the help."""

    @property
    def period(self) -> float:
        """Seconds between two changes of the shown times if nothing happens."""
        return float("inf")

    @property
    def period_at_rest(self) -> float:
        """The same while nothing of the run goes on, and run time stands still."""
        return float("inf")

    def draw(self) -> None:
        """Show the present state of the run. A dialog shows none."""

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Close, unless it is closed or covered: Textual would close the screen on top, the second time for a click."""
        return super().dismiss(result) if self.app.screen is self else AwaitComplete()

    def on_resize(self, event: events.Resize) -> None:
        """Lay the screen out in the present size of the terminal, whatever size the event has, then draw it.

        After a layout Textual posts a `Resize` to the screen itself, which is out of date if the terminal has changed
        meanwhile. Two sizes in the queue, with any message between them, would alternate forever without yielding to
        the event loop, or the older size would win. Textual's own handler, which does the layout, runs after this one.
        """
        event.size = self.app.size
        self.call_next(self.draw)  # a callback in the queue would be such a message
