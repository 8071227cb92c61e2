"""The text is OpenMetrics by the client library's own parser, agrees with the state of the run, and tells no secret."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from prometheus_client import Metric

from asyncwatch.commands import Statistics
from asyncwatch.events import (
    AttemptFailed,
    AttemptStarted,
    Event,
    LoopBlocked,
    RetryScheduled,
    WorkersQueued,
    WorkerState,
    WorkerSucceeded,
)
from asyncwatch.guide import path_of
from asyncwatch.metrics.exposition import Exposition
from asyncwatch.metrics.server import MOST_CONNECTIONS
from asyncwatch.metrics.tally import MOST_ERRORS, MOST_GROUPS, MOST_SERIES
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from tests.metrics.reading import families_of, shown_samples
from tests.model.stream import Stream, ended, failed
from tests.model.test_flapping import Services
from tests.model.test_snapshot import rich_run

PREFIX = "asyncwatch_"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Shown:
    """A run whose events are folded, and what is exposed of it."""

    def __init__(self, fleet: Fleet | None = None, lag: int | None = None) -> None:
        self.fleet = Fleet() if fleet is None else fleet
        self.clock = Clock()
        self.known = Statistics()
        journal_lag = None if lag is None else lambda: lag
        self.exposition = Exposition(self.fleet, lambda: self.known, journal_lag, self.clock)

    def take(self, events: Sequence[Event]) -> None:
        self.exposition.take(events)
        apply(self.fleet, events)

    def text(self) -> str:
        page = self.exposition.pages["/metrics"]()
        assert page.status == 200
        assert page.content_type == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        return page.body.decode()

    def families(self) -> dict[str, Metric]:
        return families_of(self.text())

    def value(self, sample: str, **labels: str) -> float:
        found = [
            each.value
            for family in self.families().values()
            for each in family.samples
            if each.name == PREFIX + sample and each.labels == labels
        ]
        assert len(found) == 1, (sample, labels)
        return found[0]


def test_every_family_of_a_run_in_which_everything_has_happened_is_valid() -> None:
    shown = Shown(lag=7)
    shown.take(rich_run().events)
    families = shown.families()
    kinds = {family.name.removeprefix(PREFIX): family.type for family in families.values()}
    assert kinds == {
        "attempt_duration_seconds": "histogram",
        "attempts": "counter",
        "retries": "counter",
        "throttled_attempts": "counter",
        "throttled_seconds": "counter",
        "restarts": "counter",
        "workers": "gauge",
        "services_wanted": "gauge",
        "services_up": "gauge",
        "services_flapping": "gauge",
        "loop_delay_seconds": "gauge",
        "loop_blocked_seconds": "counter",
        "journal_lag_events": "gauge",
    }
    assert all(family.documentation.endswith(".") for family in families.values())
    labels = {name for family in families.values() for sample in family.samples for name in sample.labels}
    assert labels == {"group", "error_type", "state", "le"}
    assert shown.value("attempts_total") == shown.fleet.attempts
    assert shown.value("journal_lag_events") == 7
    assert shown.value("loop_blocked_seconds_total") == pytest.approx(shown.fleet.loop.seconds)
    for state in WorkerState:
        assert shown.value("workers", state=state.value.replace(" ", "_")) == shown.fleet.counts[state]


def some_attempts() -> Stream:
    stream = Stream("a", "b", group="jobs")
    for attempt, seconds in enumerate((0.02, 0.3), 1):
        stream.add(AttemptStarted, "a", attempt=attempt, bad_luck=0.5)
        stream.add(AttemptFailed, "a", **failed(attempt=attempt, elapsed=seconds, error_type="ClientError"))
        stream.add(RetryScheduled, "a", attempt=attempt + 1, delay=0.1)
    stream.add(AttemptStarted, "b", attempt=1, bad_luck=0.5)
    stream.add(WorkerSucceeded, "b", **ended(1, 4.0))
    return stream


def test_histogram_has_the_attempts_by_group_and_type_of_error() -> None:
    shown = Shown()
    shown.take(some_attempts().events)
    good, bad = {"group": "jobs", "error_type": ""}, {"group": "jobs", "error_type": "ClientError"}
    name = "attempt_duration_seconds"
    assert shown.value(f"{name}_count", **good) == 1
    assert shown.value(f"{name}_sum", **good) == 4.0
    assert shown.value(f"{name}_bucket", le="2.5", **good) == 0
    assert shown.value(f"{name}_bucket", le="5.0", **good) == 1
    assert shown.value(f"{name}_count", **bad) == 2
    assert [shown.value(f"{name}_bucket", le=le, **bad) for le in ("0.01", "0.025", "0.5", "+Inf")] == [0, 1, 2, 2]
    assert shown.value("retries_total", group="jobs") == 2
    assert shown.value("attempts_total") == 3


def test_run_without_events_and_without_a_journal_is_valid() -> None:
    families = Shown().families()
    assert families[f"{PREFIX}attempts"].samples[0].value == 0
    assert f"{PREFIX}journal_lag_events" not in families
    assert f"{PREFIX}services_up" not in families


def test_services_are_counted_and_those_that_flap_by_group() -> None:
    services = Services()
    shown = Shown(services.fleet)
    stream = Stream("web", group="root")
    shown.exposition.take([stream.events[1]])
    for at in (1.0, 2.0, 3.0):
        services.crash("web", at)
    assert shown.value("services_wanted") == 2
    assert shown.value("services_up") == 1
    assert shown.value("services_flapping", group="root") == 1


def test_loop_delay_is_that_of_timers_or_of_the_block_that_goes_on() -> None:
    shown = Shown()
    shown.known = Statistics(lag_p95=0.25)
    assert shown.value("loop_delay_seconds") == 0.25
    shown.known = Statistics(lag_p95=0.25, blocked=LoopBlocked(-1, 9.0, 4.0, 5.0, "worker", "a", 1, 1))
    shown.clock.now += 1
    assert shown.value("loop_delay_seconds") == 5.0


def test_text_is_made_once_a_second() -> None:
    shown = Shown()
    stream = some_attempts()
    shown.take(stream.events[:3])
    first = shown.text()
    shown.take(stream.events[3:])
    shown.clock.now += 0.9
    assert shown.text() == first
    shown.clock.now += 0.1
    assert shown.text() != first


@pytest.mark.parametrize("name", ['a"b', "a\\b", "ä/ö", "x" * 300, "a{b}", "tab\tb", "# EOF", "new\nline"])
def test_any_name_of_a_group_or_class_is_escaped(name: str) -> None:
    shown = Shown()
    stream = Stream("first")
    stream.add(WorkersQueued, group=name, max_attempts=1, workers=("a",))
    stream.add(AttemptStarted, "a", attempt=1, bad_luck=0.5)
    stream.add(AttemptFailed, "a", **failed(error_type=name))
    shown.take(stream.events)
    assert shown.value("attempt_duration_seconds_count", group=name, error_type=name) == 1


SECRET = "https://user:hunter2@a.example/?token=s3cret"


def test_no_name_of_a_worker_no_url_and_no_message_is_shown() -> None:
    shown = Shown()
    stream = Stream(SECRET, group="http")
    stream.add(AttemptStarted, SECRET, attempt=1, bad_luck=0.5)
    stream.add(AttemptFailed, SECRET, **failed(f"cannot fetch {SECRET}"))
    shown.take(stream.events)
    shown.known = Statistics(blocked=LoopBlocked(-1, 9.0, 4.0, 500.0, "worker", SECRET, 1, 1))
    pages = [shown.exposition.pages[path]() for path in ("/metrics", "/healthz", "/readyz")]
    assert [page.status for page in pages] == [200, 503, 503]
    for page in pages:
        for part in (b"example", b"hunter2", b"s3cret", b"token", b"fetch"):
            assert part not in page.body


@pytest.mark.parametrize(("events", "healthy", "ready"), [(0, 200, 503), (2, 200, 200)])
def test_health_pages_answer_by_status_and_reason(events: int, healthy: int, ready: int) -> None:
    shown = Shown()
    shown.take(some_attempts().events[:events])
    answers: dict[str, Any] = {path: shown.exposition.pages[path]() for path in ("/healthz", "/readyz")}
    assert (answers["/healthz"].status, answers["/readyz"].status) == (healthy, ready)
    assert answers["/healthz"].body == b"ok\n"
    assert answers["/readyz"].body == (b"ok\n" if ready == 200 else b"the run has not started yet\n")


def test_page_of_the_guide_names_every_metric_and_no_other() -> None:
    text = path_of("howto-metrics").read_text(encoding="utf-8")
    table = {name for line in text.splitlines() if line.startswith("| `") for name in re.findall(r"`(\w+)`", line)}
    names = {re.sub(r"_(bucket|count|sum)$", "", name) for name in shown_samples()[0]}
    assert {name for name in table if name.startswith(PREFIX)} == names
    for number in (MOST_GROUPS, MOST_ERRORS, MOST_SERIES, MOST_CONNECTIONS):
        assert re.search(rf"\b{number}\b", text)
