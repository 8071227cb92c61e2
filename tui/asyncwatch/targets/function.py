"""Finds the `async def` that a `module:function` names, and says in one line why it cannot be used."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import sys
import traceback
from collections.abc import Awaitable, Callable
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from asyncwatch.plan.items import single_line

AsyncFunction = Callable[..., Awaitable[Any]]


class TargetError(Exception):
    """A `module:function` that cannot be called, and why, in one line."""


def load_target(text: str) -> AsyncFunction:
    """Return the coroutine function that `text`, a `module:function`, names.

    The current directory is searched first. What follows the colon may be dotted: `module:Class.method`. What
    the module prints while it is imported goes to stderr.

    Raises:
        TargetError: there is no such module or function, it does not import, or it is not async.

    """
    module_name, colon, path = text.partition(":")
    if not colon or not _is_dotted_name(module_name) or not _is_dotted_name(path):
        raise TargetError(f"{text!r} is no module:function, such as jobs:fetch or package.jobs:Client.fetch")
    found: Any = import_module(module_name)
    owner = f"module {module_name!r} ({getattr(found, '__file__', None) or 'built in'})"
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise TargetError(f"{text}: {owner} has no {name!r}{_nearest(name, dir(found))}") from None
        owner = repr(name)
    problem = _why_not_async(found)
    if problem:
        raise TargetError(f"{text}: {problem}")
    target: AsyncFunction = found
    return target


def call_problem(target: AsyncFunction, arguments: int, remedy: str = "items") -> str | None:
    """Return what is wrong with calling `target` with no argument, or with one: an item; or None.

    It reads after the name of the target, and names the `remedy` for one that misses its item.
    """
    try:
        signature = inspect.signature(target)
    except ValueError:
        # Some callables of extension modules have no signature to look at.
        return None
    try:
        signature.bind(*range(arguments))
    except TypeError:
        return _misfit(signature, remedy)
    return None


def _misfit(signature: inspect.Signature, remedy: str) -> str:
    needed = [
        repr(parameter.name)
        for parameter in signature.parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD}
    ]
    by_keyword = any(
        parameter.kind is parameter.KEYWORD_ONLY and repr(parameter.name) in needed
        for parameter in signature.parameters.values()
    )
    if not needed:
        return "takes no argument, but each item is one; leave the items out"
    what = (
        f"needs an argument {needed[0]}" if len(needed) == 1 else f"needs {len(needed)} arguments ({', '.join(needed)})"
    )
    if len(needed) > 1 or by_keyword:
        return f"{what}, but a worker is called with one item at the most, by position"
    return f"{what}; give it {remedy}"


def _is_dotted_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def import_module(name: str) -> ModuleType:
    """Return the module of that name; the current directory is searched first.

    Raises:
        TargetError: there is none, or it does not import.

    """
    # The current directory may have been removed; then there is nothing to import from it.
    with contextlib.suppress(OSError):
        here = str(Path.cwd())
        if sys.path[:1] != [here]:
            sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        # stdout is for data: what a module prints there must not get between the JSON lines.
        with contextlib.redirect_stdout(sys.stderr):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}.") and not _place(error):
            neighbours = [path.stem for path in Path().glob("*.py")]
            hint = "" if "." in error.name else _nearest(error.name, neighbours)
            raise TargetError(f"there is no module {error.name!r}{hint}") from None
        raise TargetError(_import_failed(name, error)) from None
    except SyntaxError as error:
        line = f":{error.lineno}" if error.lineno else ""
        raise TargetError(f"module {name!r} has a syntax error: {error.msg} ({error.filename}{line})") from None
    except SystemExit as error:
        raise TargetError(f"module {name!r} calls sys.exit({error.code!r}) when imported{_place(error)}") from None
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # A module can raise anything at all, and none of it is ours.
        raise TargetError(_import_failed(name, error)) from None


def _import_failed(name: str, error: BaseException) -> str:
    message = single_line(str(error))
    described = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"module {name!r} does not import: {described}{_place(error)}"


def _place(error: BaseException) -> str:
    """Return the innermost file and line of the error outside Python's import system, as ` (file:line)`."""
    ours = str(Path(__file__))
    frames = traceback.extract_tb(error.__traceback__)
    outside = [
        frame
        for frame in frames
        if not frame.filename.startswith("<frozen importlib")
        and Path(frame.filename) != Path(importlib.__file__)
        and frame.filename != ours
    ]
    return f" ({outside[-1].filename}:{outside[-1].lineno})" if outside else ""


def _nearest(word: str, words: list[str]) -> str:
    close = get_close_matches(word, words, n=3)
    return f" (nearest: {', '.join(close)})" if close else ""


def _why_not_async(target: Any) -> str | None:
    """Return why `target` is no coroutine function, or None if it is one."""
    if not callable(target):
        return f"is {_article(type(target).__name__)}, which cannot be called"
    if isinstance(target, type):
        return "is a class; name a method of it or an async function"
    plain = target
    while isinstance(plain, functools.partial):
        plain = plain.func
    candidates = [plain, inspect.unwrap(plain)]
    if not inspect.isroutine(plain):
        candidates.append(type(plain).__call__)
    if any(inspect.iscoroutinefunction(each) for each in candidates):
        return None
    if any(inspect.isasyncgenfunction(each) for each in candidates):
        return "is an async generator (it has a `yield`); write an async def that returns its result"
    return "is not async; define it with `async def` (and call blocking code by asyncio.to_thread)"


def _article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
