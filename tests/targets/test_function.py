"""Targets by `module:function`: those that can be called, and one clear line for all others."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncwatch.targets.names import TargetError, call_problem, fault_problem, load_error, load_target, path_hint

JOBS = """
import functools

print("printed while importing")

async def run(item): return item
async def twice(a, b): return a + b
async def generate():
    yield 1
def plain(): return 1
def generate_plainly():
    yield 1
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
    monkeypatch.setattr(sys, "meta_path", sys.meta_path[:])
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


@pytest.mark.parametrize("path", ["plain", "plain_partial", "sync"])
async def test_load_target_of_a_plain_function_runs_it_in_a_thread(jobs: Path, path: str) -> None:
    target = load_target(f"jobs_under_test:{path}")
    assert call_problem(target, 0) is None
    assert call_problem(target, 1) is not None
    assert await target() == 1


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
        ("generate_plainly", "is a generator"),
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


HOSTILE = {
    "shown": "class E(Exception):\n    def __str__(self): raise SystemExit(0)\nraise E",
    "exiting": "class C:\n    def __repr__(self): raise ValueError\nraise SystemExit(C())",
    "syntax": "class E(SyntaxError):\n    @property\n    def msg(self): raise SystemExit(0)\nraise E('x')",
    "missing": "raise ModuleNotFoundError('none', name=5)",
    "raising": "def __getattr__(name): raise OSError('no ' + name)",
    "leaving": "def __getattr__(name): raise SystemExit(0)",
    "listed": "class C:\n    def __dir__(self): raise KeyError\nrun = C()",
    "property": "class C:\n    @property\n    def go(self): raise SystemExit(0)\nrun = C()",
    "circle": "def run(): ...\nrun.__wrapped__ = run",
    "replaced": "import sys\nclass C:\n    def __getattr__(self, n): raise SystemExit\nsys.modules[__name__] = C()",
}


@pytest.mark.parametrize(
    ("name", "path", "problem"),
    [
        ("shown", "run", "module 'shown' does not import: E: <str raised SystemExit>"),
        ("exiting", "run", "module 'exiting' calls sys.exit(<C whose repr raised ValueError>) when imported"),
        ("syntax", "run", "module 'syntax' does not import: E: "),
        ("missing", "run", "module 'missing' does not import: ModuleNotFoundError: none"),
        ("raising", "run", "raises for 'run': OSError: no run"),
        ("leaving", "run", "raises for 'run': SystemExit: 0"),
        ("listed", "run.go", "'run' has no 'go'"),
        ("property", "run.go", "'run' raises for 'go': SystemExit: 0"),
        ("circle", "run", "cannot be examined: ValueError: wrapper loop"),
        ("replaced", "run", "raises for 'run': SystemExit"),
    ],
)
def test_module_whose_code_raises_is_refused_with_the_reason(folder: Path, name: str, path: str, problem: str) -> None:
    (folder / f"{name}.py").write_text(HOSTILE[name])
    assert problem in problem_of(f"{name}:{path}")


@pytest.mark.parametrize("odd", ["run.__signature__ = 5", "run.__wrapped__ = run"])
def test_function_with_odd_attributes_can_be_called(folder: Path, odd: str) -> None:
    (folder / "odd.py").write_text(f"async def run(): ...\n{odd}\n")
    assert call_problem(load_target("odd:run"), 0) is None


def test_ctrl_c_during_an_import_is_no_problem_of_the_module(folder: Path) -> None:
    (folder / "slow.py").write_text("def __getattr__(name): raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_target("slow:run")


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("none", ""),
        ("leaving", "def __getattr__(name): raise SystemExit(0)"),
        ("meta", "class M(type):\n    __mro__ = property(lambda cls: 1 / 0)\nclass Wrong(metaclass=M): ..."),
    ],
)
def test_error_that_cannot_be_read_is_refused(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(code)
    with pytest.raises(TargetError, match="Wrong"):
        load_error(f"{name}.Wrong")


def test_error_that_exits_when_it_is_made_is_no_fault(folder: Path) -> None:
    class LeavingError(Exception):
        def __init__(self, text: str) -> None:
            raise SystemExit(text)

    assert fault_problem(LeavingError) == "cannot be created from a text alone: SystemExit: bad luck"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("jobs.py:run", "did you mean jobs:run?"),
        ("pk/jobs.py:Client.run", "did you mean pk.jobs:Client.run?"),
        ("./pk/jobs.py:run", "did you mean pk.jobs:run?"),
        ("/home/me/jobs.py:run", "run it in the folder of its file"),
        ("../jobs.py:run", "run it in the folder of its file"),
        ("jobs:run", None),
        ("jobs.py", None),
        ("http://a.example/x.py:run", None),
    ],
)
def test_path_hint_is_for_targets_that_name_their_file(text: str, hint: str | None) -> None:
    assert path_hint(text) == hint


def test_folder_is_searched_after_python_and_before_packages(folder: Path) -> None:
    (folder / "empty_under_test.py").write_text("async def run(): ...\n")
    load_target("empty_under_test:run")
    at = sys.path.index(str(folder))
    assert any(Path(each, "queue.py").exists() for each in sys.path[:at])
    assert any(Path(each, "aiohttp").exists() for each in sys.path[at:])
    load_target("empty_under_test:run")
    assert sys.path.count(str(folder)) == 1


def test_module_of_a_dependency_is_the_installed_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "uvloop.py").write_text("raise SystemExit('shadowed')\n")
    (folder / "empty_under_test.py").write_text("async def run(): ...\n")
    load_target("empty_under_test:run")
    monkeypatch.delitem(sys.modules, "uvloop", raising=False)
    found = importlib.util.find_spec("uvloop")
    assert found is not None
    assert not str(found.origin).startswith(str(folder))


@pytest.mark.parametrize("text", ["queue:run", "email.jobs:run", "click:run"])
def test_target_with_the_name_of_another_module_gets_a_hint(folder: Path, text: str) -> None:
    for name in ("queue.py", "click.py"):
        (folder / name).write_text("async def run(): ...\n")
    (folder / "email").mkdir()
    (folder / "email/jobs.py").write_text("async def run(): ...\n")
    problem = problem_of(text)
    assert problem.endswith("has the name of a module of Python or of an installed package: rename it")


def test_call_problem_names_the_arguments_that_do_not_fit(jobs: Path) -> None:
    run, twice = (load_target(f"jobs_under_test:{name}") for name in ("run", "twice"))
    assert call_problem(run, 1) is None
    assert call_problem(run, 0) == "needs an argument 'item'; give it items"
    assert str(call_problem(twice, 1)).startswith(
        "needs 2 arguments ('a', 'b'), but a worker is called with at most one item"
    )
    assert call_problem(load_target("jobs_under_test:partial"), 0) is None
    assert call_problem(load_target("jobs_under_test:Client.method"), 1) is not None
