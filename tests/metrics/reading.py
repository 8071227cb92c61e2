"""Reads OpenMetrics text with the parser of the client library."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families


def families_of(text: str) -> dict[str, Metric]:
    """Return the families by name.

    Raises:
        ValueError: the text is not OpenMetrics.

    """
    return {family.name: family for family in text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
