"""The dashboard's process, without a terminal."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from asyncwatch.cli import dashboard
from asyncwatch.control import protocol


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"\x00\x00\x00\x00x", "a frame of the kind 120"),
        (protocol.message_frame(protocol.Refused("protocol", "the run is of another version")), "of another version"),
    ],
)
def test_run_that_is_not_understood_is_reported_as_a_broken_dashboard(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], frame: bytes, reason: str
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    ours, theirs = socket.socketpair()
    lifeline, held = socket.socketpair()
    with theirs, lifeline, held:
        theirs.sendall(frame)
        assert dashboard.run_dashboard(ours, lifeline) == dashboard.BROKEN
    ours.close()
    assert reason in capsys.readouterr().err


def test_viewer_of_a_run_that_has_just_ended_leaves_the_report_to_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    lifeline, held = socket.socketpair()
    with lifeline, held:
        assert dashboard.run_viewer(str(tmp_path / "gone"), lifeline, is_read_only=False) == dashboard.OVER
    assert capsys.readouterr().err == ""


def test_run_that_has_gone_leaves_the_report_to_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    ours, theirs = socket.socketpair()
    lifeline, held = socket.socketpair()
    with lifeline, held:
        theirs.close()
        assert dashboard.run_dashboard(ours, lifeline) == dashboard.OVER
    ours.close()
    assert capsys.readouterr().err == ""
