"""Plan of a run: which groups and workers a config and the arguments of the command line amount to."""

from __future__ import annotations

import contextlib
import difflib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import asdict, replace

from asyncwatch.config.load import ROOT_FLAGS, inherit, keys_of_batches, unnamed
from asyncwatch.config.problems import KeyPath, Problems
from asyncwatch.config.schema import FAULTS, Config, Group, SupervisorTable
from asyncwatch.config.values import TARGETS, url_problem
from asyncwatch.engine.threads import runs_in_thread
from asyncwatch.events import Batch, RunStarted, WorkersQueued
from asyncwatch.plan.cluster import engine_problems
from asyncwatch.plan.demo import draw_eventful_seed
from asyncwatch.plan.items import STDIN, Items, ItemsError, ItemSource, name_items, unique_names
from asyncwatch.policies.bad_luck import draw_seed
from asyncwatch.policies.rate import parse_rate
from asyncwatch.targets.names import (
    AsyncFunction,
    TargetError,
    call_problem,
    fault_problem,
    load_error,
    load_lifespan,
    load_target,
    path_hint,
)
from asyncwatch.text import mask_secrets, mask_url, one_line

if TYPE_CHECKING:
    from asyncwatch.engine.loop_thread import LoopThread
    from asyncwatch.journal.identity import Keys
    from asyncwatch.journal.resume import Resumption

_FUNCTION = re.compile(r"[^\W\d][\w.]*:[^\W\d][\w.]*")
_CREDENTIALS = re.compile(r":.*@")
"""What is before the host of a URL, perhaps of one without a scheme."""
_COMMANDS = {
    "again": " [ID]",
    "attach": " [ID]",
    "check": " [FILE] [TARGET]...",
    "ctl": " [ID] ACTION",
    "guide": " [TOPIC]",
    "ps": "",
    "resume": " [ID]",
    "selftest": "",
}
"""The commands other than the main one, with their arguments."""
_WHAT_TO_RUN = "give a TARGET or --items FILE, or write a [[group]]; one with target = 'demo' runs the demo"
_Load = Callable[..., Any]
"""Calls a function that runs code of the user's, with these arguments, in the thread for it."""
FORESEEN = 1_000
"""Workers, at most, that are shown before the engine runs. Reading more would take longer than the engine does."""


class PlanError(Exception):
    """Arguments or settings that cannot run. `problems` holds one line of text for each problem."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


class PlanProblems:
    """Problems of the config file, in the order of its lines, then all others."""

    def __init__(self, found: Problems | None) -> None:
        self._of_file = found
        self._others: list[str] = []

    def __contains__(self, key: KeyPath) -> bool:
        """Return whether the value at `key` of the config's file is known to be wrong."""
        return self._of_file is not None and key in self._of_file

    def __bool__(self) -> bool:
        """Return whether anything is wrong."""
        return bool(self._others or self._of_file)

    def add(self, problem: str, key: KeyPath = ()) -> None:
        """Note a problem, with the value at `key` of the config file if it comes from there."""
        if key and self._of_file is not None:
            self._of_file.add(key, problem)
        else:
            self._others.append(mask_secrets(problem))

    def raise_if_any(self) -> None:
        """Raise a `PlanError` with every problem."""
        if self:
            raise PlanError([*(self._of_file.lines if self._of_file is not None else ()), *self._others])


class Overrides(Struct, frozen=True, kw_only=True):
    """Options of the command line, which take precedence over the config. UNSET if not given. Times in seconds."""

    runner: str | UnsetType = UNSET
    concurrency: int | UnsetType = UNSET
    timeout: float | UnsetType | None = UNSET
    attempt_timeout: float | UnsetType | None = UNSET
    max_attempts: int | UnsetType = UNSET
    bad_luck: float | UnsetType = UNSET
    seed: int | UnsetType = UNSET
    output: str | UnsetType = UNSET
    summary_json: str | UnsetType = UNSET
    junit: str | UnsetType = UNSET
    rate: str | UnsetType | None = UNSET
    halt: str | UnsetType | None = UNSET
    stop_ok: bool | UnsetType = UNSET
    metrics: str | UnsetType | None = UNSET
    journal: bool | UnsetType = UNSET
    name_column: str | UnsetType = UNSET
    skip_bad: bool | UnsetType = UNSET
    lifespan: str | UnsetType | None = UNSET
    engine: str | UnsetType = UNSET
    insecure: bool | UnsetType = UNSET


class PlannedGroup(Struct, frozen=True, kw_only=True):
    """A group with its workers."""

    settings: Group
    names: list[str]
    """Names of the workers, in order. Unique in the whole run, except below different supervisors."""
    items: list[Any] | None = None
    """The argument of each worker. None: all are called the same way."""
    function: AsyncFunction | None = None
    """What the workers call, unless they fetch URLs."""
    given: list[str] | None = None
    """The names that the items have in their source, empty for an item without one. None: no item has one."""
    keys: Keys | None = None
    """The keys of the workers, if they are known already."""
    live: ItemSource | None = None
    """A pipe from which further items are read while the run goes on."""


class Plan(Struct, frozen=True, kw_only=True):
    """Everything that a run needs."""

    name: str
    seed: int
    config: Config
    groups: tuple[PlannedGroup, ...]
    errors: dict[str, type[Exception]] = {}
    """The exception classes that the settings name, by dotted name."""
    lifespan: Callable[[], Any] | None = None
    """Returns the async context manager around all attempts of functions."""
    notes: tuple[str, ...] = ()
    """What a person should know of the items."""
    loop_thread: LoopThread | None = None
    """The thread in which the modules of functions were imported, and their coroutines are to run."""
    resumption: Resumption | None = None
    """The run that this plan resumes or repeats; None for a new one."""

    @property
    def is_recorded(self) -> bool:
        """Whether the run has a journal: if the config does not say so, batches with items or URLs have one."""
        if self.resumption is not None:
            return self.resumption.store is not None or self.config.journal is not False
        if not self.has_work:
            return False
        if self.config.journal is not None:
            return self.config.journal
        if self.is_demo:
            return False
        has_items = any(group.items is not None or group.settings.url is not None for group in self.groups)
        return has_items and not self.config.is_tree

    @property
    def is_demo(self) -> bool:
        """Whether any group is the demo."""
        return any(group.settings.target == "demo" for group in self.groups)

    @property
    def has_work(self) -> bool:
        """Whether there is any worker, or may be."""
        return any(group.names or group.live is not None for group in self.groups)


def is_target(text: str) -> bool:
    """Return whether `text` looks like a target: a URL, or a module:function that is no file."""
    if "://" in text or path_hint(text):
        return True
    is_like_one = _FUNCTION.fullmatch(text) or _CREDENTIALS.search(text)
    return is_like_one is not None and not _is_file(text)


def _is_file(text: str) -> bool:
    # `Path.is_file` raises an error for a name that is too long.
    return os.path.isfile(text)  # noqa: PTH113


def make_plan(
    config: Config,
    *,
    targets: Sequence[str] = (),
    items: str | None = None,
    overrides: Overrides | None = None,
    found: Problems | None = None,
    stdin: BinaryIO | None = None,
    is_live: bool = False,
    has_terminal: bool = False,
    loop_thread: LoopThread | None = None,
) -> Plan:
    """Return the plan. Imports the modules of functions and reads the files of items.

    Args:
        config: the settings. `targets` or `items` replace its groups.
        targets: URLs, or one module:function.
        items: a file with one item per worker, or `-`.
        overrides: take precedence over the config.
        found: the problems of the config file so far. Further ones are added with their lines.
        stdin: read for `-`, in place of standard input.
        is_live: whether pipes are read while the run goes on. If not, they are read to their end.
        has_terminal: whether that goes for a terminal that is standard input too.
        loop_thread: imports the modules; None for the calling thread.

    Raises:
        PlanError: with every problem.

    """
    problems = PlanProblems(found)
    is_from_file = not targets and items is None
    if not is_from_file:
        root = {flag: getattr(Config(), flag) for flag in ROOT_FLAGS}
        groups = _groups_of(config, targets, items, problems)
        config = replace(config, groups=groups, supervisors=(), order=(), **root)
    elif not config.groups and ("group",) not in problems:
        problems.add(f"{config.path}: nothing to run: it has no groups; {_WHAT_TO_RUN}")
    overrides = overrides or Overrides()
    config = override(config, overrides)
    for option in keys_of_batches(config):
        if getattr(overrides, option, UNSET) not in (UNSET, None):
            problems.add(f"--{option} is for batches: there are services or supervisors, which run until stopped")
    if config.halt is None and config.halt_mode != Config().halt_mode and config.has_batch:
        problems.add(f"{config.halt_mode!r} has no effect without halt; set halt too", ("halt_mode",))
    if [group.items for group in config.groups].count(STDIN) > 1:
        problems.add("only one group can read its items from standard input")
    if not any(isinstance(group.items, str) for group in config.groups):
        given = (("--name", overrides.name_column), ("--skip-bad", overrides.skip_bad))
        for option in (option for option, value in given if value is not UNSET):
            problems.add(f"{option} is for items from a file; give --items FILE too")
    for problem in _overwritten(config):
        problems.add(problem)
    notes: list[str] = []
    load = _call if loop_thread is None else loop_thread.call
    planned = [
        _plan_group(
            group,
            problems,
            notes,
            ("group", index) if is_from_file else (),
            stdin,
            load,
            is_live=is_live,
            has_terminal=has_terminal,
            # The path of a supervised worker contains its group anyway.
            has_siblings=len(config.groups) > 1 and not group.is_supervised,
            has_lifespan=config.lifespan is not None,
        )
        for index, group in enumerate(config.groups)
    ]
    errors = _load_errors(config, problems, load)
    lifespan = _load_lifespan(config, problems, load)
    for problem, key in engine_problems(config, planned, lifespan, load):
        problems.add(problem, key)
    problems.raise_if_any()
    name = config.name or _derive_name(config, is_from_file=is_from_file)
    whole = tuple(group for group in planned if group is not None)
    seed = config.seed
    if seed is None and (seed := draw_eventful_seed(config, whole[0].names)) is not None:
        name = f"{name}, eventful seed"
    seed = draw_seed() if seed is None else seed
    return Plan(
        name=name,
        seed=seed,
        config=config,
        groups=_with_unique_names(whole),
        errors=errors,
        notes=tuple(notes),
        lifespan=lifespan,
        loop_thread=loop_thread,
    )


def _call(function: Callable[..., Any], *args: Any) -> Any:
    return function(*args)


def _load_lifespan(config: Config, problems: PlanProblems, load: _Load) -> Callable[[], Any] | None:
    if config.lifespan is None:
        if config.lifespan_per != Config().lifespan_per:
            text = f"lifespan_per = {config.lifespan_per!r} has no effect without lifespan; set lifespan too"
            problems.add(text, ("lifespan_per",))
        return None
    if all(group.target in TARGETS for group in config.groups):
        problems.add(f"lifespan = {config.lifespan!r}: no group calls a function, which would get it", ("lifespan",))
        return None
    try:
        lifespan: Callable[[], Any] = load(load_lifespan, config.lifespan)
    except TargetError as error:
        problems.add(f"lifespan: {error}", ("lifespan",))
        return None
    return lifespan


def _overwritten(config: Config) -> Iterator[str]:
    """Yield the problems of files of the end of a run that would replace a file that is read, or one another."""
    written = {"output": config.output, "summary file": config.summary_json, "JUnit file": config.junit}
    known = [(path, "which the run reads") for path in (str(config.path), *_items_of(config))]
    for what, path in written.items():
        if path is None:
            continue
        for other, why in known:
            if _is_same(path, other):
                yield f"the {what} would replace {other}, {why}; choose another file"
        if os.path.isfile(path) or not os.path.exists(path):  # noqa: PTH110, PTH113  may be no UTF-8
            known.append((path, f"the {what}"))  # a device, such as `/dev/stdout`, takes several


def _items_of(config: Config) -> Iterator[str]:
    return (group.items for group in config.groups if isinstance(group.items, str))


def _is_same(path: str, other: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(path).samefile(other)
    return os.path.abspath(path) == os.path.abspath(other)  # noqa: PTH100  neither exists


def override(config: Config, overrides: Overrides) -> Config:
    """Return `config`, including its groups, with the options of the command line."""
    given = {key: value for key, value in asdict(overrides).items() if value is not UNSET}
    changes = {key: given.pop(key) for key in ("max_attempts", "bad_luck", "attempt_timeout") if key in given}
    of_items = {key: given.pop(key) for key in ("name_column", "skip_bad") if key in given}
    if "insecure" in given:
        given["cluster"] = replace(config.cluster, insecure=given.pop("insecure"))

    def apply(group: Group) -> Group:
        if isinstance(group.items, str):
            group = replace(group, **of_items)
        if "max_attempts" in changes:
            group = replace(group, retry=replace(group.retry, max_attempts=changes["max_attempts"]))
        if "bad_luck" in changes:
            group = replace(group, bad_luck=replace(group.bad_luck, threshold=changes["bad_luck"]))
        if "attempt_timeout" in changes:
            group = replace(group, attempt_timeout=changes["attempt_timeout"])
        return group

    return replace(config, **given, groups=tuple(apply(group) for group in config.groups))


def _groups_of(config: Config, targets: Sequence[str], items: str | None, problems: PlanProblems) -> tuple[Group, ...]:
    """Return the group that the command line names, with the settings of the config's top level."""
    functions = [target for target in targets if "://" not in target and _FUNCTION.fullmatch(target)]
    urls = [target for target in targets if "://" in target]
    wrong = [
        *filter(None, map(url_problem, urls)),
        *(_unknown(target) for target in targets if target not in functions and target not in urls),
    ]
    if functions and len(targets) > 1:
        wrong.append(f"{functions[0]!r} cannot be combined: TARGET is URLs, or one module:function")
    if urls and items is not None:
        wrong.append("give URLs as TARGET or in the file of --items, not both")
    for problem in wrong:
        problems.add(problem)
    if wrong:
        return ()
    if functions:
        return (inherit(config, name=functions[0], target=functions[0], items=items),)
    return (inherit(config, name="http", items=tuple(urls) if urls else items),)


_CLOSE = 0.7
"""How alike a target and the name of a command must be, from 0 to 1, to be taken for a slip of the finger."""


def _unknown(target: str) -> str:
    if target in _COMMANDS:
        hint = f"{target} comes first: asyncwatch {target}{_COMMANDS[target]}"
    elif named := path_hint(target):
        hint = named
    elif _is_file(target):
        option = "--config" if target.endswith(".toml") else "--items"
        hint = f"it is a file; did you mean {option} {target}?"
    elif re.fullmatch(r"(localhost|[\w-]+(\.[\w-]+)+)(:\d+)?(/.*)?", target) and not target.endswith(".py"):
        scheme = "http" if target.startswith("localhost") else "https"
        hint = f"did you mean {scheme}://{target}?"
    elif close := difflib.get_close_matches(target, _COMMANDS, 1, _CLOSE):
        hint = f"did you mean the command {close[0]}?"
    else:
        hint = "a URL begins with http:// or https://, a function reads like jobs:fetch"
    return f"{one_line(mask_url(target), 80)!r} is neither a URL nor a module:function ({hint})"


def _plan_group(
    group: Group,
    problems: PlanProblems,
    notes: list[str],
    place: KeyPath,
    stdin: BinaryIO | None,
    load: _Load,
    *,
    is_live: bool,
    has_terminal: bool,
    has_siblings: bool,
    has_lifespan: bool,
) -> PlannedGroup | None:
    """Return the group with its workers, or None after noting its problems.

    `place` is the group's place in the config file, empty for a group of the command line. Problems that are known
    already are not noted again.
    """

    def of(key: str) -> KeyPath:
        return (*place, key) if place else ()

    if any(key in problems for key in (of("target"), of("items")) if key):
        return None
    is_whole = True
    function = None
    is_function = group.target not in TARGETS
    if is_function:
        try:
            function = load(load_target, group.target)
        except TargetError as error:
            is_whole = False
            problems.add(str(error), of("target"))
        else:
            problem = call_problem(
                function,
                0 if group.items is None else 1,
                "items" if place else "items with --items",
                has_lifespan=has_lifespan,
            )
            if group.announces_ready and runs_in_thread(function):
                is_whole = False
                text = f"is for async functions: {group.target} is a plain one, which cannot await asyncwatch.ready()"
                problems.add(text, of("announces_ready"))
            if problem:
                is_whole = False
                problems.add(f"{group.target} {problem}", of("target"))
    pairs: Items | None = None
    given = live = None
    try:
        if group.items == STDIN and problems:
            return None  # nothing will run, so no person should have to type items
        if isinstance(group.items, str):
            source = ItemSource(
                group.items,
                "any" if is_function else "url",
                stdin,
                name_column=group.name_column,
                skips_bad=group.skip_bad,
            )
            # A supervisor starts its children together.
            is_live = is_live and not group.is_supervised and not problems
            if is_live and source.open_live(has_terminal=has_terminal):
                pairs, live = [], source
            else:
                pairs, given = source.read(), source.given
                notes += source.notes(len(pairs))
        elif group.items is not None:
            pairs = name_items(group.items)
    except ItemsError as error:
        is_whole = False
        for wrong in error.problems:
            problems.add(wrong, of("items"))
    if not is_whole:
        return None
    if pairs is not None:
        names, items = [name for name, _ in pairs], [item for _, item in pairs]
        return PlannedGroup(settings=group, names=names, items=items, given=given, function=function, live=live)
    has_name = not place or group.name != unnamed(int(place[1]))
    names = _count_names(group, has_name=has_name, has_siblings=has_siblings)
    return PlannedGroup(settings=group, names=names, function=function)


def _count_names(group: Group, *, has_name: bool, has_siblings: bool) -> list[str]:
    """Return the names of workers without items: numbers, or for a single one the name of its group or its target."""
    if group.count == 1 and group.target != "demo":
        return [mask_secrets(group.name if has_name else group.url or group.target)]
    return [f"{group.name}/{n}" if has_siblings else str(n) for n in range(group.count)]


def _with_unique_names(planned: tuple[PlannedGroup, ...]) -> tuple[PlannedGroup, ...]:
    """Return the groups with names of workers that are unique among all groups of the batch."""
    batch = [group for group in planned if not group.settings.is_supervised]
    if len(batch) < 2:
        return planned
    names = iter(unique_names([name for group in batch for name in group.names]))
    return tuple(
        group if group.settings.is_supervised else replace(group, names=[next(names) for _ in group.names])
        for group in planned
    )


def _load_errors(config: Config, problems: PlanProblems, load: _Load) -> dict[str, type[Exception]]:
    """Return the exception classes that the settings name. Note each one that cannot be used, once."""
    errors: dict[str, type[Exception]] = {}
    wrong: set[tuple[str, str]] = set()
    settings: list[tuple[KeyPath, Config | Group]] = [
        ((), config),
        *((("group", index), group) for index, group in enumerate(config.groups)),
    ]
    for place, owner in settings:
        names = [(("classify",), name) for name in owner.classify]
        faults = [(("bad_luck", "faults"), name) for name in owner.bad_luck.named_faults if name not in FAULTS]
        for table, name in [*names, *faults]:
            if name.isdecimal() or (table[-1], name) in wrong:
                continue
            try:
                errors[name] = errors.get(name) or load(load_error, name)
                problem = load(fault_problem, errors[name]) if table[-1] == "faults" else None
            except TargetError as error:
                problem = str(error)
            if problem is not None:
                wrong.add((table[-1], name))
                problems.add(f"{name}: {problem}", (*place, *table, name))
    return errors


def _derive_name(config: Config, *, is_from_file: bool) -> str:
    if is_from_file and config.path is not None:
        return config.path.stem
    group = config.groups[0]
    if group.target != "http" or not isinstance(group.items, str):
        return group.name
    return "stdin" if group.items == STDIN else os.path.basename(group.items)  # noqa: PTH119  of a text


def children_by_parent(config: Config) -> dict[str | None, list[SupervisorTable | Group]]:
    """Return the supervisors and supervised groups below each supervisor, None being the root, in start order."""
    nodes: dict[str, SupervisorTable | Group] = {table.name: table for table in config.supervisors}
    nodes |= {group.name: group for group in config.groups if group.is_supervised}
    children: dict[str | None, list[SupervisorTable | Group]] = {}
    for name in config.order or nodes:
        if name in nodes:
            children.setdefault(nodes[name].under, []).append(nodes[name])
    return children


def foreseen_events(plan: Plan) -> Batch:
    """Return the first events of the run: that it started, and which workers are queued. Does not import the engine.

    They show the fleet in the first frame. There are none for a tree or for many workers.
    """
    config = plan.config
    workers = sum(len(group.names) for group in plan.groups)
    if config.is_tree or workers > FORESEEN or any(group.live is not None for group in plan.groups):
        return ()
    thresholds = {group.settings.bad_luck.threshold for group in plan.groups}
    started = RunStarted(
        0,
        0.0,
        plan.name,
        workers,
        config.runner,
        plan.seed,
        config.concurrency,
        config.timeout,
        time.time(),
        rate=_shown_rate(config.rate, config.burst),
        rate_per_key=_shown_rate(config.rate_per_key, config.burst_per_key),
        bad_luck=thresholds.pop() if len(thresholds) == 1 else None,
        done_before=0 if plan.resumption is None else plan.resumption.done_before,
    )
    queued = [
        WorkersQueued(seq, 0.0, group.settings.name, group.settings.retry.max_attempts, tuple(group.names))
        for seq, group in enumerate((group for group in plan.groups if group.names), start=1)
    ]
    return (started, *queued)


def _shown_rate(rate: str | None, burst: int | None) -> str | None:
    return None if rate is None else str(parse_rate(rate, burst))
