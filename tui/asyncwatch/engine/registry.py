"""The workers of a batch, of which there may be millions: a `Worker` exists for one only while it is under way."""

from __future__ import annotations

import contextlib
import itertools
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Protocol

import msgspec

from asyncwatch.engine.spec import Outcome, WorkerSpec, WorkerSpecs
from asyncwatch.engine.worker import Worker
from asyncwatch.events import WorkerEnded, WorkerState

_FRESH, _UNDER_WAY, _FIRST_SETTLED = 0, 1, 2
_STATES = tuple(state for state in WorkerState if state.is_settled)
_MARKS = {state: mark for mark, state in enumerate(_STATES, start=_FIRST_SETTLED)}


class Members(Protocol):
    """The workers of a run."""

    def __len__(self) -> int:
        """Return how many there are."""

    def get(self, name: str, /) -> Worker | None:
        """Return the worker of that name, as it is now; None if there is none."""

    def unsettled(self, group: str | None = None) -> Iterable[Worker]:
        """Return the workers (of a group) that have not settled, in order."""

    def under_way(self) -> list[Worker]:
        """Return the workers that have not settled, without those that never had their turn; in order."""

    def outcomes(self) -> Iterable[Outcome]:
        """Return the latest outcome of each worker that has ended, in order."""

    def states(self) -> dict[str, int]:
        """Return how many workers are in each state, without those that none is in."""


class _Listed:
    """Workers that were given one by one."""

    def __init__(self, specs: list[WorkerSpec]) -> None:
        self._specs = specs

    def __len__(self) -> int:
        return len(self._specs)

    def names(self) -> Iterator[str]:
        return (spec.name for spec in self._specs)

    def groups(self) -> Iterator[tuple[WorkerSpec, Iterator[str]]]:
        for _, specs in itertools.groupby(self._specs, lambda spec: (spec.group, spec.retry.max_attempts)):
            first = next(specs)
            yield first, (spec.name for spec in itertools.chain((first,), specs))

    def places(self, group: str) -> Iterator[int]:
        return (place for place, spec in enumerate(self._specs) if spec.group == group)

    def specs(self) -> Iterable[WorkerSpec]:
        return self._specs

    def calls(self) -> Iterator[tuple[str, tuple[Any, ...], WorkerSpec]]:
        return ((spec.name, spec.args, spec) for spec in self._specs)

    def call(self, place: int) -> tuple[str, tuple[Any, ...], WorkerSpec]:
        spec = self._specs[place]
        return spec.name, spec.args, spec


class _Alike:
    """Workers of one template."""

    def __init__(self, specs: WorkerSpecs) -> None:
        self._specs = specs

    def __len__(self) -> int:
        return len(self._specs)

    def names(self) -> Iterator[str]:
        return iter(self._specs.names)

    def groups(self) -> Iterator[tuple[WorkerSpec, Iterator[str]]]:
        yield self._specs.template, iter(self._specs.names)

    def places(self, group: str) -> Iterator[int]:
        return iter(range(len(self) if self._specs.template.group == group else 0))

    def specs(self) -> Iterable[WorkerSpec]:
        return (self._specs.template,)

    def calls(self) -> Iterator[tuple[str, tuple[Any, ...], WorkerSpec]]:
        template, names, items = self._specs.template, self._specs.names, self._specs.items
        args: Iterable[tuple[Any, ...]]
        if items is None:
            args = itertools.repeat(template.args)
        elif template.args:
            args = ((*template.args, item) for item in items)
        else:
            args = zip(items)
        return zip(names, args, itertools.repeat(template))

    def call(self, place: int) -> tuple[str, tuple[Any, ...], WorkerSpec]:
        name, template = self._specs.names[place], self._specs.template
        try:
            return name, self._specs.args(place), template
        except Exception as error:  # items may be read from anywhere, one by one
            return name, (), msgspec.structs.replace(template, target=_raises(f"its item cannot be read: {error!r}"))


def _raises(message: str) -> Callable[[], Coroutine[Any, Any, Any]]:
    """Return a target for a worker of which it is not known what to call it with."""

    async def raise_it() -> None:
        raise LookupError(message)

    return raise_it


def _parts(members: Iterable[WorkerSpec | WorkerSpecs]) -> Iterator[_Listed | _Alike]:
    listed: list[WorkerSpec] = []
    for member in members:
        if isinstance(member, WorkerSpecs):
            if listed:
                yield _Listed(listed)
                listed = []
            yield _Alike(member)
        else:
            listed.append(member)
    yield _Listed(listed)


class Roster:
    """Who is in a batch, in order, and how they ended: some 30 bytes a worker beside its name and its args.

    Raises:
        ValueError: two workers have the same name.

    """

    def __init__(self, members: Iterable[WorkerSpec | WorkerSpecs]) -> None:
        self._parts = list(_parts(members))
        self._starts: list[int] = []
        self._index: dict[str, int] = {}
        size = 0
        for part in self._parts:
            self._starts.append(size)
            self._index.update(zip(part.names(), range(size, size + len(part)), strict=True))
            size += len(part)
            if len(self._index) < size:
                raise ValueError(f"two workers are named {self._name_that_comes_twice()!r}")
        self.fresh = size
        """How many were never started, nor stopped before that."""
        self._marks = bytearray(size)
        self._incarnations = array("I", (1,)) * size
        self._attempts = array("I", (1,)) * size
        self._elapsed = array("d", bytes(8 * size))
        self._results: list[Any] = [None] * size
        self._errors: dict[int, BaseException] = {}
        self.keeps_values = True
        """Whether it keeps what targets returned and raised: an error holds all frames that it came through."""
        self._under_way: dict[int, Worker] = {}

    def __len__(self) -> int:
        return len(self._marks)

    def __iter__(self) -> Iterator[Worker]:
        """Yield every worker, in order, as it is when its turn comes."""
        return map(self._worker, range(len(self._marks)))

    def groups(self) -> Iterator[tuple[WorkerSpec, Iterator[str]]]:
        """Yield all names in order, those of the same group and number of attempts together, and one of their specs."""
        return itertools.chain.from_iterable(part.groups() for part in self._parts)

    def specs(self) -> Iterator[WorkerSpec]:
        """Yield the specs of all workers; a template comes once."""
        return itertools.chain.from_iterable(part.specs() for part in self._parts)

    def get(self, name: str) -> Worker | None:
        """Return the worker of that name, as it is now; None if there is none."""
        index = self._index.get(name)
        return None if index is None else self._worker(index)

    def start_next(self) -> Iterator[Worker]:
        """Yield, in order, each worker that was not started nor stopped before its turn comes."""
        index = 0
        marks, under_way = self._marks, self._under_way
        for part, start in zip(self._parts, self._starts, strict=True):
            calls = part.calls()
            while index < start + len(part):
                with contextlib.suppress(Exception):  # items that cannot be read
                    for name, args, spec in calls:
                        if not marks[index]:
                            marks[index] = _UNDER_WAY
                            self.fresh -= 1
                            under_way[index] = worker = Worker(name, args, spec, index, is_ready=True)
                            yield worker
                        index += 1
                calls = map(part.call, range(index - start, len(part)))

    def running(self) -> list[Worker]:
        """Return the workers of which an attempt is in flight, in order."""
        running = [worker for worker in self._under_way.values() if worker.task is not None]
        return sorted(running, key=lambda worker: worker.index)

    def under_way(self) -> list[Worker]:
        """Return the workers that have been started, or stopped before that, and have not settled; in order."""
        return [self._under_way[index] for index in sorted(self._under_way) if self._marks[index] == _UNDER_WAY]

    def unsettled(self, group: str | None = None) -> Iterator[Worker]:
        """Yield the workers (of a group) that have not settled when their turn comes, in order."""
        marks = self._marks
        return (self._worker(index) for index in self._indexes(group) if marks[index] < _FIRST_SETTLED)

    def begun(self, group: str) -> Iterator[Worker]:
        """Yield the workers of a group that are under way or have settled when their turn comes, in order."""
        marks = self._marks
        return (self._worker(index) for index in self._indexes(group) if marks[index])

    def has_group(self, group: str) -> bool:
        """Return whether there is anybody in a group."""
        return next(self._indexes(group), None) is not None

    def _indexes(self, group: str | None) -> Iterator[int]:
        for start, part in zip(self._starts, self._parts, strict=True):
            everybody = range(start, start + len(part))
            yield from everybody if group is None else (start + place for place in part.places(group))

    def begin(self, worker: Worker) -> None:
        """Note that a worker, or another incarnation of it, is under way."""
        if not self._marks[worker.index]:
            self.fresh -= 1
        self._marks[worker.index] = _UNDER_WAY
        self._under_way[worker.index] = worker

    def settle(self, worker: Worker, event: WorkerEnded, result: object, error: BaseException | None) -> None:
        """Note how a worker ended. One that was left behind is kept, as it may end yet."""
        index = worker.index
        mark = self._marks[index]
        if not mark:
            self.fresh -= 1
        self._marks[index] = _MARKS[event.state]
        if event.incarnation != 1:
            self._incarnations[index] = event.incarnation
        if event.attempts != self._attempts[index]:
            self._attempts[index] = event.attempts
        self._elapsed[index] = event.elapsed
        if not self.keeps_values:
            result = error = None
        self._results[index] = result
        if error is not None:
            self._errors[index] = error
        elif self._errors:
            self._errors.pop(index, None)
        if event.state is not WorkerState.UNRESPONSIVE:
            self._under_way.pop(index, None)

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the latest outcome of each worker that has ended, in order."""
        names = itertools.chain.from_iterable(part.names() for part in self._parts)
        columns = zip(names, self._marks, self._results, self._incarnations, self._attempts, self._elapsed, strict=True)
        error_of, states = self._errors.get, (None, None, *_STATES)
        for index, (name, mark, result, incarnation, attempts, elapsed) in enumerate(columns):
            state = states[mark]
            if state is not None:
                yield Outcome(
                    name=name,
                    state=state,
                    result=result,
                    error=error_of(index),
                    incarnation=incarnation,
                    attempts=attempts,
                    elapsed=elapsed,
                )

    def states(self) -> dict[str, int]:
        """Return how many workers are in each state, without those that none is in."""
        marks = self._marks
        # Another thread may ask while a worker keeps the loop.
        under_way = list(self._under_way.items())
        counts = Counter(worker.state.value for index, worker in under_way if marks[index] == _UNDER_WAY)
        counts[WorkerState.QUEUED.value] += self.fresh
        for state, mark in _MARKS.items():
            counts[state.value] += marks.count(mark)
        return {state: count for state, count in counts.items() if count}

    def _worker(self, index: int) -> Worker:
        worker = self._under_way.get(index)
        if worker is not None:
            return worker
        at = bisect_right(self._starts, index) - 1
        part, place = self._parts[at], index - self._starts[at]
        mark = self._marks[index]
        worker = Worker(*part.call(place), index, is_ready=not mark)
        if mark >= _FIRST_SETTLED:
            worker.state = _STATES[mark - _FIRST_SETTLED]
            worker.incarnation = self._incarnations[index]
        return worker

    def _name_that_comes_twice(self) -> str:
        names = Counter(name for part in self._parts for name in part.names())
        return next(name for name, times in names.items() if times > 1)
