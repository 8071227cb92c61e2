"""The settings of a run, as a config file groups them. Times are in seconds.

A table of a file is a struct here, and a key is an annotated field of it: see `asyncwatch.policies.settings`. Policies
are used as they are; a table that has keys beside those of its policy extends it.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from asyncwatch.config import values
from asyncwatch.config.engine import ASYNCIO, DEFAULT_CLIENT_GRACE
from asyncwatch.config.problems import KeyPath, Problems
from asyncwatch.policies.bad_luck import MAX_SEED, BadLuck
from asyncwatch.policies.budget import RetryBudget
from asyncwatch.policies.circuit import CircuitPolicy
from asyncwatch.policies.classify import ErrorClass
from asyncwatch.policies.halt import DEFAULT_HALT_MODE, HaltModeSetting
from asyncwatch.policies.limits import (
    CONCURRENCY_RULE,
    DEFAULT_CONCURRENCY,
    DEFAULT_GRACE,
    GRACE_RULE,
    JOURNALS_KEPT,
    JOURNALS_SIZE,
    MAX_PER_KEY_RULE,
)
from asyncwatch.policies.rate import RATE_RULE, Burst
from asyncwatch.policies.restart import (
    AUTO_SHUTDOWN_RULE,
    DEFAULT_AUTO_SHUTDOWN,
    DEFAULT_STRATEGY,
    FLAG_RULE,
    MAX_RESTARTS,
    MAX_RESTARTS_RULE,
    PERIOD_RULE,
    RESTART_RULE,
    SHUTDOWN_RULE,
    STRATEGY_RULE,
    SUPERVISOR_RESTART,
    SUPERVISOR_SHUTDOWN,
    WITHIN,
    WORKER_RESTART,
    AutoShutdown,
    Flapping,
    RestartBackoff,
    RestartType,
    Strategy,
)
from asyncwatch.policies.retry import RetryPolicy
from asyncwatch.policies.runner import LIFESPAN_PER, RETURN_WHEN, RUNNERS, LifespanPer, ReturnWhen
from asyncwatch.policies.settings import (
    NONE,
    Choice,
    Duration,
    Flag,
    FreeTable,
    Number,
    OrNone,
    Parsed,
    Partial,
    Setting,
    SettingError,
    SettingInfo,
    Size,
    Tables,
    Whole,
    as_policy,
    check_settings,
    nearest,
    settings_of,
)
from asyncwatch.policies.throttle import DEFAULT_THROTTLE, MaxRetryAfter, Patience, ThrottleSetting

Items = str | tuple[str, ...] | None
POOL: Final = "simple_one_for_one"
GroupStrategy = Strategy | Literal["simple_one_for_one"]
ERROR_CLASSES: Final = tuple(map(str, ErrorClass))
FAULTS: Final = tuple(fault.__name__ for fault in BadLuck().faults)
"""The faults that have names of their own."""
LOG_LEVELS: Final = ("debug", "info", "warning", "error", "critical")

_TEXT = Parsed(values.text)
_LINE = Parsed(values.line)
_NO_LIMIT = OrNone(Duration(is_open=True), "no limit")

Significant = Annotated[
    bool, Setting("Whether its end can end the supervisor above, as that one's auto_shutdown says.", FLAG_RULE)
]
Under = Annotated[str | None, Setting("Name of the [[supervisor]] above.", OrNone(_LINE, "the supervisor at the top"))]
RestartTypeSetting = Annotated[
    RestartType,
    Setting("Whether it is restarted: always, only after an error, or never.", RESTART_RULE),
]
RestartBackoffSetting = Annotated[RestartBackoff, Setting("Wait before a restart.")]


class RetryTable(RetryPolicy, frozen=True, kw_only=True):
    """The `retry` table: a policy, and what differs from it for each class of errors."""

    on_throttled: Annotated[
        dict[str, Any],
        Setting(
            "What differs for 429, and for 503 with Retry-After: any of the keys above. Unless throttle is none, only "
            "max_attempts counts: throttled attempts are not limited without it.",
            Partial(RetryPolicy),
            key="throttled",
        ),
    ] = field(default_factory=dict)
    on_transient: Annotated[
        dict[str, Any],
        Setting("For time-outs, connection errors, 408, 425, 502 and 504.", Partial(RetryPolicy), key="transient"),
    ] = field(default_factory=dict)
    on_server: Annotated[
        dict[str, Any], Setting("For 500, and for 503 without Retry-After.", Partial(RetryPolicy), key="server")
    ] = field(default_factory=dict)
    on_permanent: Annotated[
        dict[str, Any],
        Setting(
            "For all other errors. They are not retried unless there is a key here.",
            Partial(RetryPolicy),
            key="permanent",
        ),
    ] = field(default_factory=dict)

    @property
    def policy(self) -> RetryPolicy:
        """The policy of every class of errors that has none of its own."""
        return as_policy(RetryPolicy, self)

    def by_class(self) -> dict[ErrorClass, RetryPolicy]:
        """Return the policies of the classes of errors that have one of their own.

        Raises:
            SettingError: a class's own settings contradict the common ones.

        """
        own = {each: getattr(self, f"on_{each}") for each in ErrorClass}
        return {each: replace(self.policy, **changes) for each, changes in own.items() if changes}


class BadLuckTable(BadLuck, frozen=True, kw_only=True):
    """The `bad_luck` table: a policy whose faults have names."""

    named_faults: Annotated[
        dict[str, float],
        Setting(
            "How often each fault is injected, relative to the others. Also an HTTP status, as in 503 = 1, or an "
            'exception, as in "builtins.OSError" = 1.',
            FreeTable(values.fault_name(FAULTS), Number()),
            key="faults",
        ),
    ] = field(default_factory=lambda: dict.fromkeys(FAULTS, 1.0))

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.named_faults.values()):
            raise SettingError("must name at least one fault with a weight above 0", ("named_faults",))


class CircuitTable(CircuitPolicy, frozen=True, kw_only=True):
    """The `circuit` table: a policy that is off by default."""

    enabled: Annotated[bool, Setting("Whether there is a circuit for each key: the host, for http.", Flag())] = False


def join_headers(above: dict[str, str], own: dict[str, str]) -> dict[str, str]:
    """Return both. Names of headers are equal whatever their case (RFC 9110, section 5.1)."""
    given = {name.lower() for name in own}
    return {**{name: value for name, value in above.items() if name.lower() not in given}, **own}


class Http(Struct, frozen=True, kw_only=True):
    """How a URL is requested."""

    method: Annotated[str, Setting("Method of each request.", Parsed(values.method))] = "GET"
    headers: Annotated[
        dict[str, str],
        Setting(
            'Headers of each request, such as { Authorization = "Bearer ${TOKEN}" }. ${NAME} is a variable of the '
            "environment, and ${file:PATH} a file relative to this one. Write $${ for ${ itself.",
            FreeTable(values.header_name, Parsed(values.header_value), join_headers),
            is_secret=True,
        ),
    ] = {}
    body: Annotated[
        str,
        Setting(
            "Body of each request, sent as UTF-8. It may have ${NAME} and ${file:PATH} too.", _TEXT, is_secret=True
        ),
    ] = ""
    raise_for_status: Annotated[bool, Setting("false: every answer is a success, whatever its status.", Flag())] = True
    timeout: Annotated[float | None, Setting("Limit of one request with its whole answer.", _NO_LIMIT)] = 30.0
    connect_timeout: Annotated[float | None, Setting("Limit of the time to connect.", _NO_LIMIT)] = None
    read_timeout: Annotated[float | None, Setting("Limit of the wait for more of an answer.", _NO_LIMIT)] = None
    redirects: Annotated[
        int, Setting("Redirects that are followed. 0: a redirect is an answer like any other.", Whole(0, 100))
    ] = 10
    proxy: Annotated[
        str | None,
        Setting(
            "The URL of a proxy, or environment: what HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY say.",
            OrNone(Parsed(values.proxy), "no proxy"),
        ),
    ] = "environment"
    verify: Annotated[bool, Setting("false: any certificate of a server is accepted.", Flag())] = True
    ca: Annotated[
        str | None,
        Setting(
            "A PEM file, relative to this one, with the certificates to trust.",
            OrNone(Parsed(values.file), "those of the system"),
        ),
    ] = None


class SupervisorFlags(Struct, frozen=True, kw_only=True):
    """How a supervisor treats its children: the flags that `init` returns in OTP."""

    strategy: Annotated[
        GroupStrategy,
        Setting(
            "Which children are restarted with one that ended: only itself, all, or all that started later. The last "
            "is for a group: a pool, whose workers all stop at the same time.",
            Choice((*STRATEGY_RULE.options, POOL)),
            heading="How a supervisor restarts its children, by the rules of OTP. Here: the supervisor at the top, if "
            "there is any [[supervisor]] or supervised [[group]].",
        ),
    ] = DEFAULT_STRATEGY
    max_restarts: Annotated[
        int, Setting("The supervisor gives up after more restarts of its children than this...", MAX_RESTARTS_RULE)
    ] = MAX_RESTARTS
    within: Annotated[float, Setting("...within this period.", PERIOD_RULE)] = WITHIN
    auto_shutdown: Annotated[
        AutoShutdown,
        Setting("Whether the end of significant children ends the supervisor.", AUTO_SHUTDOWN_RULE),
    ] = DEFAULT_AUTO_SHUTDOWN


class WorkSettings(SupervisorFlags, frozen=True, kw_only=True):
    """What a group inherits from the top level, except for the flags: those are each supervisor's own."""

    attempt_timeout: Annotated[
        float | None,
        Setting(
            "Limit of one attempt. It then fails with asyncwatch.AttemptTimeout, and is retried.",
            _NO_LIMIT,
            heading="The work of each worker. A [[group]] may have its own values of these keys, and of the tables "
            "retry, bad_luck and http.",
        ),
    ] = None
    deadline: Annotated[
        float | None,
        Setting("Limit of a worker, from the start of its first attempt. The worker is then exhausted.", _NO_LIMIT),
    ] = None
    retry: Annotated[RetryTable, Setting("Another attempt after an error.")] = RetryTable()
    classify: Annotated[
        dict[str, str],
        Setting(
            'Other classes of errors, by status or exception: 404 = "transient", "builtins.KeyError" = "server".',
            FreeTable(values.error_name, Choice(ERROR_CLASSES), operator.or_),
        ),
    ] = {}
    bad_luck: Annotated[BadLuckTable, Setting("Faults and latency injected on purpose.")] = field(
        default_factory=BadLuckTable
    )
    http: Annotated[Http, Setting("Requests of http groups.")] = Http()


class SupervisorTable(SupervisorFlags, frozen=True, kw_only=True):
    """A supervisor of groups and other supervisors."""

    name: Annotated[
        str, Setting('Default: "supervisor 1", by its position.', Parsed(values.node_name), example="feeds")
    ] = ""
    under: Under = None
    restart: RestartTypeSetting = SUPERVISOR_RESTART
    shutdown: Annotated[
        float,
        Setting('How long everything below may take to end; "inf": as long as it takes.', SHUTDOWN_RULE),
    ] = SUPERVISOR_SHUTDOWN
    significant: Significant = False
    restart_backoff: RestartBackoffSetting = RestartBackoff()


class RestartLimit(Struct, frozen=True, kw_only=True):
    """The `per_worker` table: a limit of restarts for each worker. In a `WorkerSpec` its keys are fields of the spec.

    Raises:
        SettingError: a ValueError; a setting is out of its range.

    """

    max_restarts: Annotated[
        int | None,
        Setting(
            "Limit for each worker, whose restarts then do not count for the group. A worker above it stays down.",
            OrNone(MAX_RESTARTS_RULE, "the group's limit"),
        ),
    ] = None
    within: Annotated[float, Setting("Period of that limit.", PERIOD_RULE)] = WITHIN
    escalates: Annotated[bool, Setting("Whether the group gives up with such a worker.", FLAG_RULE)] = False

    def __post_init__(self) -> None:
        check_settings(self)


class Group(WorkSettings, frozen=True, kw_only=True):
    """Workers that call the same target."""

    name: Annotated[str, Setting('Default: "group 1", by its position.', Parsed(values.group_name), example="site")] = (
        ""
    )
    target: Annotated[
        str,
        Setting(
            'What each worker calls: http, demo (the built-in site), or "module:function", async or plain.',
            Parsed(values.target),
        ),
    ] = "http"
    url: Annotated[
        str | None,
        Setting(
            "What each worker of an http group fetches, if there are no items.",
            OrNone(_TEXT, "see items"),
            example="http://127.0.0.1:8080/",
        ),
    ] = None
    items: Annotated[
        Items,
        Setting(
            'One worker per item: a file relative to this one (text, .jsonl, .ndjson, .csv), "-" for standard input, '
            "or an array.",
            OrNone(Parsed(values.items), "see count"),
        ),
    ] = None
    name_column: Annotated[
        str | None,
        Setting(
            "Column of a .csv, or key of JSON objects, whose values name the workers.",
            OrNone(_LINE, "name, if the items have it"),
        ),
    ] = None
    skip_bad: Annotated[
        bool, Setting("Whether lines of items that cannot be read are left out, instead of ending the run.", FLAG_RULE)
    ] = False
    count: Annotated[
        int,
        Setting(
            "Number of workers, if there are no items. A single worker has the group's name.", Whole(1, 10_000_000)
        ),
    ] = 1
    timeout: Annotated[
        float | None,
        Setting("Limit from the start of the run. Workers of this group that have not ended then time out.", _NO_LIMIT),
    ] = None
    shutdown: Annotated[
        float | None,
        Setting(
            'How long a worker may take to end once cancelled; "inf": as long as it takes.',
            OrNone(SHUTDOWN_RULE, "the run's grace"),
        ),
    ] = None
    key: Annotated[
        str | None,
        Setting(
            "What quotas, slots, the circuit and rate_per_key are kept by.",
            OrNone(_LINE, "the host, or a function's own key_of(item)"),
        ),
    ] = None
    every: Annotated[
        float | None,
        Setting(
            "A poller: wait between two calls of the target, whether the first returned or failed.",
            OrNone(PERIOD_RULE, "no poller"),
            heading="Supervision. A key from here to auto_shutdown makes the group a supervisor of its workers, unless "
            "it has its default. Any other group is a batch: it has concurrency, retries and halt, and is never "
            "restarted.",
        ),
    ] = None
    restart: RestartTypeSetting = WORKER_RESTART
    significant: Significant = False
    announces_ready: Annotated[
        bool, Setting("Whether the next worker starts only when this one has called asyncwatch.ready().", FLAG_RULE)
    ] = False
    liveness: Annotated[
        float | None,
        Setting(
            "A worker that is ready is restarted if it did not call asyncwatch.current_worker().alive() for that long.",
            OrNone(PERIOD_RULE, "no limit"),
        ),
    ] = None
    under: Under = None
    per_worker: Annotated[RestartLimit, Setting("A limit of restarts for each worker.")] = RestartLimit()
    restart_backoff: RestartBackoffSetting = RestartBackoff()

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
        """Whether it has a setting that only a supervisor of its workers uses."""
        return any(getattr(self, key) != default for key, default in SUPERVISION.items())


SUPERVISION: Final[dict[str, Any]] = {
    key: getattr(Group(), key)
    for key in (
        "restart",
        "every",
        "significant",
        "announces_ready",
        "liveness",
        "under",
        "per_worker",
        "restart_backoff",
        *SupervisorFlags.__struct_fields__,
    )
}
"""The settings of a group that make its workers children of a supervisor, with the values that do not."""


class ClusterTable(Struct, frozen=True, kw_only=True):
    """The `cluster` table."""

    processes: Annotated[
        int | None,
        Setting('Processes that engine = "dask" starts.', OrNone(Whole(1, 1_000), "one for each processor")),
    ] = None
    client_grace: Annotated[
        float,
        Setting(
            "After this time without a sign of the run, the processes stop its attempts. A scheduler that cannot be "
            "reached for as long ends the run.",
            Duration(is_open=True),
        ),
    ] = DEFAULT_CLIENT_GRACE
    insecure: Annotated[
        bool,
        Setting(
            "Whether a scheduler beyond this machine may be reached by tcp://. Who can reach its port, or read the "
            "traffic, can run code on all machines of the cluster.",
            FLAG_RULE,
        ),
    ] = False


class Config(WorkSettings, frozen=True, kw_only=True):
    """All settings of a run."""

    name: Annotated[
        str,
        Setting("Shown in the header and the events. Empty: the name of this file.", _LINE, heading="The run."),
    ] = ""
    runner: Annotated[str, Setting("How the batch is awaited.", Choice(RUNNERS))] = "as_completed"
    return_when: Annotated[ReturnWhen, Setting("When the runner wait returns.", Choice(RETURN_WHEN, str.upper))] = (
        "ALL_COMPLETED"
    )
    seed: Annotated[
        int | None,
        Setting("Seed of every draw.", OrNone(Whole(0, MAX_SEED), "a new one for each run, shown and recorded")),
    ] = None
    log_level: Annotated[
        str,
        Setting(
            "Lowest level of log records that are shown. Without a dashboard they go to standard error.",
            Choice(LOG_LEVELS, str.lower),
        ),
    ] = "info"
    log_file: Annotated[
        str | None,
        Setting(
            "A file, relative to this one, to which the log is appended. With {name} in it, as in logs/{name}.log, "
            "each service has its own, and all other lines go to that of the run's name.",
            OrNone(Parsed(values.file), "no file"),
        ),
    ] = None
    log_file_size: Annotated[
        int, Setting("Size at which such a file is renamed to FILE.1, and the next one begins.", Size(1_000))
    ] = 10_000_000
    log_file_keep: Annotated[int, Setting("Renamed files that are kept of each.", Whole(0, 1_000))] = 3
    output: Annotated[
        str | None,
        Setting(
            "A .jsonl, .ndjson or .csv file, relative to this one, with one line for each worker that ended.",
            OrNone(Parsed(values.file), "no file"),
        ),
    ] = None
    summary_json: Annotated[
        str | None,
        Setting(
            "A file, relative to this one, that gets the summary of the run as JSON when it ends.",
            OrNone(Parsed(values.file), "no file"),
        ),
    ] = None
    junit: Annotated[
        str | None,
        Setting(
            "A file, relative to this one, that gets a test case for each worker when the run ends, as JUnit's XML.",
            OrNone(Parsed(values.file), "no file"),
        ),
    ] = None
    journal: Annotated[
        bool | None,
        Setting(
            "Whether the run is recorded in a journal, by which it can be resumed, repeated and replayed.",
            OrNone(Flag(), "a batch with items or URLs is, a tree and the demo are not"),
        ),
    ] = None
    journal_dir: Annotated[
        str | None,
        Setting(
            "Folder of the journals, relative to this one. It must be on this machine.",
            OrNone(Parsed(values.file), "asyncwatch/runs in your state folder, such as ~/.local/state"),
        ),
    ] = None
    journal_keep: Annotated[
        int,
        Setting(
            "Journals that are kept, at most. The oldest go when a run starts, except runs of the last month that can "
            "be resumed.",
            Whole(1, 1_000_000),
        ),
    ] = JOURNALS_KEPT
    journal_size: Annotated[
        int,
        Setting(
            "The same in bytes, of all journals together, and the most of a tree's own, which then drops its oldest "
            "events.",
            Size(1_000_000),
        ),
    ] = JOURNALS_SIZE
    metrics: Annotated[
        str | None,
        Setting(
            'An address such as "127.0.0.1:9464", where the figures of the run are for Prometheus (/metrics), and '
            "whether it is healthy and ready (/healthz, /readyz). A port alone is on the loopback interface.",
            OrNone(Parsed(values.address), "nothing listens"),
        ),
    ] = None
    stop_ok: Annotated[
        bool,
        Setting("Whether a run that is stopped before its end has status 0, if no worker failed by itself.", FLAG_RULE),
    ] = False
    concurrency: Annotated[
        int,
        Setting(
            "Attempts in flight, at most. Supervised workers need no slot: all of them run.",
            CONCURRENCY_RULE,
            heading="How much at once, and how long.",
        ),
    ] = DEFAULT_CONCURRENCY
    timeout: Annotated[
        float | None, Setting("Limit of the whole run. Workers that have not ended then time out.", _NO_LIMIT)
    ] = None
    grace: Annotated[float, Setting("How long a worker may take to end once it is cancelled.", GRACE_RULE)] = (
        DEFAULT_GRACE
    )
    lifespan: Annotated[
        str | None,
        Setting(
            'A "module:function" that returns an async context manager, entered before the first attempt and left '
            "after the last. Functions get its value as second argument, as the only one without items.",
            OrNone(Parsed(values.function), "none"),
        ),
    ] = None
    lifespan_per: Annotated[
        LifespanPer,
        Setting("Whether there is one lifespan for the run, or one for each attempt in flight.", Choice(LIFESPAN_PER)),
    ] = "run"
    on_hangup: Annotated[
        str,
        Setting("What happens to the run when the terminal of its command is gone.", Choice(("stop", "detach"))),
    ] = "stop"
    engine: Annotated[
        str,
        Setting(
            "Where attempts of functions run: in this process (asyncio), in processes of this machine (dask), or on "
            'the Dask cluster with this scheduler: "tls://host:8786", or the path of a scheduler file.',
            Parsed(values.engine),
            heading="Where attempts run.",
        ),
    ] = ASYNCIO
    cluster: Annotated[ClusterTable, Setting("The cluster, if the engine is one.")] = ClusterTable()
    rate: Annotated[
        str | None,
        Setting(
            'Attempts that may start in the whole run: "50/s", "90/min", "3/10s".', RATE_RULE, heading="Rate limits."
        ),
    ] = None
    burst: Burst = None
    rate_per_key: Annotated[
        str | None, Setting("The same for each key: the host, for http; see the key of a group.", RATE_RULE)
    ] = None
    burst_per_key: Burst = None
    throttle: ThrottleSetting = "adaptive"
    throttle_patience: Patience = DEFAULT_THROTTLE.patience
    max_retry_after: MaxRetryAfter = DEFAULT_THROTTLE.max_retry_after
    max_per_key: Annotated[
        int | None,
        Setting(
            "Slots of one key, at most: one dead or slow host must not take all of them.",
            MAX_PER_KEY_RULE,
        ),
    ] = None
    halt: Annotated[
        str | None,
        Setting(
            'Stop after this many workers failed or were exhausted: "10", "5%" of all, or "first".',
            OrNone(Parsed(values.halt), "go on"),
            heading="When a batch stops early.",
        ),
    ] = None
    halt_mode: HaltModeSetting = DEFAULT_HALT_MODE
    retry_budget: Annotated[
        RetryBudget | None,
        Setting('Tokens that all retries of the run are paid with. retry_budget = "none": retries are not limited.'),
    ] = RetryBudget()
    flapping: Annotated[
        Flapping, Setting("Which services are shown as flapping. It changes nothing about how they are restarted.")
    ] = Flapping()
    circuit: Annotated[CircuitTable, Setting("Circuit breakers: attempts of a key wait while its circuit is open.")] = (
        CircuitTable()
    )
    supervisors: Annotated[
        tuple[SupervisorTable, ...],
        Setting(
            "A supervisor of groups and of other supervisors. Children start in the order of the file, each when the "
            "one before is ready, and stop in reverse order.",
            Tables(SupervisorTable),
            key="supervisor",
        ),
    ] = ()
    groups: Annotated[
        tuple[Group, ...],
        Setting(
            "A group of workers that call the same target. There can be any number of groups.",
            Tables(Group),
            key="group",
        ),
    ] = ()
    order: tuple[str, ...] = ()
    """The names of supervisors and groups in the order of the file, in which they start. Empty without supervisors."""
    path: Path | None = None
    """The file that this was read from."""
    document: dict[str, Any] = {}
    """What is written in it."""

    @property
    def is_adaptive(self) -> bool:
        """Whether keys that ask for fewer attempts are throttled."""
        return self.throttle == "adaptive"

    @property
    def is_tree(self) -> bool:
        """Whether there is anything to supervise beyond work that ends."""
        return bool(self.supervisors) or any(group.is_supervised for group in self.groups)

    @property
    def has_batch(self) -> bool:
        """Whether there is work that ends."""
        return not self.is_tree or not all(group.is_supervised for group in self.groups)


def read_table(
    table: Mapping[str, Any], kind: type[Struct], place: KeyPath, problems: Problems, top: type[Struct] | None = None
) -> dict[str, Any]:
    """Return the valid values of a TOML table, by field of `kind`. `top` is the struct of the whole file."""
    good: dict[str, Any] = {}
    top = top or kind
    infos = {info.key: info for info in settings_of(kind)}
    for key, value in table.items():
        here = (*place, key)
        info = infos.get(key)
        if info is None:
            problems.add(here, _unknown(key, infos, top))
            continue
        try:
            good[info.field] = _read(info, value, here, problems, top)
        except ValueError as error:
            problems.add(here, str(error))
    return good


def _read(info: SettingInfo, value: Any, place: KeyPath, problems: Problems, top: type[Struct]) -> Any:
    """Return the value of one key, or raise `ValueError`. What is wrong inside a table is noted."""
    rule = info.setting.rule
    match rule:
        case Tables(kind):
            if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
                raise ValueError(f"must be tables that begin with [[{info.key}]]")
            return [read_table(each, kind, (*place, n), problems, top) for n, each in enumerate(value)]
        case None | Partial() | FreeTable():
            if info.is_optional_table and value == NONE:
                return None
            if not isinstance(value, dict):
                or_none = f" or {NONE!r}" if info.is_optional_table else ""
                raise ValueError(f"must be a table{or_none}")  # noqa: TRY004  as any wrong value
            if isinstance(rule, FreeTable):
                return _read_free(value, rule, place, problems)
            table = rule.kind if isinstance(rule, Partial) else info.table
            assert table is not None  # noqa: S101  a setting without a rule is a table
            return read_table(value, table, place, problems, top)
        case _:
            return rule.read(value)


_MEANT: Final = {"supervisor": "under"}
"""Keys that a group has by another name."""


def _unknown(key: str, keys: Mapping[str, SettingInfo], top: type[Struct]) -> str:
    meant = _MEANT.get(key, "")
    if meant in keys:
        return f"unknown key (its name here is {meant})"
    if any(info.key == key for info in settings_of(top)):
        return "belongs to the top level: write it above the first [[group]] and [[supervisor]]"
    if any(info.key == key for info in settings_of(Group)):
        return "belongs to a group: write it below [[group]]"
    close = nearest(key, keys)
    hint = f"nearest valid key: {close}" if close else f"valid keys: {', '.join(keys)}"
    return f"unknown key ({hint})"


def _read_free(table: Mapping[str, Any], rule: FreeTable, place: KeyPath, problems: Problems) -> dict[str, Any]:
    good: dict[str, Any] = {}
    for key, value in table.items():
        try:
            rule.check_key(key)
            good[key] = rule.value.read(value)
        except ValueError as error:
            problems.add((*place, key), str(error))
    return good
