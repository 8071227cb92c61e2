"""The files that tell other programs of a run: JSON of its summary, and JUnit's XML, which every parser can read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

import asyncwatch
from asyncwatch.cli.output import OpenedFile
from asyncwatch.cli.reports import Report, ReportFiles, junit_chunks, summary_values
from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    WorkerCancelled,
    WorkerExhausted,
    WorkerFailed,
    WorkersQueued,
    WorkerSucceeded,
    WorkerTimedOut,
    WorkerUnresponsive,
)
from asyncwatch.guide import text_of
from asyncwatch.journal.store import RunJournal
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.summary import Summary
from tests.model.stream import Stream, ended, failed

ROOT = Path(asyncwatch.__file__).parents[1]
REPORT = Report(
    id="abcdefgh",
    name="jobs:job",
    folder="/data",
    command=["https://me:secret@a.example", "-q"],
    pid=7,
    version="1",
    started=1_000_000_000.0,
    ended=1_000_000_005.0,
    is_alive=False,
    status=1,
    problems=["cannot reach https://me:secret@b.example"],
)


def document(fleet: Fleet, report: Report = REPORT) -> ET.Element:
    return ET.fromstring(b"".join(junit_chunks(report, fleet)))


def outcomes(fleet: Fleet) -> dict[str, str]:
    return {
        case.attrib["name"]: "".join(each.tag for each in case) or "passed" for case in document(fleet).iter("testcase")
    }


def every_end() -> Fleet:
    """Return a fleet with a worker in each state in which one can be at the end of a run."""
    names = ("good", "failed", "exhausted", "late", "stuck", "stopped", "waiting", "running")
    stream = Stream(*names, group="jobs")
    for name in names:
        if name != "waiting":
            stream.add(AttemptStarted, name, attempt=1, bad_luck=0.5)
    stream.add(WorkerSucceeded, "good", **ended(elapsed=1.25))
    stream.add(AttemptFailed, "failed", **failed("no <row> & more", error_type="ValueError"))
    stream.add(WorkerFailed, "failed", **ended(error_type="ValueError", error="no <row> & more"))
    stream.add(WorkerExhausted, "exhausted", **ended(attempts=3, error_type="OSError", error="boom"))
    stream.add(WorkerTimedOut, "late", **ended())
    stream.add(WorkerUnresponsive, "stuck", **ended(stack="jobs.py:3 job", cancels=2))
    stream.add(WorkerCancelled, "stopped", **ended())
    return stream.fold()


def test_each_state_has_its_outcome_and_suites_add_up() -> None:
    fleet = every_end()
    assert outcomes(fleet) == {
        "good": "passed",
        "failed": "failure",
        "exhausted": "failure",
        "late": "error",
        "stuck": "error",
        "stopped": "skipped",
        "waiting": "skipped",
        "running": "skipped",
    }
    root = document(fleet)
    [suite] = root.findall("testsuite")
    for each in (root, suite):
        numbers = [each.attrib[name] for name in ("tests", "failures", "errors", "skipped")]
        assert numbers == ["8", "2", "2", "3"]
    assert (suite.attrib["name"], suite.attrib["timestamp"]) == ("jobs", "2001-09-09T01:46:40")
    properties = {each.attrib["name"]: each.attrib["value"] for each in suite.iter("property")}
    assert properties == {"id": "abcdefgh", "seed": "7", "status": "1"}


def test_failure_has_type_message_and_traceback() -> None:
    case = next(case for case in document(every_end()).iter("testcase") if case.attrib["name"] == "failed")
    [failure] = case
    assert failure.attrib == {"type": "ValueError", "message": "ValueError: no <row> & more"}
    assert failure.text == "  File x\nValueError: no <row> & more\nfailed after 1 attempt"


def test_time_is_that_of_the_worker_in_seconds() -> None:
    stream = Stream("a", group="jobs")
    stream.now = 1.0
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.5)
    stream.now = 3.5
    stream.add(WorkerSucceeded, "a", **ended(elapsed=2.5))
    [case] = document(stream.fold()).iter("testcase")
    assert case.attrib == {"classname": "jobs", "name": "a", "time": "2.500000"}


def test_each_group_is_a_suite_wherever_its_workers_joined() -> None:
    stream = Stream("a1", "a2", group="a")
    stream.add(WorkersQueued, group="b", max_attempts=3, workers=("b1",))
    stream.add(WorkersQueued, group="a", max_attempts=3, workers=("a3",))
    root = document(stream.fold())
    cases = {suite.attrib["name"]: [case.attrib["name"] for case in suite.iter("testcase")] for suite in root}
    assert cases == {"a": ["a1", "a2", "a3"], "b": ["b1"]}
    assert [suite.attrib["tests"] for suite in root] == ["3", "1"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x00\x1b[2J", r"\x00\x1b[2J"),
        ("\ud800", r"\ud800"),
        ("\ufffe\uffff", r"\ufffe\uffff"),
        ("\r\n\t x", "\r\n\t x"),
        ("<a b=\"c\" d='e'>]]>&amp;", "<a b=\"c\" d='e'>]]>&amp;"),
        ("\U0001f600 ß", "\U0001f600 ß"),
        ("https://me:secret@a.example/x", "https://***@a.example/x"),
    ],
)
def test_any_text_can_be_read_by_a_parser(text: str, expected: str) -> None:
    stream = Stream(text, group=text)
    stream.add(AttemptStarted, text, attempt=1, bad_luck=0.5)
    stream.add(AttemptFailed, text, **failed("x", stack=text))
    stream.add(WorkerFailed, text, **ended(error_type="ValueError", error="x"))
    [suite] = document(stream.fold())
    [case] = suite.iter("testcase")
    assert (suite.attrib["name"], case.attrib["classname"], case.attrib["name"]) == (expected, expected, expected)
    assert (case[0].text or "").startswith(f"{expected}\n")


def test_worker_that_never_started_has_not_failed() -> None:
    stream = Stream("late", "never", "stopped", group="jobs")
    stream.add(AttemptStarted, "late", attempt=1, bad_luck=0.5)
    for name, kind, attempts in (
        ("late", WorkerTimedOut, 1),
        ("never", WorkerTimedOut, 0),
        ("stopped", WorkerCancelled, 0),
    ):
        stream.add(kind, name, **ended(attempts))
    root = document(stream.fold())
    messages = {case.attrib["name"]: [each.attrib["message"] for each in case] for case in root.iter("testcase")}
    assert messages == {"late": ["timed out"], "never": ["not started"], "stopped": ["not started"]}
    assert [root.attrib[name] for name in ("tests", "failures", "errors", "skipped")] == ["3", "0", "1", "2"]


def test_run_that_has_not_begun_is_an_empty_document() -> None:
    root = document(Fleet())
    assert (root.tag, root.attrib["tests"], len(root)) == ("testsuites", "0", 0)


def test_many_workers_are_written_as_a_stream() -> None:
    stream = Stream(*(f"w{number}" for number in range(30_000)), group="jobs")
    sizes = [len(chunk) for chunk in junit_chunks(REPORT, stream.fold())]
    assert sum(sizes) > 2_000_000
    assert max(sizes) < 200_000


def test_summary_has_what_the_guide_documents() -> None:
    values = summary_values(REPORT, every_end())
    page = text_of("howto-headless")
    names = [*values, *values["run"], *(field.name for field in fields(Summary))]
    assert [name for name in names if f"`{name}`" not in page] == []
    assert (values["version"], values["status"], values["is_alive"]) == (1, 1, False)
    assert values["summary"]["counts"]["failed"] == 1
    assert values["summary"]["timed_out"] == ["late"]


def test_summary_has_no_secrets_and_any_text(tmp_path: Path) -> None:
    stream = Stream("https://me:secret@c.example", "\ud800", group="jobs")
    for name in ("https://me:secret@c.example", "\ud800"):
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.5)
    files = ReportFiles(str(tmp_path / "summary.json"), None)
    files.write(REPORT, stream.fold())
    text = (tmp_path / "summary.json").read_text()
    assert "secret" not in text
    assert {slow["name"] for slow in json.loads(text)["summary"]["slowest"]} == {"https://***@c.example", "\ud800"}


def test_file_is_replaced_only_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "report"
    path.write_text("before")

    def broken() -> Any:
        yield b"half"
        raise OSError(28, "No space left on device")

    file = OpenedFile(path)
    with pytest.raises(OSError, match="No space"):
        file.write_whole(broken())
    assert path.read_text() == "before"
    OpenedFile(path).write_whole([b"af", b"ter"])
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    files = ReportFiles(str(tmp_path / "folder" / "a.json"), str(tmp_path / "b.xml"))
    (tmp_path / "folder").rmdir()
    files.write(REPORT, every_end())
    [problem] = files.problems
    assert problem.startswith("cannot write summary file ")
    assert "No such file" in problem
    assert ET.parse(tmp_path / "b.xml").getroot().tag == "testsuites"
    with pytest.raises(OSError, match="cannot write JUnit file"):
        ReportFiles(None, str(tmp_path / "folder" / "b.xml"))


# -- of a run


JOBS = """
import asyncio

async def job(item):
    if item == "bad":
        raise ValueError(item)
    if item == "slow":
        await asyncio.Event().wait()
    return item
"""


class Place:
    """A folder with a function, in which the command is run."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        self.folder = folder
        self.sockets = sockets
        (folder / "jobs.py").write_text(JOBS)
        (folder / "state").mkdir()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command with these arguments."""
        own = {"XDG_STATE_HOME": str(self.folder / "state"), "XDG_RUNTIME_DIR": str(self.sockets)}
        own |= {"TMPDIR": str(self.sockets), "PYTHONPATH": str(ROOT)}
        return subprocess.Popen(
            [sys.executable, "-m", "asyncwatch", *arguments],
            cwd=self.folder,
            env={**os.environ, **own},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        with self.start(*arguments) as process:
            stdout, stderr = process.communicate(timeout=60)
        return subprocess.CompletedProcess([], process.returncode, stdout, stderr)

    def items(self, *items: str) -> None:
        """Write the file of items."""
        (self.folder / "items.txt").write_text("".join(f"{item}\n" for item in items))

    def json(self, name: str) -> dict[str, Any]:
        """Read a file of JSON."""
        values: dict[str, Any] = json.loads((self.folder / name).read_text())
        return values

    def cases(self, name: str) -> dict[str, str]:
        """Return the outcome of each test case of a file."""
        root = ET.parse(self.folder / name).getroot()
        return {case.attrib["name"]: case[0].tag if len(case) else "passed" for case in root.iter("testcase")}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with tempfile.TemporaryDirectory(prefix="aw-", dir="/tmp") as sockets:  # the path of a socket is short
        yield Place(tmp_path, Path(sockets))


RUN = ("jobs:job", "--items", "items.txt", "--headless")
FILES = ("--summary-json", "s.json", "--junit", "j.xml")


def test_run_writes_both_files_and_show_writes_the_same(place: Place) -> None:
    place.items("good", "bad")
    assert place.run(*RUN, *FILES).returncode == 1
    first = place.json("s.json")
    assert (first["status"], first["summary"]["counts"]) == (1, {"succeeded": 1, "failed": 1})
    assert first["run"]["command"] == [*RUN, *FILES]
    assert place.cases("j.xml") == {"good": "passed", "bad": "failure"}
    shown = place.run("runs", "show", "jobs:job", "--summary-json", "s2.json", "--junit", "j2.xml")
    assert shown.returncode == 0
    again = place.json("s2.json")
    assert again["summary"] == first["summary"]
    assert (again["run"]["id"], again["status"]) == (first["run"]["id"], 1)
    assert (place.folder / "j2.xml").read_bytes() == (place.folder / "j.xml").read_bytes()


def test_files_of_a_resumed_run_hold_each_item_once_with_its_latest_result(place: Place) -> None:
    place.items("good", "also good", "bad", "gone")
    assert place.run(*RUN, *FILES).returncode == 1
    [first] = json.loads(place.run("runs", "--json").stdout)["runs"]
    place.items("good", "also good", "bad", "new")
    assert place.run("resume", "--headless").returncode == 1
    expected = {"good": "passed", "also good": "passed", "bad": "failure", "gone": "passed", "new": "passed"}
    values = place.json("s.json")
    assert place.cases("j.xml") == expected
    assert values["summary"]["counts"] == {"succeeded": 4, "failed": 1}
    assert (values["summary"]["workers"], values["summary"]["done_before"]) == (5, 2)
    assert values["summary"]["attempts"] == 4 + 2
    [suite] = ET.parse(place.folder / "j.xml").getroot()
    assert [suite.attrib[name] for name in ("tests", "failures", "errors", "skipped")] == ["5", "1", "0", "0"]
    assert len(suite.findall("testcase")) == 5
    shown = place.run("runs", "show", first["id"], "--summary-json", "s2.json", "--junit", "j2.xml")
    assert shown.returncode == 0, shown.stderr
    assert place.cases("j2.xml") == expected
    again = place.json("s2.json")["summary"]
    assert again == values["summary"]


def test_files_of_a_resume_in_which_nothing_is_left_hold_what_was_done(place: Place) -> None:
    place.items("good", "bad")
    assert place.run(*RUN, *FILES).returncode == 1
    [first] = json.loads(place.run("runs", "--json").stdout)["runs"]
    place.items("good")
    assert place.run("resume", first["id"], "--headless").returncode == 0
    assert place.cases("j.xml") == {"good": "passed"}
    values = place.json("s.json")
    assert (values["status"], values["summary"]["counts"]) == (0, {"succeeded": 1})
    assert not values["summary"]["is_interrupted"]


def test_live_resumed_run_shows_what_was_done_before(place: Place) -> None:
    place.items("good", "slow")
    with place.start(*RUN) as process:
        wait_for_outcome(place, "good", "passed")
        process.kill()
        process.communicate(timeout=60)
    place.items("good", "slow", "bad")
    with place.start("resume", "--headless") as process:
        live = wait_for_outcome(place, "bad", "failure")
        assert live == {"good": "passed", "slow": "skipped", "bad": "failure"}
        process.kill()
        process.communicate(timeout=60)


def wait_for_outcome(place: Place, name: str, outcome: str) -> dict[str, str]:
    """Return the test cases of the live run once the one of an item has this outcome."""
    deadline = time.monotonic() + 30
    cases: dict[str, str] = {}
    while cases.get(name) != outcome:
        assert time.monotonic() < deadline, f"{name} is not {outcome}"
        shown = place.run("runs", "show", "jobs:job", "--junit", "live.xml")
        cases = place.cases("live.xml") if shown.returncode == 0 else {}
    return cases


SECRETS = ("hunter2", "swordfish", "tiger", "sesame")
LEAKS = """
import logging

async def job(item):
    try:
        raise OSError("Authorization: Bearer swordfish")
    except OSError as error:
        logging.getLogger("jobs").warning("token=sesame")
        raise ValueError("login: password=hunter2 at https://me:tiger@a.example") from error
"""


def test_secrets_of_errors_leave_in_no_way(place: Place) -> None:
    place.items("a")
    (place.folder / "jobs.py").write_text(LEAKS)
    ended_run = place.run(*RUN, *FILES, "--json", "--output", "out.jsonl")
    [listed] = json.loads(place.run("runs", "--json").stdout)["runs"]
    shown = place.run("runs", "show", listed["id"], "--json", "--junit", "j2.xml", "--summary-json", "s2.json")
    texts = [ended_run.stdout, ended_run.stderr, shown.stdout]
    texts += [(place.folder / name).read_text() for name in ("j.xml", "s.json", "j2.xml", "s2.json", "out.jsonl")]
    with RunJournal(Path(listed["journal"])) as journal:
        texts.append(repr([batch.unpack() for batch in journal.batches(1)]))
        texts.append(repr(journal.launches()))
    for text in texts:
        assert "ValueError" in text or "jobs:job" in text
        assert not [secret for secret in SECRETS if secret in text]
    assert "login: password=*** at https://***@a.example" in texts[3]


def test_live_run_comes_before_a_recorded_one_of_that_name(place: Place) -> None:
    place.items("good")
    assert place.run(*RUN).returncode == 0
    place.items("slow")
    with place.start(*RUN, "--no-journal") as process:
        deadline = time.monotonic() + 30
        while json.loads(place.run("ps", "--json").stdout)["runs"] == []:
            assert time.monotonic() < deadline, "the run was not published"
        shown = json.loads(place.run("runs", "show", "jobs:job", "--json").stdout)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert shown["is_alive"]


@pytest.mark.parametrize("options", [(), ("--no-journal",)])
def test_live_run_can_be_asked_and_ctrl_c_leaves_the_files(place: Place, options: tuple[str, ...]) -> None:
    place.items("good", "bad", "slow")
    with place.start(*RUN, *FILES, *options) as process:
        deadline = time.monotonic() + 30
        live: dict[str, str] = {}
        while live.get("bad") != "failure":
            assert time.monotonic() < deadline, "the run did not show its failure"
            shown = place.run("runs", "show", "jobs:job", "--summary-json", "live.json", "--junit", "live.xml")
            live = place.cases("live.xml") if shown.returncode == 0 else {}
        assert live == {"good": "passed", "bad": "failure", "slow": "skipped"}
        known = place.json("live.json")
        assert (known["is_alive"], known["status"]) == (True, None)
        assert not (place.folder / "s.json").exists()
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    values = place.json("s.json")
    assert (values["is_alive"], values["status"], values["summary"]["is_interrupted"]) == (False, 130, True)
    assert place.cases("j.xml") == {"good": "passed", "bad": "failure", "slow": "skipped"}


def test_file_that_cannot_be_opened_prevents_the_run(place: Place) -> None:
    place.items("good")
    ended_run = place.run(*RUN, "--junit", "missing/j.xml")
    assert ended_run.returncode == 2
    assert "cannot write JUnit file 'missing/j.xml': No such file or directory" in ended_run.stderr


def test_file_that_cannot_be_written_at_the_end_fails_the_run(place: Place) -> None:
    place.items("good")
    (place.folder / "gone").mkdir()
    (place.folder / "jobs.py").write_text("import os\n\nasync def job(item):\n    os.rmdir('gone')\n")
    ended_run = place.run(*RUN, "--junit", "gone/j.xml")
    assert ended_run.returncode == 1
    assert ended_run.stderr.count("cannot write JUnit file 'gone/j.xml'") == 1


def test_config_names_the_files_beside_itself(place: Place) -> None:
    place.items("good")
    (place.folder / "conf").mkdir()
    (place.folder / "conf" / "a.toml").write_text('summary_json = "s.json"\njunit = "j.xml"\n')
    assert place.run(*RUN, "--config", "conf/a.toml").returncode == 0
    assert place.json("conf/s.json")["status"] == 0
    assert place.cases("conf/j.xml") == {"good": "passed"}


def test_reader_that_leaves_is_in_the_summary(place: Place) -> None:
    place.items(*(f"item {number}" for number in range(3_000)))
    with place.start(*RUN, "--json", "--summary-json", "s.json") as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(60) == 141
    assert place.json("s.json")["status"] == 141
