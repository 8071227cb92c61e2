"""Errors and results as plain data that is safe to show, to write and to pass between threads.

User code runs here (`__str__`, `__repr__`), so every error in it is caught. Credentials in URLs are masked.
"""

from __future__ import annotations

import linecache
import math
from collections import Counter
from functools import partial
from types import CodeType, MethodType, TracebackType
from typing import Any, NamedTuple

import msgspec

from asyncwatch.engine.event_loop import pass_on_interrupt
from asyncwatch.engine.stacks import entries_of, is_boundary, place_text
from asyncwatch.policies.classify import leaves_of
from asyncwatch.text import error_line, mask_secrets, mask_urls, mask_values, without_colours

MAX_ERROR_LENGTH = 2_000
_MAX_CHAIN = 8
_MAX_LEAVES = 100
_MAX_TRACES = 1_000


class Trace(NamedTuple):
    """Where an error comes from."""

    stack: str
    """Its traceback without the last line; its causes come first."""
    place: str
    """` at jobs.py:3 fetch`, the line of the worker's own code that it comes from; empty if none is."""


class ErrorFacts(msgspec.Struct, frozen=True, gc=False):
    """What is shown of an error."""

    error_type: str
    message: str
    stack: str
    """As in `Trace`."""
    place: str
    """As in `Trace`."""

    @property
    def line(self) -> str:
        """The last line of its traceback."""
        return error_line(self.error_type, self.message)


_Part = TracebackType | str
"""An entry of a traceback, or the text between two tracebacks."""
_traces: dict[tuple[object, ...], tuple[Trace, list[CodeType]]] = {}
"""By the parts. An entry is known by its instruction, and code by its identity: equal code can be in two files, and
hashing code takes the longer the more there is of it. The codes are kept, so that their identities stay theirs."""


def clean_text(text: str) -> str:
    """Return `text` without credentials, and with what UTF-8 cannot hold escaped."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return mask_secrets(text)


def clean_result(text: str) -> str:
    """Return the same of a result, in which only URLs are masked: it is the work of a user, as are its files."""
    if not text.isascii():
        text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return mask_urls(text) if "@" in text else text


def clean_message(text: str) -> str:
    """Return `clean_text(text)` without colours and other terminal sequences."""
    if text.isprintable() and text.isascii():  # nearly every text
        return mask_secrets(text)
    return clean_text(without_colours(text))


def safe_repr(value: object) -> str:
    """Return `repr(value)`, or a substitute if that raises anything at all."""
    try:
        return clean_text(str.__getitem__(repr(value), slice(None)))
    except BaseException as error:  # repr is user code; even its sys.exit() must not end the engine
        pass_on_interrupt(error)
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def function_of(target: Any) -> object:
    """Return the function that a method or a partial calls; any other target as it is."""
    while issubclass(type(target), (MethodType, partial)):  # `isinstance` would read an attribute of any object
        target = target.__func__ if type(target) is MethodType else target.func
    return target


def target_name(target: object) -> str:
    """Return the name of the function that a target calls, such as `fetch`."""
    function = function_of(target)
    try:
        return str(getattr(function, "__qualname__", type(function).__qualname__))
    except BaseException as error:  # as in safe_repr
        pass_on_interrupt(error)
        return type(function).__qualname__


def safe_str(value: object) -> str:
    """Return `value` as exactly a `str`, since a subclass could raise from any method; a substitute if that raises."""
    if type(value) is str:
        return value
    try:
        return str.__getitem__(str(value), slice(None))
    except BaseException as raised:  # as in safe_repr
        pass_on_interrupt(raised)
        return f"<str raised {type(raised).__name__}>"


def describe_error(error: BaseException) -> tuple[str, str]:
    """Return the name of the class of `error` and its message, at most MAX_ERROR_LENGTH characters.

    The message of a group of errors is that of its leaves.
    """
    message = _leaves_text(error) if isinstance(error, BaseExceptionGroup) else safe_str(error)
    if len(message) > MAX_ERROR_LENGTH:
        message = without_colours(message)
        if len(message) > MAX_ERROR_LENGTH:
            message = message[: MAX_ERROR_LENGTH - 1] + "…"
    return type(error).__qualname__, clean_message(message)


def _leaves_text(group: BaseExceptionGroup[Any]) -> str:
    """Return the lines of the errors in the group, equal ones once and counted."""
    leaves = list(leaves_of(group))
    lines = Counter(error_line(type(leaf).__qualname__, safe_str(leaf)) for leaf in leaves[:_MAX_LEAVES])
    texts = [line if times == 1 else f"{times} × {line}" for line, times in lines.items()]
    if len(leaves) > _MAX_LEAVES:
        texts.append(f"and {len(leaves) - _MAX_LEAVES:,} more")
    return "; ".join(texts)


def jsonable(result: object) -> Any:
    """Return `result` as JSON can hold it: itself, a plain copy, or its repr.

    The copy shares nothing with `result`, so another thread can read it while the worker's owner changes that.
    """
    return jsonable_or_repr(result)[0]


def jsonable_or_repr(result: object) -> tuple[Any, bool]:
    """Return the same, and whether a repr stands in it for a value that JSON cannot hold."""
    kind = type(result)
    if result is None or kind is bool:
        return result, False
    if kind is float:
        return (result if math.isfinite(result) else repr(result)), False  # type: ignore[arg-type]  # kind narrows it
    if kind is int and -(2**63) <= result < 2**64:  # type: ignore[operator]  # kind narrows it
        return result, False
    if kind is str:
        return clean_result(result), False  # type: ignore[arg-type]  # kind narrows it
    plain = _plain(result)
    if plain is not result:
        return jsonable_or_repr(plain)
    lost: list[object] = []

    def plain_or_repr(value: object) -> Any:
        plain = _plain(value)
        if plain is not value:
            return plain
        lost.append(None)
        return safe_repr(value)

    try:
        encoded = msgspec.json.encode(result, enc_hook=plain_or_repr)
        decoded = msgspec.json.decode(encoded)
        return (mask_values(decoded, mask_urls) if b"@" in encoded else decoded), bool(lost)
    except Exception:  # circular, too deep, keys that are no text, lone surrogates: all the same to the reader
        return safe_repr(result), True


def exact_json(result: object) -> tuple[Any, bool]:
    """Return the same, and whether that differs from `result` in anything, as a list differs from a tuple."""
    shown, is_repr = jsonable_or_repr(result)
    try:
        return shown, is_repr or not _is_same(result, shown)
    except RecursionError:
        return shown, True


def _is_same(value: Any, other: Any) -> bool:
    kind = type(value)
    if kind is not type(other):
        return False
    if kind is dict:
        return bool(value.keys() == other.keys()) and all(_is_same(value[key], other[key]) for key in value)
    if kind is list:
        return len(value) == len(other) and all(map(_is_same, value, other))
    if kind is int:
        return bool(value == other) and -(2**63) <= value < 2**64
    return bool(value == other)


def _plain(value: Any) -> Any:
    """Return the text or number that a subclass of str, int or float holds, or a scalar of numpy; else `value`."""
    kind = type(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if issubclass(kind, float):
        return float.__float__(value)
    if issubclass(kind, int) and kind is not bool:
        return int.__int__(value)
    try:
        # Arrays of numpy, torch and their like have `item` too.
        if type(getattr(value, "ndim", None)) is int and value.ndim == 0 and callable(getattr(value, "item", None)):
            held = value.item()
            return value if type(held) is kind else held
    except BaseException as error:  # as in safe_repr
        pass_on_interrupt(error)
    return value


def facts_of(error: BaseException) -> ErrorFacts:
    """Return all that is shown of `error`."""
    error_type, message = describe_error(error)
    trace = describe_trace(error)
    return ErrorFacts(error_type, message, trace.stack, trace.place)


def describe_trace(error: BaseException) -> Trace:
    """Return the traceback of `error` without the frames that call a target, and the line that it comes from.

    Workers that fail in the same place share both: making them takes a hundred times as long as looking them up.
    """
    try:
        return _trace_of(error)
    except BaseException as raised:  # an error can have a __cause__ or members of its own making; as in safe_repr
        pass_on_interrupt(raised)
        return Trace(f"<its traceback raised {type(raised).__name__}>\n", "")


def _trace_of(error: BaseException) -> Trace:
    parts: list[_Part] = []
    if error.__context__ is None and error.__cause__ is None and not isinstance(error, BaseExceptionGroup):
        parts += entries_of(error)
    else:
        _add_parts(parts, error, set())
    identities: list[object] = []
    for part in parts:
        if isinstance(part, str):
            identities.append(part)
        elif not is_boundary(code := part.tb_frame.f_code):
            identities.append(id(code))
            identities.append(part.tb_lasti)
    known = _traces.get(key := tuple(identities))
    if known is None:
        if len(_traces) >= _MAX_TRACES:
            _traces.clear()
        parts = [part for part in parts if isinstance(part, str) or not is_boundary(part.tb_frame.f_code)]
        codes = [part.tb_frame.f_code for part in parts if not isinstance(part, str)]
        known = _traces[key] = Trace(_stack_text(parts), place_text(entries_of(error))), codes
    return known[0]


def _add_parts(parts: list[_Part], error: BaseException, seen: set[int]) -> None:
    """Add the entries of the traceback of `error` and the text between them, in the order of a printed traceback."""
    seen.add(id(error))
    link = "The above exception was the direct cause of the following exception:"
    origin = error.__cause__
    if origin is None and not error.__suppress_context__:
        link = "During handling of the above exception, another exception occurred:"
        origin = error.__context__
    if origin is not None and id(origin) not in seen and len(seen) < _MAX_CHAIN:
        _add_parts(parts, origin, seen)
        parts.append(f"{error_line(*describe_error(origin))}\n\n{link}\n\n")
    if isinstance(error, BaseExceptionGroup):
        for number, member in enumerate(error.exceptions[:_MAX_CHAIN], 1):
            if id(member) not in seen:
                parts.append(f"Exception {number} of {len(error.exceptions)} in the group:\n")
                _add_parts(parts, member, seen)
                parts.append(f"{error_line(*describe_error(member))}\n\n")
    parts += entries_of(error)


def _stack_text(parts: list[_Part]) -> str:
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
