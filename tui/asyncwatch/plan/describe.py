"""What a plan would run, in lines of text: what `asyncwatch check` prints."""

from __future__ import annotations

import math
from collections.abc import Iterator

from asyncwatch.config.load import Config, Group, SupervisorTable
from asyncwatch.config.schema import FAULTS, Retry
from asyncwatch.plan.plan import Plan, PlannedGroup
from asyncwatch.text import format_duration, mask_secrets

_SHOWN_NAMES = 3
_INDENT = 2


def describe_plan(plan: Plan) -> list[str]:
    """Return lines of text that say what would run."""
    config = plan.config
    facts: dict[str, object] = {
        "config": config.path or "none: the demo",
        "run": plan.name,
        **_describe_kind(config),
        "grace": format_duration(config.grace),
        "seed": "drawn at each run" if config.seed is None else config.seed,
        "rate": _describe_rates(config),
        "retry budget": _describe_budget(config),
        "circuit": _describe_circuit(config),
        "log level": config.log_level,
        "output": config.output or "none",
        "workers": f"{sum(len(group.names) for group in plan.groups):,}",
    }
    lines = [f"{key:<12} {value}" for key, value in facts.items()]
    if config.is_tree:
        lines += ["", *_describe_tree(plan)]
    for group in plan.groups:
        lines += ["", *_describe_group(group, config)]
    return [mask_secrets(line) for line in lines]


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


def _describe_budget(config: Config) -> str:
    budget = config.retry_budget
    if budget is None:
        return "none: retries are not limited"
    return (
        f"{budget.tokens:g} tokens; a retry costs {budget.retry_cost:g}, after a time-out {budget.timeout_cost:g}, "
        f"a success gives {budget.success_gain:g}"
    )


def _describe_circuit(config: Config) -> str:
    circuit = config.circuit
    if not circuit.enabled:
        return "none"
    window, pause = format_duration(circuit.window), format_duration(circuit.open_for)
    return (
        f"opens for {pause} at {circuit.failure_ratio:.0%} failures of {circuit.min_throughput} or more attempts "
        f"in {window}; {circuit.probes} to probe"
    )


def _describe_tree(plan: Plan) -> Iterator[str]:
    """Yield the supervisors and groups, each below what supervises it and in the order of their start."""
    config = plan.config
    tables = {table.name: table for table in config.supervisors}
    groups = {group.settings.name: group for group in plan.groups if group.settings.is_supervised}
    rows: list[tuple[str, str]] = [("root", _describe_flags(config))]

    def add(under: str | None, depth: int) -> None:
        for name in config.order or groups:
            node = tables.get(name) or (groups[name].settings if name in groups else None)
            if node is None or node.under != under:
                continue
            note = "" if isinstance(node, Group) else _describe_child(node)
            rows.append((" " * _INDENT * depth + name, f"{_describe_flags(node)}{note}"))
            if isinstance(node, Group):
                number = len(groups[name].names)
                workers = f"{number:,} {'worker' if number == 1 else 'workers'}"
                rows.append((" " * _INDENT * (depth + 1) + workers, _describe_workers(node)))
            else:
                add(name, depth + 1)

    add(None, 1)
    width = max(len(name) for name, _ in rows)
    yield "tree"
    for name, what in rows:
        yield f"  {name:<{width}}  {what}"


def _describe_flags(node: Config | Group | SupervisorTable) -> str:
    restarts = "1 restart" if node.max_restarts == 1 else f"{node.max_restarts} restarts"
    flags = f"{node.strategy}, {restarts} within {format_duration(node.within)}"
    return flags if node.auto_shutdown == "never" else f"{flags}, auto shutdown {node.auto_shutdown}"


def _describe_child(node: Group | SupervisorTable) -> str:
    backoff = node.restart_backoff
    parts = ["", node.restart]
    if node.significant:
        parts.append("significant")
    if node.shutdown not in (None, math.inf):
        parts.append(f"shutdown {format_duration(node.shutdown)}")
    elif isinstance(node, Group) and node.shutdown is not None:
        parts.append("shutdown inf")
    if backoff.base:
        parts.append(f"backoff {format_duration(backoff.base)} to {format_duration(backoff.cap)}")
    return ", ".join(parts)


def _describe_workers(group: Group) -> str:
    parts = [_describe_child(group).removeprefix(", ")]
    if group.every is not None:
        parts.append(f"called again {format_duration(group.every)} after each call")
    if group.announces_ready:
        parts.append("each announces that it is ready")
    if group.per_worker.max_restarts is not None:
        own = group.per_worker
        escalates = ", then the group gives up" if own.escalates else ""
        parts.append(f"each {own.max_restarts} restarts within {format_duration(own.within)}{escalates}")
    return ", ".join(parts)


def _describe_retry(retry: Retry) -> str:
    if retry.max_attempts == 1:
        return "1, no retry"
    return f"{retry.max_attempts} at the most, {_BACKOFFS[retry.backoff].format(*map(format_duration, _waits(retry)))}"


_BACKOFFS = {
    "full": "backoff {} to {}",
    "equal": "backoff {} to {}, equal jitter",
    "decorrelated": "backoff {} to {}, decorrelated jitter",
    "constant": "backoff {}",
    "none": "no backoff",
}


def _waits(retry: Retry) -> tuple[float, float]:
    return retry.base, retry.cap


def _describe_luck(group: Group) -> str:
    luck = group.bad_luck
    parts = []
    if luck.threshold < 1:
        parts.append(f"above {luck.threshold:g}")
        if luck.faults != dict.fromkeys(FAULTS, 1.0):
            parts.append(", ".join(f"{name} {weight:g}" for name, weight in luck.faults.items()))
    if luck.latency is not None:
        least, most = map(format_duration, luck.latency)
        parts.append(f"latency {least}" if least == most else f"latency {least} to {most}")
    return "; ".join(parts) or "none"


def _describe_group(group: PlannedGroup, config: Config) -> list[str]:
    settings = group.settings
    shown = ", ".join(group.names[:_SHOWN_NAMES])
    more = f", ... and {len(group.names) - _SHOWN_NAMES:,} more" if len(group.names) > _SHOWN_NAMES else ""
    attempt, deadline = format_duration(settings.attempt_timeout), format_duration(settings.deadline)
    timeouts = f"attempt {attempt}, worker {deadline}"
    if not settings.is_supervised:
        timeouts += f", group {format_duration(settings.timeout)}"
    facts = {
        "target": settings.target if settings.url is None else f"{settings.target} {settings.url}",
        "workers": f"{len(group.names):,}: {shown}{more}",
        "attempts": _describe_retry(settings.retry),
        **{f"  {name}": _describe_retry(retry) for name, retry in settings.retry.by_class().items()},
        "timeouts": timeouts,
        "bad luck": _describe_luck(settings),
    }
    if settings.classify:
        facts["classify"] = ", ".join(f"{name} {value}" for name, value in settings.classify.items())
    by_key = {"circuit": config.circuit.enabled, "rate_per_key": config.rate_per_key is not None}
    kept = [name for name, is_kept in by_key.items() if is_kept]
    has_own = group.function is None or getattr(group.function, "key_of", None) is not None
    if settings.key is not None:
        facts["key"] = settings.key + ("" if kept else " (of no use yet: no circuit and no rate_per_key)")
    elif kept and not has_own:
        facts["key"] = f"none, so that {' and '.join(kept)} pass{'es' if len(kept) == 1 else ''} it by"
    if group.function is None:
        http = settings.http
        facts["http"] = f"{http.method}, timeout {format_duration(http.timeout)}" + (
            "" if http.raise_for_status else ", any status is a success"
        )
    return [f"group {settings.name}", *(f"  {key:<10} {value}" for key, value in facts.items())]
