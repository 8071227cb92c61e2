"""Settings that a person changes while the run goes on. Each change is an event that says how to undo it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from asyncwatch.commands import ChangeSetting
from asyncwatch.supervise.machine import Machine
from asyncwatch.supervise.rate import change_rate


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
