"""The pages: metrics as OpenMetrics text, `/healthz` and `/readyz`. The only module that imports prometheus_client.

The text is made once a second at most, however often it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final, NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics.exposition import ALLOWUTF8, CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from asyncwatch.commands import Statistics
from asyncwatch.events import Batch, WorkerState
from asyncwatch.metrics.health import Health
from asyncwatch.metrics.tally import BOUNDS, Tally
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.statistics import RunTime

_MADE_EVERY = 1.0
_TEXT: Final = "text/plain; charset=utf-8"
_BOUNDS: Final = tuple(map(str, BOUNDS))


class Page(NamedTuple):
    """What is answered to a request."""

    status: int
    content_type: str
    body: bytes


class Exposition:
    """Follows the run whose state is `fleet`, and makes the pages about it.

    Args:
        fleet: the state that the events are applied to.
        statistics: returns the engine's figures.
        journal_lag: returns how many events are not recorded yet; None without a journal.
        clock: monotonic, in seconds.

    """

    def __init__(
        self,
        fleet: Fleet,
        statistics: Callable[[], Statistics],
        journal_lag: Callable[[], int] | None,
        clock: Callable[[], float],
    ) -> None:
        self._tally = Tally(fleet)
        self._health = Health(fleet)
        self._time = RunTime(clock)
        self._statistics = statistics
        self._clock = clock
        self._registry = CollectorRegistry()
        self._registry.register(_Families(fleet, self._tally, self._time, statistics, journal_lag))
        self._made: tuple[float, Page] | None = None
        self.pages: Mapping[str, Callable[[], Page]] = {
            "/metrics": self._metrics,
            "/healthz": lambda: _answer(self._health.why_unhealthy(statistics())),
            "/readyz": lambda: _answer(self._health.why_not_ready(statistics(), self._time.now)),
        }
        """What makes the page at a path."""

    def take(self, batch: Batch) -> None:
        """Take a batch just before it is applied to the fleet."""
        self._time.note(batch)
        self._tally.take(batch)

    def _metrics(self) -> Page:
        now = self._clock()
        if self._made is None or now - self._made[0] >= _MADE_EVERY:
            # All names are plain: checking each character of them again would double the time.
            text: bytes = generate_latest(self._registry, escaping=ALLOWUTF8)  # type: ignore[no-untyped-call]
            self._made = now, Page(200, CONTENT_TYPE_LATEST, text)
        return self._made[1]


def _answer(problem: str) -> Page:
    return Page(503 if problem else 200, _TEXT, f"{problem or 'ok'}\n".encode())


class _Families(Collector):
    """The families of metrics of a run."""

    def __init__(
        self,
        fleet: Fleet,
        tally: Tally,
        time: RunTime,
        statistics: Callable[[], Statistics],
        journal_lag: Callable[[], int] | None,
    ) -> None:
        self._fleet = fleet
        self._tally = tally
        self._time = time
        self._statistics = statistics
        self._journal_lag = journal_lag

    def describe(self) -> Iterator[Metric]:
        """Yield nothing: no other collector shares the registry."""
        yield from ()

    def collect(self) -> Iterator[Metric]:
        """Yield every family with its present samples."""
        yield self._durations()
        yield _counter("attempts", "Attempts that started.", self._fleet.attempts)
        yield from self._by_group()
        yield _counter(
            "throttled_seconds",
            "Seconds that workers have waited since the other side asked for fewer attempts, all workers together.",
            self._tally.throttled_seconds(self._time.now),
            "seconds",
        )
        yield self._workers()
        yield from self._services()
        yield from self._loop()
        if self._journal_lag is not None:
            lag = self._journal_lag()
            yield _gauge("journal_lag_events", "Events that are not in the journal yet.", lag)

    def _durations(self) -> Metric:
        text = "Attempts that ended by themselves; error_type is the class of the error, empty if there was none."
        family = HistogramMetricFamily("asyncwatch_attempt_duration", text, labels=_PAIR, unit="seconds")
        for pair, durations in self._tally.durations().items():
            buckets = [*zip(_BOUNDS, durations.counts, strict=True), ("+Inf", durations.count)]
            family.add_metric(pair, buckets, durations.total)
        return family

    def _by_group(self) -> Iterator[Metric]:
        """Yield what the tally counts by group; `_durations` has let it count all events."""
        tally = self._tally
        for name, text, counts in (
            ("retries", "Retries after an error that may go away.", tally.retries),
            ("throttled_attempts", "Attempts that were throttled, which is no failure.", tally.throttled),
            ("restarts", "New incarnations of workers.", tally.restarts),
        ):
            family = CounterMetricFamily(f"asyncwatch_{name}", text, labels=_GROUP)
            for group, number in counts.items():
                family.add_metric((group,), number)
            yield family

    def _workers(self) -> Metric:
        family = GaugeMetricFamily("asyncwatch_workers", "Workers by state.", labels=("state",))
        for state in WorkerState:
            family.add_metric((state.value.replace(" ", "_"),), self._fleet.counts[state])
        return family

    def _services(self) -> Iterator[Metric]:
        fleet, now = self._fleet, self._time.now
        if not fleet.tree.is_supervised:
            return
        services = fleet.services(now)
        yield _gauge("services_wanted", "Services that should be up.", services.wanted)
        yield _gauge("services_up", "Services that run, and neither flap nor were restarted just now.", services.up)
        text = "Services that crash again and again."
        family = GaugeMetricFamily("asyncwatch_services_flapping", text, labels=_GROUP)
        flapping = dict.fromkeys(self._tally.groups, 0)
        for row in fleet.rows_of(fleet.restarts.flaps_until):
            if fleet.is_flapping(row, now):
                group = self._tally.label(row.group)
                flapping[group] = flapping.get(group, 0) + 1
        for group, number in flapping.items():
            family.add_metric((group,), number)
        yield family

    def _loop(self) -> Iterator[Metric]:
        figures = self._statistics()
        blocked = 0.0 if figures.blocked is None else figures.blocked.duration
        text = "Delay of the event loop: the 95th percentile of ten seconds, or how long it has been blocked."
        yield _gauge("loop_delay_seconds", text, max(figures.lag_p95, blocked), "seconds")
        text = "Seconds for which the event loop was blocked."
        yield _counter("loop_blocked_seconds", text, self._fleet.loop.seconds, "seconds")


_GROUP: Final = ("group",)
_PAIR: Final = ("group", "error_type")


def _counter(name: str, text: str, value: float, unit: str = "") -> Metric:
    return CounterMetricFamily(f"asyncwatch_{name}", text, value, unit=unit)


def _gauge(name: str, text: str, value: float, unit: str = "") -> Metric:
    return GaugeMetricFamily(f"asyncwatch_{name}", text, value, unit=unit)
