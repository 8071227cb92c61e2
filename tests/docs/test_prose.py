"""The pages of the documentation: their titles, their links, and the commands and options that their prose names."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from textual._slug import TrackedSlugs

from asyncwatch.cli.ctl import ctl
from asyncwatch.cli.main import COMMANDS, main
from asyncwatch.cli.runs import runs
from tests.docs.pages import GUIDE, PAGES, tokens_of

EVERY = (main, *COMMANDS, *ctl.commands.values(), *runs.commands.values())
PARAMETERS = [parameter for each in EVERY for parameter in each.params]
OPTIONS = {"--help", *(option for each in PARAMETERS for option in (*each.opts, *each.secondary_opts))}


def anchors_of(page: Path) -> set[str]:
    """Return the anchors of the headings of a page, as GitHub and the viewer make them."""
    tokens = tokens_of(page)
    slugs = TrackedSlugs()
    titles = [
        "".join(part.content for part in tokens[number + 1].children or ())
        for number, token in enumerate(tokens)
        if token.type == "heading_open"
    ]
    return {slugs.slug(title) for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_page_begins_with_its_only_title(page: Path) -> None:
    headings = [token for token in tokens_of(page) if token.type == "heading_open"]
    assert [token.tag for token in headings].count("h1") == 1
    assert page.read_text().startswith("# ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_link_of_a_page_leads_somewhere(page: Path) -> None:
    for token in tokens_of(page):
        target = str(token.attrGet("href") or token.attrGet("src") or "")
        if not target or re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), target
        assert not anchor or anchor in anchors_of(path), target
        if page.parent == GUIDE:
            assert path.parent == GUIDE, f"{target} is not in the package, so the viewer cannot open it"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_command_and_option_in_the_prose_exist(page: Path) -> None:
    for token in tokens_of(page):
        if token.type != "code_inline":
            continue
        text = token.content
        if text.startswith("--") and " " not in text:
            assert text in OPTIONS
        elif text.startswith("asyncwatch ") and not re.search(r"\[|\.\.\.|\b[A-Z]{4,}\b", text):
            _, *arguments = shlex.split(text)
            context = main.make_context("asyncwatch", arguments)
            if isinstance(context.command, click.Group) and (below := context._protected_args):
                _, command, _ = context.command.resolve_command(context, below)
                assert command is not None
                command.make_context(command.name, context.args, context)


def test_index_links_to_every_page() -> None:
    linked = {token.attrGet("href") for token in tokens_of(GUIDE / "index.md")}
    assert {page.name for page in PAGES if page.parent == GUIDE} - linked == {"index.md"}
