"""What contradicts itself in a supervision tree, by the rules of OTP's supervisor, and what no tree can have."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from msgspec.structs import replace

from asyncwatch.config import values
from asyncwatch.config.problems import ConfigError, KeyPath, Problems, line_of, locate_keys, read_text
from asyncwatch.config.schema import (
    POOL,
    TOP,
    BadLuck,
    Circuit,
    Config,
    Group,
    Http,
    Items,
    PerWorker,
    RestartBackoff,
    Retry,
    RetryBudget,
    SupervisorTable,
    read_table,
)
from asyncwatch.config.values import nearest
from asyncwatch.events.tree import ROOT
from asyncwatch.plan.items import url_problem
from asyncwatch.text import format_duration, parse_per_second

OF_RUNNERS = ("runner", "return_when", "timeout")
"""Keys that a tree has no use for: it is served until it is stopped, whatever runs beside it."""
FOR_BATCHES = (*OF_RUNNERS, "halt", "halt_mode")
"""Keys that services have no use for: they run until they are stopped."""
ROOT_FLAGS = ("strategy", "max_restarts", "within", "auto_shutdown")
"""Keys of the supervisor at the top."""
NOTHING_SIGNIFICANT = "nothing would come of it: no child is significant"


def check_tree(config: Config, problems: Problems) -> None:
    """Note every rule of supervision that the groups and supervisors break, and names that come twice."""
    children = list(_children(config))
    _check_names(children, problems)
    flags = {table.name: table for table in config.supervisors}
    for place, child in children:
        if child.under is not None and child.under not in flags and (*place, "under") not in problems:
            close = nearest(child.under, flags)
            hint = f" (nearest: {close})" if close else ""
            problems.add((*place, "under"), f"there is no [[supervisor]] with the name {child.under!r}{hint}")
        if child.significant:
            _check_significant(child, place, config, problems)
        if isinstance(child, Group):
            _check_group(child, place, problems, is_tree=config.is_tree)
        elif _is_below_itself(child, flags):
            problems.add((*place, "under"), f"{child.name!r} is below itself: the supervisors above it are a cycle")
        elif place not in problems:
            _check_supervisor(child, place, config, problems)
            _check_pool(child, place, problems)
    _check_pool(config, (), problems)
    if config.auto_shutdown != "never" and not _has_significant(config, None):
        problems.add(("auto_shutdown",), NOTHING_SIGNIFICANT)


def keys_of_batches(config: Config) -> tuple[str, ...]:
    """Return the keys of batches that are of no use to that run."""
    if not config.is_tree:
        return ()
    return OF_RUNNERS if config.has_batch else FOR_BATCHES


def check_kind_of_run(config: Config, problems: Problems) -> None:
    """Note settings of batches where there is a tree, and those of a tree where there is none."""
    defaults = Config()
    keys, why = (
        (keys_of_batches(config), "is for batches: there are services or supervisors, which run until they are stopped")
        if config.is_tree
        else (ROOT_FLAGS, "is for supervision: there is no [[supervisor]], and no group that asks for one")
    )
    for key in keys:
        if getattr(config, key) != getattr(defaults, key):
            problems.add((key,), why)


def _children(config: Config) -> Iterator[tuple[KeyPath, Group | SupervisorTable]]:
    for index, table in enumerate(config.supervisors):
        yield ("supervisor", index), table
    for index, group in enumerate(config.groups):
        yield ("group", index), group


def _check_names(children: list[tuple[KeyPath, Group | SupervisorTable]], problems: Problems) -> None:
    seen: dict[str, type] = {}
    for place, child in children:
        if child.name in seen:
            kinds = {seen[child.name], type(child)}
            what = "a supervisor and a group" if len(kinds) == 2 else f"two {place[0]}s"
            problems.add((*place, "name"), f"{what} have the name {child.name!r}")
        seen.setdefault(child.name, type(child))


def _has_significant(config: Config, name: str | None) -> bool:
    """Return whether a supervisor, or the root, has a child whose end it heeds; a group that shuts down is one."""
    return any(child.significant for child in config.supervisors if child.under == name) or any(
        group.auto_shutdown != "never" for group in config.groups if group.under == name
    )


def _check_significant(child: Group | SupervisorTable, place: KeyPath, config: Config, problems: Problems) -> None:
    here = (*place, "significant")
    if child.restart == "permanent":
        problems.add(here, "a permanent child cannot be significant: it never ends for good")
    if isinstance(child, Group):
        auto_shutdown, above = child.auto_shutdown, "this group"
    elif child.under is None:
        auto_shutdown, above = config.auto_shutdown, "the top level"
    else:
        table = next((each for each in config.supervisors if each.name == child.under), None)
        if table is None:
            return
        auto_shutdown, above = table.auto_shutdown, f"supervisor {child.under!r}"
    if auto_shutdown == "never":
        problems.add(here, f"nothing would come of it: auto_shutdown of {above} is never")


def _check_supervisor(table: SupervisorTable, place: KeyPath, config: Config, problems: Problems) -> None:
    if not any(child.under == table.name for _, child in _children(config)):
        problems.add(place, f"{table.name!r} supervises nothing: no group or supervisor has under = {table.name!r}")
    elif table.auto_shutdown != "never" and not _has_significant(config, table.name):
        problems.add((*place, "auto_shutdown"), NOTHING_SIGNIFICANT)


def _check_pool(above: Config | SupervisorTable, place: KeyPath, problems: Problems) -> None:
    """Note a pool of groups: whatever is in a pool is made of one template."""
    if above.strategy == POOL:
        problems.add((*place, "strategy"), f"{POOL} is for a [[group]], a pool of its workers: they have one template")


def _check_group(group: Group, place: KeyPath, problems: Problems, *, is_tree: bool) -> None:
    if not is_tree:
        return
    if (not group.name or "/" in group.name) and (*place, "name") not in problems:
        problems.add((*place, "name"), f"a group beside a supervisor needs a name without a slash, not {group.name!r}")
    if not group.is_supervised:
        if group.name == ROOT:
            problems.add((*place, "name"), f"{ROOT!r} is the supervisor at the top")
        return
    if group.auto_shutdown != "never" and not group.significant:
        problems.add((*place, "auto_shutdown"), NOTHING_SIGNIFICANT)
    if group.timeout is not None:
        problems.add((*place, "timeout"), "is for batches: supervised workers run until they are stopped")
    if group.announces_ready and group.target in {"http", "demo"}:
        problems.add((*place, "announces_ready"), "is for functions: no other worker ever calls asyncwatch.ready()")
    limit = group.per_worker
    if limit.max_restarts is None and limit.escalates:
        problems.add((*place, "per_worker", "escalates"), "needs a limit of its own: per_worker.max_restarts")
    if group.restart == "temporary":
        for key, is_set in (("per_worker", limit.max_restarts is not None), ("restart_backoff", _backs_off(group))):
            if is_set:
                problems.add((*place, key), "is for restarts, and temporary workers are never restarted")


def _backs_off(group: Group) -> bool:
    return group.restart_backoff != Group().restart_backoff


def _is_below_itself(table: SupervisorTable, flags: dict[str, SupervisorTable]) -> bool:
    seen = set()
    above = flags.get(table.under or "")
    while above is not None and above.name not in seen:
        if above.name == table.name:
            return True
        seen.add(above.name)
        above = flags.get(above.under or "")
    return False


__all__ = [
    "BadLuck",
    "Circuit",
    "Config",
    "Group",
    "Http",
    "Items",
    "PerWorker",
    "RestartBackoff",
    "Retry",
    "RetryBudget",
    "SupervisorTable",
    "demo_config",
    "inherit",
    "load_config",
    "parse_config",
    "read_config",
]

T = TypeVar("T", Config, Group, SupervisorTable)
P = TypeVar("P", Retry, RestartBackoff)


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
    """Return the settings in `text`, which came from `path`, and what is wrong with them.

    In the place of a wrong value stands the default, so that whatever else is wrong can be found too.

    Raises:
        ConfigError: the text is no TOML.

    """
    import tomllib  # noqa: PLC0415  the demo has no file

    problems = Problems(path, text)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([problems.of_syntax(error)]) from None
    given = read_table(document, TOP, (), problems)
    tables, above = given.pop("group", []), given.pop("supervisor", [])
    if "output" in given:
        given["output"] = _beside(path, given["output"])
    own = _merge(Config(path=path), given, (), problems)
    _check_bursts(own, problems)
    _check_budget(own, problems)
    supervisors = [
        _merge(SupervisorTable(name=f"supervisor {index + 1}"), table, ("supervisor", index), problems)
        for index, table in enumerate(above)
    ]
    groups = []
    for index, table in enumerate(tables):
        _check_work(document["group"][index], table, ("group", index), problems)
        if isinstance(table.get("items"), str) and table["items"] != "-":
            table["items"] = _beside(path, table["items"])
        group = _merge(inherit(own, name=unnamed(index)), table, ("group", index), problems)
        if group.is_service and "max_attempts" not in table.get("retry", {}):
            group = replace(group, retry=replace(group.retry, max_attempts=1))  # its restart is its retry
        groups.append(group)
    order = _in_order(text, supervisors, groups) if supervisors else ()
    config = replace(own, groups=tuple(groups), supervisors=tuple(supervisors), order=order)
    check_tree(config, problems)
    check_kind_of_run(config, problems)
    return config, problems


def _in_order(text: str, supervisors: list[SupervisorTable], groups: list[Group]) -> tuple[str, ...]:
    """Return the names of supervisors and groups as they stand in the text."""
    lines = locate_keys(text)
    tables: list[tuple[str, list[Any]]] = [("supervisor", supervisors), ("group", groups)]
    places = [(line_of(lines, (key, n)), each.name) for key, table in tables for n, each in enumerate(table)]
    return tuple(name for _, name in sorted(places, key=lambda place: place[0]))


def demo_config() -> Config:
    """Return the settings of the demo: 20 workers fetch one page of a built-in site, with bad luck."""
    http = Http(raise_for_status=False, timeout=1.0)
    group = Group(name="demo", target="demo", count=20, bad_luck=BadLuck(threshold=0.9), http=http)
    return Config(name="demo", runner="as_completed", timeout=10.0, groups=(group,))


def unnamed(index: int) -> str:
    """Return what a group is called that has no name of its own, by its position in the file from 0."""
    return f"group {index + 1}"


def inherit(config: Config, *, name: str, target: str = "http", items: Items = None) -> Group:
    """Return a group with the settings of the top level."""
    return Group(
        name=name,
        target=target,
        items=items,
        attempt_timeout=config.attempt_timeout,
        deadline=config.deadline,
        classify=config.classify,
        retry=config.retry,
        bad_luck=config.bad_luck,
        http=config.http,
    )


def _beside(config: Path, file: str | None) -> str | None:
    return None if file is None else str(config.parent / Path(file).expanduser())


def _merge(parent: T, given: dict[str, Any], place: KeyPath, problems: Problems) -> T:
    """Return `parent` with what was given in its place, table by table."""
    changes = dict(given)
    for key, value in given.items():
        old = getattr(parent, key)
        match value:
            case {"headers": headers} if key == "http":
                changes[key] = replace(old, **{**value, "headers": _merge_headers(old.headers, headers)})
            case dict() if key == "retry":
                changes[key] = _merge_retry(old, value, (*place, key), problems)
            case dict() if key == "restart_backoff":
                changes[key] = _with_cap(old, value, (*place, key), problems)
            case dict() if key == "classify":
                changes[key] = {**old, **value}
            case dict():
                changes[key] = replace(RetryBudget() if old is None else old, **value)
            case _:
                pass
    faults = (*place, "bad_luck", "faults")
    if not any(given.get("bad_luck", {}).get("faults", {"": 1}).values()) and faults not in problems:
        problems.add(faults, "must name at least one fault with a weight above 0")
    return replace(parent, **changes)


def _merge_retry(parent: Retry, given: dict[str, Any], place: KeyPath, problems: Problems) -> Retry:
    """Return `parent` with what was given; a class of errors keeps what is not given anew for it."""
    own = {name: {**getattr(parent, name), **value} for name, value in given.items() if isinstance(value, dict)}
    retry = _with_cap(parent, {key: value for key, value in given.items() if key not in own}, place, problems)
    if place not in problems:
        for name, changes in own.items():
            _with_cap(retry, changes, (*place, name), problems)
    return replace(retry, **own)


def _with_cap(parent: P, given: dict[str, Any], place: KeyPath, problems: Problems) -> P:
    """Return `parent` with what was given, and note a cap below the base."""
    policy = replace(parent, **given)
    if given and policy.cap < policy.base:
        key = "cap" if "cap" in given else "base"
        cap, base = format_duration(policy.cap), format_duration(policy.base)
        problems.add((*place, key), f"cap ({cap}) must not be below base ({base})")
    return policy


def _merge_headers(parent: dict[str, str], own: dict[str, str]) -> dict[str, str]:
    """Return both, where the names of headers are equal whatever their case (RFC 9110, section 5.1)."""
    given = {name.lower() for name in own}
    return {**{name: value for name, value in parent.items() if name.lower() not in given}, **own}


def _check_work(raw: dict[str, Any], table: dict[str, Any], place: KeyPath, problems: Problems) -> None:
    """Note what contradicts itself in the work of a group: its target, url, items and count."""
    has_items, has_url = (raw.get(key, values.NONE) != values.NONE for key in ("items", "url"))
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
            if key in raw and raw[key] != values.NONE:
                problems.add((*place, key), f"is not for {what}")


def _check_budget(config: Config, problems: Problems) -> None:
    """Note a budget of retries that can never pay for one."""
    budget = config.retry_budget
    if budget is not None and budget.tokens < budget.retry_cost:
        why = f"({budget.tokens:g}) must not be below retry_cost ({budget.retry_cost:g}): no retry could be paid for"
        problems.add(("retry_budget", "tokens"), f"tokens {why}")


def _check_bursts(config: Config, problems: Problems) -> None:
    """Note a burst without a rate, and one that is given twice."""
    for rate, burst in (("rate", "burst"), ("rate_per_key", "burst_per_key")):
        if getattr(config, burst) is None:
            continue
        limit = getattr(config, rate)
        if limit is None and (rate,) not in problems:
            problems.add((burst,), f"is the burst of {rate}, which is not given")
        elif limit is not None and parse_per_second(limit)[1] is not None:
            problems.add((burst,), f"{rate} has a burst already: {limit!r}")
