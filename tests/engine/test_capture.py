"""What becomes of log records on their way to an event."""

from __future__ import annotations

import logging

import pytest

from asyncwatch.engine.capture import capturing_logs


@pytest.mark.parametrize(("text", "told"), [("%s: retry", "retry"), ("%s failed", "failed"), ("a %s", "a low/b")])
def test_name_of_a_worker_is_not_repeated(text: str, told: str) -> None:
    """It is the event's own field, which stands before the message wherever that is shown."""
    records: list[tuple[object, ...]] = []
    with capturing_logs(lambda *record: records.append(record), logging.INFO):
        logging.getLogger("some").warning(text, "low/b", extra={"asyncwatch_worker": "low/b"})
    assert records == [("low/b", "WARNING", "some", told)]
