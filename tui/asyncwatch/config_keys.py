"""Which keys a config may have, and what each of them takes."""

from __future__ import annotations

from typing import Final, get_args

from asyncwatch import config_values as values
from asyncwatch.choices import RETURN_WHEN, RUNNERS
from asyncwatch.config_model import (
    ERROR_CLASSES,
    FAULTS,
    AutoShutdown,
    BackoffKind,
    HaltMode,
    RestartType,
    Strategy,
)
from asyncwatch.config_read import AnyKey, Keys, OrNone

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
