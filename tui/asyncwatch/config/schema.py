"""The settings of a run as records. Their defaults are those of the whole program; times are in seconds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, get_args

from msgspec import Struct, field
from msgspec.structs import replace

from asyncwatch.config import values
from asyncwatch.config.problems import KeyPath, Problems
from asyncwatch.config.values import NONE, Check, nearest
from asyncwatch.policies.runner import RETURN_WHEN, RUNNERS, ReturnWhen

Items = str | tuple[str, ...] | None
BackoffKind = Literal["full", "equal", "decorrelated", "constant", "none"]
ErrorClass = Literal["throttled", "transient", "server", "permanent"]
HaltMode = Literal["soon", "now"]
RestartType = Literal["permanent", "transient", "temporary"]
POOL: Final = "simple_one_for_one"
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]

ERROR_CLASSES: Final[tuple[ErrorClass, ...]] = ("throttled", "transient", "server", "permanent")
FAULTS: Final = ("disconnected", "timed_out", "broken")
"""The faults that have names of their own."""


class Retry(Struct, frozen=True, kw_only=True):
    """When an attempt that failed is made again."""

    max_attempts: int = 3
    base: float = 0.1
    cap: float = 5.0
    backoff: BackoffKind = "full"
    max_retry_after: float = 60.0
    throttled: dict[str, Any] = {}
    """What is different for errors of this class: any of the keys above. So for the other classes."""
    transient: dict[str, Any] = {}
    server: dict[str, Any] = {}
    permanent: dict[str, Any] = {}

    def by_class(self) -> dict[ErrorClass, Retry]:
        """Return the policies of the classes of errors that have one of their own."""
        common = replace(self, throttled={}, transient={}, server={}, permanent={})
        own = {name: getattr(self, name) for name in ERROR_CLASSES}
        return {name: replace(common, **changes) for name, changes in own.items() if changes}


class BadLuck(Struct, frozen=True, kw_only=True):
    """The draw above which a fault is injected, which one, and how much later every call is made."""

    threshold: float = 1.0
    faults: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FAULTS, 1.0))
    """How often each is chosen, relative to the others: one of FAULTS, an HTTP status, or a dotted exception class."""
    latency: tuple[float, float] | None = None
    """The least and the most seconds."""


class Http(Struct, frozen=True, kw_only=True):
    """How a URL is requested. `timeout` is in seconds, for one request with its answer; None is no limit."""

    method: str = "GET"
    headers: dict[str, str] = {}
    body: str = ""
    raise_for_status: bool = True
    timeout: float | None = 30.0


class RetryBudget(Struct, frozen=True, kw_only=True):
    """What all retries of a run are paid from."""

    tokens: float = 500.0
    retry_cost: float = 5.0
    timeout_cost: float = 10.0
    success_gain: float = 1.0


class Circuit(Struct, frozen=True, kw_only=True):
    """When no attempt of a key may start for a while."""

    enabled: bool = False
    failure_ratio: float = 0.5
    min_throughput: int = 20
    window: float = 10.0
    buckets: int = 10
    open_for: float = 5.0
    probes: int = 1


class RestartBackoff(Struct, frozen=True, kw_only=True):
    """How long a child of a supervisor waits before it is restarted."""

    base: float = 0.0
    factor: float = 2.0
    cap: float = 30.0
    stable_after: float = 60.0


class PerWorker(Struct, frozen=True, kw_only=True):
    """The limit of restarts that each worker has for itself; `max_restarts` None: that of its group counts."""

    max_restarts: int | None = None
    within: float = 5.0
    escalates: bool = False


class SupervisorTable(Struct, frozen=True, kw_only=True):
    """A supervisor of groups and other supervisors."""

    name: str = ""
    under: str | None = None
    """The name of the supervisor above; None: the root."""
    strategy: Strategy = "one_for_one"
    max_restarts: int = 1
    within: float = 5.0
    auto_shutdown: AutoShutdown = "never"
    restart: RestartType = "permanent"
    shutdown: float = math.inf
    significant: bool = False
    restart_backoff: RestartBackoff = RestartBackoff()


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
    timeout: float | None = None
    """Seconds from the start of the run; then the workers of this group that have not ended are timed out."""
    shutdown: float | None = None
    """Seconds that a worker may take to end. None: the run's grace."""
    key: str | None = None
    """What circuit and rate limit are kept by. None: the host, for HTTP."""
    restart: RestartType = "temporary"
    every: float | None = None
    significant: bool = False
    announces_ready: bool = False
    under: str | None = None
    strategy: Strategy = "one_for_one"
    max_restarts: int = 1
    within: float = 5.0
    auto_shutdown: AutoShutdown = "never"
    per_worker: PerWorker = PerWorker()
    restart_backoff: RestartBackoff = RestartBackoff()
    attempt_timeout: float | None = None
    deadline: float | None = None
    retry: Retry = Retry()
    classify: dict[str, ErrorClass] = {}
    """Classes of errors, by HTTP status or dotted name of an exception."""
    bad_luck: BadLuck = field(default_factory=BadLuck)
    http: Http = Http()

    @property
    def is_service(self) -> bool:
        """Whether its workers are to run for ever."""
        return self.restart != "temporary" or self.every is not None

    @property
    def is_pool(self) -> bool:
        """Whether its workers are children of one template, stopped all at once."""
        return self.strategy == POOL

    @property
    def is_supervised(self) -> bool:
        """Whether anything is said that only a supervisor of its workers heeds."""
        return any(getattr(self, key) != default for key, default in SUPERVISION.items())


SUPERVISION: Final[dict[str, Any]] = {
    key: getattr(Group(), key)
    for key in (
        "restart",
        "every",
        "significant",
        "announces_ready",
        "under",
        "strategy",
        "max_restarts",
        "within",
        "auto_shutdown",
        "per_worker",
        "restart_backoff",
    )
}
"""The keys of a group that make its workers children of a supervisor, and the values that do not."""


class Config(Struct, frozen=True, kw_only=True):
    """All settings of a run. None for `none`."""

    name: str = ""
    runner: str = "as_completed"
    return_when: ReturnWhen = "ALL_COMPLETED"
    concurrency: int = 100
    timeout: float | None = None
    grace: float = 5.0
    seed: int | None = None
    log_level: str = "info"
    output: str | None = None
    """Where one line a worker is written (relative to the config's folder)."""
    halt: str | None = None
    halt_mode: HaltMode = "soon"
    rate: str | None = None
    burst: int | None = None
    rate_per_key: str | None = None
    burst_per_key: int | None = None
    retry_budget: RetryBudget | None = RetryBudget()
    circuit: Circuit = Circuit()
    strategy: Strategy = "one_for_one"
    max_restarts: int = 1
    within: float = 5.0
    auto_shutdown: AutoShutdown = "never"
    attempt_timeout: float | None = None
    deadline: float | None = None
    retry: Retry = Retry()
    classify: dict[str, ErrorClass] = {}
    bad_luck: BadLuck = field(default_factory=BadLuck)
    http: Http = Http()
    supervisors: tuple[SupervisorTable, ...] = ()
    groups: tuple[Group, ...] = ()
    order: tuple[str, ...] = ()
    """The names of supervisors and groups as they stand in the file, in which order they start; empty without
    supervisors."""
    path: Path | None = None
    """The file that this was read from."""

    @property
    def is_tree(self) -> bool:
        """Whether there is anything to supervise beyond work that ends."""
        return bool(self.supervisors) or any(group.is_supervised for group in self.groups)

    @property
    def has_batch(self) -> bool:
        """Whether there is work that ends, beside what is supervised if there is anything."""
        return not self.is_tree or not all(group.is_supervised for group in self.groups)


class AnyKey(NamedTuple):
    """A table whose keys are free: a check for each key and one for each value."""

    key: Callable[[str], None]
    value: Check


class OrNone(NamedTuple):
    """A table that may be left out on purpose, by `none` in its place."""

    keys: Keys


Keys = Mapping[str, "Check | Keys | AnyKey | OrNone | list[Keys]"]
"""What each key takes: a value, a table, a table with free keys, a table or none, or an array of tables."""


def read_table(
    table: Mapping[str, Any], keys: Keys, place: KeyPath, problems: Problems, top: Keys | None = None
) -> dict[str, Any]:
    """Return the values of `table` that are as they should be. `top` are the keys of the whole file."""
    good: dict[str, Any] = {}
    top = keys if top is None else top
    for key, value in table.items():
        here = (*place, key)
        expected = keys.get(key)
        if expected is None:
            problems.add(here, _unknown(key, keys, top))
        elif isinstance(expected, list):
            if isinstance(value, list) and all(isinstance(each, dict) for each in value):
                good[key] = [read_table(each, expected[0], (*here, n), problems, top) for n, each in enumerate(value)]
            else:
                problems.add(here, f"must be tables that begin with [[{key}]]")
        elif callable(expected):
            try:
                good[key] = expected(value)
            except ValueError as error:
                problems.add(here, str(error))
        elif isinstance(expected, OrNone) and value == NONE:
            good[key] = None
        elif not isinstance(value, dict):
            problems.add(here, f"must be a table{f' or {NONE!r}' if isinstance(expected, OrNone) else ''}")
        elif isinstance(expected, AnyKey):
            good[key] = _read_free(value, expected, here, problems)
        else:
            inner = expected.keys if isinstance(expected, OrNone) else expected
            good[key] = read_table(value, inner, here, problems, top)
    return good


def _unknown(key: str, keys: Keys, top: Keys) -> str:
    if key in top:
        return "belongs to the top level: write it above the first [[group]] and [[supervisor]]"
    close = nearest(key, keys)
    hint = f"nearest valid key: {close}" if close else f"valid keys: {', '.join(keys)}"
    return f"unknown key ({hint})"


def _read_free(table: Mapping[str, Any], expected: AnyKey, place: KeyPath, problems: Problems) -> dict[str, Any]:
    good: dict[str, Any] = {}
    for key, value in table.items():
        try:
            expected.key(key)
            good[key] = expected.value(value)
        except ValueError as error:
            problems.add((*place, key), str(error))
    return good


LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
MAX_CONCURRENCY: Final = 1_000_000
MAX_ATTEMPTS: Final = 1_000_000
MAX_COUNT: Final = 10_000_000

_POLICY: Keys = {
    "max_attempts": values.whole(1, MAX_ATTEMPTS),
    "base": values.duration,
    "cap": values.duration,
    "backoff": values.choice(get_args(BackoffKind)),
    "max_retry_after": values.duration,
}
_RETRY: Keys = {**_POLICY, **dict.fromkeys(ERROR_CLASSES, _POLICY)}
_BAD_LUCK: Keys = {
    "threshold": values.share,
    "faults": AnyKey(values.fault_name(FAULTS), values.number(0)),
    "latency": values.optional(values.span),
}
_HTTP: Keys = {
    "method": values.method,
    "headers": AnyKey(values.header_name, values.header_value),
    "body": values.text,
    "raise_for_status": values.boolean,
    "timeout": values.optional(values.limit),
}
_INHERITED: Keys = {
    "attempt_timeout": values.optional(values.limit),
    "deadline": values.optional(values.limit),
    "retry": _RETRY,
    "classify": AnyKey(values.error_name, values.choice(ERROR_CLASSES)),
    "bad_luck": _BAD_LUCK,
    "http": _HTTP,
}
_RETRY_BUDGET: Keys = {
    "tokens": values.number(0),
    "retry_cost": values.number(0),
    "timeout_cost": values.number(0),
    "success_gain": values.number(0),
}
_CIRCUIT: Keys = {
    "enabled": values.boolean,
    "failure_ratio": values.ratio,
    "min_throughput": values.whole(1, MAX_ATTEMPTS),
    "window": values.period,
    "buckets": values.whole(1, 1000),
    "open_for": values.period,
    "probes": values.whole(1, MAX_CONCURRENCY),
}
_INTENSITY: Keys = {"max_restarts": values.whole(0, MAX_ATTEMPTS), "within": values.period}
_FLAGS: Keys = {
    "strategy": values.choice(get_args(Strategy)),
    **_INTENSITY,
    "auto_shutdown": values.choice(get_args(AutoShutdown)),
}
_CHILD: Keys = {
    "under": values.optional(values.line),
    "restart": values.choice(get_args(RestartType)),
    "significant": values.boolean,
    "restart_backoff": {
        "base": values.duration,
        "factor": values.number(1),
        "cap": values.duration,
        "stable_after": values.duration,
    },
    **_FLAGS,
}
_SUPERVISOR: Keys = {"name": values.node_name, "shutdown": values.patience, **_CHILD}
_GROUP: Keys = {
    "name": values.line,
    "target": values.target,
    "url": values.optional(values.text),
    "items": values.items,
    "count": values.whole(1, MAX_COUNT),
    "timeout": values.optional(values.limit),
    "shutdown": values.optional(values.patience),
    "key": values.optional(values.line),
    "every": values.optional(values.period),
    "announces_ready": values.boolean,
    "per_worker": {
        "max_restarts": values.optional(values.whole(0, MAX_ATTEMPTS)),
        "within": values.period,
        "escalates": values.boolean,
    },
    **_CHILD,
    **_INHERITED,
}
TOP: Keys = {
    "name": values.line,
    "runner": values.choice(RUNNERS),
    "return_when": values.choice(RETURN_WHEN, fold=str.upper),
    "concurrency": values.whole(1, MAX_CONCURRENCY),
    "timeout": values.optional(values.limit),
    "grace": values.duration,
    "seed": values.optional(values.whole(0, values.MAX_SEED)),
    "log_level": values.choice(LOG_LEVELS, fold=str.lower),
    "output": values.file,
    "halt": values.optional(values.halt),
    "halt_mode": values.choice(get_args(HaltMode)),
    "rate": values.optional(values.rate),
    "burst": values.optional(values.whole(1, MAX_CONCURRENCY)),
    "rate_per_key": values.optional(values.rate),
    "burst_per_key": values.optional(values.whole(1, MAX_CONCURRENCY)),
    "retry_budget": OrNone(_RETRY_BUDGET),
    "circuit": _CIRCUIT,
    **_FLAGS,
    **_INHERITED,
    "supervisor": [_SUPERVISOR],
    "group": [_GROUP],
}
