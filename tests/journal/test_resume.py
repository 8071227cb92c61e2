"""Every item of a list is done, or run: however the list was edited, and whatever became of the launches before."""

from __future__ import annotations

import sqlite3
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncwatch.events import (
    Event,
    RunStarted,
    WorkerCancelled,
    WorkerExhausted,
    WorkerFailed,
    WorkersQueued,
    WorkerSucceeded,
)
from asyncwatch.journal.calls import DoneItems
from asyncwatch.journal.identity import Keys, keys_of
from asyncwatch.journal.resume import Comparison, Kind, Past, split_keys
from asyncwatch.journal.store import ItemKeys, Launch, RunInfo, RunJournal, RunStore, parts_of, store_batch
from asyncwatch.plan.items import unique_names

GROUP = "g"
ENDS = ("succeeded", "failed", "exhausted", "cancelled", "none", "lost", "restarted", "late")

Item = tuple[str, int]
"""The name, empty for none, and the content."""


def keys_of_items(items: Sequence[Item]) -> Keys:
    return keys_of([content for _, content in items], [name for name, _ in items])


def ends_of(name: str, how: str, seq: int) -> list[Event]:
    """Return the ends of a worker, of which the last one counts."""
    success = WorkerSucceeded(seq, 1.0, name, 1, 1, 0.1, result=1)
    cancelled = WorkerCancelled(seq, 1.0, name, 1, 1, 0.1)
    ends: dict[str, list[Event]] = {
        "succeeded": [success],
        "failed": [WorkerFailed(seq, 1.0, name, 1, 1, 0.1, "ValueError", "x")],
        "exhausted": [WorkerExhausted(seq, 1.0, name, 1, 1, 0.1, "ValueError", "x")],
        "cancelled": [cancelled],
        "none": [],
        "lost": [WorkerSucceeded(seq, 1.0, name, 1, 1, 0.1, result="<x>", is_repr=True)],
        "restarted": [success, WorkerFailed(seq + 1, 2.0, name, 2, 1, 0.1, "ValueError", "x")],
        "late": [WorkerSucceeded(seq, 1.0, name, 2, 1, 0.1), WorkerCancelled(seq + 1, 2.0, name, 1, 1, 0.1)],
    }
    return ends[how]


def is_success(how: str) -> bool:
    return how in {"succeeded", "late"}


def launch(store: RunStore, names: Sequence[str], keys: Keys, ends: Sequence[str]) -> None:
    """Record a launch of workers that end in these ways."""
    store.begin(
        Launch(number=0, started=1.0, pid=1, host="h", folder="/", command=[], seed=1, version="1"),
    )
    events: list[Event] = [WorkersQueued(0, 0.0, GROUP, 3, tuple(names))]
    for name, how in zip(names, ends, strict=True):
        events += ends_of(name, how, 2 * len(events))
    store.write(parts_of(0, GROUP, *keys), [store_batch(tuple(events))])


def success(seq: int, name: str, result: object) -> WorkerSucceeded:
    return WorkerSucceeded(seq, 1.0, name, 1, 1, 0.1, result=result)


def done_of(journal: RunJournal) -> DoneItems:
    """Return what is done of a run, as a call of `amap` reads it."""
    done = DoneItems()
    done.read(journal)
    return done


items = st.lists(st.tuples(st.sampled_from(["", "", "p", "q"]), st.integers(0, 3)), max_size=8)


@settings(max_examples=40)
@given(st.lists(items, min_size=2, max_size=4), st.data())
def test_item_is_done_if_it_succeeded_with_its_content_and_is_run_otherwise(
    lists: list[list[Item]], data: st.DataObject
) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        closing(RunStore.create(Path(name), RunInfo("r", "r", "", "n"))) as store,
    ):
        succeeded: dict[bytes, bytes] = {}
        known: set[bytes] = set()
        for number, current in enumerate(lists):
            keys = keys_of_items(current)
            split = split_keys(keys)
            expected = [succeeded.get(key) == content for key, content in split]
            with RunJournal(store.path) as journal:
                comparison = Comparison(Past(journal), [(GROUP, keys)])
                done = done_of(journal)
            [kinds] = comparison.kinds
            assert [done.find(*each) is not None for each in split] == expected
            assert len(done) == len(succeeded)
            done.close()
            assert [kind is Kind.DONE for kind in kinds] == expected
            assert [kind is Kind.NEW for kind in kinds] == [key not in known for key, _ in split]
            assert {key for _, key in comparison.gone} == known - {key for key, _ in split}
            assert comparison.counts.total() == len(current) + len(comparison.gone)
            left = [at for at, is_done in enumerate(expected) if not is_done]
            names = unique_names([f"{name or content}" for name, content in current])
            ends = [data.draw(st.sampled_from(ENDS), label=f"ends of launch {number}") for _ in left]
            part = Keys(b"".join(split[at][0] for at in left), b"".join(split[at][1] for at in left))
            launch(store, [names[at] for at in left], part, ends)
            known.update(key for key, _ in split)
            for at, how in zip(left, ends, strict=True):
                if is_success(how):
                    succeeded[split[at][0]] = split[at][1]
        with RunJournal(store.path) as journal:
            lines = list(Past(journal).successes(frozenset()))
        assert len(lines) == len(succeeded)


@given(items, st.randoms(use_true_random=False))
def test_list_in_another_order_has_the_same_items(current: list[Item], random: object) -> None:
    shuffled = list(current)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    unnamed = [("", content) for _, content in current]
    other = [("", content) for _, content in shuffled]
    before, after = split_keys(keys_of_items(unnamed)), split_keys(keys_of_items(other))
    assert Counter(key for key, _ in before) == Counter(key for key, _ in after)


def test_name_that_is_used_again_is_that_of_the_latest_worker(tmp_path: Path) -> None:
    with closing(RunStore.create(tmp_path, RunInfo("r", "r", "", "n"))) as store:
        launch(store, ["a"], keys_of(range(3)), ["succeeded"])
        failed = WorkerFailed(7, 1.0, "a", 1, 1, 0.1, "ValueError", "x")
        store.write(batches=[store_batch((WorkersQueued(6, 0.0, GROUP, 3, ("a", "b")), failed))])
        store.write(batches=[store_batch((WorkerSucceeded(8, 1.0, "b", 1, 1, 0.1, result="B"),))])
        with RunJournal(store.path) as journal:
            done = done_of(journal)
    found = [done.find(*pair) for pair in split_keys(keys_of(range(3)))]
    assert [None if event is None else event.result for event in found] == [1, None, "B"]
    done.close()


@pytest.mark.parametrize(
    ("lost", "found"),
    [
        ("DELETE FROM items WHERE first = 1", [0, None, 2]),
        ("DELETE FROM batch WHERE number = 1", [None, None, None]),
        ("DELETE FROM batch WHERE number = 2", [0, None, None]),
        ("DELETE FROM batch WHERE number = 3", [0, 1, None]),
    ],
)
def test_result_of_a_damaged_journal_is_that_of_its_item_or_unknown(
    tmp_path: Path, lost: str, found: list[int | None]
) -> None:
    """Each item of a call joins by itself, and has its name from those before it that are forgotten."""
    keys = split_keys(keys_of(range(3)))
    with closing(RunStore.create(tmp_path, RunInfo("r", "r", "", "n"))) as store:
        store.begin(Launch(number=0, started=1.0, pid=1, host="h", folder="/", command=[], seed=1, version="1"))
        started = RunStarted(0, 0.0, "n", 0, "amap", 7, 10, None, 100.0, rows_kept=1)
        for number, (key, _) in enumerate(keys):
            events = WorkersQueued(3 * number + 1, 0.0, "", 3, ("a",)), success(3 * number + 2, "a", number)
            batch = events if number else (started, *events)
            store.write([ItemKeys(number, "", key, b"")], [store_batch(batch)])
    with closing(sqlite3.connect(tmp_path / "r.sqlite")) as database, database:
        database.execute(lost)
    with RunJournal(tmp_path / "r.sqlite") as journal:
        done = done_of(journal)
    results = [done.find(*pair) for pair in keys]
    assert [None if event is None else event.result for event in results] == found
    done.close()


def test_results_of_a_run_are_not_held_while_it_is_compared(tmp_path: Path) -> None:
    size, names = 1 << 20, [str(number) for number in range(24)]
    with closing(RunStore.create(tmp_path, RunInfo("r", "r", "", "n"))) as store:
        launch(store, names, keys_of(names), ["none"] * len(names))
        for seq, name in enumerate(names, 100):
            store.write(batches=[store_batch((WorkerSucceeded(seq, 1.0, name, 1, 1, 0.1, result="x" * size),))])
        with RunJournal(store.path) as journal:
            tracemalloc.start()
            try:
                past = Past(journal)
                done = done_of(journal)
                assert tracemalloc.get_traced_memory()[1] < 8 * size
            finally:
                tracemalloc.stop()
    assert len(past.groups[GROUP].done) == len(done) == len(names)
    done.close()
