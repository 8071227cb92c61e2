"""Reads a config file: TOML to settings, with every problem at once.

Reading takes three steps. `read_table` reads each value by its rule; tables are then merged with what they inherit; at
last come the rules that span several keys: of the work of a group, of rates, and of supervision trees.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from asyncwatch.config.problems import ConfigError, KeyPath, Problems, line_of, locate_keys, read_text
from asyncwatch.config.schema import (
    POOL,
    BadLuckTable,
    Config,
    Group,
    Http,
    Items,
    RetryTable,
    SupervisorFlags,
    SupervisorTable,
    WorkSettings,
    read_table,
)
from asyncwatch.config.values import header_value, url_problem
from asyncwatch.events.tree import ROOT
from asyncwatch.policies.classify import ErrorClass
from asyncwatch.policies.settings import NONE, FreeTable, Partial, SettingError, Tables, nearest, settings_of
from asyncwatch.text import count, mask_values, parse_per_second

OF_RUNNERS = ("runner", "return_when", "timeout")
"""Settings that a tree does not use: it is served until it is stopped, also if a batch runs beside it."""
FOR_BATCHES = (*OF_RUNNERS, "halt", "halt_mode")
"""Settings that services do not use: they run until they are stopped."""
ROOT_FLAGS = SupervisorFlags.__struct_fields__
"""Settings of the supervisor at the top."""
_NOTHING_SIGNIFICANT = "has no effect: no child is significant"

_SECRET = re.compile(r"(?P<literal>\$)?\$\{(?:(?P<name>[^{}]*)\})?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

S = TypeVar("S", bound=Struct)


def load_config(path: Path) -> Config:
    """Return the settings in the file at `path`.

    Raises:
        ConfigError: with every problem of the file.

    """
    return parse_config(read_text(path), path)


def parse_config(text: str, path: Path) -> Config:
    """Return the settings in `text`, which came from `path`.

    Raises:
        ConfigError: with every problem of the text.

    """
    config, problems = read_config(text, path)
    problems.raise_if_any()
    return config


def read_config(text: str, path: Path) -> tuple[Config, Problems]:
    """Return the settings in `text`, which came from `path`, and the problems in it.

    An invalid value is replaced by the default, so that further problems can be found.

    Raises:
        ConfigError: the text is not TOML.

    """
    import tomllib  # noqa: PLC0415  the demo has no file

    problems = Problems(path, text)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([problems.of_syntax(error)]) from None
    given = read_table(document, Config, (), problems)
    tables, above = given.pop("groups", []), given.pop("supervisors", [])
    for key in ("output", "log_file", "summary_json", "junit", "journal_dir"):
        if key in given:
            given[key] = _beside(path, given[key])
    _complete_http(path, given, (), problems)
    top = _merge(Config(path=path, document=document), given, (), problems)
    supervisors = [
        _merge(SupervisorTable(name=f"supervisor {index + 1}"), table, ("supervisor", index), problems)
        for index, table in enumerate(above)
    ]
    groups = []
    for index, table in enumerate(tables):
        place = ("group", index)
        _check_work(document["group"][index], table, place, problems)
        if isinstance(table.get("items"), str) and table["items"] != "-":
            table["items"] = _beside(path, table["items"])
        _complete_http(path, table, place, problems)
        group = _merge(inherit(top, name=unnamed(index)), table, place, problems)
        if group.is_service and "max_attempts" not in table.get("retry", {}):
            group = replace(group, retry=replace(group.retry, max_attempts=1))  # its restart is its retry
        groups.append(group)
    order = _in_order(text, supervisors, groups) if supervisors else ()
    config = replace(top, groups=tuple(groups), supervisors=tuple(supervisors), order=order)
    _check_bursts(config, problems)
    _check_budget(config, problems)
    _TreeRules(config, problems).check()
    _check_kind_of_run(config, problems)
    return config, problems


def demo_config() -> Config:
    """Return the settings of the demo: 20 workers fetch one page of a built-in site, with bad luck."""
    group = Group(
        name="demo",
        target="demo",
        count=20,
        retry=RetryTable(base=0.5),
        bad_luck=BadLuckTable(threshold=0.9),
        http=Http(raise_for_status=False, timeout=5.0),
    )
    return Config(name="demo", runner="as_completed", timeout=20.0, groups=(group,))


def written_settings(config: Config) -> dict[str, Any]:
    """Return the settings as they are written in the file, by dotted key: secrets are masked, `${NAME}` is kept."""
    return dict(_written(config.document, Config, ""))


def _written(table: Mapping[str, Any], kind: type[Struct], above: str) -> Iterator[tuple[str, Any]]:
    for info in settings_of(kind):
        if info.key not in table:
            continue
        key, value, rule = f"{above}{info.key}", table[info.key], info.setting.rule
        below = rule.kind if isinstance(rule, (Tables, Partial)) else info.table
        if isinstance(rule, Tables):
            for number, each in enumerate(value):
                yield from _written(each, rule.kind, f"{key}.{number}.")
        elif below is not None and isinstance(value, dict):
            yield from _written(value, below, f"{key}.")
        elif isinstance(rule, FreeTable):
            for name, each in value.items():
                yield f"{key}.{name}", _without_secret(each) if info.setting.is_secret else mask_values(each)
        elif isinstance(value, list) and info.key == "items":
            yield key, count(len(value), "item")  # they have keys of their own
        else:
            yield key, _without_secret(value) if info.setting.is_secret else mask_values(value)


def _without_secret(value: object) -> str:
    """Return the references in a text that may be a secret, and `***` for all else."""
    references = [match[0] for match in _SECRET.finditer(str(value)) if match["name"] and not match["literal"]]
    return " ".join(["***", *references])


def unnamed(index: int) -> str:
    """Return the name of a group without a name of its own, by its position in the file from 0."""
    return f"group {index + 1}"


def inherit(config: Config, *, name: str, target: str = "http", items: Items = None) -> Group:
    """Return a group with the settings of the top level."""
    fields = [field for field in WorkSettings.__struct_fields__ if field not in ROOT_FLAGS]
    return Group(name=name, target=target, items=items, **{field: getattr(config, field) for field in fields})


def keys_of_batches(config: Config) -> tuple[str, ...]:
    """Return the settings of batches that the run does not use."""
    if not config.is_tree:
        return ()
    return OF_RUNNERS if config.has_batch else FOR_BATCHES


def _in_order(text: str, supervisors: list[SupervisorTable], groups: list[Group]) -> tuple[str, ...]:
    """Return the names of supervisors and groups in the order of the text."""
    lines = locate_keys(text)
    tables: list[tuple[str, list[Any]]] = [("supervisor", supervisors), ("group", groups)]
    places = [(line_of(lines, (key, n)), each.name) for key, table in tables for n, each in enumerate(table)]
    return tuple(name for _, name in sorted(places, key=lambda place: place[0]))


def _beside(config: Path, file: str | None) -> str | None:
    if file is None:
        return None
    path = Path(file)
    with contextlib.suppress(RuntimeError):  # `~user` without such a user is a name like any other
        path = path.expanduser()
    return str(config.parent / path)


# -- merging


def _merge(above: S, given: Mapping[str, Any], place: KeyPath, problems: Problems) -> S:
    """Return `above` with the given values, table by table; without them if they contradict each other."""
    changes: dict[str, Any] = {}
    for info in settings_of(type(above)):
        if info.field not in given:
            continue
        value, inherited = given[info.field], getattr(above, info.field)
        match info.setting.rule:
            case None if value is not None:
                table = info.default if inherited is None else inherited
                value = _merge(table, value, (*place, info.key), problems)
            case Partial():
                value = inherited | value
            case FreeTable() as rule:
                value = rule.inherit(inherited, value)
        changes[info.field] = value
    try:
        merged = replace(above, **changes)
    except SettingError as error:
        _note(error, type(above), given, place, problems)
        return above
    return _without_conflicts(merged, given, place, problems) if isinstance(merged, RetryTable) else merged


def _without_conflicts(retry: RetryTable, given: Mapping[str, Any], place: KeyPath, problems: Problems) -> Any:
    """Return `retry` without the settings of error classes that contradict the common ones."""
    for name in ErrorClass:
        field = f"on_{name}"
        try:
            replace(retry.policy, **getattr(retry, field))
        except SettingError as error:
            own = given.get(field, {})
            is_own = any(each in own for each in error.fields)
            _note(error, type(retry), own if is_own else given, (*place, name.value) if is_own else place, problems)
            retry = replace(retry, **{field: {}})
    return retry


def _note(
    error: SettingError, kind: type[Struct], given: Mapping[str, Any], place: KeyPath, problems: Problems
) -> None:
    """Note that settings contradict each other, at the first of them that is given."""
    keys = {info.field: info.key for info in settings_of(kind)}
    here = next(((*place, keys[field]) for field in error.fields if field in given), place)
    if here not in problems:
        problems.add(here, str(error))


# -- rules that span several keys


def _check_work(raw: Mapping[str, Any], table: Mapping[str, Any], place: KeyPath, problems: Problems) -> None:
    """Note contradictions in the work of a group: its target, url, items and count."""
    has_items, has_url = (raw.get(key, NONE) != NONE for key in ("items", "url"))
    for key in ("name_column", "skip_bad"):
        if raw.get(key, NONE) not in (NONE, False) and not isinstance(raw.get("items"), str):
            problems.add((*place, key), "is for items from a file: set items to its path")
    target = table.get("target", None if "target" in raw else Group().target)
    if has_items and "count" in raw:
        problems.add((*place, "count"), "count and items exclude each other: each item is one worker")
    if target == "http":
        if has_url and has_items:
            problems.add((*place, "url"), "url and items exclude each other: the items are the URLs")
        elif not has_url and not has_items:
            problems.add(place, "an http group needs url or items")
        inline = table.get("items")
        urls = {"url": [table.get("url")], "items": inline if isinstance(inline, tuple) else ()}
        for key, given in urls.items():
            for wrong in filter(None, (url_problem(url) for url in given if url is not None)):
                problems.add((*place, key), wrong)
    elif target is not None:
        what = "the demo" if target == "demo" else "a function"
        for key in ("url", "http") if target != "demo" else ("url", "items"):
            if key in raw and raw[key] != NONE:
                problems.add((*place, key), f"is not for {what}; remove it")


def _complete_http(config: Path, table: Mapping[str, Any], place: KeyPath, problems: Problems) -> None:
    """Find the certificates that the `http` table names, and read its secrets. Note what cannot be used."""
    http = table.get("http", {})
    if http.get("ca") is not None:
        http["ca"] = _beside(config, http["ca"])
        if problem := _ca_problem(http["ca"]):
            problems.add((*place, "http", "ca"), problem)
    texts = [(http, "body", ()), *((http.get("headers", {}), name, ("headers",)) for name in http.get("headers", {}))]
    for owner, name, below in texts:
        if "${" not in owner.get(name, ""):
            continue
        try:
            text = _with_secrets(owner[name], config)
            owner[name] = header_value(text) if below else text
        except ValueError as error:
            problems.add((*place, "http", *below, name), str(error))


def _ca_problem(file: str) -> str | None:
    import ssl  # noqa: PLC0415  few configs name certificates

    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        return f"{file} holds no certificates in PEM form"
    except OSError as error:
        return f"{file}: {error.strerror or error}"
    return None


def _with_secrets(text: str, config: Path) -> str:
    """Return `text` with the values of `${NAME}`, a variable of the environment, and `${file:PATH}`.

    Raises:
        ValueError: There is no such variable or file, or something else is in the braces.

    """

    def value_of(match: re.Match[str]) -> str:
        name = match["name"]
        if match["literal"]:
            return match[0][1:]
        if name is None:
            raise ValueError("has ${ without }; write $${ for ${ itself")
        if name.startswith("file:"):
            return _read_secret(str(_beside(config, name.removeprefix("file:"))))
        if not _VARIABLE.fullmatch(name):
            raise ValueError("has ${...} around what is neither a NAME nor file:PATH; write $${ for ${ itself")
        value = os.environ.get(name)
        if value is None:
            raise ValueError(f"the environment variable {name} is not set")
        if not _is_utf8(value):
            raise ValueError(f"the environment variable {name} is not UTF-8")
        return value

    return _SECRET.sub(value_of, text)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_secret(file: str) -> str:
    """Return the text of `file` without the line end that editors add."""
    try:
        return Path(file).read_bytes().decode().removesuffix("\n").removesuffix("\r")
    except OSError as error:
        raise ValueError(f"{file}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is not UTF-8") from None


def _check_budget(config: Config, problems: Problems) -> None:
    """Note a budget that can never pay for a retry."""
    budget = config.retry_budget
    if budget is not None and budget.tokens < budget.retry_cost:
        why = f"({budget.tokens:g}) must not be below retry_cost ({budget.retry_cost:g}): no retry could be paid for"
        problems.add(("retry_budget", "tokens"), f"tokens {why}")


def _check_bursts(config: Config, problems: Problems) -> None:
    """Note a burst without a rate, and a burst that is given twice."""
    for rate, burst in (("rate", "burst"), ("rate_per_key", "burst_per_key")):
        if getattr(config, burst) is None:
            continue
        limit = getattr(config, rate)
        if limit is None and (rate,) not in problems:
            problems.add((burst,), f"has no effect without {rate}; set {rate} too")
        elif limit is not None and parse_per_second(limit)[1] is not None:
            problems.add((burst,), f"{rate} already has a burst: {limit!r}; remove one of them")


def _check_kind_of_run(config: Config, problems: Problems) -> None:
    """Note settings of batches where there is a tree, and settings of a tree where there is none."""
    defaults = Config()
    keys, why = (
        (keys_of_batches(config), "is for batches: there are services or supervisors, which run until they are stopped")
        if config.is_tree
        else (
            ROOT_FLAGS,
            "is for supervision, and nothing is supervised: set restart or every in a [[group]]",
        )
    )
    for key in keys:
        if getattr(config, key) != getattr(defaults, key):
            problems.add((key,), why)


class _TreeRules:
    """The rules of OTP that the groups and supervisors of a config can break. Takes time linear in their number."""

    def __init__(self, config: Config, problems: Problems) -> None:
        self._config = config
        self._problems = problems
        self._supervisors = {table.name: table for table in config.supervisors}
        self._parents = {child.under for _, child in self._children()}
        """The names of supervisors that have a child; None for the root."""
        self._parents_of_significant = {
            child.under
            for _, child in self._children()
            # A group that shuts down with its workers is significant to the supervisor above.
            if (child.auto_shutdown != "never" if isinstance(child, Group) else child.significant)
        }
        self._in_cycles = _names_in_cycles(self._supervisors)
        self._is_tree = config.is_tree

    def check(self) -> None:
        """Note every rule that is broken, and names that come twice."""
        self._check_names()
        for place, child in self._children():
            self._check_under(child, place)
            if child.significant:
                self._check_significant(child, place)
            if isinstance(child, Group):
                self._check_group(child, place)
            elif child.name in self._in_cycles:
                why = f"{child.name!r} is below itself: the supervisors above it are a cycle"
                self._problems.add((*place, "under"), why)
            elif place not in self._problems:
                self._check_supervisor(child, place)
                self._check_strategy(child, place)
        self._check_strategy(self._config, ())
        if self._config.auto_shutdown != "never" and None not in self._parents_of_significant:
            self._problems.add(("auto_shutdown",), _NOTHING_SIGNIFICANT)

    def _children(self) -> Iterator[tuple[KeyPath, Group | SupervisorTable]]:
        for index, table in enumerate(self._config.supervisors):
            yield ("supervisor", index), table
        for index, group in enumerate(self._config.groups):
            yield ("group", index), group

    def _check_names(self) -> None:
        seen: dict[str, type] = {}
        for place, child in self._children():
            if child.name in seen:
                is_mixed = seen[child.name] is not type(child)
                what = "a supervisor and a group" if is_mixed else f"two {place[0]}s"
                self._problems.add((*place, "name"), f"{what} have the name {child.name!r}")
            seen.setdefault(child.name, type(child))

    def _check_under(self, child: Group | SupervisorTable, place: KeyPath) -> None:
        above = child.under
        if above is None or above in self._supervisors or (*place, "under") in self._problems:
            return
        close = nearest(above, self._supervisors)
        hint = f" (nearest: {close})" if close else ""
        self._problems.add((*place, "under"), f"there is no [[supervisor]] with the name {above!r}{hint}")

    def _check_significant(self, child: Group | SupervisorTable, place: KeyPath) -> None:
        here = (*place, "significant")
        if child.restart == "permanent":
            self._problems.add(here, "a permanent child cannot be significant: it never ends for good")
        parent: SupervisorFlags | None
        if isinstance(child, Group):
            parent, what = child, "this group"
        elif child.under is None:
            parent, what = self._config, "the top level"
        else:
            parent, what = self._supervisors.get(child.under), f"supervisor {child.under!r}"
        if parent is not None and parent.auto_shutdown == "never":
            self._problems.add(here, f"has no effect: auto_shutdown of {what} is never")

    def _check_supervisor(self, table: SupervisorTable, place: KeyPath) -> None:
        if table.name not in self._parents:
            why = f"{table.name!r} supervises nothing: no group or supervisor has under = {table.name!r}"
            self._problems.add(place, why)
        elif table.auto_shutdown != "never" and table.name not in self._parents_of_significant:
            self._problems.add((*place, "auto_shutdown"), _NOTHING_SIGNIFICANT)

    def _check_strategy(self, parent: Config | SupervisorTable, place: KeyPath) -> None:
        if parent.strategy == POOL:
            why = f"{POOL} is for a [[group]], a pool of its workers: they have one template"
            self._problems.add((*place, "strategy"), why)

    def _check_group(self, group: Group, place: KeyPath) -> None:
        problems = self._problems
        if not self._is_tree:
            return
        if (not group.name or "/" in group.name) and (*place, "name") not in problems:
            why = f"a group beside a supervisor needs a name without a slash, not {group.name!r}"
            problems.add((*place, "name"), why)
        if not group.is_supervised:
            if group.name == ROOT:
                problems.add((*place, "name"), f"{ROOT!r} is the supervisor at the top")
            return
        if group.auto_shutdown != "never" and not group.significant:
            problems.add((*place, "auto_shutdown"), _NOTHING_SIGNIFICANT)
        if group.timeout is not None:
            problems.add((*place, "timeout"), "is for batches: supervised workers run until they are stopped")
        if group.announces_ready and group.target in {"http", "demo"}:
            problems.add((*place, "announces_ready"), "is for functions: other workers never call asyncwatch.ready()")
        if group.liveness is not None and group.target in {"http", "demo"}:
            problems.add((*place, "liveness"), "is for functions: other workers never call alive()")
        elif group.liveness is not None and group.restart == "temporary" and group.every is None:
            text = (
                "restarts a worker, but restart is 'temporary', which never does: set it to 'permanent' or 'transient'"
            )
            problems.add((*place, "liveness"), text)
        limit = group.per_worker
        if limit.max_restarts is None and limit.escalates:
            problems.add((*place, "per_worker", "escalates"), "needs a limit of its own: per_worker.max_restarts")
        if group.restart == "temporary":
            backs_off = group.restart_backoff != Group().restart_backoff
            for key, is_set in (("per_worker", limit.max_restarts is not None), ("restart_backoff", backs_off)):
                if is_set:
                    problems.add((*place, key), "is for restarts, and temporary workers are never restarted")


def _names_in_cycles(supervisors: Mapping[str, SupervisorTable]) -> set[str]:
    """Return the names of supervisors that are above themselves."""
    found: set[str] = set()
    visited_from: dict[str, str] = {}
    for start in supervisors:
        path: list[str] = []
        name: str | None = start
        while name is not None and name in supervisors and name not in visited_from:
            visited_from[name] = start
            path.append(name)
            name = supervisors[name].under
        if name is not None and visited_from.get(name) == start:
            found.update(path[path.index(name) :])
    return found
