"""TOML -> Config. Finds every problem at once: file, line, key, what is wrong, and the nearest valid key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from asyncwatch import config_values as values
from asyncwatch.config_lines import Path as KeyPath
from asyncwatch.config_problems import ConfigError, Problems, read_text
from asyncwatch.config_read import AnyKey, Keys, read_table
from asyncwatch.durations import format_duration
from asyncwatch.items import url_problem

T = TypeVar("T", "Config", "Group")

RUNNERS: Final = ("gather", "as_completed", "wait", "task_group")
RETURN_WHEN: Final = ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION")
LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
ReturnWhen = Literal["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"]
Items = str | tuple[str, ...] | None
MAX_CONCURRENCY: Final = 1_000_000
MAX_ATTEMPTS: Final = 1_000_000
MAX_COUNT: Final = 10_000_000


class Retry(Struct, frozen=True, kw_only=True):
    """When an attempt that failed is made again. Times in seconds."""

    max_attempts: int = 3
    base: float = 0.1
    cap: float = 5.0


class BadLuck(Struct, frozen=True, kw_only=True):
    """The draw above which a fault is injected."""

    threshold: float = 1.0


class Http(Struct, frozen=True, kw_only=True):
    """How a URL is requested. `timeout` is in seconds, for one request with its answer; None is no limit."""

    method: str = "GET"
    headers: dict[str, str] = {}
    body: str = ""
    raise_for_status: bool = True
    timeout: float | None = 30.0


class Group(Struct, frozen=True, kw_only=True):
    """Workers that call the same target. What its table leaves out is inherited from the top level."""

    name: str = ""
    target: str = "http"
    """`http`, `module:function`, or `demo`: the built-in site."""
    url: str | None = None
    """What every worker of an HTTP group fetches, if it has no items."""
    items: Items = None
    """One worker each: a file (relative to the config's folder), `-` for standard input, or the items."""
    count: int = 1
    """How many workers, if there are no items."""
    attempt_timeout: float | None = None
    timeout: float | None = None
    """Seconds from the start of the run; then the workers of this group that have not ended are timed out."""
    retry: Retry = Retry()
    bad_luck: BadLuck = BadLuck()
    http: Http = Http()


class Config(Struct, frozen=True, kw_only=True):
    """All settings of a run. Times in seconds, None for `none`."""

    name: str = ""
    runner: str = "as_completed"
    return_when: ReturnWhen = "ALL_COMPLETED"
    concurrency: int = 100
    timeout: float | None = None
    grace: float = 5.0
    seed: int | None = None
    attempt_timeout: float | None = None
    log_level: str = "info"
    output: str | None = None
    """Where one line a worker is written (relative to the config's folder)."""
    retry: Retry = Retry()
    bad_luck: BadLuck = BadLuck()
    http: Http = Http()
    groups: tuple[Group, ...] = ()
    path: Path | None = None
    """The file that this was read from."""


_RETRY: Keys = {
    "max_attempts": values.whole(1, MAX_ATTEMPTS),
    "base": values.duration,
    "cap": values.duration,
}
_BAD_LUCK: Keys = {"threshold": values.share}
_HTTP: Keys = {
    "method": values.method,
    "headers": AnyKey(values.header_name, values.header_value),
    "body": values.text,
    "raise_for_status": values.boolean,
    "timeout": values.optional(values.limit),
}
_INHERITED: Keys = {
    "attempt_timeout": values.optional(values.limit),
    "retry": _RETRY,
    "bad_luck": _BAD_LUCK,
    "http": _HTTP,
}
_GROUP: Keys = {
    "name": values.line,
    "target": values.target,
    "url": values.optional(values.text),
    "items": values.items,
    "count": values.whole(1, MAX_COUNT),
    "timeout": values.optional(values.limit),
    **_INHERITED,
}
_TOP: Keys = {
    "name": values.line,
    "runner": values.choice(RUNNERS),
    "return_when": values.choice(RETURN_WHEN, fold=str.upper),
    "concurrency": values.whole(1, MAX_CONCURRENCY),
    "timeout": values.optional(values.limit),
    "grace": values.duration,
    "seed": values.optional(values.whole(0, values.MAX_SEED)),
    "log_level": values.choice(LOG_LEVELS, fold=str.lower),
    "output": values.file,
    **_INHERITED,
    "group": [_GROUP],
}


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
    problems = Problems(path, text)
    try:
        document = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError([problems.of_syntax(error)]) from None
    given = read_table(document, _TOP, (), problems)
    tables = given.pop("group", [])
    if "output" in given:
        given["output"] = _beside(path, given["output"])
    own = _merge(Config(path=path), given, (), problems)
    groups = []
    for index, table in enumerate(tables):
        _check_work(document["group"][index], table, ("group", index), problems)
        if isinstance(table.get("items"), str) and table["items"] != "-":
            table["items"] = _beside(path, table["items"])
        inherited = inherit(own, name=f"group {index + 1}")
        groups.append(_merge(inherited, table, ("group", index), problems))
    _check_names(groups, problems)
    return replace(own, groups=tuple(groups)), problems


def demo_config() -> Config:
    """Return the settings of the demo: 20 workers fetch one page of a built-in site, with bad luck."""
    http = Http(raise_for_status=False, timeout=1.0)
    group = Group(name="demo", target="demo", count=20, bad_luck=BadLuck(threshold=0.9), http=http)
    return Config(name="demo", runner="as_completed", timeout=10.0, groups=(group,))


def inherit(config: Config, *, name: str, target: str = "http", items: Items = None) -> Group:
    """Return a group with the settings of the top level."""
    return Group(
        name=name,
        target=target,
        items=items,
        attempt_timeout=config.attempt_timeout,
        retry=config.retry,
        bad_luck=config.bad_luck,
        http=config.http,
    )


def _beside(config: Path, file: str | None) -> str | None:
    return None if file is None else str(config.parent / Path(file).expanduser())


def _merge(parent: T, given: dict[str, Any], place: KeyPath, problems: Problems) -> T:
    """Return `parent` with what was given in its place, table by table."""
    changes = dict(given)
    if "retry" in given:
        changes["retry"] = retry = replace(parent.retry, **given["retry"])
        if retry.cap < retry.base:
            key = "cap" if "cap" in given["retry"] else "base"
            cap, base = format_duration(retry.cap), format_duration(retry.base)
            problems.add((*place, "retry", key), f"cap ({cap}) must not be below base ({base})")
    if "bad_luck" in given:
        changes["bad_luck"] = replace(parent.bad_luck, **given["bad_luck"])
    if "http" in given:
        headers = _merge_headers(parent.http.headers, given["http"].get("headers", {}))
        changes["http"] = replace(parent.http, **{**given["http"], "headers": headers})
    return replace(parent, **changes)


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


def _check_names(groups: list[Group], problems: Problems) -> None:
    seen: set[str] = set()
    for index, group in enumerate(groups):
        if group.name in seen:
            problems.add(("group", index, "name"), f"two groups have the name {group.name!r}")
        seen.add(group.name)
