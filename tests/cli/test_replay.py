"""`asyncwatch replay`: which run and launch it means."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from asyncwatch.cli.main import main
from asyncwatch.cli.replay import open_replay
from asyncwatch.journal.store import JournalError, Launch, RunInfo, RunStore, store_batch
from tests.model.stream import Stream


def record(folder: Path, run: str, *starts: float) -> None:
    """Record a run with a launch for each start; the number of its workers is that of the launch."""
    store = RunStore.create(folder, RunInfo(run, run, "", "jobs:run"))
    for number, started in enumerate(starts, start=1):
        facts = {"pid": 1, "host": "", "folder": "", "command": [], "seed": 1, "version": ""}
        store.begin(Launch(number=number, started=started, **facts))  # type: ignore[arg-type]
        store.write(batches=[store_batch(Stream(*map(str, range(number))).events)])
    store.close()


@pytest.mark.parametrize(
    ("run", "launch"),
    [(None, 2), ("abcd", 2), ("abcdefgh", 2), ("abcdefgh.1", 1), ("ab.2", 2), ("x", 1)],
)
def test_run_is_named_by_the_beginning_of_its_id_and_a_launch(tmp_path: Path, run: str | None, launch: int) -> None:
    record(tmp_path, "abcdefgh", 100.0, 300.0)
    record(tmp_path, "xbcdefgh", 200.0)
    assert open_replay([tmp_path], run).launch.number == launch


@pytest.mark.parametrize(
    ("run", "problem"),
    [
        ("zz", "There is no recorded run 'zz'"),
        ("ab", "'ab' could be abcdefgh"),
        ("abcdefgh.2", "run abcdefgh has no launch 2: it has 1"),
        ("abcdefgh.0", "run abcdefgh has no launch 0: it has 1"),
        ("../x", "There is no recorded run '../x'"),
        ("", "There is no recorded run ''"),
    ],
)
def test_run_that_is_not_there_is_refused(tmp_path: Path, run: str, problem: str) -> None:
    record(tmp_path, "abcdefgh", 100.0)
    record(tmp_path, "abzdefgh", 100.0)
    with pytest.raises(JournalError) as caught:
        open_replay([tmp_path], run)
    assert problem in str(caught.value)


def test_command_without_a_recording_or_a_terminal_says_so(tmp_path: Path) -> None:
    arguments = ["replay", "--journal-dir", str(tmp_path)]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.output) == (2, "asyncwatch: there is no recorded run\n")
    record(tmp_path, "abcdefgh", 100.0)
    (tmp_path / "garbage.sqlite").write_bytes(b"x" * 5_000)
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.output) == (2, "asyncwatch: replay needs a terminal that can show screens\n")
    result = CliRunner().invoke(main, [*arguments, "garbage"])
    assert result.exit_code == 2
    assert "is no journal" in result.output or "cannot be read" in result.output
