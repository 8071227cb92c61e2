"""Random inputs of the command, drawn from a seed: configs, arguments, items and modules, most of them wrong."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SECRET = "hunter2sesame"
"""A password that no message may show."""

_EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
_ODD = ["\0", "\x1b[2J", "\x07", "\u202e", "\u2028", "é", "日本", "\udc9f", "\x9b31m", "\r", "\t", "☂" * 40]
_URLS = [
    "http://a.example/x?y=%2F#z",
    "https://[::1]:8443/",
    f"http://user:{SECRET}@h.example/",
    f"http:/user:{SECRET}@h.example",
    f"https://user:{SECRET}@h.example:99999/",
    f"ftp://user:{SECRET}@h.example/",
    "http://",
    "http://a b/",
    "//a.example",
    "www.a.example:80/x",
]
_TARGETS = [
    "jobs:good",
    "jobs:none",
    "jobs:sync",
    "none:f",
    "jobs.py:good",
    "./jobs.py:good",
    "jobs",
    ":",
    "a:b:c",
    "…:x",
]
_VALUES = [
    "", "none", "0", "-1", "1", "1.5", "nan", "inf", "1e999", "9" * 400, "5s", "-5s", "5 parsecs", "50/s",
    "50/s burst 0", "1/0s", "5%", "500%", "first", "true", "[]", "{}", "'", '"', "\\", "%s%d{}", "${HOME}", "../..",
    "/dev/null",
    "~none/x", "x" * 5000,
]  # fmt: skip
_TOML = [
    "", "=", "a", "a=1", "a=1\na=2", "[a", "[[group]]", "[group]", "group = 1", "[[group]]\nname = 1",
    "[[group]]\nurl=[]", "[[supervisor]]\nname='s'\nunder='s'", "x = 1979-13-01", 'x = """', "x = '''\n", "\x00",
    "\ufeffname='b'",
    "[[[", "]" * 99,
    "[a.b.c.d]\n[a]\n[a.b]\nc=1", "retry = {base = 'x', cap = {}}", "classify.x = 1", "classify.'no.such.E' = 'server'",
    "bad_luck.faults = ['no.such.E']", "http.headers.X = '${NO_SUCH_VARIABLE}'", "http.headers.'a b' = 'x\\ny'",
    "http.ca = 'jobs.py'", "[[group]]\nitems='items.txt'\ncount=3\nurl='http://a'",
    "[[group]]\ntarget='jobs:good'\nrestart='permanent'\nevery='0s'\n", "output = 'kept.csv'",
]  # fmt: skip
_ROWS = [
    "", "#", "a", "  a  ", "a,b", "a;b;c", '"a', '"a"b', '{"url": 1}', "{", "[1]", '{"name": "x", "url": "http://a"}',
    "null",
    "[" * 5000, "1e999", '"\\ud800"', "sep=;", "=1+1", "x" * 70_000, *_URLS,
]  # fmt: skip
_BODIES = [
    "async def good(*items):\n    return items\n",
    "def good(*items): ...\n",
    "good = None\n",
    "raise {error}\n",
    "import sys\nsys.exit('bye')\n",
    "async def good(:\n",
    "x = '\x1b[2J\n",
    "import no_such_module\n",
    "from {name} import good\n",
    "class E(Exception):\n    def __str__(self): raise {error}\nraise E\n",
    "class E(BaseException):\n    __repr__ = __str__ = None\nraise E\n",
    "def __getattr__(name): raise {error}\n",
    "class F:\n    def __call__(self): raise {error}\n    __getattr__ = __getattribute__ = __call__\ngood = F()\n",
    "import functools\ngood = functools.partial(print)\n",
    "async def good(a, b, c, *, d): ...\n",
    "async def good(): ...\ngood.__wrapped__ = good\n",
    "async def good():\n    yield 1\n",
    "print('said', flush=True)\nasync def good(*items): ...\n",
    "import sys\nsys.stdout.close()\nasync def good(*items): ...\n",
    "import sys\nsys.stdout = sys.stderr = None\nasync def good(*items): ...\n",
    "\0",
    "# coding: no-such-coding\n",
    "\t x\n  y\n",
]
_ERRORS = [
    "ValueError('\x1b[2J')",
    "KeyboardInterrupt",
    "SystemExit(7)",
    "MemoryError",
    "RecursionError",
    "GeneratorExit",
    "1",
]
_OPTIONS = [
    "--config", "--items", "--runner", "--concurrency", "--timeout", "--attempt-timeout", "--max-attempts",
    "--bad-luck", "--seed", "--rate", "--halt", "--output", "--name", "--headless", "--json", "--stop-ok",
    "--skip-bad", "--",
    "-x", "--no",
]  # fmt: skip


class Case(NamedTuple):
    """One input: the files to write, and the arguments."""

    files: dict[str, bytes]
    arguments: list[str]


def draw_case(number: int) -> Case:
    """Return the case of that number, always the same."""
    draw = random.Random(number)
    kinds: list[Callable[[random.Random], Case]] = [_config, _arguments, _items, _module]
    return kinds[number % len(kinds)](draw)


def _config(draw: random.Random) -> Case:
    text = (
        _EXAMPLE.read_text(encoding="utf-8")
        if draw.random() < 0.5
        else "\n".join(draw.choices(_TOML, k=draw.randint(1, 4)))
    )
    for _ in range(draw.randint(1, 4)):
        text = _mutated(draw, text)
    data = text.encode("utf-8", "surrogatepass")
    return Case({"given.toml": data}, draw.choice([["check", "given.toml"], ["--config", "given.toml"]]))


def _mutated(draw: random.Random, text: str) -> str:
    lines = text.split("\n")
    place = draw.randrange(len(lines))
    match draw.randrange(6):
        case 0:
            lines[place] = ""
        case 1:
            lines.insert(place, draw.choice(_TOML))
        case 2:
            key = lines[place].partition("=")[0]
            value = draw.choice([*map(json.dumps, draw.choices(_VALUES, k=3)), *_VALUES, "1979-05-27", "[1, {a = []}]"])
            lines[place] = f"{key}= {value}"
        case 3:
            line = lines[place]
            at = draw.randint(0, len(line))
            lines[place] = line[:at] + draw.choice([*_ODD, *string.punctuation]) + line[at:]
        case 4:
            lines[place] = draw.choice(lines)
        case _:
            lines[place] = f"[[group]]\nurl = {json.dumps(draw.choice(_URLS))}"
    return "\n".join(lines)


def _arguments(draw: random.Random) -> Case:
    arguments = draw.choice([[], [], [], ["check"], ["guide"]])
    for _ in range(draw.randint(1, 5)):
        if draw.random() < 0.5:
            arguments.append(draw.choice(_OPTIONS))
        values = [*_URLS, *_TARGETS, *_VALUES, *_ODD, "items.txt", "good.toml", "none.toml", "check", "-"]
        arguments.append(draw.choice(values))
    return Case({}, [each.replace("\0", "\\0") for each in arguments])


def _items(draw: random.Random) -> Case:
    name = "given" + draw.choice([".txt", ".csv", ".jsonl", ".ndjson", ".CSV", ""])
    end = draw.choice(["\n", "\r\n", "\r", "\n\n"])
    text = end.join(draw.choices([*_ROWS, *_ODD], k=draw.randint(0, 40)))
    data = text.encode("utf-8", "surrogatepass")
    if draw.random() < 0.3:
        data = data[: draw.randint(0, len(data))] + draw.randbytes(20) + data[draw.randint(0, len(data)) :]
    options = draw.choice([[], [], ["--name", draw.choice(["a", "url", "none"])], ["--skip-bad"]])
    target = draw.choice([[], ["jobs:good"]])
    return Case({name: data}, [*draw.choice([[], ["check"]]), *target, "--items", name, *options])


def _module(draw: random.Random) -> Case:
    name = f"fuzzed_{draw.randrange(10**12)}"
    bodies = draw.choices(_BODIES, k=draw.randint(1, 2))
    body = "".join(each.replace("{name}", name).replace("{error}", draw.choice(_ERRORS)) for each in bodies)
    path = draw.choice([f"{name}.py", f"{name}/__init__.py"])
    attribute = draw.choice(["good", "good", "good", "E", "F", "none", "__class__", "good.x"])
    items = draw.choice([[], ["--items", "items.txt"]])
    return Case({path: body.encode()}, [*draw.choice([[], ["check"]]), f"{name}:{attribute}", *items])
