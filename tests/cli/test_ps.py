"""`asyncwatch ps`: the table and the JSON of runs that are alive."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from asyncwatch.cli import main as cli
from asyncwatch.cli.answer import ErrorKind, Failure
from asyncwatch.cli.ps import Found, list_runs, table
from asyncwatch.control import discovery
from asyncwatch.control.client import ConnectionRefusedByRunError, RunGoneError
from asyncwatch.control.discovery import Publication, RunRecord, publish
from asyncwatch.control.protocol import FrameReader, ProtocolError, Refused, RunInfo, message_frame
from asyncwatch.text import cells

INFO = RunInfo(
    has_begun=True,
    workers=1_200,
    settled=900,
    counts={"succeeded": 890, "failed": 10, "running": 100, "queued": 200},
    elapsed=75.0,
    viewers=2,
    is_detached=True,
    is_stopping=False,
)
RECORD = RunRecord(
    id="abcdefgh",
    name="jobs:backfill",
    folder="/srv/site",
    command="asyncwatch jobs:backfill",
    started=1_000_000_000.0,
    pid=1,
    process="",
    machine="",
    version="0.1.0",
    protocol=1,
)


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of sockets, with a short path, in UTC."""
    base = Path(tempfile.mkdtemp(prefix="aw-", dir="/tmp"))
    for variable in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(base))
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield base / "asyncwatch"
    shutil.rmtree(base)
    monkeypatch.undo()
    time.tzset()


def ps(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["ps", *arguments], prog_name="asyncwatch")


@contextlib.contextmanager
def published(name: str) -> Iterator[Publication]:
    publication = publish(name, ["asyncwatch", name], protocol=1, folder="/srv/site")
    with publication.socket:
        yield publication
        publication.withdraw()


def answer(publication: Publication, reply: bytes) -> threading.Thread:
    """Answer a client in a thread, as a run does. Return the thread."""

    def serve() -> None:
        connection, _ = publication.socket.accept()
        with connection:
            reader = FrameReader(1 << 20, is_run=False)
            heard = 0
            while heard < 2 and (data := connection.recv(4096)):
                heard += len(list(reader.feed(data)))
            connection.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


def test_without_runs_says_so_and_succeeds() -> None:
    result = ps()
    assert (result.exit_code, result.stdout, result.stderr) == (0, "No run is alive.\n", "")
    assert json.loads(ps("--json").stdout) == {"version": 1, "runs": [], "problems": []}


def test_runs_are_listed_with_what_they_answer() -> None:
    with published("jobs:backfill") as publication:
        thread = answer(publication, message_frame(INFO))
        heading, line = ps().stdout.splitlines()
        thread.join()
        assert heading.split() == ["ID", "NAME", "PROGRESS", "SINCE", "CLIENTS", "FOLDER"]
        assert line.startswith(
            f"{publication.record.id}  jobs:backfill  900/1,200 200 queued, 100 running, 890 succeeded, "
        )
        assert line.endswith("  2        /srv/site")


def test_json_has_the_documented_fields() -> None:
    with published("jobs:backfill") as publication:
        thread = answer(publication, message_frame(INFO))
        printed = json.loads(ps("--json").stdout)
        thread.join()
    record = publication.record
    expected = {
        "id": record.id,
        "name": "jobs:backfill",
        "folder": "/srv/site",
        "command": "asyncwatch jobs:backfill",
        "pid": os.getpid(),
        "started": round(record.started, 3),
        "version": record.version,
        "state": "running",
        "workers": 1_200,
        "settled": 900,
        "counts": INFO.counts,
        "flapping": 0,
        "clients": 2,
        "is_detached": True,
        "not_recorded": None,
        "error": None,
    }
    assert printed == {"version": 1, "runs": [expected], "problems": []}
    assert cli.ps.help is not None
    documented = cli.ps.help.replace(",", " ").split()
    assert [field for field in expected if field not in documented] == []


def test_runs_that_do_not_answer_are_listed_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncwatch.cli.ps.TIMEOUT", 0.0)
    with published("stalled"):
        assert "stalled  the run does not answer" in ps().stdout
        [run] = json.loads(ps("--json").stdout)["runs"]
        assert run["error"] == {"kind": "timeout", "message": "the run does not answer"}
        unknown = ("state", "workers", "settled", "counts", "clients", "is_detached")
        assert [run[field] for field in unknown] == [None] * len(unknown)


def test_many_runs_are_asked_at_the_same_time() -> None:
    number = 8
    together = threading.Barrier(number, timeout=30)

    def ask(path: str, timeout: float) -> RunInfo:
        assert timeout == 1.0
        together.wait()
        return INFO

    with contextlib.ExitStack() as runs:
        for each in range(number):
            runs.enter_context(published(f"run {each}"))
        answer = list_runs(ask=ask)
    assert sum("900/1,200" in line for line in answer.lines) == number


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ConnectionRefusedByRunError("full", "1,000 clients"), "full", "1,000 clients"),
        (ConnectionRefusedByRunError("a kind of later", "closed"), "protocol", "closed"),
        (ProtocolError("a frame of 2 bytes"), "protocol", "a frame of 2 bytes"),
        (RunGoneError(), "unreachable", "the run cannot be reached: the connection ended"),
        (RunGoneError("Connection refused"), "unreachable", "the run cannot be reached: Connection refused"),
    ],
)
def test_error_of_a_run_is_its_progress(error: Exception, kind: str, reason: str) -> None:
    def ask(path: str, timeout: float) -> RunInfo:
        raise error

    with published("jobs"):
        answer = list_runs(ask=ask)
    assert f"jobs  {reason}" in answer.lines[1]
    assert answer.fields["runs"][0]["error"] == {"kind": kind, "message": reason}


def test_run_of_another_version_says_why_it_refuses() -> None:
    with published("jobs") as publication:
        thread = answer(publication, message_frame(Refused("protocol", "this run is of asyncwatch 9.0")))
        assert "this run is of asyncwatch 9.0" in ps().stdout
        thread.join()


def test_run_that_ends_while_it_is_asked_is_not_listed() -> None:
    with published("ends") as ends, published("stays"):

        def ask(path: str, timeout: float) -> RunInfo | None:
            if path == ends.socket_path:
                ends.end(0)
                raise RunGoneError
            return None

        assert [run["name"] for run in list_runs(ask=ask).fields["runs"]] == ["stays"]


def test_unsafe_folder_is_reported(folder: Path) -> None:
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    result = ps()
    assert (result.exit_code, result.stdout) == (0, "No run is alive.\n")
    assert result.stderr.startswith(f"asyncwatch: The folder of sockets '{folder}' can be entered by other users")
    [problem] = json.loads(ps("--json").stdout)["problems"]
    assert f"asyncwatch: {problem}\n" == result.stderr


def test_system_without_unix_sockets_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    result = ps()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("asyncwatch: Runs can be found")
    assert result.stderr.count("\n") == 1
    assert json.loads(ps("--json").stdout)["error"]["kind"] == "unsupported"


# -- the table


def lines_of(
    columns: int | None = None, *, now: float = 1_000_000_075.0, info: RunInfo | None = INFO, **of: str
) -> list[str]:
    failure = None if info else Failure(ErrorKind.TIMEOUT, "why")
    return table([Found(msgspec.structs.replace(RECORD, **of), info, failure)], now, columns)


@pytest.mark.parametrize("columns", [1, 20, 40, 60, 80, 100, 200])
@pytest.mark.parametrize(
    "name",
    ["jobs", "x" * 300, "名" * 100, "\x1b[2J" * 20, "e\u0301" * 50],
    ids=["short", "long", "wide", "control", "combining"],
)
def test_table_fits_the_terminal(columns: int, name: str) -> None:
    folder = f"/home/{'x' * 100}/{name}/site"
    lines = table([Found(msgspec.structs.replace(RECORD, name=name, folder=folder), INFO)] * 3, 0.0, columns)
    assert len(lines) == 4
    assert all(cells(line) <= columns for line in lines)
    assert all(line.replace("\u0301", "").isprintable() for line in lines)
    if columns >= 60:
        assert all(line.startswith("abcdefgh  ") for line in lines[1:])
        assert all(line.endswith("site") for line in lines[1:])


def test_table_without_a_terminal_cuts_nothing() -> None:
    name = "x" * 500
    assert name in lines_of(name=name)[1]


def test_columns_are_aligned_below_their_headings() -> None:
    runs = [Found(msgspec.structs.replace(RECORD, name=name), INFO) for name in ("a", "名名名", "long name")]
    heading, *lines = table(runs, 0.0, None)
    at = heading.index("PROGRESS")
    assert [cells(line[: line.index("900/")]) for line in lines] == [at] * 3


def test_names_and_folders_are_escaped() -> None:
    line = lines_of(name="a\x1b[2J\nb", folder="/srv/\udcff\u202e")[1]
    assert "a\\x1b[2J\\nb" in line
    assert line.endswith("/srv/\\udcff\\u202e")


def test_json_of_names_that_are_no_utf8_has_their_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncwatch.cli.ps.TIMEOUT", 0.0)
    with published("\udcff\x1b"):
        text = ps("--json").stdout
    assert text[:-1].isprintable()
    assert json.loads(text)["runs"][0]["name"] == "\\udcff\x1b"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "900/1,200 200 queued, 100 running, 890 succeeded, 10 failed"),
        ({"counts": {"running": 3}, "flapping": 1}, "900/1,200 3 running, 1 flapping"),
        ({"is_stopping": True, "counts": {"cancelling": 3}}, "stopping: 900/1,200 3 cancelling"),
        ({"has_begun": False, "workers": 0, "settled": 0, "counts": {}}, "starting"),
        ({"counts": {"a state of later": 3}}, "900/1,200"),
    ],
)
def test_progress(changes: dict[str, object], expected: str) -> None:
    assert f"  {expected}  2001" in lines_of(now=2e9, info=msgspec.structs.replace(INFO, **changes))[1]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (1_000_000_000.0, "01:46 (0 s)"),
        (1_000_000_075.0, "01:46 (1m 15s)"),
        (999_999_000.0, "01:46 (0 s)"),
        (1_000_100_000.0, "2001-09-09 01:46 (1d 03h)"),
    ],
)
def test_since_is_the_local_time_and_how_long_ago(now: float, expected: str) -> None:
    assert f"  {expected}  " in lines_of(now=now)[1]


def test_home_is_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    folders = {"/home/me": "~", "/home/me/site": "~/site", "/home/mexico": "/home/mexico", "/": "/"}
    for folder, shown in folders.items():
        assert lines_of(folder=folder)[1].endswith(f" {shown}")


def test_unknown_number_of_clients_is_a_question_mark() -> None:
    assert lines_of(info=None)[1].split()[-2:] == ["?", "/srv/site"]


def test_started_at_any_time_of_the_record_can_be_shown() -> None:
    for started in (0.0, 250_000_000_000.0):
        assert msgspec.convert(started, discovery.Epoch) == started
        assert table([Found(msgspec.structs.replace(RECORD, started=started), INFO)], 1e9, 80)
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(250_000_000_001.0, discovery.Epoch)
