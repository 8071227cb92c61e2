"""`asyncwatch ctl show` of services: which flap, and why they crashed."""

from __future__ import annotations

from typing import Any

import pytest

from asyncwatch.cli import remote
from asyncwatch.commands import Statistics
from asyncwatch.control.discovery import RunRecord
from asyncwatch.model.fleet import Fleet
from tests.cli.test_ps import RECORD
from tests.ui.fakes import FakeController, dashboard_of
from tests.ui.trees import loop_run


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Ten seconds of a service that crashes every two seconds, beside one that is up."""
    monkeypatch.setattr(remote, "_now", lambda _fleet: 10.0)
    controller = FakeController()
    loop_run(controller)
    return dashboard_of(controller).fleet


def shown(record: RunRecord, fleet: Fleet, worker: str) -> tuple[dict[str, Any], str]:
    answer = remote._show_worker(record, fleet, fleet.by_name[worker], None)
    return answer.fields["worker"], "\n".join(answer.lines)


def test_show_of_a_run_names_its_flapping_services(fleet: Fleet) -> None:
    answer = remote._show_run(RECORD, fleet, Statistics())
    assert answer.fields["flapping"] == ["mail"]
    assert "flapping: mail" in answer.lines


def test_show_of_a_service_has_its_crashes(fleet: Fleet) -> None:
    worker, text = shown(RECORD, fleet, "mail")
    assert worker["is_flapping"] is True
    assert [(crash["at"], crash["incarnation"]) for crash in worker["crashes"]] == [
        (2.0, 1), (4.0, 2), (6.0, 3), (8.0, 4)
    ]  # fmt: skip
    assert "health          flapping" in text
    assert "last crash      OSError: the queue is gone (2.00 s ago)" in text
    worker, text = shown(RECORD, fleet, "web")
    assert (worker["is_flapping"], worker["crashes"]) == (False, [])
    assert "health" not in text
