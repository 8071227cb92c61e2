"""The documentation: one page of Markdown for each topic. `asyncwatch guide` shows them."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

FOLDER = Path(__file__).parent
_KINDS = ("index", "howto", "explain", "reference")
"""The first words of topics, in the order of the contents."""

_NOTES = re.compile(r"(?<=^```)([a-z]+) .*$|^<!--.*-->\n\n", re.MULTILINE)


class UnknownTopicError(LookupError):
    """There is no page on a topic. The message lists the topics."""


def topics() -> list[str]:
    """Return the topics: the index, then the pages of each kind."""
    return sorted((path.stem for path in FOLDER.glob("*.md")), key=lambda topic: (_rank(topic), topic))


def _rank(topic: str) -> int:
    kind = topic.partition("-")[0]
    return _KINDS.index(kind) if kind in _KINDS else len(_KINDS)


def find_topic(word: str) -> str:
    """Return the topic that `word` names, in full or without its kind: `keys` stands for `reference-keys`.

    Raises:
        UnknownTopicError: no topic has that name, or several have.

    """
    known = topics()
    found = [topic for topic in known if topic == word] or [topic for topic in known if topic.endswith(f"-{word}")]
    if len(found) == 1:
        return found[0]
    close = get_close_matches(word, [*known, *(topic.partition("-")[2] for topic in known)], n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UnknownTopicError(f"There is no page on {word!r}.{hint} Topics: {', '.join(known)}")


def path_of(topic: str) -> Path:
    """Return the file of a topic."""
    return FOLDER / f"{topic}.md"


def title_of(topic: str) -> str:
    """Return the title of a page: its first heading."""
    with path_of(topic).open(encoding="utf-8") as page:
        return page.readline().removeprefix("# ").strip()


def text_of(topic: str) -> str:
    """Return a page for readers: without comments and the notes that stand behind the language of a block of code."""
    return _NOTES.sub(r"\1", path_of(topic).read_text(encoding="utf-8"))
