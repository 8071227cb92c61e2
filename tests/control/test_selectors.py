"""Selectors: names, patterns and filters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from asyncwatch.control.selectors import NoMatchError, SelectorError, select_workers
from asyncwatch.events import AttemptFailed, AttemptStarted, WorkerFailed
from asyncwatch.model.fleet import Fleet
from tests.model.stream import Stream, failed

NAMES = ("fetch-1", "fetch-2", "store", "a[1]", "fetch-*", "https://a.example/?q=1", "state:failed")


@pytest.fixture
def fleet() -> Fleet:
    """Seven workers with odd names, of which two have failed."""
    stream = Stream(*NAMES)
    for name in ("fetch-2", "store"):
        stream.add(AttemptStarted, name, attempt=1, bad_luck=0.5)
        stream.add(AttemptFailed, name, **failed("boom"))
        stream.add(WorkerFailed, name, attempts=1, elapsed=0.1, error_type="ValueError", error="boom")
    return stream.fold()


def names(fleet: Fleet, *selectors: str) -> Sequence[str]:
    return [row.name for row in select_workers(fleet, selectors)]


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("store", ["store"]),
        ("a[1]", ["a[1]"]),  # a name comes before a pattern
        ("fetch-*", ["fetch-*"]),
        ("state:failed", ["state:failed"]),  # and before a filter
        ("https://a.example/?q=1", ["https://a.example/?q=1"]),
        ("fetch-?", ["fetch-1", "fetch-2", "fetch-*"]),
        ("[fs]*", ["fetch-1", "fetch-2", "store", "fetch-*", "state:failed"]),
        ("https://*", ["https://a.example/?q=1"]),
        ("state:fail", ["fetch-2", "store"]),
        ("STATE:failed fetch", ["fetch-2"]),
        ("error:boom", ["fetch-2", "store"]),
        ("retries=0 luck>0.4", ["fetch-2", "store"]),
    ],
)
def test_selector_matches(fleet: Fleet, selector: str, found: list[str]) -> None:
    assert names(fleet, selector) == found


def test_worker_alone_in_its_group_is_found_as_it_is_shown() -> None:
    fleet = Stream("web/web", "feeds/db/db", "db").fold()
    assert names(fleet, "web", "feeds/db") == ["web/web", "feeds/db/db"]
    assert names(fleet, "db") == ["db"]


def test_selectors_are_a_union_in_queue_order(fleet: Fleet) -> None:
    assert names(fleet, "store", "error:boom", "fetch-1") == ["fetch-1", "fetch-2", "store"]


@pytest.mark.parametrize(
    "selector", ["", " ", "fetch", "FETCH-1", "fetch-9", "x*", "state:queued luck>0.4", "boom", "a:b"]
)
def test_selector_without_a_match_is_an_error(fleet: Fleet, selector: str) -> None:
    with pytest.raises(NoMatchError, match="no worker matches"):
        names(fleet, "store", selector)


@pytest.mark.parametrize("selector", ["state:odd", "retries>many", "state:", "state:failed colour:red"])
def test_filter_that_is_not_understood_is_an_error(fleet: Fleet, selector: str) -> None:
    with pytest.raises(SelectorError):
        names(fleet, selector)
