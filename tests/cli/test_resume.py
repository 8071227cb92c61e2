"""What succeeded is not run again, everything else is, whatever becomes of the list of items meanwhile."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import asyncwatch
from asyncwatch.cli import command
from asyncwatch.journal.identity import idempotency_key
from asyncwatch.journal.store import RunJournal, locked

ROOT = Path(asyncwatch.__file__).parents[1]
KILLS = int(os.environ.get("ASYNCWATCH_SOAK", "3"))
"""How often a run is killed. 200 take some minutes."""

JOBS = """
import asyncio, json, os

async def job(item):
    item = item if isinstance(item, str) else item["id"]
    with open("calls", "a") as file:
        file.write(f"{item}\\n")
    if "slow" in os.environ.get("MODE", ""):
        await asyncio.sleep(0.02)
    if item.startswith("wait"):
        await asyncio.Event().wait()
    if item.startswith("bad") and "mended" not in os.environ.get("MODE", ""):
        raise (TimeoutError if "late" in item else ValueError)(item)
    if "object" in os.environ.get("MODE", "") and item.startswith("lost"):
        return object()
    return asyncwatch.current_worker().idempotency_key if "keys" in os.environ.get("MODE", "") else item

async def poll():
    open("polls", "a").close()

import asyncwatch
"""


class Place:
    """A folder with a function and items, in which runs are started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "state" / "asyncwatch" / "runs"
        (folder / "jobs.py").write_text(JOBS)

    def start(self, *arguments: str, mode: str = "") -> subprocess.Popen[str]:
        """Start the command with these arguments."""
        env = {"XDG_STATE_HOME": str(self.folder / "state"), "PYTHONPATH": f"{self.folder}:{ROOT}", "MODE": mode}
        return subprocess.Popen(
            [sys.executable, "-m", "asyncwatch", *arguments],
            stdin=subprocess.PIPE,
            cwd=self.folder,
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, mode: str = "", stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        with self.start(*arguments, mode=mode) as process:
            stdout, stderr = process.communicate(stdin, timeout=60)
        return subprocess.CompletedProcess([], process.returncode, stdout, stderr)

    def items(self, *lines: str) -> None:
        """Write the file of items."""
        (self.folder / "items.txt").write_text("".join(f"{line}\n" for line in lines))

    def calls(self) -> list[str]:
        """Return the items of all calls since the last look."""
        path = self.folder / "calls"
        lines = path.read_text().split() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def names(self, output: str = "out.jsonl") -> list[str]:
        """Return the names and states in the output file."""
        lines = map(json.loads, (self.folder / output).read_text().splitlines())
        return [f"{line['name']} {line['state']}" for line in lines]

    def results(self, output: str) -> dict[str, Any]:
        """Return the results in an output file, by name."""
        lines = map(json.loads, (self.folder / output).read_text().splitlines())
        return {line["name"]: line["result"] for line in lines}

    @property
    def journals(self) -> list[Path]:
        return sorted(self.runs.glob("*.sqlite"), key=lambda path: path.stat().st_mtime)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_resume_runs_what_did_not_succeed_and_the_output_holds_every_item_once(place: Place) -> None:
    place.items("a", "b", "bad", "gone")
    assert place.run("jobs:job", "--items", "items.txt", "--output", "out.jsonl").returncode == 1
    place.calls()
    place.items("new", "bad", "b", "a")
    dry = place.run("resume", "--dry-run")
    assert (dry.returncode, dry.stdout) == (0, "2 done · 1 failed, run again · 1 new · 1 gone\n")
    lists = {kind: place.run("resume", "--list", kind).stdout.split() for kind in ("done", "failed", "new", "gone")}
    assert lists == {"done": ["b", "a"], "failed": ["bad"], "new": ["new"], "gone": ["gone"]}
    assert place.calls() == []
    ended = place.run("resume", mode="mended")
    assert (ended.returncode, sorted(place.calls())) == (0, ["bad", "new"])
    assert "2 done · 1 failed, run again · 1 new · 1 gone" in ended.stderr
    assert sorted(place.names()) == [f"{name} succeeded" for name in ("a", "b", "bad", "gone", "new")]
    [path] = place.journals
    with RunJournal(path) as journal:
        assert [launch.done_before for launch in journal.launches()] == [0, 2]
    again = place.run("resume")
    assert (again.returncode, place.calls()) == (0, [])
    assert "nothing to resume" in again.stderr
    assert "nothing to repeat: no run of this folder" in place.run("again").stderr
    assert f"nothing failed in run {path.stem}" in place.run("again", path.stem).stderr
    assert place.run("resume", path.stem[:4]).returncode == 0
    assert place.calls() == []


def test_changed_content_under_the_same_name_is_run_again(place: Place) -> None:
    table = place.folder / "items.csv"
    table.write_text("id,x\n1,a\n2,b\n")
    place.run("jobs:job", "--items", "items.csv", "--name", "id", "--output", "out.csv")
    place.calls()
    table.write_text("id,x\n2,b\n1,changed\n")
    [path] = place.journals
    assert place.run("resume", path.stem, "--dry-run").stdout == "1 done · 1 changed\n"
    assert place.run("resume", path.stem).returncode == 0
    assert place.calls() == ["1"]
    lines = (place.folder / "out.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ['"name"', '"2"', '"1"']


@pytest.mark.timeout(60 + 5 * KILLS)
def test_resumes_of_killed_resumes_lose_nothing_and_repeat_only_what_was_in_flight(place: Place) -> None:
    items = [f"i{number}" for number in range(40 * KILLS)]
    place.items(*items)
    arguments = ["jobs:job", "--items", "items.txt", "--concurrency", "5", "--output", "out.jsonl"]
    calls: list[str] = []
    for attempt in range(KILLS):
        process = place.start(*(["resume"] if attempt else arguments), mode="slow")
        deadline = time.monotonic() + 60
        while not (place.folder / "calls").exists() or len(
            (place.folder / "calls").read_text().split()
        ) < random.randint(5, 30):
            assert time.monotonic() < deadline, "the workers do not start"
            assert process.poll() is None, process.communicate()
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        calls += place.calls()
    assert place.run("resume").returncode == 0
    calls += place.calls()
    assert set(calls) == set(items)
    assert sum(Counter(calls).values()) - len(items) <= KILLS * 40
    assert sorted(place.names()) == sorted(f"{item} succeeded" for item in items)


def test_run_of_which_results_could_not_be_recorded_is_found_and_said(place: Place) -> None:
    place.items("a", "lost-1", "lost-2")
    ended = place.run("jobs:job", "--items", "items.txt", "--output", "out.jsonl", mode="object")
    [path] = place.journals
    said = "2 results could not be recorded, because JSON cannot hold them: asyncwatch resume"
    assert ended.returncode == 0
    assert f"{said} {path.stem} runs them again" in ended.stderr
    assert f"{said} {path.stem}" in place.run("runs", "show", path.stem).stdout
    assert "2 results not recorded" in place.run("runs").stdout
    assert place.run("again", "--dry-run").stdout == "1 done · 2 failed, run again\n"
    place.calls()
    ended = place.run("resume")
    assert (ended.returncode, sorted(place.calls())) == (0, ["lost-1", "lost-2"])
    assert "could not be recorded" not in ended.stderr
    assert "nothing to resume" in place.run("resume").stderr
    assert sorted(place.names()) == [f"{name} succeeded" for name in ("a", "lost-1", "lost-2")]


def test_run_in_a_folder_that_another_config_names_is_found(place: Place) -> None:
    (place.folder / "conf").mkdir()
    config = place.folder / "conf" / "other.toml"
    config.write_text('journal_dir = "kept"\n[[group]]\ntarget = "jobs:job"\nitems = "../items.txt"\n')
    place.items("a", "bad")
    assert place.run("--config", "conf/other.toml", "--headless").returncode == 1
    [path] = (config.parent / "kept").glob("*.sqlite")
    assert path.stem in place.run("runs").stdout
    assert place.run("runs", "show", path.stem).returncode == 0
    assert place.run("again", path.stem, "--dry-run").stdout == "1 done · 1 failed, run again\n"
    assert "needs a terminal" in place.run("replay", path.stem).stderr
    place.calls()
    assert place.run("resume", mode="mended").returncode == 0
    assert place.calls() == ["bad"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_run_whose_journal_was_cut_goes_on_with_what_can_be_read(place: Place, share: float) -> None:
    names = [f"i{number:03}" for number in range(300)]
    place.items(*names, "bad")
    assert place.run("jobs:job", "--items", "items.txt", "--output", "out.jsonl").returncode == 1
    first = place.calls()
    [path] = place.journals
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "damaged" in place.run("runs").stdout
    assert place.run("runs", "show", path.stem).returncode != 0
    dry = place.run("resume", "--dry-run")
    assert (dry.returncode, path.stat().st_size) == (0, int(len(data) * share))
    assert "the journal was damaged: " in dry.stdout
    listed = place.run("resume", "--list", "done")
    done = listed.stdout.split()
    ended = place.run("resume", mode="mended")
    second = place.calls()
    assert ended.returncode == 0
    assert "Items whose end is lost run again; the damaged file is " in ended.stderr
    assert sorted([*second, *done]) == sorted([*names, "bad"])
    assert set(done) <= set(first)
    assert sorted(place.names()) == sorted(f"{name} succeeded" for name in (*names, "bad"))
    assert list(path.parent.glob("*.damaged1"))
    assert "Traceback" not in dry.stderr + listed.stderr + ended.stderr
    assert place.run("runs", "rm", path.stem).returncode == 0
    assert list(path.parent.glob(f"{path.stem}.*")) == []


def test_items_that_had_not_started_when_the_time_was_over_are_unfinished(place: Place) -> None:
    place.items("a", "wait-1", "wait-2", "b")
    arguments = ["jobs:job", "--items", "items.txt", "--concurrency", "1", "--timeout", "0.5s", "--headless"]
    ended = place.run(*arguments)
    assert ended.returncode == 1
    assert "1 succeeded, 3 timed out (2 not started); " in ended.stdout
    assert "2 not started" in place.run("runs").stdout
    assert place.run("resume", "--dry-run").stdout == "1 done · 1 failed, run again · 2 unfinished\n"
    assert place.run("resume", "--list", "unfinished").stdout.split() == ["wait-2", "b"]


def test_resume_without_a_journal_is_refused_and_a_repeat_is_not(place: Place) -> None:
    place.items("a", "bad")
    place.run("jobs:job", "--items", "items.txt")
    place.calls()
    refused = place.run("resume", "--no-journal")
    assert (refused.returncode, place.calls()) == (2, [])
    assert "asyncwatch again --no-journal" in refused.stderr
    assert place.run("again", "--no-journal", mode="mended").returncode == 0
    assert (place.calls(), len(place.journals)) == (["bad"], 1)


def test_run_that_is_alive_is_refused_with_its_pid(place: Place) -> None:
    place.items("a", "bad")
    place.run("jobs:job", "--items", "items.txt")
    [path] = place.journals
    with locked(path):
        refused = place.run("resume")
    assert refused.returncode == 2
    assert str(os.getpid()) in refused.stderr


def test_again_is_a_new_run_of_what_failed_and_its_own_resume_adds_nothing(place: Place) -> None:
    place.items("a", "bad", "bad-late", "b")
    place.run("jobs:job", "--items", "items.txt", "--output", "out.jsonl", "--max-attempts", "1")
    [first] = place.journals
    place.calls()
    place.items("a", "bad", "bad-late", "new", "b")
    assert place.run("again", "--only", "error:Timeout").returncode == 1
    assert place.calls() == ["bad-late"]
    assert sorted(place.names()) == ["a succeeded", "b succeeded", "bad-late exhausted"]
    second = place.journals[-1]
    with RunJournal(second) as journal:
        assert (journal.info.root, journal.info.parent) == (first.stem, first.stem)
    assert place.run("resume", second.stem, mode="mended").returncode == 0
    assert place.calls() == ["bad-late"]
    assert sorted(place.names()) == ["a succeeded", "b succeeded", "bad-late succeeded"]
    refused = place.run("again", first.stem, "--only", "error:Nothing")
    assert (refused.returncode, place.calls()) == (2, [])


def test_only_is_part_of_what_is_said_before_the_start(place: Place) -> None:
    place.items("a", "bad-1", "bad-2", "bad-late")
    place.run("jobs:job", "--items", "items.txt", "--max-attempts", "1")
    dry = place.run("again", "--only", "error:ValueError", "--dry-run")
    assert dry.stdout == "1 done · 3 failed, run again\n2 of them run, by --only error:ValueError\n"
    assert place.run("again", "--only", "*late", "--list", "failed").stdout == "bad-late\n"
    assert "1 of them run, by --only *late\n" in place.run("again", "--only", "*late").stderr


@pytest.mark.parametrize("arguments", [[], ["a-name"]])
def test_journal_that_cannot_be_read_is_named_if_no_other_one_fits(place: Place, arguments: list[str]) -> None:
    place.items("a", "bad")
    place.run("jobs:job", "--items", "items.txt")
    [path] = place.journals
    with path.open("r+b") as file:
        file.truncate(100)
    path.with_suffix(".launch").unlink()
    refused = place.run("resume", *arguments)
    assert (refused.returncode, path.stem in refused.stderr) == (2, True)


def test_output_of_a_repeat_keeps_the_items_of_a_run_whose_journal_is_gone(place: Place) -> None:
    place.items("a", "b", "bad")
    place.run("jobs:job", "--items", "items.txt", "--output", "out.jsonl")
    [first] = place.journals
    place.run("again")
    second = place.journals[-1]
    first.unlink()
    refused = place.run("resume", second.stem, mode="mended")
    assert (refused.returncode, "out.jsonl" in refused.stderr, first.stem in refused.stderr) == (2, True, True)
    assert sorted(place.names()) == ["a succeeded", "b succeeded", "bad failed"]
    assert place.run("resume", second.stem, "--output", "rest.jsonl", mode="mended").returncode == 0
    assert place.names("rest.jsonl") == ["bad succeeded"]


def test_masked_arguments_have_to_be_given_again(place: Place) -> None:
    url = "http://me:secret@127.0.0.1:1/"
    place.run(url, "http://127.0.0.1:1/b", "--max-attempts", "1", "--journal")
    refused = place.run("resume")
    assert refused.returncode == 2
    assert "http://***@127.0.0.1:1/ had a password or a token" in refused.stderr
    wrong = place.run("resume", "http://127.0.0.1:1/other")
    assert (wrong.returncode, "no target of the run" in wrong.stderr) == (2, True)
    asked = place.run("resume", "--dry-run", url)
    assert (asked.returncode, asked.stdout) == (0, "0 done · 2 failed, run again\n")


def test_standard_input_is_piped_again(place: Place) -> None:
    place.run("jobs:job", "--items", "-", stdin="a\nbad\nb\n")
    place.calls()
    assert place.run("resume", stdin="b\nbad\na\nc\n", mode="mended").returncode == 0
    assert sorted(place.calls()) == ["bad", "c"]


def test_empty_standard_input_is_refused_and_leaves_the_run_unfinished(place: Place) -> None:
    place.run("jobs:job", "--items", "-", stdin="a\nbad\n")
    place.calls()
    for arguments in (["resume"], ["resume", "--dry-run"], ["again"]):
        refused = place.run(*arguments)
        assert (refused.returncode, "pipe them again" in refused.stderr) == (2, True), arguments
    assert place.run("resume", stdin="a\nbad\n", mode="mended").returncode == 0
    assert place.calls() == ["bad"]


def test_list_of_a_kind_without_items_is_empty(place: Place) -> None:
    place.items("a", "bad")
    place.run("jobs:job", "--items", "items.txt")
    listed = place.run("resume", "--list", "gone")
    assert (listed.returncode, listed.stdout) == (0, "")


def test_tree_is_neither_offered_nor_taken_for_a_resume(place: Place) -> None:
    place.items("a", "bad")
    place.run("jobs:job", "--items", "items.txt")
    config = place.folder / "tree.toml"
    config.write_text('[[group]]\nname = "poll"\ntarget = "jobs:poll"\nevery = "10ms"\n')
    process = place.start("--config", "tree.toml", "--journal", "--headless")
    deadline = time.monotonic() + 60
    while not (place.folder / "polls").exists():
        assert time.monotonic() < deadline, "the poller does not start"
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert "Stopping" in stderr
    assert "To go on" not in stderr
    assert place.run("resume", "--dry-run").stdout == "1 done · 1 failed, run again\n"
    refused = place.run("resume", place.journals[-1].stem, "--dry-run")
    assert (refused.returncode, "services and supervisors" in refused.stderr) == (2, True)


def test_config_is_read_anew_differences_are_said_and_options_win(place: Place) -> None:
    config = place.folder / "asyncwatch.toml"
    config.write_text('concurrency = 3\n[[group]]\ntarget = "jobs:job"\nitems = "items.txt"\n')
    place.items("a", "bad")
    place.run("--headless")
    config.write_text(config.read_text().replace("concurrency = 3", "concurrency = 5"))
    ended = place.run("resume", "--json", "--concurrency", "7")
    assert "concurrency is 5 in the config; it was 3" in ended.stderr
    started = json.loads(ended.stdout.splitlines()[0])
    assert started["concurrency"] == 7


@pytest.mark.parametrize("command", ["resume", "again"])
@pytest.mark.parametrize("options", [(), ("--dry-run",)])
def test_run_whose_config_was_deleted_does_not_go_on_as_the_demo(
    place: Place, command: str, options: tuple[str, ...]
) -> None:
    config = place.folder / "asyncwatch.toml"
    config.write_text('[[group]]\ntarget = "jobs:job"\nitems = "items.txt"\n')
    place.items("a", "bad")
    place.run("--headless")
    config.rename(place.folder / "other.toml")
    ended = place.run(command, *options)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "give the config with --config" in ended.stderr
    assert "1 done" in place.run(command, "--config", "other.toml", "--dry-run").stdout


@pytest.mark.parametrize("command", ["resume", "again"])
def test_items_that_are_all_gone_are_a_mistake_and_not_the_end_of_a_run(place: Place, command: str) -> None:
    place.items("a", "bad")
    place.run("jobs:job", "--items", "items.txt", "--headless")
    place.items()
    ended = place.run(command)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "there is no item any more: items.txt is empty" in ended.stderr
    place.items("a", "bad")
    assert "1 done" in place.run("resume", "--dry-run").stdout


def test_folder_of_the_run_is_that_of_its_resume_and_given_paths_are_those_of_the_caller(place: Place) -> None:
    place.items("a", "bad")
    place.run("jobs:job", "--items", "items.txt")
    [path] = place.journals
    elsewhere = place.folder / "elsewhere"
    elsewhere.mkdir()
    with subprocess.Popen(
        [sys.executable, "-m", "asyncwatch", "resume", path.stem, "--output", "out.jsonl"],
        cwd=elsewhere,
        env={
            **os.environ,
            "XDG_STATE_HOME": str(place.folder / "state"),
            "PYTHONPATH": str(ROOT),
            "MODE": "mended",
        },
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.communicate(timeout=60)
    assert process.returncode == 0
    assert (elsewhere / "out.jsonl").read_text().count("succeeded") == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_that_is_stopped_says_how_to_go_on(place: Place, number: signal.Signals) -> None:
    place.items(*(f"i{number}" for number in range(500)))
    process = place.start("jobs:job", "--items", "items.txt", "--concurrency", "1", mode="slow")
    deadline = time.monotonic() + 60
    while not (place.folder / "calls").exists():
        assert time.monotonic() < deadline, "the workers do not start"
        time.sleep(0.01)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    [path] = place.journals
    assert f"To go on: asyncwatch resume {path.stem}\n" in stderr
    assert "unfinished" in place.run("resume", "--dry-run").stdout


def test_idempotency_key_is_that_of_the_item_in_every_run_of_the_chain(place: Place) -> None:
    place.items("a", "b", "bad", "a")
    place.run("jobs:job", "--items", "items.txt", "--output", "one.jsonl", mode="keys")
    place.items("new", "b", "a", "bad", "a")
    [first] = place.journals
    place.run("again", "--output", "two.jsonl", mode="mended keys")
    first_keys = place.results("one.jsonl")
    assert len({first_keys[name] for name in ("a", "b", "a#2")}) == 3
    with RunJournal(first) as journal:
        [part] = journal.items(1)
        keys = [idempotency_key(first.stem, part.group, part.keys[at : at + 16]) for at in range(0, 64, 16)]
    assert [keys[0], keys[1], keys[3]] == [first_keys[name] for name in ("a", "b", "a#2")]
    (place.folder / "one.jsonl").unlink()
    place.run("resume", first.stem, "--output", "three.jsonl", mode="mended keys")
    results = place.results("three.jsonl")
    assert results["bad"] == keys[2]
    assert keys[2] in (place.folder / "two.jsonl").read_text()


def test_run_that_is_resumed_in_the_background_keeps_its_id(place: Place) -> None:
    place.items("a", "bad")
    place.run("jobs:job", "--items", "items.txt")
    [path] = place.journals
    place.calls()
    ended = place.run("resume", "--detach", mode="mended")
    assert (ended.returncode, ended.stdout) == (0, f"{path.stem}\n"), ended.stderr
    assert "1 done · 1 failed, run again" in ended.stderr
    place.run("ctl", path.stem, "wait", "--timeout", "30s")
    place.run("ctl", path.stem, "stop")
    assert place.calls() == ["bad"]
    assert place.journals == [path]


def test_death_of_the_process_of_a_run_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    class Dead:
        has_ended = True
        killed_by = signal.SIGKILL

        def end_group(self) -> None:
            """Have no group."""

    dead: Any = Dead()
    assert command._report_death(dead, None, "asyncwatch resume abc") == 128 + signal.SIGKILL
    assert capsys.readouterr().err.splitlines()[-1] == "asyncwatch: To go on: asyncwatch resume abc"
