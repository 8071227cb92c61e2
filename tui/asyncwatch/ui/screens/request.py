"""Requests the commands of an action, after its question."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from textual.screen import Screen

from asyncwatch.model.fleet import Fleet
from asyncwatch.ui.actions import Action, updated
from asyncwatch.ui.messages import Answer, CommandsRequested


async def request(
    screen: Screen[Any],
    action: Action,
    fleet: Callable[[], Fleet],
    *,
    side: Literal["", "low", "high"] = "",
    closed: Callable[[], object] = lambda: None,
) -> None:
    """Show the notice of an action, and request its commands, after its question if it has one.

    It returns when the question is open, so that the next key is the answer.

    Args:
        screen: where the key was pressed.
        action: the result of the key.
        fleet: returns the fleet, called at the time of the answer.
        side: where the question is shown; in the middle by default.
        closed: called when the question is answered.

    """
    if action.notice:
        screen.notify(action.notice)
    if not action.question:
        if action.commands:
            screen.post_message(CommandsRequested(action.commands))
        return
    from asyncwatch.ui.screens.confirm import ConfirmScreen  # noqa: PLC0415  not needed for the first frame

    def answered(answer: Answer | None) -> None:
        closed()
        if answer is Answer.YES and (commands := updated(action.commands, fleet())):
            screen.post_message(CommandsRequested(commands))

    question = ConfirmScreen(action.question, action.verb, consequence=action.consequence, again=action.key, side=side)
    await screen.app.push_screen(question, answered)
