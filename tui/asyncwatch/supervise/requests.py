"""Carries out what a person asks of a run that goes on: of one worker, of all that wait, of circuits and settings."""

from __future__ import annotations

from asyncwatch.commands import (
    CancelWorker,
    ChangeSetting,
    CloseCircuit,
    Command,
    GiveUp,
    GiveUpAll,
    IsolateCircuit,
    ProbeCircuit,
    RestartWorker,
    RetryAllNow,
    RetryNow,
)
from asyncwatch.supervise.circuit import Circuit
from asyncwatch.supervise.machine import Machine
from asyncwatch.supervise.settings import change_setting

WorkerCommand = CancelWorker | RestartWorker | RetryNow | GiveUp

_OF_CIRCUITS = {IsolateCircuit: Circuit.isolate, CloseCircuit: Circuit.close, ProbeCircuit: Circuit.probe}


def carry_out(machine: Machine, command: Command) -> bool:
    """Do what `command` asks; return whether that was possible. If not, `CommandRefused` tells why."""
    worker, incarnation = "", 0
    match command:
        case CancelWorker() | RestartWorker() | RetryNow() | GiveUp():
            worker, incarnation = command.worker, command.incarnation
            reason = _ask_worker(machine, command)
        case IsolateCircuit() | CloseCircuit() | ProbeCircuit():
            reason = machine.admission.control(command.key, _OF_CIRCUITS[type(command)])
            if reason:
                reason = f"{command.key}: {reason}"
        case ChangeSetting():
            reason = change_setting(machine, command)
        case RetryAllNow():
            machine.retry_all_now()
            reason = ""
        case GiveUpAll():
            machine.give_up_all()
            reason = ""
        case _:
            reason = "this run cannot do that"
    if reason:
        machine.report.command_refused(type(command).__name__, worker, incarnation, reason)
    return not reason


def _ask_worker(machine: Machine, command: WorkerCommand) -> str:
    worker = machine.workers.get(command.worker)
    if worker is None:
        return "there is no such worker"
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
