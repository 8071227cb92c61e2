"""The answer of a command to a person or a script: lines of text, or one JSON object with a version."""

from __future__ import annotations

import contextlib
import enum
import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import click

from asyncwatch.cli import ALL_SUCCEEDED, BAD_INPUT, NOT_ALL_SUCCEEDED
from asyncwatch.text import mask_secrets, printable

VERSION = 1
"""The version of the JSON. Fields may be added without a new one."""
TIMED_OUT = 124
"""The exit status after a time-out, as that of `timeout`."""

_PIECE = 1 << 16
"""Characters written at once. An unbuffered stream of Python drops the rest of a piece whose reader leaves."""


class ErrorKind(enum.StrEnum):
    """Why a command could not do all that it was to do."""

    USAGE = "usage"
    """The arguments are wrong. Nothing was done."""
    NO_RUN = "no_run"
    """There is no such run."""
    AMBIGUOUS_RUN = "ambiguous_run"
    """More than one run could be meant."""
    ENDED = "ended"
    """The run has ended, so that nothing can be changed."""
    NO_MATCH = "no_match"
    """A selector matches no worker, or the action applies to none. Nothing was done."""
    AMBIGUOUS_WORKER = "ambiguous_worker"
    """More than one worker matches, where one is needed."""
    REFUSED = "refused"
    """The run did not carry out all requests. The answer says which, and why."""
    TIMEOUT = "timeout"
    """The run did not answer in time, or did not end in time. It may still do what was requested."""
    UNREACHABLE = "unreachable"
    """The process of the run does not take connections, or ended the connection."""
    DIED = "died"
    """The process of the run has ended, and left no exit status."""
    PROTOCOL = "protocol"
    """The run is of another version of asyncwatch, whose messages are not understood."""
    FULL = "full"
    """The run has too many clients."""
    STRANGER = "stranger"
    """The run belongs to another user."""
    DAMAGED = "damaged"
    """The journal of the run cannot be read: it is damaged, or of a newer version of asyncwatch."""
    FILE = "file"
    """A file cannot be written."""
    UNSUPPORTED = "unsupported"
    """This system has no Unix sockets."""

    @property
    def status(self) -> int:
        """The exit status of a command that ends with it."""
        return {ErrorKind.USAGE: BAD_INPUT, ErrorKind.TIMEOUT: TIMED_OUT}.get(self, NOT_ALL_SUCCEEDED)


def refusal_kind(kind: str) -> ErrorKind:
    """Return the kind of error for that of a `protocol.Refused`."""
    known = kind in {ErrorKind.PROTOCOL, ErrorKind.FULL, ErrorKind.STRANGER}
    return ErrorKind(kind) if known else ErrorKind.PROTOCOL


class Failure(Exception):  # noqa: N818  an outcome that is answered, not a fault
    """The command could not do all that it was to do. The message is for a person."""

    def __init__(self, kind: ErrorKind, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class Answer(NamedTuple):
    """What a command has to say. All text in it is as the run gave it; lines are escaped when they are printed."""

    fields: dict[str, Any]
    """The fields of the JSON object beside `version` and `error`."""
    lines: Sequence[str] = ()
    failure: Failure | None = None
    status: int | None = None
    """The exit status, if it does not follow from `failure`."""
    notes: Sequence[str] = ()
    """For a person, on standard error."""


def print_answer(answer: Answer, *, is_json: bool) -> int:
    """Print the answer, and return the exit status of the command."""
    failure = answer.failure
    status = answer.status
    if status is None:
        status = ALL_SUCCEEDED if failure is None else failure.kind.status
    if is_json:
        document = {"version": VERSION, **answer.fields}
        if failure is not None:
            document["error"] = {"kind": failure.kind, "message": mask_secrets(str(failure))}
        # In ASCII, nothing in it can act on a terminal.
        lines = [json.dumps(document)]
    else:
        lines = [printable(line) for line in answer.lines]
        problems = [*answer.notes, *([] if failure is None else [str(failure)])]
        for problem in problems:
            with contextlib.suppress(OSError):  # the exit status says it too
                click.echo(f"asyncwatch: {printable(mask_secrets(problem))}", err=True)
    text = "".join(f"{line}\n" for line in lines)
    for start in range(0, len(text), _PIECE):
        click.echo(text[start : start + _PIECE], nl=False)
    return status
