"""Lines of the log page: a record on one line that scrolls sideways, or folded into as many as it needs. Pure."""

from __future__ import annotations

from rich.cells import cell_len, get_character_cell_size, set_cell_size

from asyncwatch import text as units
from asyncwatch.events import LogRecorded
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.render.columns import scheme_of
from asyncwatch.ui.render.spans import Line, Span, crop_path, pad, width_of

LEVEL_STYLES = {
    "DEBUG": "debug",
    "INFO": "info",
    "WARNING": "warning",
    "ERROR": "error",
    "CRITICAL": "error strong",
}
_LOUD = frozenset({"WARNING", "ERROR", "CRITICAL"})
INDENT = 4
"""Cells before the second line of a folded record."""
LEAST_ROOM = 20
"""Cells for the first line of a message at least; a longer head gets a line of its own."""
_HUGE = 10_000
"""Characters from which text that is not ASCII is folded by characters, not by cells."""


def one_line(log: LogRecorded) -> str:
    """Return the message on one line. The worker has a column of its own."""
    return fmt.safe(" ⏎ ".join(_message(log).splitlines()))


def log_line(log: LogRecorded, name_width: int, skipped: int = 0, found: str = "") -> list[Span]:
    """Return a record in one line: time, level, worker, and the message from cell `skipped` on, `found` highlighted."""
    message = one_line(log)
    if skipped:
        message = f"…{_from_cell(message, skipped)}" if cell_len(message) > skipped else ""
    return [*_head(log, name_width), *_highlighted(message, _style(log), found)]


def height_of(log: LogRecorded, name_width: int, width: int) -> int:
    """Return how many lines `folded_line` makes of the record."""
    return len(_pieces(log, name_width, width))


def folded_lines(log: LogRecorded, name_width: int, width: int, found: str = "") -> list[Line]:
    """Return the whole record in as many lines as it needs, `found` highlighted."""
    pieces, head, style = _pieces(log, name_width, width), _head(log, name_width), _style(log)
    indent = Span(" " * INDENT)
    first: Line = [*head, *_highlighted(pieces[0], style, found)]
    return [first, *([indent, *_highlighted(piece, style, found)] for piece in pieces[1:])]


def fold(text: str, first: int, rest: int) -> list[str]:
    """Return a text without line breaks in pieces: the first one at most `first` cells wide, the others `rest`.

    A piece ends after a space if there is one in its second half.
    """
    if len(text) <= first and (text.isascii() or cell_len(text) <= first):
        return [text]
    # No character is wider than two cells.
    share = 1 if text.isascii() else 2 if len(text) > _HUGE else 0
    pieces: list[str] = []
    start, room = 0, first
    while start < len(text):
        end = start + max(1, room // share) if share else _end(text, start, room)
        if end < len(text) and (space := text.rfind(" ", (start + end) // 2, end)) >= 0:
            end = space + 1
        pieces.append(text[start:end])
        start, room = end, rest
    return pieces


def _end(text: str, start: int, room: int) -> int:
    """Return the end of the characters from `start` on that fit into `room` cells, of one at least."""
    for place in range(start, len(text)):
        room -= get_character_cell_size(text[place])
        if room < 0:
            return max(place, start + 1)
    return len(text)


def _pieces(log: LogRecorded, name_width: int, width: int) -> list[str]:
    first = width - width_of(_head(log, name_width))
    pieces: list[str] = [] if first >= LEAST_ROOM else [""]
    for line in _message(log).splitlines() or [""]:
        pieces += fold(fmt.safe(line), max(2, width - INDENT) if pieces else first, max(2, width - INDENT))
    return pieces


def _head(log: LogRecorded, name_width: int) -> list[Span]:
    name = "-" if log.worker is None else fmt.safe(units.short_name(log.worker))
    bare = name.removeprefix(scheme_of(name))
    return [
        Span(f"{units.clock(log.at)}  ", "muted"),
        Span(f"{pad(log.level.lower(), 8)}  ", LEVEL_STYLES.get(log.level, "info")),
        Span(f"{pad(crop_path(bare, name_width), name_width)}  ", "faint" if log.worker is None else "strong"),
    ]


def _message(log: LogRecorded) -> str:
    return log.message.removeprefix(f"{log.worker}: ")


def _style(log: LogRecorded) -> str:
    return LEVEL_STYLES[log.level] if log.level in _LOUD else ""


def _from_cell(text: str, cell: int) -> str:
    """Return the text from a cell on, without the character before it that would be cut by half."""
    return text[cell:] if text.isascii() else text[len(set_cell_size(text, cell).rstrip(" ")) :]


def _highlighted(text: str, style: str, found: str) -> list[Span]:
    """Return the text in spans, with each occurrence of `found`, in any case, highlighted."""
    if not found:
        return [Span(text, style)]
    spans: list[Span] = []
    lower, start = text.lower(), 0
    if len(lower) != len(text):  # a few characters grow
        lower = text
    while (place := lower.find(found.lower(), start)) >= 0:
        spans += [Span(text[start:place], style), Span(text[place : place + len(found)], "notice")]
        start = place + len(found)
    return [*(span for span in spans if span.text), Span(text[start:], style)]
