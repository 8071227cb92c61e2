"""What a plan would run, as lines of text: the output of `asyncwatch check`.

Policies are shown by their settings, so a new setting needs no line here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from asyncwatch.config.engine import ASYNCIO
from asyncwatch.config.schema import BadLuckTable, Config, Group, SupervisorTable
from asyncwatch.plan.cluster import describe_engine
from asyncwatch.plan.items import delimiter_of
from asyncwatch.plan.plan import Plan, PlannedGroup, children_by_parent
from asyncwatch.policies.circuit import CircuitPolicy
from asyncwatch.policies.settings import as_policy, describe_settings
from asyncwatch.text import count, format_duration, mask_secrets, printable

_SHOWN_NAMES = 3
_INDENT = 2


def describe_plan(plan: Plan) -> list[str]:
    """Return the lines that describe the run, its supervision tree if there is one, and each group."""
    config = plan.config
    facts: dict[str, object] = {
        "config": config.path or ("none: the demo" if plan.is_demo else "none: the defaults"),
        "run": plan.name,
        **_describe_kind(config),
        "grace": format_duration(config.grace),
        "seed": "random" if config.seed is None else config.seed,
        "rate": _describe_rates(config),
        "retry budget": "none: no limit" if config.retry_budget is None else describe_settings(config.retry_budget),
        "circuit": describe_settings(as_policy(CircuitPolicy, config.circuit)) if config.circuit.enabled else "none",
        "throttle": config.throttle,
        "max per key": _describe_share(config),
        "log level": config.log_level,
        **({"stop ok": "yes: a run that is stopped may have status 0"} if config.stop_ok else {}),
        **({} if config.lifespan is None else {"lifespan": f"{config.lifespan}, one per {config.lifespan_per}"}),
        **({} if config.engine == ASYNCIO else {"engine": describe_engine(config)}),
        "output": config.output or "none",
        **({"log file": config.log_file} if config.log_file is not None else {}),
        **({"summary": config.summary_json} if config.summary_json is not None else {}),
        **({"JUnit": config.junit} if config.junit is not None else {}),
        **({"metrics": config.metrics} if config.metrics is not None else {}),
        "workers": f"{sum(len(group.names) for group in plan.groups):,}",
    }
    lines = [f"{key:<12} {value}" for key, value in facts.items()]
    lines += ["", *_describe_throttling(plan)]
    if config.is_tree:
        lines += ["", *_describe_tree(plan)]
    for group in plan.groups:
        lines += ["", *_describe_group(group, config)]
    return [printable(mask_secrets(line)) for line in lines]


def _describe_share(config: Config) -> str:
    if config.max_per_key is not None:
        return f"{config.max_per_key}"
    return "as many as stay free while other keys have work, else all" if config.is_adaptive else "none"


def _describe_throttling(plan: Plan) -> Iterator[str]:
    """Yield what will happen on the first 429, for a reader who has never met one."""
    config = plan.config
    yield "when a server answers 429 (too many requests), or 503 with Retry-After"
    if not config.is_adaptive:
        yield "  The request is retried like any other error: after the wait that the server asks for (at most"
        yield "  max_retry_after of its retry settings), and it uses up an attempt. Other requests to that host go on."
        return
    yield "  Every request to that host waits as long as the server asks. Then one request goes alone, and when it"
    yield "  succeeds the others follow, at the rate that the server accepts. Other hosts go on meanwhile."
    limited = [group for group in plan.groups if "max_attempts" in group.settings.retry.on_throttled]
    for group in limited:
        most = group.settings.retry.on_throttled["max_attempts"]
        yield f"  A worker of {group.settings.name} is exhausted when {count(most, 'attempt')} of it were answered so."
    if len(limited) < len(plan.groups):
        patience, longest = format_duration(config.throttle_patience), format_duration(config.max_retry_after)
        yield "  Nothing is lost by it: the attempt does not count for max_attempts. Workers are exhausted only if"
        yield f"  the host refuses everything for {patience} (throttle_patience), or asks for more than {longest}"
        yield "  (max_retry_after)."
    if any(_has_no_key(group) for group in plan.groups):
        yield "  A function without key_of has no host: all its workers wait together, unless their group has a key."


def _has_no_key(group: PlannedGroup) -> bool:
    """Return whether the workers of a group call a function that says nothing of a key."""
    is_function = group.function is not None and getattr(group.function, "key_of", None) is None
    return is_function and group.settings.key is None


def _describe_kind(config: Config) -> dict[str, str]:
    halt = "none" if config.halt is None else f"after {config.halt}, {config.halt_mode}"
    of_batch = {"halt": halt, "concurrency": f"{config.concurrency}"}
    if config.is_tree:
        runner = "none: the tree is served until it is stopped"
        return {"runner": f"{runner}, the batch beside it too", **of_batch} if config.has_batch else {"runner": runner}
    runner = f"{config.runner} ({config.return_when})" if config.runner == "wait" else config.runner
    return {"runner": runner, "timeout": format_duration(config.timeout), **of_batch}


def _describe_rates(config: Config) -> str:
    limits = (("", config.rate, config.burst), (" per key", config.rate_per_key, config.burst_per_key))
    shown = [
        f"{rate}{f' burst {burst}' if burst is not None else ''}{what}"
        for what, rate, burst in limits
        if rate is not None
    ]
    return ", ".join(shown) or "none"


def _describe_tree(plan: Plan) -> Iterator[str]:
    """Yield the supervisors and groups, each below its supervisor and in start order."""
    children = children_by_parent(plan.config)
    workers = {group.settings.name: len(group.names) for group in plan.groups}
    rows: list[tuple[str, str]] = [("root", _describe_flags(plan.config))]

    def add(under: str | None, depth: int) -> None:
        for node in children.get(under, ()):
            note = "" if isinstance(node, Group) else f", {_describe_child(node)}"
            rows.append((" " * _INDENT * depth + node.name, f"{_describe_flags(node)}{note}"))
            if isinstance(node, Group):
                number = count(workers[node.name], "worker")
                rows.append((" " * _INDENT * (depth + 1) + number, _describe_workers(node)))
            else:
                add(node.name, depth + 1)

    add(None, 1)
    width = max(len(name) for name, _ in rows)
    yield "tree"
    for name, what in rows:
        yield f"  {name:<{width}}  {what}"


def _describe_flags(node: Config | Group | SupervisorTable) -> str:
    flags = f"{node.strategy}, {count(node.max_restarts, 'restart')} within {format_duration(node.within)}"
    return flags if node.auto_shutdown == "never" else f"{flags}, auto shutdown {node.auto_shutdown}"


def _describe_child(node: Group | SupervisorTable) -> str:
    parts: list[str] = [node.restart]
    if node.significant:
        parts.append("significant")
    if node.shutdown not in (None, math.inf):
        parts.append(f"shutdown {format_duration(node.shutdown)}")
    elif isinstance(node, Group) and node.shutdown is not None:
        parts.append("shutdown inf")
    if node.restart_backoff.base:
        parts.append(f"backoff ({describe_settings(node.restart_backoff)})")
    return ", ".join(parts)


def _describe_workers(group: Group) -> str:
    parts = [_describe_child(group)]
    if group.every is not None:
        parts.append(f"polls {format_duration(group.every)} after each poll")
    if group.announces_ready:
        parts.append("announces ready")
    if group.liveness is not None:
        parts.append(f"restarted after {format_duration(group.liveness)} without alive()")
    if group.per_worker.max_restarts is not None:
        parts.append(f"each has its own limit ({describe_settings(group.per_worker)})")
    return ", ".join(parts)


def _describe_items(settings: Group) -> dict[str, str]:
    """Return the file of items with how it is read, if there is anything to say about that."""
    if not isinstance(settings.items, str):
        return {}
    how: list[str] = []
    if (delimiter := delimiter_of(settings.items)) is not None:
        how.append(f"columns separated by {'tabs' if delimiter == chr(9) else delimiter}")
    if settings.name_column is not None:
        how.append(f"names from {settings.name_column}")
    if settings.skip_bad:
        how.append("bad lines skipped")
    return {"items": ", ".join([settings.items, *how])} if how else {}


def _describe_group(group: PlannedGroup, config: Config) -> list[str]:
    settings = group.settings
    shown = ", ".join(group.names[:_SHOWN_NAMES])
    more = f", ... and {len(group.names) - _SHOWN_NAMES:,} more" if len(group.names) > _SHOWN_NAMES else ""
    timeouts = f"attempt_timeout {format_duration(settings.attempt_timeout)}"
    timeouts += f", deadline {format_duration(settings.deadline)}"
    if not settings.is_supervised:
        timeouts += f", group timeout {format_duration(settings.timeout)}"
    luck = settings.bad_luck
    facts = {
        "target": settings.target if settings.url is None else f"{settings.target} {settings.url}",
        **_describe_items(settings),
        "workers": f"{len(group.names):,}: {shown}{more}",
        "retry": describe_settings(settings.retry.policy),
        **{f"  {name}": describe_settings(policy) for name, policy in settings.retry.by_class().items()},
        "timeouts": timeouts,
        "bad luck": "none" if luck == BadLuckTable() else describe_settings(luck),
    }
    if settings.classify:
        facts["classify"] = ", ".join(f"{name} {value}" for name, value in settings.classify.items())
    by_key = {"circuit": config.circuit.enabled, "rate_per_key": config.rate_per_key is not None}
    kept = [name for name, is_kept in by_key.items() if is_kept]
    is_used = bool(kept) or config.is_adaptive or config.max_per_key is not None
    if settings.key is not None:
        why = " (not used: there is no throttle, no max_per_key, no circuit and no rate_per_key)"
        facts["key"] = settings.key + ("" if is_used else why)
    elif kept and _has_no_key(group):
        facts["key"] = f"none, so {' and '.join(kept)} {'does' if len(kept) == 1 else 'do'} not apply"
    if group.function is None:
        facts["http"] = describe_settings(settings.http)
    return [f"group {settings.name}", *(f"  {key:<10} {value}" for key, value in facts.items())]
