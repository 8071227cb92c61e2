"""Lines of spans: pieces of text, each with the name of its style. Pure.

All widths are in terminal cells: a wide character counts two.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from asyncwatch import text as units


class Span(NamedTuple):
    """A piece of text and the names of its styles, separated by spaces; empty for the widget's own style."""

    text: str
    style: str = ""


Line = Sequence[Span]


def width_of(line: Iterable[Span]) -> int:
    """Return the width of the line in cells."""
    width = 0
    for text, _ in line:
        width += len(text) if text.isascii() else cell_len(text)
    return width


def crop(text: str, width: int) -> str:
    """Return `text` in at most `width` cells, as Textual counts them; an ellipsis marks a cut."""
    return units.crop(text, width, cell_len)


def crop_middle(text: str, width: int) -> str:
    """Return `text` in at most `width` cells, cut in the middle: names often differ only at the end."""
    if len(text) <= width and (text.isascii() or cell_len(text) <= width):
        return text
    if width < 8:
        return crop(text, width)
    start = set_cell_size(text, (width - 1) // 2).rstrip()
    room = width - 1 - cell_len(start)
    tail = text[-room:]
    while cell_len(tail) > room:
        tail = tail[1:]
    return f"{start}…{tail}"


def crop_path(text: str, width: int) -> str:
    """Return a URL, or any text, in at most `width` cells: the host and the end of the path are kept if they fit.

    Text without a slash, or with too long a host, is cut in the middle.
    """
    scheme, separator, rest = text.rpartition("://")
    host, slash, path = rest.partition("/")
    start = f"{scheme}{separator}{host}{slash}"
    room = width - cell_len(start) - 1
    if cell_len(text) <= width or not slash or room < min(4, cell_len(path)):
        return crop_middle(text, width)
    tail = path[-room:]
    while cell_len(tail) > room:
        tail = tail[1:]
    return f"{start}…{tail}"


def pad(text: str, width: int, *, right: bool = False) -> str:
    """Return `text` in exactly `width` cells, as Textual counts them; `right` aligns it to the right."""
    return units.pad(text, width, cell_len, right=right)


def crop_line(line: Line, width: int) -> list[Span]:
    """Return the line in at most `width` cells; an ellipsis marks a cut."""
    if width_of(line) <= width:
        return list(line)
    result: list[Span] = []
    for span in line:
        room = width - width_of(result)
        if width_of([span]) >= room:
            # The blank makes room for the ellipsis also if the span ends exactly at the edge: more would follow.
            result.append(span._replace(text=crop(span.text + " …", room)))
            break
        result.append(span)
    return result


def spread(left: Line, right: Line, width: int) -> list[Span]:
    """Return one line with `left` at its start and `right` at its end. If they do not fit, `left` is cut."""
    room = max(0, width - width_of(right) - (1 if right else 0))
    shown = crop_line(left, room)
    gap = width - width_of(shown) - width_of(right)
    return crop_line([*shown, Span(" " * gap), *right], width)


def join(parts: Iterable[Line], gap: int = 2) -> list[Span]:
    """Return the parts in one line, `gap` blanks between them; empty parts are left out."""
    result: list[Span] = []
    for part in parts:
        if part:
            result += [Span(" " * gap), *part] if result else part
    return result


def wrap(parts: Iterable[Line], width: int, gap: int = 2) -> list[list[Span]]:
    """Return the parts in as many lines as they need; no part is split."""
    lines: list[list[Span]] = []
    for part in parts:
        if lines and width_of(lines[-1]) + gap + width_of(part) <= width:
            lines[-1] = join([lines[-1], part], gap)
        else:
            lines.append(list(part))
    return lines
