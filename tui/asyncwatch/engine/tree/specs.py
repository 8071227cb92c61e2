"""Specs of supervisors and pools. The spec of a worker is `asyncwatch.engine.spec.WorkerSpec`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.tree import rules
from asyncwatch.engine.tree.errors import BadCombination, DuplicateName, InvalidChild, InvalidTemplate
from asyncwatch.policies.restart import (
    DEFAULT_AUTO_SHUTDOWN,
    DEFAULT_STRATEGY,
    MAX_RESTARTS,
    SUPERVISOR_RESTART,
    SUPERVISOR_SHUTDOWN,
    WITHIN,
    AutoShutdown,
    RestartBackoff,
    RestartType,
    Strategy,
)


class SupervisorSpec(msgspec.Struct, frozen=True):
    """A supervisor. Its children start in order, each ready before the next starts, and stop in reverse order.

    Raises:
        SpecError: a field is invalid; each field has a subclass of its own.

    """

    name: str
    children: tuple[Any, ...] = ()
    """WorkerSpec, SupervisorSpec and PoolSpec, in start order."""
    strategy: Strategy = DEFAULT_STRATEGY
    max_restarts: int = MAX_RESTARTS
    within: float = WITHIN
    """Seconds. After more than `max_restarts` restarts of its children in this time, the supervisor gives up."""
    auto_shutdown: AutoShutdown = DEFAULT_AUTO_SHUTDOWN
    """Whether the end of any significant child, or of all of them, ends the supervisor."""
    restart: RestartType = SUPERVISOR_RESTART
    shutdown: float = SUPERVISOR_SHUTDOWN
    """Seconds that the supervisor and all below it may take to stop. Workers that still run then are abandoned."""
    significant: bool = False
    backoff: RestartBackoff = RestartBackoff()

    def __post_init__(self) -> None:
        children: Any = self.children  # unchecked input
        if not isinstance(children, Iterable):
            raise InvalidChild(f"children must be specs in a tuple, not {children!r}")
        msgspec.structs.force_setattr(self, "children", tuple(children))
        _check_supervisor(self)
        rules.check_strategy(self.strategy)
        _check_children(self.children, self.auto_shutdown)


class PoolSpec(msgspec.Struct, frozen=True):
    """A pool, OTP's simple_one_for_one: any number of children of one template, told apart by keys, stopped at once.

    `Supervisor.start_child(key, *args, under=pool)` starts a child; `args` follow the template's own. Unlike in OTP, a
    pool can have initial children. They start in order, each ready before the next, whenever the pool itself starts,
    also those that had ended for good.

    Raises:
        SpecError: a field is invalid; each field has a subclass of its own.

    """

    name: str
    template: WorkerSpec | SupervisorSpec
    max_restarts: int = MAX_RESTARTS
    within: float = WITHIN
    auto_shutdown: AutoShutdown = DEFAULT_AUTO_SHUTDOWN
    restart: RestartType = SUPERVISOR_RESTART
    shutdown: float = SUPERVISOR_SHUTDOWN
    significant: bool = False
    backoff: RestartBackoff = RestartBackoff()
    initial: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """The key and the `args` of each initial child."""

    def __post_init__(self) -> None:
        _check_supervisor(self)
        if not isinstance(self.template, (WorkerSpec, SupervisorSpec)):
            raise InvalidTemplate(f"a pool has one template, a WorkerSpec or a SupervisorSpec, not {self.template!r}")
        check_child(self.template, self.auto_shutdown)
        rules.check_keys([key for key, _ in self.initial])
        if isinstance(self.template, SupervisorSpec) and any(args for _, args in self.initial):
            raise InvalidTemplate(f"the template of pool {self.name!r} is a supervisor, which takes no arguments")

    def child(self, key: str, args: tuple[object, ...]) -> WorkerSpec | SupervisorSpec:
        """Return the spec of the child with that key.

        Raises:
            TypeError: there are `args`, but the template is a supervisor.

        """
        template = self.template
        if isinstance(template, WorkerSpec):
            return msgspec.structs.replace(template, name=key, args=template.args + args)
        if args:
            raise TypeError(f"the template of pool {self.name!r} is a supervisor, which takes no arguments")
        return msgspec.structs.replace(template, name=key)

    @property
    def strategy(self) -> Strategy:
        """one_for_one: the restart of a pool's child never involves its siblings."""
        return "one_for_one"


ChildSpec = WorkerSpec | SupervisorSpec | PoolSpec
NodeSpec = SupervisorSpec | PoolSpec


def check_child(child: Any, auto_shutdown: AutoShutdown) -> None:
    """Raise `InvalidChild` or `BadCombination` unless `child` can be the child of a supervisor."""
    if not isinstance(child, ChildSpec):
        raise InvalidChild(f"a child is a WorkerSpec, a SupervisorSpec or a PoolSpec, not {child!r}")
    if child.significant and auto_shutdown == "never":
        raise BadCombination(
            f"{child.name!r} is significant, which has no effect: the auto_shutdown of its supervisor is never"
        )


def _check_children(children: Iterable[Any], auto_shutdown: AutoShutdown) -> None:
    """Raise a `SpecError` unless these can be the children of one supervisor."""
    names: set[str] = set()
    workers: list[str] = []
    supervisors: list[str] = []
    for child in children:
        check_child(child, auto_shutdown)
        if child.name in names:
            raise DuplicateName(f"two children are named {child.name!r}")
        names.add(child.name)
        (workers if isinstance(child, WorkerSpec) else supervisors).append(child.name)
    rules.check_paths(workers, supervisors)


def _check_supervisor(spec: NodeSpec) -> None:
    rules.check_node_name(spec.name)
    rules.check_intensity(spec.max_restarts, spec.within)
    rules.check_auto_shutdown(spec.auto_shutdown)
    rules.check_restart(spec.restart)
    rules.check_shutdown(spec.shutdown)
    rules.check_significant(spec.significant, spec.restart)
    rules.check_backoff(spec.backoff)
