"""The pages of the documentation, their blocks of code, and a folder in which the blocks of a page run."""

from __future__ import annotations

import configparser
import contextlib
import http.server
import json
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from asyncwatch.cli.main import main
from asyncwatch.events import decode, encode
from tests.metrics.reading import shown_samples
from tests.terminal.screen import Terminal

ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "tui" / "asyncwatch" / "guide"
README = ROOT / "README.md"
PAGES = [README, *sorted(GUIDE.glob("*.md"))]

_SCRIPTS = sysconfig.get_path("scripts")
_HOST = re.compile(r"https?://([a-z0-9.-]+\.example)\b")
_FILE_NAME = re.compile(r"# ([\w./-]+\.\w+)")
_LANGUAGES = {"python", "sh", "console", "toml", "json", "jsonl", "csv", "ini", "yaml", "text"}
_ATTRIBUTES = {"title", "status", "keys", "until", "skip", "needs"}
_DATA = {
    "urls.txt": "https://a.example/\nhttps://b.example/\nhttps://c.example/\n",
    "ids.csv": "id\n10\n20\n30\n",
}
"""Files that a page may use without showing them."""


def tokens_of(page: Path) -> list[Token]:
    """Return the tokens of a page, inline ones included."""
    tokens = MarkdownIt("gfm-like").parse(page.read_text())
    return [each for token in tokens for each in (token, *(token.children or ()))]


@dataclass
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    attributes: dict[str, str]
    text: str

    @property
    def id(self) -> str:
        """The name of its test."""
        return f"{self.page.stem}:{self.line}-{self.language}"

    @property
    def title(self) -> str | None:
        """The file that it shows."""
        first, _, _ = self.text.partition("\n")
        named = _FILE_NAME.fullmatch(first)
        return self.attributes.get("title") or (named and named[1])


def blocks_of(page: Path) -> list[Block]:
    """Return the blocks of a page in their order."""
    found = []
    for token in tokens_of(page):
        assert token.type != "code_block", f"{page.name}:{token.map}: indented code; write a fenced block"
        if token.type == "fence" and token.map is not None:
            language, *attributes = shlex.split(token.info) or [""]
            line = token.map[0] + 1
            assert language in _LANGUAGES, f"{page.name}:{line}: unknown language {language!r}"
            given = dict(each.split("=", 1) for each in attributes)
            assert given.keys() <= _ATTRIBUTES, f"{page.name}:{line}: unknown attributes {token.info!r}"
            found.append(Block(page, line, language, given, token.content))
    return found


# -- a local server for the hosts of examples


_LINKS = {"/index.html": ["a.html", "b.html#top"], "/a.html": ["b.html", "./index.html", "c.html"]}
"""The links of pages in HTML; others have one that is broken."""


class _Site(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen_paths: ClassVar[set[str]]

    def do_GET(self) -> None:
        """Answer as `test_blocks` says."""
        path = re.sub(r"^/[^/]*", "", self.path)
        named = re.search(r"/status/(\d{3})\b", path)
        status = int(named[1]) if named else 200
        headers: dict[str, str] = {}
        if "flaky" in path and self._is_first(self.path):  # its host included: pages run side by side
            status = 503
        elif path.startswith("/orders/") and self._is_first("/orders/"):
            status, headers = 429, {"Retry-After": "0.2"}
        elif path.startswith("/orders/") and not path[8:].isdigit():
            status = 404
        if path.endswith(".html"):
            links = "".join(f'<a href="{link}">' for link in _LINKS.get(path, ["status/404"]))
            self._answer(status, links, {"Content-Type": "text/html"})
        else:
            self._answer(status, json.dumps({"path": path}), headers)

    def do_POST(self) -> None:
        """Answer as `do_GET`, or as a language model."""
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self.path.endswith("/chat/completions"):
            self.do_GET()
        elif self._is_first(self.path):
            self._answer(429, "{}", {"Retry-After": "0.2"})
        else:
            question = json.loads(content)["messages"][0]["content"]
            text = json.dumps({"label": "bad" if re.search("broke|Never", question) else "good"})
            if "Never" in question and self._is_first(question):
                text = f"Sure! {text}"
            message = {"role": "assistant", "content": text}
            self._answer(200, json.dumps({"choices": [{"message": message}], "usage": {"total_tokens": 7}}))

    def _is_first(self, path: str) -> bool:
        is_first = path not in self.seen_paths
        self.seen_paths.add(path)
        return is_first

    def _answer(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        body = text.encode()
        self.send_response(status)
        lengths = {"Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in {**lengths, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name in the base class
        """Log nothing."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The URL of a server that answers for the hosts of the examples."""

    class Site(_Site):
        seen_paths: ClassVar[set[str]] = set()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


# -- a local database


def _postgresql_program(name: str) -> str | None:
    """Return the path of a program of PostgreSQL, which Debian does not put in PATH."""
    folders = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True)
    return shutil.which(name) or shutil.which(name, path=os.pathsep.join(folders))


def has_postgresql() -> bool:
    """Return whether a PostgreSQL server can be started."""
    return all(map(_postgresql_program, ("initdb", "postgres")))


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """Run a PostgreSQL server, without a port, inside the context. Its value is the URL of a database."""
    with tempfile.TemporaryDirectory(prefix="aw-pg-") as name:
        folder, who = Path(name), pwd.getpwuid(os.geteuid())
        if not who.pw_uid:  # it refuses to run as root
            who = pwd.getpwnam("nobody")
            os.chown(folder, who.pw_uid, who.pw_gid)
        as_user: Any = {"user": who.pw_uid, "cwd": folder} if who.pw_uid != os.geteuid() else {}
        as_user |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        options = ["-U", "test", "-A", "trust", "--no-sync", "-D", str(folder / "data")]
        subprocess.run([str(_postgresql_program("initdb")), *options], check=True, **as_user)
        command = [
            str(_postgresql_program("postgres")),
            "-D",
            str(folder / "data"),
            "-k",
            name,
            "-c",
            "listen_addresses=",
            "-F",
        ]
        with subprocess.Popen(command, **as_user) as server:
            try:
                deadline = time.monotonic() + 30
                while "ready" not in _last_line(folder / "data" / "postmaster.pid"):
                    assert server.poll() is None, "PostgreSQL has ended"
                    assert time.monotonic() < deadline, "PostgreSQL does not start"
                    time.sleep(0.02)
                yield f"postgresql://test@/postgres?host={name}"
            finally:
                server.send_signal(signal.SIGINT)  # end without waiting for clients


def _last_line(path: Path) -> str:
    try:
        return path.read_text().splitlines()[-1]
    except (FileNotFoundError, IndexError):
        return ""


# -- execution


class Folder:
    """A folder in which the blocks of a page run, in their order."""

    def __init__(self, path: Path, site: str) -> None:
        self.path = path
        self.site = site
        self._database: dict[str, str] = {}
        self._sockets = self.path / ".run"
        self._sockets.mkdir(mode=0o700)
        for name, text in _DATA.items():
            (self.path / name).write_text(self.local(text))

    def local(self, text: str) -> str:
        """Return `text` with the URLs of examples on the local server."""
        return _HOST.sub(rf"{self.site}\1", text)

    def run(self, block: Block) -> None:
        """Run a block. Without `keys` it has no terminal and no input."""
        if "needs" in block.attributes:
            assert block.attributes["needs"] == "postgresql", f"{block.id}: needs what?"
            with postgresql() as url:
                self._database = {"DATABASE_URL": url}
                self._run(block)
            self._database = {}
        else:
            self._run(block)

    def _run(self, block: Block) -> None:
        text = self.local(block.text)
        if block.title and block.language != "json":
            path = self.path / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        match block.language:
            case "python" if block.title:
                self._check(block, [sys.executable, "-W", "error", "-c", _IMPORT, block.title])
            case "python":
                self._check(block, [sys.executable, "-W", "error", "-c", text])
            case "sh":
                self._run_shell(block, text)
            case "console":
                self._run_session(block)
            case "toml":
                self._check_config(block, text)
            case "json":
                _check_json(block.text)
            case "ini":
                _check_unit(block.text)
            case "yaml":
                assert block.title, f"{block.id} needs a title, because it shows a file"
                _check_rules(block)
            case "text" if not block.title:
                assert not re.search(r"^\s*(\$ |asyncwatch\b)", block.text, re.MULTILINE), "a command: use sh"
            case _:
                assert block.title, f"{block.id} needs a title, because it shows a file"

    def kill_runs(self) -> None:
        """Kill the runs that blocks have left running in the background."""
        for record in self._sockets.glob("*/*.run"):
            with contextlib.suppress(ProcessLookupError):
                os.kill(json.loads(record.read_bytes())["pid"], signal.SIGKILL)

    def _check_config(self, block: Block, text: str) -> None:
        if "[[group]]" not in text:
            text += '\n[[group]]\ntarget = "demo"\n'
        checked = self.path / ".checked.toml"
        checked.write_text(text)
        self._check(block, ["asyncwatch", "check", checked.name])
        checked.unlink()

    def _run_shell(self, block: Block, text: str) -> None:
        command = ["bash", "-euo", "pipefail", "-c", text]
        if "keys" not in block.attributes:
            self._check(block, command)
            return
        until = block.attributes.get("until", "seed")
        is_controlling = "^C" in block.attributes["keys"]  # in a process with threads, only where it is needed
        with Terminal(command, cwd=self.path, env=self._environment(), is_controlling=is_controlling) as terminal:
            terminal.wait_for(lambda screen: until in screen)
            terminal.press(block.attributes["keys"].replace("^C", "\x03"))
            status = terminal.wait_for_exit()
            text = terminal.raw.decode(errors="replace")
        statuses = {0, 130} if "status" not in block.attributes else {int(block.attributes["status"])}
        assert status in statuses, f"{block.id}: status {status} of\n{block.text}\n{text}"

    def _run_session(self, block: Block) -> None:
        """Run each command of a session, and compare what it prints with the lines below it."""
        commands: list[tuple[str, list[str]]] = []
        for line in block.text.splitlines():
            if line.startswith("$ "):
                commands.append((self.local(line[2:]), []))
            else:
                assert commands, f"{block.id} must begin with a command, as in `$ asyncwatch`"
                commands[-1][1].append(line)
        for number, (command, expected) in enumerate(commands, start=1):
            is_last = number == len(commands)
            attributes = block.attributes if is_last else {}
            one = Block(block.page, block.line, "sh", attributes, command)
            if "keys" in attributes:
                assert not expected, f"{block.id}: what a dashboard leaves cannot be compared"
                self._run_shell(one, command)
                continue
            printed = self._check(one, ["bash", "-euo", "pipefail", "-c", command])
            if expected:
                assert _matches(expected, printed), f"{block.id}: {command}\nprinted\n{printed}"

    def _check(self, block: Block, command: list[str]) -> str:
        """Run a command, and return what it prints: standard output, or errors if there is none."""
        done = subprocess.run(
            command,
            cwd=self.path,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        expected = int(block.attributes.get("status", 0))
        everything = f"{block.text}\n{done.stdout}\n{done.stderr}"
        assert done.returncode == expected, f"{block.id}: status {done.returncode} of\n{everything}"
        return re.sub(rf"{re.escape(self.site)}(?=[a-z0-9.-]+\.example)", "https://", done.stdout or done.stderr)

    def _environment(self) -> dict[str, str]:
        """Return the environment: the installed command, no settings of the person who runs the tests, and no runs."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("XDG_", "ASYNCWATCH", "PYTHON"))}
        sockets = dict.fromkeys(("XDG_RUNTIME_DIR", "TMPDIR"), str(self._sockets))
        return {
            **kept,
            **sockets,
            **self._database,
            "HOME": str(self.path),
            "PATH": f"{_SCRIPTS}{os.pathsep}{os.environ['PATH']}",
        }


_IMPORT = "import runpy, sys; sys.path.insert(0, ''); runpy.run_path(sys.argv[1], run_name='imported')"


def _matches(expected: list[str], printed: str) -> bool:
    """Return whether the lines are as expected. `...` stands for any text, and on a line of its own for any lines."""
    pattern = "".join(
        "(?:.*\n)*" if line == "..." else ".*".join(map(re.escape, line.split("..."))) + "\n" for line in expected
    )
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in printed.rstrip().splitlines())) is not None


def _check_json(text: str) -> None:
    try:
        documents = [json.loads(text)]
        lines = [text]
    except ValueError:
        lines = text.splitlines()
        documents = [json.loads(line) for line in lines]
    for line, document in zip(lines, documents, strict=True):
        if "event" in document:
            assert encode(decode(line)).decode() == line.strip()


def _check_rules(block: Block) -> None:
    names, labels = shown_samples()
    unknown = set(re.findall(r"\basyncwatch_\w+", block.text)) - names
    assert not unknown, f"{block.id}: no such metric: {unknown}"
    unknown = set(re.findall(r'(\w+)(?:=|!=|=~|!~)"', block.text)) - labels
    assert not unknown, f"{block.id}: no such label: {unknown}"


def _check_unit(text: str) -> None:
    unit = configparser.ConfigParser()
    unit.read_string(text)
    for section in unit.values():
        if "execstart" in section:  # the parser folds the case of keys
            _, *arguments = shlex.split(section["execstart"])
            main.make_context("asyncwatch", arguments)
