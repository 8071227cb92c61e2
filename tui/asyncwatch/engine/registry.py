"""Every worker of a run: columns for the batch, of which there may be millions, and the services by name.

A `Worker` exists for a worker of the batch only while it is under way.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from asyncwatch.engine.describe import function_of, safe_repr
from asyncwatch.engine.event_loop import pass_on_interrupt
from asyncwatch.engine.spec import BadItem, Outcome, OwnSpec, WorkerSpec, WorkerSpecs
from asyncwatch.engine.worker import FORGOTTEN, Worker, WorkerOwner
from asyncwatch.events import WorkerEnded, WorkerState

REMEMBERED = 1_000
"""Names of forgotten services whose incarnations are still known."""
_FRESH, _UNDER_WAY, _FIRST_SETTLED = 0, 1, 2
_STATES = tuple(state for state in WorkerState if state.is_settled)
# Before Python 3.12 each lookup of an enum's member costs 50 ns.
_UNRESPONSIVE = WorkerState.UNRESPONSIVE
_MARKS = {state: mark for mark, state in enumerate(_STATES, start=_FIRST_SETTLED)}


class _Listed:
    """Workers given one by one."""

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

    def calls(self, first: int, end: int) -> Iterator[tuple[str, tuple[Any, ...], WorkerSpec]]:
        return ((spec.name, spec.args, spec) for spec in itertools.islice(self._specs, first, end))

    def call(self, place: int) -> tuple[str, tuple[Any, ...], WorkerSpec]:
        spec = self._specs[place]
        return spec.name, spec.args, spec


class _Alike:
    """Workers of one template. More can be added if `can_grow`: the names and items are lists then.

    The first workers of a growing part can be forgotten. The places of all others stay.
    """

    def __init__(self, specs: WorkerSpecs, *, can_grow: bool = False) -> None:
        self._specs = specs
        self._can_grow = can_grow
        self.forgotten = 0
        """How many workers were forgotten."""

    def __len__(self) -> int:
        return self.forgotten + len(self._specs)

    def names(self) -> Iterator[str]:
        return iter(self._specs.names)

    def groups(self) -> Iterator[tuple[WorkerSpec, Iterator[str]]]:
        yield self._specs.template, iter(self._specs.names)

    def places(self, group: str) -> Iterator[int]:
        return iter(range(self.forgotten, len(self) if self._specs.template.group == group else 0))

    def specs(self) -> Iterable[WorkerSpec]:
        return (self._specs.template,)

    def calls(self, first: int, end: int) -> Iterator[tuple[str, tuple[Any, ...], WorkerSpec]]:
        template, names, items = self._specs.template, self._specs.names, self._specs.items
        if self._can_grow:
            places = slice(first - self.forgotten, end - self.forgotten)
            names, items = names[places], (items or ())[places]
            if not _UNLIKE_OTHERS.isdisjoint(map(type, items)):
                return map(self.call, range(first, end))
        elif first:
            return map(self.call, range(first, end))
        args: Iterable[tuple[Any, ...]]
        if items is None:
            args = itertools.repeat(template.args)
        elif template.args:
            args = ((*template.args, item) for item in items)
        else:
            args = zip(items)
        return zip(names, args, itertools.repeat(template))

    def call(self, place: int) -> tuple[str, tuple[Any, ...], WorkerSpec]:
        place -= self.forgotten
        name, template = self._specs.names[place], self._specs.template
        try:
            args = self._specs.args(place)
        except BaseException as error:  # items may be read from anywhere, one by one
            pass_on_interrupt(error)
            message = f"its item cannot be read: {safe_repr(error)}"
            return name, (), msgspec.structs.replace(template, target=_raises(message))
        item = args[-1] if args else None
        if type(item) is BadItem:
            return name, (), msgspec.structs.replace(template, target=_raises(item.problem))
        if type(item) is OwnSpec:
            return name, item.spec.args, item.spec
        return name, args, template

    def grow(self, names: Sequence[str], items: Sequence[Any]) -> None:
        """Add workers. An iterator of `calls` does not yield them."""
        assert isinstance(self._specs.names, list)  # noqa: S101  it can grow
        assert isinstance(self._specs.items, list)  # noqa: S101
        self._specs.names.extend(names)
        self._specs.items.extend(items)

    def forget(self, size: int) -> list[str]:
        """Drop the first `size` workers and return their names."""
        names, items = self._specs.names, self._specs.items
        assert isinstance(names, list)  # noqa: S101  it can grow
        assert isinstance(items, list)  # noqa: S101
        dropped: list[str] = names[:size]
        del names[:size], items[:size]
        self.forgotten += size
        return dropped


_UNLIKE_OTHERS = frozenset({BadItem, OwnSpec})
"""Items whose workers are not treated as the template says."""


def _raises(message: str) -> Callable[[], Coroutine[Any, Any, Any]]:
    """Return a target for a worker whose arguments cannot be read."""

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


class BatchRegistry:
    """The workers of a batch, in order, and how they ended: some 30 bytes a worker beside its name and its args.

    A batch of very many workers that join while it runs can forget old ones that have ended (`keep_latest`). The index
    of a worker is its number in the whole batch, and stays.

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
                raise ValueError(f"two workers are named {self._duplicate_name()!r}")
        self.fresh = size
        """How many were neither started nor stopped so far."""
        self._marks = bytearray(size)
        self._incarnations = array("I", (1,)) * size
        self._attempts = array("I", (1,)) * size
        self._elapsed = array("d", bytes(8 * size))
        self._results: list[Any] = [None] * size
        self._errors: dict[int, BaseException] = {}
        self.keeps_values = True
        """Whether to keep what targets return and raise. An error holds every frame that it passed through."""
        self._under_way: dict[int, Worker] = {}
        self._growing: WorkerSpec | None = None
        """The template of the last part, if that can grow."""
        self._next_number: dict[str, int] = {}
        """What is tried first to make a name unique that comes again."""
        self.rows_kept: int | None = None
        """How many settled workers are kept at least; None for all. Set it by `keep_latest`."""
        self._first = 0
        """Index of the first row of the columns: rows before it were forgotten."""
        self._forgotten: Counter[int] = Counter()
        """How many forgotten workers have each mark."""
        self._stragglers: dict[int, int] = {}
        """Index and mark of each worker that is kept though its row was forgotten: it can still end."""

    def keep_latest(self, size: int) -> None:
        """Keep only the latest `size` to `2 * size` settled workers from now on, and no results and errors.

        Raises:
            ValueError: the batch has workers already.

        """
        if len(self):
            raise ValueError("only a batch whose workers all join while it runs can forget some")
        self.rows_kept = size
        self.keeps_values = False

    def extend(self, template: WorkerSpec, names: Sequence[str], items: Sequence[Any]) -> list[str]:
        """Add workers of one template at the end; return their names, made unique by `#2`, `#3`, ..."""
        if self.rows_kept is not None and len(self._marks) > 2 * self.rows_kept:
            self._forget(self.rows_kept)
        start, size = len(self), len(names)
        unique: list[str] = list(names)
        if len(set(unique)) == size and self._index.keys().isdisjoint(unique):
            self._index.update(zip(unique, range(start, start + size), strict=True))
        else:
            for place, name in enumerate(unique):
                unique[place] = self._unique(name) if name in self._index else name
                self._index[unique[place]] = start + place
        if template is not self._growing:
            self._growing = template
            self._parts.append(_Alike(WorkerSpecs(template, [], []), can_grow=True))
            self._starts.append(start)
        part = self._parts[-1]
        assert isinstance(part, _Alike)  # noqa: S101  see above
        part.grow(unique, items)
        self.fresh += size
        self._marks += bytes(size)
        self._incarnations.extend(itertools.repeat(1, size))
        self._attempts.extend(itertools.repeat(1, size))
        self._elapsed.extend(itertools.repeat(0.0, size))
        self._results += [None] * size
        return unique

    def _forget(self, kept: int) -> None:
        """Forget the settled workers before the last `kept` and before the first that has not begun."""
        marks, part = self._marks, self._parts[-1]
        assert isinstance(part, _Alike)  # noqa: S101  all workers joined while the batch ran
        fresh = marks.find(_FRESH)
        size = len(marks) - kept if fresh < 0 else min(fresh, len(marks) - kept)
        for index, name in enumerate(part.forget(size), self._first):
            mark = marks[index - self._first]
            if index in self._under_way:
                self._stragglers[index] = mark
            else:
                self._forgotten[mark] += 1
                del self._index[name]
        for column in (marks, self._incarnations, self._attempts, self._elapsed, self._results):
            del column[:size]
        self._first += size
        if len(self._next_number) > kept:
            self._next_number.clear()

    def _mark(self, index: int) -> int:
        """Return the mark of a worker, -1 if it was forgotten."""
        return self._marks[index - self._first] if index >= self._first else self._stragglers.get(index, -1)

    def _unique(self, name: str) -> str:
        number = self._next_number.get(name, 2)
        while f"{name}#{number}" in self._index:
            number += 1
        self._next_number[name] = number + 1
        return f"{name}#{number}"

    def __len__(self) -> int:
        """Return how many workers there have been, forgotten ones included."""
        return self._first + len(self._marks)

    def __iter__(self) -> Iterator[Worker]:
        """Yield every worker, in order, each as it is at that moment."""
        return map(self._worker, range(self._first, len(self)))

    def groups(self) -> Iterator[tuple[WorkerSpec, Iterator[str]]]:
        """Yield all names in order: neighbours of the same group and number of attempts together, with one spec."""
        return itertools.chain.from_iterable(part.groups() for part in self._parts)

    def specs(self) -> Iterator[WorkerSpec]:
        """Yield the specs of all workers; a template comes once."""
        return itertools.chain.from_iterable(part.specs() for part in self._parts)

    def get(self, name: str) -> Worker | None:
        """Return the worker of that name, as it is now; None if there is none."""
        index = self._index.get(name)
        return None if index is None else self._worker(index)

    def start_next(self, index: int = 0) -> Iterator[Worker]:
        """Yield, in order and from `index` on, each worker that has neither been started nor stopped by then.

        Workers that join meanwhile come too.
        """
        marks, under_way = self._marks, self._under_way
        while index < len(self):
            at = bisect_right(self._starts, index) - 1
            part, start = self._parts[at], self._starts[at]
            end = start + len(part)
            calls = part.calls(index - start, end - start)
            while index < end:
                try:
                    name, args, spec = next(calls)
                except BaseException as error:  # items that cannot be read
                    pass_on_interrupt(error)
                    calls = map(part.call, range(index - start, end - start))
                    continue
                if not marks[index - self._first]:
                    marks[index - self._first] = _UNDER_WAY
                    self.fresh -= 1
                    under_way[index] = worker = Worker(name, args, spec, index, is_ready=True)
                    yield worker
                index += 1

    def running(self) -> list[Worker]:
        """Return the workers with an attempt in flight, in order."""
        running = [worker for worker in self._under_way.values() if worker.task is not None]
        return sorted(running, key=lambda worker: worker.index)

    def under_way(self) -> list[Worker]:
        """Return the workers that have begun and not settled, in order."""
        return [self._under_way[index] for index in sorted(self._under_way) if self._mark(index) == _UNDER_WAY]

    def unsettled(self, group: str | None = None) -> Iterator[Worker]:
        """Yield the workers (of a group) that have not settled by then, in order."""
        return (self._worker(index) for index in self._indexes(group) if 0 <= self._mark(index) < _FIRST_SETTLED)

    def begun(self, group: str) -> Iterator[Worker]:
        """Yield the workers of a group that are under way or have settled by then, in order."""
        return (self._worker(index) for index in self._indexes(group) if self._mark(index) > 0)

    def has_group(self, group: str) -> bool:
        """Return whether a group has any workers."""
        return next(self._indexes(group), None) is not None

    def _indexes(self, group: str | None) -> Iterator[int]:
        for index in sorted(self._stragglers):
            if index in self._under_way and group in {None, self._under_way[index].spec.group}:
                yield index
        for start, part in zip(self._starts, self._parts, strict=True):
            indexes = range(max(start, self._first), start + len(part))
            yield from indexes if group is None else (start + place for place in part.places(group))

    def begin(self, worker: Worker) -> None:
        """Note that a worker, or another incarnation of it, is under way."""
        index = worker.index
        self._under_way[index] = worker
        if index >= self._first:
            self.fresh -= not self._marks[index - self._first]
            self._marks[index - self._first] = _UNDER_WAY
            return
        if index not in self._stragglers:  # its incarnation ended in this very call
            self._forgotten[_MARKS[worker.state]] -= 1
            self._index[worker.name] = index
        self._stragglers[index] = _UNDER_WAY

    def is_latest(self, worker: Worker) -> bool:
        """Return whether no later incarnation of a worker has begun."""
        index = worker.index
        if self._under_way.get(index, worker) is not worker:
            return False
        return index < self._first or worker.incarnation >= self._incarnations[index - self._first]

    def settle(self, worker: Worker, event: WorkerEnded, result: object, error: BaseException | None) -> None:
        """Note how a worker ended. An abandoned one is kept, as it may still end."""
        index, state = worker.index, event.state
        if state is not _UNRESPONSIVE:
            self._under_way.pop(index, None)
        row = index - self._first
        if row < 0:
            self._settle_straggler(worker, _MARKS[state])
            return
        if not self._marks[row]:
            self.fresh -= 1
        self._marks[row] = _MARKS[state]
        if event.incarnation != 1:
            self._incarnations[row] = event.incarnation
        if event.attempts != self._attempts[row]:
            self._attempts[row] = event.attempts
        self._elapsed[row] = event.elapsed
        if not self.keeps_values:
            result = error = None
        self._results[row] = result
        if error is not None:
            self._errors[index] = error
        elif self._errors:
            self._errors.pop(index, None)

    def _settle_straggler(self, worker: Worker, mark: int) -> None:
        if worker.index in self._under_way:  # abandoned: it may still end
            self._stragglers[worker.index] = mark
        else:
            del self._stragglers[worker.index], self._index[worker.name]
            self._forgotten[mark] += 1

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the latest outcome of each worker that has ended, in order."""
        names = itertools.chain.from_iterable(part.names() for part in self._parts)
        columns = zip(names, self._marks, self._results, self._incarnations, self._attempts, self._elapsed, strict=True)
        error_of, states = self._errors.get, (None, None, *_STATES)
        for index, (name, mark, result, incarnation, attempts, elapsed) in enumerate(columns, self._first):
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

    def some(self, most: int = 32) -> list[Worker]:
        """Return the first worker, the last one and others at equal distances, as they are now."""
        first, last = self._first, len(self) - 1
        indexes = {first + (last - first) * n // (most - 1) for n in range(most)}
        return [self._worker(index) for index in sorted(indexes) if index >= first]

    def successes_of(self, function: object) -> int:
        """Return how many workers of the batch whose target calls `function` have succeeded."""
        mark, marks, first, total = _MARKS[WorkerState.SUCCEEDED], self._marks, self._first, 0
        for part, start in zip(self._parts, self._starts, strict=True):
            if isinstance(part, _Alike):
                is_like = any(function_of(spec.target) is function for spec in part.specs())
                if is_like:
                    total += marks.count(mark, max(0, start - first), start + len(part) - first) + self._forgotten[mark]
            else:
                specs = enumerate(part.specs(), start)
                total += sum(marks[index] == mark and function_of(spec.target) is function for index, spec in specs)
        return total

    def states(self) -> dict[str, int]:
        """Return how many workers are in each state; states without workers are left out."""
        marks = self._marks
        # Another thread may ask while a worker keeps the loop.
        under_way = list(self._under_way.items())
        counts = Counter(worker.state.value for index, worker in under_way if self._mark(index) == _UNDER_WAY)
        counts[WorkerState.QUEUED.value] += self.fresh
        stragglers = list(self._stragglers.values())
        for state, mark in _MARKS.items():
            counts[state.value] += marks.count(mark) + self._forgotten[mark] + stragglers.count(mark)
        return {state: count for state, count in counts.items() if count}

    def _worker(self, index: int) -> Worker:
        worker = self._under_way.get(index)
        if worker is not None:
            return worker
        at = bisect_right(self._starts, index) - 1
        call = self._parts[at].call(index - self._starts[at])
        worker = self._under_way.get(index)
        if worker is not None:  # reading its item has restarted it
            return worker
        row = index - self._first
        mark = self._marks[row]
        if mark < _FIRST_SETTLED:
            return Worker(*call, index, is_ready=not mark)
        state = _STATES[mark - _FIRST_SETTLED]
        return Worker(*call, index, incarnation=self._incarnations[row], state=state)

    def _duplicate_name(self) -> str:
        names = Counter(name for part in self._parts for name in part.names())
        return next(name for name, times in names.items() if times > 1)

    def unsettled_count(self) -> int:
        """Return how many workers have not settled."""
        stragglers = list(self._stragglers.values())
        return self._marks.count(_FRESH) + self._marks.count(_UNDER_WAY) + stragglers.count(_UNDER_WAY)

    def kept(self) -> list[Worker]:
        """Return the workers for which a `Worker` exists: those under way, and abandoned ones."""
        return list(self._under_way.values())

    def problems(self) -> Iterator[str]:
        """Yield what is inconsistent in the columns; nothing if all is well."""
        if self._marks.count(_FRESH) != self.fresh:
            yield f"{self._marks.count(_FRESH)} workers have not begun, and {self.fresh} are counted"
        for index, worker in self._under_way.items():
            mark = self._mark(index)
            settled = None if mark < _FIRST_SETTLED else _STATES[mark - _FIRST_SETTLED]
            if mark == _UNDER_WAY and worker.state.is_settled:
                yield f"{worker} has settled, and its column says it is under way"
            elif mark != _UNDER_WAY and settled is not worker.state:
                yield f"{worker} is {settled} by its column"
        if lost := self._stragglers.keys() - self._under_way.keys():
            yield f"workers {sorted(lost)} have ended, and are kept"
        for index, mark in enumerate(self._marks, self._first):
            if mark == _UNDER_WAY and index not in self._under_way:
                yield f"worker {index} is lost: it is under way without a Worker"


class WorkerRegistry:
    """All workers of a run: the batch in its columns, and the services by name with their incarnation numbers.

    Raises:
        ValueError: two workers of the batch have the same name.

    """

    def __init__(self, members: Iterable[WorkerSpec | WorkerSpecs]) -> None:
        self.batch = BatchRegistry(members)
        self.services: dict[str, Worker] = {}
        """The latest incarnation of each service."""
        self._incarnations: dict[str, int] = {}
        self._forgotten: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.batch) + len(self.services)

    def get(self, name: str) -> Worker | None:
        """Return the worker of that name, as it is now; None if there is none."""
        return self.services.get(name) or self.batch.get(name)

    def unsettled(self) -> Iterator[Worker]:
        """Yield the workers that have not settled, the batch first."""
        yield from self.batch.unsettled()
        for worker in list(self.services.values()):
            if not worker.state.is_settled:
                yield worker

    def under_way(self) -> list[Worker]:
        """Return the workers that have begun and not settled, the batch first."""
        services = (worker for worker in self.services.values() if not worker.state.is_settled)
        return [*self.batch.under_way(), *services]

    def outcomes(self) -> Iterator[Outcome]:
        """Yield the latest outcome of each worker that has ended, the batch first."""
        yield from self.batch.outcomes()
        yield from (worker.outcome for worker in self.services.values() if worker.outcome is not None)

    def states(self) -> dict[str, int]:
        """Return how many workers are in each state; states without workers are left out."""
        counts = Counter(self.batch.states())
        counts.update(worker.state.value for worker in list(self.services.values()))
        return dict(counts)

    def add_service(self, spec: WorkerSpec, owner: WorkerOwner) -> Worker:
        """Return a new incarnation of a service, in place of the one before it."""
        name = spec.name
        past = self._forgotten.pop(name, 0) or self._incarnations.get(name, 0)
        worker = Worker(name, spec.args, spec, incarnation=past + 1, owner=owner)
        self._incarnations[name] = worker.incarnation
        self.services[name] = worker
        return worker

    def forget_service(self, name: str) -> None:
        """Drop a settled service that is not to be shown again.

        Its incarnations go on being counted if one of its name comes soon: a command for the old one, still on its
        way, must not reach the new one.
        """
        worker = self.services.get(name)
        if worker is not None and worker.state.is_settled:
            del self.services[name]
            self._forgotten[name] = self._incarnations.pop(name)
            if len(self._forgotten) > REMEMBERED:
                del self._forgotten[next(iter(self._forgotten))]

    def why_unknown(self, name: str) -> str:
        """Return why there is no worker of that name."""
        if name in self._forgotten:
            return FORGOTTEN
        return "there is no such worker" if self.batch.rows_kept is None else "it is not one of the latest workers"
