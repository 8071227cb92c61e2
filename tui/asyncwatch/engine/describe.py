"""Errors and results as plain data that is safe to show, to write and to pass between threads.

User code runs here (`__str__`, `__repr__`), so every error in it is caught. Credentials in URLs are masked.
"""

from __future__ import annotations

import linecache
import math
from collections.abc import Iterator, Sequence
from types import CodeType, TracebackType
from typing import Any

import msgspec

from asyncwatch.engine.event_loop import pass_on_interrupt
from asyncwatch.engine.stacks import TracebackTexts, entries_of
from asyncwatch.text import error_line, mask_secrets

MAX_ERROR_LENGTH = 2_000
_MAX_CHAIN = 8

_stacks = TracebackTexts()


def clean_text(text: str) -> str:
    """Return `text` without credentials, and with what UTF-8 cannot hold escaped."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return mask_secrets(text)


def safe_repr(value: object) -> str:
    """Return `repr(value)`, or a substitute if that raises anything at all."""
    try:
        return clean_text(str.__getitem__(repr(value), slice(None)))
    except BaseException as error:  # repr is user code; even its sys.exit() must not end the engine
        pass_on_interrupt(error)
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def describe_error(error: BaseException) -> tuple[str, str]:
    """Return the name of the class of `error` and its message, at most MAX_ERROR_LENGTH characters."""
    try:
        # Exactly a str: a subclass could raise from any of the methods that follow.
        message = str.__getitem__(str(error), slice(None))
    except BaseException as raised:  # as in safe_repr
        pass_on_interrupt(raised)
        message = f"<str raised {type(raised).__name__}>"
    if len(message) > MAX_ERROR_LENGTH:
        message = message[: MAX_ERROR_LENGTH - 1] + "…"
    return type(error).__qualname__, clean_text(message)


def jsonable(result: object) -> Any:
    """Return `result` as JSON can hold it: itself, a plain copy, or its repr.

    The copy shares nothing with `result`, so another thread can read it while the worker's owner changes that.
    """
    kind = type(result)
    if result is None or kind is bool:
        return result
    if kind is float:
        return result if math.isfinite(result) else repr(result)  # type: ignore[arg-type]  # kind narrows it
    if kind is int and -(2**63) <= result < 2**64:  # type: ignore[operator]  # kind narrows it
        return result
    if kind is str:
        return clean_text(result)  # type: ignore[arg-type]  # kind narrows it
    try:
        encoded = msgspec.json.encode(result, enc_hook=safe_repr)
        if b"@" in encoded:
            encoded = mask_secrets(encoded.decode("utf-8")).encode("utf-8")
        return msgspec.json.decode(encoded)
    except Exception:  # circular, too deep, keys that are no text, lone surrogates: all the same to the reader
        return safe_repr(result)


def describe_stack(error: BaseException, *, skip: CodeType | None = None) -> str:
    """Return the traceback of `error` without its last line and without frames of `skip`; its causes come first.

    Workers that fail in the same place share one string.
    """
    try:
        parts = [*_parts(error, skip, set())]
    except BaseException as raised:  # an error can have a __cause__ or members of its own making; as in safe_repr
        pass_on_interrupt(raised)
        return f"<its traceback raised {type(raised).__name__}>\n"
    return _stacks.of(parts, _format)


def _parts(error: BaseException, skip: CodeType | None, seen: set[int]) -> Iterator[TracebackType | str]:
    """Yield the frames of `error` and the text between them, in the order of a printed traceback."""
    seen.add(id(error))
    link = "The above exception was the direct cause of the following exception:"
    origin = error.__cause__
    if origin is None and not error.__suppress_context__:
        link = "During handling of the above exception, another exception occurred:"
        origin = error.__context__
    if origin is not None and id(origin) not in seen and len(seen) < _MAX_CHAIN:
        yield from _parts(origin, skip, seen)
        yield f"{error_line(*describe_error(origin))}\n\n{link}\n\n"
    if isinstance(error, BaseExceptionGroup):
        for number, member in enumerate(error.exceptions[:_MAX_CHAIN], 1):
            if id(member) not in seen:
                yield f"Exception {number} of {len(error.exceptions)} in the group:\n"
                yield from _parts(member, skip, seen)
                yield f"{error_line(*describe_error(member))}\n\n"
    for entry in entries_of(error):
        if entry.tb_frame.f_code is not skip:
            yield entry


def _format(parts: Sequence[TracebackType | str]) -> str:
    lines = []
    for part in parts:
        if isinstance(part, str):
            lines.append(part)
            continue
        code = part.tb_frame.f_code
        file, line = code.co_filename, part.tb_lineno or code.co_firstlineno
        lines.append(f'  File "{file}", line {line}, in {code.co_qualname}\n')
        source = linecache.getline(file, line).strip()
        if source:
            lines.append(f"    {source}\n")
    return clean_text("".join(lines))
