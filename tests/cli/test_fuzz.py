"""Whatever the input is, the command says what is wrong with it and where, with status 2, and touches nothing."""

from __future__ import annotations

import sys
import tempfile
import time
import unicodedata
from pathlib import Path

import platformdirs
import pytest
from click.testing import CliRunner

from asyncwatch.cli import main as cli
from asyncwatch.cli import session
from tests.cli.fuzz import SECRET, draw_case

CASES = 1_000
CHUNK = 50
LONGEST = 5.0
"""Seconds that one input may take."""
FILES = {
    "jobs.py": b"async def good(*items):\n    return items\n\ndef sync(item): ...\n",
    "good.toml": b'[[group]]\nurl = "http://a.example"\n',
    "items.txt": b"http://a.example\n",
    "kept.csv": b"kept\n",
}


@pytest.mark.parametrize("first", range(0, CASES, CHUNK))
def test_input_that_is_wrong_is_reported_and_touches_nothing(
    first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "run_plan", lambda _plan, **_how: 0)
    monkeypatch.setattr(platformdirs, "user_config_path", lambda _name: tmp_path / "none")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    # Without the folders of other tests, which have a `jobs.py` too.
    monkeypatch.setattr(sys, "path", [each for each in sys.path if not Path(each).is_relative_to(tmp_path.parent)])
    for number in range(first, first + CHUNK):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        _check(number, folder)


def _check(number: int, folder: Path) -> None:
    case = draw_case(number)
    files = FILES | case.files
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
    sys.modules.pop("jobs", None)  # of another test
    streams, modules, search_path = (sys.stdout, sys.stderr), set(sys.modules), list(sys.path)
    began = time.monotonic()
    result = CliRunner().invoke(cli.main, case.arguments, prog_name="asyncwatch", input="")
    took = time.monotonic() - began
    sys.path[:] = search_path
    for module in set(sys.modules) - modules:
        if module == "jobs" or module.startswith("fuzzed_"):
            del sys.modules[module]
    what = f"case {number}: {case.arguments!r}\n{result.output}"
    assert isinstance(result.exception, SystemExit | None), what
    # Nothing tells a `KeyboardInterrupt` that a module raises from that of a person.
    is_interrupted = any(b"KeyboardInterrupt" in data for data in case.files.values())
    assert result.exit_code in ({0, 2, 130} if is_interrupted else {0, 2}), what
    assert (sys.stdout, sys.stderr) == streams, what
    assert took < LONGEST, what
    written = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert written == files, what
    shown = result.stdout + result.stderr
    assert SECRET not in shown, what
    assert "Traceback" not in shown, what
    assert not [char for char in shown.replace("\n", "") if unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"}], (
        what
    )
    if result.exit_code == 2:
        lines = [
            line
            for line in result.stderr.splitlines()
            if not line.startswith(("Usage: ", "Try ", "said")) and line.strip()
        ]
        assert lines, what
        assert all(len(line) < 1_200 for line in lines), what
        (place,) = case.files or [""]
        place = place.removesuffix(".py").removesuffix("/__init__")
        assert all(line.startswith(("asyncwatch: ", "Error: ")) for line in lines), what
        assert any(place in line for line in lines), what
