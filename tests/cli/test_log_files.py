"""Files of the log: one for each service, rotated."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncwatch.cli.log_files import MOST_OPEN, LogFiles
from asyncwatch.config.load import parse_config
from asyncwatch.events import Batch, ChildRemoved, Event, LogRecorded, RunStarted, SupervisorStarted, WorkersQueued
from tests.cli.test_end_to_end import run

START: list[Event] = [
    RunStarted(0, 0.0, "shop", 2, "serve", 7, 10, None, 1_700_049_600.0),
    SupervisorStarted(1, 0.0, "root", "", "one_for_one", 1, 5.0, "never"),
    SupervisorStarted(2, 0.0, "root/pool", "root", "simple_one_for_one", 1, 5.0, "never"),
    WorkersQueued(3, 0.0, "root", 1, ("web/web", "web", "db/1", "db-1")),
    WorkersQueued(4, 0.0, "root/pool", 1, ("pool/1", "pool/2")),
    WorkersQueued(5, 0.0, "batch", 1, ("item",)),
]


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def log(worker: str | None, message: str, at: float = 1.5) -> Batch:
    return [LogRecorded(9, at, worker, "INFO", "app", message)]


def files_in(folder: Path, *, size: int = 10_000, keep: int = 2, path: str = "{name}.log") -> LogFiles:
    files = LogFiles(str(folder / path), size=size, keep=keep)
    assert files.write(START) is None
    return files


def texts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


def test_each_service_has_a_file_and_other_lines_that_of_the_run(tmp_path: Path) -> None:
    files = files_in(tmp_path / "logs")
    for worker in ("web/web", "db/1", "pool/1", "pool/2", "item", None):
        assert files.write(log(worker, f"by {worker}")) is None
    files.close()
    line = "2023-11-15 12:00:01.500 INFO by {}\n".format
    assert texts(tmp_path / "logs") == {
        "db-1.log": line("db/1"),
        "pool.log": line("pool/1") + line("pool/2"),
        "shop.log": line("item") + line("None"),
        "web.log": line("web/web"),
    }
    assert stat.S_IMODE((tmp_path / "logs" / "web.log").stat().st_mode) == 0o600


def test_two_names_never_share_a_file(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    for worker in ("web/web", "web", "db/1", "db-1"):
        files.write(log(worker, worker))
    files.close()
    assert list(texts(tmp_path)) == ["db-1-2.log", "db-1.log", "web-2.log", "web.log"]


def test_one_file_for_all_names_the_workers(tmp_path: Path) -> None:
    files = files_in(tmp_path, path="all.log")
    for worker in ("web", "item", None):
        files.write(log(worker, "http://me:hush@a.example \x1b[31m\nmore"))
    files.close()
    lines = (tmp_path / "all.log").read_text().splitlines()
    assert lines[0] == "2023-11-15 12:00:01.500 INFO [web] http://***@a.example \\x1b[31m"
    assert lines[1] == "    more"
    assert [line.partition("INFO ")[2][:6] for line in lines[2::2]] == ["[item]", "http:/"]


def test_full_file_is_rotated_and_old_ones_go(tmp_path: Path) -> None:
    files = files_in(tmp_path, size=100)
    for number in range(8):
        files.write(log("web", f"line {number} {'x' * 20}"))
    files.write(log("web", "y" * 500))
    files.close()
    found = texts(tmp_path)
    assert list(found) == ["web.log", "web.log.1", "web.log.2"]
    assert "yyy" in found["web.log"]
    assert "line 7" in found["web.log.1"]
    assert "line 6" in found["web.log.2"]


def test_file_is_appended_to_by_the_next_run(tmp_path: Path) -> None:
    for number in range(2):
        files = files_in(tmp_path, size=150, keep=0)
        files.write(log("web", f"run {number} {'x' * 60}"))
        files.close()
    assert list(texts(tmp_path)) == ["web.log"]
    assert "run 1" in texts(tmp_path)["web.log"]
    files = files_in(tmp_path)
    files.write(log("web", "once more"))
    files.close()
    assert len(texts(tmp_path)["web.log"].splitlines()) == 2


def test_few_files_are_open_at_a_time(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    names = tuple(f"s{number}" for number in range(MOST_OPEN + 9))
    files.write([WorkersQueued(7, 0.0, "root", 1, names)])
    before = len([*Path("/proc/self/fd").iterdir()])
    for name in (*names, *names):
        files.write(log(name, "x"))
    assert len([*Path("/proc/self/fd").iterdir()]) <= before + MOST_OPEN
    files.close()
    assert len(texts(tmp_path)) == len(names)
    assert set(map(len, map(str.splitlines, texts(tmp_path).values()))) == {2}


def test_failure_is_reported_once_and_tried_again(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    (tmp_path / "web.log").mkdir()
    message = files.write(log("web", "lost"))
    assert message is not None
    assert "the log of web cannot be written to" in message
    assert files.write(log("web", "lost too")) is None
    (tmp_path / "web.log").rmdir()
    assert files.write(log("web", "written")) is None
    files.close()
    assert "written" in texts(tmp_path)["web.log"]


def test_device_is_no_log_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "web.log")
    message = files_in(tmp_path).write(log("web", "x"))
    assert message is not None


def test_child_that_was_removed_is_forgotten(tmp_path: Path) -> None:
    files = files_in(tmp_path)
    files.write([ChildRemoved(7, 0.0, "root", "web")])
    files.write(log("web", "late"))
    files.close()
    assert list(texts(tmp_path)) == ["shop.log"]


def test_path_in_a_config_is_relative_to_it(tmp_path: Path) -> None:
    config = parse_config("log_file = 'logs/{name}.log'\n[[group]]\ntarget = 'demo'", tmp_path / "a.toml")
    assert config.log_file == str(tmp_path / "logs" / "{name}.log")


def test_run_without_a_dashboard_writes_its_logs(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text("import asyncio\nasync def work():\n    print('hello')\n")
    config = "log_file = 'logs/{name}.log'\n[[group]]\nname = 'web'\ntarget = 'jobs:work'\nrestart = 'transient'\n"
    (tmp_path / "a.toml").write_text(f"auto_shutdown = 'any_significant'\n{config}significant = true\n"
                                     "auto_shutdown = 'any_significant'\n")  # fmt: skip
    result = run(tmp_path, "--config", "a.toml", "--headless")
    assert "hello" in (tmp_path / "logs" / "web.log").read_text(), result.stderr
