"""The documentation: one page of Markdown for each topic. `asyncwatch guide` shows them."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

FOLDER = Path(__file__).parent
_KINDS = ("index", "howto", "explain", "reference")
"""The first words of topics. Pages that the index does not link to come last, in this order."""
_LINK = re.compile(r"\]\(([a-z-]+)\.md\)")
_MOST_FOUND = 5

_NOTES = re.compile(r"(?<=^```)([a-z]+) .*$|^<!--.*-->\n\n", re.MULTILINE)


class UnknownTopicError(LookupError):
    """There is no page on a topic. The message lists the topics."""


def topics() -> list[str]:
    """Return the topics: the index, then the pages in the order in which it links to them."""
    known = sorted((path.stem for path in FOLDER.glob("*.md")), key=lambda topic: (_rank(topic), topic))
    if "index" not in known:
        return known
    linked = ["index", *_LINK.findall(path_of("index").read_text(encoding="utf-8"))]
    return sorted(known, key=lambda topic: linked.index(topic) if topic in linked else len(linked))


def _rank(topic: str) -> int:
    kind = topic.partition("-")[0]
    return _KINDS.index(kind) if kind in _KINDS else len(_KINDS)


def find_topic(word: str) -> str:
    """Return the topic that `word` names, in full or without its kind: `keys` stands for `reference-keys`.

    Raises:
        UnknownTopicError: no topic has that name, or several have. The message names pages that have the word.

    """
    known = topics()
    found = [topic for topic in known if topic == word] or [topic for topic in known if topic.endswith(f"-{word}")]
    if len(found) == 1:
        return found[0]
    close = get_close_matches(word, [*known, *(topic.partition("-")[2] for topic in known)], n=1)
    if not close and (having := _topics_having(word)):
        names = ", ".join(having)
        raise UnknownTopicError(f"There is no page on {word!r}. Pages with that word: {names}. All: asyncwatch guide")
    hint = f" Did you mean {close[0]}?" if close else ""
    raise UnknownTopicError(f"There is no page on {word!r}.{hint} Topics: {', '.join(known)}")


def _topics_having(word: str) -> list[str]:
    """Return the topics with a word in their title, then those with most of it in their text."""
    whole = re.compile(rf"(?<!\w){re.escape(word)}(?!\w)", re.IGNORECASE)
    found = {
        topic: (whole.search(title_of(topic)) is not None, len(whole.findall(text_of(topic))))
        for topic in topics()
        if topic != "index"
    }
    having = [topic for topic, (_, number) in found.items() if number]
    return sorted(having, key=lambda topic: found[topic], reverse=True)[:_MOST_FOUND]


def path_of(topic: str) -> Path:
    """Return the file of a topic."""
    return FOLDER / f"{topic}.md"


def title_of(topic: str) -> str:
    """Return the title of a page: its first heading, as plain text."""
    with path_of(topic).open(encoding="utf-8") as page:
        return page.readline().removeprefix("# ").strip().replace("`", "")


def text_of(topic: str) -> str:
    """Return a page for readers: without comments and the notes that stand behind the language of a block of code."""
    return _NOTES.sub(r"\1", path_of(topic).read_text(encoding="utf-8"))
