"""`asyncwatch guide`: which page it shows, and how."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from asyncwatch import guide
from asyncwatch.cli.main import main
from tests.terminal.screen import Terminal

COMMAND = str(Path(sysconfig.get_path("scripts")) / "asyncwatch")


def show(*arguments: str) -> Result:
    """Run the command without a terminal."""
    return CliRunner().invoke(main, ["guide", *arguments], prog_name="asyncwatch")


def test_guide_without_a_topic_prints_the_index() -> None:
    result = show()
    assert (result.exit_code, result.output) == (0, guide.text_of("index"))
    assert "(reference-keys.md)" in result.output


def test_topic_can_be_shortened() -> None:
    assert show("keys").output == show("reference-keys").output
    assert show("keys").output.startswith("# Keys")


def test_topic_that_is_unknown_names_the_topics(tmp_path: Path) -> None:
    result = show("kezs")
    assert result.exit_code == 2
    assert "There is no page on 'kezs'. Did you mean keys? Topics: index, " in result.stderr
    assert "reference-keys" in result.stderr


def test_word_that_names_no_page_finds_the_pages_that_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = {
        "index": "# The guide\n\n[b](howto-b.md) [a](howto-a.md) squirrel",
        "howto-a": "# Of a\n\nA squirrel and a squirrel.",
        "howto-b": "# The `squirrel`\n",
        "explain-c": "# No word of squirrels\n",
    }
    for topic, text in pages.items():
        (tmp_path / f"{topic}.md").write_text(text)
    monkeypatch.setattr(guide, "FOLDER", tmp_path)
    result = show("Squirrel")
    assert result.exit_code == 2
    assert "There is no page on 'Squirrel'. Pages with that word: howto-b, howto-a. All: " in result.stderr
    assert guide.topics() == ["index", "howto-b", "howto-a", "explain-c"]
    assert guide.title_of("howto-b") == "The squirrel"


def test_topic_that_several_pages_have_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for topic in ("index", "howto-services", "explain-services"):
        (tmp_path / f"{topic}.md").write_text("# A page\n")
    monkeypatch.setattr(guide, "FOLDER", tmp_path)
    assert show("services").exit_code == 2
    assert show("howto-services").exit_code == 0


def test_plain_page_has_neither_comments_nor_notes_for_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "index.md").write_text(
        '# A page\n\n<!-- made -->\n\n```sh keys="qy" until="x"\nasyncwatch\n```\n\nend\n'
    )
    monkeypatch.setattr(guide, "FOLDER", tmp_path)
    assert show().output == "# A page\n\n```sh\nasyncwatch\n```\n\nend\n"


def test_plain_page_needs_no_library_but_click() -> None:
    code = """
import sys
from click.testing import CliRunner
from asyncwatch.cli.main import main
assert CliRunner().invoke(main, ["guide"]).exit_code == 0
print(*[name for name in ("textual", "rich", "aiohttp", "msgspec", "uvloop", "asyncio") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_page_is_shown_on_the_screen_of_a_terminal(tmp_path: Path) -> None:
    with Terminal([COMMAND, "guide", "exit-codes"], cwd=tmp_path) as terminal:
        terminal.wait_for(lambda text: "Interrupted: Ctrl+C" in text and "q quit" in text)
        terminal.press("q")
        assert terminal.wait_for_exit() == 0
        assert "Traceback" not in terminal.text


@pytest.mark.parametrize(("arguments", "term"), [(["--headless"], "xterm"), ([], "dumb")])
def test_page_is_plain_in_a_dumb_terminal_or_on_request(tmp_path: Path, arguments: list[str], term: str) -> None:
    with Terminal([COMMAND, "guide", "exit-codes", *arguments], cwd=tmp_path, env={"TERM": term}) as terminal:
        assert terminal.wait_for_exit() == 0
        assert "\x1b" not in terminal.raw.decode()
        assert "| 130 |" in terminal.raw.decode()


def test_dumb_terminal_gets_no_dashboard(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text("async def job():\n    return 7\n")
    with Terminal([COMMAND, "jobs:job"], cwd=tmp_path, env={"TERM": "dumb"}) as terminal:
        assert terminal.wait_for_exit() == 0
        assert "\x1b" not in terminal.raw.decode()
        assert "1 succeeded" in terminal.raw.decode()
        assert "no dashboard, since a terminal of the kind TERM=dumb shows no screens" in terminal.raw.decode()
