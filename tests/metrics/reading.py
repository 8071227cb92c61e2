"""Reads OpenMetrics text with the parser of the client library."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from asyncwatch.commands import Statistics
from asyncwatch.metrics.exposition import Exposition
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from tests.model.test_snapshot import rich_run


def families_of(text: str) -> dict[str, Metric]:
    """Return the families by name.

    Raises:
        ValueError: the text is not OpenMetrics.

    """
    return {family.name: family for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]


def shown_samples() -> tuple[set[str], set[str]]:
    """Return the names of all samples of a run in which everything has happened, and those of their labels."""
    fleet, events = Fleet(), rich_run().events
    exposition = Exposition(fleet, Statistics, lambda: 0, lambda: 0.0)
    exposition.take(events)
    apply(fleet, events)
    families = families_of(exposition.pages["/metrics"]().body.decode())
    samples = [sample for family in families.values() for sample in family.samples]
    return {sample.name for sample in samples}, {name for sample in samples for name in sample.labels}
