"""What a key comes to: commands, a question, a notice."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from asyncwatch.commands import CancelAll, CancelWorker, ChangeSetting, Command, GiveUp, RestartWorker, RetryNow
from asyncwatch.model.fleet import Fleet
from asyncwatch.model.reducer import apply
from asyncwatch.model.view.filter import parse_query
from asyncwatch.model.view.operations import NONE_WAITS
from asyncwatch.model.view.selection import View
from asyncwatch.ui import actions
from asyncwatch.ui.actions import Action, Selection
from tests.ui.fakes import FakeController, dashboard_of, small_run
from tests.ui.trees import hold, tree_run


@pytest.fixture(name="fleet")
def _fleet() -> Fleet:
    controller = FakeController()
    small_run(controller)
    return dashboard_of(controller).fleet


def on(fleet: Fleet, name: str) -> Selection:
    """Return the selection of one worker."""
    row = fleet.get(name)
    assert row is not None
    return Selection(fleet, row)


def test_cancel_one_worker_is_sent_at_once(fleet: Fleet) -> None:
    assert actions.cancel(on(fleet, "6")) == Action([CancelWorker("6", 1)])


def test_cancel_nothing_selected_does_nothing(fleet: Fleet) -> None:
    assert actions.cancel(Selection(fleet, None)) == Action([])


def test_cancel_all_asks_with_the_number(fleet: Fleet) -> None:
    action = actions.cancel_all(View(fleet))
    assert (action.question, action.commands, action.key) == ("Cancel 4 workers?", [CancelAll()], "C")


def test_cancel_all_without_active_workers_is_a_notice() -> None:
    assert actions.cancel_all(View(Fleet())) == Action(notice="No worker is active.")


def test_retry_now_worker_that_does_not_wait_is_a_notice(fleet: Fleet) -> None:
    assert actions.retry_now(on(fleet, "6")) == Action(notice=NONE_WAITS)


def test_give_up_says_how_to_restart(fleet: Fleet) -> None:
    action = actions.give_up(on(fleet, "2"))
    assert action.commands == [GiveUp("2", 1)]
    assert action.notice == "No further attempt of 2. Press r to restart it."


def test_give_up_leaves_out_pollers_whose_next_poll_is_held_back() -> None:
    controller = FakeController()
    tree_run(controller)
    hold(controller, "prices", 10.0, reason="paused", key="")
    fleet = dashboard_of(controller).fleet
    assert actions.give_up(on(fleet, "prices")) == Action(notice=NONE_WAITS)
    assert actions.retry_now(on(fleet, "prices")) == Action([RetryNow("prices", 1)])
    assert actions.give_up_all(View(fleet)).question == "Give up 3 waiting workers?"
    assert actions.retry_all_now(View(fleet)).question == "Retry 4 waiting workers now?"


def test_restart_all_asks_for_workers_without_success(fleet: Fleet) -> None:
    action = actions.restart_all(View(fleet))
    assert action.question == "Restart 2 workers that did not succeed?"
    assert action.commands == [RestartWorker("3", 1), RestartWorker("4", 1)]


def filtered(fleet: Fleet, text: str) -> View:
    """Return a view of the workers that a filter matches."""
    view = View(fleet)
    view.query = parse_query(text)
    return view


def test_cancel_all_with_a_filter_asks_for_the_active_workers_that_match(fleet: Fleet) -> None:
    action = actions.cancel_all(filtered(fleet, "state:running"))
    assert (action.question, action.consequence) == ("Cancel 1 matching worker?", "The filter matches 1 of 8 workers.")
    assert (action.commands, action.verb, action.key) == ([CancelWorker("6", 1)], "cancel", "C")


def test_restart_all_with_a_filter_leaves_out_workers_that_do_not_match(fleet: Fleet) -> None:
    action = actions.restart_all(filtered(fleet, "state:failed"))
    assert action.question == "Restart 1 matching worker that did not succeed?"
    assert action.consequence == "The filter matches 1 of 8 workers."
    assert (action.commands, action.key) == ([RestartWorker("3", 1)], "R")


def test_waiting_actions_with_a_filter_are_for_the_waiting_workers_that_match(fleet: Fleet) -> None:
    view = View(fleet)
    view.trouble_only = True
    retry, give_up = actions.retry_all_now(view), actions.give_up_all(view)
    assert (retry.question, retry.commands, retry.key) == ("Retry 1 matching worker now?", [RetryNow("2", 1)], "N")
    assert (give_up.question, give_up.commands, give_up.key) == ("Give up 1 matching worker?", [GiveUp("2", 1)], "X")
    assert retry.consequence == give_up.consequence == "The filter matches 2 of 8 workers."


@pytest.mark.parametrize(
    ("act", "which"),
    [
        (actions.cancel_all, "are active"),
        (actions.restart_all, "did not succeed"),
        (actions.retry_all_now, "are waiting"),
        (actions.give_up_all, "are waiting"),
    ],
)
def test_actions_on_all_with_a_filter_that_matches_none_of_them_are_notices(
    fleet: Fleet, act: Callable[[View], Action], which: str
) -> None:
    notice = Action(notice=f"The filter matches no workers that {which}.")
    assert act(filtered(fleet, "state:succeeded")) == notice
    assert act(filtered(fleet, "nothing has this text")) == notice


@pytest.mark.parametrize("act", [actions.cancel_all, actions.restart_all, actions.retry_all_now, actions.give_up_all])
def test_actions_on_all_with_a_filter_that_is_not_understood_are_refused(
    fleet: Fleet, act: Callable[[View], Action]
) -> None:
    """Such a term is ignored, so the filter shows more than is meant: here, all."""
    for text in ("state:flying", "state:flying a"):
        action = act(filtered(fleet, text))
        assert not action.commands
        assert action.notice.startswith("The filter is not understood: ")


def test_restart_all_with_a_filter_in_a_tree_names_siblings() -> None:
    controller = FakeController()
    tree_run(controller)
    controller.break_down("stream/api", 10.0)
    controller.break_down("urls/a", 10.0)
    action = actions.restart_all(filtered(dashboard_of(controller).fleet, "stream"))
    assert action.question == "Restart 1 matching worker that did not succeed?"
    assert action.commands == [RestartWorker("stream/api", 1)]
    assert "The filter matches 4 of 10 workers." in action.consequence
    assert "Also restarts 2 siblings (one_for_all)" in action.consequence


def test_undo_without_a_change_is_a_notice(fleet: Fleet) -> None:
    assert actions.undo(fleet.settings) == Action(notice="Nothing to undo: no setting has been changed.")


def test_change_concurrency_goes_a_tenth_up(fleet: Fleet) -> None:
    assert actions.change_concurrency(fleet, 1) == Action([ChangeSetting("concurrency", 110)])


@pytest.mark.parametrize("number", [1, 2, 9, 10, 11, 99, 100, 1234, 10_000])
def test_next_concurrency_step_down_takes_back_a_step_up(number: int) -> None:
    assert actions.next_concurrency(number, 1) > number
    assert actions.next_concurrency(actions.next_concurrency(number, 1), -1) == number
    assert actions.next_concurrency(1, -1) == 1


@pytest.fixture(name="restarted")
def _restarted() -> Fleet:
    """Return a fleet of workers in their third incarnation."""
    controller = FakeController()
    controller.start("runs", "waits", "failed")
    for name in ("runs", "waits", "failed"):
        controller.restart(name, 0.2, incarnation=3)
        controller.attempt(name, 0.3, incarnation=3)
    fleet = dashboard_of(controller).fleet
    controller.early.clear()
    controller.back_off("waits", 0.4, incarnation=3)
    controller.break_down("failed", 0.4, incarnation=3)
    for batch in controller.early:
        apply(fleet, batch)
    return fleet


def test_updated_commands_are_for_the_present_incarnation(restarted: Fleet) -> None:
    asked: list[Command] = [
        CancelWorker("runs", 1),
        RestartWorker("failed", 1),
        RetryNow("waits", 2),
        GiveUp("waits", 2),
        CancelAll(),
    ]
    assert actions.updated(asked, restarted) == [
        CancelWorker("runs", 3),
        RestartWorker("failed", 3),
        RetryNow("waits", 3),
        GiveUp("waits", 3),
        CancelAll(),
    ]


def test_updated_pointless_commands_are_left_out(restarted: Fleet) -> None:
    asked: list[Command] = [
        CancelWorker("failed", 3),
        RetryNow("runs", 3),
        GiveUp("failed", 3),
        RestartWorker("gone", 1),
    ]
    assert actions.updated(asked, restarted) == []


def test_updated_iterator_is_left_as_it_is(restarted: Fleet) -> None:
    commands = iter([CancelWorker("runs", 3)])
    assert actions.updated(commands, restarted) is commands
