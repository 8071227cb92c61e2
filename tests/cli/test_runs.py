"""`asyncwatch runs`: the history of recorded runs, as text and as JSON."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from asyncwatch.cli import history, runs
from asyncwatch.cli import main as cli
from asyncwatch.cli.history import list_recorded, remove_recorded
from asyncwatch.journal.store import RunStore
from asyncwatch.text import cells
from tests.journal.recorded import record


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of journals of the state, with a current folder without a config."""
    base = Path(tempfile.mkdtemp(prefix="aw-", dir="/tmp"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "state" / "asyncwatch" / "runs"


@pytest.fixture
def live(folder: Path) -> Iterator[RunStore]:
    """A run that this process records."""
    store = record(folder, "liverunn", status=None, is_open=True, started=time.time())
    yield store
    store.close()


def command(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(cli.main, ["runs", *arguments], answer, prog_name="asyncwatch")


def document(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command(*arguments, "--json").stdout)
    assert found["version"] == 1
    return found


def test_list_has_a_line_for_each_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 200.0)
    record(folder, "abcdefgh", started=100.0, status=1)
    record(folder, "zzzzzzzz", started=90.0, status=None, name="x\x1b[2J")
    (folder / "broken.sqlite").write_bytes(b"garbage")
    os.utime(folder / "broken.sqlite", (1.0, 1.0))
    heads, first, second, third = command().stdout.splitlines()
    assert heads.split() == ["ID", "NAME", "RESULT", "STARTED", "TOOK", "RATE", "FOLDER"]
    assert first.split("  ")[0] == "abcdefgh"
    assert "failed: 5 queued, 8 succeeded, 2 failed" in first
    assert "4.00 s" in first
    assert first.endswith("2.5/s  /data")
    assert "killed" in second
    assert r"x\x1b[2J" in second
    assert third.split()[:3] == ["broken", "?", "damaged"]


def test_list_fits_the_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "terminal_columns", lambda _stream: 60)
    record(folder, "abcdefgh", where="/very/long/folder" * 10, name="name" * 20)
    lines = list_recorded([folder], is_all=False).lines
    assert max(map(cells, lines)) <= 60


def test_json_has_what_is_documented(folder: Path) -> None:
    record(folder, "abcdefgh", started=100.0, status=1)
    found = document()
    help_text = " ".join(runs.runs.help.split())  # type: ignore[union-attr]
    [run] = found["runs"]
    assert all(field in help_text for field in run)
    journal = str(folder / "abcdefgh.sqlite")
    assert {**run, "size": 0} == {
        "id": "abcdefgh",
        "name": "jobs:job",
        "root": "abcdefgh",
        "parent": None,
        "state": "failed",
        "folder": "/data",
        "command": ["jobs:job", "-q"],
        "pid": 7,
        "version": "1",
        "launches": 1,
        "started": 100.0,
        "ended": 105.0,
        "status": 1,
        "workers": 15,
        "settled": 10,
        "counts": {"succeeded": 8, "failed": 2, "queued": 5},
        "done_before": 0,
        "not_started": 0,
        "attempts": 12,
        "lost_results": 0,
        "elapsed": 4.0,
        "rate": 2.5,
        "size": 0,
        "journal": journal,
        "problem": None,
    }


def test_list_is_cut_unless_all_are_wanted(folder: Path) -> None:
    for number in range(23):
        record(folder, f"run{number:05}", started=float(number))
    cut = document()
    assert (cut["total"], len(cut["runs"])) == (23, 20)
    assert command().stdout.splitlines()[-1] == "and 3 older runs: asyncwatch runs --all"
    assert len(document("--all")["runs"]) == 23
    assert command("--all").stdout.splitlines()[-1].startswith("run00000")


def test_empty_history_says_so(folder: Path) -> None:
    assert not folder.exists()
    assert command().stdout == "No run is recorded.\n"
    assert document() == {"version": 1, "total": 0, "runs": []}


def test_folder_of_the_config_in_the_current_folder_is_read_too(folder: Path, tmp_path: Path) -> None:
    record(tmp_path / "own", "configrn", started=2.0)
    record(folder, "staterun", started=1.0)
    Path("asyncwatch.toml").write_text(f'journal_dir = "{tmp_path / "own"}"\n')
    assert [run["id"] for run in document()["runs"]] == ["configrn", "staterun"]
    assert [run["id"] for run in document("--journal-dir", str(tmp_path / "own"))["runs"]] == ["configrn"]


def test_show_has_summary_errors_settings_and_launches(folder: Path) -> None:
    record(folder, "abcdefgh", status=1)
    text = command("show", "abc").stdout
    for expected in (
        "abcdefgh  failed in /data, status 1",
        "jobs:job (as_completed, seed 7): 1 queued, 1 succeeded, 1 failed; 2 attempts in 2.50 s",
        "1 × ValueError: no such row",
        "settings\n  rate 5/s",
        "launches\n  1  ",
        "status 1  asyncwatch jobs:job -q",
    ):
        assert expected in text
    found = document("show", "jobs:job")
    assert found["run"]["id"] == "abcdefgh"
    assert found["summary"]["errors"][0]["kind"] == "ValueError: no such row"
    assert found["settings"] == {"rate": "5/s"}
    assert [launch["status"] for launch in found["launches"]] == [1]
    assert not found["is_alive"]


def test_show_of_a_killed_run_has_what_was_recorded(folder: Path) -> None:
    record(folder, "abcdefgh", status=None)
    shown = command("show", "abcdefgh")
    assert shown.exit_code == 0
    assert "abcdefgh  killed in /data" in shown.stdout
    assert "1 queued, 1 succeeded, 1 failed" in shown.stdout
    assert "no end was recorded" in shown.stdout


@pytest.mark.usefixtures("live")
def test_show_reads_the_journal_of_a_run_that_cannot_be_asked() -> None:
    found = document("show", "live")
    assert (found["run"]["state"], found["is_alive"]) == ("running", True)
    assert found["summary"]["counts"] == {"queued": 1, "succeeded": 1, "failed": 1}


@pytest.mark.parametrize(
    ("arguments", "kind", "status"),
    [
        (("show", "nope"), "no_run", 1),
        (("show", "ab"), "ambiguous_run", 1),
        (("show", "broken"), "damaged", 1),
        (("show",), "usage", 2),
        (("rm",), "usage", 2),
        (("rm", "abcdefgh", "--all-ended"), "usage", 2),
        (("rm", "--older-than", "soon"), "usage", 2),
        (("rm", "abcdefgh", "nope"), "no_run", 1),
    ],
)
def test_error_has_a_kind_and_nothing_is_done(folder: Path, arguments: tuple[str, ...], kind: str, status: int) -> None:
    record(folder, "abcdefgh")
    record(folder, "abzzzzzz")
    (folder / "broken.sqlite").write_bytes(b"garbage")
    result = command(*arguments, "--json")
    assert (json.loads(result.stdout)["error"]["kind"], result.exit_code) == (kind, status)
    assert command(*arguments).exit_code == status
    assert len(list(folder.glob("*.sqlite"))) == 3


def test_damaged_batch_is_an_error(folder: Path) -> None:
    store = record(folder, "abcdefgh", is_open=True)
    store._connection.execute("UPDATE batch SET data = x'00'")
    store.close()
    assert document("show", "abcdefgh")["error"]["kind"] == "damaged"


def test_rm_removes_what_was_named_and_nothing_else(folder: Path, live: RunStore) -> None:
    for run_id in ("abcdefgh", "bbbbbbbb", "cccccccc"):
        record(folder, run_id)
    found = document("rm", "abc", "cccccccc", "abcdefgh")
    assert found["removed"] == ["abcdefgh", "cccccccc"]
    assert {path.stem for path in folder.iterdir()} == {"bbbbbbbb", live.path.stem}
    refused = command("rm", "bbb", "live")
    assert refused.exit_code == 1
    assert "1 run removed" in refused.stdout
    assert f"liverunn was not removed: run liverunn is being recorded by process {os.getpid()}" in refused.stderr
    assert {path.stem for path in folder.iterdir()} == {live.path.stem}


def test_rm_by_age_counts_from_the_end(folder: Path, live: RunStore) -> None:
    day = 86_400.0
    record(folder, "oldoldol", started=time.time() - 31 * day)
    record(folder, "newnewne", started=time.time() - 29 * day)
    assert document("rm", "--older-than", "30d")["removed"] == ["oldoldol"]
    assert document("rm", "--all-ended")["removed"] == ["newnewne"]
    assert live.path.exists()
    assert command("rm", "--all-ended").stdout == "There is no such run.\n"


def test_rm_asks_and_says_what_was_not_finished(folder: Path) -> None:
    record(folder, "abcdefgh")
    record(folder, "bbbbbbbb", status=None)
    questions: list[str] = []

    def refuse(question: str) -> bool:
        questions.append(question)
        return False

    assert remove_recorded([folder], ["abc"], None, refuse).fields["removed"] == []
    assert remove_recorded([folder], ["bbb"], None, refuse).fields["removed"] == []
    assert remove_recorded([folder], [], None, refuse).lines == ["Nothing was removed."]
    assert [question.partition(" (")[0] for question in questions] == [
        "Remove the run abcdefgh",
        "Remove the run bbbbbbbb",
        "Remove 2 runs, 1 of which were not finished",
    ]
    assert ", which was not finished" in questions[1]
    assert len(list(folder.glob("*.sqlite"))) == 2


@pytest.mark.parametrize(("options", "answer", "left"), [((), "n\n", 1), ((), "y\n", 0), (("--yes",), "n\n", 0)])
def test_rm_asks_on_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], answer: str, left: int
) -> None:
    record(folder, "abcdefgh")
    monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _self: True, raising=False)
    result = command("rm", "abc", *options, answer=answer)
    assert result.exit_code == 0
    assert len(list(folder.glob("*.sqlite"))) == left
    assert ("Remove the run" in result.stderr) is (not options)


def test_options_of_the_list_do_not_go_before_another_command(folder: Path) -> None:
    assert not folder.exists()
    result = command("--all", "show", "abc")
    assert result.exit_code == 2
    assert "Give options after show." in result.stderr
