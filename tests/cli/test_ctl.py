"""`asyncwatch ctl` against scripted runs in a thread, and against real ones in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

import asyncwatch
from asyncwatch.cli import main as cli
from asyncwatch.cli import remote
from asyncwatch.cli.answer import ErrorKind
from asyncwatch.cli.ctl import ctl
from asyncwatch.commands import (
    CancelWorker,
    ChangeSetting,
    Command,
    GiveUp,
    RestartWorker,
    RetryNow,
    StackFrame,
    Statistics,
    StopRun,
    WatchStack,
    WorkerStack,
)
from asyncwatch.control import discovery, protocol
from asyncwatch.control.discovery import Publication, alive, publish
from asyncwatch.control.protocol import FrameReader, Kind, Message, message_frame
from asyncwatch.events import (
    AttemptPlaced,
    AttemptStarted,
    CommandRefused,
    Event,
    LoopBlocked,
    RunStarted,
    SettingChanged,
    WorkersQueued,
)
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.snapshot import Snapshot
from asyncwatch.model.summary import summarize
from tests.model.stream import Stream
from tests.terminal.screen import Terminal
from tests.ui.fakes import FakeController, dashboard_of, small_run
from tests.ui.trees import tree_run

ENVIRONMENT = {"PYTHONPATH": str(Path(asyncwatch.__file__).parents[1]), "PYTHONSAFEPATH": "1"}
TIMEOUT = 30.0
"""Seconds for what takes a second on a machine that is not busy."""


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder of sockets, with a short path."""
    base = Path(tempfile.mkdtemp(prefix="aw-", dir="/tmp"))
    for variable in ("XDG_RUNTIME_DIR", "TMPDIR"):
        monkeypatch.setenv(variable, str(base))
    yield base / "asyncwatch"
    shutil.rmtree(base)


def run(*arguments: str) -> Result:
    """Call `asyncwatch ctl`."""
    return CliRunner().invoke(cli.main, ["ctl", *arguments], prog_name="asyncwatch", catch_exceptions=False)


def answer(*arguments: str, status: int = 0) -> dict[str, Any]:
    """Call `asyncwatch ctl`, and return the JSON that it prints."""
    result = run(*arguments, "--json")
    assert (result.exit_code, result.stderr) == (status, ""), result.output
    (line,) = result.stdout.splitlines()
    document: dict[str, Any] = json.loads(line)
    assert document["version"] == 1
    assert ("error" in document) == (status != 0 and "summary" not in document)
    return document


def problem(*arguments: str, status: int = 1) -> str:
    """Call `asyncwatch ctl`, which fails, and return the kind of the error."""
    error = answer(*arguments, status=status)["error"]
    assert error["message"]
    kind: str = error["kind"]
    assert kind in set(ErrorKind)
    return kind


# -- a scripted run


class ScriptedRun:
    """A run with a fleet that stands still. It carries all commands out, except those it has `reasons` against."""

    def __init__(self, fleet: Fleet, name: str = "demo") -> None:
        self.fleet = fleet
        self.reasons: Mapping[str, str] = {}
        """By worker, or by the name of a setting."""
        self.sent: list[Command] = []
        self.kinds: list[Kind] = []
        self.greeting: bytes | None = None
        """Sent in place of all else; empty to end the connection."""
        self.figures = Statistics(viewers=2)
        self.is_mute = False
        """Whether commands are not answered."""
        self.early: Sequence[Event] = ()
        """Events in place of a snapshot, for a run that is about to begin."""
        self.answers: Callable[[Sequence[Any]], Iterator[bytes]] = self._answers
        """Returns the frames that follow some commands."""
        self.later: Sequence[Event] = ()
        """Events since the snapshot."""
        self.ends_on: type[Command] | None = None
        """A command after which the run ends."""
        self.publication: Publication = publish(name, ["asyncwatch", name], protocol=1)
        self.id = self.publication.record.id
        self._listener = self.publication.socket
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        if alive():
            self.publication.withdraw()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                reader = FrameReader(1 << 20, is_run=False)
                while data := connection.recv(1 << 16):
                    for message in reader.feed(data):
                        assert isinstance(message, Message)
                        if not self._take(connection, message):
                            data = b""
                    if not data:
                        break

    def _take(self, connection: socket.socket, message: Message) -> bool:
        """Answer a message, and return whether the connection goes on."""
        match message:
            case protocol.Hello(kind=kind):
                self.kinds.append(Kind(kind))
                if self.greeting is not None:
                    connection.sendall(self.greeting)
                    return bool(self.greeting)
                self._greet(connection, is_following=kind == Kind.FOLLOWER)
            case protocol.Commands(commands, token):
                self.sent += commands
                connection.sendall(b"".join(self.answers(commands)))
                if any(type(command) is self.ends_on for command in commands):
                    self.end(1)
                    return False
                if token and not (commands and self.is_mute):
                    connection.sendall(message_frame(protocol.Carried(token)))
        return True

    def _greet(self, connection: socket.socket, *, is_following: bool) -> None:
        frames = [message_frame(protocol.Welcome("1", self.id, "demo", 1))]
        if is_following:
            frames.append(message_frame(protocol.PlanMade(self.id, (), ())))
            if self.early:
                frames += [protocol.batch_frame([event]) for event in self.early[:-1]]
            else:
                frames += map(protocol.snapshot_frame, Snapshot(self.fleet).parts())
                frames.append(protocol.batch_frame(self.later))
            frames.append(message_frame(protocol.Figures(self.figures)))
        connection.sendall(b"".join(frames))

    def _answers(self, commands: Sequence[Any]) -> Iterator[bytes]:
        for command in commands:
            if isinstance(command, WatchStack):
                stack = WorkerStack(str(command.worker), 1, 2, (StackFrame("/x/jobs.py", 3, "fetch", "await get()"),))
                yield message_frame(protocol.Figures(msgspec.structs.replace(self.figures, stack=stack)))
                continue
            subject = getattr(command, "worker", "") or getattr(command, "name", "")
            if reason := self.reasons.get(subject):
                worker, incarnation = getattr(command, "worker", ""), getattr(command, "incarnation", 0)
                yield protocol.batch_frame(
                    [CommandRefused(99, 9.0, type(command).__name__, worker, incarnation, reason)]
                )
            elif isinstance(command, ChangeSetting):
                yield protocol.batch_frame([SettingChanged(99, 9.0, command.name, command.value, 100, command.key)])
        if not commands and self.early:
            yield protocol.batch_frame(self.early[-1:])

    def end(self, status: int) -> None:
        """Leave a record of the end."""
        self.publication.end(status, msgspec.to_builtins(summarize(self.fleet)))


Script = Callable[..., ScriptedRun]


@pytest.fixture
def script() -> Iterator[Script]:
    """Start scripted runs, of eight workers in most of the states unless a fleet is given."""
    runs: list[ScriptedRun] = []

    def start(fleet: Fleet | None = None, name: str = "demo") -> ScriptedRun:
        if fleet is None:
            controller = FakeController()
            small_run(controller)
            fleet = dashboard_of(controller).fleet
        runs.append(ScriptedRun(fleet, name))
        return runs[-1]

    yield start
    for each in runs:
        each.close()


@pytest.fixture(autouse=True)
def _impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_RECORD_TIMEOUT", 0.0)


# -- list


def test_list_has_all_workers_in_json(script: Script) -> None:
    each = script()
    listed = answer("list")
    assert listed["run"] | {"id": each.id, "name": "demo", "pid": os.getpid(), "status": None} == listed["run"]
    assert [worker["name"] for worker in listed["workers"]] == list("01234567")
    assert listed["workers"][3] == {
        "name": "3",
        "group": "demo",
        "state": "failed",
        "attempt": 1,
        "max_attempts": 3,
        "retries": 0,
        "bad_luck": 0.97,
        "result": None,
        "error": "RuntimeError: boom",
        "progress": None,
        "status": None,
        "elapsed": 0.02,
        "incarnation": 1,
    } | {key: listed["workers"][3][key] for key in ("error", "elapsed", "group")}
    assert each.kinds == [Kind.FOLLOWER]


def test_list_selects_at_its_own_end(script: Script) -> None:
    script()
    assert [worker["name"] for worker in answer("list", "state:succ", "[67]")["workers"]] == ["0", "1", "6", "7"]
    assert problem("list", "nobody") == "no_match"
    assert problem("list", "state:odd", status=2) == "usage"


def test_list_is_a_table_without_colours_and_control_characters(script: Script) -> None:
    stream = Stream("plain", "red\x1b[31m", "two\nlines", "wide 漢")
    script(stream.fold())
    result = run("list")
    assert result.exit_code == 0
    head, *lines = result.stdout.splitlines()
    assert head.split()[:3] == ["NAME", "GROUP", "STATE"]
    assert [line.split("  ")[0] for line in lines] == ["plain", "red\\x1b[31m", "two\\nlines", "wide 漢"]
    assert all(line.isprintable() for line in lines)


def test_list_in_json_is_ascii(script: Script) -> None:
    script(Stream("漢\u202e\x9b").fold())
    result = run("list", "--json")
    assert result.stdout.isascii()
    assert json.loads(result.stdout)["workers"][0]["name"] == "漢\u202e\x9b"


def test_list_has_what_happened_since_the_snapshot(script: Script) -> None:
    stream = Stream("a", "b")
    each = script(stream.fold())
    stream.add(AttemptStarted, "b", attempt=1, bad_luck=0.5)
    each.answers = lambda _: iter([protocol.batch_frame(stream.events[-1:])])
    assert [worker["state"] for worker in answer("list")["workers"]] == ["queued", "running"]


def test_show_says_in_which_process_of_a_cluster_a_worker_is(script: Script) -> None:
    stream = Stream("a", "b")
    stream.add(AttemptStarted, "b", attempt=1, bad_luck=0.5)
    stream.add(AttemptPlaced, "b", attempt=1, host="10.0.0.7:40123")
    script(stream.fold())
    assert answer("show", "a")["worker"]["host"] is None
    assert answer("show", "b")["worker"]["host"] == "10.0.0.7:40123"
    assert "10.0.0.7:40123" in run("show", "b").stdout


def test_list_of_a_run_that_begins_waits_for_its_workers(script: Script) -> None:
    stream = Stream("a", "b")
    each = script()
    each.early = stream.events
    assert [type(event) for event in each.early] == [RunStarted, WorkersQueued]
    assert [worker["name"] for worker in answer("list")["workers"]] == ["a", "b"]


# -- show


def test_show_worker_has_all_that_is_known(script: Script) -> None:
    script()
    worker = answer("show", "2")["worker"]
    assert (worker["state"], worker["attempt"], worker["max_attempts"]) == ("backing off", 1, 3)
    (attempt,) = worker["attempts"]
    assert (attempt["attempt"], attempt["backoff"]) == (1, 3.5)
    assert attempt["outcome"] == worker["error"]
    assert [log["message"] for log in worker["logs"]] == ["bad luck 0.95 injects a fault", "retry 1 of 2 in 3.50 s"]
    assert worker["stack"] == [{"file": "/x/jobs.py", "line": 3, "function": "fetch", "text": "await get()"}]
    assert worker["traceback"]


def test_show_worker_is_text_for_people(script: Script) -> None:
    script()
    lines = run("show", "2").stdout.splitlines()
    assert lines[0] == "2"
    assert "  /x/jobs.py:3 fetch: await get()" in lines
    assert {"attempts", "traceback", "stack", "log"} <= set(lines)


def test_show_asks_for_no_stack_of_an_ended_worker(script: Script) -> None:
    each = script()
    assert answer("show", "1")["worker"]["stack"] is None
    assert each.sent == []


def test_show_needs_one_worker(script: Script) -> None:
    script()
    assert problem("show", "*") == "ambiguous_worker"
    assert problem("show", "nobody") == "no_match"


def test_show_without_a_worker_is_about_the_run(script: Script) -> None:
    each = script()
    each.figures = Statistics(viewers=2, blocked=LoopBlocked(-1, 3.0, 2.0, 1.5, "worker", "6", 1, 1, "/x/j.py", 3, "f"))
    shown = answer("show")
    assert shown["clients"] == 2
    assert shown["flapping"] == []
    assert shown["blocked"] == "6 blocked the event loop for 1.50 s at j.py:3 f"
    assert shown["settings"]["paused"] is False
    assert shown["summary"]["counts"] == msgspec.to_builtins(summarize(each.fleet))["counts"]
    assert "interrupted" not in run("show").stdout


# -- actions on workers


@pytest.mark.parametrize(
    ("action", "worker", "command"),
    [
        ("cancel", "6", CancelWorker("6", 1)),
        ("restart", "3", RestartWorker("3", 1)),
        ("retry-now", "2", RetryNow("2", 1)),
        ("give-up", "2", GiveUp("2", 1)),
    ],
)
def test_action_sends_the_incarnation(script: Script, action: str, worker: str, command: Command) -> None:
    each = script()
    done = answer(action, worker)
    assert each.sent == [command]
    assert (done["action"], done["dry_run"]) == (action, False)
    assert done["workers"] == [{"name": worker, "incarnation": 1, "outcome": "done", "reason": ""}]


def test_refused_worker_has_a_reason_and_status_1(script: Script) -> None:
    each = script()
    each.reasons = {"6": "it has ended"}
    done = answer("cancel", "--all", status=1)
    assert done["error"]["kind"] == "refused"
    outcomes = {worker["name"]: (worker["outcome"], worker["reason"]) for worker in done["workers"]}
    assert outcomes.pop("6") == ("refused", "it has ended")
    assert outcomes
    assert set(outcomes.values()) == {("done", "")}
    result = run("cancel", "--all")
    assert result.exit_code == 1
    assert "6: refused (it has ended)" in result.stdout.splitlines()
    assert "asyncwatch: 1 of " in result.stderr


def test_refusal_of_another_client_is_not_ours(script: Script) -> None:
    each = script()
    other = CommandRefused(50, 5.0, "RestartWorker", "6", 1, "not now")
    each.answers = lambda commands: iter([protocol.batch_frame([other])] if commands else [])
    assert answer("cancel", "6")["workers"][0]["outcome"] == "done"


def test_all_are_those_to_which_the_action_applies(script: Script) -> None:
    each = script()
    answer("retry-now", "--all")
    assert each.sent == [RetryNow("2", 1)]
    answer("cancel", "--all")
    assert {command.worker for command in each.sent[1:] if isinstance(command, CancelWorker)} == set("2567")


def test_all_without_any_such_worker_is_an_error(script: Script) -> None:
    stream = Stream("a")
    script(stream.fold())
    assert problem("retry-now", "--all") == "no_match"


def test_dry_run_sends_nothing(script: Script) -> None:
    each = script()
    done = answer("cancel", "6", "7", "--dry-run")
    assert done["dry_run"] is True
    assert [worker["outcome"] for worker in done["workers"]] == ["planned", "planned"]
    assert each.sent == []


def test_selector_is_needed_and_excludes_all(script: Script) -> None:
    script()
    assert problem("cancel", status=2) == "usage"
    assert problem("cancel", "6", "--all", status=2) == "usage"


def test_restart_in_a_tree_is_requested_once_for_siblings(script: Script) -> None:
    controller = FakeController()
    tree_run(controller)
    fleet = dashboard_of(controller).fleet
    siblings = [
        row.name
        for row in fleet.rows
        if (branch := fleet.tree.branch_of(row)) is not None and branch.strategy == "one_for_all"
    ]
    assert len(siblings) > 1
    each = script(fleet)
    done = answer("restart", *siblings)
    assert len(each.sent) == 1
    assert [worker["outcome"] for worker in done["workers"]] == ["done"] * len(siblings)
    assert done["also_restarted"] == []
    assert answer("restart", siblings[0], "--dry-run")["also_restarted"] == siblings[1:]
    each.reasons = {each.sent[0].worker: "the run is ending"}  # type: ignore[attr-defined]
    done = answer("restart", *siblings, status=1)
    assert [worker["reason"] for worker in done["workers"]] == ["the run is ending"] * len(siblings)


def test_many_commands_are_sent_in_frames(script: Script) -> None:
    number = protocol.COMMANDS_A_FRAME + 10
    stream = Stream(*map(str, range(number)))
    each = script(stream.fold())
    each.reasons = {"3": "no", str(number - 1): "no"}
    done = answer("cancel", "--all", status=1)
    assert len(each.sent) == number
    assert [worker["name"] for worker in done["workers"] if worker["outcome"] == "refused"] == ["3", str(number - 1)]


def test_refusals_are_found_in_a_snapshot_that_takes_the_place_of_events(script: Script) -> None:
    stream = Stream("a", "b")
    each = script(stream.fold())
    stream.add(CommandRefused, "b", command="CancelWorker", reason="no")
    later = stream.fold()
    each.answers = lambda commands: map(protocol.snapshot_frame, Snapshot(later).parts() if commands else ())
    done = answer("cancel", "--all", status=1)
    assert [worker["reason"] for worker in done["workers"]] == ["", "no"]


def test_late_answer_about_the_state_is_not_one_to_the_request(script: Script) -> None:
    each = script()
    late = message_frame(protocol.Carried(remote._STATE))
    refused = protocol.batch_frame([CommandRefused(99, 9.0, "CancelWorker", "6", 1, "no")])
    each.answers = lambda commands: iter([late, refused] if commands else [])
    assert answer("cancel", "6", status=1)["workers"][0]["reason"] == "no"


def test_run_that_ends_before_its_answer_leaves_outcomes_unknown(script: Script) -> None:
    each = script()
    each.ends_on = CancelWorker
    done = answer("cancel", "6", status=1)
    assert done["error"]["kind"] == "ended"
    assert done["workers"][0]["outcome"] == "unknown"


def test_time_out_names_what_blocks_the_loop(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    each = script()
    each.is_mute = True
    block = LoopBlocked(-1, 3.0, 2.0, 1.5, "worker", "6", 1, 1, "/x/j.py", 3, "f", "sleep()")
    later = 0.0

    def wake(commands: Sequence[Any]) -> Iterator[bytes]:
        nonlocal later
        later = 10.0 if commands else 0.0
        yield message_frame(protocol.Figures(Statistics(blocked=block)))

    each.answers = wake
    monkeypatch.setattr(remote, "time", SimpleNamespace(monotonic=lambda: time.monotonic() + later, time=time.time))
    done = answer("cancel", "6", status=124)
    assert done["error"]["kind"] == "timeout"
    expected = "within 10s; so far, 6 blocked the event loop for 1.50 s at j.py:3 f: sleep()"
    assert expected in done["error"]["message"]
    assert done["workers"][0]["outcome"] == "unknown"


# -- settings, stop


def test_pause_and_resume(script: Script) -> None:
    each = script()
    assert answer("pause")["setting"] == {"name": "paused", "key": "", "value": True, "previous": 100}
    assert run("resume").stdout == "paused: no (was 100)\n"
    assert each.sent == [ChangeSetting("paused", True), ChangeSetting("paused", False)]


def test_events_before_the_request_are_no_answer_to_it(script: Script) -> None:
    each = script()
    each.later = [
        SettingChanged(97, 9.0, "paused", value=True, previous=False),
        CommandRefused(98, 9.0, "ChangeSetting", "", 0, "no"),
        CommandRefused(99, 9.0, "CancelWorker", "6", 1, "no"),
    ]
    assert answer("resume")["setting"]["value"] is False
    assert answer("cancel", "6")["workers"][0]["outcome"] == "done"


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("concurrency", "7"), ChangeSetting("concurrency", 7)),
        (("rate", "50/s"), ChangeSetting("rate", "50/s")),
        (("rate", "none", "--key", "a.example"), ChangeSetting("rate", None, "a.example")),
        (("rate-per-key", "9/min"), ChangeSetting("rate per key", "9/min")),
        (("bad_luck", "0.5"), ChangeSetting("bad luck", 0.5)),
    ],
)
def test_set_reads_values_as_the_dashboard_does(script: Script, arguments: Sequence[str], command: Command) -> None:
    each = script()
    setting = answer("set", *arguments)["setting"]
    assert each.sent == [command]
    assert (setting["name"], setting["value"], setting["previous"]) == (command.name, command.value, 100)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arguments",
    [("colour", "1"), ("paused", "true"), ("concurrency", "0"), ("rate", "fast"), ("concurrency", "1", "--key", "a")],
)
def test_set_refuses_what_is_no_setting(script: Script, arguments: Sequence[str]) -> None:
    each = script()
    assert problem("set", *arguments, status=2) == "usage"
    assert each.kinds == []


def test_setting_that_the_run_refuses_is_an_error(script: Script) -> None:
    each = script()
    each.reasons = {"concurrency": "services use no slots"}
    error = answer("set", "concurrency", "3", status=1)["error"]
    assert error == {"kind": "refused", "message": "services use no slots"}


@pytest.mark.parametrize(("option", "at_once"), [((), False), (("--now",), True)])
def test_stop_needs_no_state(script: Script, option: Sequence[str], at_once: bool) -> None:
    each = script()
    assert answer("stop", *option)["at_once"] is at_once
    assert each.sent == [StopRun(at_once)]
    assert each.kinds == [Kind.ASKER]


def test_stop_of_a_run_that_ends_before_its_answer_succeeds(script: Script) -> None:
    each = script()
    each.ends_on = StopRun
    assert answer("stop")["at_once"] is False


# -- runs that have ended


def test_ended_run_is_shown_by_its_record(script: Script) -> None:
    each = script()
    each.end(3)
    for action in ("list", "show"):
        shown = answer(each.id, action)
        assert (shown["status"], shown["run"]["status"], shown["run"]["pid"]) == (3, 3, None)
        assert shown["summary"]["workers"] == 8
    assert answer(each.id, "list")["workers"] is None
    assert run(each.id, "show").stdout.startswith("demo (as_completed, seed 4127) interrupted: ")


def test_wait_for_an_ended_run_has_its_status(script: Script) -> None:
    each = script()
    each.end(3)
    assert answer(each.id, "wait", status=3)["status"] == 3
    result = run("demo", "wait")
    assert result.exit_code == 3
    assert "2 succeeded" in result.stdout


def test_summary_of_another_version_is_no_problem(script: Script) -> None:
    each = script()
    each.publication.end(137, {"odd": 1})
    assert run(each.id, "wait").stdout == "demo: ended with status 137\n"


@pytest.mark.parametrize("arguments", [("cancel", "--all"), ("pause",), ("stop",), ("set", "concurrency", "2")])
def test_ended_run_cannot_be_changed(script: Script, arguments: Sequence[str]) -> None:
    each = script()
    each.end(0)
    assert problem(each.id, *arguments) == "ended"


def test_wait_ends_with_the_run(script: Script) -> None:
    each = script()
    raw = msgspec.Raw(protocol.packed(summarize(each.fleet)))
    each.greeting = message_frame(protocol.Ended(3, ("the disk is full",), raw))
    waited = answer("wait", status=3)
    assert (waited["status"], waited["problems"], waited["summary"]["workers"]) == (3, ["the disk is full"], 8)
    assert run("wait").stderr == "asyncwatch: the disk is full\n"
    assert each.kinds == [Kind.ASKER, Kind.ASKER]


def test_wait_is_limited(script: Script) -> None:
    script()
    assert problem("wait", "--timeout", "20ms", status=124) == "timeout"


# -- which run


def test_run_is_the_only_one_or_named(script: Script) -> None:
    assert problem("list") == "no_run"
    first = script()
    second = script(name="other")
    assert problem("list") == "ambiguous_run"
    assert answer("other", "list")["run"]["id"] == second.id
    assert answer(first.id[:5], "list")["run"]["id"] == first.id
    assert problem("", "list") == "no_run"
    assert problem("nothing", "list") == "no_run"


def test_first_argument_that_is_an_action_is_no_run(script: Script) -> None:
    script(name="list")
    assert problem("list", "list") == "no_match"


@pytest.mark.parametrize("kind", ["protocol", "full", "stranger"])
def test_refused_client_says_why(script: Script, kind: str) -> None:
    each = script()
    each.greeting = message_frame(protocol.Refused(kind, "no"))
    assert answer("list", status=1)["error"] == {"kind": kind, "message": "no"}


def test_reason_of_a_later_version_is_a_known_kind(script: Script) -> None:
    each = script()
    each.greeting = message_frame(protocol.Refused("unheard-of", "no"))
    assert problem("list") == "protocol"


@pytest.mark.parametrize("garbage", [b"\xff" * 50, protocol._frame(ord("s"), b"\x03garbage")])
def test_garbage_of_a_run_is_an_error_of_the_protocol(script: Script, garbage: bytes) -> None:
    each = script()
    each.greeting = garbage
    assert problem("list") == "protocol"


def test_run_that_takes_no_connection_is_unreachable(script: Script) -> None:
    each = script()
    each.greeting = b""
    assert problem("list") == "unreachable"
    Path(each.publication.record.socket_path).unlink()
    assert problem("wait") == "unreachable"


def test_run_that_says_nothing_is_late(script: Script) -> None:
    each = script()
    each.greeting = message_frame(protocol.Welcome("1", each.id, "demo", 1))
    assert problem("list", "--timeout", "20ms", status=124) == "timeout"


def test_process_that_died_without_a_record_is_an_error(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    each = script()
    found = discovery.select(each.id)
    each.publication.withdraw()
    monkeypatch.setattr(remote, "select", lambda _: found)
    assert problem(each.id, "wait") == "died"


def test_system_without_sockets_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "AF_UNIX")
    assert problem("list") == "unsupported"


# -- usage


def test_action_is_needed_and_known(script: Script) -> None:
    each = script()
    for arguments in ((), (each.id,)):
        result = run(*arguments)
        assert result.exit_code == 2
        assert "Missing action: list, show, cancel" in result.stderr
    assert "No such command 'frobnicate'" in run(each.id, "frobnicate").stderr
    assert problem(each.id, "frobnicate", status=2) == "usage"
    assert problem("cancel", "--frobnicate", status=2) == "usage"
    assert problem("wait", "--timeout", "soon", status=2) == "usage"


def test_usage_error_masks_passwords_and_control_characters() -> None:
    for action in ("https://u:secret@h/\x1b[2J", "pause"):
        for json_option in ((), ("--json",)):
            result = run(action, "https://u:secret@h/\x1b[2J", *json_option)
            assert result.exit_code == 2
            assert "secret" not in result.output
            assert "\x1b" not in result.output


def test_help_names_every_action() -> None:
    result = run("--help")
    assert result.exit_code == 0
    for name, command in ctl.commands.items():
        assert f"  {name} " in result.stdout
        assert run(name, "--help").exit_code == 0
        assert command.help


# -- real runs

JOBS = """
import asyncio, pathlib, sys, time

async def work(item):
    if "hang" in item:
        await asyncio.Event().wait()
    if item == "bad":
        raise ValueError("bad item")
    return item

async def flag(item):
    if not pathlib.Path("go").exists():
        raise ConnectionError("not yet")
    return item

async def block(item):
    time.sleep(60)
"""


class RealRun:
    """A headless run in a process of its own."""

    def __init__(self, folder: Path, target: str, items: Sequence[str], *options: str) -> None:
        (folder / "jobs.py").write_text(JOBS)
        (folder / "items.txt").write_text("\n".join(items))
        (folder / "slow.toml").write_text('[retry]\nbase = "1h"\ncap = "1h"\n')
        self.folder = folder
        environment = {**os.environ, **ENVIRONMENT}
        command = [sys.executable, "-m", "asyncwatch", target, "--items", "items.txt", "--headless", *options]
        with (folder / "output").open("wb") as output:
            self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
        self.wait_for(lambda: bool(alive()))

    def wait_for(self, is_true: Callable[[], bool]) -> None:
        """Wait until something is true."""
        deadline = time.monotonic() + TIMEOUT
        while not is_true():
            assert time.monotonic() < deadline, (self.folder / "output").read_text()
            assert self.process.poll() is None, (self.folder / "output").read_text()
            time.sleep(0.02)

    def states(self) -> dict[str, str]:
        """Return the state of each worker."""
        return {worker["name"]: worker["state"] for worker in answer("list")["workers"]}


@pytest.fixture
def real(tmp_path: Path) -> Iterator[Callable[..., RealRun]]:
    """Start real runs."""
    runs: list[RealRun] = []

    def start(*arguments: Any) -> RealRun:
        runs.append(RealRun(tmp_path, *arguments))
        return runs[-1]

    yield start
    for each in runs:
        each.process.kill()
        each.process.wait()


def test_real_run_is_looked_at_steered_and_waited_for(real: Callable[..., RealRun]) -> None:
    each = real("jobs:work", ["good", "hang 1", "bad", "hang 2"])
    states = {"good": "succeeded", "hang 1": "running", "bad": "failed", "hang 2": "running"}
    each.wait_for(lambda: each.states() == states)
    assert answer("list", "state:failed")["workers"][0]["error"] == "ValueError: bad item"
    shown = answer("show", "hang 1")["worker"]
    assert shown["stack"][0]["file"].endswith("jobs.py")
    assert 0 < shown["elapsed"] < TIMEOUT
    assert 'raise ValueError("bad item")' in answer("show", "bad")["worker"]["traceback"]

    assert answer("pause")["setting"]["value"] is True
    assert answer("restart", "bad")["workers"][0]["outcome"] == "done"
    each.wait_for(lambda: each.states()["bad"] != "failed")
    assert answer("set", "concurrency", "9")["setting"]["previous"] == 100
    assert answer("resume")["setting"]["previous"] is True
    each.wait_for(lambda: each.states()["bad"] == "failed")
    assert answer("list", "bad")["workers"][0]["incarnation"] == 2

    done = answer("cancel", "hang 1", "bad", status=1)
    assert [worker["outcome"] for worker in done["workers"]] == ["done", "refused"]
    assert done["workers"][1]["reason"]

    run_id = alive()[0].id
    waited: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: waited.append(answer(run_id, "wait", status=130)))
    waiting.start()
    answer("stop")
    waiting.join(TIMEOUT)
    assert each.process.wait(TIMEOUT) == 130
    assert waited[0]["summary"]["counts"] == {"succeeded": 1, "failed": 1, "cancelled": 2}
    each.process.wait()
    assert answer(run_id, "wait", status=130)["summary"] == waited[0]["summary"]


def test_real_worker_that_waits_is_retried_now(real: Callable[..., RealRun]) -> None:
    each = real("jobs:flag", ["x"], "--config", "slow.toml")
    each.wait_for(lambda: each.states() == {"x": "backing off"})
    (each.folder / "go").touch()
    run_id = alive()[0].id
    assert answer("retry-now", "--all")["workers"][0]["outcome"] == "done"
    assert each.process.wait(TIMEOUT) == 0
    assert run(run_id, "wait").exit_code == 0


def test_real_process_that_is_killed_while_one_waits(
    real: Callable[..., RealRun], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_RECORD_TIMEOUT", TIMEOUT)
    monkeypatch.setattr(discovery, "RECORDED_AFTER", 0.0)  # its command is the process itself
    each = real("jobs:work", ["hang"])
    run_id = alive()[0].id
    results: list[dict[str, Any]] = []
    waiting = threading.Thread(target=lambda: results.append(answer(run_id, "wait", status=1)))
    waiting.start()
    answer("list")
    os.kill(each.process.pid, signal.SIGKILL)
    each.process.wait(TIMEOUT)
    waiting.join(TIMEOUT)
    assert results[0]["error"]["kind"] == "died"


def test_real_engine_that_is_killed_has_the_status_that_its_command_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "_RECORD_TIMEOUT", TIMEOUT)
    monkeypatch.setattr(discovery, "RECORDED_AFTER", TIMEOUT)
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "items.txt").write_text("hang")
    command = [sys.executable, "-m", "asyncwatch", "jobs:work", "--items", "items.txt"]
    with Terminal(command, cwd=tmp_path, env=ENVIRONMENT) as terminal:
        terminal.wait_for(lambda screen: "1 running" in screen)
        (record,) = alive()
        wait = [sys.executable, "-m", "asyncwatch", "ctl", record.id, "wait", "--json"]
        with subprocess.Popen(wait, stdout=subprocess.PIPE, env={**os.environ, **ENVIRONMENT}) as waiting:
            answer("list")
            os.kill(record.pid, signal.SIGKILL)
            assert terminal.wait_for_exit() == 137
            output, _ = waiting.communicate(timeout=TIMEOUT)
    assert waiting.returncode == 137
    assert json.loads(output)["status"] == 137


def test_real_loop_that_is_blocked_is_named(real: Callable[..., RealRun]) -> None:
    each = real("jobs:block", ["x"])
    each.wait_for(lambda: each.states() == {"x": "running"} and answer("show")["blocked"] is not None)
    done = answer("cancel", "x", "--timeout", "1s", status=124)
    assert "jobs.py" in done["error"]["message"]
    assert "time.sleep(60)" in done["error"]["message"]
    shown = answer("show", "x")["worker"]
    assert shown["is_blocking"] is True


def _shell(command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **ENVIRONMENT}
    return subprocess.run(
        ["bash", "-c", command.replace("ctl", f"{sys.executable} -m asyncwatch ctl", 1)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_interrupted_wait_has_status_130(script: Script) -> None:
    each = script()
    environment = {**os.environ, **ENVIRONMENT}
    command = [sys.executable, "-m", "asyncwatch", "ctl", "wait"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        deadline = time.monotonic() + TIMEOUT
        while not each.kinds:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, output) == (130, b"")


def test_reader_that_leaves_and_full_disk(script: Script) -> None:
    script(Stream(*map(str, range(20_000))).fold())
    gone = _shell("ctl list | head -1; exit ${PIPESTATUS[0]}")
    assert (gone.returncode, gone.stderr) == (141, "")
    full = _shell("ctl list --json > /dev/full")
    assert full.returncode == 1
    assert full.stderr.startswith("asyncwatch: cannot write to stdout: ")
