"""Writes the reference pages of the guide from the code. Run `python -m tests.docs.reference` after a change."""

from __future__ import annotations

import ast
import importlib
import inspect
import itertools
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import click
from msgspec import Struct

import asyncwatch
from asyncwatch import guide, otp, testing
from asyncwatch.cli import ALL_SUCCEEDED, BAD_INPUT, INTERRUPTED, NOT_ALL_SUCCEEDED, READER_GONE, main
from asyncwatch.cli.answer import TIMED_OUT, ErrorKind
from asyncwatch.cli.ctl import ctl
from asyncwatch.config.schema import Config
from asyncwatch.events import run as run_events
from asyncwatch.events import tree as tree_events
from asyncwatch.events import workers as worker_events
from asyncwatch.events.base import Event, WorkerEvent
from asyncwatch.policies.settings import SettingInfo, Tables, help_of, settings_of
from asyncwatch.ui import guide as guide_screen
from asyncwatch.ui import keys
from asyncwatch.ui.render import format as fmt
from asyncwatch.ui.screens import details, errors, help, limits, log  # noqa: A004  named by its subject
from asyncwatch.ui.widgets import pick_list

_MADE = "<!-- Made by `python -m tests.docs.reference`. Change the code that it describes instead. -->"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    yield ""
    for row in (heads, ["---"] * len(heads), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
    yield ""


def code(text: object) -> str:
    """Return text as inline code."""
    return f"`{text}`"


# -- keys


def render_keys() -> Iterator[str]:
    """Yield the page of keys, states and filters."""
    yield from ("# Keys, states and filters", "", _MADE, "")
    yield "The dashboard shows the most useful keys in its last line, and all of them on the page that `?` opens."
    groups: tuple[tuple[str, Sequence[keys.Key]], ...] = (
        ("Acting on workers", keys.ACTS),
        ("The run", keys.RUN),
        ("Looking", keys.LOOKS),
        ("On every page", keys.GLOBAL),
        ("A recorded run, or the past of a live one (t)", keys.PLAYS),
        ("Moving", keys.MOVES),
        ("One worker (enter)", details.KEYS),
        ("Errors (e)", (*errors.KEYS, *pick_list.PICKS)),
        ("Limits (b)", (*limits.KEYS, *pick_list.PICKS)),
        ("Log (l)", log.KEYS),
        ("The guide", guide_screen.KEYS),
    )
    for title, group in groups:
        yield from ("", f"## {title}", *_keys(group))
        if group is keys.GLOBAL:
            yield from ("", _OF_VIEWERS)
    yield from ("", "## States")
    meanings = [(fmt.state_label(state), meaning) for state, meaning in help.MEANINGS.items()]
    meanings += [(mark, meaning) for mark, _, meaning in help.MARKS]
    yield from table(("State", "Meaning"), meanings)
    yield from ("## Filters", "", "Type a filter after `/`. `tab` takes over what it suggests.")
    yield from table(("Term", "Matches"), [(code(term), meaning) for term, meaning in help.FILTERS])


def _keys(group: Sequence[keys.Key]) -> Iterator[str]:
    caps = [" ".join(code(_CAPS.get(each, each)) for each in key.keys.split(",")) for key in group]
    yield from table(("Key", "Effect"), zip(caps, (key.explanation for key in group), strict=True))


_OF_VIEWERS = """\
In a dashboard that is attached to a run, `q`, `D` and `ctrl+c` only leave it, without a question. A read-only one
refuses every key that acts on workers, limits or settings."""

_CAPS = {
    "up": "↑",
    "down": "↓",
    "left": "←",
    "right": "→",
    "pageup": "PgUp",
    "pagedown": "PgDn",
    "home": "Home",
    "end": "End",
    "escape": "esc",
    "slash": "/",
    "left_square_bracket": "[",
    "right_square_bracket": "]",
    "question_mark": "?",
    "plus": "+",
    "minus": "-",
    "comma": ",",
    "full_stop": ".",
    "less_than_sign": "<",
    "greater_than_sign": ">",
    "colon": ":",
    "exclamation_mark": "!",
}
"""How keys are written that Textual names."""


# -- config


def render_config() -> Iterator[str]:
    """Yield the page of the config's keys."""
    yield from ("# Config", "", _MADE, "")
    yield (
        "`asyncwatch` reads the TOML file that `--config` names, else `asyncwatch.toml` in the current directory, else "
        "the one in your config folder. A config can run code and write a file, so the one in the current directory is "
        "named on the first line, and is used for URLs only if `--config` names it. "
        "`asyncwatch check` reports every problem with its line. Durations are written "
        '`"250ms"`, `"1.5s"`, `"2m"`, `"1h"`, or `5` for five seconds. `"none"` means no value.'
    )
    seen: set[int] = set()
    infos = settings_of(Config)
    plain = [info for info in infos if info.table is None and not isinstance(info.setting.rule, Tables)]
    yield from _settings(plain, seen)
    for info in infos:
        if info.table is not None:
            yield from ("", f"## [{info.key}]", "", info.setting.help)
            yield from _rows(_flat(info.table), seen)
    for info in sorted(infos, key=lambda info: info.key == "supervisor"):
        if isinstance(info.setting.rule, Tables):
            yield from ("", f"## [[{info.key}]]", "", info.setting.help)
            yield from _settings(_flat(info.setting.rule.kind), seen, level=3)


def _flat(kind: type[Struct], prefix: str = "") -> Iterator[tuple[str, SettingInfo]]:
    """Yield the settings of a table with their dotted keys."""
    for info in settings_of(kind):
        if info.table is None:
            yield f"{prefix}{info.key}", info
        else:
            yield from _flat(info.table, f"{prefix}{info.key}.")


def _settings(infos: Iterable[Any], seen: set[int], level: int = 2) -> Iterator[str]:
    """Yield settings below their headings. Those that were explained further up are only named."""
    pairs = [each if isinstance(each, tuple) else (each.key, each) for each in infos]
    known = dict.fromkeys(key.partition(".")[0] for key, info in pairs if id(info.setting) in seen)
    part: list[tuple[str, SettingInfo]] = []
    for key, info in pairs:
        if id(info.setting) in seen:
            continue
        if info.setting.heading:
            yield from _rows(part, seen)
            part = []
            title, _, more = info.setting.heading.partition(". ")
            yield from ("", f"{'#' * level} {title.rstrip('.')}", "", more)
        part.append((key, info))
    yield from _rows(part, seen)
    if known:
        yield from ("", f"These keys mean what they mean above: {', '.join(map(code, known))}.")


def _rows(pairs: Iterable[tuple[str, SettingInfo]], seen: set[int]) -> Iterator[str]:
    rows = []
    for key, info in pairs:
        seen.add(id(info.setting))
        rows.append((code(key), code(info.rule.write(info.default)), help_of(info.setting)))
    if rows:
        yield from table(("Key", "Default", "Meaning"), rows)


# -- events


def render_events() -> Iterator[str]:
    """Yield the page of the events."""
    yield from ("# Events", "", _MADE, "")
    yield (
        "`--json` writes one event per line, and `Run.subscribe()` returns a queue of batches of them. Each line has "
        "the name of its event in `event`; `seq`, which counts from 0 without a gap; and `at`, the seconds since the "
        "start of the run. An event about one worker has its name in `worker` and its `incarnation`, which counts "
        "from 1. A field with a default may be left out."
    )
    yield from ("", "```json", *_EXAMPLES, "```")
    parts = (
        ("Workers", worker_events, WorkerEvent),
        ("Supervisors", tree_events, Event),
        ("The run", run_events, Event),
    )
    for title, module, base in parts:
        yield from ("", f"## {title}")
        for kind in vars(module).values():
            is_event = isinstance(kind, type) and issubclass(kind, Event) and kind.__module__ == module.__name__
            if not is_event or kind.__subclasses__():
                continue
            yield from ("", f"### {kind.__name__}", "", _paragraphs(kind.__doc__))
            fields = [field for field in kind.__struct_fields__ if field not in base.__struct_fields__]
            if fields:
                yield from table(("Field", "Type", "Default"), [_field(kind, field) for field in fields])
    yield from ("", "## Values")
    named = [(worker_events, ("HOLD_REASONS", "RETRY_REFUSALS", "CANCEL_REASONS"))]
    for module, names in (*named, (run_events, ("SETTINGS", "BLOCK_CAUSES"))):
        found = assignments(ast.parse(inspect.getsource(module)))
        for name in names:
            values = ", ".join(code(value) for value in getattr(module, name))
            yield from ("", f"### {name}", "", f"{values}.", "", found[name].doc)


_EXAMPLES = (
    '{"event":"AttemptStarted","seq":7,"at":0.0123,"worker":"3","incarnation":1,"attempt":1,"bad_luck":0.4217}',
    '{"event":"WorkerSucceeded","seq":9,"at":0.5,"worker":"3","incarnation":1,"attempts":1,"elapsed":0.4,"result":200}',
)


def _field(kind: type[Event], name: str) -> tuple[str, str, str]:
    owner = next(each for each in kind.__mro__ if name in inspect.get_annotations(each))
    field = assignments(_class_of(owner))[name]
    return code(name), code(field.annotation), field.value and code(field.value)


# -- exit codes


def render_exit_codes() -> Iterator[str]:
    """Yield the page of exit codes."""
    yield from ("# Exit codes", "", _MADE, "", "## asyncwatch")
    yield from table(
        ("Code", "Meaning"),
        [
            (
                f"{ALL_SUCCEEDED}",
                "Every worker succeeded. Services may also have been stopped when their tree shut down by itself.",
            ),
            (
                f"{NOT_ALL_SUCCEEDED}",
                "A worker did not succeed, a tree or the lifespan failed, or the output could not be written.",
            ),
            (f"{BAD_INPUT}", "The arguments or the config are wrong. Nothing was run."),
            (
                f"{INTERRUPTED}",
                "Interrupted: Ctrl+C, SIGTERM, or quit while workers were active. With `--stop-ok`, 0 or 1 instead.",
            ),
            (f"{READER_GONE}", "The reader of standard output left, as in `| head`."),
        ],
    )
    yield from ("## Other commands",)
    yield from table(
        ("Command", "0", "1", "2"),
        [
            ("`asyncwatch check`", "The config can run.", "", "It has problems, each on a line of standard error."),
            ("`asyncwatch selftest`", "All cases passed.", "A case failed.", "The arguments are wrong."),
            ("`asyncwatch guide`", "The page was shown.", "", "There is no such page."),
            ("`asyncwatch runs`", "All was done.", "Not all was done.", "The arguments are wrong."),
            ("`asyncwatch ctl`", "All was carried out.", "Not all was carried out.", "The arguments are wrong."),
        ],
    )
    yield (
        f"`asyncwatch ctl` ends with {TIMED_OUT} after its `--timeout`, and `asyncwatch ctl wait` with the code of the "
        "run. If the process of the run is killed by a signal, that is 128 and its number."
    )


# -- command


def render_command() -> Iterator[str]:
    """Yield the page of the command's options."""
    yield from ("# Command", "", _MADE)
    for command in (main.main, *main.COMMANDS):
        name = "asyncwatch" if command is main.main else f"asyncwatch {command.name}"
        with command.make_context(name, [], resilient_parsing=True) as context:
            yield from _command(name, context, "##")
            for action, each in command.commands.items() if isinstance(command, click.Group) else ():
                below = each.make_context(action, [], context, resilient_parsing=True)
                of_run = " [ID]" if command is ctl else ""
                yield from _command(f"{name}{of_run} {action}", below, "###")
    yield from ("", "## Kinds of errors", "")
    yield (
        "Of `asyncwatch ctl` with `--json`, and its exit status. `asyncwatch ps` and `asyncwatch runs` have some of "
        "them."
    )
    kinds = assignments(_class_of(ErrorKind))
    described = [(code(kind.value), kinds[kind.name].doc, str(kind.status)) for kind in ErrorKind]
    yield from table(("Kind", "Meaning", "Status"), described)
    examples, notes = (part for part in main._EPILOG.split("\b\n") if part.strip())
    lines = [line.strip() for line in examples.splitlines()[1:] if line.strip()]
    rows = [(line.partition("  ")[0], line.partition("  ")[2].strip()) for line in lines]
    yield from ("", "## Examples", *table(("Command", "Effect"), [(code(row[0]), row[1]) for row in rows]))
    yield from ("## Notes", "", " ".join(notes.split("Exit status")[0].split()))
    yield from ("", "The exit status is explained in [Exit codes](reference-exit-codes.md).")


def _command(name: str, context: click.Context, level: str) -> Iterator[str]:
    command = context.command
    yield from ("", f"{level} {name}", "", code(f"{name} {' '.join(command.collect_usage_pieces(context))}"), "")
    yield _paragraphs(command.help)
    records = [record for each in command.get_params(context) if (record := each.get_help_record(context))]
    rows = [(code(option), meaning) for option, meaning in records if meaning]
    yield from table(("Option", "Meaning"), rows)


# -- API


def render_api() -> Iterator[str]:
    """Yield the page of the public names."""
    yield from ("# API", "", _MADE, "")
    yield "Import these names from `asyncwatch`, which imports neither Textual nor aiohttp. Times are in seconds."
    places: dict[str, str] = vars(asyncwatch)["_modules"]()
    for name in sorted(places, key=lambda name: (not name[0].isupper(), name)):
        yield from _member(name, importlib.import_module(places[name]))
    for module in (otp, testing):
        yield from ("", f"## {module.__name__}", "", _paragraphs(module.__doc__))
        own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
        shown = [value.__name__ for value in own if isinstance(value, type | FunctionType) and value.__name__[0] != "_"]
        names = getattr(module, "__all__", shown)
        rows = [(code(name), _first_paragraph(getattr(module, name).__doc__)) for name in names]
        yield from table(("Name", "Meaning"), rows)


def _member(name: str, module: Any) -> Iterator[str]:
    found = getattr(module, name)
    module = importlib.import_module(found.__module__)
    nodes = [each for each in ast.parse(inspect.getsource(module)).body if getattr(each, "name", None) == name]
    node: ast.AST = nodes[-1]  # the others are overloads
    node = _Defaults(module).visit(node)
    yield from ("", f"## {name}", "")
    if isinstance(node, ast.ClassDef):
        yield _paragraphs(ast.get_docstring(node))
        yield from _fields(found, node)
        yield from _methods(node)
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from (code(_signature(node)), "", _paragraphs(ast.get_docstring(node)))


class _Defaults(ast.NodeTransformer):
    """Replaces the names of constants by their values."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        """Return the value of a constant that is a text or a number."""
        value = getattr(self._module, node.id, None)
        return ast.Constant(value) if node.id.isupper() and isinstance(value, str | int | float) else node


def _fields(kind: type, node: ast.ClassDef) -> Iterator[str]:
    helps = {info.field: help_of(info.setting) for info in settings_of(kind)} if issubclass(kind, Struct) else {}
    rows = [
        (
            code(name),
            each.annotation and code(each.annotation),
            each.value and code(each.value),
            helps.get(name, each.doc),
        )
        for name, each in assignments(node).items()
        if not name.startswith("_")
    ]
    if rows:
        yield from table(("Field", "Type", "Default", "Meaning"), rows)


def _methods(node: ast.ClassDef) -> Iterator[str]:
    yield ""
    for each in node.body:
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and _is_overload(each):
            continue
        if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef) and not each.name.startswith("_"):
            decorators = {ast.unparse(decorator) for decorator in each.decorator_list}
            shown = each.name if "property" in decorators else _signature(each)
            yield f"- {code(shown)}: {_first_paragraph(ast.get_docstring(each))}"
        elif isinstance(each, ast.FunctionDef) and each.name == "__init__" and not _has_private_type(each):
            yield from ("", code(f"{node.name}{_arguments(each)}"), "")
    yield ""


def _is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list)


def _has_private_type(node: ast.FunctionDef) -> bool:
    """Return whether only the package itself can call it."""
    return any(each.annotation and ast.unparse(each.annotation).startswith("_") for each in node.args.args)


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    is_awaited = isinstance(node, ast.AsyncFunctionDef) and not node.decorator_list
    return f"{'await ' if is_awaited else ''}{node.name}{_arguments(node)}"


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    text = re.sub(r"^self(, )?", "", ast.unparse(node.args))
    returned = "" if node.returns is None or ast.unparse(node.returns) == "None" else f" -> {ast.unparse(node.returns)}"
    return f"({text}){returned}"


class Assignment(NamedTuple):
    """An assignment in a module or a class, with the text below it."""

    annotation: str
    value: str
    doc: str


def assignments(node: ast.Module | ast.ClassDef) -> dict[str, Assignment]:
    """Return what is assigned there, by name."""
    found = {}
    for each, after in itertools.zip_longest(node.body, node.body[1:]):
        annotation: ast.expr | None = None
        match each:
            case ast.AnnAssign(ast.Name(name), ast.Subscript(ast.Name("Annotated"), ast.Tuple([kind, _])), value):
                annotation = kind
            case ast.AnnAssign(ast.Name(name), annotation, value):
                pass
            case ast.Assign([ast.Name(name)], value):
                pass
            case _:
                continue
        match after:
            case ast.Expr(ast.Constant(str(text))):
                doc = inspect.cleandoc(text)
            case _:
                doc = ""
        found[name] = Assignment(
            "" if annotation is None else ast.unparse(annotation),
            "" if value is None else ast.unparse(value),
            _paragraphs(doc, is_cell=isinstance(node, ast.ClassDef)),
        )
    return found


def _class_of(kind: type) -> ast.ClassDef:
    node = ast.parse(inspect.getsource(kind)).body[0]
    assert isinstance(node, ast.ClassDef)
    return node


# -- text


def _first_paragraph(doc: str | None) -> str:
    return " ".join(inspect.cleandoc(doc or "").split("\n\n")[0].split())


def _paragraphs(doc: str | None, *, is_cell: bool = False) -> str:
    """Return a docstring as Markdown: paragraphs on one line each; sections such as `Raises:` as lists."""
    parts: list[str] = []
    for block in re.split(r"\n\n(?! )", inspect.cleandoc(doc or "").replace("\b\n", "")):
        paragraph, *programs = re.split(r":?:\n\n(?= {4})", block, maxsplit=1)
        head, *rest = paragraph.splitlines() or [""]
        if re.fullmatch(r"(Args|Raises):", head):
            items = re.sub(r"\n {4,}(?=\S)", "\n", re.sub(r"\n {8,}", " ", "\n" + "\n".join(rest))).split("\n")
            parts.append("\n".join([head, "", *(f"- {_named(item.strip())}" for item in items if item.strip())]))
        elif paragraph.startswith("- "):
            parts.append(paragraph)
        else:
            parts.append(" ".join(line.strip() for line in paragraph.splitlines()) + ":" * len(programs))
        parts += [f"```text\n{textwrap.dedent(program)}\n```" for program in programs]
    return " ".join(parts) if is_cell else "\n\n".join(parts)


def _named(item: str) -> str:
    name, colon, text = item.partition(":")
    return f"{code(name)}:{text}" if colon and " " not in name else item


PAGES: dict[str, Callable[[], Iterator[str]]] = {
    "reference-keys": render_keys,
    "reference-config": render_config,
    "reference-events": render_events,
    "reference-exit-codes": render_exit_codes,
    "reference-command": render_command,
    "reference-api": render_api,
}


def render(topic: str) -> str:
    """Return the text of a reference page."""
    return re.sub(r"\n{3,}", "\n\n", "\n".join(PAGES[topic]())).strip() + "\n"


def path_of(topic: str) -> Path:
    """Return the file of a reference page."""
    return guide.path_of(topic)


if __name__ == "__main__":
    for each in PAGES:
        path_of(each).write_text(render(each), encoding="utf-8")
