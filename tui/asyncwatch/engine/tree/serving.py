"""What a `Supervisor` needs to run a tree: when its children make one, and how it starts, serves and ends it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeGuard

from asyncwatch.engine.scheduler import Machine
from asyncwatch.engine.spec import WorkerSpec, WorkerSpecs
from asyncwatch.engine.tree.calls import TreeCalls
from asyncwatch.engine.tree.crew import Crew
from asyncwatch.engine.tree.errors import NoSuchSupervisor
from asyncwatch.engine.tree.specs import ChildSpec, SupervisorSpec
from asyncwatch.engine.tree.tree import Tree
from asyncwatch.events.tree import ROOT


def is_batch(children: tuple[ChildSpec | WorkerSpecs, ...]) -> TypeGuard[tuple[WorkerSpec | WorkerSpecs, ...]]:
    """Return whether the children are work that ends: temporary workers and nothing else."""
    for child in children:
        spec = child.template if type(child) is WorkerSpecs else child
        if type(spec) is not WorkerSpec or spec.is_service:
            return False
    return True


def one_by_one(children: tuple[ChildSpec | WorkerSpecs, ...]) -> Iterator[ChildSpec]:
    """Yield the children, and each worker of those that were given together."""
    for child in children:
        if isinstance(child, WorkerSpecs):
            yield from child
        else:
            yield child


class Serving(TreeCalls):
    """The tree of a `Supervisor`, from its spec to its end."""

    name: str
    _machine: Machine
    _stays_open: bool
    _is_stopping: bool
    _tree: Tree | None = None
    _has_told_ending = False
    _group_timers: Sequence[asyncio.TimerHandle] = ()

    async def serve(self) -> None:
        """Start the tree, if that has not been, and return when it has ended.

        It ends when its root shuts down with a significant child, or when the run is stopped. To leave it early, cancel
        the caller: outside `async with` that stops all workers and waits for them.

        Raises:
            StartError: a child did not start; those before it have been stopped.
            RestartLimitError: the root gave up, after too many restarts.

        """
        try:
            tree = await self._started_tree()
            ending = await tree.over()
            self._end_batch()
        finally:
            if not self._stays_open:
                await self._finish()
        self._has_told_ending = True
        if ending.error is not None:
            raise ending.error

    def _plant(self, crew: Crew, root: SupervisorSpec) -> None:
        """Make the tree, with nothing started."""
        self._machine = crew
        self._tree = crew.tree = Tree(root, crew)

    async def _started_tree(self) -> Tree:
        if self._tree is None:
            if self._machine.report.is_started:
                raise RuntimeError("a supervisor makes one run, and this one runs a batch")
            self._make_tree()
        assert self._tree is not None  # noqa: S101  it was made just now
        if self._is_stopping:
            self._tree.request_stop("person")
        crew, tree = self._machine, self._tree
        if isinstance(crew, Crew) and not crew.report.is_started:
            crew.begin(self.name, tree.worker_count(), time.time(), tree.worker_specs())
            tree.launch()
            crew.announce_batch()  # below the tree
        await tree.start()
        if isinstance(crew, Crew) and not crew.is_batch_started:
            crew.start_batch()
            self._group_timers = self._time_groups()
        return tree

    def _end_batch(self) -> None:
        """Ask what runs beside the tree to end: the tree has ended, or is about to."""
        machine = self._machine
        for timer in self._group_timers:
            timer.cancel()
        if any(True for _ in machine.batch.unsettled()):
            machine.is_interrupted = True
            machine.report.run_cancel_requested("run")
            machine.stop_batch("run")

    def _present_tree(self) -> Tree:
        if self._tree is None or not self._machine.report.is_started:
            raise NoSuchSupervisor("no supervisor runs: the tree has not been started")
        return self._tree

    def _tell_ending(self, error: BaseException | None) -> None:
        """Raise what ended the tree, at the end of `async with`, unless something else is raised or `serve` told it."""
        ending = None if self._tree is None else self._tree.ending
        if error is None and not self._has_told_ending and ending is not None and ending.error is not None:
            raise ending.error

    def _time_groups(self) -> Sequence[asyncio.TimerHandle]:
        raise NotImplementedError

    def _make_tree(self) -> None:
        raise NotImplementedError

    async def _finish(self) -> None:
        raise NotImplementedError


def new_crew(**settings: Any) -> Crew:
    """Return the scheduler of a run with a tree."""
    return Crew(**settings)


def root_spec(children: Iterable[ChildSpec], flags: dict[str, Any]) -> SupervisorSpec:
    """Return the spec of the root, with OTP's defaults for the flags that are None."""
    given = {flag: value for flag, value in flags.items() if value is not None}
    return SupervisorSpec(ROOT, tuple(children), **given)
