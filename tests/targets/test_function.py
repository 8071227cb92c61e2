"""Targets by `module:function`: those that can be called, and one clear line for all others."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncwatch.targets.names import TargetError, call_problem, load_target

JOBS = """
import functools

print("printed while importing")

async def run(item): return item
async def twice(a, b): return a + b
async def generate():
    yield 1
def plain(): return 1
number = 5

def decorate(function):
    @functools.wraps(function)
    def wrapper(*args): return function(*args)
    return wrapper

decorated = decorate(run)
partial = functools.partial(functools.partial(twice, 1), 2)
plain_partial = functools.partial(plain)

class Client:
    @classmethod
    async def fetch(cls, item): return item
    @staticmethod
    async def static(item): return item
    async def method(self, item): return item
    async def __call__(self, item): return item

client = Client()
class Sync:
    def __call__(self): return 1
sync = Sync()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return an empty folder, which is the current one. Modules imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.fixture
def jobs(folder: Path) -> Path:
    """Return a folder with a module `jobs_under_test`."""
    (folder / "jobs_under_test.py").write_text(JOBS)
    return folder


def problem_of(text: str) -> str:
    """Return why a target cannot be loaded."""
    with pytest.raises(TargetError) as caught:
        load_target(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "path",
    ["run", "decorated", "partial", "client", "Client.fetch", "Client.static", "client.method", "client.fetch"],
)
def test_load_target_finds_every_kind_of_coroutine_function(jobs: Path, path: str) -> None:
    assert callable(load_target(f"jobs_under_test:{path}"))


async def test_load_target_returns_the_function_itself(jobs: Path) -> None:
    assert await load_target("jobs_under_test:run")(5) == 5


def test_load_target_sends_prints_of_the_module_to_stderr(jobs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    load_target("jobs_under_test:run")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "printed while importing\n")


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("rum", "has no 'rum' (nearest: run)"),
        ("Client.fetsh", "'Client' has no 'fetsh' (nearest: fetch)"),
        ("number", "is an int, which cannot be called"),
        ("plain", "is not async"),
        ("plain_partial", "is not async"),
        ("sync", "is not async"),
        ("generate", "is an async generator"),
        ("Client", "is a class"),
    ],
)
def test_load_target_that_is_no_coroutine_function_is_refused_with_the_reason(
    jobs: Path, path: str, problem: str
) -> None:
    assert problem in problem_of(f"jobs_under_test:{path}")


@pytest.mark.parametrize("text", ["jobs", "jobs:", ":run", "jobs:a b", "jobs:1", "a/b:run", "..:run"])
def test_load_target_of_another_form_is_refused(folder: Path, text: str) -> None:
    assert problem_of(text).startswith(f"{text!r} is not a module:function")


def test_load_target_with_a_misspelt_name_suggests_the_nearest(jobs: Path) -> None:
    assert problem_of("jobs_under_tes:run") == "there is no module 'jobs_under_tes' (nearest: jobs_under_test)"
    assert problem_of("jobs_under_test.sub:run") == "there is no module 'jobs_under_test.sub'"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("\nimport zzz_missing", "does not import: ModuleNotFoundError: No module named 'zzz_missing' ({file}:2)"),
        ("\n\n1 / 0", "does not import: ZeroDivisionError: division by zero ({file}:3)"),
        ("raise ValueError('a\\nb')", "does not import: ValueError: a\\nb ({file}:1)"),
        ("raise ValueError", "does not import: ValueError ({file}:1)"),
        ("class E(BaseException): ...\nraise E", "does not import: E ({file}:2)"),
        ("import sys\nsys.exit(3)", "calls sys.exit(3) when imported ({file}:2)"),
        ("x = 1\ndef (", "has a syntax error: invalid syntax ({file}:2)"),
    ],
)
def test_load_target_that_does_not_import_names_the_line(folder: Path, code: str, problem: str) -> None:
    file = folder / "broken_under_test.py"
    file.write_text(code)
    assert problem_of("broken_under_test:run") == f"module 'broken_under_test' {problem.format(file=file)}"


def test_call_problem_names_the_arguments_that_do_not_fit(jobs: Path) -> None:
    run, twice = (load_target(f"jobs_under_test:{name}") for name in ("run", "twice"))
    assert call_problem(run, 1) is None
    assert call_problem(run, 0) == "needs an argument 'item'; give it items"
    assert str(call_problem(twice, 1)).startswith(
        "needs 2 arguments ('a', 'b'), but a worker is called with at most one item"
    )
    assert call_problem(load_target("jobs_under_test:partial"), 0) is None
    assert call_problem(load_target("jobs_under_test:Client.method"), 1) is not None
