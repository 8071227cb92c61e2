"""How functions, values and errors travel between processes."""

from __future__ import annotations

import contextlib
import functools
import importlib
import pickle
import sys
from collections.abc import Callable
from types import CodeType, TracebackType
from typing import Any, Final

import cloudpickle
import msgspec

from asyncwatch.engine.describe import describe_error, safe_str, target_name
from asyncwatch.engine.threads import in_thread, runs_in_thread
from asyncwatch.targets.names import import_module
from asyncwatch.text import error_line

MOST_CAUSES: Final = 8
"""Causes of an error that travel with it, at most."""
MOST_FRAMES: Final = 40
"""Entries of a traceback, the innermost ones, at most."""


class TravelError(Exception):
    """A function or a value cannot be sent to another process. The message says which and why."""


class Errand(msgspec.Struct, frozen=True):
    """A function on its way: by its name, or by value."""

    shown: str
    """What messages call it."""
    module: str = ""
    """Empty if it has no name that can be imported."""
    path: str = ""
    is_plain: bool = False
    """Whether it is a plain function, which runs in a thread."""
    value: bytes = b""
    """What `cloudpickle` made of it; empty if it travels by name."""


def pack_function(function: Callable[..., Any], *, by_value: bool = False) -> Errand:
    """Return how `function` travels: by its name if it has one that can be imported, else by value.

    Raises:
        TravelError: it cannot be sent by value, and has no name.

    """
    shown, is_plain = target_name(function), runs_in_thread(function)
    plain = function.__wrapped__ if is_plain else function  # type: ignore[attr-defined]
    module, path = getattr(plain, "__module__", ""), getattr(plain, "__qualname__", "")
    if not by_value and _is_named(plain, module, path):
        return Errand(shown, module, path, is_plain)
    try:
        return Errand(shown, is_plain=is_plain, value=_by_value(plain, module))
    except Exception as error:
        raise TravelError(f"{shown} cannot be sent to another process: {_line(error)}") from error


def _is_named(function: object, module: object, path: object) -> bool:
    """Return whether importing `module` and looking up `path` there gives the function."""
    if not isinstance(module, str) or not isinstance(path, str) or module in {"", "__main__"} or "<" in path:
        return False
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found is function or (runs_in_thread(found) and found.__wrapped__ is function)


def _by_value(function: Any, module: str) -> bytes:
    loaded = sys.modules.get(module)
    is_ours = loaded is None or module == "__main__" or module.partition(".")[0] == "asyncwatch"
    if loaded is None or is_ours:
        return bytes(cloudpickle.dumps(function))
    cloudpickle.register_pickle_by_value(loaded)
    try:
        return bytes(cloudpickle.dumps(function))
    finally:
        cloudpickle.unregister_pickle_by_value(loaded)


def unpack_function(errand: Errand) -> Callable[..., Any]:
    """Return the function that an errand is about; a plain one runs in a thread.

    Raises:
        Exception: what importing or unpickling it raised.

    """
    if errand.value:
        found = pickle.loads(errand.value)  # noqa: S301  from the client, whose code runs here anyway
    else:
        found = import_module(errand.module)
        for name in errand.path.split("."):
            found = getattr(found, name)
        if runs_in_thread(found):
            return found  # type: ignore[no-any-return]
    return in_thread(found) if errand.is_plain else found


def pack(value: Any, what: str) -> bytes:
    """Return `value` as bytes.

    Raises:
        TravelError: it cannot be pickled. `what` says what it is.

    """
    try:
        return pickle.dumps(value, protocol=5)
    except Exception:
        try:
            return bytes(cloudpickle.dumps(value))
        except Exception as error:
            raise TravelError(f"{what} cannot be sent to another process: {_line(error)}") from error


def unpack(data: bytes) -> Any:
    """Return the value that `pack` made `data` of."""
    return pickle.loads(data)  # noqa: S301  between processes that run each other's code anyway


# Errors --------------------------------------------------------------------------------------------------------------


class RemoteError(Exception):
    """Stands in for an error that cannot be sent: it has the name of its class, its text and its nearest base class."""


class _Frame(msgspec.Struct, array_like=True):
    """One entry of a traceback."""

    file: str
    line: int
    function: str
    module: str


class _Sent(msgspec.Struct, array_like=True):
    """One error of a chain."""

    value: bytes
    """What `pickle` made of it; empty if that is not possible."""
    names: list[tuple[str, str]]
    """The module and name of its class and its base classes, the nearest first."""
    text: str
    frames: list[_Frame]
    """Its traceback, the outermost entry first."""
    is_from_cause: bool
    """Whether the next error of the chain is its cause, and not its context."""


def pack_error(error: BaseException) -> bytes:
    """Return `error` with its causes as bytes. An error that cannot be pickled travels as its names and text.

    Its traceback, cause and context are taken off.
    """
    chain: list[_Sent] = []
    each: BaseException | None = error
    while each is not None and len(chain) < MOST_CAUSES:
        origin = each.__cause__
        is_from_cause = origin is not None
        if origin is None and not each.__suppress_context__:
            origin = each.__context__
        frames = _frames_of(each)
        each.__traceback__ = each.__cause__ = each.__context__ = None  # Dask has pickle send them along
        chain.append(_pack_one(each, frames, is_from_cause=is_from_cause))
        each = origin
    return msgspec.msgpack.encode(chain)


def _frames_of(error: BaseException) -> list[_Frame]:
    frames = []
    trace = error.__traceback__
    while trace is not None:
        code, module = trace.tb_frame.f_code, str(trace.tb_frame.f_globals.get("__name__", ""))
        if not module.startswith(__package__):
            line = trace.tb_lineno or code.co_firstlineno
            frames.append(_Frame(_printable(code.co_filename), line, code.co_qualname, module))
        trace = trace.tb_next
    return frames[-MOST_FRAMES:]


def _pack_one(error: BaseException, frames: list[_Frame], *, is_from_cause: bool) -> _Sent:
    value = b""
    for dumps in (pickle.dumps, cloudpickle.dumps):
        with contextlib.suppress(Exception):
            data = bytes(dumps(error))
            if type(pickle.loads(data)).__qualname__ == type(error).__qualname__:  # noqa: S301  our own bytes
                value = data
                break
    names = [(safe_str(kind.__module__), kind.__qualname__) for kind in type(error).__mro__[:-1]]
    return _Sent(value, names, _printable(describe_error(error)[1]), frames, is_from_cause)


def unpack_error(data: bytes) -> BaseException:
    """Return the error that `pack_error` made `data` of, with its causes and their tracebacks."""
    chain = msgspec.msgpack.decode(data, type=list[_Sent])
    errors = [_unpack_one(each).with_traceback(_traceback(each.frames)) for each in chain]
    for sent, error, origin in zip(chain, errors, errors[1:], strict=False):
        if sent.is_from_cause:
            error.__cause__ = origin
        else:
            error.__context__ = origin
    return errors[0]


def _traceback(frames: list[_Frame]) -> TracebackType | None:
    """Return a traceback of frames that look like these."""
    trace: TracebackType | None = None
    for each in reversed(frames):
        code = _raising_code(each.file, each.line, each.function)
        try:
            exec(code, {"__name__": each.module})  # noqa: S102  our own code
        except ZeroDivisionError as error:
            own = error.__traceback__
            assert own is not None and own.tb_next is not None  # noqa: S101, PT018  the frame of `code`
            trace = TracebackType(trace, own.tb_next.tb_frame, own.tb_next.tb_lasti, each.line)
    return trace


@functools.lru_cache(1_000)
def _raising_code(file: str, line: int, function: str) -> CodeType:
    """Return code that fails in that line of that function. Equal frames share it, as tracebacks are known by code."""
    code = compile("1 / 0", file, "exec", dont_inherit=True)
    return code.replace(co_firstlineno=line, co_name=function.rpartition(".")[2], co_qualname=function)


def _unpack_one(sent: _Sent) -> BaseException:
    if sent.value:
        with contextlib.suppress(Exception):
            found = pickle.loads(sent.value)  # noqa: S301  from a process that runs our code
            if isinstance(found, BaseException):
                return found
    base = next((kind for kind in map(_find_class, sent.names) if kind is not None), Exception)
    module, name = sent.names[0]
    shape: dict[str, Any] = {"__module__": module, "__str__": _stand_in_text}
    try:
        kind: Any = type(name.rpartition(".")[2], (RemoteError, base), shape)
        error: BaseException = kind.__new__(kind)
    except TypeError:  # the layout of the base class, or its constructor
        kind = type(name.rpartition(".")[2], (RemoteError,), shape)
        error = kind.__new__(kind)
    error.args = (sent.text,)
    return error


def _stand_in_text(error: BaseException) -> str:
    return str(error.args[0]) if error.args else ""


def _find_class(names: tuple[str, str]) -> type[BaseException] | None:
    """Return the exception class of that module and name, if it can be imported here."""
    module, path = names
    try:
        found: Any = sys.modules.get(module) or importlib.import_module(module)
        for name in path.split("."):
            found = getattr(found, name)
    except Exception:
        return None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


def _printable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _line(error: BaseException) -> str:
    return error_line(*describe_error(error))
