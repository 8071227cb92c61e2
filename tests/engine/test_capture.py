"""Log records that become events."""

from __future__ import annotations

import logging

import pytest

from asyncwatch.engine.capture import capturing_logs


@pytest.mark.parametrize(("text", "message"), [("%s: retry", "retry"), ("%s failed", "failed"), ("a %s", "a low/b")])
def test_log_record_does_not_repeat_the_name_of_its_worker(text: str, message: str) -> None:
    """The name is a field of the event, and every view shows it before the message."""
    records: list[tuple[object, ...]] = []
    with capturing_logs(lambda *record: records.append(record), logging.INFO):
        logging.getLogger("some").warning(text, "low/b", extra={"asyncwatch_worker": "low/b"})
    assert records == [("low/b", "WARNING", "some", message)]
