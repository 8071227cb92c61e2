"""Requests in the order in which they came: some of them in each turn of the loop, however many there are."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from asyncwatch.commands import (
    CancelBranch,
    CancelWorker,
    ChangeSetting,
    CloseCircuit,
    Command,
    GiveUp,
    GiveUpAll,
    IsolateCircuit,
    ProbeCircuit,
    RestartBranch,
    RestartWorker,
    RetryAllNow,
    RetryNow,
)
from asyncwatch.engine.scheduler import Machine
from asyncwatch.events.tree import shown_path
from asyncwatch.policies.circuit import Circuit
from asyncwatch.policies.rate import change_rate

TURN = 0.01
"""Seconds of requests after which the workers get a turn of the loop."""
_AHEAD = (ChangeSetting, CloseCircuit, IsolateCircuit, ProbeCircuit)
"""Requests about no worker: they need not wait for those that are."""


class Agenda:
    """Carries out requests on the running loop.

    Args:
        carry_out: does what one request asks.
        hold_line: told whether nobody is to take a place for now: workers are being cancelled, and whoever takes the
            place of one may be among those whose turn comes later.

    """

    def __init__(
        self,
        carry_out: Callable[[Command], object],
        hold_line: Callable[[bool], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._carry_out = carry_out
        self._hold_line = hold_line
        self._clock = clock
        self._waiting: deque[Iterator[Command]] = deque()
        self._next: asyncio.Handle | None = None

    def add(self, commands: Sequence[Command]) -> None:
        """Carry out `commands` after those that were added before; at once, as far as time suffices."""
        if all(isinstance(command, _AHEAD) for command in commands):
            for command in commands:
                self._carry_out(command)
            return
        self._waiting.append(iter(commands))
        if self._next is None:
            self._go_on()

    def clear(self) -> None:
        """Forget all that waits."""
        self._waiting.clear()
        if self._next is not None:
            self._next.cancel()
            self._next = None
            self._hold_line(False)

    def _go_on(self) -> None:
        is_continued, self._next = self._next is not None, None
        end = self._clock() + TURN
        while self._waiting:
            for command in self._waiting[0]:
                self._carry_out(command)
                if self._clock() >= end:
                    self._hold_line(isinstance(command, CancelWorker))
                    self._next = asyncio.get_running_loop().call_soon(self._go_on)
                    return
            self._waiting.popleft()
        if is_continued:
            self._hold_line(False)


def change_setting(machine: Machine, command: ChangeSetting) -> str:
    """Change a setting of a run that has started; return why that is not possible, or an empty text.

    The event comes before all that comes of the change.
    """
    value = command.value
    if command.key and command.name != "rate":
        return "only a rate has a key"
    previous: object
    apply: Callable[[], None]
    match command.name:
        case "concurrency":
            if not machine.has_places:
                return "the workers of a tree take no places"
            if type(value) is not int or value < 1:
                return f"concurrency must be a whole number of at least 1, not {value!r}"
            previous = machine.concurrency
            apply = partial(machine.change_places, value, is_paused=machine.is_paused)
        case "paused":
            if type(value) is not bool:
                return f"paused must be true or false, not {value!r}"
            previous = machine.is_paused
            apply = partial(machine.change_places, machine.concurrency, is_paused=value)
        case "bad luck":
            if value is not None and (type(value) not in {int, float} or not 0 <= float(value) <= 1):
                return f"bad luck must be a threshold between 0 and 1, or none, not {value!r}"
            previous = machine.bad_luck_threshold
            apply = partial(setattr, machine, "bad_luck_threshold", None if value is None else float(value))
        case "rate" | "rate per key":
            admission = machine.admission
            is_default = command.name == "rate per key"
            limit = admission.rate_per_key if is_default else admission.limit(command.key)
            changed, previous = None, None if limit is None else str(limit)
            try:
                if value is not None:
                    changed, value, previous = change_rate(str(value), limit)
            except ValueError as error:
                return str(error)
            machine.is_gated = True
            change = admission.change_rate_per_key if is_default else partial(admission.change_limit, command.key)
            apply = partial(change, changed)
        case _:
            return f"there is no setting {command.name!r}"
    machine.report.setting_changed(command.name, value, previous, command.key, is_undo=command.is_undo)
    apply()
    return ""


WorkerCommand = CancelWorker | RestartWorker | RetryNow | GiveUp

_OF_CIRCUITS = {IsolateCircuit: Circuit.isolate, CloseCircuit: Circuit.close, ProbeCircuit: Circuit.probe}


def carry_out(machine: Machine, command: Command) -> bool:
    """Do what `command` asks; return whether that was possible. If not, `CommandRefused` tells why."""
    worker, incarnation = "", 0
    match command:
        case CancelWorker() | RestartWorker() | RetryNow() | GiveUp():
            worker, incarnation = command.worker, command.incarnation
            reason = _ask_worker(machine, command)
        case CancelBranch() | RestartBranch():
            ask = machine.cancel_branch if isinstance(command, CancelBranch) else machine.restart_branch
            reason = ask(command.path, command.incarnation)
            if reason:
                reason = f"{shown_path(command.path)}: {reason}"
        case IsolateCircuit() | CloseCircuit() | ProbeCircuit():
            reason = machine.admission.control(command.key, _OF_CIRCUITS[type(command)])
            if reason:
                reason = f"{command.key}: {reason}"
        case ChangeSetting():
            reason = change_setting(machine, command)
        case RetryAllNow():
            reason = machine.retry_all_now()
        case GiveUpAll():
            reason = machine.give_up_all()
        case _:
            reason = "this run cannot do that"
    if reason:
        machine.report.command_refused(type(command).__name__, worker, incarnation, reason)
    return not reason


def _ask_worker(machine: Machine, command: WorkerCommand) -> str:
    worker = machine.workers.get(command.worker)
    if worker is None:
        return machine.why_unknown(command.worker)
    if command.incarnation != worker.incarnation:
        return f"that was incarnation {command.incarnation}, it is {worker.incarnation} now"
    match command:  # by name, as the machine of a tree has its own ways
        case CancelWorker():
            return machine.cancel(worker)
        case RestartWorker():
            return machine.restart(worker)
        case RetryNow():
            return machine.retry_now(worker)
        case GiveUp():
            return machine.give_up(worker)
