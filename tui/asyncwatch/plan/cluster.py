"""The cluster of a plan: why a plan cannot run on one, and the cluster itself.

Nothing of Dask is imported for the engine `asyncio`.
"""

# ruff: noqa: PLC0415  Dask is imported for a cluster only

from __future__ import annotations

import importlib.util
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from asyncwatch.config.engine import ASYNCIO, DASK, parse_engine
from asyncwatch.config.problems import KeyPath
from asyncwatch.config.schema import Config, Group
from asyncwatch.text import count

if TYPE_CHECKING:
    from asyncwatch.cluster.client import Cluster

_Load = Callable[..., Any]
_INSTALL = "needs Dask: pip install 'asyncwatch[dask]'"
_MODULES = ("distributed", "cloudpickle", "cryptography")


class _Planned(Protocol):
    @property
    def settings(self) -> Group:
        """Of the group."""

    @property
    def function(self) -> Callable[..., Any] | None:
        """What its workers call, unless they fetch URLs."""


def missing_modules() -> list[str]:
    """Return which modules of the extra `dask` are not installed."""
    return [name for name in _MODULES if importlib.util.find_spec(name) is None]


def security_problem(engine: str, *, is_insecure: bool) -> str:
    """Return why an engine must not or cannot be used, or an empty text."""
    address = parse_engine(engine)
    if address.file:
        try:
            address = parse_engine(json.loads(Path(address.file).read_text(encoding="utf-8"))["address"])
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        except (ValueError, LookupError, TypeError):
            return "is no scheduler file of Dask"
    if address.is_open and not is_insecure:
        return "anyone on the way can run code on the cluster: use tls://, or permit it with --insecure"
    return ""


def describe_engine(config: Config) -> str:
    """Return where attempts run, in a few words."""
    engine = parse_engine(config.engine)
    if engine.kind == ASYNCIO:
        return "asyncio: this process"
    if engine.kind == DASK:
        return f"dask: {count(_processes(config), 'process', 'processes')} of this machine"
    return f"dask: the scheduler at {engine.address or engine.file}"


def _processes(config: Config) -> int:
    return config.cluster.processes or os.cpu_count() or 1


def engine_problems(
    config: Config, groups: Sequence[_Planned | None], lifespan: Callable[[], Any] | None, load: _Load
) -> Iterator[tuple[str, KeyPath]]:
    """Yield why the plan cannot run on its engine, with the key of the config. `load` calls code of the user's."""
    engine = config.engine
    if engine == ASYNCIO:
        if config.cluster != Config().cluster:
            yield "[cluster] has no effect without engine; set engine too", ("cluster",)
        return
    shown = f"engine = {engine!r}"
    if problem := security_problem(engine, is_insecure=config.cluster.insecure):
        yield f"{shown}: {problem}", ("engine",)
        return
    if missing := missing_modules():
        yield f"{shown} {_INSTALL} (not installed: {', '.join(missing)})", ("engine",)
        return
    if config.lifespan_per != Config().lifespan_per and lifespan is not None:
        text = "a cluster has one lifespan for each process"
        yield f"lifespan_per = {config.lifespan_per!r} is for engine = 'asyncio': {text}", ("lifespan_per",)
    for index, group in enumerate(groups):
        if group is None:
            continue
        place: KeyPath = ("group", index)
        if group.settings.announces_ready:
            text = f"{group.settings.name}: a cluster does not say when a service is ready"
            yield f"{text}; leave announces_ready out, or use engine = 'asyncio'", (*place, "announces_ready")
        if group.function is None:
            text = f"{group.settings.name}: a cluster runs functions, and target = {group.settings.target!r} is none"
            yield f"{text}; use engine = 'asyncio'", (*place, "target")
        elif problem := load(_travel_problem, group.function):
            yield problem, (*place, "target")
    if lifespan is not None and (problem := load(_travel_problem, lifespan)):
        yield f"lifespan: {problem}", ("lifespan",)


def _travel_problem(function: Callable[..., Any]) -> str:
    from asyncwatch.cluster.travel import TravelError, pack_function

    try:
        pack_function(function)
    except TravelError as error:
        return str(error)
    return ""


def make_cluster(
    config: Config, functions: Sequence[Callable[..., Any]], lifespan: Callable[[], Any] | None
) -> Cluster | None:
    """Return the cluster of the plan, not opened yet; None if attempts run here."""
    if config.engine == ASYNCIO:
        return None
    from asyncwatch.cluster.client import Cluster

    return Cluster(
        parse_engine(config.engine),
        functions,
        lifespan,
        processes=_processes(config),
        grace=config.cluster.client_grace,
        log_level=logging.getLevelNamesMapping()[config.log_level.upper()],
    )


def cluster_for(
    engine: str, functions: Sequence[Callable[..., Any]], lifespan: Callable[[], Any] | None, lifespan_per: str
) -> Cluster | None:
    """Return the cluster for a run of a program, not opened yet; None if attempts run here.

    Raises:
        ValueError: there is no such engine, it must not be used, or a setting is not for it.
        ModuleNotFoundError: Dask is not installed.
        TravelError: a function cannot be sent to another process.

    """
    if parse_engine(engine).kind == ASYNCIO:
        return None
    if problem := security_problem(engine, is_insecure=False):
        raise ValueError(f"engine={engine!r}: {problem}")
    if lifespan is not None and lifespan_per != Config().lifespan_per:
        raise ValueError("a cluster has one lifespan for each process: lifespan_per must be 'run'")
    if missing := missing_modules():
        raise ModuleNotFoundError(f"engine={engine!r} {_INSTALL}", name=missing[0])
    from asyncwatch.cluster.client import Cluster

    return Cluster(
        parse_engine(engine),
        functions,
        lifespan,
        processes=os.cpu_count() or 1,
        grace=Config().cluster.client_grace,
    )
