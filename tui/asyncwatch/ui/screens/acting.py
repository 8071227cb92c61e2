"""What a person can ask of the run from the main screen: of workers, of all that wait, of the settings."""

# ruff: noqa: PLC0415  a screen that a key opens is imported when it is opened

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal

from textual.screen import Screen

from asyncwatch import text as units
from asyncwatch.commands import CancelAll, CancelBranch, ChangeSetting, Command, GiveUpAll, RestartBranch, RetryAllNow
from asyncwatch.events import WorkerState
from asyncwatch.model.rows import Row
from asyncwatch.model.tree import Branch
from asyncwatch.model.view.selection import AT_ONCE
from asyncwatch.ui import actions as asks
from asyncwatch.ui.display import Scene
from asyncwatch.ui.messages import CommandsRequested
from asyncwatch.ui.render.tree import shown_branch
from asyncwatch.ui.widgets.fleet_table import FleetTable

MANY = 20
"""Marked workers beyond which it is asked before something is done to them."""


class ActingScreen(Screen[None]):
    """Turns keys into requests, after a question where a slip would hurt. No key changes a row by itself."""

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self._scene = scene
        self.table = FleetTable(scene)
        self._changes: deque[Callable[[], ChangeSetting | None]] = deque()
        self._unanswered: tuple[int, int] | None = None  # what had been answered when the last change was sent

    async def action_cancel(self) -> None:
        """Cancel the marked workers that have not ended, those of the selected group, or the selected worker."""
        if self._is_choice_hidden():
            return
        if (branch := self._chosen_supervisor) is None:
            rows = self._chosen()
            if len(rows) > AT_ONCE:
                await self._act_on_many(rows, asks.CANCEL)
                return
            active = [row for row in rows if not row.is_settled]
            await self._act([*asks.cancel(active or rows)], "cancel", "c")
        elif branch.ending:
            self.notify(f"{shown_branch(branch)} has ended.")
        else:
            active_workers = units.count(asks.CANCEL.number(branch.counts), "active worker")
            question = f"Stop {shown_branch(branch)} and its {active_workers}?"
            await self._ask(question, [CancelBranch(branch.path, branch.incarnation)], "stop", "c")

    async def action_restart(self) -> None:
        """Restart the marked workers, the selected group as a whole, or the selected worker."""
        if self._is_choice_hidden():
            return
        tree = self._scene.fleet.tree
        if (branch := self._chosen_supervisor) is not None:
            await self._restart_branch(branch)
            return
        chosen_rows = self._chosen()
        if len(chosen_rows) > AT_ONCE and not tree.is_supervised:
            await self._act_on_many(chosen_rows, asks.RESTART)
            return
        rows, refused = asks.restartable(chosen_rows, tree)
        if refused:
            self.notify(refused)
        if not rows or not tree.is_supervised:
            await self._act([*asks.restart(rows)], "restart", "r")
            return
        chosen = set(rows)
        rows = tree.to_request(rows)
        told = self._tell_siblings(rows, chosen)
        if not told:
            await self._act([*asks.restart(rows)], "restart", "r", workers=len(chosen))
            return
        what = asks.named(rows) if len(chosen) == 1 else units.count(len(chosen), "worker")
        await self._ask(f"Restart {what}?", [*asks.restart(rows)], "restart", "r", consequence=told)

    async def _restart_branch(self, branch: Branch) -> None:
        """Restart a supervisor with all that is below it, and what it takes along, if the answer is yes."""
        tree = self._scene.fleet.tree
        if reason := tree.why_branch_not_restarted(branch):
            self.notify(f"{shown_branch(branch)} cannot be restarted: {reason}.")
            return
        rows, taken = tree.rows_below(branch), tree.restarted_with_branch(branch)
        self.table.highlight([*rows, *taken])
        told = asks.siblings_told(taken, [branch.parent.strategy]) if taken and branch.parent is not None else ""
        question = f"Restart {shown_branch(branch)} and its {units.count(len(rows), 'worker')}?"
        command = RestartBranch(branch.path, branch.incarnation)
        await self._ask(question, [command], "restart", "r", consequence=told)

    def _tell_siblings(self, rows: Sequence[Row], chosen: set[Row]) -> str:
        """Let the workers stand out that a restart takes along beside the chosen ones; return which, or nothing."""
        tree = self._scene.fleet.tree
        taken = [row for row in tree.restarted_with(rows) if row not in chosen]
        if not taken:
            return ""
        self.table.highlight(taken)
        branches = filter(None, map(tree.branch_of, rows))
        return asks.siblings_told(taken, (branch.strategy for branch in branches if branch.strategy != "one_for_one"))

    async def action_retry_now(self) -> None:
        """Let the chosen workers that wait go on now."""
        await self._act_on_waiting(asks.RETRY_NOW)

    async def action_give_up(self) -> None:
        """Let the chosen workers that wait make no further attempt."""
        await self._act_on_waiting(asks.GIVE_UP, asks.given_up)

    async def action_retry_all_now(self) -> None:
        """Let all workers that wait go on now, if the answer is yes."""
        commands = [RetryAllNow(), *asks.retry_now(self._restarting())]
        await self._ask_all("Try all {} that wait now?", commands, "try now", "N")

    async def action_give_up_all(self) -> None:
        """Let all workers that wait make no further attempt, if the answer is yes."""
        commands = [GiveUpAll(), *asks.give_up(self._restarting())]
        await self._ask_all("Give up all {} that wait?", commands, "give up", "X")

    def _restarting(self) -> list[Row]:
        """Return the services whose next incarnation is to come."""
        fleet, state = self._scene.fleet, WorkerState.RESTARTING
        return [row for row in fleet.rows if row.state is state] if fleet.counts[state] else []

    async def action_cancel_all(self) -> None:
        """Cancel all workers that have not ended, if the answer is yes."""
        active = self._scene.active
        if not active:
            self.notify("No worker is active.")
            return
        await self._ask(f"Cancel {units.count(active, 'worker')}?", [CancelAll()], "cancel all", "C")

    async def action_restart_all(self) -> None:
        """Restart all that have ended without success, if the answer is yes."""
        fleet, tree = self._scene.fleet, self._scene.fleet.tree
        if len(fleet.rows) > AT_ONCE and not tree.is_supervised:
            if number := asks.RENEW.number(fleet.counts):
                await self._put_many(
                    f"Restart {units.count(number, 'worker')} that did not succeed?", asks.RENEW, fleet.rows
                )
            else:
                self.notify(asks.RENEW.nobody)
            return
        rows, refused = asks.restartable(self._scene.unsuccessful(), tree)
        if not rows:
            self.notify(refused or asks.RENEW.nobody)
            return
        question = f"Restart {units.count(len(rows), 'worker')} that did not succeed?"
        asked = tree.to_request(rows)
        told = " ".join(filter(None, [self._tell_siblings(asked, set(rows)), refused]))
        await self._ask(question, [*asks.restart(asked)], "restart", "R", consequence=told)

    def action_pause(self) -> None:
        """Start no new attempts, or start them again."""
        self._change(lambda: ChangeSetting("paused", not self._scene.fleet.settings.is_paused))

    def action_concurrency(self, direction: int) -> None:
        """Let more (1) or fewer (-1) attempts run at a time."""
        if self._scene.concurrency is None:
            self.notify("All workers of a tree run at a time: there is nothing to change.")
        else:
            self._change(lambda: self._step(direction))

    def _step(self, direction: int) -> ChangeSetting | None:
        present = self._scene.concurrency or 1
        wanted = asks.step(present, direction)
        return None if wanted == present else ChangeSetting("concurrency", wanted)

    async def action_options(self) -> None:
        """Let the settings be typed."""
        if self._scene.fleet.run is None:
            self.notify("The run has not started yet: its settings are not known.")
            return
        from asyncwatch.ui.screens.options import OptionsScreen

        await self.app.push_screen(OptionsScreen(self._scene), lambda commands: self._request(commands or ()))

    def action_undo(self) -> None:
        """Undo the last change of a setting."""
        self._change(self._undo)

    def _undo(self) -> ChangeSetting | None:
        settings = self._scene.fleet.settings
        if (last := settings.last) is None:
            self.notify("No setting was changed: there is nothing to undo.")
            return None
        self.notify(asks.undone(last, settings))
        return ChangeSetting(last.name, last.previous, last.key, is_undo=True)

    def _change(self, make: Callable[[], ChangeSetting | None]) -> None:
        """Send the change that `make` gives, when all changes before it are answered: each builds on the last."""
        self._changes.append(make)
        self.send_changes()

    def send_changes(self) -> None:
        """Send the next change that was asked for, if the one before is answered."""
        answered = self._scene.fleet.settings.applied, self._scene.fleet.refused
        while self._changes and answered != self._unanswered:
            command = self._changes.popleft()()
            if command is not None:
                self._unanswered = answered
                self._request([command])

    def _is_choice_hidden(self) -> bool:
        """Return whether a key is meant for the selected line and that is not on screen, which is then said."""
        return not self._scene.view.marks and not self.table.shows_cursor()

    @property
    def _chosen_supervisor(self) -> Branch | None:
        """The supervisor under the cursor, if it is what a key is meant for."""
        branch = None if self._scene.view.marks else self.table.selected_branch
        return branch if branch is not None and branch.is_supervisor else None

    def _chosen(self) -> list[Row]:
        """Return the marked rows in queue order, those of the selected branch, or the selected one."""
        if marked := self._scene.view.marks.rows():
            return marked
        if (branch := self.table.selected_branch) is not None:
            return self._scene.fleet.tree.rows_below(branch)
        return [self.table.selected] if self.table.selected is not None else []

    async def _act(self, commands: Sequence[Command], verb: str, key: str, *, workers: int = 0) -> None:
        """Send the requests; ask first if they are for a group, or so many that a slip would hurt."""
        branch = None if self._scene.view.marks else self.table.selected_branch
        workers = workers or len(commands)
        if branch is not None and workers:
            whose = f"of {shown_branch(branch)}"
            await self._ask(f"{verb.capitalize()} {units.count(workers, 'worker')} {whose}?", commands, verb, key)
        elif workers > MANY:
            await self._ask(f"{verb.capitalize()} {workers:,} marked workers?", commands, verb, key)
        else:
            self._request(commands)

    async def _act_on_many(self, rows: Sequence[Row], deed: asks.Deed) -> None:
        """Send the requests, which are made only then, if the answer is yes."""
        scene, branch = self._scene, None if self._scene.view.marks else self.table.selected_branch
        whose = f" of {shown_branch(branch)}" if branch is not None else ""
        noun = "worker" if whose else "marked worker"
        counts = branch.counts if branch is not None else scene.fleet.counts
        if branch is None and len(rows) < len(scene.fleet.rows):
            who = f"those of {units.count(len(rows), noun)} that {deed.which}"
        elif number := deed.number(counts):
            who = f"{units.count(number, noun)}{whose}"
        else:
            self.notify(deed.nobody)
            return
        await self._put_many(f"{deed.verb.capitalize()} {who}?", deed, rows)

    async def _put_many(self, question: str, deed: asks.Deed, rows: Sequence[Row]) -> None:
        def answer(is_yes: bool | None) -> None:
            if is_yes:
                self.post_message(CommandsRequested(many=deed.on(rows)))

        await self._put(question, deed.verb, deed.key, answer)

    async def _act_on_waiting(self, deed: asks.Deed, tell: Callable[[Sequence[Row]], str] = lambda _rows: "") -> None:
        if self._is_choice_hidden():
            return
        chosen = self._chosen()
        if len(chosen) > AT_ONCE:
            await self._act_on_many(chosen, deed)
        elif rows := [row for row in chosen if deed.is_for(row)]:
            await self._act([*deed.ask(rows)], deed.verb, deed.key)
            # A question that was just put says enough.
            if self.is_current and (told := tell(rows)):
                self.notify(told)
        else:
            self.notify(asks.NOBODY_WAITS)

    async def _ask_all(self, question: str, commands: Sequence[Command], yes: str, key: str) -> None:
        if number := asks.RETRY_NOW.number(self._scene.fleet.counts):
            await self._ask(question.format(units.count(number, "worker")), commands, yes, key)
        else:
            self.notify("No worker waits.")

    async def _ask(
        self, question: str, commands: Sequence[Command], yes: str, key: str, *, consequence: str = ""
    ) -> None:
        """Send the requests if the answer is yes."""

        def answer(is_yes: bool | None) -> None:
            self.table.highlight(())
            if is_yes:
                fleet = self._scene.fleet
                self._request(asks.renewed(commands, fleet.get, fleet.tree.branches.get))

        await self._put(question, yes, key, answer, consequence)

    async def _put(
        self, question: str, yes: str, key: str, answer: Callable[[bool | None], None], consequence: str = ""
    ) -> None:
        side: Literal["", "low", "high"] = ""
        if consequence:
            side = "high" if self.table.is_cursor_low else "low"
        from asyncwatch.ui.screens.confirm import ConfirmScreen

        screen = ConfirmScreen(question, yes, consequence=consequence, again=key, side=side)
        await self.app.push_screen(screen, answer)

    def _request(self, commands: Sequence[Command]) -> None:
        if commands:
            self.post_message(CommandsRequested(*commands))
