"""The processes of a run with a dashboard, seen by the command."""

import os
import subprocess
import sys
import textwrap

import pytest

from asyncwatch.cli.keeper import is_for_dashboard


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], True),
        (["https://a.example"], True),
        (["jobs:fetch", "--items", "ids.csv"], True),
        (["--config", "site.toml"], True),
        (["ps"], False),
        (["attach", "abc"], False),
        (["--help"], False),
        (["--version"], False),
        (["jobs:fetch", "--headless"], False),
        (["--json"], False),
        (["jobs:fetch", "-d"], False),
        (["--detach"], False),
    ],
)
def test_dashboard_is_made_early_for_runs_in_a_terminal_alone(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: bool
) -> None:
    monkeypatch.setattr(os, "isatty", lambda number: number == 1)
    assert is_for_dashboard(arguments) is expected
    monkeypatch.setattr(os, "isatty", lambda _number: False)
    assert not is_for_dashboard(arguments)


def in_process(code: str) -> None:
    """Run `code` in a process of its own, whose stack the forked ones unwind."""
    head = "import os, sys, time\nfrom asyncwatch.cli.keeper import DashboardProcess\nshown = DashboardProcess()\n"
    script = head + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_discarded_dashboard_ends_and_leaves_nothing() -> None:
    in_process("""
        shown.discard()
        assert shown.process.has_ended
        shown.discard()
        try:
            os.kill(shown.process.pid, 0)
        except ProcessLookupError:
            sys.exit(0)
        sys.exit("it is alive")
    """)


def test_dashboard_ends_with_its_command() -> None:
    in_process("""
        shown.connection.close()
        shown.lifeline.close()
        while not shown.process.has_ended:
            shown.process.look()
            time.sleep(0.01)
    """)


def test_forked_process_does_not_end_the_dashboard() -> None:
    in_process("""
        pid = os.fork()
        if not pid:
            shown.discard()
            os._exit(0)
        os.waitpid(pid, 0)
        shown.process.look()
        assert not shown.process.has_ended
        shown.discard()
    """)


def test_headless_run_discards_the_dashboard() -> None:
    in_process("""
        from asyncwatch.cli.main import main
        ended = []
        shown.process.kill, kill = lambda: ended.append(kill()), shown.process.kill
        try:
            main(["--headless", "nothing-to-run"], obj=shown, standalone_mode=False)
        except Exception as error:
            assert "neither a URL nor" in str(error), error
        assert ended and shown.process.has_ended
    """)
