"""What a supervision tree is made of, beside workers: supervisors and pools."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

from asyncwatch.engine.spec import WorkerSpec
from asyncwatch.engine.tree import rules
from asyncwatch.engine.tree.errors import InvalidChild, InvalidTemplate
from asyncwatch.policies.restart import AutoShutdown, RestartBackoff, RestartType, Strategy

MAX_RESTARTS = 1
WITHIN = 5.0
"""Seconds. The defaults of OTP: the second restart within five seconds is one too many."""


class SupervisorSpec(msgspec.Struct, frozen=True):
    """A supervisor: children that are started in order, each ready before the next, and stopped in reverse order.

    Raises:
        SpecError: a subclass of its own for each invalid field.

    """

    name: str
    children: tuple[Any, ...] = ()
    """WorkerSpec, SupervisorSpec and PoolSpec, in start order."""
    strategy: Strategy = "one_for_one"
    max_restarts: int = MAX_RESTARTS
    within: float = WITHIN
    """Seconds: more than `max_restarts` restarts of children within them, and the supervisor gives up."""
    auto_shutdown: AutoShutdown = "never"
    """Whether the end of any or of all significant children ends the supervisor."""
    restart: RestartType = "permanent"
    shutdown: float = math.inf
    """Seconds that the supervisor and all below may take to stop; then whatever still runs is left behind."""
    significant: bool = False
    backoff: RestartBackoff = RestartBackoff()

    def __post_init__(self) -> None:
        children: Any = self.children  # whatever somebody gave
        if not isinstance(children, Iterable):
            raise InvalidChild(f"children must be specs in a tuple, not {children!r}")
        msgspec.structs.force_setattr(self, "children", tuple(children))
        _check_supervisor(self)
        rules.check_strategy(self.strategy)
        rules.check_children(self.children, WorkerSpec, NODE_KINDS, self.auto_shutdown)


class PoolSpec(msgspec.Struct, frozen=True):
    """OTP's simple_one_for_one: one template, any number of keyed children, stopped all at once.

    Its children are started by `Supervisor.start_child(key, *args, under=pool)`; `args` follow the template's own.
    Other than in OTP, where a pool always starts empty, there can be some that it starts with: in order, each ready
    before the next, and again whenever the pool itself is restarted, also those that had ended for good.

    Raises:
        SpecError: a subclass of its own for each invalid field.

    """

    name: str
    template: WorkerSpec | SupervisorSpec
    max_restarts: int = MAX_RESTARTS
    within: float = WITHIN
    auto_shutdown: AutoShutdown = "never"
    restart: RestartType = "permanent"
    shutdown: float = math.inf
    significant: bool = False
    backoff: RestartBackoff = RestartBackoff()
    initial: tuple[tuple[str, tuple[Any, ...]], ...] = ()
    """The key and the `args` of each child that it starts with."""

    def __post_init__(self) -> None:
        _check_supervisor(self)
        if not isinstance(self.template, (WorkerSpec, SupervisorSpec)):
            raise InvalidTemplate(f"a pool has one template, a WorkerSpec or a SupervisorSpec, not {self.template!r}")
        rules.check_child(self.template, CHILD_KINDS, self.auto_shutdown)
        rules.check_keys([key for key, _ in self.initial])
        if isinstance(self.template, SupervisorSpec) and any(args for _, args in self.initial):
            raise InvalidTemplate(f"the template of pool {self.name!r} is a supervisor, which takes no arguments")

    def child(self, key: str, args: tuple[object, ...]) -> WorkerSpec | SupervisorSpec:
        """Return the spec of a child.

        Raises:
            TypeError: the template is a supervisor, which takes no arguments.

        """
        template = self.template
        if isinstance(template, WorkerSpec):
            return msgspec.structs.replace(template, name=key, args=template.args + args)
        if args:
            raise TypeError(f"the template of pool {self.name!r} is a supervisor, which takes no arguments")
        return msgspec.structs.replace(template, name=key)

    @property
    def strategy(self) -> Strategy:
        """A child of a pool never takes others along."""
        return "one_for_one"


ChildSpec = WorkerSpec | SupervisorSpec | PoolSpec
NodeSpec = SupervisorSpec | PoolSpec
NODE_KINDS = (SupervisorSpec, PoolSpec)
CHILD_KINDS = (WorkerSpec, *NODE_KINDS)


def _check_supervisor(spec: NodeSpec) -> None:
    rules.check_node_name(spec.name)
    rules.check_intensity(spec.max_restarts, spec.within)
    rules.check_auto_shutdown(spec.auto_shutdown)
    rules.check_restart(spec.restart)
    rules.check_shutdown(spec.shutdown)
    rules.check_significant(spec.significant, spec.restart)
    rules.check_backoff(spec.backoff)
