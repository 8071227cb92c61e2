"""What became of the items of a run, over all its launches, and how a list of items compares with that.

An item is done if its worker's last end in some launch is that it succeeded. The order of the list and its other items
do not matter, since items are known by their keys (`journal.identity`).
"""

from __future__ import annotations

import enum
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import NamedTuple

from msgspec import Struct

from asyncwatch.events import AttemptStarted, WorkerEnded, WorkersQueued, WorkerState, WorkerSucceeded
from asyncwatch.journal.identity import Keys
from asyncwatch.journal.store import CONTENT_SIZE, KEY_SIZE, ItemKeys, JournalError, RunJournal, RunStore, StoredBatch


class Kind(enum.StrEnum):
    """What a resume does with an item, and why."""

    DONE = "done"
    FAILED = "failed"
    """It has ended otherwise, and is run again."""
    UNFINISHED = "unfinished"
    """It has not ended, was stopped, or had not started when the run's time was over. It is run."""
    CHANGED = "changed"
    """An item of the same name had another content. It is run."""
    NEW = "new"
    """It is run."""
    GONE = "gone"
    """It is not in the list any more."""


Ended = tuple[int, int, bytes]
"""Where an item succeeded: the number of the launch, the `seq` of the event, and the hash of the item's content, which
is empty if the key is made of it. A plain tuple, since there may be a million."""


class PastGroup:
    """What became of the items of one group, by key."""

    def __init__(self) -> None:
        self.done: dict[bytes, Ended] = {}
        self.others: dict[bytes, tuple[Kind, bytes]] = {}
        """Items that were not done in the launch they were last in: FAILED or UNFINISHED, and the hash of the content.
        An item whose content has changed can be in `done` as well."""

    def kind_of(self, key: bytes, content: bytes) -> Kind:
        """Return what a resume does with an item."""
        if (done := self.done.get(key)) is not None:
            return Kind.DONE if done[2] == content or not (done[2] and content) else Kind.CHANGED
        if (other := self.others.get(key)) is None:
            return Kind.NEW
        return other[0] if other[1] == content or not (other[1] and content) else Kind.CHANGED


class Past:
    """What became of the items of a run, in its launches up to the one numbered `last`."""

    def __init__(self, journal: RunJournal, last: int | None = None) -> None:
        self.groups: dict[str, PastGroup] = {}
        self._journal = journal
        self.launches = [launch for launch in journal.launches() if last is None or launch.number <= last]
        for launch in self.launches:
            self._read(launch.number)

    def _read(self, launch: int) -> None:
        ends: dict[str, tuple[int, int, Kind]] = {}  # without the events, whose results may be large
        names: list[str] = []
        for batch, is_whole in whole_batches(self._journal, launch):
            for event in batch.unpack():
                if isinstance(event, WorkerEnded):
                    known = ends.get(event.worker)
                    if known is None or known[0] <= event.incarnation:  # not of one that ends late
                        ends[event.worker] = event.incarnation, event.seq, _kind_of(event)
                elif type(event) is WorkersQueued and is_whole:
                    names += event.workers
        for part in self._journal.items(launch):
            group = self.groups.setdefault(part.group, PastGroup())
            done, others = group.done, group.others
            workers = chain(map(ends.get, names[part.first : part.first + len(part.keys) // KEY_SIZE]), repeat(None))
            for (key, content), end in zip(split_keys(part), workers, strict=False):
                if end is not None and end[2] is Kind.DONE:
                    done[key] = launch, end[1], content
                    others.pop(key, None)
                else:
                    others[key] = Kind.UNFINISHED if end is None else end[2], content

    def names(self, journal: RunJournal) -> dict[tuple[str, bytes], str]:
        """Return the name of the worker of each item, by group and key."""
        found: dict[tuple[str, bytes], str] = {}
        for launch in self.launches:
            names: list[str] = []
            for batch, is_whole in whole_batches(journal, launch.number):
                queued = [event for event in batch.unpack() if type(event) is WorkersQueued and is_whole]
                names += [name for event in queued for name in event.workers]
            for part in journal.items(launch.number):
                keys = ((part.group, key) for key, _ in split_keys(part))
                found.update(zip(keys, names[part.first :], strict=False))
        return found

    def successes(self, run_again: Collection[tuple[str, bytes]]) -> Iterator[tuple[str, WorkerSucceeded]]:
        """Yield the group and the last success of each item that is done, in the order of time.

        Items that `run_again` are left out.
        """
        wanted: dict[int, dict[int, str]] = {}
        for name, group in self.groups.items():
            for key, end in group.done.items():
                if (name, key) not in run_again:
                    wanted.setdefault(end[0], {})[end[1]] = name
        for launch, seqs in sorted(wanted.items()):
            for batch in self._journal.batches(launch):
                for event in batch.unpack():
                    if event.seq in seqs and type(event) is WorkerSucceeded:
                        yield seqs[event.seq], event


def whole_batches(journal: RunJournal, launch: int) -> Iterator[tuple[StoredBatch, bool]]:
    """Yield the batches of a launch, and whether all before it are there.

    If not, it is unknown to which items the workers belong that are queued from then on: those before may be missing.
    """
    number, is_whole = 0, True
    for batch in journal.batches(launch):
        is_whole = is_whole and (batch.number == number + 1 if number else batch.first == 0)
        number = batch.number
        yield batch, is_whole


def _kind_of(end: WorkerEnded) -> Kind:
    if type(end) is WorkerSucceeded and end.is_repr is not True:  # a lost result has to be made anew
        return Kind.DONE
    is_early = end.state is WorkerState.TIMED_OUT and not end.attempts and end.incarnation == 1
    return Kind.UNFINISHED if end.state is WorkerState.CANCELLED or is_early else Kind.FAILED


class Comparison:
    """How the items of a list compare with the past of a run."""

    def __init__(self, past: Past, lists: list[tuple[str, Keys]]) -> None:
        self.kinds: list[list[Kind]] = []
        """The kind of each item of each list."""
        self.counts: Counter[Kind] = Counter()
        self.gone: list[tuple[str, bytes]] = []
        """Group and key of each item that was in the run and is in no list."""
        present: dict[str, set[bytes]] = {}
        for name, keys in lists:
            group = past.groups.get(name, PastGroup())
            split = split_keys(keys)
            kinds = [group.kind_of(key, content) for key, content in split]
            present.setdefault(name, set()).update(key for key, _ in split)
            self.kinds.append(kinds)
            for kind in Kind:
                self.counts[kind] += kinds.count(kind)  # a `Counter` of them would hash each
        for name, group in past.groups.items():
            here = present.get(name, set())
            others = (key for key in group.others if key not in group.done)
            self.gone += [(name, key) for key in chain(group.done, others) if key not in here]
        self.counts[Kind.GONE] = len(self.gone)


class Resumption(Struct, frozen=True, kw_only=True):
    """What a launch has to know of the run that it resumes or repeats."""

    command: tuple[str, ...]
    """The arguments of the launch, without secrets."""
    root: str
    """The ID of the first run of the chain."""
    parent: str = ""
    """The ID of the run that is repeated; empty for a resume."""
    store: RunStore | None = None
    """The journal of the run that is resumed, locked; None for a new run."""
    run_again: frozenset[tuple[str, bytes]] = frozenset()
    """Group and key of the items that are done and are run again nevertheless."""
    before: tuple[tuple[Path, int], ...] = ()
    """The journals, the oldest first, whose done items have lines in the output file before all others; and the number
    of the last launch of each."""
    done_before: int = 0

    @property
    def run_id(self) -> str:
        """The ID of the run that is resumed; empty for a new run."""
        return "" if self.store is None else self.store.path.stem

    def earlier(self) -> Earlier | None:
        """Return what earlier launches of the run have done; None if it has none.

        Raises:
            OSError: The journal cannot be read.

        """
        if self.store is None:
            return None
        return earlier(self.store.path, self.run_again, dict(self.before).get(self.store.path))

    def done_lines(self) -> Iterator[WorkerSucceeded]:
        """Yield the ends of what is done and is not run again. Each has a line in the output file.

        Raises:
            OSError: A journal cannot be read.

        """
        for path, last in self.before:
            try:
                with RunJournal(path) as journal:
                    yield from (event for _, event in Past(journal, last).successes(self.run_again))
            except (JournalError, sqlite3.Error) as error:
                raise OSError(str(error)) from error


class DoneItem(NamedTuple):
    """An item that an earlier launch has done."""

    name: str
    """That of its worker."""
    elapsed: float
    """Seconds that the worker took."""
    attempts: int


class Earlier(Struct, frozen=True, kw_only=True):
    """What the launches of a run before the last one have done."""

    done: dict[str, list[DoneItem]] = {}
    """By group: the items that the last launch did not have to run."""
    attempts: int = 0
    elapsed: float = 0.0
    """Seconds of all these launches."""


def earlier(path: Path, run_again: Collection[tuple[str, bytes]] | None, last: int | None = None) -> Earlier:
    """Return what the launches up to the number `last` have done; without it, those before the last launch.

    `run_again` are items that they have done and that were run again nevertheless. Without it, these are the items of
    the last launch.

    Raises:
        OSError: The journal cannot be read.

    """
    try:
        with RunJournal(path) as journal:
            numbers = [launch.number for launch in journal.launches()]
            if last is None:
                last = numbers[-1] - 1 if numbers else 0
            if run_again is None:
                parts = journal.items(last + 1)
                run_again = {(part.group, key) for part in parts for key, _ in split_keys(part)}
            past = Past(journal, last)
            done: dict[str, list[DoneItem]] = {}
            for group, event in past.successes(run_again):
                done.setdefault(group, []).append(DoneItem(event.worker, event.elapsed, event.attempts))
            attempts, seconds = 0, 0.0
            for launch in past.launches:
                for batch in journal.batches(launch.number):
                    attempts += sum(type(event) is AttemptStarted for event in batch.unpack())
                seconds += journal.last_moment(launch.number)
            return Earlier(done=done, attempts=attempts, elapsed=seconds)
    except (JournalError, sqlite3.Error) as error:
        raise OSError(str(error)) from error


def split_keys(keys: Keys | ItemKeys) -> list[tuple[bytes, bytes]]:
    """Return the key and the hash of the content of each item."""
    data, content = keys.keys, keys.content
    split = [data[at : at + KEY_SIZE] for at in range(0, len(data), KEY_SIZE)]
    contents = [content[at : at + CONTENT_SIZE] for at in range(0, len(content), CONTENT_SIZE)]
    return list(zip(split, contents or repeat(b""), strict=False))
