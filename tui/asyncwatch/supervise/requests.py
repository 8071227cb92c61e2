"""Carries out what a person asks of a run that goes on: of one worker, of all that wait, of circuits and settings."""

from __future__ import annotations

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
from asyncwatch.supervise.circuit import Circuit
from asyncwatch.supervise.machine import Machine
from asyncwatch.supervise.settings import change_setting
from asyncwatch.supervise.tree.paths import shown_path

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
