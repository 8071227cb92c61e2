"""The driver of the terminal: odd input, a terminal that stalls or goes, job control, and drawing anew."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncwatch.ui.driver import InputDecoder
from tests.terminal.screen import PATIENCE, Terminal

ROOT = Path(__file__).parents[2]


class Dashboard(Terminal):
    """The program with the fake run in a terminal."""

    def __init__(self, folder: Path, role: str = "owner", **options: Any) -> None:
        self._result, self._ready = folder / "result.json", folder / "ready"
        command = [sys.executable, "-m", "tests.ui.dashboard_program", role, str(self._result), str(self._ready)]
        super().__init__(command, cwd=ROOT, **options)

    def wait_until_ready(self) -> None:
        """Wait, without reading, until the program has drawn its fleet."""
        deadline = time.monotonic() + PATIENCE
        while not self._ready.exists():
            assert time.monotonic() < deadline, "the program did not draw its fleet"
            assert self.process.poll() is None
            time.sleep(0.01)

    def wait_until_stopped(self) -> None:
        """Read until the process has stopped."""
        deadline = time.monotonic() + PATIENCE
        while os.waitpid(self.process.pid, os.WNOHANG | os.WUNTRACED) == (0, 0):
            self._read(deadline, step=0.02)

    def read(self) -> None:
        """Wait for something to be drawn, and read it."""
        self._read(time.monotonic() + PATIENCE)

    def type(self, data: bytes) -> None:
        """Type bytes."""
        os.write(self._master, data)

    def scribble(self, text: str) -> None:
        """Write to the terminal as another program does."""
        os.write(self._slave, text.encode())

    def result(self) -> dict[str, Any]:
        """Wait for the end and return the result."""
        assert self.wait_for_exit() == 0, self.text
        return json.loads(self._result.read_text())  # type: ignore[no-any-return]


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Dashboard]:
    """Start the program in a terminal."""
    return lambda role="owner", **options: Dashboard(tmp_path, role, **options)


def has_fleet(text: str) -> bool:
    """Return whether the fleet is on the screen, down to the keys."""
    return "› 0 " in text and "2 succeeded" in text and "q " in text.splitlines()[-1]


# -- input


def decoded(*pieces: bytes) -> str:
    decoder = InputDecoder()
    return "".join(map(decoder.decode, pieces))


ODD = [
    (b"a\xffb\xc3\xa9\xfe", "abé"),
    (b"\x1b[M\x43\xa0\x30q", "\x1b[M   q"),
    (b"\x1b[M\xc2\xa0\xc3x", "\x1b[M   x"),
    (b"\x1b[Mqqqj\x1b[M\x1b[M", "\x1b[M   j\x1b[M   "),
    (b"\x1b[35;12;9M", "\x1b[35;12;9M"),
    (b"\x1b[200~a\xffb\x1b[201~\xff", "\x1b[200~a�b\x1b[201~"),
    (b"\x1b[200~\x1b[Mabc\x1b[201~\x1b[Mabc", "\x1b[200~\x1b[Mabc\x1b[201~\x1b[M   "),
    (b"\xe2\x82\xac\xe2\x82q", "€q"),
    (b"\xed\xa0\x80x", "x"),
]


@pytest.mark.parametrize(("data", "text"), ODD)
def test_input_odd_bytes_are_dropped_or_replaced_however_they_are_cut(data: bytes, text: str) -> None:
    assert decoded(data) == text
    assert decoded(*(bytes([byte]) for byte in data)) == text
    for cut in range(1, len(data)):
        assert decoded(data[:cut], data[cut:]) == text


def test_input_report_that_is_not_continued_swallows_no_later_key() -> None:
    decoder = InputDecoder()
    assert decoder.decode(b"\x1b[M") == "\x1b[M"
    decoder.pause()
    assert decoder.decode(b"jq") == "jq"
    assert decoder.decode(b"\x1b[") == "\x1b["
    decoder.pause()
    assert decoder.decode(b"Mqqq") == "Mqqq"


NOISE = [
    b"\xff\xfe\x80\x9b\xc3\xf1",
    b"\x1b[M\x43\xa0\x30",
    b"\x1b[MCqq\x1b[M\xc2\xa0\xc2\x1b[M\x0aDD",
    b"\x1b[35;12;9M\x1b[3;1;1M",
    b"\x1b[99999999u\x1b[1114112;1;1u",
    b"\x1b[200~\xff q D c\x1b[201~",
]


def test_odd_input_neither_acts_nor_ends_the_dashboard(start: Callable[..., Dashboard]) -> None:
    with start() as terminal:
        terminal.wait_for(has_fleet)
        for noise in NOISE:
            terminal.type(noise + b"j")
            terminal.wait_for(lambda text: "› 1 " in text)
            terminal.type(noise + b"k")
            terminal.wait_for(lambda text: "› 0 " in text)
        terminal.type(b"D")
        assert terminal.result() == {"ending": "left", "sent": [], "detached": True}


def test_paste_into_the_filter_is_text_with_replacements(start: Callable[..., Dashboard]) -> None:
    with start() as terminal:
        terminal.wait_for(has_fleet)
        terminal.type(b"/\x1b[200~ab\xffq\x1b[201~")
        terminal.wait_for(lambda text: "ab�q" in text)
        terminal.type(b"\x1b")
        terminal.wait_for(lambda text: has_fleet(text) and "ab�q" not in text)
        terminal.type(b"D")
        assert terminal.result()["sent"] == []


# -- a terminal that stalls or goes


def test_sigterm_ends_the_dashboard_of_a_stalled_terminal(start: Callable[..., Dashboard]) -> None:
    """Nothing reads what the program draws: a pseudo-terminal takes about 4,000 bytes."""
    with start(columns=200, rows=60) as terminal:
        terminal.wait_until_ready()
        terminal.type(b"\x0c" * 100)
        terminal.kill(signal.SIGTERM)
        began = time.monotonic()
        terminal.process.wait(PATIENCE)
        assert time.monotonic() - began < PATIENCE / 4
        assert terminal.result()["ending"] == "stopped"
        assert terminal.current_attributes() == terminal.attributes
        assert b"\x1b[?1049l" in terminal.raw


@pytest.mark.parametrize(("number", "ending"), [(signal.SIGINT, "stopped"), (signal.SIGHUP, "hung up")])
def test_signal_ends_the_dashboard_and_not_the_run(
    start: Callable[..., Dashboard], number: signal.Signals, ending: str
) -> None:
    with start() as terminal:
        terminal.wait_for(has_fleet)
        terminal.kill(number)
        assert terminal.result() == {"ending": ending, "sent": [], "detached": False}


def test_stalled_terminal_is_drawn_anew_when_it_takes_output_again(start: Callable[..., Dashboard]) -> None:
    with start(columns=200, rows=60) as terminal:
        terminal.wait_until_ready()
        for _ in range(100):
            terminal.type(b"\x0cj")
        terminal.type(b"kg")
        terminal.wait_for(has_fleet)
        terminal.type(b"j")
        terminal.wait_for(lambda text: "› 1 " in text)
        terminal.type(b"D")
        assert terminal.result()["ending"] == "left"


@pytest.mark.parametrize("is_controlling", [True, False])
def test_terminal_that_goes_ends_the_dashboard(start: Callable[..., Dashboard], *, is_controlling: bool) -> None:
    with start(is_controlling=is_controlling) as terminal:
        terminal.wait_for(has_fleet)
        os.close(terminal._slave)
        terminal.hang_up()
        terminal._slave = os.open(os.devnull, os.O_RDONLY)
        terminal.process.wait(PATIENCE)
        assert json.loads(terminal._result.read_text())["ending"] == "hung up"


def test_error_of_the_app_leaves_the_terminal_as_it_was(start: Callable[..., Dashboard]) -> None:
    with start("broken") as terminal:
        assert terminal.wait_for_exit() == 1
        assert "the figures are broken" in terminal.text
        assert terminal.current_attributes() == terminal.attributes
        assert terminal.raw.rindex(b"\x1b[?1049l") > terminal.raw.rindex(b"\x1b[?1049h")


# -- job control


def test_ctrl_z_stops_the_process_and_sigcont_brings_the_screen_back_whole(start: Callable[..., Dashboard]) -> None:
    with start(columns=80, rows=24) as terminal:
        terminal.wait_for(has_fleet)
        terminal.type(b"\x1a")
        terminal.wait_until_stopped()
        assert terminal.current_attributes() == terminal.attributes
        while b"\x1b[?1049l" not in terminal.raw:
            terminal.read()
        terminal.scribble("\x1b[2J\x1b[Hthe shell")
        terminal.wait_for(lambda text: "the shell" in text)
        terminal.resize(100, 40)
        for _ in range(3):
            terminal.kill(signal.SIGCONT)
        terminal.wait_for(lambda text: has_fleet(text) and "the shell" not in text)
        assert len(terminal.lines) == 40
        terminal.type(b"j")
        terminal.wait_for(lambda text: "› 1 " in text)
        terminal.type(b"D")
        assert terminal.result()["ending"] == "left"
        assert terminal.current_attributes() == terminal.attributes


def test_dashboard_that_is_continued_in_the_background_stops_again(tmp_path: Path) -> None:
    program = f"{sys.executable} -m tests.ui.dashboard_program owner {tmp_path}/result.json {tmp_path}/ready"
    with Terminal(["bash", "--norc", "--noprofile", "-i"], cwd=ROOT, env={"PS1": "shell> "}) as terminal:
        terminal.wait_for(lambda text: "shell>" in text)
        terminal.press(f"{program}\n")
        terminal.wait_for(has_fleet)
        terminal.press("\x1a")
        terminal.wait_for(lambda text: "Stopped" in text)
        terminal.press("clear; bg\n")
        terminal.wait_for(lambda text: "dashboard_program" in text and "Stopped" not in text)
        while "Stopped" not in terminal.text:
            terminal.press("\n")
            terminal._read(time.monotonic() + PATIENCE)
        terminal.press("clear; fg\n")
        terminal.wait_for(has_fleet)
        terminal.press("D")
        terminal.wait_for(lambda text: "shell>" in text)
        assert json.loads((tmp_path / "result.json").read_text())["ending"] == "left"
        terminal.press("exit\n")
        assert terminal.wait_for_exit() == 0


def test_sigstop_and_sigcont_restore_the_modes_and_the_screen(start: Callable[..., Dashboard]) -> None:
    """A process cannot prepare for SIGSTOP. A shell changes the modes of the terminal meanwhile."""
    with start() as terminal:
        terminal.wait_for(has_fleet)
        terminal.kill(signal.SIGSTOP)
        terminal.wait_until_stopped()
        terminal.restore_attributes()
        terminal.scribble("\x1b[?25h\x1b[2J\x1b[Hthe shell")
        terminal.wait_for(lambda text: "the shell" in text)
        drawn = len(terminal.raw)
        terminal.kill(signal.SIGCONT)
        terminal.wait_for(lambda text: has_fleet(text) and "the shell" not in text)
        assert b"\x1b[?1006h" in terminal.raw[drawn:]
        terminal.type(b"j")
        terminal.wait_for(lambda text: "› 1 " in text)
        terminal.type(b"D")
        assert terminal.result()["ending"] == "left"


@pytest.mark.parametrize(
    ("keys", "shown"),
    [(b"?", "an error that a retry cannot fix"), (b"R", "Restart 1 worker"), (b"/x", "0 of 3")],
)
def test_ctrl_l_draws_over_what_other_programs_wrote(start: Callable[..., Dashboard], keys: bytes, shown: str) -> None:
    with start() as terminal:
        terminal.wait_for(has_fleet)
        terminal.type(keys)
        terminal.wait_for(lambda text: shown in text)
        while terminal._read(time.monotonic() + PATIENCE, step=0.3):
            pass  # until nothing more is drawn
        for place in ("1;1", "3;20", "15;40", "30;1"):
            terminal.scribble(f"\x1b[{place}H\x1b[31mwall: the system goes down")
        terminal.wait_for(lambda text: text.count("wall") == 4)
        terminal.type(b"\x0c")
        terminal.wait_for(lambda text: "wall" not in text and shown in text)
        terminal.kill(signal.SIGTERM)
        assert terminal.result()["sent"] == []
