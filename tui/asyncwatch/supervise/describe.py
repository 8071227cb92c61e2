"""Turns what a worker returns or raises into plain data that is safe to show, to write and to pass between threads.

User code runs here (`__str__`, `__repr__`), so nothing that it does may get out. Credentials in URLs are masked.
"""

from __future__ import annotations

import asyncio
import itertools
import linecache
import math
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import msgspec

from asyncwatch.redact import mask_secrets

MAX_ERROR_LENGTH = 2_000
_ASYNCIO = str(Path(asyncio.__file__).parent)
_MAX_FRAMES = 40
_MAX_CHAIN = 8
_MAX_STACKS = 1_000

_Frame = tuple[CodeType, int]
_stacks: dict[tuple[object, ...], str] = {}


def clean_text(text: str) -> str:
    """Return `text` without credentials, and with what UTF-8 cannot hold escaped."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return mask_secrets(text)


def safe_repr(value: object) -> str:
    """Return `repr(value)`, or a substitute if that raises anything at all."""
    try:
        return clean_text(repr(value))
    except BaseException as error:  # repr is user code; even its sys.exit() must not end the engine
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def describe_error(error: BaseException) -> tuple[str, str]:
    """Return the name of the class of `error` and its message, at most MAX_ERROR_LENGTH characters."""
    try:
        message = str(error)
    except BaseException as raised:  # as in safe_repr
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
    """Return the traceback of `error` and its causes, without their messages and without frames of `skip`.

    Workers that fail in the same place share one string: formatting a traceback costs a hundred times what finding
    that it was seen before does.
    """
    key = tuple(_outline(error, skip))
    text = _stacks.get(key)
    if text is None:
        if len(_stacks) >= _MAX_STACKS:
            _stacks.clear()
        text = _stacks[key] = clean_text("".join(_format(key)))
    return text


def _chain(error: BaseException) -> Iterator[tuple[str, BaseException]]:
    """Yield `error` and what led to it, innermost last, each with how it is linked to the one before."""
    link, seen = "", set[int]()
    following: BaseException | None = error
    while following is not None and id(following) not in seen and len(seen) < _MAX_CHAIN:
        seen.add(id(following))
        yield link, following
        if isinstance(following, BaseExceptionGroup):
            for number, member in enumerate(following.exceptions[:_MAX_CHAIN], 1):
                yield f"Exception {number} of {len(following.exceptions)} in the group:", member
        if following.__cause__ is not None:
            link, following = "Caused by:", following.__cause__
        elif not following.__suppress_context__:
            link, following = "While handling:", following.__context__
        else:
            following = None


def _outline(error: BaseException, skip: CodeType | None) -> Iterator[object]:
    """Yield what tells one stack from another: links, class names, and (code, line) of each frame."""
    for link, link_error in _chain(error):
        yield link
        for frame, line in itertools.islice(traceback.walk_tb(link_error.__traceback__), _MAX_FRAMES):
            if frame.f_code is not skip:
                yield frame.f_code, line
        yield type(link_error).__qualname__


def _format(outline: tuple[object, ...]) -> Iterator[str]:
    is_first = True
    for part in outline:
        if isinstance(part, tuple):
            code, line = part
            yield f'  File "{code.co_filename}", line {line}, in {code.co_qualname}\n'
            source = linecache.getline(code.co_filename, line).strip()
            if source:
                yield f"    {source}\n"
        elif is_first:
            is_first = False
        elif part and str(part)[-1] == ":":
            yield f"\n{part}\n"
        elif part:
            yield f"{part}\n"


def await_stack(awaitable: object) -> list[tuple[str, int, str]]:
    """Return the frames of a suspended coroutine, outermost first, as (file, line, function).

    `Task.get_stack` shows the outermost one only; this follows what each frame awaits, through coroutines,
    generators and asynchronous generators.
    """
    stack: list[tuple[str, int, str]] = []
    while awaitable is not None and len(stack) < _MAX_FRAMES:
        for prefix in ("cr", "gi", "ag"):
            frame = getattr(awaitable, f"{prefix}_frame", None)
            if frame is not None:
                code = frame.f_code
                stack.append((code.co_filename, frame.f_lineno, code.co_qualname))
                awaitable = getattr(awaitable, f"{prefix}_await" if prefix != "gi" else "gi_yieldfrom", None)
                break
        else:
            break
    return stack


def stuck_at(awaitable: object) -> str:
    """Return the innermost line of a suspended coroutine as `file:line function`, or an empty text.

    Lines of asyncio itself are passed over: that it sleeps there is what every suspended coroutine has in common.
    """
    stack = await_stack(awaitable)
    own = [frame for frame in stack if not frame[0].startswith(_ASYNCIO)]
    if not stack:
        return ""
    file, line, function = (own or stack)[-1]
    return f"{file}:{line} {function}"
