"""The settings of a run as records. Their defaults are those of the whole program; times are in seconds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from asyncwatch.choices import ReturnWhen

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
