"""What contradicts itself in a supervision tree, by the rules of OTP's supervisor, and what no tree can have."""

from __future__ import annotations

from collections.abc import Iterator

from asyncwatch.choices import ROOT
from asyncwatch.config_lines import Path as KeyPath
from asyncwatch.config_model import POOL, Config, Group, SupervisorTable
from asyncwatch.config_problems import Problems
from asyncwatch.config_values import nearest

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
